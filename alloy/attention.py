"""Attention that stays within its document, on any device.

`documents`, registered with transformers here, takes documents laid end to end with PyTorch's own attention,
document by document: nothing is computed that a mask would throw away, and no mask is built. On a GPU
`documents-varlen` does the same in one go, with the variable-length kernels of FlashAttention that PyTorch
carries.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface

from alloy.data.collate import FlatCollator, PackedCollator
from alloy.policy import own_device
from alloy.sharding import usable
from alloy.stage import say
from alloy.state_space import go_where_their_kernels_run, lay_documents_end_to_end, lay_documents_out, mixers

NAME = "documents"
VARLEN = "documents-varlen"
"""Without the word by which transformers takes an implementation for its own FlashAttention."""


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


def varlen_within_documents(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **named: Any,
) -> tuple[Tensor, None]:
    """`attend_within_documents` by FlashAttention's kernels; by itself for what they do not take.

    Args:
        named: as it has them, and `max_length_q`: tokens of the longest document; T when not given.
    """
    borders, window, half = named.get("cu_seq_lens_q"), named.get("sliding_window"), _half(query)
    takes = (
        half is not None and not named.get("dropout") and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256
    )
    unknown = any(named.get(name) is not None for name in ("softcap", "s_aux"))
    if not takes or query.shape[0] != 1 or attention_mask is not None or unknown or borders is None:
        return attend_within_documents(module, query, key, value, attention_mask, **named)
    longest = named.get("max_length_q") or query.shape[2]
    # A window counts the positions before one's own.
    before = -1 if window is None else window - 1
    queries, keys, values = (part[0].transpose(0, 1).to(half).contiguous() for part in (query, key, value))
    attended = varlen_attn(
        queries,
        keys,
        values,
        borders,
        borders,
        longest,
        longest,
        scale=named.get("scaling"),
        window_size=(before, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(attended, Tensor)
    return attended[None], None


def _half(query: Tensor) -> torch.dtype | None:
    """The half precision that the kernels compute in here: the numbers' own, or autocast's; None where neither is."""
    device = query.device.type
    own = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    return own if own in (torch.bfloat16, torch.float16) else None


def _no_mask(*_: Any, **__: Any) -> None:
    """Attention within documents needs no mask."""


AttentionInterface.register(NAME, attend_within_documents)
AttentionInterface.register(VARLEN, varlen_within_documents)
for _name in (NAME, VARLEN):
    AttentionMaskInterface.register(_name, _no_mask)


def keep_documents_apart(model: Any, pad_token_id: int, bfloat16: bool = False) -> Any:
    """Set a model up for sequences of several documents, and give the collator that suits it; None if none does.

    Tried, not looked up: whether a document's logits are the same whatever stands before it depends on
    the model and on the kernels that are installed. First documents end to end; for attention that `documents`
    does not implement, the model's own with restarting positions, from which transformers builds the mask; for
    state-space layers whose kernels do not know where a document begins, each document as a row of its own.
    """
    go_where_their_kernels_run(model)
    for name, collate in (
        (NAME, FlatCollator()),
        ("sdpa", PackedCollator(pad_token_id)),
        ("eager", PackedCollator(pad_token_id)),
    ):
        if _works(model, name, collate):
            if name == NAME:
                _use_kernels(model, bfloat16)
            return collate
    if lay_documents_out(model) and _works(model, NAME, FlatCollator()):
        _use_kernels(model, bfloat16)
        return FlatCollator()
    lay_documents_end_to_end(model)
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    return None


def _use_kernels(model: Any, bfloat16: bool) -> None:
    # The kernels take half precision alone.
    if bfloat16 and torch.cuda.is_available() and varlen_works(own_device()):
        model.set_attn_implementation(VARLEN)


@cache
def varlen_works(device: str) -> bool:
    """Whether FlashAttention's kernels run on a device and give what attention document by document gives.

    Tried on grouped heads and two documents, there and back; a device that is too old says so here, and not in
    the middle of a step.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, heads, 24, 64) for heads in (4, 2, 2)]
    given = [torch.randn(size, generator=generator).to(device, torch.bfloat16) for size in sizes]
    borders = torch.tensor([0, 9, 24], dtype=torch.int32, device=device)
    try:
        flash, each = (
            _there_and_back(attend, [part.clone().requires_grad_() for part in given], borders)
            for attend in (varlen_within_documents, attend_within_documents)
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        say(f"  FlashAttention's kernels do not run here ({str(error).strip().splitlines()[0]}): {NAME}")
        return False
    alike = all(_close(one, other) for one, other in zip(flash, each, strict=True))
    if not alike:
        say(f"  FlashAttention's kernels give other numbers here than attention document by document: {NAME}")
    return alike


def _there_and_back(attend: Any, parts: list[Tensor], borders: Tensor) -> list[Tensor]:
    attended, _ = attend(torch.nn.Module(), *parts, None, cu_seq_lens_q=borders, max_length_q=15)
    return [attended.detach(), *torch.autograd.grad(attended.float().square().sum(), parts)]


def _works(model: Any, name: str, collate: Any) -> bool:
    first, other, document = (list(range(start, start + 9)) for start in (10, 30, 50))
    training = model.training
    try:
        model.eval().set_attn_implementation(name)
        for mixer in mixers(model):
            mixer.train()  # what its kernels compute in training is another way
        behind = [_logits(model, collate, [before, document])[9:] for before in (first, other)]
        if not _close(*behind):
            return False
        # What stands alone must be what the model makes of it by its own means.
        alone = _logits(model, collate, [document])
        model.set_attn_implementation("eager")
        own = _logits(model, PackedCollator(0), [document])
        model.set_attn_implementation(name)
        return _close(alone, own)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError):
        # A kind of attention that is not implemented, arguments or shapes that a model does not take.
        return False
    finally:
        model.train(training)


def _logits(model: Any, collate: Any, documents: list[list[int]]) -> Tensor:
    ids = [token for document in documents for token in document]
    batch = collate([{"input_ids": ids, "labels": ids, "seq_lengths": [len(d) for d in documents]}])
    given = {
        name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in batch.items()
    }
    with torch.no_grad(), usable(model, mixers(model)):
        logits: Tensor = model(**given, use_cache=False).logits[0]
    return logits


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, which differs where experts get batches of other sizes."""
    scale = float(one.abs().max()) or 1.0
    return bool((one - other).abs().max() < (1e-4 if one.dtype == torch.float32 else 2e-2) * scale)
