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

import numpy as np
from blake3 import blake3

from merge.checkpoint import FLOAT_BYTES, Entry
from merge.compiled import blend, shares_of
from merge.groups import Alpha, alpha_of
from merge.preflight import Pair
from merge.weights import Buffer, Files, Values, to_bytes

_PIECE_WEIGHTS = 1 << 20
"""Weights a thread blends at once; with `_MOST_THREADS` this bounds the memory."""
_MOST_THREADS = 8
_FLUSHED_AT_ONCE = 64 << 20


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


Blend = Callable[[Files, Pair, int, int], Values]
"""(files, tensor, first weight, how many) -> those weights of the result, in float64."""


@dataclass(frozen=True)
class Linear:
    """(1 - alpha) * reasoning + alpha * chat, exact; one alpha, or one for every group of modules."""

    alpha: Alpha

    def alpha_of(self, name: str) -> float:
        return alpha_of(self.alpha, name)


class _Slot:
    """The memory of one piece in flight; pages are taken only as far as they are used."""

    def __init__(self) -> None:
        widest = _PIECE_WEIGHTS * max(FLOAT_BYTES.values())
        self.reasoning, self.chat, self.out = (np.empty(widest, dtype=np.uint8) for _ in range(3))


class ShardWriter:
    """Writes shards one after another with the same threads and buffers.

    Args:
        blend: what becomes of a tensor's parents.
        progress: called with the bytes of every piece that is written.
    """

    def __init__(self, blend: Blend | Linear, progress: Callable[[int], None]) -> None:
        self.blend = blend
        self.progress = progress
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(threads)
        self._free = [_Slot() for _ in range(threads + 2)]
        self._files = Files()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._files.close()

    def write(self, shard: Shard, path: Path) -> str:
        """Write one file under a temporary name, sync it, rename it.

        Returns: its BLAKE3 hash.
        """
        hasher = blake3()
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb", buffering=0) as stream:
            # A full disk says so now, not after an hour.
            os.posix_fallocate(stream.fileno(), 0, shard.size)
            at = 0
            for portion in self._contents(shard):
                hasher.update(portion)
                _write_all(stream.fileno(), portion)
                at += len(portion)
                self.progress(len(portion))
                if at % _FLUSHED_AT_ONCE < len(portion):
                    # Starts writing what lies in the cache, so that the disk works while the next is computed.
                    os.posix_fadvise(stream.fileno(), 0, at, os.POSIX_FADV_DONTNEED)
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
        """Read the parents' weights and blend them into the slot's output."""
        pair = piece.pair
        if not pair.reasoning.is_float:
            return self._stored(pair.reasoning, slot.reasoning, piece).data
        if not isinstance(self.blend, Linear):
            return to_bytes(self.blend(self._files, pair, piece.start, piece.count), pair.dtype)
        return self._interpolate(slot, piece, self.blend.alpha_of(pair.name))

    def _interpolate(self, slot: _Slot, piece: _Piece, alpha: float) -> memoryview:
        pair = piece.pair
        for end, entry in ((0.0, pair.reasoning), (1.0, pair.chat)):
            if alpha == end and entry.is_plain and entry.dtype == pair.dtype:
                return self._stored(entry, slot.reasoning, piece).data
        out = slot.out[: piece.count * FLOAT_BYTES[pair.dtype]]
        plain = pair.reasoning.is_plain and pair.chat.is_plain
        shares = shares_of(alpha)
        if plain and shares and {pair.reasoning.dtype, pair.chat.dtype, pair.dtype} == {"BF16"}:
            first = self._stored(pair.reasoning, slot.reasoning, piece)
            second = self._stored(pair.chat, slot.chat, piece)
            blend(out.view(np.uint16), first.view(np.uint16), second.view(np.uint16), shares)
            return out.data
        # The rest is torch's, which is not imported where nothing needs it.
        from merge.interpolate import interpolate_into
        from merge.tensors import as_tensor, read_run

        a, b = (read_run(self._files, e, piece.start, piece.count) for e in (pair.reasoning, pair.chat))
        interpolate_into(as_tensor(out, pair.dtype), a, b, alpha)
        return out.data

    def _stored(self, entry: Entry, buffer: Buffer, piece: _Piece) -> Buffer:
        width = entry.size // prod(entry.shape)
        return self._files.read(entry, piece.start, buffer[: piece.count * width])


def _pieces(shard: Shard) -> Iterator[_Piece]:
    for pair in shard.pairs:
        count = prod(pair.reasoning.shape)
        for start in range(0, count, _PIECE_WEIGHTS):
            yield _Piece(pair, start, min(_PIECE_WEIGHTS, count - start))


def _write_all(handle: int, portion: memoryview) -> None:
    while portion:
        portion = portion[os.write(handle, portion) :]
