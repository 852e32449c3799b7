"""Choosing among the points of a sweep: what a point is worth, and the rules that pick one.

A rule is given points in order of their setting, and of equals takes the first: for alpha the smallest,
nearest to the reasoning parent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance

from alloy.errors import StageError
from merge.groups import told
from merge.mixture import Setting


@dataclass(frozen=True)
class Point:
    """One setting and what the model scored there."""

    setting: Setting
    scores: dict[str, list[float]]
    """By suite, one number from 0 to 1 an item."""
    shards: dict[str, str] = field(default_factory=dict)
    """BLAKE3 of every file of the weights that were evaluated, as a merge at this setting writes it."""

    def __post_init__(self) -> None:
        for suite, scores in self.scores.items():
            if not scores:
                raise StageError(f"{suite} at {self.told}: no item could be judged. Mend the suite.")
            wrong = [score for score in scores if not 0 <= score <= 1]
            if wrong:
                raise StageError(
                    f"{suite} at {self.told} has the score {wrong[0]}: a score lies from 0 to 1."
                )

    @property
    def told(self) -> str:
        return "" if self.setting is None else told(self.setting)

    @property
    def means(self) -> dict[str, float]:
        return {suite: fmean(scores) for suite, scores in self.scores.items()}


@dataclass(frozen=True)
class Objective:
    """What a point is worth, in one number from 0 to 1: the product of the suites' means, or a weighted sum.

    Attributes:
        weights: one for each suite, divided by their sum; None: the product.
    """

    weights: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        return "product" if self.weights is None else "weighted sum"

    def value(self, point: Point) -> float:
        if self.weights is None:
            return math.prod(point.means.values())
        return math.fsum(self._share(suite) * mean for suite, mean in point.means.items())

    def standard_error(self, point: Point) -> float:
        """To first order; the suites' items are independent of each other.

        var = sum over suites of slope^2 * s^2 / n, where the slope of the product is that of the other
        means, and of the sum the suite's share. A single item has no s: 0.
        """
        total = 0.0
        for suite, scores in point.scores.items():
            slope = self._slope(point, suite)
            total += slope**2 * (variance(scores) if len(scores) > 1 else 0.0) / len(scores)
        return math.sqrt(total)

    def _slope(self, point: Point, suite: str) -> float:
        if self.weights is None:
            return math.prod(mean for name, mean in point.means.items() if name != suite)
        return self._share(suite)

    def _share(self, suite: str) -> float:
        assert self.weights is not None
        return self.weights[suite] / math.fsum(self.weights.values())


def best(points: Sequence[Point], objective: Objective) -> Point:
    """The highest objective."""
    return max(points, key=objective.value)


def smallest_within_one_standard_error(points: Sequence[Point], objective: Objective) -> Point:
    """The first whose objective is at most one standard error of the best below the best.

    Source: the one-standard-error rule of Breiman et al. 1984, with alpha as the size of the model.
    """
    leader = best(points, objective)
    bar = objective.value(leader) - objective.standard_error(leader)
    return next(point for point in points if objective.value(point) >= bar)


def pareto(points: Sequence[Point], objective: Objective) -> Point:
    """Of the points that no other dominates the one whose greatest loss is smallest.

    The loss in a suite is the best mean that any point has in it, less the point's own. Of equals the
    one with the highest objective.

    Source: compromise programming with the largest deviation (Yu 1973; Zeleny 1973).
    """
    ideal = {suite: max(point.means[suite] for point in points) for suite in points[0].means}

    def loss(point: Point) -> float:
        # Losses that are equal in decimals are equal.
        return round(max(ideal[suite] - mean for suite, mean in point.means.items()), 12)

    return min(undominated(points), key=lambda point: (loss(point), -objective.value(point)))


def undominated(points: Sequence[Point]) -> list[Point]:
    """Those to which no other is at least equal in every suite and better in one."""

    def dominates(other: Point, point: Point) -> bool:
        pairs = [(other.means[suite], mean) for suite, mean in point.means.items()]
        return all(theirs >= ours for theirs, ours in pairs) and any(theirs > ours for theirs, ours in pairs)

    return [point for point in points if not any(dominates(other, point) for other in points)]


RULES: dict[str, Callable[[Sequence[Point], Objective], Point]] = {
    "product": best,
    "weighted-sum": best,
    "smallest-within-one-standard-error": smallest_within_one_standard_error,
    "pareto": pareto,
}
