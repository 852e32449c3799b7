"""The result's weights, computed by threads piece by piece and handed over in the order of a file.

Writing a merge and evaluating one in memory both take their bytes from here.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from types import TracebackType
from typing import Self

import numpy as np

from merge.checkpoint import FLOAT_BYTES, Entry
from merge.groups import Alpha, alphas_of
from merge.pairs import Pair
from merge.shard import Shard
from merge.weights import Buffer, Files, Values, to_bytes

_PIECE_WEIGHTS = 1 << 20
"""Weights a thread blends at once; with `_MOST_THREADS` this bounds the memory."""
_MOST_THREADS = 8
_AHEAD = 10
"""Pieces blended while the disk writes others."""

Blend = Callable[[Files, Pair, int, int], Values]
"""(files, tensor, first weight, how many) -> those weights of the result, in float64."""


class Linear:
    """(1 - alpha) * reasoning + alpha * chat, exact; one alpha, or one for every group of tensors."""

    def __init__(self, alpha: Alpha, pairs: list[Pair]) -> None:
        self.alphas = alphas_of(alpha, [pair.name for pair in pairs])


@dataclass(frozen=True)
class Piece:
    """A run of one tensor's weights."""

    pair: Pair
    start: int
    count: int


class _Slot:
    """The memory of one piece in flight; pages are taken only as far as they are used."""

    def __init__(self) -> None:
        widest = _PIECE_WEIGHTS * max(FLOAT_BYTES.values())
        self.reasoning, self.chat, self.out = (np.empty(widest, dtype=np.uint8) for _ in range(3))


class Blender:
    """Threads and buffers that compute the weights of one file after another.

    Args:
        files: where the parents are read from; closed by whoever opened them.
    """

    def __init__(self, files: Files) -> None:
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._files = files
        self._pool = ThreadPoolExecutor(threads)
        self._free = [_Slot() for _ in range(threads + _AHEAD)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def pieces(self, shard: Shard, blend: Blend | Linear) -> Iterator[tuple[Piece, memoryview]]:
        """The bytes of the file's tensors in order, to be read to the end; each is valid until the next."""
        waiting: deque[tuple[Piece, Future[memoryview], _Slot]] = deque()
        for piece in _cut(shard):
            if not self._free:
                yield from self._next(waiting)
            slot = self._free.pop()
            waiting.append((piece, self._pool.submit(self._fill, slot, piece, blend), slot))
        while waiting:
            yield from self._next(waiting)

    def _next(
        self, waiting: deque[tuple[Piece, Future[memoryview], _Slot]]
    ) -> Iterator[tuple[Piece, memoryview]]:
        piece, future, slot = waiting.popleft()
        yield piece, future.result()
        self._free.append(slot)

    def _fill(self, slot: _Slot, piece: Piece, blend: Blend | Linear) -> memoryview:
        """Read the parents' weights and blend them into the slot's output."""
        pair = piece.pair
        if not pair.reasoning.is_float:
            return self._stored(pair.reasoning, slot.reasoning, piece).data
        if not isinstance(blend, Linear):
            return to_bytes(blend(self._files, pair, piece.start, piece.count), pair.dtype)
        return self._interpolate(slot, piece, blend.alphas[pair.name])

    def _interpolate(self, slot: _Slot, piece: Piece, alpha: float) -> memoryview:
        pair = piece.pair
        for end, entry in ((0.0, pair.reasoning), (1.0, pair.chat)):
            if alpha == end and entry.is_plain and entry.dtype == pair.dtype:
                return self._stored(entry, slot.reasoning, piece).data
        # Imported while the parents are opened, which takes as long.
        from merge.compiled import blend, shares_of

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

    def _stored(self, entry: Entry, buffer: Buffer, piece: Piece) -> Buffer:
        width = entry.size // prod(entry.shape)
        return self._files.read(entry, piece.start, buffer[: piece.count * width])


def _cut(shard: Shard) -> Iterator[Piece]:
    for pair in shard.pairs:
        count = prod(pair.reasoning.shape)
        for start in range(0, count, _PIECE_WEIGHTS):
            yield Piece(pair, start, min(_PIECE_WEIGHTS, count - start))
