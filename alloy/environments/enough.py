"""Whether files have as many rows as a recipe's stages ask for, found before the first of them starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from alloy.environments.registry import READS_FILES, make_environment
from alloy.environments.task import Split
from alloy.errors import InputError


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tasks that a config asks for.

    Attributes:
        place: of the setting, as errors tell it: `suites.math`.
        environment: its name.
        count: None for all that there are.
    """

    place: str
    environment: str
    options: Mapping[str, Any]
    split: str
    count: int | None


def refuse_too_few(wanted: Iterable[Wanted]) -> None:
    """Make the tasks that come from files of this machine once; what is on the Hub is left to its stage.

    Raises:
        InputError: fewer rows than are asked for, or a bad one.
    """
    for each in wanted:
        if each.environment not in READS_FILES or not _on_this_machine(each.options):
            continue
        try:
            environment = make_environment(each.environment, each.options)
            environment.tasks(cast(Split, each.split), cast(int, each.count), 0)
        except InputError as error:
            raise InputError(f"{each.place}: {error}") from None


def _on_this_machine(options: Mapping[str, Any]) -> bool:
    paths = options.get("paths")
    places = [options.get("path"), *(paths.values() if isinstance(paths, Mapping) else ())]
    named = [place.get("path") if isinstance(place, Mapping) else place for place in places if place]
    return all(isinstance(place, str | Path) and Path(place).exists() for place in named)
