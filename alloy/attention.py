"""Attention that stays within its document, on any device.

On a GPU the variable-length kernels of FlashAttention take documents laid end to end. Elsewhere
`documents`, registered with transformers here, does the same with PyTorch's own attention, document
by document: nothing is computed that a mask would throw away, and no mask is built.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.utils import is_flash_attn_2_available

NAME = "documents"


def attend_within_documents(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Causal attention in which no position sees another document.

    Args:
        query: shape (1, heads, T, head size).
        key, value: shape (1, key heads, T, head size).
        cu_seq_lens_q: where the documents begin, and T; shape (documents + 1,). One document when None.
        sliding_window: how many positions are seen, one's own included; all when None.
    Returns: shape (1, T, heads, head size), and no weights.
    Raises:
        ValueError: more than one row, an attention mask, or a kind of attention that is not implemented.
    """
    unknown = [name for name in ("softcap", "s_aux") if other.get(name) is not None]
    if query.shape[0] != 1 or attention_mask is not None or unknown:
        raise ValueError(
            f"one row without a mask is needed, and no {' or '.join(unknown) or 'other'} attention"
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    total = query.shape[2]
    lengths = [total] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    parts = (part.split(lengths, dim=2) for part in (query, key, value))
    attended = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, **_mask(q, sliding_window), dropout_p=dropout, scale=scaling
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended, dim=2).transpose(1, 2), None


def _mask(query: Tensor, window: int | None) -> dict[str, Any]:
    length = query.shape[2]
    if window is None or length <= window:
        return {"is_causal": True}
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return {"attn_mask": seen.tril().triu(1 - window)}


def _no_mask(*_: Any, **__: Any) -> None:
    """Attention within documents needs no mask."""


AttentionInterface.register(NAME, attend_within_documents)
AttentionMaskInterface.register(NAME, _no_mask)


def within_documents() -> str:
    """The attention that keeps documents apart on this machine, by transformers' name for it."""
    on_gpu = torch.cuda.is_available() and is_flash_attn_2_available()
    return "flash_attention_2" if on_gpu else NAME


def keeps_documents_apart(model: Any, collate: Any) -> bool:
    """Whether a document's logits are the same to the bit whatever stands before it in the sequence.

    Tried, not looked up: state-space layers carry their state over a border unless their kernels are
    told where it is, and whether they are depends on what is installed.
    """
    first, other, document = (list(range(start, start + 9)) for start in (10, 30, 50))
    found = []
    with torch.no_grad():
        for before in (first, other):
            row = {"input_ids": before + document, "labels": before + document, "seq_lengths": [9, 9]}
            batch = {name: _to(value, model.device) for name, value in collate([row]).items()}
            found.append(model(**batch, use_cache=False).logits[0, 9:])
    return torch.equal(*found)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
