"""What a suite counts: well-formedness by hand-made turns, budgets, paired differences, the table."""

from typing import Any

import pytest

from alloy.environments.task import Task
from alloy.evaluate.config import EvaluateConfig, SuiteConfig
from alloy.evaluate.measure import summarise
from alloy.evaluate.suites import SuiteResult, _take, is_well_formed
from alloy.evaluate.table import render
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict

TASK = Task("math/test/0/0", "math", "t", [{"role": "user", "content": "?"}])


def rollout(content: str, finished: bool = True, **turn: object) -> Rollout:
    done = Rollout(TASK, True, [1], token_ids=[2, 3], completion_mask=[1, 0], finished=finished)
    done.messages = [{"role": "assistant", "content": content, **turn}]
    return done


@pytest.mark.parametrize(
    ("content", "turn", "finished", "expected"),
    [
        ("The answer is 4.", {}, True, True),
        ("The answer is 4.", {}, False, False),
        ("", {}, True, False),
        ("  \n", {}, True, False),
        ("", {"tool_calls": [{"name": "f", "arguments": {}}]}, True, True),
        ("ok", {"invalid_calls": ["{"]}, True, False),
        ("so </think> The answer is 4.", {}, True, False),
        ("<think>The answer is 4.", {}, True, False),
        ("2+2=4 The answer is 4.", {}, True, False),
    ],
)
def test_well_formed(content: str, turn: dict[str, object], finished: bool, expected: bool) -> None:
    assert is_well_formed(rollout(content, finished, **turn), "=") is expected


def test_an_equals_sign_is_thinking_only_where_the_environment_says_so() -> None:
    assert is_well_formed(rollout("2+2=4"))


def test_a_failed_verifier_is_left_out_and_counted_and_an_unfinished_answer_scores_zero() -> None:
    result = SuiteResult("math", "success", [], {})
    rollouts = [rollout("a"), rollout("b"), rollout("c", finished=False)]
    verdicts = [Verdict(1.0), Verdict(None, "timeout", "10 s"), Verdict(1.0)]
    for done, verdict in zip(rollouts, verdicts, strict=True):
        done.verdict = verdict
    _take(result, rollouts, None, False, None)
    assert result.errors == 1
    assert result.scores["success"] == [1.0, 0.0]
    assert result.scores["tokens"] == [1.0, 1.0]


def test_a_budget_suite_counts_each_budget_apart() -> None:
    result = SuiteResult("budget", "well_formed", [], {})
    for budget, content in ((4, "2+2=4"), (None, "The answer is 4.")):
        done = rollout(content)
        done.verdict = Verdict(1.0)
        _take(result, [done], budget, True, "=")
    assert result.items == ["math/test/0/0@4", "math/test/0/0@None"]
    assert result.scores["well_formed"] == [0.0, 1.0]
    assert [(told["budget"], told["well_formed"]["value"]) for told in result.by_budget] == [
        (4, 0.0),
        (None, 1.0),
    ]


def test_differences_are_paired_by_item_and_marked_in_the_table() -> None:
    config = EvaluateConfig(suites={"math": SuiteConfig(environment="math", items=4)}, focus={"b": ["math"]})
    items = ["1", "2", "3", "4"]
    results = {
        "a": {"math": SuiteResult("math", "success", items, {"success": [0.0, 0.0, 0.0, 1.0]})},
        # Item 4 is missing: the pair of the parent's success is dropped with it.
        "b": {"math": SuiteResult("math", "success", items[:3], {"success": [1.0, 1.0, 1.0]})},
    }
    summary = summarise(results, {"a": [], "b": ["a"]}, config)
    (difference,) = summary["differences"]
    assert (difference["stage"], difference["parent"], difference["n"]) == ("b", "a", 3)
    assert (difference["value"], difference["low"], difference["focus"]) == (1.0, 1.0, True)
    told = render(summary)
    assert "100.0 [100.0, 100.0]*" in told
    assert "25.0 [" in told
    assert "b        math           +100.0 [+100.0, +100.0] to a" in told


def test_items_of_one_task_under_several_budgets_count_as_one() -> None:
    scores = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    items = [f"{task}@{budget}" for task in ("math/test/0/1", "math/test/0/2") for budget in (1, 2, 3, None)]
    result = SuiteResult("budget", "well_formed", items, {"well_formed": scores})
    interval = result.interval()
    # Two tasks, one won and one lost throughout: a resample of two holds both the same with probability 1/2.
    assert (interval.value, interval.low, interval.high, interval.n) == (0.5, 0.0, 1.0, 2)


def test_a_product_is_compared_with_every_parent() -> None:
    suites = {name: SuiteConfig(environment=name, items=4) for name in ("math", "chat")}
    config = EvaluateConfig(suites=suites, products={"m": ["math", "chat"]})
    items = ["1", "2", "3", "4"]

    def result(name: str, *scores: float) -> SuiteResult:
        return SuiteResult(name, "success", items, {"success": list(scores)})

    results = {
        "r": {"math": result("math", 1, 1, 1, 1), "chat": result("chat", 0.5, 0.5, 0.5, 0.5)},
        "c": {"math": result("math", 0, 0, 0, 0), "chat": result("chat", 1, 1, 1, 1)},
        "m": {"math": result("math", 1, 1, 1, 1), "chat": result("chat", 1, 1, 1, 1)},
    }
    summary = summarise(results, {"r": [], "c": [], "m": ["r", "c"]}, config)
    assert [(p["parent"], p["product"], p["value"]) for p in summary["products"]] == [
        ("r", 1.0, 0.5),
        ("c", 1.0, 1.0),
    ]
    told = render(summary)
    assert "m        math x chat    +50.0 [+50.0, +50.0] to r; 100.0 in all" in told
    # The marks are to the first parent alone: math is as good as r's, though better than c's.
    (row,) = (line for line in told.splitlines() if line.startswith("│ m "))
    assert "".join(row.split()) == "│m│100.0[100.0,100.0]│100.0[100.0,100.0]*│"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"focus": {"sft": ["maths"]}}, "focus.sft: 'maths' is no suite here. Known: math"),
        ({"products": {"merge": ["math"]}}, "products.merge: 1 suites, exactly two are needed"),
    ],
)
def test_suites_that_are_compared_must_be_there(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(suites={"math": SuiteConfig(environment="math", items=4)}, **wrong)
