"""The linear blend of bfloat16 weights, compiled: one pass over memory, exact.

What `merge.interpolate` does with a dozen passes of torch's and their temporaries this does in one:
the float64 sum and its rounding to the exact side, also of those sums that look like a tie. Torch is not
imported. Compiled once by numba and kept on the disk beside this file, or in numba's own cache folder.
"""

from collections.abc import Callable
from fractions import Fraction
from math import floor, frexp
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Bits = NDArray[np.uint16]
"""bfloat16 weights as their bits."""

_compile: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")
_TILE = 4096
"""Weights between two looks for doubtful ones."""
_LEAST = 2.0**-10
"""Below this alpha two parts do not hold every bit of alpha and 1 - alpha."""


class Shares(NamedTuple):
    """alpha, and both parents' shares, each as two float64 whose products with a bfloat16 weight are exact."""

    alpha: float
    reasoning: tuple[float, float]
    chat: tuple[float, float]


def shares_of(alpha: float) -> Shares | None:
    """The parts of 1 - alpha and of alpha; None where alpha is too small for them, or 0 or 1."""
    if not _LEAST <= alpha < 1:
        return None
    return Shares(alpha, _two_parts(1 - Fraction(alpha)), _two_parts(Fraction(alpha)))


def _two_parts(factor: Fraction, bits: int = 45) -> tuple[float, float]:
    """The leading bits and the rest, neither negative, so that a negative zero stays one."""
    unit = Fraction(2) ** (frexp(float(factor))[1] - bits)
    high = floor(factor / unit) * unit
    return float(high), float(factor - high)


def blend(out: Bits, reasoning: Bits, chat: Bits, shares: Shares) -> None:
    """(1 - alpha) * reasoning + alpha * chat, rounded once to nearest even.

    Args:
        out, reasoning, chat: bits of bfloat16 weights, one dimension, of one length.
        shares: `shares_of(alpha)`.
    """
    if not out.shape == reasoning.shape == chat.shape:
        raise ValueError(f"shapes differ: {out.shape}, {reasoning.shape} and {chat.shape}")
    _blend(out, reasoning, chat, shares.alpha, *shares.reasoning, *shares.chat)


def load() -> None:
    """Read the machine code from the disk, or compile it: a tenth of a second, or ten of them."""
    weight = np.zeros(1, dtype=np.uint16)
    shares = shares_of(0.5)
    assert shares is not None
    blend(weight, weight.copy(), weight.copy(), shares)


def narrow(out: Bits, values: NDArray[np.float64]) -> None:
    """Round float64 to the bits of bfloat16, once, to nearest even; one dimension."""
    _narrow(out, values.view(np.int64), values)


@_compile
def _blend(out, first, second, alpha, a1, a2, b1, b2):  # type: ignore[no-untyped-def]
    doubtful = np.empty(_TILE, dtype=np.uint32)
    where, narrow = np.empty(_TILE, dtype=np.int64), np.empty(_TILE, dtype=np.uint16)
    chosen_a, chosen_b = np.empty(_TILE, dtype=np.float64), np.empty(_TILE, dtype=np.float64)
    value, rest = np.empty(_TILE, dtype=np.float64), np.empty(_TILE, dtype=np.float64)
    for start in range(0, out.size, _TILE):
        stop = min(start + _TILE, out.size)
        target, x, y = out[start:stop], first[start:stop], second[start:stop]
        if _add_and_round(target, doubtful, x, y, alpha) != 0:
            found = 0
            for i in range(target.size):
                # Written always and counted sometimes: no branch to guess.
                where[found], chosen_a[found], chosen_b[found] = i, _wide(x[i]), _wide(y[i])
                found += np.int64(doubtful[i])
            _add_exactly(value[:found], rest[:found], chosen_a, chosen_b, a1, a2, b1, b2)
            _to_odd(value[:found].view(np.int64), value, rest)
            _narrow(narrow[:found], value[:found].view(np.int64), value)
            for j in range(found):
                target[where[j]] = narrow[j]


