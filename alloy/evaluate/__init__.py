"""Suites and their statistics; the stage that measures every model of a recipe."""

from alloy.artifact import Artifact
from alloy.evaluate.config import EvaluateConfig
from alloy.stage import execute

CONFIG = EvaluateConfig


def run(config: EvaluateConfig, force: bool = False) -> Artifact:
    return execute(config, "alloy.evaluate.measure", force)
