"""The layout of the graph: rows in order, and no line through a stage that it does not touch."""

from pathlib import Path

from conftest import PARENTS
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.lineage import Row, graph, lay_out, rows_of
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


@given(graphs())
def test_lines_and_stages_never_share_a_place(rows: list[Row]) -> None:
    layout = lay_out(rows)
    assert len(layout.edges) == sum(len(row.parents) for row in rows)
    stages = {(lane, row) for row, lane in enumerate(layout.lanes)}
    assert len(stages) == len(rows)
    passed: dict[tuple[int, int], set[int]] = {}
    for edge in layout.edges:
        for row in range(edge.start + 1, edge.end):
            passed.setdefault((edge.lane, row), set()).add(edge.start)
    assert not stages & set(passed)
    assert all(len(parents) == 1 for parents in passed.values())


def test_stages_that_need_each_other_do_not_hang_the_report() -> None:
    drawn = graph([stage("a", "b"), stage("b", "a"), stage("c", "c")])
    assert "policy from b" in drawn
