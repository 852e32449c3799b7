"""Saying again what was said: names in quotes, word for word.

A model from scratch has to learn to copy before it can call a tool with a name that it never saw;
here every word of the answer is one to copy, so it learns that in the fewest tokens.
"""

import random

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World
from alloy.environments.workplace_company import NAME_WORDS, PEOPLE
from alloy.verify.verdict import Verdict

_ASKS = (
    "Repeat {items}.",
    "Say {items} again.",
    "Write down {items}.",
    "Copy {items} here.",
    "Give back {items}.",
)
_JOINS = (", ", " and ", " then ", " or ", " with ")


class RepeatEnvironment:
    """One to `most` names of one to `longest` words; the answer is the same names in the same order.

    Args:
        longest: words of a name; in a long one every word but the first follows from the word before it.
        words: of each of the workplace's lists of words; all when None.
    """

    name = "repeat"

    def __init__(self, most: int = 4, longest: int = 2, words: int | None = None) -> None:
        self.most, self.longest = most, longest
        lists = (PEOPLE, *(words for table in NAME_WORDS.values() for words in table))
        self.words = [word for one in lists for word in one[:words]]

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        frames = split_grid(len(_ASKS), len(_JOINS), split)
        return [self._task(split, seed, index, frames) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        said = str(completion[-1].get("content") or "").strip()
        return Verdict(float(said == task.gold["answer"]))

    def _task(self, split: Split, seed: int, index: int, frames: list[tuple[int, int]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        ask, join = rng.choice(frames)
        names = [
            " ".join(rng.sample(self.words, rng.randint(1, self.longest)))
            for _ in range(rng.randint(1, self.most))
        ]
        items = _JOINS[join].join(f'"{name}"' for name in names)
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"ask {ask}, join {join}",
            messages=[{"role": "user", "content": _ASKS[ask].format(items=items)}],
            gold={"answer": items},
            demonstration=[{"role": "assistant", "thinking": f"{len(names)} names", "content": items}],
        )
