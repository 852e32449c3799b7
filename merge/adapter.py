"""A LoRA adapter as a parent: its base's tensors, with scale * B @ A added while they are read."""

from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_json, fingerprint_model
from alloy.errors import InputError
from merge.checkpoint import (
    ADAPTER,
    Adapter,
    Checkpoint,
    Entry,
    Role,
    open_checkpoint,
    read_header,
    read_json,
)

_PREFIX = "base_model.model."
_REMEDY = "Merge it into its base first (peft: merge_and_unload, then save_pretrained)."


def open_adapter(folder: Path, role: Role) -> Checkpoint:
    """The base that the adapter names (a folder), adapted; config and tokenizer are the base's.

    Raises:
        InputError: no base there, or an adapter that is more than low-rank products.
    """
    config = read_json(folder / ADAPTER)
    _check_kind(folder, role, config)
    base = _base(folder, role, config)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise InputError(f"{role}: {folder} has no adapter_model.safetensors. Save the adapter again.")
    under = open_checkpoint(base, role)
    entries = _adapted(folder, role, under.entries, read_header(weights), config)
    return replace(
        under,
        path=folder,
        fingerprint=fingerprint_json([under.fingerprint, fingerprint_model(folder)]),
        entries=entries,
    )


def base_fingerprint(path: Path) -> str | None:
    """The identity of what a LoRA adapter, or a run whose model is one, adapts; None for any other folder."""
    for folder in (path, path / "model"):
        if (folder / ADAPTER).is_file():
            base = _base(folder, "base", read_json(folder / ADAPTER))
            return open_checkpoint(base, "base").fingerprint
    return None


def _base(folder: Path, role: Role, config: dict[str, Any]) -> Path:
    named = str(config.get("base_model_name_or_path"))
    found = next((path for path in (Path(named), folder / named) if path.is_dir()), None)
    if found is None:
        raise InputError(
            f"{role}: {folder} is an adapter of {named!r}, and there is no such folder. "
            "Fetch the base and set base_model_name_or_path in adapter_config.json to it."
        )
    return found


def _check_kind(folder: Path, role: Role, config: dict[str, Any]) -> None:
    told = {
        "peft_type": config.get("peft_type") not in (None, "LORA"),
        "use_dora": bool(config.get("use_dora")),
        "bias": config.get("bias") not in (None, "none"),
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        "rank_pattern": bool(config.get("rank_pattern")),
        "alpha_pattern": bool(config.get("alpha_pattern")),
    }
    for key, unfit in told.items():
        if unfit:
            raise InputError(
                f"{role}: {folder}: {key} is {config[key]!r}, and only plain LoRA is merged on the fly. {_REMEDY}"
            )


def _adapted(
    folder: Path, role: Role, base: dict[str, Entry], stored: dict[str, Entry], config: dict[str, Any]
) -> dict[str, Entry]:
    entries, used = dict(base), set()
    for name, down in stored.items():
        module, found, _ = name.removeprefix(_PREFIX).partition(".lora_A.weight")
        target, up = f"{module}.weight", stored.get(name.replace(".lora_A.", ".lora_B."))
        if not found or target not in base or up is None:
            continue
        shape = (up.shape[0], down.shape[1])
        if base[target].shape != shape or up.shape[1] != down.shape[0] or not base[target].is_float:
            raise InputError(
                f"{role}: {folder}: {name} makes {list(shape)} of {target}, which is "
                f"{list(base[target].shape)} in the base. Name the base that it was trained on."
            )
        rank = down.shape[0]
        scale = config.get("lora_alpha", rank) / (sqrt(rank) if config.get("use_rslora") else rank)
        entries[target] = replace(base[target], adapter=Adapter(down, up, scale))
        used |= {name, name.replace(".lora_A.", ".lora_B.")}
    for name in stored.keys() - used:
        # Modules that were trained whole (a reward model's head) are in the file under their own name.
        target = name.removeprefix(_PREFIX)
        if target not in base or stored[name].shape != base[target].shape:
            raise InputError(
                f"{role}: {folder}: {name} fits to no tensor of the base, or is none that can be added. {_REMEDY}"
            )
        entries[target] = stored[name]
    return entries
