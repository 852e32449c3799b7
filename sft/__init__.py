"""Supervised fine-tuning, one stage of it: what a stage is, is its data config."""

from alloy.artifact import Artifact
from alloy.stage import execute
from sft.config import SftConfig

CONFIG = SftConfig


def run(config: SftConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Nemotron Nano 2 (arXiv:2508.14444), SFT stages 1 to 3."""
    return execute(config, "sft.train", force)
