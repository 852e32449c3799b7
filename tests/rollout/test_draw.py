"""Drawing a token with one number: the inverse of the cumulative distribution."""

import pytest
import torch

from alloy.rollout.draw import invert

BELOW_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("number", "token"),
    [(0.0, 1), (0.2499, 1), (0.25, 2), (0.7499, 2), (0.75, 4), (BELOW_ONE, 4)],
)
def test_a_number_finds_the_token_whose_share_it_falls_into(number: float, token: int) -> None:
    """Tokens of probability 0 before, between and behind the others are never found."""
    logprobs = torch.tensor([[0.0, 0.25, 0.5, 0.0, 0.25, 0.0]]).log()
    assert invert(logprobs, torch.tensor([number], dtype=torch.float64)).tolist() == [token]


def test_each_row_has_its_own_number() -> None:
    logprobs = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    assert invert(logprobs, torch.tensor([0.6, 0.6], dtype=torch.float64)).tolist() == [1, 0]


def test_a_sum_that_misses_one_by_rounding_finds_a_token_of_the_vocabulary() -> None:
    logprobs = torch.randn(64, 50_000, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    logprobs[:, -1] = -torch.inf
    totals = logprobs.exp().cumsum(-1, dtype=torch.float64)[:, -1]
    assert float(totals.max()) > 1 or float(totals.min()) < 1
    found = invert(logprobs, torch.full((64,), BELOW_ONE, dtype=torch.float64))
    assert set(found.tolist()) == {49_998}


def test_a_rare_token_is_found_within_its_share() -> None:
    """One of 3e-9 behind fifty thousand others: float32 sums would have lost it."""
    probabilities = torch.full((1, 50_000), (1 - 3e-9) / 49_999, dtype=torch.float64)
    probabilities[0, -1] = 3e-9
    logprobs = probabilities.log().float()
    numbers = torch.tensor([1 - 1e-9], dtype=torch.float64)
    assert invert(logprobs, numbers).tolist() == [49_999]
    assert invert(logprobs, torch.tensor([1 - 1e-7], dtype=torch.float64)).tolist() == [49_998]
