"""Merging: linear interpolation of the reasoning and the chat checkpoint, exact, streamed, swept."""

from alloy.artifact import Artifact
from alloy.errors import InputError
from alloy.stage import execute
from merge.config import MergeConfig

CONFIG = MergeConfig


def run(config: MergeConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Nemotron Nano 2 (arXiv:2508.14444), model merging."""
    for role in ("reasoning", "chat") if config.method == "linear" else ("models",):
        if not getattr(config, role):
            raise InputError(
                f"{role} is not set: a {config.method} merge starts from it. "
                f"Set {role}, or name its stages under needs in pipeline.yaml."
            )
    return execute(config, "merge.train", force)
