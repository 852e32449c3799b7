"""State-space layers (Mamba-2) that stay within their document.

Such a layer hands a state from token to token, and its convolution sees the tokens before: over the border of a
document too, where a row holds several. The kernels on a GPU (`mamba_ssm`, `causal_conv1d`) begin anew where
`seq_idx` says that a document does. transformers' reference in PyTorch takes no such thing: there the documents of a
row become the rows of a batch for these layers alone, padded on the right, where nothing that comes later is seen.
Source: transformers 5.17, `models/nemotron_h`; Dao and Gu 2024 (arXiv:2405.21060).
"""

import os
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from alloy.policy import own_device
from alloy.sharding import is_divided

_BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


def mixers(model: Any) -> list[torch.nn.Module]:
    """The layers that carry a state: each has a convolution over tokens of its own."""
    return [each for each in model.modules() if isinstance(getattr(each, "conv1d", None), torch.nn.Conv1d)]


def lay_documents_out(model: Any) -> list[Any]:
    """Make the state-space layers of a model see the documents of a row one by one.

    Called with `cu_seq_lens_q` (where the documents of the only row begin, and T; shape (documents + 1,)), a layer
    computes on (documents, longest, hidden size) instead of (1, T, hidden size), and gives back (1, T, hidden size).
    Called without, nothing changes.

    Returns: the hooks, to be removed by; none for a model without such layers.
    """
    lengths: dict[torch.nn.Module, list[int]] = {}

    def apart(layer: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        borders = named.get("cu_seq_lens_q")
        lengths.pop(layer, None)
        if borders is None:
            return None
        lengths[layer] = borders.diff().tolist()
        (row,) = given[0]
        documents = pad_sequence(list(row.split(lengths[layer])), batch_first=True)
        rest = {name: value for name, value in named.items() if name not in _BORDERS}
        return (documents, *given[1:]), rest

    def together(layer: torch.nn.Module, _: Any, found: Tensor) -> Tensor | None:
        if layer not in lengths:
            return None
        parts = [row[:length] for row, length in zip(found, lengths.pop(layer), strict=True)]
        return torch.cat(parts)[None]

    hooks: list[Any] = []
    for layer in mixers(model):
        hooks += [
            layer.register_forward_pre_hook(apart, with_kwargs=True),
            layer.register_forward_hook(together),
        ]
    return hooks


def where_its_kernels_run(model: Any) -> Any:
    """A model with such layers on this process's GPU, where it is to be trained: their kernels run nowhere else.

    One that a launch divides stays where it is.
    """
    divided = is_divided(model) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return model.to(own_device()) if mixers(model) and not divided else model
