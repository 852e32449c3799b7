"""Merges by the other methods: any number of models, and a base where the method has one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from alloy.errors import InputError
from merge.blender import Blend
from merge.card import methods_card
from merge.checkpoint import Checkpoint, Entry, open_checkpoints
from merge.methods import METHODS, Facts, Part, check_options, needs_base, swept_options
from merge.mixture import MAX_SHARD_BYTES, MergeReport, Mixture, Setting, refuse
from merge.pairs import Pair
from merge.preflight import Plan, preflight
from merge.publish import Progress
from merge.weights import Files, Values, read_values


class MethodMixture(Mixture):
    """Models, and a base where the method has one, at any value of one of the method's options.

    Args:
        method: a name in `merge.methods.METHODS`; `options` are its keyword arguments.
        base: what the models were trained from.
        donor: the role of a parent: whose config, tokenizer and template to keep.
        over: the option whose value is the setting, a number; "" where all are given.
    Raises:
        InputError: the parents do not fit, an option that makes no sense, a base that is missing or not used.
    """

    def __init__(
        self,
        method: str,
        options: Mapping[str, Any],
        models: Sequence[Checkpoint],
        base: Checkpoint | None,
        *,
        donor: str | None = None,
        dtype: str | None = None,
        over: str = "",
    ) -> None:
        if needs_base(method) != (base is not None):
            raise InputError(
                f"{method} needs a base: name what the models were trained from."
                if base is None
                else f"{method} has no base. Leave it out."
            )
        if over and over not in swept_options(method):
            known = ", ".join(swept_options(method)) or "none"
            raise InputError(
                f"{method} cannot be swept over {over!r}: choose an option of its own that is one number ({known})."
            )
        self.method, self.options, self.over = method, dict(options), over
        self.parents = [*models, *([base] if base else [])]
        self.has_base = base is not None
        self.asked = {"donor": donor, "dtype": dtype}
        if not over:
            self._options_at(None)
        if len(self.parents) < 2:
            raise InputError(f"{method} needs two models at least.")
        known_roles = [parent.role for parent in self.parents]
        if donor is not None and donor not in known_roles:
            raise InputError(f"donor {donor}: choose from {', '.join(known_roles)}.")
        self.plan = plan_of(self.parents, donor, dtype)

    def _options_at(self, setting: Setting) -> dict[str, Any]:
        options = {**self.options, self.over: setting} if self.over else self.options
        try:
            check_options(self.method, options, len(self.parents) - self.has_base)
        except ValueError as error:
            raise refuse(error) from None
        return options

    def blend_at(self, setting: Setting) -> Blend:
        return blend_of(self.method, self._options_at(setting), self.has_base)

    def request_at(self, setting: Setting) -> dict[str, Any]:
        options = self._options_at(setting)
        return {"method": self.method, "options": options, "parents": self.fingerprints, **self.asked}

    def card_at(self, setting: Setting, shards: dict[str, str], table: str) -> str:
        return methods_card(
            self.method, self._options_at(setting), self.parents, self.plan.notes, shards, table
        )


def merge_models(
    method: str,
    options: Mapping[str, Any],
    models: Sequence[str | Path],
    base: str | Path | None,
    out: Path,
    *,
    donor: str | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = lambda written, total: None,
) -> MergeReport:
    """Write the method's merge of the models as a Hugging Face folder.

    Args:
        models, base: run folders, model folders or adapters; `donor` is model-1, model-2, ... or base.
    Raises:
        InputError: as `MethodMixture` and `Mixture.write`.
    """
    started = time.monotonic()
    names = [f"model-{number}" for number, _ in enumerate(models, 1)]
    paths, roles = ([*models, base], [*names, "base"]) if base else (list(models), names)
    checkpoints = open_checkpoints(paths, roles)
    opened, under = checkpoints[: len(models)], checkpoints[-1] if base else None
    mixture = MethodMixture(method, options, opened, under, donor=donor, dtype=dtype)
    return mixture.write(None, out, max_shard_bytes=max_shard_bytes, progress=progress, started=started)


def plan_of(parents: Sequence[Checkpoint], donor: str | None, dtype: str | None) -> Plan:
    """The first parent beside every other, as one plan.

    Raises:
        InputError: two of them differ.
    """
    first, others = parents[0], parents[1:]
    plans = [preflight(first, other, donor=donor, dtype=dtype) for other in others]
    by_name = [{pair.name: pair for pair in plan.pairs} for plan in plans]
    for other, pairs in zip(others, by_name, strict=True):
        odd = sorted(pairs.keys() ^ by_name[0].keys())
        if odd:
            raise InputError(
                f"{odd[0]} is tied to the embedding in some of {first.role}, {others[0].role} and {other.role} "
                "and not in others. Save them with the same tie_word_embeddings."
            )
    keepers = {plan.donor.role: plan for plan in plans}
    kept = keepers.get(donor or first.role, plans[0])
    joined = [_joined([named[pair.name] for named in by_name]) for pair in plans[0].pairs]
    return replace(kept, pairs=joined, notes=list(dict.fromkeys(n for plan in plans for n in plan.notes)))


def _joined(pairs: list[Pair]) -> Pair:
    dtypes = {pair.dtype for pair in pairs}
    if len(dtypes) > 1:
        raise InputError(
            f"{pairs[0].name} would be {' and '.join(sorted(dtypes))}. Choose the result's: --dtype bfloat16."
        )
    return replace(pairs[0], more=tuple(pair.chat for pair in pairs[1:]))


def blend_of(method: str, options: dict[str, Any], has_base: bool) -> Blend:
    """The method as what becomes of a run of weights."""
    facts = Facts()

    def blend(files: Files, pair: Pair, start: int, count: int) -> Values:
        entries = [pair.reasoning, pair.chat, *pair.more]
        places = [*range(len(entries) - 1), -1] if has_base else list(range(len(entries)))

        def part(entry: Entry, place: int) -> Part:
            def read(first: int, size: int) -> Values:
                return read_values(files, entry, first, size)

            return Part(pair.name, place, start, read(start, count), prod(entry.shape), read, facts)

        parts = [part(entry, place) for entry, place in zip(entries, places, strict=True)]
        function = METHODS[method]
        return function(parts[:-1], parts[-1], **options) if has_base else function(parts, **options)

    return blend
