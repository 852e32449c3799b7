"""Work that is divided among the processes of a launch."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from alloy.artifact import world_size

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")

PATIENCE = timedelta(hours=1)
"""How long processes wait for one another: what they do between two meetings, such as judging, may take long."""


def share(items: Sequence[T]) -> list[T]:
    """What this process does of the items: every one that is its own in turn."""
    return list(items[int(os.environ.get("RANK", "0")) :: world_size()])


def joined() -> "PartialState":
    """The processes of the launch, able to wait for one another.

    Whoever is first joins them, be it before a trainer's arguments: on a CPU accelerate has to be told, or takes
    each of them for one by itself. Imports torch.
    """
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def gathered(mine: Sequence[T]) -> list[T]:
    """What every process made of its `share`, in the order of the items; the same in all of them.

    Every process calls it. It imports torch where there are several.
    """
    if world_size() == 1:
        return list(mine)
    from accelerate.utils import gather_object

    state = joined()
    numbered = [(state.process_index + n * state.num_processes, item) for n, item in enumerate(mine)]
    return [item for _, item in sorted(gather_object(numbered), key=lambda pair: pair[0])]
