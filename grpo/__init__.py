"""GRPO on verifiable rewards, in many environments at once."""

from alloy.artifact import Artifact
from alloy.stage import execute
from grpo.config import GrpoConfig

CONFIG = GrpoConfig


def run(config: GrpoConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Shao et al. 2024 (arXiv:2402.03300); Nemotron 3 Nano's settings."""
    return execute(config, "grpo.train", force)
