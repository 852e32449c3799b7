"""The answer that most samples of an item agree on (maj@k); answers are one where the verifier holds them equal."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from alloy.environments.registry import Environments
from alloy.environments.task import Message, Task

VOTED = ("math", "choice")
"""Verifiers that say which answer they read."""
_SHOWN = 100
"""Characters of an answer that the math verifier shows; a longer one ends in three dots."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Vote:
    """What one sample answered, and what that is worth."""

    answer: str
    reward: float


def majorities(verifier: str, votes: Sequence[Sequence[Vote]]) -> list[float]:
    """For each item the reward of its most frequent answer; of several as frequent ones the mean, 0 without a vote.

    Source: Wang et al. 2022, self-consistency (arXiv:2203.11171).
    """
    equal = equal_answers(votes) if verifier == "math" else set()
    return [majority(each, lambda a, b: (a, b) in equal) for each in votes]


def majority(votes: Sequence[Vote], same: Callable[[str, str], bool]) -> float:
    """The reward of the most frequent answer.

    Args:
        same: whether a later answer is an earlier one in other words.
    """
    classes: list[list[Vote]] = []
    for vote in votes:
        for known in classes:
            if known[0].answer == vote.answer or same(known[0].answer, vote.answer):
                known.append(vote)
                break
        else:
            classes.append([vote])
    most = max(map(len, classes), default=0)
    return fmean(known[0].reward for known in classes if len(known) == most) if classes else 0.0


def equal_answers(votes: Sequence[Sequence[Vote]]) -> Collection[Pair]:
    """The pairs of different texts within an item, the earlier first, that the math verifier holds equal."""
    pairs = {
        pair
        for each in votes
        for pair in combinations(dict.fromkeys(vote.answer for vote in each if not _was_cut(vote.answer)), 2)
    }
    asked = sorted(pairs)
    tasks = [Task(str(n), "equal", "", [], gold={"pair": pair}) for n, pair in enumerate(asked)]
    verdicts = Environments({"equal": _Equal()}).judge([(task, [], None) for task in tasks])
    return {pair for pair, verdict in zip(asked, verdicts, strict=True) if verdict and verdict.reward == 1.0}


def _was_cut(answer: str) -> bool:
    return len(answer) >= _SHOWN and answer.endswith("...")


class _Equal:
    """Two answers as a row of the math verifier, so that they are compared where they can be stopped."""

    name = "equal"
    verifier = "math"

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        first, second = task.gold["pair"]
        return {"completion": f"\\boxed{{{second}}}", "gold": first}

    def tasks(self, split: Any, count: int, seed: int) -> list[Task]:
        return []

    def open(self, task: Task) -> None:
        return None

    def judge(self, task: Task, completion: list[Message], world: Any) -> Any:
        raise NotImplementedError
