"""Where shapes are read: a model folder, a run folder, the Hub; a base stage's config. Weights are never read."""

import importlib.util
import json
import struct
from collections.abc import Iterable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from alloy.base import BaseConfig
from alloy.chat import SPECIAL_TOKENS, TAG_TOKENS
from alloy.errors import InputError
from alloy.plan.architectures import ARCHITECTURES, decoder, shape_of
from alloy.plan.gguf import llama_config, read_header
from alloy.plan.shape import Shape


def read_shape(named: str, beside: Path | None = None) -> Shape:
    """The shape of a model folder, of the model in a run folder, or of a model on the Hub.

    Args:
        beside: a recipe's folder; NAME.config.json there stands for the model ORGANISATION/NAME of the Hub, so
            that a recipe can be planned where the Hub cannot be asked.
    Raises:
        InputError: there is no config.json, or none that can be planned.
    """
    path = Path(named)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return _folder_shape(folder)
    if path.exists():
        raise InputError(
            f"{named}: no config.json there. Name a model folder or a run folder that has a model."
        )
    kept = beside / f"{path.name}.config.json" if beside is not None else None
    if kept is not None and kept.is_file():
        return shape_of(_read_json(kept), str(kept))
    return shape_of(_read_json(_from_hub(named)), f"{named}/config.json")


def _folder_shape(folder: Path) -> Shape:
    path = folder / "config.json"
    config = _read_json(path)
    if config.get("model_type") in ARCHITECTURES:
        return shape_of(config, str(path))
    counted = count_parameters(folder.glob("*.safetensors"))
    try:
        guessed = decoder(config)
    except KeyError:
        return shape_of(config, str(path))  # says which architectures are known
    if not counted:
        return shape_of(config, str(path))
    note = (
        f"{config.get('model_type')} is no architecture known here: its parameters are counted in the weights' "
        "headers, and its memory and operations are those of a llama of its sizes"
    )
    return replace(guessed, counted=counted, note=note)


def count_parameters(files: Iterable[Path]) -> int:
    """Numbers in safetensors files, by their headers.

    Raises:
        InputError: a file that is no safetensors.
    """
    total = 0
    for path in files:
        try:
            with path.open("rb") as stream:
                (size,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(size))
        except (struct.error, ValueError, MemoryError, OverflowError):
            raise InputError(f"{path}: its header is no safetensors header. Copy the file again.") from None
        total += sum(prod(told["shape"]) for name, told in header.items() if name != "__metadata__")
    return total


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not JSON ({error}). Copy the file again.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: an object is needed, not {type(found).__name__}.")
    return found


def _from_hub(name: str) -> Path:
    """config.json of a model on the Hub: from the cache, or fetched where the Hub may be asked."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, "config.json"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{name}: neither a folder nor a model whose config.json the Hub gives ({first})."
        ) from None


def base_shape(config: BaseConfig, beside: Path | None = None) -> Shape:
    """What a base stage makes: a model of a given shape, the one in a package's GGUF file, or the Hub's.

    Args:
        beside: as for `read_shape`.
    Raises:
        InputError: the package is not installed, or its file or the Hub's model is none that can be planned.
    """
    if config.source == "hub":
        assert config.model is not None  # the config's own rule
        return read_shape(config.model, beside)
    if config.source == "scratch":
        if config.architecture is not None:
            return shape_of({**config.architecture, "vocab_size": config.vocabulary}, "architecture")
        assert config.shape is not None  # the config's own rule
        given = config.shape
        return shape_of(
            {
                "model_type": "llama",
                "vocab_size": config.vocabulary,
                "hidden_size": given.hidden_size,
                "num_hidden_layers": given.layers,
                "num_attention_heads": given.heads,
                "num_key_value_heads": given.key_value_heads or given.heads,
                "intermediate_size": given.mlp_size,
                "max_position_embeddings": given.max_positions,
                "tie_word_embeddings": True,
            },
            "shape",
        )
    assert config.package is not None  # the config's own rule
    path = _gguf_of(config.package)
    metadata, tensors = read_header(path)
    try:
        told = llama_config(metadata, tensors)
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing in its header. Copy the file again.") from None
    # The stage adds the tokens of the chat format that the vocabulary lacks.
    known = set(metadata["tokenizer.ggml.tokens"])
    told["vocab_size"] += sum(token not in known for token in (*SPECIAL_TOKENS, *TAG_TOKENS))
    return shape_of(told, str(path))


def _gguf_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package: {package!r} is not installed. `make setup` installs it.")
    files = sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"package: {package!r} holds {len(files)} *.gguf files, exactly one is needed.")
    return files[0]
