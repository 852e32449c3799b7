"""What a suite asks, in portions: every completion with its own name, the same for every run of a config."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from alloy.environments.registry import Environments
from alloy.environments.task import Split, Task
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.lengths import fitted_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Asked:
    """One completion that is wanted.

    Attributes:
        item: its name: the task's, `#` and the sample's number, `@` and the budget or length, where there are several.
        sample: from 0.
        length: tokens of the prompt, where the suite sets them.
    """

    item: str
    task: Task
    sample: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Portion:
    """Completions that are made together: the same ones with the same seed, whenever they are made.

    Attributes:
        number: from 0 within the suite.
        budget: tokens of thinking of all of them.
    """

    number: int
    seed: int
    budget: int | None
    asked: list[Asked]


def portions(
    config: SuiteConfig,
    environments: Environments,
    tokenizer: "PreTrainedTokenizerBase",
    seed: int,
    portion_items: int,
) -> Iterator[Portion]:
    """A suite's completions, whole tasks to a portion.

    The tasks depend on the config alone (those of set lengths on the tokenizer, too), so every model is asked
    the same.
    """
    conditions: list[tuple[int | None, int | None]] = [(budget, None) for budget in config.budgets]
    if config.lengths:
        conditions = [(config.budgets[0], length) for length in config.lengths]
    number = 0
    for budget, length in conditions:
        tasks = _tasks(config, environments, tokenizer, length)
        mark = f"@{budget if length is None else length}" if len(conditions) > 1 else ""
        each = max(1, portion_items // config.samples)
        for place, start in enumerate(range(0, len(tasks), each)):
            asked = [
                Asked(f"{task.id}{f'#{sample}' if config.samples > 1 else ''}{mark}", task, sample, length)
                for task in tasks[start : start + each]
                for sample in range(config.samples)
            ]
            # One portion draws as the suite did before there were portions.
            yield Portion(
                number, seed if place == 0 else zlib.crc32(f"{seed}/{place}".encode()), budget, asked
            )
            number += 1


def _tasks(
    config: SuiteConfig, environments: Environments, tokenizer: "PreTrainedTokenizerBase", length: int | None
) -> list[Task]:
    split, count = cast(Split, config.split), cast(int, config.items)
    if length is not None:
        return fitted_tasks(config, length, tokenizer)
    # None is what a benchmark takes for all that it has.
    return environments[config.environment].tasks(split, count, 0)
