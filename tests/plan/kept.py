"""What PyTorch's autograd really keeps of a forward pass: the oracle of the planner's bytes."""

from contextlib import nullcontext
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import alloy.attention  # noqa: F401  (registers `documents`)


def kept_bytes(config: Any, tokens: int, *, attention: str, bfloat16: bool = False) -> float:
    """Bytes a token that a model of this config keeps: two rows with padding for `sdpa`, one without else.

    Storages are counted once. The weights are not counted, nor autocast's copies of them.
    """
    torch.manual_seed(0)
    encoder = config.model_type == "bert"
    auto = AutoModelForSequenceClassification if encoder else AutoModelForCausalLM
    kind = "sdpa" if attention == "flash" else attention
    model = auto.from_config(config, attn_implementation=kind).train()
    rows = 2 if attention == "sdpa" else 1
    given: dict[str, Any] = {"input_ids": torch.randint(0, config.vocab_size, (rows, tokens))}
    if attention == "sdpa":
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        given["attention_mask"][0, :3] = 0
    if attention == "documents":
        half = tokens // 2
        given["cu_seq_lens_q"] = torch.tensor([0, half, tokens], dtype=torch.int32)
        given["position_ids"] = torch.cat([torch.arange(half), torch.arange(tokens - half)])[None]
    if not encoder:
        given["use_cache"] = False
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    weights = {p.shape for p in model.parameters()} | {p.shape[::-1] for p in model.parameters()}
    seen: dict[int, int] = {}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)  # an address is not used again while it is held
        storage = tensor.untyped_storage()
        copied = tensor.dtype == torch.bfloat16 and tensor.ndim > 1 and tensor.shape in weights
        if storage.data_ptr() not in own and not copied:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    autocast = torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        model.base_model(**given)
    return sum(seen.values()) / (rows * tokens)
