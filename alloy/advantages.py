"""Advantages: how much better a completion's reward is than its group's.

Written here and not left to the trainer because of the baseline that leaves the completion itself out,
and because a group's signal is read from its outcomes, not from the shaped rewards.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["group", "leave_one_out"]
Scale = Literal["group", "batch", "none"]

_EPSILON = 1e-4
"""Added to a standard deviation, as TRL adds it: a group of equal rewards has advantages of 0."""


def group_advantages(
    rewards: Sequence[float | None], group_size: int, baseline: Baseline, scale: Scale
) -> Tensor:
    """Advantages of completions whose groups stand one after the other.

    `group`: A_i = r_i - mean(r). `leave_one_out` (RLOO, Ahmadian et al. 2024, arXiv:2402.14740):
    A_i = r_i - mean of the group's other rewards. Both are divided by the standard deviation (n - 1) of
    the group or of the batch, or not at all.

    Args:
        rewards: None where a verifier failed; such a completion is in no baseline and its advantage is 0.

    Returns: shape (completions,), float32.
    """
    given = torch.tensor([float("nan") if r is None else r for r in rewards], dtype=torch.float64)
    grouped = given.view(-1, group_size)
    there = ~grouped.isnan()
    filled = grouped.nan_to_num(0.0)
    count = there.sum(1, keepdim=True)
    total = filled.sum(1, keepdim=True)
    mean = total / count.clamp(min=1)
    if baseline == "leave_one_out":
        others = (total - filled) / (count - 1).clamp(min=1)
        advantages = grouped - torch.where(count > 1, others, grouped)
    else:
        advantages = grouped - mean
    if scale == "group":
        squares = ((filled - mean) * there).square().sum(1, keepdim=True)
        advantages = advantages / ((squares / (count - 1).clamp(min=1)).sqrt() + _EPSILON)
    elif scale == "batch":
        valid = given[~given.isnan()]
        advantages = advantages / ((valid.std() if len(valid) > 1 else 0.0) + _EPSILON)
    return advantages.nan_to_num(0.0).flatten().float()


def has_signal(outcomes: Sequence[float | None]) -> bool:
    """Whether a group's outcomes tell its completions apart."""
    known = [outcome for outcome in outcomes if outcome is not None]
    return bool(known) and max(known) - min(known) > 1e-6
