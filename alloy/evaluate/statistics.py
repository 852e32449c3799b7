"""Intervals and tests for scores of items: how sure a mean is, and whether two policies differ.

The item is the unit. Several samples of one item say little more than one of them, so they are
averaged first and items are resampled, never samples. Numpy only: reports read this without torch.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 2_000_000
"""Bootstrap indices held in memory together: 16 MB."""
_EXACT_FLIPS = 14
"""Up to so many differing items every sign pattern is counted; beyond, patterns are drawn."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval. `n` counts items, not samples."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return self.percent()

    def percent(self, decimals: int = 1) -> str:
        """Shares as percent: 0.62 in [0.555, 0.685] reads '62.0 [55.5, 68.5]'."""
        value, low, high = (f"{100 * part:.{decimals}f}" for part in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def excludes(self, point: float = 0.0) -> bool:
        """Whether the point lies outside; never true of a single item, whose interval has no width."""
        return self.n > 1 and not self.low <= point <= self.high


def mean_interval(
    scores: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean over items, with its percentile bootstrap interval.

    Every item counts once, however many samples it has. Where all items agree, and for a single item,
    the interval has no width: the bootstrap cannot know more than it saw.

    Args:
        scores: one number a sample.
        clusters: the item of each sample; every sample is its own item when not given.
    Raises:
        ValueError: no scores, a score that is not finite, or lengths that differ.
    Source: Efron 1979; clusters as in Miller 2024 (arXiv:2411.00640).
    """
    items_N = item_means(scores, clusters)
    means_R1 = _bootstrap_means(items_N[:, None], resamples, np.random.default_rng(seed))
    return _interval(float(items_N.mean()), means_R1[:, 0], len(items_N), confidence)


def weighted_interval(
    scores: ArrayLike,
    weights: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """sum(weights * scores) / sum(weights), items resampled with their weights.

    For shares of things that come several to an item, such as the instructions of a prompt: the scores are
    each item's share, the weights how many it has. `n` counts items.

    Args:
        weights: not negative, one for each score.
    Raises:
        ValueError: as `mean_interval` does, or no weight at all.
    """
    weights_S = np.asarray(weights, dtype=np.float64)
    sums_N2 = np.stack(
        [
            item_means(weights_S * np.asarray(scores, dtype=np.float64), clusters),
            item_means(weights_S, clusters),
        ],
        axis=1,
    )
    if weights_S.min() < 0 or weights_S.max() == 0:
        raise ValueError("weights: one is negative, or all are 0")
    value = float(sums_N2[:, 0].sum() / sums_N2[:, 1].sum())
    means_R2 = _bootstrap_means(sums_N2, resamples, np.random.default_rng(seed))
    drawn_R2 = means_R2[means_R2[:, 1] > 0]
    return _interval(value, drawn_R2[:, 0] / drawn_R2[:, 1], len(sums_N2), confidence)


def standard_error(scores: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Of the mean over items: their standard deviation by the square root of their number; 0 for a single one."""
    items_N = item_means(scores, clusters)
    return float(items_N.std(ddof=1) / math.sqrt(len(items_N))) if len(items_N) > 1 else 0.0


def paired_difference(
    ours: ArrayLike,
    parents: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """mean(ours) - mean(parents) on the same samples in the same order, with its interval.

    Both are resampled together, so what is hard for both cancels out.
    """
    return mean_interval(_differences(ours, parents), clusters, resamples, confidence, seed)


def paired_test(
    ours: ArrayLike,
    parents: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """The two-sided p value of "both policies are equally good" on the same samples.

    Under it, the sign of every item's difference is a coin. Where all differences have one size, as with
    scores of 0 and 1, this is McNemar's exact test; with few differing items every sign pattern is
    counted; else `resamples` patterns are drawn, and p is at least 1 / (resamples + 1). Two policies that
    differ nowhere have p = 1.
    """
    differences_N = item_means(_differences(ours, parents), clusters)
    differences_N = differences_N[differences_N != 0]
    sizes_N = np.abs(differences_N)
    count = len(differences_N)
    if count == 0:
        return 1.0
    if np.all(sizes_N == sizes_N[0]):
        return _mcnemar(int((differences_N > 0).sum()), count)
    observed = abs(differences_N.sum())
    # A pattern that repeats the observed sum must not be lost to rounding.
    bar = observed - 1e-12 * sizes_N.sum()
    if count <= _EXACT_FLIPS:
        patterns_SN = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs((1 - 2 * patterns_SN) @ differences_N) >= bar))
    rng = np.random.default_rng(seed)
    extreme = 0
    for rows in _portions(resamples, count):
        signs_RN = 1 - 2 * rng.integers(0, 2, (rows, count), dtype=np.int8)
        extreme += int((np.abs(signs_RN @ differences_N) >= bar).sum())
    return (extreme + 1) / (resamples + 1)


def product_interval(
    scores_1: ArrayLike,
    scores_2: ArrayLike,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """mean(scores_1) * mean(scores_2) of one policy on two suites, with its interval.

    The suites have different items and are resampled apart; `n` counts the items of both. One score an
    item: take `item_means` first where there are several samples.
    """
    first_N1, second_M1 = (item_means(scores)[:, None] for scores in (scores_1, scores_2))
    products_R1 = _product_resamples(first_N1, second_M1, resamples, seed)
    value = float(first_N1.mean() * second_M1.mean())
    return _interval(value, products_R1[:, 0], len(first_N1) + len(second_M1), confidence)


def paired_product_difference(
    scores_a1: ArrayLike,
    scores_b1: ArrayLike,
    scores_a2: ArrayLike,
    scores_b2: ArrayLike,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """mean(a1) * mean(a2) - mean(b1) * mean(b2): policy a against policy b on suites 1 and 2.

    Items are resampled within each suite, the same ones for both policies. One score an item, in the
    same order for both; `n` counts the items of both suites.
    """
    first_N2 = _side_by_side(scores_a1, scores_b1)
    second_M2 = _side_by_side(scores_a2, scores_b2)
    products_R2 = _product_resamples(first_N2, second_M2, resamples, seed)
    product_a, product_b = first_N2.mean(axis=0) * second_M2.mean(axis=0)
    differences_R = products_R2[:, 0] - products_R2[:, 1]
    return _interval(float(product_a - product_b), differences_R, len(first_N2) + len(second_M2), confidence)


def item_means(scores: ArrayLike, clusters: Sequence[Hashable] | None = None) -> Floats:
    """One number an item: the mean of its samples, in the order in which items first appear.

    Raises:
        ValueError: no scores, a score that is not finite, or lengths that differ.
    """
    scores_N = np.asarray(scores, dtype=np.float64)
    if scores_N.ndim != 1:
        raise ValueError(f"scores have {scores_N.ndim} dimensions; one number a sample is needed")
    if len(scores_N) == 0:
        raise ValueError("no scores: a mean needs at least one item")
    if not np.isfinite(scores_N).all():
        where = int(np.flatnonzero(~np.isfinite(scores_N))[0])
        raise ValueError(f"scores[{where}] is {scores_N[where]}: leave out what could not be judged")
    if clusters is None:
        return scores_N
    if len(clusters) != len(scores_N):
        raise ValueError(f"{len(scores_N)} scores but {len(clusters)} clusters: name the item of each sample")
    numbers: dict[Hashable, int] = {}
    items_N = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    return np.bincount(items_N, weights=scores_N) / np.bincount(items_N)


def _differences(ours: ArrayLike, parents: ArrayLike) -> Floats:
    return np.subtract(*_side_by_side(ours, parents).T)


def _side_by_side(ours: ArrayLike, parents: ArrayLike) -> Floats:
    left_N, right_N = item_means(ours), item_means(parents)
    if len(left_N) != len(right_N):
        raise ValueError(
            f"{len(left_N)} scores against {len(right_N)}: a pair needs the same items on both sides"
        )
    return np.stack([left_N, right_N], axis=1)


def _mcnemar(wins: int, count: int) -> float:
    """Twice the smaller tail of a fair coin, in whole numbers until the last division."""
    tail = term = 1
    for i in range(1, min(wins, count - wins) + 1):
        term = term * (count - i + 1) // i
        tail += term
    return min(1.0, 2 * tail / 2**count)


def _bootstrap_means(items_NC: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of `resamples` draws of N rows with replacement; columns are drawn together."""
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}: at least 1 is needed")
    count, columns = items_NC.shape
    means_RC = np.empty((resamples, columns))
    done = 0
    for rows in _portions(resamples, count):
        drawn_RN = rng.integers(0, count, (rows, count))
        for column in range(columns):
            means_RC[done : done + rows, column] = items_NC[:, column][drawn_RN].mean(axis=1)
        done += rows
    return means_RC


def _product_resamples(first_NC: Floats, second_MC: Floats, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return _bootstrap_means(first_NC, resamples, rng) * _bootstrap_means(second_MC, resamples, rng)


def _portions(total: int, width: int) -> list[int]:
    """`total` rows of `width` cut into portions that fit into memory."""
    rows = max(1, _DRAWS_AT_ONCE // width)
    return [min(rows, total - start) for start in range(0, total, rows)]


def _interval(value: float, resampled_R: Floats, n: int, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: a share between 0 and 1 is needed")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    # Equal items have equal means up to the last bit of the sum; an interval without width has none.
    if math.isclose(low, high, rel_tol=1e-12, abs_tol=1e-15):
        low = high = value
    return Interval(value, float(low), float(high), n)
