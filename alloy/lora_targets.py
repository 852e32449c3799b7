"""Onto which linear modules an adapter goes: one answer for the stages and the planner. Imports no torch.

In a state-space layer (Mamba) not onto `out_proj` or `conv1d`: the kernels that compute such a layer in one go read
their weights and never call them, so that an adapter there would learn nothing, and peft refuses it. Experts are tensors of
three dimensions and routers plain parameters, neither of them a module: adapters pass them over.
Source: peft 0.21, `_check_lora_target_modules_mamba`; transformers 5.17, `NemotronHMamba2Mixer.forward`.
"""

from alloy.config import LoraConfig

BYPASSED = ("out_proj", "conv1d")
"""Of a state-space layer: read by its kernels, not called."""


def goes_onto(lora: LoraConfig, module: str, *, state_space: bool) -> bool:
    """Whether an adapter goes onto a linear module.

    Args:
        module: its name, or its path in the model.
        state_space: whether it is a part of a state-space layer.
    """
    last = module.rpartition(".")[2]
    if lora.target_modules == "all-linear":
        return not (state_space and last in BYPASSED)
    return last in lora.target_modules


def bypassed(lora: LoraConfig) -> str | None:
    """Why a model with state-space layers cannot have this adapter; None where it can."""
    named = [name for name in BYPASSED if name in lora.target_modules]
    if lora.target_modules == "all-linear" or not named:
        return None
    return (
        f"lora.target_modules names {named[0]}, which the kernels of a state-space layer (Mamba) read and never call: "
        "an adapter there would learn nothing. Take it out, or set all-linear, which leaves it out"
    )
