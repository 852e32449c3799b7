"""Which step is kept."""

import json
from pathlib import Path

from alloy.selection import Selection


def scores(**values: str) -> dict[str, dict[str, float]]:
    """`math="1101"` is four tasks, the third failed."""
    return {label: {f"{label}/{n}": float(c) for n, c in enumerate(told)} for label, told in values.items()}


def select(folder: Path, *steps: dict[str, dict[str, float]]) -> Selection:
    selection = Selection(folder)
    for step, found in enumerate(steps):
        selection.take(step * 10, found)
    return selection


def test_the_best_mean_over_all_environments(tmp_path: Path) -> None:
    selection = select(
        tmp_path,
        scores(math="1000", chat="1100"),  # 0.25, 0.5
        scores(math="1100", chat="1100"),  # 0.5, 0.5
        scores(math="1110", chat="1101"),  # 0.75, 0.75
        scores(math="1111", chat="1100"),  # 1.0, 0.5: the same mean, later
    )
    assert [entry["mean"] for entry in selection.entries] == [0.375, 0.5, 0.75, 0.75]
    assert selection.kept() == 20
    assert selection.kept(until=10) == 10


def test_a_step_where_one_fell_beyond_its_interval_is_not_kept(tmp_path: Path) -> None:
    selection = select(
        tmp_path,
        scores(math="0" * 40, chat="1" * 40),
        scores(math="1" * 40, chat="0" * 20 + "1" * 20),  # math up by 1, chat down by half
        scores(math="0" * 30 + "1" * 10, chat="1" * 39 + "0"),  # one of 40: the interval reaches 0
    )
    assert [entry["fell"] for entry in selection.entries] == [[], ["chat"], []]
    assert [entry["mean"] for entry in selection.entries] == [0.5, 0.75, 0.6125]
    assert selection.kept() == 20


def test_the_parent_is_kept_where_nothing_is_better(tmp_path: Path) -> None:
    selection = select(tmp_path, scores(math="1100"), scores(math="1100"), scores(math="1000"))
    assert selection.kept() == 0


def test_the_paired_difference_counts_the_tasks_that_both_have(tmp_path: Path) -> None:
    parent = {"math": {"a": 1.0, "b": 0.0}}
    selection = select(tmp_path, parent, {"math": {"b": 1.0, "c": 1.0}})
    assert selection.entries[1]["environments"]["math"]["gain"]["value"] == 1.0


def test_what_was_measured_is_on_disk_and_rewound(tmp_path: Path) -> None:
    select(tmp_path, scores(math="1000"), scores(math="1100"), scores(math="1111"))
    told = json.loads((tmp_path / "validation.json").read_text())
    assert told["kept"] == 20
    again = Selection(tmp_path)
    assert (again.kept(), again.measured(20)) == (20, True)
    again.rewind(10)
    assert (again.kept(), again.measured(20)) == (10, False)
    assert again.metrics() == {
        "validation/kept_step": 10.0,
        "validation/math/parent": 0.25,
        "validation/math/kept": 0.5,
        "validation/math/gain/value": 0.25,
        "validation/math/gain/low": again.entries[1]["environments"]["math"]["gain"]["low"],
        "validation/math/gain/high": again.entries[1]["environments"]["math"]["gain"]["high"],
    }


def test_weights_go_once_no_resumed_run_could_keep_them(tmp_path: Path) -> None:
    selection = select(tmp_path, scores(math="1000"), scores(math="1100"), scores(math="1111"))
    for step in (10, 20):
        selection.folder(step).mkdir(parents=True)
    selection.clean(15)  # a run that goes on from 15 has 10 as its best
    assert {path.name for path in selection.weights.iterdir()} == {"step-10", "step-20"}
    selection.clean(20)
    assert {path.name for path in selection.weights.iterdir()} == {"step-20"}


def test_what_is_measured_beside_chooses_nothing(tmp_path: Path) -> None:
    selection = Selection(tmp_path)
    for step, (outcome, score) in enumerate((("10", 1.0), ("11", 2.0), ("10", 9.0))):
        beside = {"reward model": {"chat": {"chat/0": score, "chat/1": score}}}
        selection.take(step * 10, scores(chat=outcome), beside)
    assert selection.kept() == 10
    told = json.loads((tmp_path / "validation.json").read_text())["steps"]
    assert [step["beside"]["reward model"]["chat"]["value"] for step in told] == [1.0, 2.0, 9.0]
    assert told[2]["beside"]["reward model"]["chat"]["gain"]["value"] == 8.0


def test_measurements_are_counted_since_the_best_step(tmp_path: Path) -> None:
    selection = select(tmp_path, scores(math="1100"))
    assert selection.waited() == 0
    found = []
    for step, told in enumerate(("1000", "1110", "1110", "1100", "1111"), 1):
        selection.take(step * 10, scores(math=told))
        found.append(selection.waited())
    # Better at 20; as good at 30; worse; better.
    assert found == [1, 0, 1, 2, 0]
