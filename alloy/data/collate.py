"""Sequences to a batch whose documents cannot see each other."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor


@dataclass
class FlatCollator:
    """Rows of `input_ids`, `labels` and `seq_lengths`, laid end to end: tensors of shape (1, T), no padding.

    Positions restart at every document. `cu_seq_lens_*` say where documents begin, for attention that
    works document by document (`alloy.attention`, FlashAttention's variable-length kernels); `seq_idx` says
    which document a token is of, for the kernels of state-space layers.
    """

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        lengths = list(chain.from_iterable(row["seq_lengths"] for row in rows))
        starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        document = torch.arange(len(lengths), dtype=torch.int32)
        return {
            "input_ids": _joined(rows, "input_ids"),
            "labels": _joined(rows, "labels"),
            "position_ids": positions(lengths, sum(lengths))[None],
            "seq_idx": document.repeat_interleave(torch.tensor(lengths))[None],
            "cu_seq_lens_q": starts,
            "cu_seq_lens_k": starts,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
        }


@dataclass
class PackedCollator:
    """Rows of `input_ids`, `labels` and `seq_lengths` to tensors of shape (B, T).

    Positions restart at every document, and no attention mask is given: from such positions
    transformers builds the block-diagonal mask itself, in a forward pass without a cache. Padding on the
    right is a document of its own and carries no loss.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        return {
            "input_ids": _padded(rows, "input_ids", width, self.pad_token_id),
            "labels": _padded(rows, "labels", width, -100),
            "position_ids": torch.stack([positions(list(row["seq_lengths"]), width) for row in rows]),
        }


@dataclass
class PaddedCollator:
    """Rows of one document each to tensors of shape (B, T), padded on the right.

    For models whose documents cannot be told apart in one row (state-space layers).
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        ones = [{"seen": torch.ones(len(row["input_ids"]), dtype=torch.long)} for row in rows]
        return {
            "input_ids": _padded(rows, "input_ids", width, self.pad_token_id),
            "labels": _padded(rows, "labels", width, -100),
            "attention_mask": _padded(ones, "seen", width, 0),
        }


def positions(lengths: list[int], width: int) -> Tensor:
    """0, 1, 2, ... from each document's start; shape (width,)."""
    parts = [torch.arange(length) for length in [*lengths, width - sum(lengths)]]
    return torch.cat(parts)


def _joined(rows: list[dict[str, Any]], name: str) -> Tensor:
    return torch.cat([torch.as_tensor(row[name]) for row in rows])[None]


def _padded(rows: list[dict[str, Any]], name: str, width: int, filler: int) -> Tensor:
    padded = torch.full((len(rows), width), filler)
    for index, row in enumerate(rows):
        padded[index, : len(row[name])] = torch.as_tensor(row[name])
    return padded
