"""The reward model stage: `python -m rlhf.reward_model CONFIG [key.sub=value ...]`."""

import sys

from alloy.artifact import Artifact
from alloy.command import main
from alloy.stage import execute, stage_main
from rlhf.config import RewardModelConfig

CONFIG = RewardModelConfig


def run(config: RewardModelConfig, force: bool = False) -> Artifact:
    """Do the stage unless it is done. Source: Bradley and Terry 1952; Ouyang et al. 2022 (arXiv:2203.02155)."""
    return execute(config, "rlhf.train_reward_model", force)


if __name__ == "__main__":
    sys.exit(main(lambda arguments: stage_main("rlhf.reward_model", arguments)))
