"""What was called in a world and what became of it, for counting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["read", "written", "no such row", "wrong arguments", "not offered", "unknown tool"]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call that was made of a world, and what became of it."""

    name: str
    outcome: Outcome


def fault_shares(log: Sequence[CallRecord], unreadable: int) -> dict[str, float]:
    """`invalid_calls` and `invented_tools`, as shares of all calls; 0 where nothing was called.

    Args:
        unreadable: calls that never reached the world.
    """
    calls = max(1, len(log) + unreadable)
    invalid = unreadable + sum(record.outcome in ("wrong arguments", "no such row") for record in log)
    invented = sum(record.outcome in ("unknown tool", "not offered") for record in log)
    return {"invalid_calls": invalid / calls, "invented_tools": invented / calls}
