"""Sources to rows: conversations with where they came from."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from alloy.data.config import SourceConfig
from alloy.data.shapes import SHAPES, Conversation, RowError, Shape, messages, shape_of
from alloy.environments.registry import make_environment
from alloy.environments.task import Message, Task
from alloy.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn from.

    Attributes:
        thinking: False teaches it with thinking off.
        where: file and line, or the task's id; for messages about it.
        key: what its own random draws depend on, wherever the file lies; `where` when empty.
        budget: tokens that its thinking was cut to.
    """

    messages: list[Message]
    tools: list[dict[str, Any]]
    thinking: bool
    where: str
    key: str = ""
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a source as they stand there: lines, tasks, or a table of Arrow's.

    Chunks are what travels to another process; `raw_rows` and `to_row` make rows of them there.
    """

    first: int
    """The number of its first row, from 1 (lines of a file) or 0."""
    raw: Any
    keep: Mapping[str, str | list[str]] = field(default_factory=dict)
    """The values that a row's columns must have; the numbers of those that have others are passed over."""


def chunks(source: SourceConfig, seed: int, size: int = 512) -> Iterator[Chunk]:
    """A source in portions of about `size` rows, in its own order; `keep` passes rows over when they are made.

    Raises:
        InputError: a missing or unreadable file, or no such dataset.
    """
    for chunk in _all(source, seed, size):
        yield replace(chunk, keep=source.keep) if source.keep else chunk


def _all(source: SourceConfig, seed: int, size: int) -> Iterator[Chunk]:
    if source.environment is not None:
        tasks = make_environment(source.environment, source.options).tasks("train", source.rows or 0, seed)
        for first in range(0, len(tasks), size):
            yield Chunk(first, tasks[first : first + size])
    elif source.path is not None and source.path.suffix == ".parquet":
        yield from _limited(_parquet(source.path, size), source.rows)
    elif source.path is not None:
        lines, first = islice(_lines(source.path), source.rows), 1
        while batch := list(islice(lines, size)):
            yield Chunk(first, batch)
            first += len(batch)
    elif source.hub is not None:
        yield from _limited(_hub(source, size), source.rows)


def raw_rows(chunk: Chunk) -> Iterator[tuple[int, Any]]:
    """Each row's number, and the row as it stands there: a task, an object, or a line that is none."""
    raw = chunk.raw if isinstance(chunk.raw, list) else _table_rows(chunk.raw)
    for number, item in enumerate(raw, chunk.first):
        if item == b"":
            continue  # an empty line, often the last one, is no row
        try:
            row = _object(item) if isinstance(item, bytes) else item
        except RowError as error:
            yield number, error
            continue
        if not chunk.keep or _has(row, chunk.keep):
            yield number, row


def _has(row: Any, keep: Mapping[str, str | list[str]]) -> bool:
    return isinstance(row, dict) and all(
        row.get(column) in ([wanted] if isinstance(wanted, str) else wanted)
        for column, wanted in keep.items()
    )


def read_rows(source: SourceConfig, seed: int) -> Iterator[Row]:
    """The rows of a source that has no bad one, the same for the same seed.

    Raises:
        InputError: a missing file, or a bad row with where it stands.
    """
    for chunk in chunks(source, seed):
        for number, raw in raw_rows(chunk):
            try:
                row = to_row(raw, source, number)
            except RowError as error:
                raise InputError(f"{place(source, number)}: {error}. Correct or remove the row.") from None
            yield row


def place(source: SourceConfig, number: int) -> str:
    """Where row `number` of a source stands, for people."""
    if source.path is not None and source.path.suffix != ".parquet":
        return f"{source.path}:{number}"
    return f"{source.name}/{source.split}:{number}" if source.hub else f"{source.name}:{number}"


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL or JSONL.gz file.

    Raises:
        InputError: no such file, or a line that is not a JSON object.
    """
    for number, line in enumerate(_lines(path), 1):
        try:
            if line:
                yield _object(line)
        except RowError as error:
            raise InputError(f"{path}:{number}: {error}. One object a line is needed.") from None


def read_turns(turns: list[Any], where: str) -> list[Message]:
    """Turns of a file in our shape.

    Raises:
        InputError: an unknown role, or a part of the wrong type.
    """
    try:
        return messages({"messages": turns}).messages
    except RowError as error:
        raise InputError(f"{where}: {error}. Correct or remove the row.") from None


def to_row(raw: Any, source: SourceConfig, number: int) -> Row:
    """A row as it stands in its source, as a conversation.

    Raises:
        RowError: what is wrong with it.
    """
    if isinstance(raw, RowError):
        raise raw
    if isinstance(raw, Task):
        if not raw.demonstration:
            raise InputError(f"{raw.id}: this environment has no demonstrations. Take it out of the sources.")
        found, where = Conversation([*raw.messages, *raw.demonstration], raw.tools), raw.id
        key = raw.id
    else:
        row = {ours: raw.get(theirs) for ours, theirs in source.columns.items()} | {
            key: value for key, value in raw.items() if key not in source.columns
        }
        shape: Shape = shape_of(row, source.columns) if source.shape == "auto" else SHAPES[source.shape]
        found, where = shape(row), place(source, number)
        key = f"{Path(source.name).name}:{number}"
    thought = any(turn.get("thinking") for turn in found.messages)
    thinking = thought if found.thinking is None else found.thinking
    return Row(found.messages, found.tools, thinking and source.thinking, where, key)


def _object(line: bytes) -> dict[str, Any]:
    try:
        # Given bytes, `json` would guess an encoding.
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError(f"no valid UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise RowError(f"{type(row).__name__} where an object is needed")
    return row


def _lines(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `path` to a JSONL or Parquet file.")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            for line in stream:
                yield line.rstrip(b"\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not readable as gzip ({error}). Copy the file again.") from None


def _parquet(path: Path, size: int) -> Iterator[Chunk]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `path` to a JSONL or Parquet file.")
    try:
        file, first = pq.ParquetFile(path), 0
        for batch in file.iter_batches(size):
            yield Chunk(first, batch)
            first += batch.num_rows
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise InputError(f"{path}: not readable as Parquet ({error}). Copy the file again.") from None


def _hub(source: SourceConfig, size: int) -> Iterator[Chunk]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(
            source.hub,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
        )
    except Exception as error:  # the Hub has many ways to say no
        raise InputError(
            f"{source.hub}: the dataset cannot be loaded ({error}). Correct hub, subset, split or revision."
        ) from None
    first = 0
    for table in dataset.with_format("arrow").iter(size):
        yield Chunk(first, table)
        first += table.num_rows


def _limited(found: Iterator[Chunk], rows: int | None) -> Iterator[Chunk]:
    for chunk in found:
        if rows is not None and chunk.first + chunk.raw.num_rows > rows:
            if chunk.first < rows:
                yield Chunk(chunk.first, chunk.raw.slice(0, rows - chunk.first))
            return
        yield chunk


def _table_rows(table: Any) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        yield _without_nulls(row)


def _without_nulls(value: Any) -> Any:
    # A column of structs has every key in every row: what a row did not say is null there.
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
