from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.environments.task import Task
from alloy.rl import blend_prompts, divide, first_metrics
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict
from grpo.train import verdict_rewards

SHARES = st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 5), min_size=1)


@given(st.integers(1, 60), SHARES)
def test_divide_sums_up_and_stays_within_one_of_the_ratio(total: int, shares: dict[str, float]) -> None:
    counts = divide(total, shares)
    assert sum(counts.values()) == total
    whole = sum(shares.values())
    assert all(abs(counts[name] - total * share / whole) < 1 + 1e-9 for name, share in shares.items())


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [
        (10, {"a": 1.0, "b": 1.0}, {"a": 5, "b": 5}),
        (10, {"a": 2.0, "b": 1.0}, {"a": 7, "b": 3}),  # 6.67 and 3.33
        (10, {"a": 0.72, "b": 0.2, "c": 0.08}, {"a": 7, "b": 2, "c": 1}),  # 7.2, 2.0, 0.8
    ],
)
def test_divide_by_largest_remainder(total: int, shares: dict[str, float], expected: dict[str, int]) -> None:
    assert divide(total, shares) == expected


def tasks(**counts: int) -> dict[str, list[Task]]:
    return {
        name: [Task(f"{name}/{n}", name, "t", []) for n in range(count)] for name, count in counts.items()
    }


def test_every_batch_has_the_fixed_ratio() -> None:
    pool = blend_prompts(tasks(math=50, chat=50), {"math": 3.0, "chat": 1.0}, 8, 20, 1.0, 0)
    assert len(pool.tasks) == len(pool.thinking) == 160
    for start in range(0, 160, 8):
        assert Counter(task.environment for task in pool.tasks[start : start + 8]) == {"math": 6, "chat": 2}


def test_a_pool_is_used_up_before_it_begins_again_in_another_order() -> None:
    ids = [task.id for task in blend_prompts(tasks(math=12), {"math": 1.0}, 4, 6, 1.0, 0).tasks]
    assert set(ids[:12]) == set(ids[12:]) == {f"math/{n}" for n in range(12)}
    assert ids[:12] != ids[12:]


def test_the_share_of_thinking() -> None:
    for share, low, high in ((0.0, 0, 0), (1.0, 1000, 1000), (0.5, 421, 579)):  # 500 +- 5 x 15.8
        on = sum(blend_prompts(tasks(math=10), {"math": 1.0}, 10, 100, share, 0).thinking)
        assert low <= on <= high


def test_the_same_seed_blends_the_same() -> None:
    first, again, other = (
        blend_prompts(tasks(math=30), {"math": 1.0}, 4, 5, 0.5, seed) for seed in (0, 0, 1)
    )
    assert (first.tasks, first.thinking) == (again.tasks, again.thinking)
    assert first.tasks != other.tasks


def test_the_prompts_of_trl_are_indices_in_order() -> None:
    pool = blend_prompts(tasks(math=30), {"math": 1.0}, 4, 2, 1.0, 0)
    assert pool.dataset()["prompt"] == [str(n) for n in range(8)]


def rollout(verdict: Verdict | None, finished: bool = True) -> Rollout:
    return Rollout(Task("t", "math", "t", []), True, [1], finished=finished, verdict=verdict)


def test_the_verifier_s_own_failure_is_no_zero() -> None:
    given: list[Any] = [
        rollout(Verdict(1.0)),
        rollout(Verdict(0.25)),
        rollout(Verdict(0.0, "unparsable")),
        rollout(Verdict(None, "timeout")),
        rollout(Verdict(None, "error")),
        rollout(None),
        rollout(Verdict(1.0), finished=False),
        rollout(Verdict(None, "timeout"), finished=False),
    ]
    assert verdict_rewards(given) == [1.0, 0.25, 0.0, None, None, None, 0.0, None]


def test_first_and_last_of_what_was_logged() -> None:
    history = [{"reward": value} for value in (1.0, 2.0, 3.0, float("nan"), 6.0, 7.0)] + [{"loss": 9.0}]
    assert first_metrics(history, "reward") == (2.0, 16 / 3)
    assert first_metrics(history, "nothing") == (0.0, 0.0)
