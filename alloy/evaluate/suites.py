"""Measuring a model on suites: every item's scores are kept, so that two models compare pairwise."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.environments.registry import Environments
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.statistics import Interval, mean_interval
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class SuiteResult:
    """A suite on one model.

    Attributes:
        scores: by metric, one number an item (a verifier's own failure is left out and counted).
        items: the items' ids, in the scores' order.
        primary: the metric that stands in the table.
    """

    suite: str
    primary: str
    items: list[str]
    scores: dict[str, list[float]]
    errors: int = 0
    completions: list[dict[str, Any]] = field(default_factory=list)
    by_budget: list[dict[str, Any]] = field(default_factory=list)

    def interval(self, metric: str | None = None) -> Interval:
        return mean_interval(self.scores[metric or self.primary], tasks_of(self.items))


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
        _take(result, rollouts, budget, len(config.budgets) > 1, mark)
        result.completions += [sample_row(r, tokenizer, 0, suite=name, budget=budget) for r in rollouts]
    result.primary = "well_formed" if len(config.budgets) > 1 else "success"
    return result


def _take(
    result: SuiteResult, rollouts: list[Rollout], budget: int | None, many: bool, thinking_mark: str | None
) -> None:
    """Add rollouts to a result; for a budget suite the items are (task, budget)."""
    judged = [(r, r.verdict) for r in rollouts if r.verdict is not None and r.verdict.reward is not None]
    result.errors += len(rollouts) - len(judged)
    rows: list[dict[str, float]] = []
    for rollout, verdict in judged:
        formed = float(is_well_formed(rollout, thinking_mark))
        reward = float(verdict.reward or 0.0) if rollout.finished else 0.0
        row = {"success": reward, "well_formed": formed, "tokens": float(sum(rollout.completion_mask))}
        row |= dict(verdict.parts or {})
        rows.append(row)
        result.items.append(f"{rollout.task.id}@{budget}" if many else rollout.task.id)
    for key in sorted({key for row in rows for key in row}):
        result.scores.setdefault(key, []).extend(row.get(key, 0.0) for row in rows)
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
