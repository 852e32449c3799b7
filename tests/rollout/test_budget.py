"""The state machine alone: literal cases, and properties over whatever a policy may want to write."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.rollout.budget import BudgetTokens, ThinkingBudget, count_thinking

NEWLINE, WORD, END, OPEN = 1, 2, 3, 4
TEXTS = ["", "\n", "w", "<end>", THINK_OPEN, " <", "<th", "</", "think", ">", "</think>", ">\n", ".\n\n"]
MERGED, PARAGRAPH = 11, 12
ONE = BudgetTokens(TEXTS, (10,), frozenset({END}), frozenset({END}))
SEVERAL = BudgetTokens(TEXTS, (7, 8, 9), frozenset({END}), frozenset({END}))
BOTH = [ONE, SEVERAL]


def write(
    tokens: BudgetTokens, budget: int | None, grace: int, wanted: list[int], opened: bool = True
) -> tuple[list[int], list[int]]:
    """What is written when a policy wants these tokens: the tokens, and 1 where one was forced."""
    state = ThinkingBudget(tokens, budget, grace, opened)
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
    assert written == [WORD, WORD, WORD, WORD, NEWLINE, 10, WORD]
    assert forced == [0, 0, 0, 0, 0, 1, 0]


def test_a_newline_just_at_the_budget_closes_at_once() -> None:
    assert write(ONE, 3, 100, [WORD, WORD, NEWLINE, WORD])[0] == [WORD, WORD, NEWLINE, 10]


def test_a_newline_may_be_anywhere_in_a_token() -> None:
    assert ONE.newlines == {NEWLINE, MERGED, PARAGRAPH}
    assert write(ONE, 1, 100, [WORD, PARAGRAPH, WORD])[0] == [WORD, PARAGRAPH, 10]


def test_close_by_force_when_the_grace_is_over() -> None:
    written, forced = write(ONE, 2, 3, [WORD] * 8)
    assert written == [WORD] * 5 + [10] + [WORD] * 2
    assert forced == [0] * 5 + [1] + [0] * 2


def test_a_budget_of_zero_closes_at_once() -> None:
    assert write(ONE, 0, 100, [WORD, WORD])[0] == [10, WORD]
    assert write(SEVERAL, 0, 100, [WORD] * 4) == ([7, 8, 9, WORD], [1, 1, 1, 0])


def test_no_grace() -> None:
    assert write(ONE, 2, 0, [WORD] * 4)[0] == [WORD, WORD, 10, WORD]


def test_unlimited_and_closed_thinking_is_never_touched() -> None:
    wanted = [WORD, NEWLINE] * 50
    assert write(ONE, None, 0, wanted) == (wanted, [0] * 100)
    own = [WORD, 10, WORD, NEWLINE, WORD, 10, NEWLINE]
    assert write(ONE, 3, 0, own) == (own, [0] * 7)


def test_a_second_opening_tag_in_the_answer_is_not_thinking() -> None:
    own = [WORD, 10, OPEN, WORD, NEWLINE, WORD, WORD, NEWLINE]
    assert write(ONE, 3, 0, own) == (own, [0] * 8)
    answer = [WORD, OPEN, WORD, NEWLINE, WORD]
    assert write(ONE, 1, 0, answer, opened=False) == (answer, [0] * 5)


def test_thinking_that_the_policy_opens_itself_is_counted_from_its_tag() -> None:
    assert write(ONE, 2, 0, [NEWLINE, OPEN, WORD, WORD, WORD], opened=False) == (
        [NEWLINE, OPEN, WORD, WORD, 10],
        [0, 0, 0, 0, 1],
    )
    # In pieces; a budget of 0 closes behind the tag.
    assert write(SEVERAL, 0, 0, [6, 0, 8, WORD], opened=False)[0] == [6, 0, 8, WORD]
    pieces = BudgetTokens([*TEXTS, "ink>"], (10,))
    assert write(pieces, 0, 0, [6, 13, WORD], opened=False)[0] == [6, 13, 10]


def test_the_end_of_the_turn_inside_thinking_ends_it() -> None:
    wanted = [WORD, END, WORD, WORD, NEWLINE, WORD]
    assert write(ONE, 3, 0, wanted) == (wanted, [0] * 6)
    assert write(ONE, 3, 0, [END, WORD, OPEN, WORD, NEWLINE, WORD], opened=False)[1] == [0] * 6


def test_a_tag_that_the_policy_has_begun_is_completed_not_begun_again() -> None:
    assert write(SEVERAL, 3, 0, [WORD, WORD, 7, WORD, WORD, WORD]) == (
        [WORD, WORD, 7, 8, 9, WORD],
        [0, 0, 0, 1, 1, 0],
    )
    # "</" "</": the second is a beginning too.
    assert write(SEVERAL, 2, 0, [7, 7, WORD, WORD, WORD])[0] == [7, 7, 8, 9, WORD]


def test_a_partial_tag_of_other_pieces_is_left_and_a_whole_one_follows() -> None:
    # "<th" is no beginning of "</think>", "<" is one that ends in no token of the tag.
    assert write(SEVERAL, 1, 0, [6, WORD, WORD, WORD, WORD])[0] == [6, 7, 8, 9, WORD]
    assert write(SEVERAL, 1, 0, [5, WORD, WORD, WORD, WORD])[0] == [5, 7, 8, 9, WORD]
    assert write(ONE, 1, 0, [7, WORD, WORD])[0] == [7, 10, WORD]


def test_a_tag_that_the_policy_writes_itself_across_the_budget() -> None:
    assert write(SEVERAL, 2, 5, [WORD, 7, 8, 9, WORD]) == ([WORD, 7, 8, 9, WORD], [0] * 5)


def test_a_tag_whose_last_token_is_merged_with_a_newline_closes() -> None:
    wanted = [WORD, 7, 8, MERGED, WORD, NEWLINE, WORD]
    assert write(SEVERAL, 4, 0, wanted) == (wanted, [0] * 7)
    # A model that spells the tag out has closed, too.
    spelled = [7, 8, 9, WORD, NEWLINE, WORD]
    assert write(ONE, 4, 0, spelled) == (spelled, [0] * 6)


PROGRAMS = st.lists(st.sampled_from([NEWLINE, WORD, OPEN, *range(5, 13)]), min_size=60, max_size=60)
ANY = st.lists(st.sampled_from(range(len(TEXTS))), max_size=60)


def closing(tokens: BudgetTokens, written: list[int]) -> int:
    """Where the tag is complete: how many tokens it takes to have it in the text."""
    return next(n for n in range(len(written) + 1) if THINK_CLOSE in "".join(map(tokens.text, written[:n])))


@given(PROGRAMS, st.integers(0, 20), st.integers(0, 20), st.sampled_from(BOTH))
def test_thinking_closes_once_within_budget_grace_and_tag(
    wanted: list[int], budget: int, grace: int, tokens: BudgetTokens
) -> None:
    written, forced = write(tokens, budget, grace, wanted)
    end = closing(tokens, written)
    assert end <= budget + grace + len(tokens.close)
    # Nothing is forced before the budget, and nothing after the close.
    assert not any(forced[:budget])
    assert not any(forced[end:])
    # What was not forced is what the policy wanted.
    assert all(w == want for w, want, f in zip(written, wanted, forced, strict=True) if not f)
    if any(forced):
        first = forced.index(1)
        assert forced[first:end] == [1] * (end - first), "once it is forced, the tag is written to its end"
        assert tuple(written[first:end]) == tokens.close[-(end - first) :]
        # A forced close stands behind a newline, or where the grace is over.
        at_newline = first == 0 or written[first - 1] in tokens.newlines
        assert at_newline or first == budget + grace


@given(PROGRAMS, st.integers(0, 10), st.integers(0, 10), st.sampled_from(BOTH))
def test_the_first_newline_after_the_budget_is_never_passed(
    wanted: list[int], budget: int, grace: int, tokens: BudgetTokens
) -> None:
    written, forced = write(tokens, budget, grace, wanted)
    end = closing(tokens, written)
    for place in range(max(budget - 1, 0), end - 1):
        if written[place] in tokens.newlines:
            assert forced[place + 1 : end] == [1] * (end - place - 1), "the tag follows at once"


@given(ANY, st.one_of(st.none(), st.integers(0, 20)), st.integers(0, 20), st.booleans())
def test_without_a_limit_or_with_room_nothing_is_touched(
    wanted: list[int], budget: int | None, grace: int, opened: bool
) -> None:
    written, forced = write(SEVERAL, budget, grace, wanted, opened)
    if budget is None or len(wanted) <= budget:
        assert written == wanted
    if not opened and not "".join(map(SEVERAL.text, wanted)).lstrip().startswith(THINK_OPEN):
        assert not any(forced)


@given(
    ANY,
    st.one_of(st.none(), st.integers(0, 20)),
    st.integers(0, 20),
    st.booleans(),
    st.sampled_from(BOTH),
    st.lists(st.integers(0, 60)),
)
def test_the_state_follows_from_the_tokens_alone(
    wanted: list[int],
    budget: int | None,
    grace: int,
    opened: bool,
    tokens: BudgetTokens,
    cuts: list[int],
) -> None:
    """However late it is told of what was written, in whatever portions, it demands the same."""
    written, forced = write(tokens, budget, grace, wanted, opened)
    late = ThinkingBudget(tokens, budget, grace, opened)
    told = 0
    for cut in [*sorted(min(cut, len(written)) for cut in cuts), len(written)]:
        late.advance(written[told:cut])
        told = max(told, cut)
        if cut < len(written):
            again = ThinkingBudget(tokens, budget, grace, opened)
            again.advance(written[:cut])
            demanded = written[cut] if forced[cut] else None
            assert late.force() == again.force() == demanded
            if late.free is None:
                assert not any(forced[cut:])
            else:
                assert not any(forced[cut : cut + late.free])


def test_the_tokens_before_the_close_are_counted() -> None:
    assert count_thinking(SEVERAL, [1, 2, 7, 8, 9, 2]) == 2
    assert count_thinking(SEVERAL, [WORD, 7, 8, MERGED]) == 1
    assert count_thinking(SEVERAL, [7, 8, 7]) == 3
    assert count_thinking(ONE, []) == 0


@given(PROGRAMS, st.integers(0, 10), st.integers(0, 10))
def test_the_count_is_what_stands_before_the_tag(wanted: list[int], budget: int, grace: int) -> None:
    written, _ = write(ONE, budget, grace, wanted)
    count = count_thinking(ONE, written)
    text = "".join(map(ONE.text, written))
    before = len("".join(map(ONE.text, written[:count])))
    assert before <= text.index(THINK_CLOSE) < before + len(ONE.text(written[count]))


def test_the_tokens_of_a_tokenizer(tiny_tokenizer: Any) -> None:
    tokens = BudgetTokens.of(tiny_tokenizer)
    assert tiny_tokenizer.decode(list(tokens.close)) == THINK_CLOSE
    assert tokens.ends == {tiny_tokenizer.eos_token_id}
    assert tokens.newlines
    for token in random.Random(0).sample(range(len(tiny_tokenizer)), 100):
        assert tokens.text(token) == tiny_tokenizer.decode([token])
        assert (token in tokens.newlines) == ("\n" in tiny_tokenizer.decode([token]))
    assert tokens.text(len(tiny_tokenizer) + 5) == ""


def test_a_prompt_says_whether_thinking_is_open(tiny_tokenizer: Any) -> None:
    from alloy.template import encode_prompt

    tokens = BudgetTokens.of(tiny_tokenizer)
    asked = [{"role": "user", "content": "What does <think> mean?"}]
    assert tokens.opened(encode_prompt(tiny_tokenizer, asked, thinking=True)) is True
    assert tokens.opened(encode_prompt(tiny_tokenizer, asked, thinking=False)) is False
    said = tiny_tokenizer.encode("<|im_start|>user\n<think><|im_end|>\n<|im_start|>assistant\n")
    assert tokens.opened(said) is None, "a user's tag opens nothing"
    begun = encode_prompt(tiny_tokenizer, asked, thinking=True) + tiny_tokenizer.encode("Well,")
    assert tokens.opened(begun) is True
    assert tokens.opened(begun + tiny_tokenizer.encode("\n</think>\nYes")) is False
    assert tokens.opened([]) is None


@pytest.mark.parametrize("tokens", BOTH)
def test_force_is_stable_until_observed(tokens: BudgetTokens) -> None:
    state = ThinkingBudget(tokens, 0)
    assert state.force() == state.force() == tokens.close[0]
