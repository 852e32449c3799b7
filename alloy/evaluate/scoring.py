"""What a rollout is worth: one row of numbers a completion, and how it was come by."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.environments.registry import Environments, has_verdicts
from alloy.environments.task import Environment, Message, Task, World
from alloy.evaluate.asked import Portion
from alloy.evaluate.items import Row
from alloy.evaluate.votes import VOTED, Vote, majorities
from alloy.rollout.conversation import Rollout, sample_row
from alloy.verify.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOLD = ("kind", "steps", "level", "difficulty", "category", "subject", "language")
"""What a task's gold may say of it, where its environment does not `describe` its tasks."""


@dataclass(frozen=True)
class Scorer:
    """Scores of a suite's rollouts.

    Attributes:
        environment: that the suite is of.
        judge_unfinished: whether an answer that was cut off is judged as it stands; else it is worth 0.
    """

    environment: Environment
    tokenizer: "PreTrainedTokenizerBase"
    samples: int = 1
    judge_unfinished: bool = False

    def rows(self, suite: str, portion: Portion, rollouts: Sequence[Rollout], seconds: float) -> list[Row]:
        """A row for each completion of a portion, in its order; see `items.Row`.

        Args:
            seconds: wall-clock, of the portion's generation.
        """
        loose = self._loosely(rollouts)
        found = []
        for asked, rollout, other in zip(portion.asked, rollouts, loose, strict=True):
            row: Row = {"item": asked.item, **sample_row(rollout, self.tokenizer, 0, suite=suite)}
            del row["step"], row["reward"]
            row |= {"sample": asked.sample, "budget": portion.budget, "length": asked.length}
            row |= {"portion": portion.number, "seconds": round(seconds / len(rollouts), 4)}
            row |= {"finished": rollout.finished, "detail": rollout.verdict.detail if rollout.verdict else ""}
            row |= self.scores(rollout, other)
            length = {"length": str(asked.length)} if asked.length is not None else {}
            row["labels"] = length | self._labels(rollout.task)
            found.append(row)
        if self.samples > 1 and has_verdicts(self.environment):
            self._add_votes(found)
        return found

    def scores(self, rollout: Rollout, loose: Verdict | None = None) -> dict[str, Any]:
        """`scores`, and what belongs to them: `weights`, and `followed` by instruction."""
        verdict = rollout.verdict
        scores = {
            "well_formed": float(is_well_formed(rollout, getattr(self.environment, "thinking_mark", None))),
            "finished": float(rollout.finished),
            "tokens": float(sum(rollout.completion_mask)),
        }
        if not has_verdicts(self.environment):
            return {"scores": scores}
        if verdict is None or verdict.reward is None or (loose is not None and loose.reward is None):
            return {"scores": None}
        counts = rollout.finished or self.judge_unfinished
        scores["success"] = verdict.reward if counts else 0.0
        parts = dict(verdict.parts or {})
        if loose is None:
            return {"scores": scores | parts}
        followed = {name: part if counts else 0.0 for name, part in parts.items()}
        loosely = [part if counts else 0.0 for part in (loose.parts or {}).values()]
        scores["prompt_loose"] = float(loose.reward or 0.0) if counts else 0.0
        scores["instruction_strict"] = fmean(followed.values()) if followed else 0.0
        scores["instruction_loose"] = fmean(loosely) if loosely else 0.0
        weight = float(len(followed))
        weights = {"instruction_strict": weight, "instruction_loose": weight}
        return {"scores": scores, "weights": weights, "followed": followed}

    def _labels(self, task: Task) -> dict[str, str]:
        describe: Callable[[Task], Mapping[str, Any]] | None = getattr(self.environment, "describe", None)
        told = describe(task) if describe else {key: task.gold[key] for key in _TOLD if key in task.gold}
        return {key: str(label) for key, label in told.items() if isinstance(label, str | int | float)}

    def _loosely(self, rollouts: Sequence[Rollout]) -> list[Verdict | None]:
        """IFEval's loose reading of every answer; nothing where the suite has no instructions."""
        if getattr(self.environment, "verifier", None) != "instructions" or not rollouts:
            return [None] * len(rollouts)
        label = rollouts[0].task.environment
        judged = Environments({label: _Loosely(self.environment)}).judge(
            [(rollout.task, rollout.messages, None) for rollout in rollouts]
        )
        return list(judged)

    def _add_votes(self, rows: list[Row]) -> None:
        """pass@k, and maj@k where the verifier says which answer it read: the same for every sample of an item."""
        by_task: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["scores"] is not None:
                by_task[row["task"]].append(row)
        for group in by_task.values():
            for row in group:
                row["scores"][f"pass@{self.samples}"] = max(each["scores"]["success"] for each in group)
        verifier = getattr(self.environment, "verifier", "")
        if verifier not in VOTED:
            return
        votes = [
            [
                Vote(row["detail"], row["scores"]["success"])
                for row in group
                if row["status"] == "ok" and (row["finished"] or self.judge_unfinished)
            ]
            for group in by_task.values()
        ]
        for group, score in zip(by_task.values(), majorities(verifier, votes), strict=True):
            for row in group:
                row["scores"][f"maj@{self.samples}"] = score


class _Loosely:
    """An environment of instructions, with every answer read loosely."""

    verifier = "instructions"

    def __init__(self, environment: Environment) -> None:
        self.name = environment.name
        self.strict: Any = environment

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return self.strict.row(task, completion) | {"loose": True}

    def tasks(self, split: Any, count: int, seed: int) -> list[Task]:
        return []

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        raise NotImplementedError


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
