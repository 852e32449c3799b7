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

from alloy.data.collate import FlatCollator, PackedCollator
from alloy.sharding import usable

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


def keep_documents_apart(model: Any, pad_token_id: int, bfloat16: bool = False) -> Any:
    """Set a model up for sequences of several documents, and give the collator that suits it; None if none does.

    Tried, not looked up: whether a document's logits are the same whatever stands before it depends on
    the model (state-space layers carry their state over a border) and on the kernels that are installed.
    First documents end to end; for attention that `documents` does not implement, the model's own with
    restarting positions, from which transformers builds the mask.
    """
    for name, collate in (
        (NAME, FlatCollator()),
        ("sdpa", PackedCollator(pad_token_id)),
        ("eager", PackedCollator(pad_token_id)),
    ):
        if _works(model, name, collate):
            if name == NAME and bfloat16 and torch.cuda.is_available() and is_flash_attn_2_available():
                # The same documents for its variable-length kernels, which take no other numbers.
                model.set_attn_implementation("flash_attention_2")
            return collate
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    return None


def _works(model: Any, name: str, collate: Any) -> bool:
    first, other, document = (list(range(start, start + 9)) for start in (10, 30, 50))
    training = model.training
    try:
        model.eval().set_attn_implementation(name)
        behind = [_logits(model, collate, [before, document])[9:] for before in (first, other)]
        if not _close(*behind):
            return False
        # What stands alone must be what the model makes of it by its own means.
        alone = _logits(model, collate, [document])
        model.set_attn_implementation("eager")
        own = _logits(model, PackedCollator(0), [document])
        model.set_attn_implementation(name)
        return _close(alone, own)
    except Exception:  # a kind of attention that is not implemented, arguments that a model does not take
        return False
    finally:
        model.train(training)


def _logits(model: Any, collate: Any, documents: list[list[int]]) -> Tensor:
    ids = [token for document in documents for token in document]
    batch = collate([{"input_ids": ids, "labels": ids, "seq_lengths": [len(d) for d in documents]}])
    given = {
        name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in batch.items()
    }
    with torch.no_grad(), usable(model):
        logits: Tensor = model(**given, use_cache=False).logits[0]
    return logits


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, which differs where experts get batches of other sizes."""
    scale = float(one.abs().max()) or 1.0
    return bool((one - other).abs().max() < (1e-4 if one.dtype == torch.float32 else 2e-2) * scale)
