"""Win rates on the page."""

import re
from pathlib import Path
from typing import Any

import pytest

from alloy.report.page import build
from alloy.report.record import Stage
from alloy.report.win_rates import win_rates


def cell(value: float, half: float = 0.1, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


ROWS: list[dict[str, Any]] = [
    {"stage": "rlhf", "reference": "sft-3", "suite": "chat", "by": "reward_model", "missing": 0,
     "plain": cell(0.75), "controlled": cell(0.55), "words_more": 2.5},
    {"stage": "rlhf", "reference": "sft-3", "suite": "chat", "by": "judge", "missing": 3,
     "plain": cell(0.25), "controlled": cell(0.5), "words_more": -1.25, "steady": cell(0.8)},
    {"stage": "<b>", "reference": "sft-3", "suite": "chat", "by": "judge", "missing": 40},
]  # fmt: skip


def stage(rows: Any) -> Stage:
    return Stage("evaluate", Path("evaluate"), results={"win_rates": rows})


def cells(page: str) -> list[list[str]]:
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    return [re.findall(r"<td[^>]*>([^<]*)", row) for row in body.split("<tr>")[1:]]


def test_a_row_for_each_model_and_who_prefers() -> None:
    page = win_rates(stage(ROWS))
    assert "Answers to the prompts of chat." in page
    minus = chr(0x2212)
    assert cells(page) == [
        ["rlhf", "sft-3", "reward model", "75.0 [65.0, 85.0]*", "55.0 [45.0, 65.0]", "+2.5", "–", "40", "0"],
        ["rlhf", "sft-3", "judge", "25.0 [15.0, 35.0]*", "50.0 [40.0, 60.0]", f"{minus}1.25", "80.0 [70.0, 90.0]", "40", "3"],
        ["&lt;b&gt;", "sft-3", "judge", "–", "–", "–", "–", "–", "40"],
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [None, 7, [], [3], [{"stage": None}], {"stage": "rlhf"}])
def test_what_is_not_there_or_broken_is_left_out(rows: Any) -> None:
    assert win_rates(stage(rows)) == ""


def test_a_broken_cell_is_a_dash() -> None:
    page = win_rates(stage([{"stage": "rlhf", "by": 3, "plain": "much", "words_more": "many"}]))
    assert cells(page) == [["rlhf", *["–"] * 8]]


def test_the_page_has_them_where_an_evaluation_has(run_root: Path) -> None:
    import json

    assert ">Win rates<" not in build(run_root).read_text()
    path = run_root / "evaluate" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "win_rates": ROWS}))
    page = build(run_root).read_text()
    assert '<a href="#wins">Win rates</a>' in page
    assert "75.0 [65.0, 85.0]*" in page
