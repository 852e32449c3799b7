"""Near-duplicates: conversations that say nearly the same, found exactly and without comparing all pairs."""

import math
import re
from array import array
from collections import defaultdict
from collections.abc import Sequence

from blake3 import blake3

from alloy.environments.task import Message
from alloy.simulate.reading import compact

RUN = 3
"""Words of a run."""

_WORD = re.compile(r"\w+")


class Seen:
    """What was kept so far; in the order of the file, the later of two alike is the duplicate.

    A conversation is the set of the three-word runs of what user and assistant said and called. Two are
    near-duplicates when the runs they share are at least `similarity` of the runs that either has
    (Jaccard). Sets that are so alike must share one of the first `size - ceil(similarity * size) + 1` runs
    of either in any common order (prefix filtering, Bayardo et al. 2007), so only those are indexed.
    """

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._kept: list[array[int]] = []
        self._names: list[str] = []
        self._index: dict[int, list[int]] = defaultdict(list)

    def like(self, name: str, messages: Sequence[Message]) -> tuple[str, float] | None:
        """The name of the earliest that it is a near-duplicate of, and how alike they are; else it is kept."""
        runs = sorted(_runs(messages))
        # In floating point 0.8 * 5 might be a little more than 4.
        needed = math.ceil(self._similarity * len(runs) - 1e-9)
        prefix = runs[: len(runs) - needed + 1]
        mine = set(runs)
        for other in sorted({other for run in prefix for other in self._index[run]}):
            theirs = self._kept[other]
            shared = sum(run in mine for run in theirs)
            alike = shared / (len(mine) + len(theirs) - shared)
            if alike >= self._similarity - 1e-9:
                return self._names[other], alike
        for run in prefix:
            self._index[run].append(len(self._kept))
        self._kept.append(array("Q", runs))
        self._names.append(name)
        return None


def _runs(messages: Sequence[Message]) -> set[int]:
    said: list[str] = []
    for message in messages:
        if message["role"] in ("user", "assistant"):
            said += _WORD.findall((message.get("content") or "").casefold())
            for call in message.get("tool_calls") or []:
                said += _WORD.findall(compact([call["name"], call["arguments"]]).casefold())
    runs = {" ".join(said[start : start + RUN]) for start in range(max(1, len(said) - RUN + 1))}
    return {int.from_bytes(blake3(run.encode()).digest(8)) for run in runs}
