"""One model in memory whose weights become those of any merge of its parents."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor

from alloy.policy import load_model
from merge.blender import Blend, Blender, Linear
from merge.preflight import Plan
from merge.shard import Shard, into_shards
from merge.tensors import as_tensor
from merge.weights import Files


class LiveModel:
    """The parents, read once and held, and a model that is set to one blend of them after another.

    Its weights are those that a merge writes, bit for bit, widened to the precision of the evaluation
    as loading the written checkpoint would.

    Args:
        max_shard_bytes: of the files that a merge writes: their hashes are told beside the model.
    """

    def __init__(self, plan: Plan, max_shard_bytes: int, precision: str = "float32") -> None:
        self._shards = into_shards(plan.pairs, max_shard_bytes)
        self._files = Files(keep=True)
        tied = plan.config.get("tie_word_embeddings")
        own = plan.donor.config.get("tie_word_embeddings")
        self.model: Any = load_model(
            plan.donor.folder, precision, **({} if tied == own else {"tie_word_embeddings": tied})
        ).to("cuda" if torch.cuda.is_available() else "cpu")
        # Checkpoints of some models are regrouped when they are loaded (experts, fused projections).
        self._in_place = {pair.name for pair in plan.pairs} <= self.model.state_dict().keys()

    @torch.no_grad()
    def set(self, blend: Blend | Linear) -> tuple[Any, dict[str, str]]:
        """Give the model the weights of this blend.

        Returns: the model (the same object every time where its names are the checkpoint's), and of every
            file that a merge writes its name and the BLAKE3 hash of the bytes that the model was given.
        """
        hashes: dict[str, str] = {}
        if self._in_place:
            state = self.model.state_dict()
            for name, weight in self._weights(blend, hashes):
                state[name].copy_(weight)
        else:
            weights = dict(self._weights(blend, hashes))
            model = type(self.model)
            self.model = model.from_pretrained(
                None, config=self.model.config, state_dict=weights, dtype=self.model.dtype
            ).to(self.model.device)
        return self.model.eval(), hashes

    def _weights(self, blend: Blend | Linear, hashes: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
        """The tensors of every file, one at a time; a file's hash is known after its last one."""
        with Blender(self._files) as blender:
            for shard in self._shards:
                hasher = blake3(shard.header)
                yield from _tensors(shard, blender, blend, hasher.update)
                hashes[shard.name] = hasher.hexdigest()


def _tensors(
    shard: Shard, blender: Blender, blend: Blend | Linear, see: Callable[[memoryview], Any]
) -> Iterator[tuple[str, Tensor]]:
    pieces = blender.pieces(shard, blend)
    for pair in shard.pairs:
        # Memory of its own: a model that is built from a state may keep it.
        whole = np.empty(pair.size, dtype=np.uint8)
        at = 0
        while at < pair.size:
            piece, data = next(pieces)
            assert piece.pair is pair
            see(data)
            whole[at : at + len(data)] = data
            at += len(data)
        yield pair.name, as_tensor(whole, pair.dtype).reshape(pair.reasoning.shape)
    # At its end the last buffer is free again.
    assert next(pieces, None) is None
