"""Tasks of Reasoning Gym, judged by its own scorers, with the thinking written by us step by step.

Its generators have no splits, so we make them: a task belongs to a split by its structure (the pattern
of an expression, the unknown's name, the word, the animals), and no structure is in two splits.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alloy.environments.phrasing import seed_of, split_templates
from alloy.environments.reasoning_gym_tasks_steps import KINDS
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

_CLASSES = 5
"""That structures are dealt into; three of them are for training."""
_SIZE = 1_000_000_000
"""Of a generator, more than anyone draws."""
_MAX_DRAWS = 2_000
"""For one task, until its structure is of the split that is wanted."""


class ReasoningGymEnvironment:
    """Tasks of several of Reasoning Gym's generators in turn.

    Args:
        datasets: names of generators with settings that replace ours, which are easy enough for a
            small model; a list of names takes ours as they are.
    """

    name = "reasoning_gym"
    verifier = "reasoning_gym"
    thinking_mark = "="
    """A step of the worked thinking: in an answer it is thinking that went on."""

    def __init__(
        self,
        datasets: Sequence[str] | Mapping[str, Mapping[str, Any] | None] = ("chain_sum", "leg_counting"),
    ) -> None:
        given = datasets if isinstance(datasets, Mapping) else dict.fromkeys(datasets)
        unknown = [dataset for dataset in given if dataset not in KINDS]
        if unknown or not given:
            raise InputError(f"datasets = {list(given)!r}: take some of {', '.join(KINDS)}.")
        self.datasets = {
            dataset: {**KINDS[dataset].settings, **(own or {})} for dataset, own in given.items()
        }
        for dataset in self.datasets:
            self._entries(dataset, 0)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        streams = [self._stream(dataset, split, seed) for dataset in self.datasets]
        return [
            self._task(f"{self.name}/{split}/{seed}/{index}", *next(streams[index % len(streams)]))
            for index in range(count)
        ]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", **task.gold}

    def _stream(self, dataset: str, split: Split, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The generator's entries of a split, without end."""
        wanted = set(split_templates(range(_CLASSES), split))
        entries = self._entries(dataset, zlib.crc32(seed_of(dataset, split, seed, 0).encode()) % 2**31)
        number = passed = 0
        while passed < _MAX_DRAWS:
            entry = entries[number]
            number, passed = number + 1, passed + 1
            structure = KINDS[dataset].structure(entry["metadata"])
            if zlib.crc32(structure.encode()) % _CLASSES in wanted:
                yield dataset, entry
                passed = 0
        raise InputError(
            f"datasets.{dataset}: none of {_MAX_DRAWS} entries has a structure of the {split} split. "
            "Widen its settings."
        )

    def _entries(self, dataset: str, seed: int) -> Any:
        """The generator, indexed by number.

        Raises:
            InputError: a setting that it does not take.
        """
        from reasoning_gym.factory import DATASETS

        cls, config = DATASETS[dataset]
        try:
            return cls(config=config(seed=seed, size=_SIZE, **self.datasets[dataset]))
        except (TypeError, AssertionError) as error:
            raise InputError(f"datasets.{dataset}: {error}. Mend its settings.") from None

    def _task(self, name: str, dataset: str, entry: dict[str, Any]) -> Task:
        kind = KINDS[dataset]
        return Task(
            id=name,
            environment=self.name,
            template=f"{dataset}: {kind.structure(entry['metadata'])}",
            messages=[{"role": "user", "content": entry["question"].strip()}],
            gold={"dataset": dataset, "entry": entry},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": "\n".join(kind.steps(entry["metadata"])),
                    "content": f"The answer is {entry['answer']}.",
                }
            ],
        )
