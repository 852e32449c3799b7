"""Weights that are divided among processes: loaded in parts, gathered, merged, put back.

Under ZeRO-3 and FSDP2 a process holds a part of every parameter; under DDP and ZeRO-2 it holds all of them.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.integrations import deepspeed as deepspeed_integration

from alloy.artifact import is_main_process

_LOADED_BY_ONE = "FSDP_CPU_RAM_EFFICIENT_LOADING"


@contextmanager
def whole_models() -> Iterator[None]:
    """A model that is loaded here is whole in this process, whatever the launch.

    While the arguments of a ZeRO-3 trainer live, transformers divides every model that it loads, and one
    that no engine of DeepSpeed's puts together again cannot be used: a reward model is such a one. Under
    FSDP only one process of a machine reads the weights, and the others wait for a broadcast that comes
    to the trained model alone.
    """
    reference = deepspeed_integration._hf_deepspeed_config_weak_ref
    held = reference() if reference is not None else None
    loaded_by_one = os.environ.pop(_LOADED_BY_ONE, None)
    deepspeed_integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if held is not None:
            deepspeed_integration.set_hf_deepspeed_config(held)
        if loaded_by_one is not None:
            os.environ[_LOADED_BY_ONE] = loaded_by_one


def is_divided(model: Any) -> bool:
    """Whether ZeRO-3 holds a part of every parameter here; under ZeRO-2 they are whole."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


@contextmanager
def put_together(parameters: list[Any], *, change: bool = False) -> Iterator[None]:
    """Parameters that ZeRO-3 has divided are whole inside; with `change`, what the main process did to them stays.

    Nothing happens to parameters that are not divided. Every process calls it.
    """
    divided = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not divided:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(divided, modifier_rank=0 if change else None):
        yield


@contextmanager
def usable(model: Any, reading: Collection[Any] = ()) -> Iterator[None]:
    """A model that ZeRO-3 divided and no trainer has prepared yet computes inside, one module whole at a time.

    Args:
        reading: modules that read the weights of what is in them without calling it: whole with all of that.

    Every process makes the same calls. Nothing happens to a model that is not divided.
    """
    hooks, inside = [], {}

    def enter(module: Any, *_: Any) -> None:
        inside[module] = put_together(list(module.parameters(recurse=module in reading)))
        inside[module].__enter__()

    def leave(module: Any, *_: Any) -> None:
        inside.pop(module).__exit__(None, None, None)

    # DeepSpeed puts nothing together twice.
    covered = {part for module in reading for part in module.modules() if part is not module}
    for module in model.modules():
        if module in covered:
            continue
        if any(hasattr(parameter, "ds_id") for parameter in module.parameters(recurse=module in reading)):
            hooks += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave, always_call=True),
            ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def trained_tensors(model: Any) -> dict[str, Tensor]:
    """The parameters that are trained, whole, by name, on the CPU. Every process calls it; the main one gets them."""
    found = {}
    # One by one: no more than one of them is whole on a device.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with put_together([parameter]):
                value = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
                if is_main_process():
                    # What ZeRO-3 has put together goes again.
                    copy = hasattr(parameter, "ds_id")
                    found[name] = value.detach().to("cpu", copy=copy).contiguous()
    return found


@torch.no_grad()
def set_trained(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `trained_tensors` gave. Every process calls it with the same tensors."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        value = tensors[name].to(parameter.device, parameter.dtype)
        if isinstance(parameter, DTensor):
            value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        with put_together([parameter], change=True):
            parameter.copy_(value)


def merged(model: Any, state: Mapping[str, Tensor]) -> Any:
    """A model with an adapter as a plain one, from its gathered tensors: peft merges them on the CPU.

    Args:
        model: whose tensors were gathered; it stays as it is.
        state: all of them, by its names.
    """
    from peft import get_peft_model

    base = model.get_base_model()
    # transformers would divide what a reward head is put onto, and one process alone is here.
    with whole_models(), torch.device("meta"):
        # get_peft_model puts the adapter's layers into the model that it is given.
        shell = get_peft_model(type(base)(base.config), model.peft_config["default"])
    shell.load_state_dict(state, strict=False, assign=True)
    shell.get_base_model().tie_weights()
    return shell.merge_and_unload()
