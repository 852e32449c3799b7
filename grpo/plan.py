"""What a GRPO stage does, in numbers of its config; imports no torch."""

from alloy.plan.launch import Launch
from alloy.plan.policy_optimisation import policy_work
from alloy.plan.work import Work
from grpo.config import GrpoConfig


def work(config: GrpoConfig, launch: Launch) -> Work:
    return policy_work(config, launch)
