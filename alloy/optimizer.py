"""Muon: orthogonalised momentum for the matrices of the hidden layers, AdamW for everything else.

A model from scratch learns to copy in a fraction of the steps that AdamW needs (docs/results.md). torch
has a Muon too: it takes matrices alone and iterates in bfloat16, which a CPU without bfloat16 units
computes some twenty times slower than float32.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from alloy.config import OptimConfig

# The quintic's coefficients make small singular values grow fast; the result's lie around 1, not at it.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """One optimizer over two kinds of parameter groups, those with `muon: True` and the others.

    An update of a matrix has the root mean square that AdamW's has, about 0.2 times the rate, so that one
    learning rate serves both.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale as in Liu et al. 2025
    (arXiv:2502.16982).
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], momentum: float = 0.95
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            if group["muon"]:
                self._step_matrices(group)
        super().step()  # it passes over parameters without a gradient, as the matrices are by now
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["step"] = torch.zeros(())  # AdamW expects one of every state that it loads
                state["momentum"] = torch.zeros_like(matrix)
            state["step"] += 1
            average = state["momentum"].lerp_(matrix.grad, 1 - self.momentum)
            alike[matrix.shape].append((matrix, matrix.grad.lerp(average, self.momentum)))
            matrix.grad = None
        for shape, pairs in alike.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            rate = group["lr"] * 0.2 * math.sqrt(max(shape))
            for (matrix, _), update in zip(pairs, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def orthogonalise(matrices_BMN: Tensor) -> Tensor:
    """Every matrix's singular values drawn to about 1 by Newton and Schulz's iteration, in float32.

    Args:
        matrices_BMN: any float dtype; B matrices at once.
    Returns: shape and dtype of the input.
    """
    wide = matrices_BMN.size(1) <= matrices_BMN.size(2)
    x = (matrices_BMN if wide else matrices_BMN.mT).float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices_BMN.dtype)


def make_muon(model: nn.Module, config: OptimConfig) -> Muon:
    """Muon over a model: its hidden matrices, its embeddings and heads, and what has one dimension."""
    outer = {id(weight) for weight in _outer_weights(model)}
    matrices: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim == 2 and id(parameter) not in outer:
            matrices.append(parameter)
        else:
            (tables if parameter.ndim > 1 else vectors).append(parameter)
    decay, rate = config.weight_decay, config.embedding_learning_rate or config.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": decay, "muon": True},
        {"params": tables, "weight_decay": decay, "muon": False, "lr": rate},
        {"params": vectors, "weight_decay": 0.0, "muon": False, "lr": rate},
    ]
    return Muon([group for group in groups if group["params"]], config.learning_rate, (0.9, config.beta2))


def _outer_weights(model: nn.Module) -> Iterator[Tensor]:
    """Weights whose rows stand for tokens or labels, not for features."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or name.rpartition(".")[2] in ("lm_head", "score", "classifier"):
            yield from module.parameters(recurse=False)
