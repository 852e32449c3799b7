"""Advantages against hand-computed values, TRL's formula and the paper's."""

import math
from statistics import mean, stdev

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alloy.advantages import group_advantages, has_signal

REWARD = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0]), st.floats(-3, 3))
GROUPS = st.integers(2, 5).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.lists(REWARD, min_size=size, max_size=size), min_size=1, max_size=4))
)  # fmt: skip


def advantages(rewards: list[float | None], size: int, baseline: str, scale: str) -> list[float]:
    return group_advantages(rewards, size, baseline, scale).tolist()  # type: ignore[arg-type]


def test_against_the_mean_of_the_group() -> None:
    # Mean 0.25, standard deviation (n - 1) 0.5.
    assert advantages([1.0, 0.0, 0.0, 0.0], 4, "group", "none") == [0.75, -0.25, -0.25, -0.25]
    scaled = advantages([1.0, 0.0, 0.0, 0.0], 4, "group", "group")
    assert scaled == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3], rel=1e-6)


def test_leaving_one_out() -> None:
    # 1 - mean(0, 0, 0) = 1; 0 - mean(1, 0, 0) = -1/3.
    assert advantages([1.0, 0.0, 0.0, 0.0], 4, "leave_one_out", "none") == pytest.approx([1, *[-1 / 3] * 3])
    # 3 - mean(1, 2) = 1.5, 1 - 2.5 = -1.5, 2 - 2 = 0.
    assert advantages([3.0, 1.0, 2.0], 3, "leave_one_out", "none") == pytest.approx([1.5, -1.5, 0.0])


def test_a_completion_whose_verifier_failed_is_in_no_baseline() -> None:
    found = advantages([1.0, None, 0.0, 0.5], 4, "group", "none")
    assert found == [0.5, 0.0, -0.5, 0.0]
    assert advantages([1.0, None, None, None], 4, "leave_one_out", "group") == [0.0] * 4
    assert advantages([None, None], 2, "group", "batch") == [0.0, 0.0]


def test_the_batch_s_deviation_is_over_all_groups() -> None:
    rewards = [1.0, 0.0, 3.0, 1.0]
    found = advantages(rewards, 2, "group", "batch")
    assert found == pytest.approx([r / (stdev(rewards) + 1e-4) for r in (0.5, -0.5, 1.0, -1.0)])


@given(GROUPS)
def test_leave_one_out_is_the_group_s_times_n_over_n_minus_1(
    drawn: tuple[int, list[list[float | None]]],
) -> None:
    size, groups = drawn
    rewards = [reward for group in groups for reward in group]
    of_group, left_out = (advantages(rewards, size, name, "none") for name in ("group", "leave_one_out"))
    for start in range(0, len(rewards), size):
        known = [r for r in rewards[start : start + size] if r is not None]
        factor = len(known) / (len(known) - 1) if len(known) > 1 else 0.0
        for index in range(start, start + size):
            assert left_out[index] == pytest.approx(of_group[index] * factor, abs=1e-5)


@given(GROUPS, st.sampled_from(["group", "leave_one_out"]), st.sampled_from(["group", "none"]))
def test_a_group_s_advantages_sum_to_zero(
    drawn: tuple[int, list[list[float | None]]], baseline: str, scale: str
) -> None:
    size, groups = drawn
    found = advantages([reward for group in groups for reward in group], size, baseline, scale)
    for start in range(0, len(found), size):
        assert sum(found[start : start + size]) == pytest.approx(0.0, abs=1e-3)
        assert all(math.isfinite(value) for value in found)


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_plain_setting_is_trl_s(rewards: list[float]) -> None:
    """TRL: (r - nanmean) / (nanstd + 1e-4)."""
    given = torch.tensor(rewards, dtype=torch.float64)
    trl = (given - given.mean()) / (given.std() + 1e-4)
    torch.testing.assert_close(
        group_advantages(rewards, 4, "group", "group").double(), trl, rtol=1e-5, atol=1e-5
    )
    assert mean(rewards) == pytest.approx(float(given.mean()))


@pytest.mark.parametrize(
    ("outcomes", "signal"),
    [
        ([1.0, 0.0], True),
        ([1.0, 1.0, 1.0], False),
        ([0.0, 0.0], False),
        ([None, 1.0], False),
        ([None, None], False),
        ([None, 1.0, 0.5], True),
        ([0.3, 0.1 + 0.2], False),
    ],
)
def test_a_signal_is_two_outcomes_that_differ(outcomes: list[float | None], signal: bool) -> None:
    assert has_signal(outcomes) is signal
