"""The exact blend of two float64 tensors, by error-free transformations.

Slow and sure: `interpolate` sends here only the weights whose rounding float64 leaves open.
Holds where no product of a weight and alpha leaves the range 2^-969 to 2^996.
"""

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", Tensor, float)

_SWEEPS = 3
"""Each carries 53 more bits to the front; six terms of 53 bits need no more."""


def blend_exactly(a: Tensor, b: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(1 - alpha) * a + alpha * b, rounded to nearest even in float64, and the sign of what is left.

    Returns:
        The value, and a tensor that is positive, negative or 0 as the exact result lies above, below
        or on it.
    """
    a, b = a.double(), b.double()
    share = 1 - alpha
    # What float64 dropped of 1 - alpha; the difference itself is exact.
    dropped = (1 - share) - alpha
    terms = [*_product(a, share), *_product(b, alpha), *_product(a, dropped)]
    for _ in range(_SWEEPS):
        for i in range(len(terms) - 1, 0, -1):
            terms[i - 1], terms[i] = _sum(terms[i - 1], terms[i])
    # The tail is rounded to odd, so that adding it to the head rounds as the exact sum would
    # (Boldo and Melquiond 2008).
    tail = round_to_odd(*_sum(terms[1], torch.stack(terms[2:]).sum(0)))
    value, left = _sum(terms[0], tail)
    # Infinities and NaN have no parts; a sum without a rest keeps the sign of its zero.
    plain = a * share + b * alpha
    sound = value.isfinite() & left.isfinite() & (value != 0)
    return torch.where(sound, value, plain), torch.where(sound, left, 0.0)


def round_to_odd(value: Tensor, rest: Tensor) -> Tensor:
    """Of the two float64 around value + rest, the one whose last bit is set; `value` where rest is 0.

    Args:
        value: value + rest rounded to nearest.
    """
    bits = value.view(torch.int64)
    moves = (rest != 0) & ((bits & 1) == 0) & value.isfinite()
    outwards = torch.where((rest > 0) == (value > 0), 1, -1)
    return torch.where(moves, bits + outwards, bits).view(torch.float64)


def _sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x + y and its rounding error (Knuth)."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def _product(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """x * factor and its rounding error (Dekker 1971)."""
    product = x * factor
    (high, low), (factor_high, factor_low) = _halves(x), _halves(factor)
    rest = ((high * factor_high - product) + high * factor_low + low * factor_high) + low * factor_low
    return product, rest


def _halves(x: Number) -> tuple[Number, Number]:
    """A float64 as two of 26 bits, so that the product of two halves is exact."""
    scaled = x * 134_217_729.0  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high
