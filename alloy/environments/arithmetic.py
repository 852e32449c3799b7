"""Word problems in small numbers, with every step of the thinking written out."""

import random
from typing import Any, Literal

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Noa")
THINGS = (
    "apples",
    "books",
    "cards",
    "coins",
    "cups",
    "eggs",
    "keys",
    "maps",
    "pens",
    "shells",
    "stamps",
    "toys",
)

# Phrases by operation; a template is one opening, one phrase for each operation and one question.
_OPENINGS = (
    "{name} has {a} {things}.",
    "{name} starts with {a} {things}.",
    "There are {a} {things} in a box.",
    "{name} owns {a} {things}.",
    "A shop has {a} {things}.",
)
_MORE = (
    "{b} more come in.",
    "{name} finds {b} more.",
    "{name} buys {b}.",
    "A friend brings {b}.",
    "{name} gets {b} as a gift.",
)
_FEWER = (
    "{b} are lost.",
    "{name} gives {b} away.",
    "{name} sells {b}.",
    "A friend takes {b}.",
    "{b} get broken.",
)
_TIMES = (
    "Then the number is multiplied by {b}.",
    "Then there are {b} times as many.",
    "The number grows {b} times.",
    "Now take {b} times that.",
    "Then it becomes {b} times as much.",
)
_QUESTIONS = (
    "How many {things} are there now?",
    "How many {things} are left?",
    "What is the number of {things} now?",
    "How many {things} does that make?",
    "Count the {things}.",
)

Operation = Literal["+", "-", "*"]


class ArithmeticEnvironment:
    """Problems of `min_steps` to `max_steps` operations; the gold is a whole number, never negative.

    Args:
        max_operand: of the numbers added and taken away.
        max_value: no intermediate result is greater.
        multiply: share of the steps that multiply (by 2 or 3), where the value allows one.
    """

    name = "math"
    verifier = "math"
    thinking_mark = "="
    """A step of the worked thinking: in an answer it is thinking that went on."""

    def __init__(
        self,
        min_steps: int = 1,
        max_steps: int = 3,
        max_operand: int = 9,
        max_value: int = 20,
        multiply: float = 0.1,
    ) -> None:
        self.min_steps, self.max_steps = min_steps, max_steps
        self.max_operand, self.max_value = max_operand, max_value
        self.multiply = multiply

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        frames = split_grid(len(_OPENINGS), len(_QUESTIONS), split)
        return [self._task(split, seed, index, frames) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", "gold": task.gold["answer"]}

    def _task(self, split: Split, seed: int, index: int, frames: list[tuple[int, int]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        opening, question = rng.choice(frames)
        steps = rng.randint(self.min_steps, self.max_steps)
        name, things = rng.choice(NAMES), rng.choice(THINGS)
        value = rng.randint(2, max(2, self.max_value * 2 // 3))
        sentences = [_OPENINGS[opening].format(name=name, a=value, things=things)]
        lines = []
        for _ in range(steps):
            operation, operand = self._step(rng, value)
            phrases = {"+": _MORE, "-": _FEWER, "*": _TIMES}[operation]
            sentences.append(rng.choice(phrases).format(name=name, b=operand))
            result = {"+": value + operand, "-": value - operand, "*": value * operand}[operation]
            lines.append(f"{value}{operation}{operand}={result}")
            value = result
        sentences.append(_QUESTIONS[question].format(things=things))
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"opening {opening}, question {question}",
            messages=[{"role": "user", "content": " ".join(sentences)}],
            gold={"answer": str(value), "steps": steps},
            demonstration=[
                {"role": "assistant", "thinking": "\n".join(lines), "content": f"The answer is {value}."}
            ],
        )

    def _step(self, rng: random.Random, value: int) -> tuple[Operation, int]:
        factors = [factor for factor in (2, 3) if value * factor <= self.max_value]
        if factors and value > 0 and rng.random() < self.multiply:
            return "*", rng.choice(factors)
        room_up, room_down = self.max_value - value, value
        up = rng.random() < 0.5 if min(room_up, room_down) > 0 else room_up > 0
        return ("+" if up else "-"), rng.randint(1, min(self.max_operand, room_up if up else room_down))
