"""Small model folders, written with the safetensors library (an oracle for our own writer)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TOKENS = {"<pad>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 5,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


class WriteModel(Protocol):
    def __call__(self, name: str, tensors: dict[str, Tensor] | None = None, **parts: Any) -> Path: ...


def weights(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = {
        "model.embed_tokens.weight": (5, 4),
        "model.layers.0.mlp.up_proj.weight": (8, 4),
        "model.norm.weight": (4,),
        "lm_head.weight": (5, 4),
    }
    return {name: torch.randn(shape, generator=rng).to(dtype) for name, shape in shapes.items()}


def tokenizer_json(tokens: dict[str, int] = TOKENS) -> dict[str, Any]:
    return {"model": {"type": "BPE", "vocab": tokens, "merges": []}, "added_tokens": []}


def write_folder(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    shards: Sequence[Sequence[str]] = (),
    config: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = tokenizer_json(),  # noqa: B008
    template: str | None = "{{ messages }}",
    tokenizer_config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = {},  # noqa: B006
) -> Path:
    """A model folder; `tokenizer`, `template` and `generation` may be left out (None)."""
    folder.mkdir()
    if shards:
        where = {}
        for number, names in enumerate(shards, 1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
            save_file({n: tensors[n] for n in names}, folder / file, {"format": "pt"})
            where |= dict.fromkeys(names, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    else:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    parts = {
        "config.json": {**CONFIG, **(config or {})},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"eos_token": "</s>", "pad_token": "<pad>", **(tokenizer_config or {})},
        "generation_config.json": None if generation is None else {"eos_token_id": 2, **generation},
    }
    for file, content in parts.items():
        if content is not None:
            (folder / file).write_text(json.dumps(content))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def load(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's files."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def perturbed(folder: Path, out: Path, seed: int) -> Path:
    """A copy of a model folder, every weight moved a little."""
    from alloy.policy import load_model, load_tokenizer

    torch.manual_seed(seed)
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.001)
    model.save_pretrained(out)
    load_tokenizer(folder).save_pretrained(out)
    return out
