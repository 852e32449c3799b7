"""What both sides of `bench.gpu`'s GRPO are rewarded for: a coin that falls by the completion's own text.

A model of random weights solves nothing; groups whose rewards are all equal would be no work at all.
"""

import zlib
from typing import Any

from alloy.environments.task import Message, Task
from alloy.verify.verdict import Verdict


def coin(text: str) -> float:
    return float(zlib.crc32(text.encode()) & 1)


def rewards(completions: list[str], **_: Any) -> list[float]:
    """As a reward function of TRL's."""
    return [coin(text) for text in completions]


class CoinEnvironment:
    """The same as an environment of Alloy's."""

    name = "coin"

    def tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return [
            Task(f"coin/{split}/{n}", self.name, str(n), [{"role": "user", "content": f"{seed} and {n}"}])
            for n in range(count)
        ]

    def open(self, task: Task) -> None:
        return None

    def judge(self, task: Task, completion: list[Message], world: Any) -> Verdict:
        return Verdict(coin(str(completion[-1].get("content"))))
