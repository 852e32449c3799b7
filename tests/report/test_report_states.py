"""What became of each stage of the recipe: finished, stale, interrupted, missing."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import PARENTS
from parsed import Page

from alloy.errors import InputError
from alloy.report import build
from alloy.report.record import Planned, read_record

RECIPE = """stages:
  base: {package: alloy.base}
  sft-1: {package: sft, needs: base}
  sft-2: {package: sft, needs: sft-1}
  evaluate: {package: alloy.evaluate, needs: [base, sft-1, sft-2]}
"""


def recipe(folder: Path, content: str = RECIPE) -> Path:
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(content)
    return folder


def test_stages_of_the_recipe_that_were_not_run_are_missing(run_root: Path) -> None:
    for gone in ("merge", "evaluate", "rlhf"):
        shutil.rmtree(run_root / gone)
    planned = {name: Planned(list(needs.values()), name == "evaluate") for name, needs in PARENTS.items()}
    planned["evaluate"] = Planned(["base", "dpo", "merge"], True)
    record = read_record(run_root, planned)
    assert [stage.name for stage in record.stages] == list(PARENTS)
    found = {stage.name: (stage.state, stage.why) for stage in record.stages}
    assert found["dpo"] == ("finished", "")
    assert found["rlhf"] == ("missing", "not run yet")
    assert found["merge"] == ("missing", "waits for rlhf")
    assert found["evaluate"] == ("missing", "waits for merge")


def test_the_recipe_may_be_named(run_root: Path, tmp_path: Path) -> None:
    for folder in run_root.iterdir():
        if folder.name not in ("base", "sft-1"):
            shutil.rmtree(folder)
    page = Page(build(run_root, str(recipe(tmp_path / "other"))))
    assert "2 of 4 stages finished" in page.text
    assert "sft-2 missing stage from sft-1 not run yet" in page.text
    assert "evaluate is missing: waits for sft-2" in page.text


def test_a_recipe_with_the_runs_name_is_found(
    run_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(tmp_path / "configs" / "synthetic")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(run_root / "sft-2")
    page = Page(build(run_root))
    assert "sft-2 missing" in page.text
    assert "sft-3 stale policy from sft-2 sft-2 is missing" in page.text


def test_a_broken_recipe_is_noted_unless_it_was_asked_for(
    run_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(tmp_path / "configs" / "synthetic", "stages: {a: {package: sft, needs: b}}")
    monkeypatch.chdir(tmp_path)
    assert "The recipe could not be read" in Page(build(run_root)).text
    with pytest.raises(InputError, match="a needs 'b', which is no stage here"):
        build(run_root, "synthetic")


def test_every_state_has_its_box(run_root: Path, tmp_path: Path) -> None:
    (run_root / "grpo" / "artifact.json").unlink()
    (run_root / "grpo" / "inputs.json").write_text(
        json.dumps({"parents": {"parent": {"path": "runs/synthetic/sft-3"}}})
    )
    shutil.rmtree(run_root / "sft-1")
    page = Page(build(run_root, str(recipe(tmp_path / "r"))))
    boxes = [
        str(attrs["class"]) for tag, attrs in page.elements if tag == "g" and "box" in str(attrs.get("class"))
    ]
    assert sorted(boxes) == sorted(
        ["box finished"] * 1  # base
        + ["box missing"]  # sft-1
        + ["box stale"] * 7
        + ["box interrupted"]
    )
    assert "grpo is interrupted: step 60 of 60" in page.text


def test_what_a_parent_is_to_its_child_is_told_at_the_line(run_root: Path) -> None:
    text = Page(build(run_root)).text
    assert "merge is made from dpo (reasoning)" in text
    assert "rlhf is made from reward-model (reward model)" in text
    assert "evaluate measures merge" in text
