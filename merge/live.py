"""One model in memory whose weights become those of any alpha."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from alloy.policy import load_model
from merge.checkpoint import FLOAT_BYTES
from merge.interpolate import interpolate_into
from merge.preflight import Plan
from merge.tensors import TORCH_DTYPES, read_tensor
from merge.weights import Files


class LiveModel:
    """Both parents, read once, and a model that is set to one blend of them after another.

    Its weights are those that a merge writes, bit for bit, widened to the precision of the evaluation
    as loading the written checkpoint would.
    """

    def __init__(self, plan: Plan, precision: str = "float32") -> None:
        files = Files()
        self._parents = [(p, read_tensor(files, p.reasoning), read_tensor(files, p.chat)) for p in plan.pairs]
        files.close()
        tied = plan.config.get("tie_word_embeddings")
        own = plan.donor.config.get("tie_word_embeddings")
        self.model: Any = load_model(
            plan.donor.folder, precision, **({} if tied == own else {"tie_word_embeddings": tied})
        )
        # Checkpoints of some models are regrouped when they are loaded (experts, fused projections).
        self._in_place = {p.name for p in plan.pairs} <= self.model.state_dict().keys()

    def weights(self, alpha: float) -> Iterator[tuple[str, Tensor]]:
        """The tensors that a merge at this alpha writes, one at a time."""
        for pair, reasoning, chat in self._parents:
            if pair.dtype not in FLOAT_BYTES:
                yield pair.name, reasoning
                continue
            out = torch.empty(reasoning.shape, dtype=TORCH_DTYPES[pair.dtype])
            interpolate_into(out, reasoning, chat, alpha)
            yield pair.name, out

    @torch.no_grad()
    def set(self, alpha: float) -> Any:
        """Give the model the weights of this alpha.

        Returns: the model; the same object every time where its names are the checkpoint's.
        """
        if self._in_place:
            state = self.model.state_dict()
            for name, weight in self.weights(alpha):
                state[name].copy_(weight)
        else:
            self.model = type(self.model).from_pretrained(
                None, config=self.model.config, state_dict=dict(self.weights(alpha)), dtype=self.model.dtype
            )
        return self.model.eval()
