"""RLHF: GRPO against a reward model, with and without thinking."""

from alloy.artifact import Artifact
from alloy.stage import execute
from rlhf.config import RlhfConfig

CONFIG = RlhfConfig


def run(config: RlhfConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Nemotron Nano 2 (arXiv:2508.14444), RLHF."""
    return execute(config, "rlhf.train", force)
