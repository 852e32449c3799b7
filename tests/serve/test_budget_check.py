"""The rule of the acceptance check, on completions written by hand."""

import pytest

from bench.budget_check import how_closed, thinking_tokens

TEXTS = {1: "\n", 2: "w", 3: "</think>", 4: "a"}
LONG = [2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 3, 4]
"""Left alone: a newline behind the fifth token, closed by itself behind the eleventh."""


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ([2, 2, 3, 4], "own"),  # before its budget
        ([2, 2], "own"),  # ended before its budget
        ([2, 2, 2, 2, 1, 3, 4], "newline"),
        ([2, 2, 2, 2, 2, 2, 2, 3, 4], "forced"),  # at 3 + 4
        ([2, 2, 2, 2, 1, 2, 3, 4], "wrong"),  # one past the newline
        ([2, 2, 2, 3, 4], "wrong"),  # too early, and not by itself
        ([2, 2, 2, 2, 2, 2, 2, 2, 3, 4], "wrong"),  # past budget + grace
        ([2, 2, 2, 2, 2, 2, 2, 2], "wrong"),  # never closed
        ([2, 2, 1, 3, 4], "newline"),  # just at the budget
        ([2, 1, 2, 2, 2, 2, 2, 3, 4], "forced"),  # a newline before the budget is none
    ],
)
def test_where_a_budget_of_3_with_a_grace_of_4_may_close(written: list[int], kind: str) -> None:
    assert how_closed(written, LONG, 3, 4, TEXTS.__getitem__) == kind


def test_a_model_may_close_by_itself_within_the_grace() -> None:
    alone = [2, 2, 2, 2, 3, 4]
    assert how_closed([2, 2, 2, 2, 3, 4], alone, 3, 4, TEXTS.__getitem__) == "own"
    assert how_closed([2, 2, 2, 3, 4], alone, 3, 4, TEXTS.__getitem__) == "wrong"


def test_a_budget_of_zero_closes_at_once() -> None:
    assert how_closed([3, 4], LONG, 0, 4, TEXTS.__getitem__) == "newline"
    assert how_closed([2, 3, 4], LONG, 0, 4, TEXTS.__getitem__) == "wrong"


def test_thinking_without_a_close_is_all_of_it() -> None:
    assert thinking_tokens(LONG, TEXTS.__getitem__) == 11
    assert thinking_tokens([2, 1], TEXTS.__getitem__) == 2
