"""The budget that is chosen, against the rule worked out by hand, and by what is told of the tasks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.evaluate.budget import choose_budget
from alloy.evaluate.result import SuiteResult
from alloy.evaluate.statistics import standard_error


def scored(wins: int, of: int = 100) -> list[tuple[str, float]]:
    return [(f"t/{n}", float(n < wins)) for n in range(of)]


def test_the_smallest_within_one_standard_error_of_the_best() -> None:
    # 0.80 of 100 has a standard error of sqrt(0.8 * 0.2 / 99) = 0.0402: 0.76 is within it, 0.75 is not.
    found = choose_budget({None: scored(80), 16: scored(75), 64: scored(76), 256: scored(79)})
    assert (found.budget, found.best_budget) == (64, None)
    assert (found.accuracy.value, found.best_accuracy.value) == (0.76, 0.8)
    assert found.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 99))
    assert found.accuracy.n == 100


def test_of_budgets_that_are_best_alike_the_smallest_is_the_best() -> None:
    found = choose_budget({64: scored(100), None: scored(100), 0: scored(99)})
    # Where all win there is no error, and nothing less is as good.
    assert (found.budget, found.best_budget, found.standard_error) == (64, 64, 0.0)


def test_samples_of_a_task_are_one_item() -> None:
    # Two tasks, 1 and 0 on average: sd sqrt(0.5), by sqrt(2).
    told = [("a", 1.0)] * 50 + [("b", 0.0)] * 50
    assert choose_budget({1: told}).standard_error == pytest.approx(0.5)
    assert standard_error([1.0]) == 0.0


@given(st.dictionaries(st.sampled_from([0, 4, 16, 64, None]), st.integers(0, 30), min_size=1))
def test_the_choice_is_never_beyond_the_best_and_never_worse_than_its_error(
    wins: dict[int | None, int],
) -> None:
    found = choose_budget({budget: scored(count, 30) for budget, count in wins.items()})
    assert found.best_accuracy.value == max(wins.values()) / 30
    assert found.accuracy.value >= found.best_accuracy.value - found.standard_error - 1e-9
    order = [math.inf if b is None else b for b in (found.budget, found.best_budget)]
    assert order[0] <= order[1]


@pytest.mark.parametrize("wrong", [{}, {4: []}])
def test_nothing_to_choose_from(wrong: dict[int | None, list[tuple[str, float]]]) -> None:
    with pytest.raises(ValueError, match=r"no budgets|no scores"):
        choose_budget(wrong)


def test_hard_tasks_have_a_choice_of_their_own() -> None:
    """Easy tasks are won at any budget, hard ones at the largest alone."""
    items, success, steps = [], [], []
    for task in range(40):
        for budget in (8, None):
            hard = task >= 20
            items.append(f"math/test/0/{task}@{budget}")
            success.append(float(not hard or budget is None))
            steps.append("4" if hard else "2")
    result = SuiteResult("budget", "well_formed", items, {"success": success, "well_formed": success})
    result.groups = {"steps": steps}
    result.by_budget = [{"budget": 8}, {"budget": None}]
    choice = result.budget_choice()
    assert {label: told["budget"] for label, told in choice["steps"].items()} == {"2": 8, "4": None}
    assert choice["overall"]["budget"] is None
    assert choice["steps"]["2"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 20}
    assert result.at_budget(8).items[:2] == ["math/test/0/0", "math/test/0/1"]
    assert sum(result.at_budget(8).scores["success"]) == 20
    assert SuiteResult("math", "success", items, {}).budget_choice() == {}
