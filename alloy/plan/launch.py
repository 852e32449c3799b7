"""On what a recipe would run: devices, their memory and speed, and how weights are divided among them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from alloy.config import Places, read_yaml
from alloy.errors import InputError

Sharding = Literal["none", "zero2", "zero3", "fsdp"]
Offload = Literal["none", "optimizer", "all"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)

_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
             "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?(?:e\d+)?)\s*([kMGTP]i?)?")

DEVICE_FLOPS = 989e12
DEVICE_BANDWIDTH = 3.35e12
"""NVIDIA's data sheet of the H100 SXM: bfloat16 without sparsity, and its memory."""


@dataclass(frozen=True)
class Launch:
    """The machines and how they are used.

    Attributes:
        device_memory: bytes; whether a stage fits is not judged when None.
        reserve: share of a device's memory that is left to the driver and to the allocator's gaps.
        cpu: processes on a CPU: fused kernels are not there, and the C library's allocator is.
        parts: devices that share a sequence.
        offload: what rests in the host's memory: the optimizer's states, or the weights as well.
        flops, bandwidth: of a device, per second: operations at best, bytes of memory.
        mfu: share of `flops` that training reaches, by the model's own operations (Chowdhery et al. 2022,
            arXiv:2204.02311): what is computed twice for memory's sake is not counted.
        mbu: share of `bandwidth` that sampling reaches.
        prompt_tokens: of a prompt that is rolled out; no config says how long those are.
    """

    devices: int = 1
    device_memory: int | None = None
    sharding: Sharding = "none"
    offload: Offload = "none"
    parts: int = 1
    cpu: bool = False
    reserve: float = 0.1
    flops: float = DEVICE_FLOPS
    bandwidth: float = DEVICE_BANDWIDTH
    mfu: float = 0.4
    mbu: float = 0.5
    prompt_tokens: int = 512

    def __post_init__(self) -> None:
        for name in ("devices", "device_memory", "flops", "bandwidth", "prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name.replace('_', '-')} = {value}: more than 0 is needed.")
        for name in ("mfu", "mbu"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(
                    f"--{name} = {getattr(self, name)}: it is a share, more than 0 and at most 1."
                )
        if not 0 <= self.reserve < 1:
            raise InputError(f"--reserve = {self.reserve}: it is a share, from 0 to less than 1.")
        if self.devices % self.parts:
            raise InputError(f"--devices = {self.devices}: no multiple of sp_size = {self.parts}.")
        if self.sharding not in SHARDINGS:
            raise InputError(f"--sharding = {self.sharding!r}: choose from {', '.join(SHARDINGS)}.")
        if self.offload == "all" and self.sharding != "zero3":
            raise InputError("--offload all: weights rest in the host's memory under zero3 alone.")
        if self.offload == "optimizer" and self.sharding not in ("zero2", "zero3"):
            raise InputError("--offload optimizer: DeepSpeed does it. Set --sharding to zero2 or zero3.")

    @property
    def sharded(self) -> bool:
        return self.sharding != "none"

    @property
    def deepspeed(self) -> bool:
        return self.sharding in ("zero2", "zero3")

    @property
    def usable(self) -> int | None:
        """Bytes of a device that may be planned with."""
        return None if self.device_memory is None else int(self.device_memory * (1 - self.reserve))


def parse_quantity(text: str, what: str) -> float:
    """`80GiB`, `989T`, `3.35TB/s`, `1e12`: powers of ten, or of two with an i.

    Raises:
        InputError: something else.
    """
    bare = re.sub(r"(B|FLOP)?(/s)?$", "", text.strip())
    match = _QUANTITY.fullmatch(bare)
    if match is None:
        raise InputError(f"{what} = {text!r}: write a number with a unit, such as 80GiB or 989T.")
    return float(match[1]) * _PREFIXES[match[2] or ""]


def read_accelerate(path: Path) -> dict[str, Any]:
    """What a config file of accelerate says of a launch, as fields of `Launch`.

    Raises:
        InputError: no such file, or a kind of distribution that stages do not run under.
    """
    told, places = read_yaml(path)
    kind = str(told.get("distributed_type", "NO"))
    found: dict[str, Any] = {
        "devices": int(told.get("num_processes") or 1),
        "cpu": bool(told.get("use_cpu", False)),
    }
    divided = told.get("parallelism_config") or {}
    for name in ("cp", "tp"):
        if int(divided.get(f"parallelism_config_{name}_size", 1)) > 1:
            where = places.get(("parallelism_config", f"parallelism_config_{name}_size"), str(path))
            raise InputError(
                f"{where}: {name}_size: no stage runs under it. Take sp_size, in SFT, or leave it out."
            )
    found["parts"] = int(divided.get("parallelism_config_sp_size", 1))
    if kind == "DEEPSPEED":
        return found | _deepspeed(told.get("deepspeed_config") or {}, path, places)
    if kind == "FSDP":
        return found | {"sharding": "fsdp"}
    if kind in ("NO", "MULTI_GPU", "MULTI_CPU"):
        return found | {"sharding": "none"}
    where = places.get(("distributed_type",), str(path))
    raise InputError(
        f"{where}: distributed_type = {kind}: plan knows NO, MULTI_GPU, MULTI_CPU, DEEPSPEED and FSDP."
    )


def _deepspeed(told: dict[str, Any], path: Path, places: Places) -> dict[str, Any]:
    if "zero_stage" not in told:
        where = places.get(("deepspeed_config",), str(path))
        raise InputError(
            f"{where}: deepspeed_config has no zero_stage. Set it here, not in a file of DeepSpeed's."
        )
    return deepspeed_launch(told)


def deepspeed_launch(told: Mapping[str, Any]) -> dict[str, Any]:
    """Sharding and offload as fields of `Launch`, by the keys of accelerate's `deepspeed_config`."""
    stage = int(told["zero_stage"])
    sharding = {0: "none", 1: "zero2", 2: "zero2", 3: "zero3"}[stage]
    device = {name: str(told.get(f"offload_{name}_device", "none")) for name in ("optimizer", "param")}
    offload = "none"
    if device["optimizer"] != "none":
        offload = "all" if device["param"] != "none" and stage == 3 else "optimizer"
    return {"sharding": sharding, "offload": offload if stage >= 2 else "none"}
