"""The launch that this process is part of, by what accelerate tells its processes; imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alloy.divisions import launched_by, parts
from alloy.errors import InputError
from alloy.plan.launch import Launch, deepspeed_launch


def launched(environment: Mapping[str, str], *, cpu: bool, device_memory: int | None = None) -> Launch:
    """Processes and sharding of a stage that is about to start.

    Args:
        environment: of the process.
        device_memory: bytes of the smallest device of the launch.
    Raises:
        InputError: a file of DeepSpeed's that cannot be read.
    """
    told: dict[str, Any] = {}
    if launched_by("DeepSpeed", environment):
        told = deepspeed_launch(_deepspeed(environment))
    elif launched_by("FSDP", environment):
        told = {"sharding": "fsdp"}
    return Launch(
        devices=int(environment.get("WORLD_SIZE", "1")),
        device_memory=device_memory,
        cpu=cpu,
        parts=parts(environment),
        **told,
    )


def _deepspeed(environment: Mapping[str, str]) -> dict[str, Any]:
    """Stage and offload, in the words of accelerate's own file; a file of DeepSpeed's goes before them."""
    named = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if named == "none":
        prefix = "ACCELERATE_DEEPSPEED_"
        return {
            "zero_stage": environment.get(f"{prefix}ZERO_STAGE", "2"),
            "offload_optimizer_device": environment.get(f"{prefix}OFFLOAD_OPTIMIZER_DEVICE", "none"),
            "offload_param_device": environment.get(f"{prefix}OFFLOAD_PARAM_DEVICE", "none"),
        }
    try:
        zero = json.loads(Path(named).read_text(encoding="utf-8")).get("zero_optimization", {})
    except (OSError, ValueError) as error:
        raise InputError(f"{named}: no configuration of DeepSpeed's that can be read ({error}).") from None
    return {
        "zero_stage": zero.get("stage", 0),
        "offload_optimizer_device": zero.get("offload_optimizer", {}).get("device", "none"),
        "offload_param_device": zero.get("offload_param", {}).get("device", "none"),
    }
