"""One safetensors file of the result, written while it is computed and hashed.

Threads read and blend pieces; this one hashes and writes them in order. The container is eight bytes
of header length, a JSON header, and the tensors' bytes one after another.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from blake3 import blake3

from alloy.errors import StageError
from merge.checkpoint import FLOAT_BYTES, Entry
from merge.interpolate import interpolate_into
from merge.preflight import Pair

TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_PIECE_WEIGHTS = 1 << 20
"""Weights a thread blends at once; with `_MOST_THREADS` this bounds the memory."""
_MOST_THREADS = 8


@dataclass(frozen=True)
class Shard:
    """One file of the result."""

    name: str
    pairs: list[Pair]

    @property
    def header(self) -> bytes:
        offsets, fields = 0, {}
        for pair in self.pairs:
            shape = list(pair.reasoning.shape)
            fields[pair.name] = {
                "dtype": pair.dtype,
                "shape": shape,
                "data_offsets": [offsets, offsets + pair.size],
            }
            offsets += pair.size
        text = json.dumps({"__metadata__": {"format": "pt"}, **fields}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        return len(self.header) + sum(pair.size for pair in self.pairs)


def into_shards(pairs: list[Pair], max_bytes: int) -> list[Shard]:
    """Tensors in the first parent's order; inside a file the widest first, so that each stays aligned."""
    groups: list[list[Pair]] = [[]]
    filled = 0
    for pair in pairs:
        if groups[-1] and filled + pair.size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(pair)
        filled += pair.size
    ordered = [sorted(group, key=lambda pair: -_width(pair)) for group in groups]
    if len(ordered) == 1:
        return [Shard("model.safetensors", ordered[0])]
    count = len(ordered)
    return [Shard(f"model-{k:05}-of-{count:05}.safetensors", group) for k, group in enumerate(ordered, 1)]


def _width(pair: Pair) -> int:
    return pair.size // max(1, prod(pair.reasoning.shape)) or FLOAT_BYTES.get(pair.dtype, 1)


@dataclass(frozen=True)
class _Piece:
    """A run of one tensor's weights."""

    pair: Pair
    start: int
    count: int


class _Slot:
    """The memory of one piece in flight; pages are taken only as far as they are used."""

    def __init__(self) -> None:
        widest = _PIECE_WEIGHTS * max(FLOAT_BYTES.values())
        self.reasoning, self.chat, self.out = (torch.empty(widest, dtype=torch.uint8) for _ in range(3))


class ShardWriter:
    """Writes shards one after another with the same threads and buffers."""

    def __init__(self, alpha: float, progress: Callable[[int], None]) -> None:
        self.alpha = alpha
        self.progress = progress
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(threads)
        self._free = [_Slot() for _ in range(threads + 2)]
        self._files: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for handle in self._files.values():
            os.close(handle)

    def write(self, shard: Shard, path: Path) -> str:
        """Write one file under a temporary name, sync it, rename it.

        Returns: its BLAKE3 hash.
        """
        hasher = blake3()
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb", buffering=0) as stream:
            # A full disk says so now, not after an hour.
            os.posix_fallocate(stream.fileno(), 0, shard.size)
            for portion in self._contents(shard):
                hasher.update(portion)
                _write_all(stream.fileno(), portion)
                self.progress(len(portion))
            os.fsync(stream.fileno())
        partial.replace(path)
        return hasher.hexdigest()

    def _contents(self, shard: Shard) -> Iterator[memoryview]:
        """The file's bytes in order; a portion is valid until the next is asked for."""
        yield memoryview(shard.header)
        waiting: deque[tuple[Future[memoryview], _Slot]] = deque()
        for piece in _pieces(shard):
            if not self._free:
                yield from self._next(waiting)
            slot = self._free.pop()
            waiting.append((self._pool.submit(self._fill, slot, piece), slot))
        while waiting:
            yield from self._next(waiting)

    def _next(self, waiting: "deque[tuple[Future[memoryview], _Slot]]") -> Iterator[memoryview]:
        future, slot = waiting.popleft()
        yield future.result()
        self._free.append(slot)

    def _fill(self, slot: _Slot, piece: _Piece) -> memoryview:
        """Read both parents' weights and blend them into the slot's output."""
        pair = piece.pair
        first = self._read(pair.reasoning, slot.reasoning, piece)
        if not pair.reasoning.is_float:
            return first.numpy().data
        second = self._read(pair.chat, slot.chat, piece)
        out = slot.out[: piece.count * FLOAT_BYTES[pair.dtype]]
        interpolate_into(
            out.view(TORCH_DTYPES[pair.dtype]),
            first.view(TORCH_DTYPES[pair.reasoning.dtype]),
            second.view(TORCH_DTYPES[pair.chat.dtype]),
            self.alpha,
        )
        return out.numpy().data

    def _read(self, entry: Entry, buffer: torch.Tensor, piece: _Piece) -> torch.Tensor:
        width = entry.size // prod(entry.shape)
        wanted = buffer[: piece.count * width]
        view = wanted.numpy().data
        done, start = 0, entry.start + piece.start * width
        while done < len(view):
            got = os.preadv(self._file(entry.file), [view[done:]], start + done)
            if got == 0:
                raise StageError(f"{entry.file} became shorter while it was read. Run the merge again.")
            done += got
        return wanted

    def _file(self, path: Path) -> int:
        # Two threads may open one file twice; both handles would serve, and setdefault keeps one.
        if path not in self._files:
            handle = os.open(path, os.O_RDONLY)
            if self._files.setdefault(path, handle) != handle:
                os.close(handle)
        return self._files[path]


def _pieces(shard: Shard) -> Iterator[_Piece]:
    for pair in shard.pairs:
        count = prod(pair.reasoning.shape)
        for start in range(0, count, _PIECE_WEIGHTS):
            yield _Piece(pair, start, min(_PIECE_WEIGHTS, count - start))


def _write_all(handle: int, portion: memoryview) -> None:
    while portion:
        portion = portion[os.write(handle, portion) :]
