"""Merges by the other methods: any number of models, and a base where the method has one."""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from alloy.errors import InputError
from merge.card import methods_card
from merge.checkpoint import Checkpoint, Entry, open_checkpoint
from merge.methods import METHODS, Facts, Part, check_options, needs_base
from merge.preflight import Pair, Plan, preflight
from merge.shard import Blend
from merge.stream import MAX_SHARD_BYTES, MergeReport, Progress, publish
from merge.weights import Files, Values, read_values


def merge_models(
    method: str,
    options: dict[str, Any],
    models: Sequence[str | Path],
    base: str | Path | None,
    out: Path,
    *,
    donor: str | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    replace_out: bool = False,
    progress: Progress = lambda written, total: None,
) -> MergeReport:
    """Write the method's merge of the models as a Hugging Face folder.

    Args:
        method: a name in `merge.methods.METHODS`; `options` are its keyword arguments.
        donor: model-1, model-2, ... or base: whose config, tokenizer and template to keep.
    Raises:
        InputError: as `merge_checkpoints`, an option that makes no sense, or a base that is missing or not
            used.
    """
    started = time.monotonic()
    if needs_base(method) != (base is not None):
        raise InputError(
            f"{method} needs a base: name it with --base."
            if base is None
            else f"{method} has no base. Leave --base out."
        )
    try:
        check_options(method, options, len(models))
    except ValueError as error:
        raise InputError(f"{error}.") from None
    parents = [open_checkpoint(path, f"model-{number}") for number, path in enumerate(models, 1)]
    if base is not None:
        parents.append(open_checkpoint(base, "base"))
    if len(parents) < 2:
        raise InputError(f"{method} needs two models at least.")
    known = [parent.role for parent in parents]
    if donor is not None and donor not in known:
        raise InputError(f"--donor {donor}: choose from {', '.join(known)}.")
    plan = plan_of(parents, donor, dtype)
    request = {
        "method": method,
        "options": options,
        "parents": {parent.role: parent.fingerprint for parent in parents},
        "donor": donor,
        "dtype": dtype,
    }

    def card(shards: dict[str, str]) -> str:
        return methods_card(method, options, parents, plan.notes, shards)

    resumed, shards = publish(
        plan,
        blend_of(method, options, base is not None),
        request,
        card,
        out,
        max_shard_bytes=max_shard_bytes,
        replace=replace_out,
        progress=progress,
    )
    return MergeReport(
        out=out,
        alpha=None,
        reasoning=parents[0].fingerprint,
        chat=parents[1].fingerprint,
        shards=shards,
        resumed=resumed,
        tensors=len(plan.pairs),
        bytes=plan.size,
        seconds=round(time.monotonic() - started, 3),
        notes=plan.notes,
    )


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
