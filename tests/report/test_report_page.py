"""What is in the run folders is on the page, and what is not there never stops it."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import INJECTION, changed_results, write_json, write_jsonl
from parsed import Page

from alloy.errors import InputError
from alloy.report import build


def test_a_whole_run_is_shown(run_root: Path) -> None:
    page = Page(build(run_root))
    for name in (
        "stages",
        "results",
        "breakdown",
        "curves",
        "curriculum",
        "validation",
        "alpha",
        "budget",
        "rollouts-section",
        "provenance",
    ):
        assert name in page.ids()
    assert "notes" not in page.ids()
    assert len(page.ids()) == len(set(page.ids()))
    assert "10 of 10 stages finished" in page.text
    # 41 + 54 + ... + 158 seconds; 120 + ... + 210 thousand tokens without the merge's 200.
    assert "16 min 35 s of work 1.45M tokens cpu device" in page.text


def test_the_table_has_numbers_intervals_and_marks(run_root: Path) -> None:
    text = Page(build(run_root)).text
    # sft-2 on math: 0.16 of 200, 1.96 * sqrt(0.16 * 0.84 / 200) = 0.0508; +0.08 within 0.05 of it.
    assert "16.0 ▲ +8.0 significantly better 10.9 – 21.1" in text
    # On tools the difference is 0.08 - 0.09 with 0.05 to either side: no mark.
    assert "20.0 −1.0 14.5 – 25.5" in text
    # The merge has two parents, which are named.
    assert "56.0 ▲ +16.0 dpo significantly better ▲ +8.0 rlhf significantly better 49.1 – 62.9" in text
    assert "strict, prompt level · n 200" in text


def test_a_significant_loss_is_marked_as_such(run_root: Path) -> None:
    with changed_results(run_root) as results:
        results["differences"] = [
            {
                "stage": "grpo",
                "parent": "sft-3",
                "suite": "chat",
                "value": -0.1,
                "low": -0.2,
                "high": -0.01,
                "n": 200,
            }
        ]
    assert "38.0 ▼ −10.0 significantly worse" in Page(build(run_root)).text


def test_a_change_belongs_to_the_metric_that_is_shown(run_root: Path) -> None:
    with changed_results(run_root) as results:
        change = {"stage": "grpo", "parent": "sft-3", "suite": "chat", "low": 0.01, "high": 0.5, "n": 200}
        results["differences"] = [
            {**change, "metric": "quality", "value": 0.12},
            {**change, "metric": "another one", "value": 0.34},
        ]
    assert "38.0 ▲ +12.0 significantly better 31.3" in Page(build(run_root)).text


def test_what_is_behind_a_tool_suite_has_a_table_of_its_own(run_root: Path) -> None:
    with changed_results(run_root) as results:
        change = {"stage": "dpo", "parent": "grpo", "suite": "tools", "metric": "side_effects", "n": 200}
        results["differences"] = [{**change, "value": -0.2, "low": -0.3, "high": -0.1}]
    text = Page(build(run_root)).text
    # 0.3 and 0.1 of 200: 1.96 * sqrt(0.3 * 0.7 / 200) = 0.0635, 1.96 * sqrt(0.1 * 0.9 / 200) = 0.0416.
    told = (
        "tools grpo dpo side effects n 200 30.0 23.6 – 36.4 10.0 ▼ −20.0 grpo significantly better 5.8 – 14.2"
    )
    assert told in text
    assert "kind write n 200 50.0 43.1 – 56.9 50.0 43.1 – 56.9 kind search n 200 30.0" in text
    assert "steps 2 n 200 25.0 19.0 – 31.0 25.0" in text
    with changed_results(run_root) as results:
        results["differences"] = [{**change, "value": 0.2, "low": 0.1, "high": 0.3}]
    assert "10.0 ▲ +20.0 grpo significantly worse" in Page(build(run_root)).text


def test_results_of_earlier_versions_have_no_breakdown(run_root: Path) -> None:
    with changed_results(run_root) as results:
        del results["groups"], results["details"]
    page = Page(build(run_root))
    assert "breakdown" not in page.ids()
    assert "results" in page.ids()


def test_scores_beyond_percent_are_written_as_they_are(run_root: Path) -> None:
    cell = {"metric": "reward of the reward model", "value": -1.25, "low": -1.5, "high": -1.0, "n": 64}
    write_json(run_root / "evaluate" / "results.json", {"cells": {"rlhf": {"chat": cell}}})
    assert "−1.25 −1.5 – −1" in Page(build(run_root)).text


def test_the_trade_off_and_the_budgets_have_their_numbers(run_root: Path) -> None:
    text = Page(build(run_root)).text
    assert "Chosen: alpha 0.5 , by the rule: the largest product of math and chat." in text
    # 0.72 - 0.35 / 8 = 0.676 and 0.4 + 0.3 * sqrt(0.5) = 0.612, of 200 each.
    assert "0.5 ◂ chosen 67.6 [61.1, 74.1] 61.2 [54.5, 68.0] 0.414" in text
    assert "sft-3 ∞ 79.6 [71.7, 87.5] 100.0 [99.1, 100.0] 350" in text


def test_curves_are_grouped_and_labelled(run_root: Path) -> None:
    page = Page(build(run_root))
    labels = [attrs["aria-label"] for tag, attrs in page.elements if attrs.get("class") == "chart"]
    assert labels.count("Loss") == 8
    assert labels.count("Reward") == 2
    assert labels.count("KL to the reference") == 2
    assert labels.count("Accuracy over alpha") == 0
    assert {"Length, tokens", "Accuracy and pass rate", "Entropy", "Objective", "chat over math"} <= set(
        labels
    )
    assert "iteration-1 margins" in page.text


def test_what_a_curriculum_drew_and_which_step_was_kept_are_told(run_root: Path) -> None:
    page = Page(build(run_root))
    assert "grpo rolled every task out 4 times before training and again at steps 20 and 40." in page.text
    # 20 never and 8 always passed of 64 at first; nobody of tools would have remained.
    assert "parent mean 39.1, 28 left out step 20 mean 50.8, 24 left out" in page.text
    assert "Where none would remain, all stay: tools (parent)." in page.text
    assert "grpo kept step 40 : its mean over the environments, 49.7%," in page.text
    assert "The parent's weights were handed on : of the steps of rlhf" in page.text


def test_provenance_is_told(run_root: Path) -> None:
    text = Page(build(run_root)).text
    assert "cpu × 2" in text
    assert "1.0.0 (base, sft-1, sft-2, sft-3, grpo); 1.1.0 (dpo, reward-model, rlhf, merge, evaluate)" in text
    assert "0123456789ab-dirty" in text
    assert "max_steps: 60" in text


def test_a_completion_cannot_leave_its_place(run_root: Path) -> None:
    page = Page(build(run_root))
    assert INJECTION not in page.source
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [tag for tag, _ in page.elements if tag in ("img", "link", "iframe")]
    samples = json.loads(page.scripts[0])
    assert [piece for sample in samples for piece in sample["completion"]].count(["answer", INJECTION]) == 3
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert str(policy).startswith("default-src 'none'")


def test_names_from_the_run_are_escaped_everywhere(run_root: Path) -> None:
    evil = "<b onclick=x>\"'&"
    for path in run_root.glob("*/artifact.json"):
        record = json.loads(path.read_text())
        record |= {"recipe": evil, "device": evil, "git_revision": evil, "kind": evil, "created": evil}
        record |= {"metrics": {evil: 1.0}, "versions": {evil: evil}, "parents": {evil: {"path": evil}}}
        write_json(path, record)
    write_jsonl(
        run_root / "grpo" / "metrics.jsonl", [{"step": s, f"reward/{evil}": s, evil: 1} for s in range(9)]
    )
    write_jsonl(
        run_root / "grpo" / "samples.jsonl", [{"environment": evil, "status": evil}, {"environment": "a"}]
    )
    (run_root / "grpo" / "config.yaml").write_text(evil)
    write_json(run_root / "evaluate" / "results.json", {
        "cells": {evil: {evil: {"metric": evil, "value": 0.5}}},
        "differences": [{"stage": evil, "suite": evil, "parent": evil, "value": 0.1}],
        "budget": {evil: [{"budget": 1, "accuracy": {"value": 0.1}}]},
    })  # fmt: skip
    write_json(
        run_root / "merge" / "sweep.json",
        {"rule": evil, "points": [{"alpha": 0.5, "scores": {evil: {"value": 1}}}]},
    )
    write_json(
        run_root / "grpo" / "profile.json", {"step": 0, "rollouts": 2, "rates": {evil: {evil: 1, "a": 0}}}
    )
    measured = {"step": 0, "mean": 0.5, "fell": [evil], "environments": {evil: {"value": 0.5}}}
    write_json(
        run_root / "grpo" / "validation.json",
        {"kept": 0, "steps": [measured, {**measured, "step": 3, "mean": 0.7}]},
    )
    page = Page(build(run_root))
    assert "<b onclick" not in page.source
    assert page.text.count(evil) > 20


def test_nothing_is_fetched(run_root: Path) -> None:
    page = Page(build(run_root))
    addresses = [
        attrs[key] for _, attrs in page.elements for key in ("src", "href", "xlink:href") if key in attrs
    ]
    assert addresses
    assert all(str(address).startswith("#") for address in addresses)
    assert "http://" not in page.source.replace("http-equiv", "")
    assert "https://" not in page.source


@pytest.mark.parametrize(
    ("gone", "note"),
    [
        ("evaluate", "No evaluation has results yet: run the stage that evaluates."),
        ("merge", "No merge has swept alpha."),
        ("grpo", "No stage has drawn its tasks by a curriculum."),
    ],
)
def test_a_missing_stage_is_noted(run_root: Path, gone: str, note: str) -> None:
    shutil.rmtree(run_root / gone)
    page = Page(build(run_root))
    assert note in page.text
    assert "9 of 9 stages finished" in page.text


def test_a_file_without_what_it_is_for_is_noted(run_root: Path) -> None:
    write_json(run_root / "grpo" / "profile-20.json", {"step": 20})
    (run_root / "grpo" / "profile-40.json").write_text('{"step": 4')
    write_json(run_root / "rlhf" / "validation.json", {"kept": 3, "steps": "none"})
    text = Page(build(run_root)).text
    assert "grpo/profile-20.json has no rates, left out." in text
    assert "grpo/profile-40.json is no JSON object, left out." in text
    assert "rlhf/validation.json has no steps, left out." in text
    assert "grpo rolled every task out 4 times before training." in text


def test_an_interrupted_stage_shows_how_far_it_is(run_root: Path) -> None:
    (run_root / "grpo" / "artifact.json").unlink()
    write_json(run_root / "grpo" / "inputs.json", {"parents": {"parent": {"path": "runs/synthetic/sft-3"}}})
    with (run_root / "grpo" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 61, "los')
    text = Page(build(run_root)).text
    assert "grpo interrupted stage from sft-3 step 60 of 60" in text
    assert "dpo stale policy from grpo" in text
    assert "merge stale" in text
    assert "grpo/metrics.jsonl: 1 line is no JSON object, left out." in text


def test_a_parent_that_was_trained_again_makes_its_children_stale(run_root: Path) -> None:
    path = run_root / "dpo" / "artifact.json"
    record = json.loads(path.read_text())
    record["fingerprints"]["weights"] = "other"
    write_json(path, record)
    text = Page(build(run_root)).text
    assert "rlhf stale" in text
    assert "dpo stale" not in text


def test_a_given_model_is_part_of_the_graph(run_root: Path) -> None:
    shutil.rmtree(run_root / "base")
    path = run_root / "sft-1" / "artifact.json"
    record = json.loads(path.read_text())
    record["parents"] = {"parent": {"path": "models/some-model", "fingerprint": "x"}}
    write_json(path, record)
    assert "some-model given to the run sft-1 policy from some-model" in Page(build(run_root)).text


def test_a_folder_without_stages_gives_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "not-a-stage").mkdir()
    assert "There is no run folder in here yet." in Page(build(tmp_path)).text


def test_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: there is no such folder\. Name a recipe's run folder"):
        build(tmp_path / "gone")


def test_building_twice_replaces_the_page(run_root: Path) -> None:
    first = build(run_root).read_text(encoding="utf-8")
    assert build(run_root).read_text(encoding="utf-8") == first
    assert sorted(path.name for path in run_root.glob("report*")) == ["report.html"]


def test_a_long_log_and_many_samples_stay_small(tmp_path: Path) -> None:
    folder = tmp_path / "grpo"
    folder.mkdir()
    write_jsonl(
        folder / "metrics.jsonl", [{"step": s, "loss": s % 7, "reward/math": s % 5} for s in range(30_000)]
    )
    write_jsonl(
        folder / "samples.jsonl", [{"step": s, "prompt": "p", "completion": "x" * 9000} for s in range(1500)]
    )
    path = build(tmp_path)
    page = Page(path)
    assert path.stat().st_size < 2_000_000
    assert "200 of 1,500 logged completions, spread evenly over each stage; 1,300 are left out." in page.text
    steps = [sample["step"] for sample in json.loads(page.scripts[0])]
    assert (steps[0], steps[-1], len(steps)) == (0, 1499, 200)
    assert "3,000 characters left out" in page.scripts[0]
