import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.chat import THINK_CLOSE
from alloy.rollout.budget import BudgetTokens, ThinkingBudget, count_thinking

NEWLINE, WORD = 1, 2
ONE = BudgetTokens((9,), frozenset({NEWLINE}))
SEVERAL = BudgetTokens((7, 8, 7, 9), frozenset({NEWLINE}))
ALPHABET = [NEWLINE, WORD, 7, 8, 9]


def write(
    tokens: BudgetTokens, budget: int | None, grace: int, wanted: list[int]
) -> tuple[list[int], list[int]]:
    """What is written when a policy wants these tokens: the tokens, and 1 where one was forced."""
    state = ThinkingBudget(tokens, budget, grace)
    written, forced = [], []
    for want in wanted:
        token = state.force()
        written.append(want if token is None else token)
        forced.append(int(token is not None))
        state.observe(written[-1])
    return written, forced


def test_close_at_the_next_newline_after_the_budget() -> None:
    wanted = [WORD, WORD, WORD, WORD, NEWLINE, WORD, WORD]
    written, forced = write(ONE, 3, 100, wanted)
    assert written == [WORD, WORD, WORD, WORD, NEWLINE, 9, WORD]
    assert forced == [0, 0, 0, 0, 0, 1, 0]


def test_a_newline_just_at_the_budget_closes_at_once() -> None:
    assert write(ONE, 3, 100, [WORD, WORD, NEWLINE, WORD])[0] == [WORD, WORD, NEWLINE, 9]


def test_close_by_force_when_the_grace_is_over() -> None:
    written, forced = write(ONE, 2, 3, [WORD] * 8)
    assert written == [WORD] * 5 + [9] + [WORD] * 2
    assert forced == [0] * 5 + [1] + [0] * 2


def test_a_budget_of_zero_closes_at_once() -> None:
    assert write(ONE, 0, 100, [WORD, WORD])[0] == [9, WORD]
    assert write(SEVERAL, 0, 100, [WORD] * 5) == ([7, 8, 7, 9, WORD], [1, 1, 1, 1, 0])


def test_no_grace() -> None:
    assert write(ONE, 2, 0, [WORD] * 4)[0] == [WORD, WORD, 9, WORD]


def test_unlimited_and_closed_thinking_is_never_touched() -> None:
    wanted = [WORD, NEWLINE] * 50
    assert write(ONE, None, 0, wanted) == (wanted, [0] * 100)
    own = [WORD, 9, WORD, NEWLINE, WORD, 9, NEWLINE]
    assert write(ONE, 3, 0, own) == (own, [0] * 7)


def test_a_tag_that_the_policy_has_begun_is_completed_not_begun_again() -> None:
    assert write(SEVERAL, 3, 0, [WORD, 7, 8, WORD, WORD, WORD]) == (
        [WORD, 7, 8, 7, 9, WORD],
        [0, 0, 0, 1, 1, 0],
    )
    # 7 8 7 8: the second 7 8 is a beginning too.
    assert write(SEVERAL, 4, 0, [7, 8, 7, 8, WORD, WORD, WORD])[0] == [7, 8, 7, 8, 7, 9, WORD]


def test_a_tag_that_the_policy_writes_itself_across_the_budget() -> None:
    assert write(SEVERAL, 3, 5, [WORD, 7, 8, 7, 9, WORD]) == ([WORD, 7, 8, 7, 9, WORD], [0] * 6)


PROGRAMS = st.lists(st.sampled_from(ALPHABET), min_size=60, max_size=60)


@given(PROGRAMS, st.integers(0, 20), st.integers(0, 20), st.sampled_from([ONE, SEVERAL]))
def test_thinking_closes_once_within_budget_grace_and_tag(
    wanted: list[int], budget: int, grace: int, tokens: BudgetTokens
) -> None:
    written, forced = write(tokens, budget, grace, wanted)
    thinking = count_thinking(tokens, written)
    width = len(tokens.close)
    assert thinking <= budget + grace
    assert tuple(written[thinking : thinking + width]) == tokens.close
    # Nothing is forced before the budget, and nothing after the close.
    assert not any(forced[: max(0, budget)])
    assert not any(forced[thinking + width :])
    # What was not forced is what the policy wanted.
    assert all(w == want for w, want, f in zip(written, wanted, forced, strict=True) if not f)
    # A forced close stands behind a newline, or where the grace is over.
    if any(forced):
        first = forced.index(1)
        assert sum(forced) <= width
        assert forced[first : first + sum(forced)] == [1] * sum(forced)
        at_newline = first == 0 or written[first - 1] == NEWLINE
        assert at_newline or first == budget + grace


@given(PROGRAMS, st.integers(0, 10), st.integers(0, 10))
def test_the_first_newline_after_the_budget_is_never_passed(
    wanted: list[int], budget: int, grace: int
) -> None:
    written, _ = write(ONE, budget, grace, wanted)
    thinking = count_thinking(ONE, written)
    assert NEWLINE not in written[max(budget - 1, 0) : max(thinking - 1, 0)]


def test_count_thinking() -> None:
    assert count_thinking(SEVERAL, [1, 2, 7, 8, 7, 9, 2]) == 2
    assert count_thinking(SEVERAL, [7, 8, 7]) == 3
    assert count_thinking(SEVERAL, []) == 0


def test_the_tokens_of_a_tokenizer(tiny_tokenizer: Any) -> None:
    tokens = BudgetTokens.of(tiny_tokenizer)
    assert tiny_tokenizer.decode(list(tokens.close)) == THINK_CLOSE
    assert tokens.newlines
    for token in random.Random(0).sample(range(len(tiny_tokenizer)), 100):
        assert (token in tokens.newlines) == ("\n" in tiny_tokenizer.decode([token]))


@pytest.mark.parametrize("tokens", [ONE, SEVERAL])
def test_force_is_stable_until_observed(tokens: BudgetTokens) -> None:
    state = ThinkingBudget(tokens, 0)
    assert state.force() == state.force() == tokens.close[0]
