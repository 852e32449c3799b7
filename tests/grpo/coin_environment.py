"""An environment of the user's own, named `coin_environment:CoinEnvironment`: won by chance, and learnable.

A policy that says nothing of the task wins where its text has one of the task's letters; `odds` many of
the tasks ask for letters that nearly every text has.
"""

from typing import Any

from alloy.environments.task import Message, Task
from alloy.verify.verdict import Verdict


class CoinEnvironment:
    name = "coin"

    def __init__(self, letters: str = "aeiou", broken_every: int = 0) -> None:
        self.letters, self.broken_every = letters, broken_every

    def tasks(self, split: str, count: int, seed: int) -> list[Task]:
        def message(n: int) -> Message:
            return {"role": "user", "content": f"Say {self.letters[n % len(self.letters)]}."}

        return [
            Task(f"coin/{split}/{n}", self.name, str(n), [message(n)], gold={"n": n, "letter": self.letters[n % len(self.letters)]})
            for n in range(count)
        ]  # fmt: skip

    def open(self, task: Task) -> None:
        return None

    def judge(self, task: Task, completion: list[Message], world: Any) -> Verdict:
        if self.broken_every and task.gold["n"] % self.broken_every == 0:
            return Verdict(None, "error", "broken on purpose")
        return Verdict(float(task.gold["letter"] in str(completion[-1].get("content"))))
