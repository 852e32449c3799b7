"""Preference pairs from an environment or a file, ready to be tokenised."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from alloy.data.sources import read_jsonl, read_turns
from alloy.environments.registry import make_environment
from alloy.environments.task import Message
from alloy.errors import InputError
from rlhf.config import PreferenceConfig


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one conversation, the preferred first."""

    prompt: list[Message]
    chosen: str
    rejected: str
    margin: float | None = None


def read_preferences(config: PreferenceConfig, seed: int) -> tuple[list[Preference], list[Preference]]:
    """Pairs to train on and pairs that only measure.

    Raises:
        InputError: a row without its fields, or fewer rows than asked for.
    """
    if config.environment is not None:
        return _from_environment(config, "train", config.pairs, seed), _from_environment(
            config, "validation", config.held_out, seed
        )
    rows = list(_from_file(config))
    wanted = config.pairs + config.held_out
    if len(rows) < wanted:
        raise InputError(
            f"{config.path}: {len(rows)} pairs, data.pairs + data.held_out = {wanted}. Lower one of the two."
        )
    if len({row.margin is None for row in rows}) > 1:
        raise InputError(
            f"{config.path}: some pairs have a margin and some have none. Give one to all or to none."
        )
    return rows[: config.pairs], rows[config.pairs : wanted]


def _from_environment(config: PreferenceConfig, split: str, count: int, seed: int) -> list[Preference]:
    environment: Any = make_environment(config.environment or "", config.options)
    if not hasattr(environment, "pairs"):
        raise InputError(f"data.environment: {config.environment!r} makes no preference pairs. Use 'chat'.")
    pairs = environment.pairs(split, count, seed, config.noise)
    return [Preference(pair.task.messages, pair.chosen, pair.rejected) for pair in pairs]


def _from_file(config: PreferenceConfig) -> Iterator[Preference]:
    assert config.path is not None
    for number, row in enumerate(read_jsonl(config.path), 1):
        missing = [key for key in ("prompt", "chosen", "rejected") if key not in row]
        if missing:
            raise InputError(f"{config.path}:{number}: no {' and no '.join(missing)}. Rename the columns.")
        where = f"{config.path}:{number}"
        chosen, rejected = (_answer(row[key], where) for key in ("chosen", "rejected"))
        yield Preference(_prompt(row["prompt"], where), chosen, rejected, _margin(row, where))


def _prompt(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list) and value:
        return read_turns(value, where)
    raise InputError(f"{where}: a prompt is a text or a list of turns, not {str(value)[:60]!r}.")


def _margin(row: dict[str, Any], where: str) -> float | None:
    margin = row.get("margin")
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        raise InputError(f"{where}: margin is {margin!r}, a number is needed.")
    return margin


def _answer(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if (
        isinstance(value, list)
        and value
        and isinstance(value[-1], dict)
        and isinstance(value[-1].get("content"), str)
    ):
        return str(value[-1]["content"])
    raise InputError(f"{where}: an answer is a text or a list of turns, not {str(value)[:60]!r}.")
