"""A Hugging Face model folder as named byte ranges: what its files say, before any weight is read."""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from alloy.artifact import Parent, resolve_parent
from alloy.errors import InputError

Role = str
"""What a parent is called: reasoning and chat, or model-1, model-2, ..., base."""

FLOAT_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
"""safetensors names of what can be interpolated, and bytes a weight."""
_OTHER_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8}
_COMPARED_AT_ONCE = 4 << 20

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """What a LoRA adapter adds to one tensor: scale * up @ down."""

    down: "Entry"
    """rank x inputs"""
    up: "Entry"
    """outputs x rank"""
    scale: float


@dataclass(frozen=True)
class Rows:
    """Rows of one tensor in the order of another's tokens."""

    where: tuple[int, ...]
    """Of every row its number in `there`, or -1: then it is that of `instead`."""
    there: "Entry"
    instead: "Entry"

    def source(self, number: int) -> "tuple[Entry, int]":
        row = self.where[number]
        return (self.instead, number) if row < 0 else (self.there, row)


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    file: Path
    dtype: str
    """As safetensors names it: BF16, F32, I64, ..."""
    shape: tuple[int, ...]
    start: int
    """Of its first byte in the file."""
    size: int
    """In bytes."""
    adapter: Adapter | None = None
    rows: Rows | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the file's own bytes are the tensor."""
        return self.adapter is None and self.rows is None

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_BYTES


@dataclass(frozen=True)
class Checkpoint:
    """One parent of a merge."""

    role: Role
    path: Path
    """As the user named it."""
    folder: Path
    """The model folder itself."""
    fingerprint: str
    config: dict[str, Any]
    entries: dict[str, Entry]

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None where there is none."""
        path = self.folder / name
        return read_json(path) if path.is_file() else None


def open_checkpoint(path: str | Path, role: Role) -> Checkpoint:
    """Read the headers of a run folder's model, or of a plain model folder.

    Raises:
        InputError: an unfinished run, no safetensors, a broken file, an adapter whose base is not there.
    """
    path = Path(path)
    if (path / ADAPTER).is_file():
        return open_adapted(path, role)
    return from_parent(resolve_parent(path, ("policy", "reward-model", "adapter"), role), role)


def open_checkpoints(paths: Sequence[str | Path], roles: Sequence[Role]) -> list[Checkpoint]:
    """As `open_checkpoint`, side by side: most of the time goes into reading and hashing the weights."""
    with ThreadPoolExecutor(len(paths)) as pool:
        opened = pool.map(open_checkpoint, paths, roles)
        # Numba and the machine code come from the disk meanwhile.
        from merge.compiled import load

        load()
        return list(opened)


def from_parent(parent: Parent, role: Role) -> Checkpoint:
    """As `open_checkpoint`, of a parent that is already resolved."""
    folder = parent.path
    if (folder / ADAPTER).is_file():
        return open_adapted(folder, role)
    if not (folder / "config.json").is_file():
        raise InputError(f"{role}: {folder} has no config.json. Name a Hugging Face model folder.")
    return Checkpoint(
        role=role,
        path=Path(parent.lineage.path),
        folder=folder,
        fingerprint=parent.lineage.fingerprint,
        config=read_json(folder / "config.json"),
        entries=_entries(folder, role),
    )


def open_adapted(path: Path, role: Role) -> Checkpoint:
    """A LoRA adapter's folder, as its base with the adapter in it."""
    from merge.adapter import open_adapter

    return open_adapter(path, role)


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}). Save the model again.") from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: a JSON object is expected, not a {type(value).__name__}. Save the model again."
        )
    return value


def _entries(folder: Path, role: Role) -> dict[str, Entry]:
    single = folder / "model.safetensors"
    if single.is_file():
        return read_header(single)
    if not (folder / INDEX).is_file():
        raise InputError(
            f"{role}: {folder} has neither model.safetensors nor {INDEX}. "
            "Save the model as safetensors (save_pretrained does)."
        )
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict):
        raise InputError(f"{folder / INDEX}: no weight_map in it. Save the model again.")
    headers = {}
    for file in sorted(set(where.values())):
        if not (folder / file).is_file():
            raise InputError(f"{folder / INDEX} names {file}, which is not there. Fetch the missing shard.")
        headers[file] = read_header(folder / file)
    missing = [name for name, file in where.items() if name not in headers[file]]
    if missing:
        raise InputError(
            f"{folder / where[missing[0]]}: {missing[0]} should be in it and is not. Fetch it again."
        )
    return {name: headers[file][name] for name, file in where.items()}


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file.

    Raises:
        InputError: not a safetensors file, cut short, or with ranges that make no sense.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        if length > size - 8:
            raise InputError(f"{path}: not a safetensors file, or cut short in its header. Fetch it again.")
        try:
            header = json.loads(stream.read(length))
            found = {
                name: _entry(path, fields, 8 + length)
                for name, fields in header.items()
                if name != "__metadata__"
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: its safetensors header is broken ({error}). Fetch it again.") from None
    end = max((entry.start + entry.size for entry in found.values()), default=8 + length)
    if end > size:
        raise InputError(f"{path}: {size} bytes, but its header speaks of {end}: cut short. Fetch it again.")
    return found


def _entry(path: Path, fields: dict[str, Any], data_start: int) -> Entry:
    start, end = fields["data_offsets"]
    shape = tuple(int(n) for n in fields["shape"])
    width = {**FLOAT_BYTES, **_OTHER_BYTES}.get(fields["dtype"])
    if start < 0 or end < start or (width is not None and end - start != width * prod(shape)):
        raise ValueError(f"bytes {start} to {end} for {fields['dtype']} {list(shape)}")
    return Entry(path, fields["dtype"], shape, data_start + start, end - start)


def same_bytes(first: Entry, second: Entry) -> bool:
    """Whether two tensors are equal bit for bit; a few megabytes are held at once."""
    if (first.dtype, first.shape) != (second.dtype, second.shape) or not (first.is_plain and second.is_plain):
        return False
    return all(ours == theirs for ours, theirs in zip(_portions(first), _portions(second), strict=True))


def _portions(entry: Entry) -> Iterator[bytes]:
    with entry.file.open("rb") as stream:
        for start in range(0, entry.size, _COMPARED_AT_ONCE):
            yield os.pread(stream.fileno(), min(_COMPARED_AT_ONCE, entry.size - start), entry.start + start)
