"""Weights of a checkpoint as numbers: a run of one tensor read, or rounded once and written; no torch.

A tensor of an adapter's parent is the base's with the adapter's product added, never rounded between;
one that was matched token by token has its rows in the other parent's order.
"""

import os
import threading
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alloy.errors import StageError
from merge.checkpoint import FLOAT_BYTES, Entry

Values = NDArray[np.float64]
Buffer = NDArray[np.uint8]

_TYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


class Files:
    """Open files, shared by threads.

    Args:
        keep: read each file whole, once, and hold it in memory.
    """

    def __init__(self, keep: bool = False) -> None:
        self._handles: dict[Path, int] = {}
        self._kept: dict[Path, Buffer] | None = {} if keep else None
        self._lock = threading.Lock()

    def handle(self, path: Path) -> int:
        with self._lock:
            if path not in self._handles:
                self._handles[path] = os.open(path, os.O_RDONLY)
            return self._handles[path]

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        self._kept = None

    def read(self, entry: Entry, start: int, buffer: Buffer) -> Buffer:
        """Fill the buffer with stored bytes from weight `start` on."""
        at = entry.start + start * (entry.size // max(1, prod(entry.shape)))
        if self._kept is not None:
            buffer[:] = self._whole(entry.file)[at : at + len(buffer)]
            return buffer
        view = buffer.data
        done = 0
        while done < len(view):
            got = os.preadv(self.handle(entry.file), [view[done:]], at + done)
            if got == 0:
                raise StageError(f"{entry.file} became shorter while it was read. Run the merge again.")
            done += got
        return buffer

    def _whole(self, path: Path) -> Buffer:
        assert self._kept is not None
        with self._lock:
            if path not in self._kept:
                self._kept[path] = np.fromfile(path, dtype=np.uint8)
            return self._kept[path]


def read_values(files: Files, entry: Entry, start: int, count: int) -> Values:
    """Weights `start` to `start + count` of a float tensor, in float64 without loss.

    Only an adapter's product is rounded, to float64, and to the same for every cut into runs.
    """
    if entry.rows is not None:
        return _matched(files, entry, start, count)
    width = FLOAT_BYTES[entry.dtype]
    raw = files.read(entry, start, np.empty(count * width, dtype=np.uint8))
    if entry.dtype == "BF16":
        wide = raw.view(np.uint16).astype(np.uint32)
        wide <<= 16
        values: Values = wide.view(np.float32).astype(np.float64)
    else:
        values = raw.view(_TYPES[entry.dtype]).astype(np.float64)
    if entry.adapter is not None:
        values += entry.adapter.scale * _product(files, entry, start, count)
    return values


def _product(files: Files, entry: Entry, start: int, count: int) -> Values:
    """A run of B @ A: outputs x rank times rank x inputs."""
    assert entry.adapter is not None
    down, up = entry.adapter.down, entry.adapter.up
    rank, inputs = down.shape
    first, last = start // inputs, -(-(start + count) // inputs)
    a = read_values(files, down, 0, rank * inputs).reshape(rank, inputs)
    b = read_values(files, up, first * rank, (last - first) * rank).reshape(-1, rank)
    total = np.zeros((last - first, inputs))
    # One outer product after another: a matrix product's order of summation depends on its shape.
    for k in range(rank):
        total += b[:, k, None] * a[k]
    skipped = start - first * inputs
    return total.reshape(-1)[skipped : skipped + count]


def _matched(files: Files, entry: Entry, start: int, count: int) -> Values:
    """A run of a tensor whose rows are found elsewhere, or in the other parent where there are none."""
    assert entry.rows is not None
    columns = prod(entry.shape[1:])
    first, last = start // columns, -(-(start + count) // columns)
    found = np.empty((last - first, columns))
    for number in range(first, last):
        source, row = entry.rows.source(number)
        found[number - first] = read_values(files, source, row * columns, columns)
    skipped = start - first * columns
    return found.reshape(-1)[skipped : skipped + count]


def to_bytes(values: Values, dtype: str) -> memoryview:
    """Rounded once to nearest even, as safetensors stores this dtype."""
    if dtype == "BF16":
        from merge.compiled import narrow

        bits = np.empty(values.shape, dtype=np.uint16)
        narrow(bits, np.ascontiguousarray(values))
        return bits.view(np.uint8).data
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(_TYPES[dtype]).view(np.uint8).data
