"""Long prompts in small: find one line of a long list, or follow a name through it (RULER's style)."""

import random
from typing import Any

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World

_KEYS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "flint",
    "grove",
    "harbor",
    "iris",
    "juniper",
    "koala",
    "lotus",
    "maple",
    "north",
    "olive",
    "pearl",
    "quartz",
    "raven",
    "sage",
    "tulip",
    "umber",
    "violet",
    "willow",
    "zinc",
)
_LINES = (
    '"{key}" holds {value}.',
    'The value of "{key}" is {value}.',
    '"{key}" is set to {value}.',
    'Box "{key}" has {value}.',
    'We store {value} in "{key}".',
)
_QUESTIONS = (
    'What does "{key}" hold?',
    'Give the value of "{key}".',
    'What is "{key}" set to?',
    'What has box "{key}"?',
    'Which value is in "{key}"?',
)


class RecallEnvironment:
    """A list of `lines` named values and a question about one of them."""

    name = "recall"
    verifier = "math"

    def __init__(self, lines: int = 16) -> None:
        self.lines = min(lines, len(_KEYS))

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        return [self._task(split, seed, index) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", "gold": task.gold["answer"]}

    def _task(self, split: Split, seed: int, index: int) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        line, question = rng.choice(split_grid(len(_LINES), len(_QUESTIONS), split))
        keys = rng.sample(_KEYS, self.lines)
        values = {key: rng.randint(10, 99) for key in keys}
        key = rng.choice(keys)
        lines = " ".join(_LINES[line].format(key=k, value=v) for k, v in values.items())
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"line {line}, question {question}",
            messages=[{"role": "user", "content": f"{lines} {_QUESTIONS[question].format(key=key)}"}],
            gold={"answer": str(values[key])},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": f'"{key}": {values[key]}',
                    "content": f"The answer is {values[key]}.",
                }
            ],
        )
