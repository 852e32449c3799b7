"""The table of an iterated stage: what each iteration learned from, and where hardly anything was left."""

import json
from pathlib import Path

from alloy.report.iterations import iterations
from alloy.report.record import Stage, read_record


def told(mixed: float, tasks: float = 200.0) -> dict[str, float]:
    return {
        "sampled/success": 0.5125,
        "pairs/tasks": tasks,
        "pairs/mixed_share": mixed,
        "pairs/never_won": 20.0,
        "pairs/always_won": 90.0,
        "pairs/pairs": 320.0,
        "pairs/off_policy": 4.0,
    }


def test_a_row_an_iteration_and_a_word_where_little_was_left(tmp_path: Path) -> None:
    stage = Stage("dpo", tmp_path)
    stage.parts = {"iteration-1": told(0.45), "iteration-2": told(0.045)}
    gains = {"value": 0.115, "low": 0.06, "high": 0.17}
    stage.artifact = {"metrics": {f"gain/workplace/1/{key}": value for key, value in gains.items()}}
    page = iterations(stage)
    cells = [row.split("</td>") for row in page.split("<tr>")[2:]]
    texts = [[cell.rpartition(">")[2] for cell in row][:9] for row in cells]
    assert texts[0] == ["1", "51.2", "200", "45.0", "20", "90", "320", "4", "+11.5 [+6.0, +17.0]"]
    assert texts[1] == ["2", "51.2", "200", "4.5", "20", "90", "320", "4", "–"]
    assert page.count("hardly anything left") == 1
    assert "In iteration 2 4.5% of the tasks" in page


def test_a_stage_without_iterations_has_no_table(tmp_path: Path) -> None:
    assert iterations(Stage("grpo", tmp_path)) == ""


def test_iterations_are_read_in_their_order_finished_or_not(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        part = tmp_path / "run" / "dpo" / f"iteration-{number}"
        part.mkdir(parents=True)
        (part / "inputs.json").write_text("{}")
        (part / "sampled.json").write_text(json.dumps({"metrics": told(number / 100), "samples": []}))
    (tmp_path / "run" / "dpo" / "inputs.json").write_text("{}")
    (stage,) = read_record(tmp_path / "run").stages
    assert list(stage.parts) == ["iteration-1", "iteration-2", "iteration-10"]
    assert stage.parts["iteration-10"]["pairs/mixed_share"] == 0.1
