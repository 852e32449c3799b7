"""What a launch divides beside weights and batches, and what of it stages take; imports no torch."""

import os
from collections.abc import Collection, Mapping

from alloy.errors import InputError

_SEQUENCE, _CONTEXT, _TENSOR = (f"PARALLELISM_CONFIG_{kind}_SIZE" for kind in ("SP", "CP", "TP"))
"""How accelerate tells its processes the `parallelism_config` of its file."""
_DIVIDES_SEQUENCES = "sft"


def launched_by(library: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launch asks for a library: `DeepSpeed` or `FSDP`."""
    return environment.get(f"ACCELERATE_USE_{library.upper()}", "false").lower() == "true"


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
    if why := why_unlaunched(module.removesuffix(".train"), launched_by("DeepSpeed", environment)):
        raise InputError(f"parallelism_config: {why}")


def why_unlaunched(stage: str, deepspeed: bool) -> str | None:
    """Why a stage takes no launch that divides sequences, and what to do; None where it does.

    Args:
        stage: its package, e.g. `sft`.
        deepspeed: whether the launch is DeepSpeed's.
    """
    if stage != _DIVIDES_SEQUENCES:
        return (
            f"sp_size divides sequences, which SFT alone does, and this is {stage.split('.')[0]}. "
            "Launch it with zero3."
        )
    return None if deepspeed else "sp_size is DeepSpeed's. Launch with configs/accelerate/zero3-sp.yaml."


def why_no_checkpoints() -> str:
    """Why a run whose sequences are divided writes none, and what to do."""
    return (
        "train.save_steps: with sp_size no run goes on from a checkpoint (DeepSpeed's loader cannot pass over what was "
        "trained on), so none is written. Set train.save_steps=null."
    )


def why_undivided(parts: int, others: Collection[str], heads: int, key_heads: int) -> str | None:
    """Why sequences of a model cannot be divided among so many, and what to do; None where they can.

    Args:
        others: kinds of its layers beside attention to the whole sequence.
        heads, key_heads: of its attention.
    Source: DeepSpeed 0.19, `runtime/sequence_parallel/ulysses_sp.py`: heads are shared out, key heads are shared out
        or copied.
    """
    if others:
        return (
            f"sp_size: sequences of a model with layers of {', '.join(others)} cannot be divided among GPUs: what they "
            "carry along the sequence would stop where a GPU's part ends. Launch without parallelism_config, and set "
            "train.activation_offloading=true for long sequences."
        )

    def fits(size: int) -> bool:
        return heads % size == 0 and (key_heads % size == 0 or size % key_heads == 0)

    if fits(parts):
        return None
    wrong = (
        f"its {heads} heads are no multiple of it"
        if heads % parts
        else f"its {key_heads} key heads are neither a multiple nor a divisor of it"
    )
    sizes = ", ".join(str(size) for size in range(2, heads + 1) if fits(size))
    remedy = f"It can be {sizes}" if sizes else "Launch without parallelism_config"
    return f"sp_size = {parts}: {wrong}. {remedy}."
