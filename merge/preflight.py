"""What must agree between two parents, checked before a byte is written.

A difference is an error that names it. Where either side could be kept (a config value, the chat
template, a special token), naming a donor settles it; what shapes or means the weights themselves
(architecture, tensor names, shapes, vocabulary) nothing settles.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloy.errors import InputError
from merge.checkpoint import FLOAT_BYTES, Checkpoint, Entry, Role, same_bytes
from merge.match import match_rows
from merge.vocabulary import compare_tokenizers

_SAID_AT_ONCE = 3
"""Names of one kind of difference in a message; the rest is counted."""
_NOT_COMPARED = {
    "_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "_attn_implementation",
    "architectures", "model_type", "quantization_config", "tie_word_embeddings",
}  # fmt: skip
_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
)
_BUFFERS = ("inv_freq", "position_ids", "masked_bias", "running_mean", "running_var")
_QUANTISED_PARTS = (
    "qweight",
    "qzeros",
    "g_idx",
    "absmax",
    "quant_map",
    "weight_scale",
    "weight_scale_inv",
    "SCB",
)
_DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
DTYPES = {name: code for code, name in _DTYPE_NAMES.items()}


@dataclass(frozen=True)
class Pair:
    """One tensor of the result and where its two sources lie."""

    name: str
    reasoning: Entry
    chat: Entry
    dtype: str
    """Of the result, as safetensors names it."""
    more: tuple[Entry, ...] = ()
    """Of merges of more than two: the others, the base last where there is one."""

    @property
    def size(self) -> int:
        """Bytes of the result."""
        if not self.reasoning.is_float:
            return self.reasoning.size
        return self.reasoning.size // FLOAT_BYTES[self.reasoning.dtype] * FLOAT_BYTES[self.dtype]


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


@dataclass
class _Findings:
    """What the checks found; a soft difference is an error unless the user named a donor."""

    donor: Role | None
    ours: Role
    theirs: Role
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def hard(self, difference: str, remedy: str) -> None:
        self.errors.append(f"{difference}. {remedy}")

    def soft(self, difference: str) -> None:
        if self.donor is None:
            self.hard(difference, f"Choose whose to keep: --donor {self.ours} or --donor {self.theirs}.")
        else:
            self.notes.append(f"{difference}; {self.donor}'s is kept.")


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
    found = _Findings(donor, reasoning.role, chat.role)
    _compare_architectures(reasoning, chat, found)
    head = _head(reasoning, chat)
    first, second, tied = _share_heads(reasoning, chat, head)
    if match_tokens:
        keeper, other = (second, first) if donor == chat.role else (first, second)
        parents = (chat, reasoning) if donor == chat.role else (reasoning, chat)
        tables = [name for name in keeper if name.endswith((*_EMBEDDINGS, *_HEADS))]
        found.notes += match_rows(keeper, other, *parents, tables)
    pairs = _pair_tensors(first, second, DTYPES[dtype] if dtype else None, found)
    _compare_configs(reasoning.config, chat.config, found)
    compare_tokenizers(reasoning, chat, found.hard, found.soft, found.notes.append, matched=match_tokens)
    _compare_generation(reasoning, chat, found)
    if found.errors:
        raise InputError("\n".join(found.errors))
    kept = chat if donor == chat.role else reasoning
    config = dict(kept.config)
    if tied is not None and tied != _is_tied(kept, head):
        config |= _say_tied(config, tied)
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


def _compare_architectures(reasoning: Checkpoint, chat: Checkpoint, found: _Findings) -> None:
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


def _compare_configs(ours: dict[str, Any], theirs: dict[str, Any], found: _Findings) -> None:
    for key, mine, other in _differences(ours, theirs):
        if key.split(".")[-1] not in _NOT_COMPARED:
            found.soft(f"config.json: {key} is {mine!r} in {found.ours} and {other!r} in {found.theirs}")


def _compare_generation(reasoning: Checkpoint, chat: Checkpoint, found: _Findings) -> None:
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


def _head(reasoning: Checkpoint, chat: Checkpoint) -> str:
    """The name of the output head's weights, "" where neither stores any."""
    names = sorted(reasoning.entries.keys() | chat.entries.keys())
    return next((name for name in names if name.endswith(_HEADS)), "")


def _share_heads(
    reasoning: Checkpoint, chat: Checkpoint, head: str
) -> tuple[dict[str, Entry], dict[str, Entry], bool | None]:
    """Both parents' tensors where one ties its head to the embedding and the other does not.

    A tied head is its embedding, so the tying parent takes part with that; the result is tied only if
    both are.

    Returns: the tensors, and whether the result is tied (None: as the config says).
    """
    first, second = dict(reasoning.entries), dict(chat.entries)
    if not head:
        return first, second, None
    tied = [_is_tied(parent, head) for parent in (reasoning, chat)]
    for entries, own in ((first, tied[0]), (second, tied[1])):
        if own and all(tied):
            entries.pop(head, None)
        elif own:
            entries[head] = entries[str(_embedding(entries))]
    return first, second, all(tied)


