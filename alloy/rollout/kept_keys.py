"""Keys and values: written in place as they come, and kept from one turn of a conversation to the next.

The state of a state-space layer is not kept: behind the padding of a later turn it would be wrong, as its convolution
sees the tokens right before. Such a model reads a conversation anew at every turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

_ROOM = 64
"""Tokens that a layer makes room for at once."""


class RoomyLayer(DynamicLayer):
    """A layer that leaves room for the tokens to come: one of DynamicLayer is copied whole at every token."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._whole = tuple(state[..., :0, :] for state in (key_states, value_states))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        new = (key_states, value_states)
        if after > self._whole[0].shape[-2]:
            self._whole = tuple(
                torch.cat([whole[..., :before, :], state, _room_of(state)], dim=-2)
                for whole, state in zip(self._whole, new, strict=True)
            )
        else:
            for whole, state in zip(self._whole, new, strict=True):
                whole[..., before:after, :] = state
        self._show(after)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            self._whole = tuple(whole[indices] for whole in self._whole)
            self._show(self.get_seq_length())

    def _show(self, tokens: int) -> None:
        self.keys, self.values = (whole[..., :tokens, :] for whole in self._whole)


class StateLayer(LinearAttentionLayer):
    """The state of a state-space layer, whose rows can be taken out as they end: transformers' has no such method."""

    def batch_select_indices(self, indices: Tensor) -> None:
        # It takes as many rows as it is given, in their order.
        self.reorder_cache(indices)


def _room_of(state: Tensor) -> Tensor:
    return state.new_empty((*state.shape[:-2], _ROOM, state.shape[-1]))


def roomy_cache(config: Any) -> DynamicCache:
    """An empty cache of a model; its layers that keep all keys and values leave room."""
    cache = DynamicCache(config=config)
    ours = {DynamicLayer: RoomyLayer, LinearAttentionLayer: StateLayer}
    cache.layers = [ours[type(layer)]() if type(layer) in ours else layer for layer in cache.layers]
    return cache


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """What a model has read of one conversation.

    Attributes:
        layers: keys and values of every layer, each of shape (heads, tokens, head size).
        tokens: how many were read: the prompt, and the completion without its last token.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    tokens: int


def keep(cache: DynamicCache, row: int, mask: Tensor) -> KeptKeys | None:
    """One row of a cache without its padding; None where a layer keeps more than keys and values.

    Args:
        mask: of the cache, of shape (rows, tokens), 1 where a token was read.
    """
    if not all(isinstance(layer, RoomyLayer) for layer in cache.layers):
        return None
    read = mask[row].bool()
    layers = tuple((layer.keys[row][:, read], layer.values[row][:, read]) for layer in cache.layers)
    return KeptKeys(layers, int(read.sum()))


def recall(kept: Sequence[KeptKeys | None], config: Any, device: torch.device) -> tuple[DynamicCache, Tensor]:
    """A cache with a row for each, padded on the left, and its mask of shape (rows, tokens)."""
    cache = roomy_cache(config)
    width = max((each.tokens for each in kept if each is not None), default=0)
    mask = torch.zeros((len(kept), width), dtype=torch.long)
    for row, each in enumerate(kept):
        if each is not None:
            mask[row, width - each.tokens :] = 1
    first = next((each for each in kept if each is not None), None)
    for index in range(len(first.layers) if first is not None else 0):
        cache.update(*(_stacked(kept, index, part, width) for part in (0, 1)), index)
    return cache, mask.to(device)


def _stacked(kept: Sequence[KeptKeys | None], index: int, part: int, width: int) -> Tensor:
    like = next(each for each in kept if each is not None).layers[index][part]
    stacked = like.new_zeros((len(kept), like.shape[0], width, like.shape[2]))
    for row, each in enumerate(kept):
        if each is not None:
            stacked[row, :, width - each.tokens :] = each.layers[index][part]
    return stacked
