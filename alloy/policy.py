"""Weights, tokenizer, adapter: loaded from a plain model folder and saved as one."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alloy.artifact import is_main_process, publish_folder
from alloy.chat import TEMPLATE
from alloy.errors import InputError
from alloy.precision import is_bfloat16
from alloy.sharding import is_divided, merged, whole_models
from alloy.time_steps import limit_as_the_config_says

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def multiplies_bfloat16() -> bool:
    """Whether the hardware does; a CPU that does not is ten times slower in bfloat16 than in float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def computes_bfloat16(precision: str) -> bool:
    """What `train.precision` means on this machine."""
    return is_bfloat16(precision, gpu=torch.cuda.is_available(), multiplied=multiplies_bfloat16())


def own_device() -> str:
    """This process's GPU, or the CPU: where a model goes that no trainer places."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def load_tokenizer(folder: str | Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder, padding left, with a chat template.

    Raises:
        InputError: no tokenizer there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no tokenizer that can be loaded ({_first_line(error)}).") from None
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def load_model(
    folder: str | Path, precision: str = "float32", auto: Any = AutoModelForCausalLM, **extra: Any
) -> Any:
    """A model from safetensors, no code of the folder trusted, whole in this process.

    Raises:
        InputError: no model there.
    """
    with whole_models():
        return _load(folder, precision, auto, **extra)


def load_for_training(
    folder: str | Path,
    arguments: "TrainingArguments",
    precision: str = "float32",
    auto: Any = AutoModelForCausalLM,
    **extra: Any,
) -> Any:
    """The model that a trainer with these arguments trains: under ZeRO-3 each process has its part from the first.

    Args:
        arguments: not read; made before and alive, by which transformers knows that it is to divide the weights
            as it reads them.
    Raises:
        InputError: no model there.
    """
    return _load(folder, precision, auto, **extra)


def _load(folder: str | Path, precision: str, auto: Any, **extra: Any) -> Any:
    try:
        found = auto.from_pretrained(
            str(folder), dtype=DTYPES[precision], trust_remote_code=False, use_safetensors=True, **extra
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no model that can be loaded ({_first_line(error)}).") from None
    # With `output_loading_info` what was loaded comes with the model.
    limit_as_the_config_says(found[0] if isinstance(found, tuple) else found)
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def save_policy(model: Any, tokenizer: "PreTrainedTokenizerBase", final: Path) -> None:
    """Write a plain model folder under a temporary name and move it to its place.

    An adapter is merged into its base first.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if not is_main_process():
        return
    partial = _empty_partial(final)
    model.config.use_cache = True
    model.save_pretrained(partial, safe_serialization=True)
    tokenizer.save_pretrained(partial)
    publish_folder(partial, final)


def _empty_partial(final: Path) -> Path:
    """The temporary name of a model folder, without what a killed save may have left there."""
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def save_trained(trainer: Any, tokenizer: "PreTrainedTokenizerBase", final: Path) -> None:
    """Save what a TRL trainer trained as a plain model folder, gathered from its shards where it has them.

    Every process calls it; the main one writes.
    """
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if trainer.is_fsdp_enabled or is_divided(model):
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if is_main_process() and hasattr(model, "merge_and_unload"):
            save_policy(merged(model, state), tokenizer, final)
        elif is_main_process():
            partial = _empty_partial(final)
            model.config.use_cache = True
            model.save_pretrained(partial, state_dict=state, safe_serialization=True)
            tokenizer.save_pretrained(partial)
            publish_folder(partial, final)
    else:
        save_policy(model, tokenizer, final)
    trainer.accelerator.wait_for_everyone()


def seed_everything(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def parameter_count(model: "PreTrainedModel") -> int:
    return sum(parameter.numel() for parameter in model.parameters())
