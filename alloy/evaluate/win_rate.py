"""How often a model's answers are preferred to a reference's, as they are and with their length taken out.

Whoever prefers has a taste for length, and a model that only writes more wins by it. Length control asks how
often a model would win if its answers were as long as the reference's: a logistic regression explains every
preference by who wrote the answer and by how much longer it is, and the second part is set to 0.

Source: Dubois et al. 2024, length-controlled AlpacaEval (arXiv:2404.04475): logit P(win) = a + b * tanh(d / sd(d)),
d the difference of lengths. Its third term, how hard a prompt is, is estimated over many models; there are two
here, and it is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alloy.evaluate.statistics import Interval, mean_interval

Floats = NDArray[np.float64]

_RIDGE = 0.1
"""On both coefficients: one preference's weight in ten, so that a model that always wins has a finite one."""
_ROUNDS = 30
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class WinRate:
    """A share of prompts, a tie for half: as it is, and at equal length."""

    plain: Interval
    controlled: Interval


def win_rate(
    preferences: Sequence[float],
    longer_by: Sequence[float],
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> WinRate:
    """The win rate over prompts, with percentile bootstrap intervals; each resample is fitted anew.

    Args:
        preferences: by prompt, 1 where the model's answer is preferred, 0 where the reference's is, or between.
        longer_by: by prompt, the length of the model's answer less that of the reference's, in any unit.
    Raises:
        ValueError: no prompts, lengths that differ, or a preference outside of 0 to 1.
    """
    wins_N, by_N = np.asarray(preferences, dtype=np.float64), np.asarray(longer_by, dtype=np.float64)
    if wins_N.shape != by_N.shape or wins_N.ndim != 1:
        raise ValueError(f"{len(wins_N)} preferences, but {len(by_N)} lengths")
    plain = mean_interval(wins_N, None, resamples, confidence, seed)
    if wins_N.min() < 0 or wins_N.max() > 1:
        raise ValueError("a preference is a share from 0 to 1")
    spread = float(by_N.std())
    if spread == 0:
        return WinRate(plain, plain)
    by_N = np.tanh(by_N / spread)
    count = len(wins_N)
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    rows = max(1, _CELLS_AT_ONCE // count)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        weights_RN = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        found.append(_at_equal_length(wins_N, by_N, weights_RN))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    value = float(_at_equal_length(wins_N, by_N, np.ones((1, count)))[0])
    return WinRate(plain, Interval(value, float(low), float(high), count))


def _at_equal_length(wins_N: Floats, by_N: Floats, weights_RN: Floats) -> Floats:
    """P(win) at no difference of length, for each row of weights, by Newton's method."""
    a_R, b_R = (np.zeros(len(weights_RN)) for _ in range(2))
    for _ in range(_ROUNDS):
        p_RN = 1 / (1 + np.exp(-(a_R[:, None] + b_R[:, None] * by_N)))
        off_RN = weights_RN * (p_RN - wins_N)
        curve_RN = weights_RN * p_RN * (1 - p_RN)
        g_a, g_b = off_RN.sum(1) + _RIDGE * a_R, off_RN @ by_N + _RIDGE * b_R
        h_aa, h_ab = curve_RN.sum(1) + _RIDGE, curve_RN @ by_N
        h_bb = curve_RN @ by_N**2 + _RIDGE
        determinant = h_aa * h_bb - h_ab**2
        step_a = (h_bb * g_a - h_ab * g_b) / determinant
        step_b = (h_aa * g_b - h_ab * g_a) / determinant
        # Far from its end Newton's step may overshoot where the curve is flat.
        a_R, b_R = a_R - np.clip(step_a, -2, 2), b_R - np.clip(step_b, -2, 2)
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-10:
            break
    return np.asarray(1 / (1 + np.exp(-a_R)))
