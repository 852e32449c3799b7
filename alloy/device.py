"""What a stage leaves to the device is decided here, once, before anything is loaded, and told in one line.

On a CPU nothing is: fused kernels are Triton's and need a GPU, and memory is the whole machine's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alloy import mamba_kernels
from alloy.config import TrainingConfig
from alloy.errors import InputError
from alloy.kernels import PACKAGE, installed_version, known_architectures
from alloy.plan.launch import Launch
from alloy.plan.launched import launched
from alloy.plan.need import Need, need_of
from alloy.plan.recipe import Roles
from alloy.plan.shape import Shape
from alloy.plan.table import size
from alloy.plan.work import Work
from alloy.precision import is_bfloat16
from alloy.stage import say

TrainingConfigT = TypeVar("TrainingConfigT", bound=TrainingConfig)


@dataclass(frozen=True)
class Device:
    """What is there to compute with.

    Attributes:
        gpu: its name; None on a CPU.
        memory: bytes of the smallest GPU of the launch; 0 on a CPU.
        bfloat16: whether the hardware multiplies it.
        liger: version of liger-kernel; None where it is not installed.
        known: architectures (`model_type`) that liger-kernel has kernels for.
        mamba: whether Mamba's kernels are installed.
    """

    gpu: str | None
    memory: int = 0
    bfloat16: bool = False
    liger: str | None = None
    known: frozenset[str] = frozenset()
    mamba: bool = False


def here() -> Device:
    """The device of this process. Every process of a launch calls it: the smallest memory decides for all."""
    import torch

    from alloy.policy import multiplies_bfloat16, own_device
    from alloy.processes import gathered

    if not torch.cuda.is_available():
        return Device(None, bfloat16=multiplies_bfloat16())
    told = torch.cuda.get_device_properties(own_device())
    liger = installed_version()
    known = known_architectures() if liger is not None else frozenset[str]()
    memory = min(gathered([told.total_memory]))
    return Device(told.name, memory, multiplies_bfloat16(), liger, known, mamba_kernels.installed())


@dataclass(frozen=True)
class Choice:
    """What was decided, and why; the reason is for people."""

    taken: bool
    reason: str


def fused_kernels(wanted: bool | str, device: Device, architecture: str | None) -> Choice:
    """Whether liger-kernel's layers stand in for transformers' own (`alloy.kernels`).

    Args:
        wanted: `train.fused_kernels`.
        architecture: the model's `model_type`; None where it is not known.
    Raises:
        InputError: they are asked for where they cannot be had.
    """
    if wanted is False:
        return Choice(False, "train.fused_kernels is off")
    why_not = _without_kernels(device, architecture)
    if why_not is None:
        return Choice(True, f"{PACKAGE} {device.liger}")
    if wanted is True:
        raise InputError(f"train.fused_kernels = on: {why_not[0]}. {why_not[1]}, or set it to auto.")
    return Choice(False, why_not[0])


def _without_kernels(device: Device, architecture: str | None) -> tuple[str, str] | None:
    """Why there are none, and what would help; None where there are."""
    if device.gpu is None:
        return "they are Triton's and need a GPU", "Run on one"
    if device.liger is None:
        return (
            f"{PACKAGE} is not installed",
            f"Install it as requirements/cuda.txt pins it (pip install {PACKAGE})",
        )
    if architecture is None:
        return "the model's architecture cannot be told from its folder", "Leave it out"
    if architecture not in device.known:
        return f"{PACKAGE} {device.liger} has none for {architecture}", "Leave it out"
    return None


def checkpointing(wanted: bool | str, device: Device, need: Need | None) -> Choice:
    """Whether activations are computed twice.

    Args:
        wanted: `train.gradient_checkpointing`.
        need: by the planner's count; None where the model is none that it can count, which is taken as a need.
    """
    if wanted != "auto":
        return Choice(bool(wanted), "as the config says")
    if device.gpu is None:
        return Choice(False, "never by itself on a CPU")
    if need is None:
        return Choice(True, "the model's memory cannot be planned")
    told = f"{size(need.without)} without it, {size(need.usable)} of {size(device.memory)} are planned with"
    return Choice(need.checkpointing, told)


def settle(
    config: TrainingConfigT, work: Callable[[Any, Launch], Work], device: Device | None = None
) -> TrainingConfigT:
    """The config with its precision, checkpointing and kernels decided for this device: the same in every process.

    Args:
        work: the stage's description of what it does, of its `plan` module.
        device: the one that is there when not given.
    Raises:
        InputError: fused kernels are asked for where they cannot be had, or Mamba's are missing and the reference would
            need more memory than there is.
    """
    device = device or here()
    half = is_bfloat16(config.train.precision, gpu=device.gpu is not None, multiplied=device.bfloat16)
    settled = _with(config, precision="bfloat16" if half else "float32")
    shape, need = _need(settled, work, device)
    kernels = fused_kernels(config.train.fused_kernels, device, shape.architecture if shape else None)
    twice = checkpointing(config.train.gradient_checkpointing, device, need)
    if device.gpu is not None:
        say(
            f"  {device.gpu}: {settled.train.precision}; fused kernels {_told(kernels)}; gradient checkpointing "
            f"{_told(twice)}"
        )
    return _with(settled, gradient_checkpointing=twice.taken, fused_kernels=kernels.taken)


def _told(choice: Choice) -> str:
    return f"{'on' if choice.taken else 'off'} ({choice.reason})"


def _with(config: TrainingConfigT, **train: Any) -> TrainingConfigT:
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def _need(
    config: TrainingConfig, work: Callable[[Any, Launch], Work], device: Device
) -> tuple[Shape | None, Need | None]:
    """The model's shape and what training it takes; None where the planner does not know the model."""
    if device.gpu is None:
        return None, None
    launch = launched(os.environ, cpu=False, device_memory=device.memory)
    done = work(config, launch)
    roles = Roles(config, Path(), Path(), {})
    try:
        shape = roles.shape(done.start)
        assert shape is not None
        shape = shape.as_scorer() if done.makes == "scorer" else shape
        held = {each.role: roles.shape(each.parent) or shape for each in done.held}
    except InputError:
        return None, None
    if not device.mamba and shape.hybrid:
        shape, held = shape.by_reference(), {role: each.by_reference() for role, each in held.items()}
        say(f"  {mamba_kernels.told_without(shape, done, launch)}")
    return shape, need_of(done, shape, launch, held)
