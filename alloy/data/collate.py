"""Packed sequences to a batch whose documents cannot see each other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class PackedCollator:
    """Rows of `input_ids`, `labels` and `seq_lengths` to tensors of shape (B, T).

    Positions restart at every document, and no attention mask is given: from such positions
    transformers builds the block-diagonal causal mask itself (sdpa and eager), but only in a forward
    pass without a cache, as TRL's trainer makes it. Padding on the right is a document of its own and
    carries no loss.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        input_ids = torch.full((len(rows), width), self.pad_token_id)
        labels = torch.full((len(rows), width), -100)
        position_ids = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            input_ids[index, :length] = torch.as_tensor(row["input_ids"])
            labels[index, :length] = torch.as_tensor(row["labels"])
            position_ids[index] = positions(row["seq_lengths"], width)
        return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}


def positions(lengths: list[int], width: int) -> Tensor:
    """0, 1, 2, ... from each document's start; shape (width,)."""
    parts = [torch.arange(length) for length in [*lengths, width - sum(lengths)]]
    return torch.cat(parts)