@_compile
def _add_and_round(target, doubtful, first, second, alpha):  # type: ignore[no-untyped-def]
    """a + alpha * (b - a) to float32, to an odd last bit, to bfloat16; no branch, so that it is vectorised.

    A float32 whose last bit is odd where it is not the exact sum rounds to bfloat16 as the sum does
    (Boldo and Melquiond 2008). Multiplied and added with one rounding, what float32 dropped has the exact
    sign, as long as b - a and a less the float32 are exact: then there is nothing to doubt.

    Returns: not 0 where some sum is doubtful or no plain number; `doubtful` has 1 there.
    """
    any_doubt = np.uint32(0)
    for i in range(target.size):
        x = np.uint32(np.uint32(first[i]) << np.uint32(16))
        y = np.uint32(np.uint32(second[i]) << np.uint32(16))
        a, b = np.float64(x.view(np.float32)), np.float64(y.view(np.float32))
        change = b - a
        total = _multiply_add(alpha, change, a)
        single = np.float32(total)
        rounded = np.float64(single)
        left = a - rounded
        dropped = _multiply_add(alpha, change, left)
        # Two negative zeros make one.
        word = np.uint32(single.view(np.uint32) | (x & y & np.uint32(0x80000000)))
        inexact = (b - change != a) | (change + a != b) | (a - left != rounded)
        # No exponent (all but cancelled), or all of it (an infinity or no number); a plain zero is sure.
        exponent = np.uint32(word & np.uint32(0x7F800000))
        at_the_end = np.uint32(exponent - np.uint32(1)) >= np.uint32(0x7F7FFFFF)
        doubtful[i] = np.uint32(inexact | (at_the_end & (total != 0)))
        any_doubt |= doubtful[i]
        # Away from zero or towards it, where the last bit is even.
        outwards = dropped * rounded
        step = np.uint32(np.int32(outwards > 0) - np.int32(outwards < 0))
        word = np.uint32(word + step * np.uint32(np.uint32(1) - np.uint32(word & np.uint32(1))))
        even = np.uint32(np.uint32(word >> np.uint32(16)) & np.uint32(1))
        target[i] = np.uint16(np.uint32(word + np.uint32(0x7FFF) + even) >> np.uint32(16))
    return any_doubt


@intrinsic
def _multiply_add(context, x, y, z):  # type: ignore[no-untyped-def]
    """x * y + z in float64, rounded once."""
    return types.float64(types.float64, types.float64, types.float64), (
        lambda _, builder, __, arguments: builder.fma(*arguments)
    )


@_compile
def _wide(bits):  # type: ignore[no-untyped-def]
    """The bits of bfloat16 as a float64."""
    return np.float64(np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32))


@_compile
def _add_exactly(value, rest, x, y, a1, a2, b1, b2):  # type: ignore[no-untyped-def]
    """The four products summed without loss: the sum in float64, and the sign of what is left."""
    for i in range(value.size):
        a, b = x[i], y[i]
        t0, t1 = _sum(a * a1, b * b1)
        plain = t0
        t2, t3 = _sum(a * a2, b * b2)
        # Each sweep carries 53 more bits to the front; nothing is left behind the third.
        t2, t3 = _sum(t2, t3)
        t1, t2 = _sum(t1, t2)
        t0, t1 = _sum(t0, t1)
        t2, t3 = _sum(t2, t3)
        t1, t2 = _sum(t1, t2)
        t0, t1 = _sum(t0, t1)
        t2, t3 = _sum(t2, t3)
        t1, t2 = _sum(t1, t2)
        t0, t1 = _sum(t0, t1)
        # Parts that do not overlap: the first of the small ones that is not 0 has the sign of all.
        t1 = t1 if t1 != 0 else (t2 if t2 != 0 else t3)
        # Infinities and no numbers have no parts; a sum of nothing keeps the sign of its zero.
        sound = abs(t0) < np.inf and t0 != 0
        value[i] = t0 if sound else plain
        rest[i] = t1 if sound else 0.0


@_compile
def _sum(x, y):  # type: ignore[no-untyped-def]
    """x + y and its rounding error (Knuth)."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


@_compile
def _to_odd(bits, value, rest):  # type: ignore[no-untyped-def]
    """Of the two float64 around value + rest the one whose last bit is set, where rest is not 0."""
    for i in range(bits.size):
        outwards = np.int64(1) if (rest[i] > 0) == (value[i] > 0) else np.int64(-1)
        bits[i] += outwards if rest[i] != 0 and bits[i] & 1 == 0 else np.int64(0)


@_compile
def _narrow(target, bits, value):  # type: ignore[no-untyped-def]
    """float64 to bfloat16, once, to nearest even."""
    for i in range(target.size):
        size = bits[i] & np.int64(0x7FFFFFFFFFFFFFFF)
        sign = (bits[i] >> 48) & 0x8000
        # The exponent as bfloat16 counts it; what is dropped decides the rounding.
        word = size - (np.int64(1023 - 127) << 52)
        word = (word + (np.int64(1) << 44) - 1 + ((word >> 45) & 1)) >> 45
        if abs(value[i]) < 2.0**-126:
            # Steps of 2^-133 below the normal range; 128 of them carry into the exponent by themselves.
            word = np.int64(np.rint(abs(value[i]) * 2.0**133))
        if size >= np.int64(0x7FF0000000000000):
            word = 0x7F80 if size == np.int64(0x7FF0000000000000) else 0x7FC0
        target[i] = np.uint16(sign | word)
