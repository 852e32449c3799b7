"""What the page says of thinking budgets: the curves with their costs, and which budget is chosen."""

import json
from pathlib import Path

import pytest
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
    labels = [str(attrs["aria-label"]) for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert labels.count("Seconds a completion") == 1
    assert "100 [90, 110] 0.25 [0.2, 0.3]" in page.text
    assert "sft-3 budget all 64 76.0 [71.0, 81.0] ∞ 80.0 [75.0, 85.0]" in page.text
    assert "sft-3 budget steps 4 ∞ 80.0 [75.0, 85.0] ∞" in page.text


def test_an_ablation_stands_beside_what_it_ablates(run_root: Path) -> None:
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    results["budget"]["grpo"] = results["budget"]["sft-3"]
    path.write_text(json.dumps(results))
    page = Page(build(run_root))
    # sft-3-untruncated: 1 - 0.4 exp(-budget / 100); sft-3: 1 - 0.005 exp(...). The gap at 0 is 0.4 - 0.005.
    told = (
        "sft-3 is well-formed in 99.5 to 100.0% of its completions over the budgets, sft-3-untruncated in "
        "60.0 to 99.8% . They are furthest apart at budget 0: +39.5 [+33.5, +45.5] points."
    )
    assert told in page.text.replace(" % ", "% ")
    labels = [str(attrs["aria-label"]) for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert "sft-3 less sft-3-untruncated, percentage points" in labels
    # Of the three hero charts two have the third model behind the pair.
    assert [attrs.get("class") for _, attrs in page.elements].count("muted") == 2
    assert "Grey: grpo." in page.text
    assert labels.count("grpo") == 1


@pytest.mark.parametrize("asked", [False, None, "yes"])
def test_without_a_comparison_every_model_has_its_line(run_root: Path, asked: object) -> None:
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    for entry in results["differences"]:
        entry["asked"] = asked
    path.write_text(json.dumps(results))
    page = Page(build(run_root))
    labels = [str(attrs["aria-label"]) for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert {"Well-formed", "Accuracy", "Tokens a completion"} <= set(labels)
    assert "percentage points" not in " ".join(labels)


def test_a_run_without_costs_or_a_choice_has_its_curve_all_the_same(run_root: Path) -> None:
    page = Page(build(run_root))
    labels = [str(attrs["aria-label"]) for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert "Accuracy" in labels
    assert "Seconds a completion" not in labels
    assert "Chosen is the smallest budget" not in page.text


def test_a_broken_choice_is_left_out(run_root: Path) -> None:
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    results["budget_choice"] = {"a": 3, "b": {"s": [1], "t": {"overall": {"budget": "x"}, "steps": {"2": 4}}}}
    path.write_text(json.dumps(results))
    assert "b t all ∞ –" in Page(build(run_root)).text
