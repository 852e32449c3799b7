"""What must agree between two parents, checked before a byte is written.

A difference is an error that names it. Where either side could be kept (a config value, the chat
template, a special token), naming a donor settles it; what shapes or means the weights themselves
(architecture, tensor names, shapes, vocabulary) nothing settles.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.errors import InputError
from merge.checkpoint import Checkpoint, Role
from merge.findings import Findings
from merge.heads import EMBEDDINGS, HEADS, head_of, is_tied, say_tied, share_heads
from merge.match import match_rows
from merge.pairs import DTYPES, Pair, pair_tensors
from merge.vocabulary import compare_tokenizers

_NOT_COMPARED = {
    "_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "_attn_implementation",
    "architectures", "model_type", "quantization_config", "tie_word_embeddings",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A merge that may begin."""

    pairs: list[Pair]
    donor: Checkpoint
    config: dict[str, Any]
    """The config.json of the result."""
    notes: list[str]

    @property
    def size(self) -> int:
        return sum(pair.size for pair in self.pairs)


def preflight(
    reasoning: Checkpoint,
    chat: Checkpoint,
    *,
    donor: Role | None = None,
    dtype: str | None = None,
    match_tokens: bool = False,
) -> Plan:
    """Pair the parents' tensors, or say everything that stands in the way.

    Args:
        donor: whose config, tokenizer, template and generation config to keep where they differ;
            where they do not, reasoning's are taken.
        dtype: of every float tensor of the result (bfloat16, ...); needed where the parents' differ
            and no donor is named.
        match_tokens: bring the embeddings' and the head's rows of the other parent into the order of
            the donor's tokens; a token that only the donor has keeps the donor's row.
    Raises:
        InputError: one line a difference, each with its remedy.
    """
    found = Findings(donor, reasoning.role, chat.role)
    _compare_architectures(reasoning, chat, found)
    head = head_of(reasoning, chat)
    first, second, tied = share_heads(reasoning, chat, head)
    if match_tokens:
        keeper, other = (second, first) if donor == chat.role else (first, second)
        parents = (chat, reasoning) if donor == chat.role else (reasoning, chat)
        tables = [name for name in keeper if name.endswith((*EMBEDDINGS, *HEADS))]
        found.notes += match_rows(keeper, other, *parents, tables)
    pairs = pair_tensors(first, second, DTYPES[dtype] if dtype else None, found)
    _compare_configs(reasoning.config, chat.config, found)
    compare_tokenizers(reasoning, chat, found.hard, found.soft, found.notes.append, matched=match_tokens)
    _compare_generation(reasoning, chat, found)
    if found.errors:
        raise InputError("\n".join(found.errors))
    kept = chat if donor == chat.role else reasoning
    config = dict(kept.config)
    if tied is not None and tied != is_tied(kept, head):
        config |= say_tied(config, tied)
    if dtype:
        config["dtype"] = dtype
        config.pop("torch_dtype", None)
    return Plan(pairs, kept, config, found.notes)


def check_disk(folder: Path, size: int) -> None:
    """Refuse a merge that the disk cannot take.

    Args:
        folder: the output; need not exist.
        size: bytes still to be written.
    Raises:
        InputError: less is free.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < size:
        raise InputError(
            f"{folder}: the merge writes {size / 2**30:.2f} GiB, and {free / 2**30:.2f} GiB are free there. "
            "Free some, or name a folder on another disk."
        )


def _compare_architectures(reasoning: Checkpoint, chat: Checkpoint, found: Findings) -> None:
    for key in ("model_type", "architectures"):
        ours, theirs = reasoning.config.get(key), chat.config.get(key)
        if ours != theirs:
            found.hard(
                f"config.json: {key} is {ours!r} in {found.ours} and {theirs!r} in {found.theirs}",
                "Only descendants of one model can be interpolated: name two of them.",
            )
    for parent in (reasoning, chat):
        quantization = parent.config.get("quantization_config")
        if quantization:
            found.hard(
                f"{parent.role}: {parent.folder} is quantised ({quantization.get('quant_method', '?')})",
                "Name the checkpoint it was made from, or save it dequantised.",
            )


def _compare_configs(ours: dict[str, Any], theirs: dict[str, Any], found: Findings) -> None:
    for key, mine, other in _differences(ours, theirs):
        if key.split(".")[-1] not in _NOT_COMPARED:
            found.soft(f"config.json: {key} is {mine!r} in {found.ours} and {other!r} in {found.theirs}")


def _compare_generation(reasoning: Checkpoint, chat: Checkpoint, found: Findings) -> None:
    name = "generation_config.json"
    ours, theirs = reasoning.json(name), chat.json(name)
    if ours is None and theirs is None:
        found.notes.append(f"Neither parent has a {name}: merged without.")
    elif ours is None or theirs is None:
        found.soft(f"{name} is only in {found.theirs if ours is None else found.ours}")
    else:
        for key, mine, other in _differences(ours, theirs):
            if key.endswith("_token_id"):
                found.soft(f"{name}: {key} is {mine!r} in {found.ours} and {other!r} in {found.theirs}")
            elif key not in _NOT_COMPARED:
                keeper = found.donor or found.ours
                found.notes.append(
                    f"{name}: {key} is {mine!r} in {found.ours} and {other!r} in {found.theirs}; {keeper}'s is kept."
                )


def _differences(
    ours: dict[str, Any], theirs: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values; a missing key and null are the same."""
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from _differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            yield prefix + key, mine, other
