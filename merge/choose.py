"""Choosing alpha: the points of a sweep and the rules that pick one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from alloy.errors import StageError


@dataclass(frozen=True)
class Point:
    """One alpha and what the model scored there."""

    alpha: float
    scores: dict[str, list[float]]
    """By suite, one number from 0 to 1 an item."""

    def __post_init__(self) -> None:
        for suite, scores in self.scores.items():
            if not scores:
                raise StageError(f"{suite} at alpha {self.alpha:g}: no item could be judged. Mend the suite.")
            wrong = [score for score in scores if not 0 <= score <= 1]
            if wrong:
                raise StageError(
                    f"{suite} at alpha {self.alpha:g} has the score {wrong[0]}: a score lies from 0 to 1."
                )

    @property
    def means(self) -> dict[str, float]:
        return {suite: fmean(scores) for suite, scores in self.scores.items()}

    @property
    def product(self) -> float:
        return math.prod(self.means.values())

    @property
    def standard_error(self) -> float:
        """Of the product, to first order; the suites' items are independent of each other.

        var = sum over suites of (product of the other means)^2 * s^2 / n. A single item has no s: 0.
        """
        total = 0.0
        for suite, scores in self.scores.items():
            others = math.prod(mean for name, mean in self.means.items() if name != suite)
            spread = variance(scores) if len(scores) > 1 else 0.0
            total += others**2 * spread / len(scores)
        return math.sqrt(total)


def best_product(points: Sequence[Point]) -> Point:
    """The highest product of the suites' means; of equals the smallest alpha, nearest to reasoning."""
    return max(points, key=lambda point: (point.product, -point.alpha))


def smallest_within_one_standard_error(points: Sequence[Point]) -> Point:
    """The smallest alpha whose product is at most one standard error of the best below the best.

    Source: the one-standard-error rule of Breiman et al. 1984, with alpha as the size of the model.
    """
    best = best_product(points)
    bar = best.product - best.standard_error
    return min((point for point in points if point.product >= bar), key=lambda point: point.alpha)


RULES: dict[str, Callable[[Sequence[Point]], Point]] = {
    "product": best_product,
    "smallest-within-one-standard-error": smallest_within_one_standard_error,
}
