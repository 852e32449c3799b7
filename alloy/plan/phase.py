"""What is in a device's memory, by kind and time; the peak is the largest time's."""

from dataclasses import dataclass

from alloy.plan.launch import Launch

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "cache", "models", "buffers")
"""`models`: second ones beside the policy; `buffers`: communication, and what an allocator cannot give back."""

_LIBRARIES = 50 << 20
"""Bytes of a CPU process's libraries that the work touches first (bench/plan.py)."""


@dataclass(frozen=True)
class Phase:
    """What is in memory at one time: bytes by kind."""

    name: str
    kinds: dict[str, float]

    @property
    def bytes(self) -> float:
        return sum(self.kinds.values())


def phase(name: str, launch: Launch, **kinds: float) -> Phase:
    assert not kinds.keys() - set(KINDS)
    if launch.cpu:
        kinds["buffers"] = kinds.get("buffers", 0.0) + _LIBRARIES
    return Phase(name, {kind: float(size) for kind, size in kinds.items() if size})


@dataclass(frozen=True)
class Memory:
    """The phases of a stage on one device.

    Attributes:
        host: bytes of the machine's memory that each of its devices needs beside its own; 0 where they are one.
    """

    phases: tuple[Phase, ...] = ()
    host: float = 0.0

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda found: found.bytes, default=Phase("nothing", {}))

    def most(self, kind: str) -> float:
        """Of a kind, in the phase that has most of it."""
        return max((found.kinds.get(kind, 0.0) for found in self.phases), default=0.0)