def _is_tied(parent: Checkpoint, head: str) -> bool:
    """Whether the head is the embedding: the config says so and no other weights are stored for it."""
    text = parent.config.get("text_config")
    stored = parent.entries.get(head)
    says = parent.config.get("tie_word_embeddings", (text or {}).get("tie_word_embeddings", stored is None))
    embedding = _embedding(parent.entries)
    if not says or embedding is None:
        return False
    return stored is None or same_bytes(stored, parent.entries[embedding])


def _say_tied(config: dict[str, Any], tied: bool) -> dict[str, Any]:
    text = config.get("text_config")
    nested = {"text_config": {**text, "tie_word_embeddings": tied}} if isinstance(text, dict) else {}
    return {"tie_word_embeddings": tied, **nested}


def _embedding(entries: dict[str, Entry]) -> str | None:
    names = [name for name in entries if name.endswith(_EMBEDDINGS) and "position" not in name]
    return names[0] if len(names) == 1 else None


def _pair_tensors(
    first: dict[str, Entry], second: dict[str, Entry], dtype: str | None, found: _Findings
) -> list[Pair]:
    _compare_names(first, second, found)
    shared = [name for name in first if name in second]
    shapes = [name for name in shared if first[name].shape != second[name].shape]
    _say_some(
        shapes,
        lambda name: (
            f"{name} is {list(first[name].shape)} in {found.ours} and {list(second[name].shape)} in {found.theirs}"
        ),
        "Shapes must agree: merge descendants of one model, with one vocabulary.",
        found,
    )
    pairs = [_pair(name, first[name], second[name], dtype, found) for name in shared if name not in shapes]
    mixed = [pair.name for pair in pairs if pair.dtype == ""]
    _say_some(
        mixed,
        lambda name: (
            f"{name} is {_dtype(first[name])} in {found.ours} and {_dtype(second[name])} in {found.theirs}"
        ),
        "Choose the result's: --dtype bfloat16 (or float32, ...), or a donor.",
        found,
    )
    return pairs


def _compare_names(first: dict[str, Entry], second: dict[str, Entry], found: _Findings) -> None:
    for role, ours, theirs in ((found.ours, first, second), (found.theirs, second, first)):
        _say_some(
            [name for name in ours if name not in theirs],
            lambda name, role=role: f"{name} is only in {role}",  # type: ignore[misc]
            "Both parents need the same tensors: merge descendants of one model.",
            found,
        )


def _say_some(names: list[str], say: Callable[[str], str], remedy: str, found: _Findings) -> None:
    if names:
        rest = f" (and {len(names) - _SAID_AT_ONCE} more)" if len(names) > _SAID_AT_ONCE else ""
        found.hard("; ".join(say(name) for name in names[:_SAID_AT_ONCE]) + rest, remedy)


def _pair(name: str, ours: Entry, theirs: Entry, dtype: str | None, found: _Findings) -> Pair:
    """One tensor's pair; its dtype is "" where nobody has said what two different ones become."""
    if not (ours.is_float and theirs.is_float) or name.endswith(_QUANTISED_PARTS):
        _check_not_weights(name, ours, theirs, found)
        return Pair(name, ours, theirs, ours.dtype)
    if name.endswith(_BUFFERS) and not same_bytes(ours, theirs):
        found.hard(
            f"{name} is a buffer and differs between {found.ours} and {found.theirs}",
            "Buffers are computed, not trained: merge descendants of one model.",
        )
    if ours.dtype == theirs.dtype:
        return Pair(name, ours, theirs, dtype or ours.dtype)
    donors = {found.ours: ours.dtype, found.theirs: theirs.dtype, None: ""}.get(found.donor, "")
    return Pair(name, ours, theirs, dtype or donors)


def _check_not_weights(name: str, ours: Entry, theirs: Entry, found: _Findings) -> None:
    """Integers are taken over where they are equal (a mask, a count); quantised weights never are."""
    packed = name.endswith(_QUANTISED_PARTS) or any(
        entry.dtype.startswith(("F8", "F4", "F6")) for entry in (ours, theirs)
    )
    if packed:
        found.hard(
            f"{name} ({ours.dtype}) is part of a quantised weight",
            "Name the checkpoint it was made from, or save it dequantised.",
        )
    elif not same_bytes(ours, theirs):
        found.hard(
            f"{name} is {ours.dtype} in {found.ours} and {theirs.dtype} in {found.theirs}, and its values differ",
            "Only float weights can be interpolated; integers must be equal.",
        )


def _dtype(entry: Entry) -> str:
    return _DTYPE_NAMES.get(entry.dtype, entry.dtype)
