"""Sources to rows: conversations with where they came from."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

    numbers: Sequence[int]
    """Of its rows in the source, where lines of a file count from 1 and all else from 0."""
    raw: Any


def chunks(source: SourceConfig, seed: int, size: int = 512) -> Iterator[Chunk]:
    """A source in portions of at most `size` rows, in its own order: of those that `keep` leaves the first `rows`.

    Raises:
        InputError: a missing or unreadable file, no such dataset, or rows of which `keep` leaves none.
    """
    found = _numbered(_parts(source, seed, size), first=1 if _is_lines(source) else 0)
    if source.keep:
        found = _kept(found, source.keep, source.name)
    left = source.rows
    for chunk in found:
        yield Chunk(chunk.numbers[:left], chunk.raw[:left])
        if left is not None and (left := left - len(chunk.numbers)) <= 0:
            return


def _is_lines(source: SourceConfig) -> bool:
    return source.path is not None and source.path.suffix != ".parquet"


def _parts(source: SourceConfig, seed: int, size: int) -> Iterator[Any]:
    if source.environment is not None:
        tasks = make_environment(source.environment, source.options).tasks("train", source.rows or 0, seed)
        for first in range(0, len(tasks), size):
            yield tasks[first : first + size]
    elif _is_lines(source):
        assert source.path is not None
        lines = _lines(source.path)
        while batch := list(islice(lines, size)):
            yield batch
    elif source.path is not None:
        yield from _parquet(source.path, size)
    elif source.hub is not None:
        yield from _hub(source, size)


def _numbered(parts: Iterator[Any], first: int) -> Iterator[Chunk]:
    for raw in parts:
        yield Chunk(range(first, first + len(raw)), raw)
        first += len(raw)


def raw_rows(chunk: Chunk) -> Iterator[tuple[int, Any]]:
    """Each row's number, and the row as it stands there: a task, an object, or a line that is none."""
    raw = chunk.raw if isinstance(chunk.raw, list) else _table_rows(chunk.raw)
    for number, item in zip(chunk.numbers, raw, strict=True):
        if item == b"":
            continue  # an empty line, often the last one, is no row
        try:
            yield number, _object(item) if isinstance(item, bytes) else item
        except RowError as error:
            yield number, error


def _kept(found: Iterator[Chunk], keep: Mapping[str, str | list[str]], name: str) -> Iterator[Chunk]:
    """The rows whose columns have these values, and the bad ones, which are told of later.

    Raises:
        InputError: there are good rows, and none is left.
    """
    wanted = {column: [value] if isinstance(value, str) else value for column, value in keep.items()}
    seen: dict[str, dict[str, None]] = {column: {} for column in keep}
    rows, any_left = 0, False
    for chunk in found:
        places = []
        for place, row in _only(chunk, wanted):
            if isinstance(row, RowError):
                places.append(place)
                continue
            rows += 1
            for column in wanted:
                if row.get(column) is not None and len(seen[column]) < 5:
                    seen[column].setdefault(repr(row[column])[:40])
            if all(row.get(column) in values for column, values in wanted.items()):
                places.append(place)
                any_left = True
        if places:
            raw = chunk.raw
            left = [raw[place] for place in places] if isinstance(raw, list) else raw.take(places)
            yield Chunk([chunk.numbers[place] for place in places], left)
    if rows and not any_left:
        absent = [column for column in keep if not seen[column]]
        if absent:
            raise InputError(f"{name}: keep: no row has the column {absent[0]!r}. Correct `keep`.")
        there = "; ".join(f"{column}: {', '.join(values)}" for column, values in seen.items())
        raise InputError(f"{name}: keep: none of {rows} rows has {keep}. Correct `keep`: some have {there}.")


def _only(chunk: Chunk, columns: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """A chunk's rows by their places in it; of a table nothing but these columns is read."""
    if isinstance(chunk.raw, list):
        yield from raw_rows(Chunk(range(len(chunk.raw)), chunk.raw))
    else:
        there = [column for column in columns if column in chunk.raw.schema.names]
        rows = chunk.raw.select(there).to_pylist() if there else [{}] * len(chunk.raw)
        yield from enumerate(rows)


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


def _parquet(path: Path, size: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `path` to a JSONL or Parquet file.")
    try:
        yield from pq.ParquetFile(path).iter_batches(size)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise InputError(f"{path}: not readable as Parquet ({error}). Copy the file again.") from None


def _hub(source: SourceConfig, size: int) -> Iterator[Any]:
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
    yield from dataset.with_format("arrow").iter(size)


def _table_rows(table: Any) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        yield _without_nulls(row)


def _without_nulls(value: Any) -> Any:
    # A column of structs has every key in every row: what a row did not say is null there.
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
