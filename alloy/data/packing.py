"""Examples into sequences of a fixed length: nothing is cut, nothing is lost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Which examples share a sequence.

    Attributes:
        items: every example's index once, sequence by sequence; shape (examples,).
        starts: where each sequence begins in `items`, and the end; shape (sequences + 1,).
    """

    items: Indices
    starts: Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Indices:
        return self.items[self.starts[number] : self.starts[number + 1]]


def best_fit(lengths: Sequence[int] | Indices, capacity: int) -> Bins:
    """Best-fit-decreasing bin packing in O(n) steps of constant cost.

    The longest example first, each into the fullest sequence that still takes it. Sequences are kept
    by the room that is left in them, and a bitmap of two levels finds the smallest room that is
    large enough: a million examples take seconds.

    Args:
        lengths: tokens of each example, each from 1 to `capacity`.
        capacity: tokens of a sequence.
    Raises:
        ValueError: an example longer than a sequence, or an empty one.
    """
    sizes = _checked(lengths, capacity)
    order = np.argsort(-sizes, kind="stable")
    rooms = _Rooms(capacity)
    chosen = [rooms.place(length) for length in sizes[order].tolist()]
    return _grouped(order, np.asarray(chosen, dtype=np.int64), rooms.opened)


def next_fit(lengths: Sequence[int] | Indices, capacity: int) -> Bins:
    """Examples in their order, a new sequence where the next one does not fit (plain concatenation)."""
    sizes = _checked(lengths, capacity)
    chosen, number, room = [], -1, 0
    for length in sizes.tolist():
        if length > room:
            number, room = number + 1, capacity
        room -= length
        chosen.append(number)
    return _grouped(np.arange(len(sizes)), np.asarray(chosen, dtype=np.int64), number + 1)


def one_each(lengths: Sequence[int] | Indices, capacity: int) -> Bins:
    """Every example alone."""
    sizes = _checked(lengths, capacity)
    return Bins(np.arange(len(sizes)), np.arange(len(sizes) + 1))


def _checked(lengths: Sequence[int] | Indices, capacity: int) -> Indices:
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size and int(sizes.max()) > capacity:
        raise ValueError(f"an example of {int(sizes.max())} tokens does not fit into {capacity}")
    if sizes.size and int(sizes.min()) < 1:
        raise ValueError("an example without tokens has no place")
    return sizes


def _grouped(order: Indices, chosen: Indices, count: int) -> Bins:
    # Stable: within a sequence the examples keep the order in which they were placed.
    items = order[np.argsort(chosen, kind="stable")]
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(chosen, minlength=count), out=starts[1:])
    return Bins(items, starts)


_WORD = 512
"""Bits of a word of the bitmap: Python's integers of this size still take a tenth of a microsecond."""


class _Rooms:
    """Open sequences by the room that is left in them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.opened = 0
        # The sequences with a given room, as linked lists: the newest, and what was newest before it.
        self.newest = [-1] * (capacity + 1)
        self.before: list[int] = []
        self.words = [0] * (capacity // _WORD + 1)
        self.filled = 0  # bit w: words[w] is not 0

    def place(self, length: int) -> int:
        """The sequence that takes an example of this length: the fullest that can, or a new one."""
        room = self._smallest(length)
        if room < 0:
            number, room = self.opened, self.capacity
            self.opened += 1
            self.before.append(-1)
        else:
            number = self._pop(room)
        if room > length:
            self._push(room - length, number)
        return number

    def _smallest(self, least: int) -> int:
        """The smallest room of at least `least` that some sequence has; -1 when there is none."""
        place = least // _WORD
        word = self.words[place] >> (least % _WORD)
        if word:
            return least + (word & -word).bit_length() - 1
        later = self.filled >> (place + 1)
        if not later:
            return -1
        place += (later & -later).bit_length()
        word = self.words[place]
        return place * _WORD + (word & -word).bit_length() - 1

    def _pop(self, room: int) -> int:
        number = self.newest[room]
        self.newest[room] = self.before[number]
        if self.newest[room] < 0:
            self.words[room // _WORD] ^= 1 << (room % _WORD)
            if not self.words[room // _WORD]:
                self.filled ^= 1 << (room // _WORD)
        return number

    def _push(self, room: int, number: int) -> None:
        self.before[number] = self.newest[room]
        self.newest[room] = number
        self.words[room // _WORD] |= 1 << (room % _WORD)
        self.filled |= 1 << (room // _WORD)
