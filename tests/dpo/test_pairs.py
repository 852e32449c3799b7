from typing import Any

from alloy.environments.task import Task
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict
from dpo.config import PairingConfig
from dpo.pairs import make_pairs

TASK = Task("t", "workplace", "t", [])
ERROR = Verdict(None, "error", "broken")


def rollout(
    tokens: list[int], reward: float | None, *, finished: bool = True, mask: list[int] | None = None
) -> Rollout:
    verdict = ERROR if reward is None else Verdict(reward)
    return Rollout(
        TASK,
        True,
        [1, 2],
        tokens,
        mask or [1] * len(tokens),
        [0.0] * len(tokens),
        finished=finished,
        verdict=verdict,
    )


def pairs_of(
    *groups: list[Rollout], seed: int = 0, **config: Any
) -> tuple[list[tuple[list[int], list[int]]], Any]:
    pairs, counts = make_pairs(groups, PairingConfig(**config), seed)
    return [(pair.chosen.token_ids, pair.rejected.token_ids) for pair in pairs], counts


def test_a_success_over_a_failure_of_the_same_task() -> None:
    won, lost = rollout([3, 4], 1.0), rollout([5, 6], 0.0)
    found, counts = pairs_of([lost, won], [rollout([7, 8], 1.0)] * 2, [rollout([9, 9], 0.0)] * 2)
    assert found == [([3, 4], [5, 6])]
    assert (counts.tasks, counts.mixed, counts.always_won, counts.never_won) == (3, 1, 1, 1)
    assert counts.as_metrics()["pairs/pairs"] == 1.0


def test_half_a_reward_and_an_unfinished_success_are_failures() -> None:
    found, _ = pairs_of([rollout([3, 4], 1.0), rollout([5, 6], 0.5)])
    assert found == [([3, 4], [5, 6])]
    found, counts = pairs_of([rollout([3, 4], 1.0), rollout([5, 6], 1.0, finished=False)])
    assert found == [([3, 4], [5, 6])]
    assert counts.mixed == 1


def test_what_the_verifier_could_not_judge_is_in_no_pair() -> None:
    found, counts = pairs_of([rollout([3, 4], 1.0), rollout([5, 6], None)])
    assert found == []
    assert (counts.unjudged, counts.always_won) == (1, 1)


def test_pairs_a_task_and_every_way_to_succeed_or_fail_once_before_any_twice() -> None:
    won = [rollout([3, n], 1.0) for n in (1, 1, 2, 3)]
    lost = [rollout([4, n], 0.0) for n in (1, 2, 3, 4)]
    for limit, expected, distinct_won in ((1, 1, 1), (2, 2, 2), (9, 4, 3)):
        found, _ = pairs_of([*won, *lost], pairs_per_task=limit)
        assert len(found) == expected
        assert len({tuple(chosen) for chosen, _ in found}) == distinct_won
        assert len({tuple(rejected) for _, rejected in found}) == expected


def test_a_single_success_stands_against_every_failure() -> None:
    lost = [rollout([4, n], 0.0) for n in (1, 2, 3)]
    found, _ = pairs_of([rollout([3, 1], 1.0), *lost, rollout([4, 1], 0.0)], pairs_per_task=9)
    assert sorted(found) == [([3, 1], [4, n]) for n in (1, 2, 3)]


def test_trivial_completions_are_not_paired() -> None:
    mine, world = [1, 0, 0], [3, 8, 8]
    assert pairs_of([rollout([3, 4], 1.0), rollout(world, 0.0, mask=mine)], min_tokens=2)[0] == []
    assert len(pairs_of([rollout([3, 4], 1.0), rollout(world, 0.0, mask=mine)], min_tokens=1)[0]) == 1


def test_the_same_seed_pairs_the_same() -> None:
    group = [rollout([3, n], 1.0) for n in range(6)] + [rollout([4, n], 0.0) for n in range(6)]
    assert pairs_of(group, seed=1) == pairs_of(group, seed=1)
    assert pairs_of(group, seed=1)[0] != pairs_of(group, seed=2)[0]


def test_a_row_keeps_the_policy_s_mask() -> None:
    (pair,), _ = make_pairs(
        [[rollout([3, 8, 4], 1.0, mask=[1, 0, 1]), rollout([5, 6], 0.0)]], PairingConfig(), 0
    )
    assert pair.row() == {
        "prompt_ids": [1, 2],
        "chosen_ids": [3, 8, 4],
        "rejected_ids": [5, 6],
        "chosen_mask": [1, 0, 1],
        "rejected_mask": [1, 1],
    }
