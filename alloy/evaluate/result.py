"""A suite on one model, added up from its items."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alloy.evaluate.budget import choose_budget
from alloy.evaluate.items import Row
from alloy.evaluate.statistics import Interval, mean_interval, weighted_interval

READINGS = ("maj@", "pass@", "prompt_", "instruction_")
"""How metrics begin that read the same answers in another way; they stand below the table."""
_MARKS = re.compile(r"(?:#\d+)?(?:@\w+)?$")
_FAMILY = "instruction"


@dataclass
class SuiteResult:
    """A suite on one model.

    Attributes:
        scores: by metric, one number an item (a verifier's own failure is left out and counted).
        weights: of metrics that are shares of several things in an item, such as its instructions.
        groups: by what is told of the tasks (kind, domains, steps), each item's label; an empty one where
            nothing is told.
        items: the items' ids, in the scores' order.
        primary: the metric that stands in the table.
        completions: every item as it was kept, the verifier's failures among them.
        families: by family of instructions, what each item followed and was asked of it.
        left_out: of the suite's rows, by what is not supported in them.
    """

    suite: str
    primary: str
    items: list[str]
    scores: dict[str, list[float]]
    groups: dict[str, list[str]] = field(default_factory=dict)
    errors: int = 0
    completions: list[dict[str, Any]] = field(default_factory=list)
    by_budget: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, list[float]] = field(default_factory=dict)
    families: dict[str, list[tuple[str, float, float]]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def interval(self, metric: str | None = None) -> Interval:
        """A metric over the items; of shares of several things, over those things.

        Raises:
            ValueError: the verifier failed on every item.
        """
        scores, tasks = self.scores.get(metric or self.primary, []), tasks_of(self.items)
        weights = self.weights.get(metric or self.primary)
        return weighted_interval(scores, weights, tasks) if weights else mean_interval(scores, tasks)

    def by_group(self) -> dict[str, dict[str, Interval]]:
        """Success with its interval, by what is told of the tasks and, within it, by label."""
        success, tasks = self.scores.get("success", []), tasks_of(self.items)
        found: dict[str, dict[str, Interval]] = {}
        for name, labels in self.groups.items() if success else ():
            found[name] = {}
            for label in _labels(labels):
                of_label = [i for i, other in enumerate(labels) if other == label]
                scores = [success[i] for i in of_label]
                found[name][label] = mean_interval(scores, [tasks[i] for i in of_label])
        if self.families:
            found[_FAMILY] = {
                family: weighted_interval(
                    [s for _, s, _ in told], [w for _, _, w in told], [t for t, _, _ in told]
                )
                for family, told in sorted(self.families.items())
            }
        return found

    def budget_choice(self) -> dict[str, Any]:
        """The smallest budget within one standard error of the best, `overall` and by group and label."""
        budgets = [entry["budget"] for entry in self.by_budget]
        if len(budgets) < 2 or "success" not in self.scores:
            return {}
        chosen: dict[str, Any] = {"overall": self._choose(budgets, range(len(self.items)))}
        for name, labels in self.groups.items():
            chosen[name] = {
                label: self._choose(budgets, [i for i, other in enumerate(labels) if other == label])
                for label in _labels(labels)
            }
        return chosen

    def at_budget(self, budget: int | None) -> "SuiteResult":
        """The items of one budget alone, named by their tasks."""
        mark = f"@{budget}"
        places = [i for i, item in enumerate(self.items) if item.endswith(mark)]
        scores = {metric: [values[i] for i in places] for metric, values in self.scores.items()}
        items = [self.items[i].removesuffix(mark) for i in places]
        return SuiteResult(self.suite, self.primary, items, scores)

    def _choose(self, budgets: Sequence[int | None], places: Iterable[int]) -> dict[str, Any]:
        tasks, success = tasks_of(self.items), self.scores["success"]
        scored: dict[int | None, list[tuple[str, float]]] = {}
        for place in places:
            for budget in budgets:
                if self.items[place].endswith(f"@{budget}"):
                    scored.setdefault(budget, []).append((tasks[place], success[place]))
        return choose_budget(scored).to_json()


def result_of(suite: str, rows: Sequence[Row], budgets: Sequence[int | None] = ()) -> SuiteResult:
    """Add up a suite's items.

    Args:
        budgets: of a budget suite, whose score is well-formedness.
    """
    many = len(budgets) > 1
    rows = sorted(rows, key=lambda row: row["portion"])
    judged = [row for row in rows if row["scores"] is not None]
    # What nobody judges, such as prompts for a reward model, has its form alone.
    unjudged = bool(judged) and "success" not in judged[0]["scores"]
    primary = "well_formed" if many or unjudged else "success"
    result = SuiteResult(suite, primary, [row["item"] for row in judged], {})
    result.errors, result.completions = len(rows) - len(judged), list(rows)
    for metric in sorted({metric for row in judged for metric in row["scores"]}):
        result.scores[metric] = [float(row["scores"].get(metric, 0.0)) for row in judged]
    for metric in sorted({metric for row in judged for metric in row.get("weights", {})}):
        result.weights[metric] = [float(row.get("weights", {}).get(metric, 0.0)) for row in judged]
    for name in dict.fromkeys(name for row in judged for name in row["labels"]):
        result.groups[name] = [row["labels"].get(name, "") for row in judged]
    for row in judged:
        for family, (share, weight) in _families(row.get("followed", {})).items():
            result.families.setdefault(family, []).append((row["task"], share, weight))
    if many:
        result.by_budget = [
            _at_budget(budget, told)
            for budget in budgets
            if (told := [r for r in judged if r["budget"] == budget])
        ]
    return result


def _at_budget(budget: int | None, rows: Sequence[Row]) -> dict[str, Any]:
    """What stands in the curve: accuracy, well-formedness, tokens and seconds a completion."""
    tasks = [row["task"] for row in rows]
    told: dict[str, Any] = {"budget": budget}
    for key, metric in (("accuracy", "success"), ("well_formed", "well_formed"), ("tokens", "tokens")):
        if metric in rows[0]["scores"]:
            told[key] = asdict(mean_interval([row["scores"][metric] for row in rows], tasks))
    # Items of a portion share its time: there are as many measurements as portions.
    told["seconds"] = asdict(
        mean_interval([row["seconds"] for row in rows], [row["portion"] for row in rows])
    )
    return told


def _families(followed: dict[str, float]) -> dict[str, tuple[float, float]]:
    """By family of instructions the share that was followed, and how many were asked."""
    asked = Counter(name.partition(":")[0] for name in followed)
    done: Counter[str] = Counter()
    for name, part in followed.items():
        done[name.partition(":")[0]] += part  # type: ignore[assignment]
    return {family: (done[family] / count, float(count)) for family, count in asked.items()}


def _labels(labels: Sequence[str]) -> list[str]:
    return sorted(set(labels) - {""}, key=_by_number)


def _by_number(label: str) -> tuple[float, str]:
    return (float(label) if label.isdecimal() else math.inf, label)


def tasks_of(items: Sequence[str]) -> list[str]:
    """The task of every item: its samples, and its budgets or lengths, are one thing that was drawn."""
    return [_MARKS.sub("", item) for item in items]
