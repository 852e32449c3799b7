"""Which examples of which source are learned from, how often, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alloy.artifact import fingerprint_json
from alloy.errors import InputError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One source of a blend, as far as blending needs to know it.

    Attributes:
        name: for messages.
        examples: indices of what there is, each once; shape (n,).
        epochs: how often they are taken; with a share, at most.
        share: of the blend's tokens.
    """

    name: str
    examples: Indices
    epochs: float = 1.0
    share: float | None = None


def blend(parts: Sequence[Part], lengths: Indices, seed: str) -> Indices:
    """Indices of the examples to learn from, repeated ones more than once, in a seeded order.

    Parts without a share are taken for their epochs, and the parts with one fill up the rest. Where
    every part has a share, the blend is as large as the part that runs out first allows.

    Args:
        lengths: tokens of every example that the parts point to.
    Raises:
        InputError: a share that needs more than the part's epochs give.
    """
    taken = [_epochs(part, seed) for part in parts if part.share is None]
    shared = [part for part in parts if part.share is not None]
    if shared:
        fixed = sum(int(lengths[chosen].sum()) for chosen in taken)
        taken += _shared(shared, fixed, lengths, seed)
    everything = np.concatenate([np.zeros(0, dtype=np.int64), *taken])
    return _random(f"{seed}/order").permutation(everything)


def _shared(parts: list[Part], fixed: int, lengths: Indices, seed: str) -> list[Indices]:
    shares = [part.share or 0.0 for part in parts]
    there = [part.epochs * float(lengths[part.examples].sum()) for part in parts]
    rest = 1.0 - sum(shares)
    if fixed:
        total = fixed / rest
    else:
        total = min(have / share for have, share in zip(there, shares, strict=True))
    found = []
    for part, share, have in zip(parts, shares, there, strict=True):
        wanted = share * total
        # A token either way is rounding.
        if wanted > have + 1:
            raise InputError(
                f"data.sources: a share of {share:g} of {part.name} is {wanted:,.0f} tokens, and {part.epochs:g} "
                f"epochs of it have {have:,.0f}. Allow it more epochs, or lower its share."
            )
        found.append(_tokens(part, wanted, lengths, seed))
    return found


def _epochs(part: Part, seed: str) -> Indices:
    """All examples for every whole epoch, and a random part of them for what is left."""
    whole = int(part.epochs)
    count = round((part.epochs - whole) * len(part.examples))
    return np.concatenate([np.tile(part.examples, whole), _shuffled(part, seed)[:count]])


def _tokens(part: Part, wanted: float, lengths: Indices, seed: str) -> Indices:
    """Examples in a random order, again and again, until their tokens come closest to `wanted`."""
    order = _shuffled(part, seed)
    once = float(lengths[order].sum())
    if not once:
        return order[:0]
    whole = int(wanted // once)
    ends = np.cumsum(lengths[order])
    rest = wanted - whole * once
    count = int(np.searchsorted(ends, rest, side="right"))
    # The example that goes over the mark is taken when that is nearer than to stop before it.
    before = float(ends[count - 1]) if count else 0.0
    if count < len(order) and float(ends[count]) - rest < rest - before:
        count += 1
    return np.concatenate([np.tile(order, whole), order[:count]])


def _shuffled(part: Part, seed: str) -> Indices:
    return _random(f"{seed}/{part.name}").permutation(part.examples)


def _random(seed: str) -> np.random.Generator:
    return np.random.default_rng(int(fingerprint_json(seed)[:16], 16))
