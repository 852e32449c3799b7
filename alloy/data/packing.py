"""Examples into sequences of a fixed length: nothing is cut, nothing is lost."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit-decreasing bin packing.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        capacity: tokens of a sequence.
    Returns: the examples' indices, bin by bin; every index exactly once.
    Raises:
        ValueError: an example longer than a sequence.
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"an example of {max(lengths)} tokens does not fit into {capacity}")
    bins: list[list[int]] = []
    # (room left, bin), sorted: the first at or past the length is the tightest that takes it.
    rooms: list[tuple[int, int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        place = bisect_left(rooms, (length, -1))
        if place == len(rooms):
            bins.append([index])
            room, target = capacity - length, len(bins) - 1
        else:
            room, target = rooms.pop(place)
            bins[target].append(index)
            room -= length
        if room:
            insort(rooms, (room, target))
    return bins


def next_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Examples in their order, a new sequence where the next one does not fit (plain concatenation)."""
    bins: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if length > capacity:
            raise ValueError(f"an example of {length} tokens does not fit into {capacity}")
        if not bins or length > room:
            bins.append([])
            room = capacity
        bins[-1].append(index)
        room -= length
    return bins
