"""A token drawn with one random number: the inverse of the cumulative distribution.

torch.multinomial draws noise for every entry of the vocabulary; on a CPU that takes several times as long.
"""

import torch
from torch import Tensor


def invert(logprobs: Tensor, numbers: Tensor) -> Tensor:
    """The token of each row at a share of its cumulative distribution.

    In float64: fifty thousand float32 probabilities sum to 1 only to six digits, and a token of one
    in ten million must be drawn once in ten million times.

    Args:
        logprobs: shape (B, V).
        numbers: shape (B), float64, from 0 up to 1.
    """
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    # Below the total whatever the rounding: what is above it belongs to no token.
    shares = torch.minimum(numbers * total, total.nextafter(torch.zeros_like(total)))
    # The first token whose sum exceeds the share: one of probability 0 adds nothing and is never that.
    return torch.searchsorted(cumulative, shares[:, None], right=True)[:, 0]
