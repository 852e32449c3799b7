"""Group relative length control and the conciseness bonus, by hand."""

import pytest

from rlhf.config import LengthControlConfig
from rlhf.length_control import concise, length_weights, shape
from rlhf.rewards import group_rewards


def test_weights_go_from_the_shortest_to_the_longest_and_sum_to_nothing() -> None:
    # 1 - (l - 10) / 40: 1, 0.5, 0, 1; their mean is 0.625.
    assert length_weights([10, 30, 50, 10]) == pytest.approx([0.375, -0.125, -0.625, 0.375])
    assert length_weights([7, 7, 7]) == [0.0, 0.0, 0.0]
    assert length_weights([0]) == [0.0]


def test_the_bonus_is_for_the_shortest_of_the_best() -> None:
    # The 80th percentile of 1..5 lies at place 0.8 x 4 = 3.2: 4.2.
    scores = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert concise(scores, [9, 9, 9, 9, 3], 80) == [False, False, False, False, True]
    assert concise(scores, [9, 9, 9, 3, 9], 80) == [False] * 5, "the shortest is not good enough"
    assert concise(scores, [9, 9, 9, 3, 9], 75) == [False, False, False, True, False], "4 is the percentile"
    assert concise(scores, [3, 9, 9, 9, 3], 80) == [False, False, False, False, True], (
        "of two shortest the good one"
    )
    assert concise(scores, [9] * 5, 80) == [False] * 5, "equal lengths have no shortest"
    assert concise([0.1] * 3, [1, 2, 3], 80) == [True, False, False], "equal scores all pass"


def test_both_parts_add_up_with_the_weights_of_the_paper() -> None:
    found = shape(LengthControlConfig(), [1.0, 2.0, 4.0], [10, 20, 30], [8, 4, 6])
    # Thinking: w = 1, 0.5, 0, mean 0.5. Answers: w = 0, 1, 0.5, mean 0.5. Half of each.
    assert found.length == pytest.approx([0.25 - 0.25, 0.0 + 0.25, -0.25 + 0.0])
    # The gate is 2 + 0.6 x 2 = 3.2: the shortest thinking (score 1) and answer (score 2) do not pass.
    assert found.bonus == [0.0, 0.0, 0.0]
    found = shape(LengthControlConfig(), [1.0, 2.0, 4.0], [30, 20, 10], [8, 6, 4])
    assert found.bonus == [0.0, 0.0, 1.0]
    assert found.sums == pytest.approx([-0.5, 0.0, 1.5])


def test_without_thinking_only_answers_count() -> None:
    found = shape(LengthControlConfig(), [1.0, 2.0], [0, 0], [4, 8])
    assert found.length == pytest.approx([0.25, -0.25])
    assert found.bonus == [0.0, 0.0]
    assert shape(LengthControlConfig(), [], [], []).sums == []


def test_the_weights_are_the_config_s() -> None:
    control = LengthControlConfig(
        thinking_weight=1.0, answer_weight=0.0, thinking_bonus=0.0, answer_bonus=2.0, gate_percentile=0
    )
    found = shape(control, [1.0, 2.0], [4, 8], [5, 3])
    assert found.length == [0.5, -0.5]
    assert found.bonus == [0.0, 2.0]


def test_what_is_added_is_in_the_group_s_own_deviations() -> None:
    # Scores 2 and 6: deviation 2. Answers 10 and 30: +0.25 and -0.25; the bonus needs 5.2.
    scores, ended, none, answers = [2.0, 6.0], [True, True], [0, 0], [10, 30]
    rewards, _ = group_rewards(scores, ended, none, answers, -2.0, LengthControlConfig())
    assert rewards == pytest.approx([2.5, 5.5])
    rewards, _ = group_rewards(scores, ended, none, answers, -2.0, LengthControlConfig(unit="score"))
    assert rewards == pytest.approx([2.25, 5.75])
    # The better one is also the shorter: + 0.25 + 0.5, times 2.
    rewards, shaped = group_rewards(scores, ended, none, answers[::-1], -2.0, LengthControlConfig())
    assert rewards == pytest.approx([1.5, 7.5])
    assert shaped.bonus == [0.0, 0.5]


def test_the_gate_reads_the_scores_before_any_bonus() -> None:
    """Read after the length weights, the third would have the best score and the first would lose its bonus."""
    scores, answers = [1.1, 0.0, 1.0], [10, 40, 11]
    control = LengthControlConfig(answer_weight=5.0, gate_percentile=100, unit="score")
    _, shaped = group_rewards(scores, [True] * 3, [30, 1, 1], answers, -2.0, control)
    assert shaped.bonus == [0.5, 0.0, 0.0]


def test_an_unfinished_completion_is_below_the_others_in_their_own_units() -> None:
    def rewards(scores: list[float | None], finished: list[bool]) -> list[float | None]:
        nothing = [0] * len(scores)
        return group_rewards(scores, finished, nothing, nothing, -2.0, None)[0]

    # Finished: 2 and 6, mean 4, deviation 2; the unfinished one gets 4 - 2 x 2, whatever its score.
    assert rewards([2.0, 6.0, 90.0], [True, True, False]) == [2.0, 6.0, 0.0]
    # Nothing to compare with: the unit is 1.
    assert rewards([3.0, 9.0], [True, False]) == [3.0, 1.0]
    # An outlier is below the mean by more than two deviations: the unfinished one is not above it.
    assert rewards([0.0, *[1.0] * 7, 5.0], [True] * 8 + [False])[-1] == 0.0
    assert rewards([1.0, 2.0], [False, False]) == [-2.0, -2.0]
    # A finished one without a score has no reward; an unfinished one is punished all the same.
    assert rewards([None, 1.0, None], [True, True, False]) == [None, 1.0, -1.0]


def test_an_unfinished_completion_is_no_length_to_compare_with() -> None:
    scores, finished, answers = [1.0, 1.0, 9.0], [True, True, False], [10, 20, 500]
    rewards, shaped = group_rewards(scores, finished, [0] * 3, answers, -2.0, LengthControlConfig())
    # Equal scores: the deviation counts as 1. Of two, 10 and 20: +0.25 and -0.25, and the bonus for the first.
    assert shaped.sums == pytest.approx([0.75, -0.25])
    assert rewards == pytest.approx([1.75, 0.75, -1.0])
