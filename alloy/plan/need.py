"""Gradient checkpointing by need: where a device's memory does not hold the activations without it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from alloy.plan.launch import Launch
from alloy.plan.memory import memory_of
from alloy.plan.shape import Shape
from alloy.plan.work import Work

_TRAINING = "training"
"""What the names of a trainer's phases begin with: checkpointing changes no other."""


@dataclass(frozen=True)
class Need:
    """What training would take on one device.

    Attributes:
        without: bytes without gradient checkpointing.
        usable: bytes that may be planned with; None where nobody said what a device has.
    """

    without: float
    usable: int | None

    @property
    def checkpointing(self) -> bool:
        return self.usable is not None and self.without > self.usable


def need_of(work: Work, shape: Shape, launch: Launch, shapes: Mapping[str, Shape] | None = None) -> Need:
    """Sized by the largest moment of training; rollouts and scoring take what they take.

    Activations count as if they stayed on the device: `train.activation_offloading` would move all of them to the
    machine's memory, where checkpointing leaves one hidden state a block.

    Args:
        shape: of the model that is trained, with the head that it has there.
        shapes: of the models held beside it, by role.
    """
    phases = memory_of(_with(work, checkpointing=False, offloading=False), shape, launch, shapes).phases
    training = [phase.bytes for phase in phases if phase.name.startswith(_TRAINING)]
    return Need(max(training, default=0.0), launch.usable)


def by_need(work: Work, shape: Shape, launch: Launch, shapes: Mapping[str, Shape] | None = None) -> Work:
    """The work with checkpointing decided, where its config leaves that to the device: on a CPU it stays off."""
    if work.training is None or work.training.checkpointing is not None:
        return work
    needed = not launch.cpu and need_of(work, shape, launch, shapes).checkpointing
    return _with(work, checkpointing=needed)


def _with(work: Work, **training: Any) -> Work:
    assert work.training is not None
    return replace(work, training=replace(work.training, **training))
