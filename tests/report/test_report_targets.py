"""What each stage is there to move: a row each, told from chance."""

from pathlib import Path

from conftest import changed_results
from parsed import Page

from alloy.report import build


def test_targets_are_told_with_their_intervals(run_root: Path) -> None:
    with changed_results(run_root) as results:
        results["products"] = [
            {"stage": "merge", "parent": parent, "suites": ["math", "chat"], "value": value, "low": value - 0.1,
             "high": value + 0.1, "n": 400}
            for parent, value in (("dpo", 0.125), ("rlhf", -0.25))
        ]  # fmt: skip
    text = Page(build(run_root)).text
    assert "What each stage is there to move" in text
    # As in the table: 0.08 with 0.05 to either side, and on tools 0.08 - 0.09.
    assert "sft-2 math sft-1 +8.0 significantly better +3.0 to +13.0" in text
    assert "dpo tools grpo −1.0 −6.0 to +4.0" in text
    assert "merge math × chat dpo +12.5 significantly better +2.5 to +22.5" in text
    assert "merge math × chat rlhf −25.0 significantly worse −35.0 to −15.0" in text


def test_no_change_at_all_is_told_in_percent_too(run_root: Path) -> None:
    with changed_results(run_root) as results:
        results["products"] = [
            {"stage": "merge", "parent": "dpo", "suites": ["a", "b"], "value": 0, "low": 0, "high": 0}
        ]
    assert "merge a × b dpo ±0.0 ±0.0 to ±0.0" in Page(build(run_root)).text


def test_other_metrics_of_the_same_suite_are_not_targets(run_root: Path) -> None:
    with changed_results(run_root) as results:
        for entry in results["differences"]:
            entry["metric"] = entry.get("metric") or "success@16"
    assert "What each stage is there to move" not in Page(build(run_root)).text
