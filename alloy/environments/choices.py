"""Questions with a few answers to choose from, in small numbers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

LETTERS = "ABCDE"

# How a choice is marked, and what stands between two of them.
_MARKS = (
    ("{letter}) {value}", " "),
    ("{letter}. {value}", " "),
    ("({letter}) {value}", " "),
    ("{letter}: {value}", ", "),
    ("{letter}) {value}", ", "),
)


@dataclass(frozen=True, slots=True)
class Question:
    """Values for a kind's wordings, the choices in any order, the right one, and how one comes to it."""

    values: dict[str, int]
    choices: list[int]
    right: int
    thinking: str


class ChoiceEnvironment:
    """Arithmetic and comparisons, each with `choices` answers of which one is right.

    The right letter is drawn evenly, and so is a computed value's place among the choices by size (where it
    is large enough to have smaller ones): neither the letter nor the middle is a good guess.

    Args:
        kinds: of questions, drawn evenly.
        choices: answers to a question, 2 to 5.
        max_number: in a question; a wrong answer of a sum may be a little greater.
    """

    name = "choice"
    verifier = "choice"
    thinking_mark = r"\d [A-E]\b"
    """A line of the worked thinking has it: in an answer it is thinking that went on."""

    def __init__(
        self,
        kinds: Sequence[str] = ("sum", "difference", "largest", "smallest", "after"),
        choices: int = 3,
        max_number: int = 20,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if isinstance(kinds, str) or unknown or not kinds:
            raise InputError(f"kinds = {kinds!r}: take some of {', '.join(KINDS)}.")
        if not 2 <= choices <= len(LETTERS):
            raise InputError(f"choices = {choices}: take 2 to {len(LETTERS)}.")
        if max_number < 2 * choices:
            raise InputError(f"max_number = {max_number}: take at least {2 * choices} for {choices} choices.")
        self.kinds, self.choices, self.max_number = tuple(kinds), choices, max_number

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        return [self._task(split, seed, index) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", **task.gold}

    def _task(self, split: Split, seed: int, index: int) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        kind = rng.choice(self.kinds)
        asks, draw = KINDS[kind]
        ask, mark = rng.choice(split_grid(len(asks), len(_MARKS), split))
        question = draw(rng, self.choices, self.max_number)
        choices = rng.sample(question.choices, len(question.choices))
        letter = LETTERS[choices.index(question.right)]
        # Number before letter: the letter is then what came after the number when it was last said, which
        # is the first thing that a small model learns to look up.
        lines = [f"{value} {each}" for each, value in zip(LETTERS, choices, strict=False)]
        lines += [question.thinking, f"{question.right} {letter}"]
        form, join = _MARKS[mark]
        listed = join.join(
            form.format(letter=each, value=value) for each, value in zip(LETTERS, choices, strict=False)
        )
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"{kind}, ask {ask}, marks {mark}",
            messages=[{"role": "user", "content": f"{asks[ask].format(**question.values)} {listed}"}],
            gold={"gold": letter, "choices": [str(value) for value in choices]},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": "\n".join(lines),
                    "content": f"The answer is {letter}.",
                }
            ],
        )


def _around(rng: random.Random, right: int, count: int) -> list[int]:
    """`count` different numbers near `right`, which is among them in any place by size."""
    below = rng.randint(0, min(count - 1, right))
    above = count - 1 - below
    lower = rng.sample(range(max(0, right - below - 2), right), below)
    return [*lower, right, *rng.sample(range(right + 1, right + above + 3), above)]


def _sum(rng: random.Random, count: int, most: int) -> Question:
    a = rng.randint(1, most - 1)
    b = rng.randint(1, most - a)
    return Question({"a": a, "b": b}, _around(rng, a + b, count), a + b, f"{a}+{b}={a + b}")


def _difference(rng: random.Random, count: int, most: int) -> Question:
    a = rng.randint(1, most)
    b = rng.randint(1, a)
    return Question({"a": a, "b": b}, _around(rng, a - b, count), a - b, f"{a}-{b}={a - b}")


def _largest(rng: random.Random, count: int, most: int) -> Question:
    choices = rng.sample(range(1, most + 1), count)
    return Question({}, choices, max(choices), f"largest {max(choices)}")


def _smallest(rng: random.Random, count: int, most: int) -> Question:
    choices = rng.sample(range(1, most + 1), count)
    return Question({}, choices, min(choices), f"smallest {min(choices)}")


def _after(rng: random.Random, count: int, most: int) -> Question:
    a = rng.randint(1, most - 1)
    return Question({"a": a}, _around(rng, a + 1, count), a + 1, f"after {a} {a + 1}")


Draw = Callable[[random.Random, int, int], Question]

KINDS: dict[str, tuple[tuple[str, ...], Draw]] = {
    "sum": (
        (
            "What is {a} + {b}?",
            "How much is {a} + {b}?",
            "Which number is {a} + {b}?",
            "Choose the sum of {a} and {b}.",
            "Work out {a} + {b}.",
        ),
        _sum,
    ),
    "difference": (
        (
            "What is {a} - {b}?",
            "How much is {a} - {b}?",
            "Which number is {a} - {b}?",
            "Choose {a} less {b}.",
            "Work out {a} - {b}.",
        ),
        _difference,
    ),
    "largest": (
        (
            "Which is the largest?",
            "What is the largest number?",
            "Choose the largest.",
            "Find the largest number.",
            "Which number is the largest?",
        ),
        _largest,
    ),
    "smallest": (
        (
            "Which is the smallest?",
            "What is the smallest number?",
            "Choose the smallest.",
            "Find the smallest number.",
            "Which number is the smallest?",
        ),
        _smallest,
    ),
    "after": (
        (
            "Which number comes after {a}?",
            "What comes after {a}?",
            "Choose the number after {a}.",
            "Find the number after {a}.",
            "After {a} comes which number?",
        ),
        _after,
    ),
}
"""By kind: five wordings, and how a question is drawn (choices, greatest number)."""
