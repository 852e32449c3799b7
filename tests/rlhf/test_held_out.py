"""What a reward model is worth on held-out pairs, by hand."""

import math
from typing import Any

import pytest

from alloy.data.preference_shapes import Preference
from rlhf.held_out import Measured, calibration, calibration_error, describe, held_out_accuracy, measure


def pair(difference: float, longer_by: int = 0, margin: float | None = None) -> Measured:
    return Measured(difference, 0.0, longer_by, margin)


def test_accuracy_counts_a_tie_as_half() -> None:
    found = [pair(1.0), pair(2.0), pair(-1.0), pair(0.0)]
    assert held_out_accuracy(found).value == (1 + 1 + 0 + 0.5) / 4


class Words:
    """A reward model that likes every word, and cannot read what is long."""

    def score(self, prompts: Any, answers: Any) -> list[float | None]:
        return [None if len(answer) > 20 else float(len(answer.split())) for answer in answers]


def test_pairs_are_scored_both_sides_and_one_without_a_score_is_left_out() -> None:
    prompt = [{"role": "user", "content": "q"}]
    pairs = [
        Preference(prompt, "a b c", "d", 2.0),
        Preference(prompt, "a", "b c", 1.0),
        Preference(prompt, "a" * 21, "b c", 1.0),
    ]
    assert measure(Words(), pairs) == [Measured(3.0, 1.0, 2, 2.0), Measured(1.0, 2.0, -1, 1.0)]


def test_by_margin_and_by_length() -> None:
    found = [pair(1, 4, 1.0), pair(1, 9, 1.0), pair(-1, -2, 1.0), pair(1, -9, 3.0), pair(1, 0, 3.0)]
    told = describe(found)
    assert [(row["label"], row["value"], row["n"]) for row in told["by_margin"]] == [
        ("1", 2 / 3, 3),
        ("3", 1.0, 2),
    ]
    # Sizes 2, 4, 9, 9: from the upper middle, 9, on a difference is large.
    assert [(row["label"], row["value"], row["n"]) for row in told["by_length"]] == [
        ("9 words shorter, or more", 1.0, 1),
        ("shorter", 0.0, 1),
        ("as long", 1.0, 1),
        ("longer", 1.0, 1),
        ("9 words longer, or more", 1.0, 1),
    ]
    # Longer preferred by people in 2 of 4; by the model there and where it was wrong on the shorter one.
    assert told["prefers_longer"]["data"]["value"] == 0.5
    assert told["prefers_longer"]["model"]["value"] == 0.75


def test_many_margins_are_told_in_quarters() -> None:
    told = describe([pair(1.0, 0, n / 10) for n in range(40)])
    assert [(row["label"], row["n"]) for row in told["by_margin"]] == [
        ("0 to 0.9", 10),
        ("1 to 1.9", 10),
        ("2 to 2.9", 10),
        ("3 to 3.9", 10),
    ]
    assert describe([pair(1.0)])["prefers_longer"] == {}


def test_calibration_compares_what_was_predicted_with_what_was_seen() -> None:
    # Of forty pairs twenty are half sure (difference 0.1) and half right, twenty sure (2) and all right.
    unsure = [pair(0.1 if n % 2 else -0.1) for n in range(20)]
    bins = calibration([*unsure, *[pair(2.0)] * 20])
    assert [row["n"] for row in bins] == [20, 20]
    assert bins[0]["predicted"] == pytest.approx(1 / (1 + math.exp(-0.1)))
    assert bins[0]["value"] == 0.5
    assert bins[1]["predicted"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert bins[1]["value"] == 1.0
    expected = (bins[0]["predicted"] - 0.5 + 1.0 - bins[1]["predicted"]) / 2
    assert calibration_error(bins) == pytest.approx(expected)
