"""Files with fewer rows than a recipe asks for: found before its first stage starts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from alloy.__main__ import run
from alloy.command import main
from alloy.environments.enough import Wanted, refuse_too_few
from alloy.errors import InputError

ROWS = 200


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Of `problems`: a file of sums, of which some ten are for validation and some ten for the test."""
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"What is {n} + {n}?", "gold": str(2 * n)} for n in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(path), "verifier": "math"}


@pytest.mark.parametrize(
    ("stage", "change", "place"),
    [
        ("evaluate", {"suites": {"own": {"items": 60}}}, "suites.own"),
        ("grpo", {"environments": {"own": {"tasks": 16}}, "validation": {"tasks": 60, "every_steps": 1}}, "environments.own"),
        ("dpo", {"environments": {"own": {"tasks": 16, "validation_tasks": 60}}}, "environments.own"),
        ("rlhf", {"environments": {"own": {"tasks": 16}}, "validation_prompts": 60}, "environments.own"),
        ("merge", {"sweep": {"suites": {"own": {"items": 60}}}}, "sweep.suites.own"),
    ],
)  # fmt: skip
def test_nothing_is_started(
    tmp_path: Path,
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    stage: str,
    change: dict[str, Any],
    place: str,
) -> None:
    recipe, runs = tmp_path / "few", tmp_path / "runs"
    shutil.copytree("configs/micro", recipe)
    path = recipe / f"{stage}.yaml"
    values = yaml.safe_load(path.read_text())
    outer = values.setdefault("sweep", {}) if stage == "merge" else values
    name = "suites" if stage in ("evaluate", "merge") else "environments"
    (own,) = (change["sweep"] if stage == "merge" else change)[name].values()
    outer[name] = {**outer[name], "own": {**own, "environment": "problems", "options": options}}
    values |= {key: value for key, value in change.items() if key not in (name, "sweep")}
    path.write_text(yaml.safe_dump(values))
    assert main(run, ["run", str(recipe), "--runs", str(runs)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {stage}: {place}: {options['path']}: 60 tasks are asked for, and the ")
    assert "or fewer (`tasks`, `items`, `rows`), or give it more." in told
    assert not runs.exists()


def test_enough_is_enough_and_what_is_made_is_not_counted(options: dict[str, Any]) -> None:
    refuse_too_few(
        [
            Wanted("a", "problems", options, "train", 100),
            Wanted("b", "math", {}, "test", 1_000_000),
            Wanted("c", "problems", {"path": {"hub": "some/where", "split": "train"}}, "train", 5),
        ]
    )
    with pytest.raises(InputError, match="^d: .*201 tasks are asked for"):
        refuse_too_few([Wanted("d", "problems", options, "train", ROWS + 1)])
