"""Preference pairs from an environment or a source of rows, ready to be tokenised."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alloy.artifact import fingerprint_bytes
from alloy.data.config import SourceConfig
from alloy.data.preference_shapes import Preference, to_preference
from alloy.data.shapes import RowError
from alloy.data.sources import chunks, place, raw_rows
from alloy.environments.registry import make_environment
from alloy.errors import InputError
from rlhf.config import PreferenceConfig


@dataclass
class Preferences:
    """Pairs to train on, pairs that only measure, and what became of the source's rows.

    Attributes:
        counts: `rows`, `ties` (left out: they tell nothing), `rejected` (bad ones, left out).
    """

    training: list[Preference]
    held_out: list[Preference]
    counts: dict[str, int] = field(default_factory=dict)


def read_preferences(config: PreferenceConfig, seed: int) -> Preferences:
    """Pairs to train on and pairs that only measure; no prompt is in both.

    Raises:
        InputError: a missing file, more bad rows than are allowed, margins on some pairs only, or fewer
            pairs than asked for.
    """
    if config.environment is not None:
        training, held_out = (
            _from_environment(config, split, count or 0, seed)
            for split, count in (("train", config.pairs), ("validation", config.held_out))
        )
        return Preferences(training, held_out)
    counts = {"rows": 0, "ties": 0, "rejected": 0}
    source = config.source()
    found = list(_from_source(source, config, counts))
    held_out_source = config.held_out_source()
    if held_out_source is None:
        training, held_out = _parted(found, config.held_out, seed)
    else:
        held_out = list(_from_source(held_out_source, config, counts))[: config.held_out]
        measured = {_key(pair) for pair in held_out}
        training = [pair for pair in found if _key(pair) not in measured]
    _check_counts(config, source.name, len(found), training, held_out)
    return Preferences(training[: config.pairs], held_out, counts)


def _check_counts(
    config: PreferenceConfig, name: str, found: int, training: list[Preference], held_out: list[Preference]
) -> None:
    if len(held_out) < config.held_out or len(training) < (config.pairs or 1):
        raise InputError(
            f"{name}: {found} pairs, of which {len(training)} are left to train on beside {len(held_out)} held out "
            f"(no prompt is in both); data.pairs = {config.pairs or 'all'} and data.held_out = "
            f"{config.held_out}. Lower one of the two."
        )
    if config.margin_weight and len({pair.margin is None for pair in [*training, *held_out]}) > 1:
        raise InputError(
            f"{name}: some pairs have a margin and some have none. Give one to all or to none, or set "
            "data.margin_weight=0."
        )


def _from_environment(config: PreferenceConfig, split: str, count: int, seed: int) -> list[Preference]:
    environment: Any = make_environment(config.environment or "", config.options)
    if not hasattr(environment, "pairs"):
        raise InputError(f"data.environment: {config.environment!r} makes no preference pairs. Use 'chat'.")
    pairs = environment.pairs(split, count, seed, config.noise)
    return [Preference(pair.task.messages, pair.chosen, pair.rejected) for pair in pairs]


def _from_source(
    source: SourceConfig, config: PreferenceConfig, counts: dict[str, int]
) -> Iterator[Preference]:
    rows = 0
    bad: list[str] = []
    for chunk in chunks(source, 0):
        for number, raw in raw_rows(chunk):
            rows += 1
            try:
                pair = to_preference(raw, config.shape, config.columns)
            except RowError as error:
                bad.append(f"{place(source, number)}: {error}")
                continue
            if pair is None:
                counts["ties"] += 1
            else:
                yield pair
    counts["rows"] += rows
    counts["rejected"] += len(bad)
    if len(bad) > config.max_rejected_share * rows:
        raise InputError(
            f"{'; '.join(bad[:3])}. {len(bad)} of {rows} rows are bad, data.max_rejected_share = "
            f"{config.max_rejected_share:g} are allowed. Correct or remove them, or raise it."
        )


def _parted(found: list[Preference], held_out: int, seed: int) -> tuple[list[Preference], list[Preference]]:
    """Whole prompts, drawn by a hash of their own, until enough pairs are held out; the rest in its order."""
    prompts = dict.fromkeys(map(_key, found))
    measured: set[str] = set()
    counted = 0
    sizes: dict[str, int] = dict.fromkeys(prompts, 0)
    for pair in found:
        sizes[_key(pair)] += 1
    for prompt in sorted(prompts, key=lambda key: fingerprint_bytes(f"{seed}/{key}".encode())):
        if counted >= held_out:
            break
        measured.add(prompt)
        counted += sizes[prompt]
    return (
        [pair for pair in found if _key(pair) not in measured],
        [pair for pair in found if _key(pair) in measured][:held_out],
    )


def _key(pair: Preference) -> str:
    return json.dumps(pair.prompt, sort_keys=True, ensure_ascii=False)
