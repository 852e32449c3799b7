from typing import Any

from alloy.environments.task import Task
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict
from dpo.config import PairingConfig
from dpo.pairs import make_pairs, shared

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
        "task": "t",
        "environment": "workplace",
        "off_policy": False,
        "prompt_ids": [1, 2],
        "chosen_ids": [3, 8, 4],
        "rejected_ids": [5, 6],
        "chosen_mask": [1, 0, 1],
        "rejected_mask": [1, 1],
    }


def test_what_two_rollouts_share_is_counted_by_hand() -> None:
    assert shared(rollout([1, 2, 3, 4], 1.0), rollout([1, 2, 3, 4], 0.0)) == 1.0
    assert shared(rollout([1, 2, 3, 4], 1.0), rollout([1, 2, 3, 9], 0.0)) == 2 * 3 / 8
    assert shared(rollout([1, 1, 2], 1.0), rollout([1, 2, 2, 3], 0.0)) == 2 * 2 / 7
    # What the world said is nobody's writing; another order is another text.
    mine = [1, 0, 1]
    assert shared(rollout([1, 8, 2], 1.0, mask=mine), rollout([1, 9, 3], 1.0, mask=mine)) == 2 * 1 / 4
    assert shared(rollout([1, 2], 1.0), rollout([2, 1], 1.0)) == 1 - 1 / 4


def test_of_near_duplicates_one_is_paired_and_the_others_are_counted() -> None:
    text = list(range(100, 119))
    won = [rollout([*text, last], 1.0) for last in (1, 2, 3)]  # 19 of 20 tokens are the same
    found, counts = pairs_of([*won, rollout([5, 6], 0.0)], pairs_per_task=9, near_duplicate=0.95)
    assert len(found) == 1
    assert counts.duplicates == 2
    found, counts = pairs_of([*won, rollout([5, 6], 0.0)], pairs_per_task=9, near_duplicate=0.96)
    assert len(found) == 3
    assert counts.duplicates == 0
    # A success that resembles a failure is no duplicate of it: the difference is what there is to learn.
    found, counts = pairs_of([won[0], rollout([*text, 9], 0.0)])
    assert (len(found), counts.duplicates) == (1, 0)


def test_the_closest_are_paired_first() -> None:
    won = [rollout([1, 2, 3, 4], 1.0), rollout([50, 51, 52, 53], 1.0)]
    lost = [rollout([50, 51, 52, 9], 0.0), rollout([1, 60, 61, 62], 0.0), rollout([70, 71, 72, 73], 0.0)]
    for seed in range(4):
        found, _ = pairs_of([*won, *lost], seed=seed, by="closest", pairs_per_task=2)
        assert found == [([50, 51, 52, 53], [50, 51, 52, 9]), ([1, 2, 3, 4], [1, 60, 61, 62])]


def test_the_shortest_success_comes_first() -> None:
    won = [rollout([1] * n + [n], 1.0) for n in (7, 3, 5)]
    lost = [rollout([2, n], 0.0) for n in (1, 2, 3)]
    for seed in range(4):
        found, _ = pairs_of([*won, *lost], seed=seed, by="shortest", pairs_per_task=2)
        assert [chosen for chosen, _ in found] == [[1] * 3 + [3], [1] * 5 + [5]]


def test_a_known_solution_stands_in_only_where_nothing_was_won_and_says_so() -> None:
    solution = rollout([9, 9, 9], 1.0)
    never, mixed, always = [rollout([4, n], 0.0) for n in (1, 2)], [rollout([3, 1], 1.0), rollout([4, 4], 0.0)], [rollout([3, 2], 1.0)]  # fmt: skip
    pairs, counts = make_pairs([never, mixed, always], PairingConfig(), 0, [solution] * 3)
    told = [(pair.chosen.token_ids, pair.off_policy) for pair in pairs]
    assert told == [([9, 9, 9], True), ([9, 9, 9], True), ([3, 1], False)]
    assert (counts.never_won, counts.off_policy, counts.pairs) == (1, 2, 3)
    pairs, counts = make_pairs([never, mixed], PairingConfig(), 0, [None, solution])
    assert (counts.never_won, counts.off_policy, counts.pairs) == (1, 0, 1)


def test_the_share_of_mixed_tasks_is_told() -> None:
    _, counts = pairs_of([rollout([3, 1], 1.0), rollout([4, 1], 0.0)], [rollout([3, 1], 1.0)], *[[rollout([4, 1], 0.0)]] * 2)  # fmt: skip
    assert counts.as_metrics()["pairs/mixed_share"] == 0.25
