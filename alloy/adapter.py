"""Our LoRA switch as peft takes it."""

from typing import Any

import torch

from alloy.config import LoraConfig
from alloy.errors import InputError
from alloy.lora_targets import bypassed, goes_onto
from alloy.state_space import mixers


def lora_to_peft(lora: LoraConfig | None, model: Any, task: str = "CAUSAL_LM") -> Any:
    """The peft config of an adapter for a model; None for full fine-tuning.

    Raises:
        InputError: the config names a module that cannot be adapted in this model.
    """
    if lora is None:
        return None
    from peft import LoraConfig as PeftConfig

    layers = set(mixers(model))
    if layers and (why := bypassed(lora)):
        raise InputError(f"{why}.")
    left_out = [
        f"{name}.{part}"
        for name, layer in model.named_modules()
        for part, module in layer.named_children()
        if layer in layers
        and isinstance(module, torch.nn.Linear)
        and not goes_onto(lora, part, state_space=True)
    ]
    return PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        # Names that are not targets anyway would be warned of.
        exclude_modules=left_out if left_out and lora.target_modules == "all-linear" else None,
        task_type=task,
    )
