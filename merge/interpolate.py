"""Linear interpolation of two tensors, rounded once.

The sum is formed in float64. Where it lies too near a tie of the output dtype for float64 to tell
the side, which is often with fine-tuned parents (their weights are few units apart, and 0.1 * 5
is half a unit), those weights alone are computed again with twice the digits.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from merge.exact import blend_exactly, round_to_odd

CHUNK_WEIGHTS = 32_768
"""Weights at once: few enough for a core's cache, and torch gives an operation of this size to one thread."""
_BLOCK_WEIGHTS = 1 << 20
"""Weights between two rounds of exact work."""
_EXACT_WEIGHTS = 8_192
"""Weights computed exactly at once; its many temporaries are smaller than what malloc gives back."""


Parts = tuple[float, float]
"""A factor as a few leading bits and the rest."""


class _Format(NamedTuple):
    fraction_bits: int
    """Stored bits of the significand."""
    smallest_normal: float
    quantum: float
    """Distance of neighbours below `smallest_normal`."""


FORMATS: dict[torch.dtype, _Format] = {
    torch.bfloat16: _Format(7, 2.0**-126, 2.0**-133),
    torch.float16: _Format(10, 2.0**-14, 2.0**-24),
    torch.float32: _Format(23, 2.0**-126, 2.0**-149),
    torch.float64: _Format(52, 2.0**-1022, 2.0**-1074),
}


def interpolate(reasoning: Tensor, chat: Tensor, alpha: float) -> Tensor:
    """Blend two tensors: (1 - alpha) * reasoning + alpha * chat, rounded once.

    The sum is formed in float64 (ties with more) and rounded to nearest even in the inputs' dtype
    at the end: bfloat16 arithmetic would round a third of the weights the wrong way.
    alpha 0 and alpha 1 return the input bit for bit.

    Args:
        reasoning, chat: same shape and dtype; bfloat16, float16, float32 or float64.
        alpha: share of the chat weights, 0 to 1.
    Raises:
        ValueError: shapes or dtypes differ, the dtype is none of these, or alpha is outside [0, 1].
    Source: Wortsman et al. 2022 (arXiv:2203.05482); alpha as in arXiv:2508.14444.
    """
    if reasoning.dtype != chat.dtype:
        raise ValueError(f"dtypes differ: {reasoning.dtype} and {chat.dtype}")
    out = torch.empty(reasoning.shape, dtype=reasoning.dtype, device=reasoning.device)
    interpolate_into(out, reasoning, chat, alpha)
    return out


def interpolate_into(out: Tensor, reasoning: Tensor, chat: Tensor, alpha: float) -> None:
    """As `interpolate`, written into `out`; the three dtypes may differ, the rounding is still one.

    Args:
        out: contiguous, and not the memory of an input.
    """
    _check(out, reasoning, chat, alpha)
    result, first, second = out.detach().view(-1), reasoning.detach().reshape(-1), chat.detach().reshape(-1)
    for end, parent in ((0.0, first), (1.0, second)):
        if alpha == end and parent.dtype == out.dtype:
            result.copy_(parent)
            return
    _blend(result, first, second, alpha)


def _check(out: Tensor, reasoning: Tensor, chat: Tensor, alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha = {alpha}: the share of the chat weights lies between 0 and 1")
    if not out.shape == reasoning.shape == chat.shape:
        raise ValueError(f"shapes differ: {tuple(reasoning.shape)} and {tuple(chat.shape)}")
    for tensor in (out, reasoning, chat):
        if tensor.dtype not in FORMATS:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FORMATS)
            raise ValueError(f"{tensor.dtype} weights cannot be interpolated, only {known}")


@torch.no_grad()
def _blend(out: Tensor, first: Tensor, second: Tensor, alpha: float) -> None:
    """Flat tensors, a block at a time: every weight quickly, then the doubtful ones exactly."""
    for start in range(0, out.numel(), _BLOCK_WEIGHTS):
        block = slice(start, min(start + _BLOCK_WEIGHTS, out.numel()))
        target, a, b = out[block], first[block], second[block]
        if target.dtype == torch.float64:
            for part in zip(*(t.split(_EXACT_WEIGHTS) for t in (target, a, b)), strict=True):
                part[0].copy_(blend_exactly(part[1], part[2], alpha)[0])
            continue
        for where in _blend_quickly(target, a, b, alpha).split(_EXACT_WEIGHTS):
            if where.numel():
                target[where] = _exactly(a[where], b[where], alpha, target.dtype)


