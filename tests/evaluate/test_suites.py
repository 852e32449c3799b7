"""What a suite counts: well-formedness by hand-made turns, budgets, paired differences, the table."""

from collections.abc import Sequence
from typing import Any

import pytest

from alloy.environments.task import Task
from alloy.evaluate.asked import Asked, Portion
from alloy.evaluate.config import EvaluateConfig, SuiteConfig
from alloy.evaluate.result import result_of, tasks_of
from alloy.evaluate.scoring import Scorer, is_well_formed
from alloy.evaluate.suites import SuiteResult
from alloy.evaluate.summary import summarise
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


class Told:
    """An environment that has nothing but what it tells of its tasks."""

    name = "told"

    def __init__(
        self, thinking_mark: str | None = None, told: dict[str, dict[str, Any]] | None = None
    ) -> None:
        self.thinking_mark, self.told = thinking_mark, told

    def describe(self, task: Task) -> dict[str, Any]:
        return task.gold if self.told is None else self.told.get(task.id, {})

    def judge(self, *given: Any) -> None:
        raise NotImplementedError


class Words:
    """As much of a tokenizer as a row needs."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def rows_of(
    rollouts: Sequence[Rollout], budget: int | None = None, many: bool = False, number: int = 0, **told: Any
) -> list[dict[str, Any]]:
    mark = f"@{budget}" if many else ""
    asked = [Asked(f"{rollout.task.id}{mark}", rollout.task, 0, None) for rollout in rollouts]
    environment: Any = Told(**told)
    tokenizer: Any = Words()
    return Scorer(environment, tokenizer).rows("s", Portion(number, 0, budget, asked), rollouts, 2.0)


def test_a_failed_verifier_is_left_out_and_counted_and_an_unfinished_answer_scores_zero() -> None:
    rollouts = [rollout("a"), rollout("b"), rollout("c", finished=False)]
    verdicts = [Verdict(1.0), Verdict(None, "timeout", "10 s"), Verdict(1.0)]
    for done, verdict in zip(rollouts, verdicts, strict=True):
        done.verdict = verdict
    rows = rows_of(rollouts)
    result = result_of("math", rows)
    assert result.errors == 1
    assert result.scores["success"] == [1.0, 0.0]
    assert result.scores["finished"] == [1.0, 0.0]
    assert result.scores["tokens"] == [1.0, 1.0]
    assert (rows[1]["scores"], rows[1]["status"], rows[1]["detail"]) == (None, "timeout", "10 s")
    # The portion took two seconds for three completions.
    assert [row["seconds"] for row in rows] == [0.6667] * 3


def test_what_is_cut_off_counts_where_a_suite_says_so() -> None:
    done = rollout("c", finished=False)
    done.verdict = Verdict(1.0)
    environment: Any = Told()
    tokenizer: Any = Words()
    assert Scorer(environment, tokenizer).scores(done)["scores"]["success"] == 0.0
    lenient = Scorer(environment, tokenizer, judge_unfinished=True)
    assert lenient.scores(done)["scores"]["success"] == 1.0


def test_a_budget_suite_counts_each_budget_apart() -> None:
    rows = []
    for number, (budget, content) in enumerate(((4, "2+2=4"), (None, "The answer is 4."))):
        done = rollout(content)
        done.verdict = Verdict(1.0)
        rows += rows_of([done], budget, True, number, thinking_mark="=")
    result = result_of("budget", rows, [4, None])
    assert result.primary == "well_formed"
    assert result.items == ["math/test/0/0@4", "math/test/0/0@None"]
    assert result.scores["well_formed"] == [0.0, 1.0]
    assert [(told["budget"], told["well_formed"]["value"], told["tokens"]["value"], told["seconds"]["value"])
            for told in result.by_budget] == [(4, 0.0, 1.0, 2.0), (None, 1.0, 1.0, 2.0)]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "task"),
    [("a/0", "a/0"), ("a/0@16", "a/0"), ("a/0@None", "a/0"), ("a/0#3", "a/0"), ("a/0#11@512", "a/0"), ("a#b/1", "a#b/1")],
)  # fmt: skip
def test_samples_budgets_and_lengths_are_one_task(item: str, task: str) -> None:
    assert tasks_of([item]) == [task]


def tool_rollout(kind: str, steps: int, number: int, verdict: Verdict) -> Rollout:
    gold = {"kind": kind, "steps": steps}
    task = Task(f"tools/test/0/{number}", "tools", "t", [{"role": "user", "content": "?"}], gold=gold)
    done = Rollout(task, True, [1], token_ids=[2], completion_mask=[1], finished=True, verdict=verdict)
    done.messages = [{"role": "assistant", "content": "Done."}]
    return done


def measured(*judged: tuple[str, int, float | None, float]) -> SuiteResult:
    """A suite of tools from (kind, steps, reward, side effects)."""
    rollouts = []
    for number, (kind, steps, reward, side_effects) in enumerate(judged):
        parts = {"side_effects": side_effects, "invalid_calls": 0.0}
        verdict = Verdict(None, "error", "broken") if reward is None else Verdict(reward, parts=parts)
        rollouts.append(tool_rollout(kind, steps, number, verdict))
    return result_of("tools", rows_of(rollouts))


def test_success_is_told_by_what_the_environment_tells_of_its_tasks() -> None:
    result = measured(
        ("write", 1, 1.0, 0.0),
        ("write", 2, 0.0, 1.0),
        ("search", 10, 1.0, 0.0),
        ("search", 2, None, 0.0),  # left out and counted: its labels are left out, too
        ("write", 2, 1.0, 0.0),
        ("search", 2, 1.0, 0.0),
    )
    assert result.errors == 1
    assert result.groups == {
        "kind": ["write", "write", "search", "write", "search"],
        "steps": ["1", "2", "10", "2", "2"],
    }
    found = result.by_group()
    assert list(found["kind"]) == ["search", "write"]
    assert (found["kind"]["search"].value, found["kind"]["search"].n) == (1.0, 2)
    assert (found["kind"]["write"].value, found["kind"]["write"].n) == (2 / 3, 3)
    # A resample of three holds no win with 1/27 and no loss with 8/27, both beyond 2.5%.
    assert (found["kind"]["write"].low, found["kind"]["write"].high) == (0.0, 1.0)
    assert list(found["steps"]) == ["1", "2", "10"]
    assert (found["steps"]["2"].value, found["steps"]["2"].n) == (2 / 3, 3)
    assert result.interval("side_effects").value == 0.2


def test_labels_that_some_tasks_lack_leave_their_items_in_place() -> None:
    first = tool_rollout("write", 1, 0, Verdict(1.0))
    second = tool_rollout("search", 1, 1, Verdict(0.0, parts={"side_effects": 1.0}))
    result = result_of("tools", rows_of([first, second], told={second.task.id: {"kind": "search"}}))
    assert result.groups == {"kind": ["", "search"]}
    assert result.scores["side_effects"] == [0.0, 1.0]
    found = result.by_group()["kind"]
    assert list(found) == ["search"]
    assert (found["search"].value, found["search"].n) == (0.0, 1)


def test_faults_are_compared_with_the_parent_and_less_is_better() -> None:
    config = EvaluateConfig(suites={"tools": SuiteConfig(environment="workplace", items=4)})
    before = [("write", 1, 1.0, 0.0), *[("write", 1, 0.0, 1.0)] * 3]
    after = [("write", 1, 1.0, 0.0)] * 4
    worse = [("write", 1, 0.0, 1.0)] * 4
    results = {name: {"tools": measured(*rows)} for name, rows in (("a", before), ("b", after), ("c", worse))}
    summary = summarise(results, {"a": [], "b": ["a"], "c": ["b"]}, config)
    changes = {(d["stage"], d["metric"]): d for d in summary["differences"]}
    assert set(changes) == {(s, m) for s in "bc" for m in ("success", "side_effects", "invalid_calls")}
    # -1, -1, -1, 0: three of four items lost their side effects.
    assert changes["b", "side_effects"]["value"] == -0.75
    assert changes["b", "side_effects"]["high"] < 0
    assert changes["b", "side_effects"]["p"] == 0.25
    assert changes["c", "side_effects"]["value"] == 1.0
    assert changes["c", "invalid_calls"]["value"] == 0.0
    assert summary["details"]["a"]["tools"]["side_effects"]["value"] == 0.75
    assert summary["groups"]["a"]["tools"]["kind"]["write"]["value"] == 0.25
    lines = ["".join(line.split()) for line in render(summary).splitlines()]
    assert "│sideeffects│75[25,100]│0[0,0]*│100[100,100]!│" in lines
    assert "│invalidcalls│0[0,0]│0[0,0]│0[0,0]│" in lines
    assert "│kindwrite(4)│25[0,75]│100[100,100]│0[0,0]│" in lines
    assert "│steps1(4)│25[0,75]│100[100,100]│0[0,0]│" in lines


def test_a_suite_that_tells_nothing_has_no_table_of_its_own() -> None:
    config = EvaluateConfig(suites={"math": SuiteConfig(environment="math", items=1)})
    summary = summarise(
        {"a": {"math": SuiteResult("math", "success", ["1"], {"success": [1.0]})}}, {}, config
    )
    assert summary["groups"] == {"a": {}}
    assert render(summary).count("┏") == 1  # one table


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
