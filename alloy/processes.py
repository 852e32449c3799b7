"""Work that is divided among the processes of a launch."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from alloy.artifact import world_size

T = TypeVar("T")

PATIENCE = timedelta(hours=1)
"""How long processes wait for one another: what they do between two meetings, such as judging, may take long."""


def share(items: Sequence[T]) -> list[T]:
    """What this process does of the items: every one that is its own in turn."""
    return list(items[int(os.environ.get("RANK", "0")) :: world_size()])


def gathered(mine: Sequence[T]) -> list[T]:
    """What every process made of its `share`, in the order of the items; the same in all of them.

    Every process calls it. It imports torch where there are several.
    """
    if world_size() == 1:
        return list(mine)
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState(timeout=PATIENCE)
    rank, world = state.process_index, state.num_processes
    numbered = gather_object([(rank + place * world, item) for place, item in enumerate(mine)])
    return [item for _, item in sorted(numbered, key=lambda pair: pair[0])]
