"""A disk that fills up or is locked in the middle of a checkpoint, of an artifact, of a command: a real one of 64 MiB."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAYS = {
    "full": "failed: no space left on the disk of ",
    "locked": " cannot be written or read (Read-only file system). Give this user the right to, or set output",
}


@pytest.fixture(scope="module")
def told(micro_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What each command said and left, by its name and the trouble."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m none "$0" && exec "$@"', str(folder)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    found = tmp_path_factory.mktemp("told") / "told.jsonl"
    done = subprocess.run(
        [*mount, sys.executable, "tests/survival/locked_disk.py", str(micro_runs), str(folder), str(found)],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    return {(row["what"], row["kind"]): row for row in rows}


@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize(
    ("moment", "kept"), [("on_step_end", ["checkpoint-1"]), ("on_train_end", ["checkpoint-11", "checkpoint-12"])]
)  # fmt: skip
def test_in_a_checkpoint_and_in_an_artifact_what_was_saved_stays_and_it_goes_on(
    told: Any, kind: str, moment: str, kept: list[str]
) -> None:
    """At the second step's checkpoint; and after the last step, when the model is written."""
    assert told[moment, kind]["status"] == 1
    assert SAYS[kind] in told[moment, kind]["told"]
    assert "Traceback" not in told[moment, kind]["told"]
    left = told[f"{moment} left", kind]
    assert left["checkpoints"] == kept
    assert set(left["broken"]) == {""}
    assert not left["finished"]
    again = told[f"{moment} again", kind]
    assert (again["status"], again["same"]) == (0, True), again


@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize("name", ["report", "merge", "evaluate"])
def test_a_command_says_so_leaves_nothing_that_looks_finished_and_works_afterwards(
    told: Any, kind: str, name: str
) -> None:
    found = told[name, kind]
    if (name, kind) == ("merge", "full"):
        # Found before anything is written.
        assert found["status"] == 2
        assert " are free there. Free some, or name a folder on another disk." in found["told"]
    else:
        assert found["status"] == 1
        assert SAYS[kind] in found["told"]
    assert "Traceback" not in found["told"]
    assert not found["made"]
    again = told[f"{name} again", kind]
    assert (again["status"], again["made"]) == (0, True), again
