"""The config of a GRPO stage; imports no torch."""

from alloy.rl_config import PolicyOptimisationConfig


class GrpoConfig(PolicyOptimisationConfig):
    """GRPO on verdicts: the reward of a completion is what its environment says of it."""
