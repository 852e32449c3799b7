"""Which thinking budget to serve a model with: the smallest that is as good as the best, within its error."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from alloy.evaluate.statistics import Interval, mean_interval, standard_error

Scored = Sequence[tuple[str, float]]
"""The task and the score of each completion."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A budget, None for no limit, beside the most accurate one.

    Attributes:
        standard_error: of the best budget's accuracy.
    """

    budget: int | None
    accuracy: Interval
    best_budget: int | None
    best_accuracy: Interval
    standard_error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def choose_budget(scored: Mapping[int | None, Scored]) -> Choice:
    """The smallest budget whose accuracy is at most one standard error below the best one's.

    Of budgets that are best alike the smallest counts as the best.

    Args:
        scored: by budget; several samples of a task are one item.
    Raises:
        ValueError: no budget, or one without scores.
    Source: the one-standard-error rule of Breiman et al. 1984, "Classification and Regression Trees".
    """
    if not scored:
        raise ValueError("no budgets: there is nothing to choose from")
    budgets = sorted(scored, key=lambda budget: inf if budget is None else budget)
    means = {budget: _mean(scored[budget]) for budget in budgets}
    best = max(budgets, key=lambda budget: means[budget].value)
    error = standard_error([score for _, score in scored[best]], [task for task, _ in scored[best]])
    # A difference of nothing but rounding is none.
    bar = means[best].value - error - 1e-12
    chosen = next(budget for budget in budgets if means[budget].value >= bar)
    return Choice(chosen, means[chosen], best, means[best], error)


def _mean(scored: Scored) -> Interval:
    return mean_interval([score for _, score in scored], [task for task, _ in scored])
