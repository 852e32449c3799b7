"""Comparing two answers: how a judge is asked, how its answer is read, and what follows from it.

A judge gives each answer a helpfulness from 1 to 5 and the two a ranking from 1 (the first is much better) to
6 (the second is much better). Source: Nemotron 3 Nano (arXiv:2512.20848), generative reward model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.environments.task import Message

LOWEST, HIGHEST = 1, 5
FIRST_MUCH_BETTER, SECOND_MUCH_BETTER = 1, 6
MIDDLE = (FIRST_MUCH_BETTER + SECOND_MUCH_BETTER) / 2

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "helpfulness_1": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
        "helpfulness_2": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
        "ranking": {"type": "integer", "minimum": FIRST_MUCH_BETTER, "maximum": SECOND_MUCH_BETTER},
    },
    "required": ["helpfulness_1", "helpfulness_2", "ranking"],
    "additionalProperties": False,
}
"""Of a judge's answer."""

INSTRUCTION = (
    "Compare two answers to the last turn of a conversation. Give each a helpfulness from 1 (bad) to 5 (good), and "
    "a ranking from 1 (answer 1 is much better) over 3 and 4 (hardly differ) to 6 (answer 2 is much better). Reply "
    'with JSON alone: {"helpfulness_1": 3, "helpfulness_2": 3, "ranking": 3}'
)


class Unreadable(ValueError):
    """A judge's answer that is none, and why."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was said of two answers, the first one first. Means of several judgements are judgements, too."""

    helpfulness: tuple[float, float]
    ranking: float

    def swapped(self) -> "Judgement":
        """The same of the two answers in the other order."""
        first, second = self.helpfulness
        return Judgement((second, first), 2 * MIDDLE - self.ranking)

    def scores(self) -> tuple[float, float]:
        """The helpfulness of each; where both have the same, the ranking decides.

        s1 += 3.5 - ranking and s2 -= 3.5 - ranking.
        """
        first, second = self.helpfulness
        if first != second:
            return first, second
        lead = MIDDLE - self.ranking
        return first + lead, second - lead

    def preference(self) -> float:
        """1 where the first is better, 0 where the second is, a half for neither; the ranking decides, then the scores."""
        lead = (MIDDLE - self.ranking) or (self.helpfulness[0] - self.helpfulness[1])
        return 0.5 if lead == 0 else float(lead > 0)


def mean_judgement(judgements: Sequence[Judgement]) -> Judgement:
    """Of the same two answers in the same order."""
    count = len(judgements)
    return Judgement(
        (
            sum(j.helpfulness[0] for j in judgements) / count,
            sum(j.helpfulness[1] for j in judgements) / count,
        ),
        sum(j.ranking for j in judgements) / count,
    )


def judge_messages(prompt: Sequence[Message], first: str, second: str) -> list[Message]:
    """What a judge is asked: the conversation and two answers, each as data between its marks.

    The marks are of JSON: no answer can end its own place and speak as the judge's instruction.
    """
    turns = [
        f"{turn['role']}: {json.dumps(str(turn.get('content') or ''), ensure_ascii=False)}" for turn in prompt
    ]
    said = [json.dumps(answer, ensure_ascii=False) for answer in (first, second)]
    asked = "\n".join([*turns, "", f"answer 1: {said[0]}", f"answer 2: {said[1]}"])
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": asked}]


def write_judgement(helpfulness: tuple[int, int], ranking: int) -> str:
    """A judge's answer, as it is to be written."""
    return json.dumps({"helpfulness_1": helpfulness[0], "helpfulness_2": helpfulness[1], "ranking": ranking})


def read_judgement(text: str) -> Judgement:
    """A judge's answer, read strictly: one JSON object with the three whole numbers in their ranges, and no more.

    Closed thinking before it is passed over.

    Raises:
        Unreadable: with what is wrong.
    """
    if THINK_CLOSE in text:
        text = text.rpartition(THINK_CLOSE)[2]
    elif text.lstrip().startswith(THINK_OPEN):
        raise Unreadable("the thinking has no end")
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:80]}") from None
    if not isinstance(found, dict) or set(found) != set(SCHEMA["required"]):
        raise Unreadable(f"no object of {', '.join(SCHEMA['required'])} alone")
    for key, rule in SCHEMA["properties"].items():
        value = found[key]
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not rule["minimum"] <= value <= rule["maximum"]
        ):
            raise Unreadable(
                f"{key} is {str(value)[:20]}: a whole number from {rule['minimum']} to {rule['maximum']} is needed"
            )
    return Judgement((found["helpfulness_1"], found["helpfulness_2"]), found["ranking"])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found
