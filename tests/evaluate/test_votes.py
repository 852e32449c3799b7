"""maj@k: which answers are one, what a tie is worth, and both through a suite with samples."""

import itertools
from typing import Any

import pytest
from by_prompt import ByPrompt
from hypothesis import given
from hypothesis import strategies as st

from alloy.environments.registry import make_environment
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.suites import evaluate_suite
from alloy.evaluate.votes import Vote, equal_answers, majorities, majority


def never(a: str, b: str) -> bool:
    return False


def votes(*told: tuple[str, float]) -> list[Vote]:
    return [Vote(answer, reward) for answer, reward in told]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], 0.0),
        ([("4", 1.0)], 1.0),
        ([("5", 0.0), ("4", 1.0), ("5", 0.0)], 0.0),
        ([("4", 1.0), ("5", 0.0), ("4", 1.0), ("5", 0.0)], 0.5),
        ([("4", 1.0), ("5", 0.0), ("6", 0.0)], 1 / 3),
    ],
)
def test_the_most_frequent_answer_decides_and_a_tie_is_shared(
    told: list[tuple[str, float]], expected: float
) -> None:
    assert majority(votes(*told), never) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_the_order_of_the_samples_changes_nothing(answers: list[str]) -> None:
    told = [Vote(answer, float(answer == "a")) for answer in answers]
    found = {majority(list(order), never) for order in itertools.islice(itertools.permutations(told), 24)}
    assert len({round(value, 12) for value in found}) == 1


def test_answers_that_are_equal_vote_together() -> None:
    told = votes(("7", 0.0), ("1/2", 1.0), ("0.5", 1.0), ("\\frac{1}{2}", 1.0), ("7", 0.0))
    equal = equal_answers([told, votes(("x", 0.0), ("y", 0.0))])
    assert set(equal) == {("1/2", "0.5"), ("1/2", "\\frac{1}{2}"), ("0.5", "\\frac{1}{2}")}
    assert majorities("math", [told, told[:2]]) == [1.0, 0.5]
    # Letters are what they are.
    assert majorities("choice", [votes(("A", 0.0), ("B", 1.0), ("B", 1.0))]) == [1.0]


def test_a_suite_with_samples_has_pass_and_maj(tiny_tokenizer: Any) -> None:
    suite = SuiteConfig(
        environment="math", items=2, samples=3, temperature=1.0, max_completion_tokens=64, thinking=False
    )
    first, second = make_environment("math").tasks("test", 2, 0)
    right = [task.gold["answer"] for task in (first, second)]
    engine: Any = ByPrompt(
        tiny_tokenizer,
        {
            first.messages[0]["content"]: [
                f"The answer is {right[0]}.",
                f"So it is \\boxed{{{right[0]}.0}}",
                "The answer is 99.",
            ],
            second.messages[0]["content"]: [
                f"The answer is {right[1]}.",
                "The answer is 98.",
                f"The answer is {right[1]}...",  # cut off: it neither wins nor votes
            ],
        },
    )
    result = evaluate_suite("math", suite, engine, tiny_tokenizer, 0)
    assert result.items == [f"math/test/0/{task}#{sample}" for task in range(2) for sample in range(3)]
    assert result.scores["success"] == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    assert result.scores["maj@3"] == [1.0] * 3 + [0.5] * 3
    assert result.scores["pass@3"] == [1.0] * 6
    interval = result.interval()
    # pass@1 is the mean of two items' means, not of six samples.
    assert (interval.value, interval.n) == (pytest.approx((2 / 3 + 1 / 3) / 2), 2)
    assert result.interval("maj@3").value == 0.75
