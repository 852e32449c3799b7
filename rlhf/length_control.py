"""Shorter answers at no loss of quality: group relative length control and the quality-gated conciseness bonus.

Lengths are tokens, compared within a group: what is long depends on what is asked. Source: Nemotron 3 Nano
(arXiv:2512.20848); its gate and its lengths are read here as its text has them, in tokens and on the scores
before anything is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf.config import LengthControlConfig

PARTS = ("thinking", "answer")


@dataclass(frozen=True)
class Shaped:
    """What is added to the scores of a group, one number a completion."""

    length: list[float]
    bonus: list[float]

    @property
    def sums(self) -> list[float]:
        return [length + bonus for length, bonus in zip(self.length, self.bonus, strict=True)]


def length_weights(lengths: Sequence[int]) -> list[float]:
    """w_i = 1 - (length_i - shortest) / (longest - shortest), less the group's mean of w.

    The shortest completion is rewarded, the longest punished, and the sum is 0, so that a group as a whole
    gains nothing. Equal lengths, all thinking off among them, have weights of 0.
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [0.0] * len(lengths)
    weights = [1 - (length - shortest) / (longest - shortest) for length in lengths]
    mean = sum(weights) / len(weights)
    return [weight - mean for weight in weights]


def concise(scores: Sequence[float], lengths: Sequence[int], gate_percentile: float) -> list[bool]:
    """Which completions are the shortest and as good as the group's best: their score is at or above the percentile.

    Equal lengths have no shortest. The percentile is interpolated linearly between the scores.

    Args:
        scores: before anything is added to them.
    """
    shortest = min(lengths)
    if shortest == max(lengths):
        return [False] * len(lengths)
    gate = float(np.percentile(np.asarray(scores, dtype=np.float64), gate_percentile))
    # A score that is the percentile must not be lost to rounding.
    gate -= 1e-9 * max(1.0, abs(gate))
    return [length == shortest and score >= gate for score, length in zip(scores, lengths, strict=True)]


def shape(
    config: LengthControlConfig,
    scores: Sequence[float],
    thinking_tokens: Sequence[int],
    answer_tokens: Sequence[int],
) -> Shaped:
    """What the completions of one group gain by their lengths, in the unit of the weights.

    Args:
        scores: of completions that ended; one that did not has no length to speak of.
    """
    length, bonus = [0.0] * len(scores), [0.0] * len(scores)
    if not scores:
        return Shaped(length, bonus)
    for part, lengths in zip(PARTS, (thinking_tokens, answer_tokens), strict=True):
        weight, prize = config.of(part)
        for index, (relative, wins) in enumerate(
            zip(length_weights(lengths), concise(scores, lengths, config.gate_percentile), strict=True)
        ):
            length[index] += weight * relative
            bonus[index] += prize * wins
    return Shaped(length, bonus)
