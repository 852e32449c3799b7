"""The oracle: a blend in exact fractions, rounded to nearest even by the definition."""

import math
from fractions import Fraction

import torch
from torch import Tensor

# Stored bits of the significand, exponent of the smallest normal number.
_FORMATS = {
    torch.bfloat16: (7, -126),
    torch.float16: (10, -14),
    torch.float32: (23, -126),
    torch.float64: (52, -1022),
}


def nearest_even(value: Fraction, dtype: torch.dtype) -> float:
    if value == 0:
        return 0.0
    bits, lowest = _FORMATS[dtype]
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    unit = Fraction(2) ** (max(exponent, lowest) - bits)
    # Python rounds fractions to nearest even.
    return math.copysign(float(round(size / unit) * unit), value)


def wrongly_rounded(
    result: Tensor, a: Tensor, b: Tensor, alpha: float
) -> list[tuple[float, float, float, float]]:
    """(a, b, expected, got) wherever a result is not the exact blend rounded once."""
    share = Fraction(alpha)
    rows = zip(a.double().tolist(), b.double().tolist(), result.double().tolist(), strict=True)
    found = []
    for x, y, got in rows:
        expected = nearest_even((1 - share) * Fraction(x) + share * Fraction(y), result.dtype)
        if expected != got:
            found.append((x, y, expected, got))
    return found
