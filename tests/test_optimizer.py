"""Muon: against torch's own, against AdamW, and against singular values that can be computed."""

import math

import pytest
import torch
from torch import nn

from alloy.config import LoraConfig, OptimConfig, TrainConfig, TrainingConfig
from alloy.optimizer import Muon, make_muon, orthogonalise


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.hidden = nn.Linear(4, 6)
        self.lm_head = nn.Linear(6, 7, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.hidden(self.embed(ids)).tanh())


def _tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def _loss(model: nn.Module, step: int = 0) -> torch.Tensor:
    ids = (torch.arange(10) * (step + 3)) % 7
    return nn.functional.cross_entropy(model(ids), (ids + 1) % 7)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 12, 40), (2, 40, 12)])
def test_singular_values_come_to_about_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(matrices)
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    # Newton and Schulz leave a value that begins near 0 behind: the large ones must be there.
    assert values.median() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    # In the input's own basis the result is diagonal: nothing was rotated.
    rotated = u.mT @ found @ v.mT
    off = rotated - torch.diag_embed(torch.diagonal(rotated, dim1=1, dim2=2))
    assert off.abs().max() < 1e-4


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_matrices_move_as_torch_s_muon_moves_them() -> None:
    rate, decay = 0.01, 0.1
    ours = nn.Parameter(torch.randn(8, 5, generator=torch.Generator().manual_seed(2)))
    theirs = nn.Parameter(ours.detach().clone())
    groups = [{"params": [ours], "weight_decay": decay, "muon": True}]
    pairs = [
        (ours, Muon(groups, rate, (0.9, 0.98))),
        (
            theirs,
            torch.optim.Muon([theirs], lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        ),
    ]
    for step in range(4):
        gradient = torch.randn(8, 5, generator=torch.Generator().manual_seed(10 + step))
        for parameter, optimizer in pairs:
            parameter.grad = gradient.clone()
            optimizer.step()
    # torch iterates in bfloat16: a relative precision of 1/256 on updates of 0.2 * sqrt(8) * 0.01 each.
    assert torch.allclose(ours, theirs, atol=4 * 0.2 * math.sqrt(8) * rate / 64)
    assert not torch.equal(ours, torch.zeros_like(ours))


def test_everything_else_moves_as_adamw_moves_it() -> None:
    ours, theirs = _tiny(), _tiny()
    muon = make_muon(ours, OptimConfig(kind="muon", learning_rate=0.01, weight_decay=0.1, beta2=0.98))
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs.embed.weight, theirs.lm_head.weight], "weight_decay": 0.1},
            {"params": [theirs.hidden.bias], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.98),
    )
    _loss(ours).backward()
    _loss(theirs).backward()
    muon.step()
    adamw.step()
    for name in ("embed.weight", "lm_head.weight", "hidden.bias"):
        assert torch.allclose(ours.get_parameter(name), theirs.get_parameter(name), atol=1e-7), name
    moved = ours.hidden.weight - theirs.hidden.weight * (1 - 0.01 * 0.1)
    # An update's root mean square is about 0.2 times the rate, as AdamW's is: 0.2 * sqrt(6) * 0.01 * sqrt(4 / 24).
    assert moved.pow(2).mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)


def test_going_on_from_a_saved_state_gives_the_same_weights() -> None:
    config = OptimConfig(kind="muon", learning_rate=0.02)
    straight = _tiny()
    optimizer = make_muon(straight, config)
    for step in range(6):
        _loss(straight, step).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 2:
            weights = {key: value.clone() for key, value in straight.state_dict().items()}
            state = {**optimizer.state_dict()}
            state["state"] = {
                key: {name: value.clone() for name, value in entry.items()}
                for key, entry in state["state"].items()
            }
    resumed = _tiny()
    resumed.load_state_dict(weights)
    optimizer = make_muon(resumed, config)
    optimizer.load_state_dict(state)
    for step in range(3, 6):
        _loss(resumed, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_frozen_parameter_is_left_out() -> None:
    model = _tiny()
    model.hidden.weight.requires_grad_(False)
    groups = make_muon(model, OptimConfig(kind="muon", learning_rate=0.01)).param_groups
    assert [group["muon"] for group in groups] == [False, False]


def test_muon_with_lora_is_refused() -> None:
    with pytest.raises(ValueError, match="Muon is for whole matrices"):
        TrainingConfig(
            optim=OptimConfig(kind="muon", learning_rate=0.01),
            train=TrainConfig(max_steps=1),
            lora=LoraConfig(),
        )


def test_embeddings_and_heads_may_have_a_rate_of_their_own() -> None:
    optim = OptimConfig(kind="muon", learning_rate=0.01, embedding_learning_rate=0.03)
    assert [group["lr"] for group in make_muon(_tiny(), optim).param_groups] == [0.01, 0.03, 0.03]
    with pytest.raises(ValueError, match=r"embedding_learning_rate is for optim\.kind = muon"):
        TrainingConfig(
            optim=OptimConfig(learning_rate=0.01, embedding_learning_rate=0.03),
            train=TrainConfig(max_steps=1),
        )
