"""Measuring a model on suites: every item's scores are kept, so that two models compare pairwise."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.environments.registry import Environments
from alloy.environments.task import Task
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.statistics import Interval, mean_interval
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Describe = Callable[[Task], Mapping[str, Any]]

FORM = 2
"""Of a result as it is kept on disk; another number makes every item be measured again."""


@dataclass
class SuiteResult:
    """A suite on one model.

    Attributes:
        scores: by metric, one number an item (a verifier's own failure is left out and counted).
        groups: by what the environment tells of its tasks (kind, domains, steps), each item's label;
            an empty one where nothing is told.
        items: the items' ids, in the scores' order.
        primary: the metric that stands in the table.
    """

    suite: str
    primary: str
    items: list[str]
    scores: dict[str, list[float]]
    groups: dict[str, list[str]] = field(default_factory=dict)
    errors: int = 0
    completions: list[dict[str, Any]] = field(default_factory=list)
    by_budget: list[dict[str, Any]] = field(default_factory=list)

    def interval(self, metric: str | None = None) -> Interval:
        return mean_interval(self.scores[metric or self.primary], tasks_of(self.items))

    def by_group(self) -> dict[str, dict[str, Interval]]:
        """Success with its interval, by what is told of the tasks and, within it, by label."""
        success, tasks = self.scores.get("success", []), tasks_of(self.items)
        found: dict[str, dict[str, Interval]] = {}
        for name, labels in self.groups.items():
            found[name] = {}
            for label in sorted(set(labels) - {""}, key=_by_number):
                of_label = [i for i, other in enumerate(labels) if other == label]
                scores = [success[i] for i in of_label]
                found[name][label] = mean_interval(scores, [tasks[i] for i in of_label])
        return found


def _by_number(label: str) -> tuple[float, str]:
    return (float(label) if label.isdecimal() else math.inf, label)


def tasks_of(items: Sequence[str]) -> list[str]:
    """The task of every item: one task under several budgets is one thing that was drawn."""
    return [item.partition("@")[0] for item in items]


def evaluate_suite(
    name: str, config: SuiteConfig, engine: Engine, tokenizer: "PreTrainedTokenizerBase", seed: int
) -> SuiteResult:
    """Roll out a suite's tasks and judge them.

    The tasks of a suite depend on its config alone, so every model is asked the same.
    """
    environments = Environments.make({config.environment: config.options})
    tasks = environments[config.environment].tasks(config.split, config.items, 0)  # type: ignore[arg-type]
    sampling = Sampling(config.max_completion_tokens, config.temperature, config.top_p)
    result = SuiteResult(name, "", [], {})
    for budget in config.budgets:
        plan = RolloutPlan(sampling, config.max_turns, budget)
        rollouts = roll_out(
            tasks, [config.thinking] * len(tasks), engine, tokenizer, environments, plan, seed
        )
        mark = getattr(environments[config.environment], "thinking_mark", None)
        describe = getattr(environments[config.environment], "describe", None)
        _take(result, rollouts, budget, len(config.budgets) > 1, mark, describe)
        result.completions += [sample_row(r, tokenizer, 0, suite=name, budget=budget) for r in rollouts]
    result.primary = "well_formed" if len(config.budgets) > 1 else "success"
    return result


def _take(
    result: SuiteResult,
    rollouts: list[Rollout],
    budget: int | None,
    many: bool,
    thinking_mark: str | None,
    describe: Describe | None = None,
) -> None:
    """Add rollouts to a result; for a budget suite the items are (task, budget)."""
    judged = [(r, r.verdict) for r in rollouts if r.verdict is not None and r.verdict.reward is not None]
    result.errors += len(rollouts) - len(judged)
    rows: list[dict[str, float]] = []
    told_of: list[dict[str, str]] = []
    before = len(result.items)
    for rollout, verdict in judged:
        formed = float(is_well_formed(rollout, thinking_mark))
        reward = float(verdict.reward or 0.0) if rollout.finished else 0.0
        row = {"success": reward, "well_formed": formed, "tokens": float(sum(rollout.completion_mask))}
        row |= dict(verdict.parts or {})
        rows.append(row)
        result.items.append(f"{rollout.task.id}@{budget}" if many else rollout.task.id)
        told_of.append({key: str(label) for key, label in describe(rollout.task).items()} if describe else {})
    for key in sorted({*result.scores, *(key for row in rows for key in row)}):
        result.scores.setdefault(key, [0.0] * before).extend(row.get(key, 0.0) for row in rows)
    for key in dict.fromkeys([*result.groups, *(key for labels in told_of for key in labels)]):
        result.groups.setdefault(key, [""] * before).extend(labels.get(key, "") for labels in told_of)
    if many and rows:
        told: dict[str, Any] = {"budget": budget, "tokens": sum(r["tokens"] for r in rows) / len(rows)}
        for key, metric in (("accuracy", "success"), ("well_formed", "well_formed")):
            told[key] = asdict(mean_interval([row[metric] for row in rows]))
        result.by_budget.append(told)


def is_well_formed(rollout: Rollout, thinking_mark: str | None = None) -> bool:
    """Closing tag exactly once, no thinking in the answer, an answer there, ended by itself.

    Args:
        thinking_mark: a pattern that only the environment's thinking has.
    """
    if not rollout.finished:
        return False
    turns = [turn for turn in rollout.messages if turn["role"] == "assistant"]
    return all(_turn_is_well_formed(turn, thinking_mark) for turn in turns)


def _turn_is_well_formed(turn: Mapping[str, Any], thinking_mark: str | None) -> bool:
    answer = str(turn.get("content") or "")
    if turn.get("invalid_calls") or not (answer.strip() or turn.get("tool_calls")):
        return False
    if any(tag in answer for tag in (THINK_OPEN, THINK_CLOSE)):
        return False
    return thinking_mark is None or not re.search(thinking_mark, answer)
