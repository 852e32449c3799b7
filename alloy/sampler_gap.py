"""How far the policy that sampled is from the policy that is trained, token by token."""

import torch
from torch import Tensor


class SamplerGap:
    """Differences of two policies' log-probabilities, added up over the micro-batches of a step.

    Attributes:
        sums: tokens, absolute differences, weights and squared weights; shape (4,), float64.
        largest: absolute difference, in nats.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64)
        self.largest = 0.0

    def add(self, difference: Tensor, mask: Tensor) -> None:
        """Take in log p_trainer - log p_sampler where the mask is not 0; both of shape (rows, tokens)."""
        there = difference[(mask != 0) & ~difference.isnan()].double().cpu()
        if not len(there):
            return
        weights = there.exp()
        count = torch.tensor(float(len(there)), dtype=torch.float64)
        self.sums += torch.stack([count, there.abs().sum(), weights.sum(), weights.square().sum()])
        self.largest = max(self.largest, float(there.abs().max()))


def gap_metrics(sums: Tensor, largest: float) -> dict[str, float]:
    """`mean` and `max` gap in nats, and `effective`: the effective sample share (sum w)^2 / (n sum w^2)

    of the importance weights w = p_trainer / p_sampler, 1 when the two agree; empty without tokens.
    """
    count, gap, weight, square = sums.tolist()
    if not count:
        return {}
    return {"mean": gap / count, "max": largest, "effective": weight**2 / (count * square)}
