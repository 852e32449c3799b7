"""The layout of the graph: rows in order, and no line through a stage that it does not touch."""

import re
from pathlib import Path

from conftest import PARENTS
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.layout import Row, depths, lay_out, rows_of
from alloy.report.lineage import graph
from alloy.report.record import Stage, read_record


def stage(name: str, *parents: str, kind: str = "policy") -> Stage:
    return Stage(
        name, Path(name), {"kind": kind}, "finished", parents={str(i): p for i, p in enumerate(parents)}
    )


def test_a_chain_stays_in_one_lane() -> None:
    layout = lay_out([Row("a", ()), Row("b", ("a",)), Row("c", ("b",))])
    assert layout.lanes == [0, 0, 0]
    assert [(e.start, e.end, e.lane) for e in layout.edges] == [(0, 1, 0), (1, 2, 0)]


def test_a_branch_takes_a_lane_of_its_own_and_comes_back() -> None:
    rows = [Row("a", ()), Row("b", ("a",)), Row("reward", ("a",)), Row("c", ("b", "reward"))]
    layout = lay_out(rows)
    assert layout.lanes == [0, 0, 1, 0]
    assert {(e.start, e.end) for e in layout.edges} == {(0, 1), (0, 2), (1, 3), (2, 3)}


def test_side_branches_stand_beside_the_main_line() -> None:
    names = ("base", "try-1", "try-2", "try-3", "main", "end")
    parents = ((), ("base",), ("base",), ("base",), ("base",), ("main",))
    layout = lay_out([Row(name, above) for name, above in zip(names, parents, strict=True)])
    assert layout.lanes == [0, 1, 1, 1, 0, 0]
    # The three turn off the line that goes on to `main`.
    assert {edge.lane for edge in layout.edges} == {0}


def test_the_full_recipe_needs_three_lanes(run_root: Path) -> None:
    layout = lay_out(rows_of(read_record(run_root).stages))
    assert layout.width == 3


def test_an_evaluation_is_drawn_from_the_latest_only(run_root: Path) -> None:
    rows = {row.name: row.parents for row in rows_of(read_record(run_root).stages)}
    assert rows["evaluate"] == ("merge",)
    assert rows["merge"] == ("dpo", "rlhf")
    assert list(rows) == list(PARENTS)


@st.composite
def graphs(draw: st.DrawFn) -> list[Row]:
    count = draw(st.integers(1, 9))
    return [
        Row(
            str(i),
            tuple(str(p) for p in sorted(draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else ())),
        )
        for i in range(count)
    ]


@given(graphs(), st.booleans())
def test_lines_and_stages_never_share_a_place(rows: list[Row], flows: bool) -> None:
    """Neither in the list, where each stage has a row, nor in the graph, where stages stand side by side."""
    places = depths(rows) if flows else list(range(len(rows)))
    layout = lay_out(rows, places, both_sides=flows)
    assert len(layout.edges) == sum(len(row.parents) for row in rows)
    stages = set(zip(layout.lanes, places, strict=True))
    assert len(stages) == len(rows)
    passed: dict[tuple[int, int], set[int]] = {}
    for edge in layout.edges:
        assert places[edge.start] < places[edge.end]
        for place in range(places[edge.start] + 1, places[edge.end]):
            passed.setdefault((edge.lane, place), set()).add(edge.start)
    assert not stages & set(passed)
    assert all(len(parents) == 1 for parents in passed.values())
    assert min([*layout.lanes, *(edge.lane for edge in layout.edges)]) == 0


def test_a_stage_stands_one_step_after_the_last_of_its_parents() -> None:
    rows = [Row("a", ()), Row("b", ("a",)), Row("r", ("a",)), Row("c", ("b",)), Row("d", ("c", "r"))]
    assert depths(rows) == [0, 1, 1, 2, 3]
    layout = lay_out(rows, depths(rows), both_sides=True)
    assert layout.lanes == [0, 0, 1, 0, 0]


def test_a_line_past_a_stage_may_run_above_it() -> None:
    rows = [Row("a", ()), Row("b", ("a",)), Row("c", ("a", "b"))]
    layout = lay_out(rows, depths(rows), both_sides=True)
    # The lanes count from the uppermost: the stages are in lane 1, the line past `b` in lane 0.
    assert layout.lanes == [1, 1, 1]
    assert {(e.start, e.end, e.lane) for e in layout.edges} == {(0, 1, 1), (1, 2, 1), (0, 2, 0)}


def test_a_row_tells_what_matters_of_its_stage() -> None:
    """Held-out means before what the stage says, no interval's ends, and of an evaluation its size."""
    steps = [
        {"step": s, "mean": mean, "environments": {"math": {"value": mean}}}
        for s, mean in ((0, 0.5), (9, 0.625))
    ]
    kept = stage("grpo")
    kept.artifact["metrics"] = {"loss": 0.1}
    kept.validation = {"kept": 9, "steps": steps}
    told = stage("reward")
    told.artifact["metrics"] = {"accuracy": 0.75, "accuracy/low": 0.7, "n": 300, "margin": 0.25}
    judged = stage("evaluate", kind="evaluation")
    judged.judges, judged.results = True, {"cells": {"a": {}, "b": {}}, "suites": ["math"]}
    found = [re.findall(r"<i>([^<]+)</i> <b>([^<]+)</b>", graph([each])) for each in (kept, told, judged)]
    assert found[0] == [("held-out mean", "0.625"), ("the parent&#x27;s", "0.5")]
    assert found[1] == [("accuracy", "0.75"), ("margin", "0.25")]
    assert found[2] == [("models", "2"), ("suites", "1")]


def test_stages_that_need_each_other_do_not_hang_the_report() -> None:
    drawn = graph([stage("a", "b"), stage("b", "a"), stage("c", "c")])
    assert "policy from b" in drawn
