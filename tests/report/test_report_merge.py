"""The merge's part: what was swept, whatever it is called, and the path of a search over groups."""

import json
from pathlib import Path
from typing import Any

from conftest import estimate, write_json
from parsed import Page

from alloy.report import build


def point(setting: Any, math: float, chat: float, over: str = "alpha") -> dict[str, Any]:
    scores = {"math": estimate(math), "chat": estimate(chat)}
    return {over: setting, "scores": scores, "objective": math * chat, "standard_error": 0.02}


def searched() -> dict[str, Any]:
    """Two groups from alpha 0.5 for all: attention goes to 0.1, mlp stays."""
    tried = [
        point({"attention": 0.1, "mlp": 0.5}, 0.8, 0.7),
        point(0.5, 0.6, 0.7),
        point({"attention": 0.9, "mlp": 0.5}, 0.2, 0.7),
    ]
    stays = [
        point({"attention": 0.1, "mlp": 0.1}, 0.8, 0.4),
        point({"attention": 0.1, "mlp": 0.5}, 0.8, 0.7),
    ]
    after = {"attention": 0.1, "mlp": 0.5}
    return {
        "over": "alpha",
        "chosen": after,
        "rule": "product",
        "objective": "product",
        "suites": ["math", "chat"],
        "points": [point(0.1, 0.9, 0.2), point(0.5, 0.6, 0.7), point(0.9, 0.2, 0.8)],
        "path": [
            {"group": "attention", "before": 0.5, "after": 0.1, "alphas": after, "tried": tried},
            {"group": "mlp", "before": 0.5, "after": 0.5, "alphas": after, "tried": stays},
        ],
    }


def charts(page: Page) -> dict[str, str]:
    return {
        str(attrs["aria-label"]): str(attrs["data-names"])
        for _, attrs in page.elements
        if attrs.get("class") == "chart"
    }


def test_a_search_over_groups_is_shown_step_by_step(run_root: Path) -> None:
    write_json(run_root / "merge" / "sweep.json", searched())
    page = Page(build(run_root))
    assert "Chosen: alpha attention 0.1, mlp 0.5 , by the rule: product." in page.text
    assert "From alpha 0.5 for all, one group after another" in page.text
    assert charts(page)["Alpha of each group, step by step"] == "start|1|2"
    # The product goes from 0.6 * 0.7 = 0.42 to 0.8 * 0.7 = 0.56, and stays.
    assert "1 attention 0.5 to 0.1 0.1 0.5 80.0 [74.5, 85.5] 70.0 [63.6, 76.4] 0.56 ± 0.02" in page.text
    assert "2 mlp stays 0.1 0.5 80.0 [74.5, 85.5] 70.0 [63.6, 76.4] 0.56 ± 0.02" in page.text
    assert {"Step 1: attention", "Step 2: mlp", "Product, step by step"} <= set(charts(page))


def test_the_sweep_of_an_option_is_called_by_its_name(run_root: Path) -> None:
    points = [point(0.2, 0.5, 0.5, "density"), point(0.6, 0.7, 0.6, "density")]
    points[0]["dominated"] = True
    found = {
        "over": "density",
        "chosen": 0.6,
        "rule": "product",
        "objective": "product",
        "points": points,
        "path": [],
    }
    write_json(run_root / "merge" / "sweep.json", found)
    page = Page(build(run_root))
    assert "Chosen: density 0.6 , by the rule: product." in page.text
    assert "share of the chat checkpoint" not in page.text
    assert "Scores over density" in charts(page)
    assert "The search over groups" not in page.text
    assert "0.2 dominated 50.0 [43.1, 56.9] 50.0 [43.1, 56.9] 0.25 ± 0.02" in page.text
    assert "0.6 ◂ chosen" in page.text


def test_a_path_that_cannot_be_read_leaves_the_rest(run_root: Path) -> None:
    found = searched()
    found["path"] = [3, {"group": "a"}, {"group": "b", "tried": [1], "alphas": "x", "after": "y"}]
    write_json(run_root / "merge" / "sweep.json", found)
    page = Page(build(run_root))
    assert "Scores over alpha" in charts(page)
    assert "1 a stays – – – – –" in page.text
    assert json.loads((run_root / "merge" / "sweep.json").read_text()) == found
