"""What a launch divides beside weights and batches, and what of it stages take; imports no torch."""

import os
from collections.abc import Mapping

from alloy.errors import InputError

_SEQUENCE, _CONTEXT, _TENSOR = (f"PARALLELISM_CONFIG_{kind}_SIZE" for kind in ("SP", "CP", "TP"))
"""How accelerate tells its processes the `parallelism_config` of its file."""
_DIVIDES_SEQUENCES = "sft.train"


def parts(environment: Mapping[str, str] = os.environ) -> int:
    """Processes that share a sequence; 1 where each has its own."""
    return int(environment.get(_SEQUENCE, "1"))


def check_divisions(module: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a launch under which a stage would compute something else without a word.

    Args:
        module: the stage's work, e.g. `sft.train`.
    Raises:
        InputError: what cannot be, and what can.
    """
    if int(environment.get(_CONTEXT, "1")) > 1:
        raise InputError(
            "parallelism_config: cp_size is refused. Context parallelism drops what keeps the documents of a sequence "
            "apart, and hands on no state of Mamba layers: losses would look right and be wrong. Launch SFT with "
            "configs/accelerate/zero3-sp.yaml (sp_size) instead."
        )
    if int(environment.get(_TENSOR, "1")) > 1:
        raise InputError(
            "parallelism_config: tp_size is refused. No stage divides matrices. Launch with zero3 or fsdp2."
        )
    if parts(environment) == 1:
        return
    if module != _DIVIDES_SEQUENCES:
        raise InputError(
            f"parallelism_config: sp_size divides sequences, which SFT alone does, and this is {module.split('.')[0]}. "
            "Launch it with zero3."
        )
    if environment.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        raise InputError(
            "parallelism_config: sp_size is DeepSpeed's. Launch with configs/accelerate/zero3-sp.yaml."
        )
