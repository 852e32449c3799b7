"""Iterated on-policy DPO: sample, judge by the world's end state, pair, train, again."""

from alloy.artifact import Artifact
from alloy.stage import execute
from dpo.config import DpoConfig

CONFIG = DpoConfig


def run(config: DpoConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Nemotron Nano 2 (arXiv:2508.14444), tool-calling DPO."""
    return execute(config, "dpo.train", force)
