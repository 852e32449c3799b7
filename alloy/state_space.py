"""State-space layers (Mamba-2, gated delta rule) that stay within their document.

Such a layer hands a state from token to token, and its convolution sees the tokens before: over the border of a
document too, where a row holds several. The kernels on a GPU (`mamba_ssm`, `causal_conv1d`) begin anew where
`seq_idx` says that a document does. transformers' reference in PyTorch takes no such thing: there the documents of a
row become the rows of a batch for these layers alone, padded on the right, where nothing that comes later is seen.
Source: transformers 5.17, `models/nemotron_h`; Dao and Gu 2024 (arXiv:2405.21060).
"""

from types import MethodType
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from alloy.divisions import launched_by
from alloy.policy import own_device
from alloy.sharding import is_divided

_BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


def mixers(model: Any) -> list[torch.nn.Module]:
    """The layers that carry a state: each has a convolution over tokens of its own."""
    return [each for each in model.modules() if isinstance(getattr(each, "conv1d", None), torch.nn.Conv1d)]


def lay_documents_out(model: Any) -> bool:
    """Make the state-space layers of a model see the documents of a row one by one.

    Called with `cu_seq_lens_q` (where the documents of the only row begin, and T; shape (documents + 1,)), a layer
    computes on (documents, longest, hidden size) instead of (1, T, hidden size), and gives back (1, T, hidden size):
    once for all documents of like length, so that less than half of what it computes on is padding. Called without,
    nothing changes.

    Returns: whether the model has such layers.
    """
    layers: list[Any] = list(mixers(model))
    for layer in layers:
        layer.forward = MethodType(_document_by_document, layer)
    return bool(layers)


def lay_documents_end_to_end(model: Any) -> None:
    """Take `lay_documents_out` back."""
    for layer in mixers(model):
        layer.__dict__.pop("forward", None)


def _document_by_document(layer: Any, *given: Any, **named: Any) -> Any:
    forward, borders = type(layer).forward, named.get("cu_seq_lens_q")
    if borders is None:
        return forward(layer, *given, **named)
    rest = {name: value for name, value in named.items() if name not in _BORDERS}
    # Nemotron-H gives what it reads by place, the others by name.
    states = given[0] if given else rest.pop("hidden_states")
    documents = states[0].split(borders.diff().tolist())
    found: list[Any] = [None] * len(documents)
    for alike in groups_of_like_length([len(document) for document in documents]):
        rows = pad_sequence([documents[index] for index in alike], batch_first=True)
        for index, row in zip(alike, forward(layer, rows, *given[1:], **rest), strict=True):
            found[index] = row[: len(documents[index])]
    return torch.cat(found)[None]


def groups_of_like_length(lengths: list[int]) -> list[list[int]]:
    """The places of lengths, in groups in which each is more than half of the longest."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not groups or 2 * lengths[index] <= lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(index)
    return groups


def go_where_their_kernels_run(model: Any) -> None:
    """Move a model with such layers to this process's GPU, where it is to be trained: their kernels run nowhere else.

    One that a launch divides stays where it is.
    """
    divided = is_divided(model) or launched_by("FSDP")
    if mixers(model) and not divided:
        model.to(own_device())
