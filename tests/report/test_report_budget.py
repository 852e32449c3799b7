"""What the page says of thinking budgets: the curves with their costs, and which budget is chosen."""

import json
from pathlib import Path

from parsed import Page

from alloy.report.page import build


def estimate(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "n": 80}


def test_costs_and_the_chosen_budget_stand_beside_the_curve(run_root: Path) -> None:
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    for entries in results["budget"].values():
        for entry in entries:
            entry["seconds"] = estimate(0.25)
            entry["tokens"] = estimate(100.0, 10)
    choice = {
        "budget": 64,
        "accuracy": estimate(0.76),
        "best_budget": None,
        "best_accuracy": estimate(0.8),
        "standard_error": 0.04,
    }
    hard = {**choice, "budget": None, "accuracy": choice["best_accuracy"]}
    results["budget_choice"] = {"sft-3": {"budget": {"overall": choice, "steps": {"4": hard}}}}
    path.write_text(json.dumps(results))
    page = Page(build(run_root))
    labels = [attrs["aria-label"] for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert labels.count("Seconds a completion") == 1
    assert "100 [90, 110] 0.25 [0.2, 0.3]" in page.text
    assert "sft-3 budget all 64 76.0 [71.0, 81.0] ∞ 80.0 [75.0, 85.0]" in page.text
    assert "sft-3 budget steps 4 ∞ 80.0 [75.0, 85.0] ∞" in page.text


def test_a_run_without_costs_or_a_choice_has_its_curve_all_the_same(run_root: Path) -> None:
    page = Page(build(run_root))
    labels = [attrs["aria-label"] for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert "Accuracy" in labels
    assert "Seconds a completion" not in labels
    assert "Chosen is the smallest budget" not in page.text


def test_a_broken_choice_is_left_out(run_root: Path) -> None:
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    results["budget_choice"] = {"a": 3, "b": {"s": [1], "t": {"overall": {"budget": "x"}, "steps": {"2": 4}}}}
    path.write_text(json.dumps(results))
    assert "b t all ∞ –" in Page(build(run_root)).text
