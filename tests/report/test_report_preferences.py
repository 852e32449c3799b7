"""A reward model's held-out pairs on the page."""

from pathlib import Path
from typing import Any

import pytest

from alloy.report.preferences import preferences
from alloy.report.record import Stage


def cell(value: float, n: int = 40, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": n, **more}


TOLD: dict[str, Any] = {
    "accuracy": cell(0.625, 120),
    "by_margin": [cell(0.5, label="1"), cell(0.75, label="3")],
    "by_length": [cell(0.4, label="shorter"), cell(0.8, label="longer")],
    "prefers_longer": {"model": cell(0.7), "data": cell(0.55)},
    "calibration": [cell(0.5, predicted=0.52), cell(0.6, predicted=0.9)],
    "calibration_error": 0.16,
}


def stage(held_out: Any) -> Stage:
    return Stage("reward-model", Path("reward-model"), {"notes": {"held_out": held_out}})


def test_the_figures_stand_on_the_page() -> None:
    page = preferences(stage(TOLD))
    assert "<b>62.5 [52.5, 72.5]%</b> of the cases on 120 pairs" in page
    assert "prefers the longer answer in 70.0 [60.0, 80.0]% of them, people did in 55.0 [45.0, 65.0]%" in page
    assert page.count("<figure") == 3
    assert "16.0 off in the mean" in page
    for told in (
        "<td>shorter</td><td class=n>40.0 [30.0, 50.0]</td><td class=n>40</td>",
        "<td>predicted 90.0</td><td class=n>60.0",
    ):
        assert told in page


def test_a_calibrated_point_lies_on_the_diagonal() -> None:
    on = {**TOLD, "calibration": [cell(0.5, predicted=0.5), cell(1.0, predicted=1.0)]}
    page = preferences(stage(on))
    figure = page[page.index("Calibration") : page.index("</figure>")]
    lines = [part.split('"')[0] for part in figure.split('points="')[1:]]
    assert lines[-1] == lines[0], "observed and diagonal are one line"


@pytest.mark.parametrize("held_out", [None, 7, {}, {"accuracy": {"value": "much"}}, {"accuracy": None}])
def test_any_other_stage_has_nothing_to_show(held_out: Any) -> None:
    assert preferences(stage(held_out)) == ""


def test_what_is_broken_is_left_out() -> None:
    page = preferences(
        stage({"accuracy": {"value": 0.5}, "by_length": [1, {"label": "x"}], "calibration": "no"})
    )
    assert "<b>50.0%</b>" in page
    assert "<figure" not in page