def _blend_quickly(target: Tensor, first: Tensor, second: Tensor, alpha: float) -> Tensor:
    """Blend by float64 sums; returns the indices of what may have been rounded to the wrong side."""
    size = min(CHUNK_WEIGHTS, target.numel())
    total, a, b = (torch.empty(size, dtype=torch.float64, device=target.device) for _ in range(3))
    single, work = (torch.empty(size, dtype=torch.float32, device=target.device) for _ in range(2))
    found = [torch.empty(0, dtype=torch.int64, device=target.device)]
    share = Fraction(alpha)
    factors = _two_parts(1 - share), _two_parts(share)
    for start in range(0, target.numel(), CHUNK_WEIGHTS):
        chunk = slice(start, min(start + CHUNK_WEIGHTS, target.numel()))
        part = target[chunk]
        n = part.numel()
        _sum_up(total[:n], a[:n].copy_(first[chunk]), b[:n].copy_(second[chunk]), factors)
        part.copy_(single[:n].copy_(total[:n]))
        doubtful = _doubtful(total[:n], single[:n], part.dtype, alpha, work[:n])
        if doubtful.any():
            found.append(doubtful.nonzero().squeeze(1) + start)
    return torch.cat(found)


def _sum_up(total: Tensor, a: Tensor, b: Tensor, factors: tuple[Parts, Parts]) -> None:
    """The blend in float64, its factors in two parts, so that no product with a narrower weight is rounded.

    Weights that cancel (7 * 3 against 3 * 7, where alpha is 0.3) then leave what they should.
    """
    (a_high, a_low), (b_high, b_low) = factors
    torch.mul(a, a_high, out=total)
    total.add_(b, alpha=b_high)
    # Never negative, so that a negative zero stays one.
    for weights, low in ((a, a_low), (b, b_low)):
        if low:
            total.add_(weights, alpha=low)


def _two_parts(factor: Fraction, bits: int = 29) -> Parts:
    """The factor cut to so many bits that its product with 24 more fits into float64, and the rest."""
    unit = Fraction(2) ** (math.frexp(float(factor))[1] - bits)
    high = math.floor(factor / unit) * unit
    return float(high), float(factor - high)


def _doubtful(total: Tensor, single: Tensor, dtype: torch.dtype, alpha: float, work: Tensor) -> Tensor:
    """Which weights may have been rounded to the wrong side, as a mask.

    Args:
        total: the float64 sum.
        single: the same, rounded to float32; bfloat16 and float16 are made from it, so that they can
            be wrong only where it looks like a tie.
        work: memory of the size of `single`.
    """
    # Half of two weights is exact in float64, or far from any tie.
    halved = alpha == 0.5
    if dtype == torch.float32:
        if halved:
            return torch.zeros(1, dtype=torch.bool, device=total.device)
        beyond = total.view(torch.int64) & 0x1FFF_FFFF
        doubtful = beyond.sub_(1 << 28).abs_() <= 1 << 9
    else:
        bits = 23 - FORMATS[dtype].fraction_bits
        low = torch.bitwise_and(single.view(torch.int32), (1 << bits) - 1, out=work.view(torch.int32))
        doubtful = low == 1 << (bits - 1)
        if halved and doubtful.any():
            doubtful &= single != total
    if dtype != torch.bfloat16:
        # Below the normal range ties lie elsewhere; those of bfloat16 still lie where float32's bits say.
        small = single.abs() < FORMATS[dtype].smallest_normal
        doubtful |= small & (total != 0)
    return doubtful


def _exactly(a: Tensor, b: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    """The exact blend in a dtype narrower than float64."""
    odd = round_to_odd(*blend_exactly(a, b, alpha))
    form = FORMATS[dtype]
    small = odd.abs() < form.smallest_normal
    steps = torch.copysign((odd / form.quantum).round() * form.quantum, odd)
    if dtype != torch.float32:
        odd = _single_odd(odd)
    return torch.where(small, steps, odd).float().to(dtype)


def _single_odd(value: Tensor) -> Tensor:
    """Round float64 to float32's digits, to odd: the last digit kept stands for all that is dropped."""
    bits = value.view(torch.int64)
    dropped = (1 << 29) - 1
    sticky = (bits | ((bits & dropped) + dropped)) & ~dropped
    return torch.where(value.isfinite(), sticky.view(torch.float64), value)
