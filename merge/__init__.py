"""Merging: linear interpolation of the reasoning and the chat checkpoint, exact, streamed, swept."""

from alloy.artifact import Artifact
from alloy.stage import execute
from merge.config import MergeConfig

CONFIG = MergeConfig


def run(config: MergeConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Nemotron Nano 2 (arXiv:2508.14444), model merging."""
    return execute(config, "merge.train", force)
