"""A launch of two processes that is told to end, from inside and from outside, and goes on to the same weights."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from command_line import alloy
from living_processes import environment_of, gone, living, status_of

from alloy.artifact import read_artifact
from alloy.checkpoints import broken, checkpoints
from alloy.parent_death import end_with
from tests.distributed.launching import ACCELERATE, environment, launch, tensors

pytestmark = pytest.mark.distributed

MARK = "ALLOY_TEST_LAUNCH"


@dataclass(frozen=True)
class Stage:
    """What is launched: a stage of micro, from where, for how long."""

    config: str
    parent: str
    steps: int
    rows: int


STAGES = {"sft": Stage("sft-1", "base", 60, 2), "grpo": Stage("grpo", "sft-3", 12, 4)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where micro's first stages are run, as far as they are needed."""
    return tmp_path_factory.mktemp("launched") / "micro"


def arguments(package: str, runs: Path, output: Path) -> list[str]:
    stage = STAGES[package]
    alloy("run", "micro", "--runs", str(runs), "--stage", stage.parent)
    return [
        *(package, f"configs/micro/{stage.config}.yaml", f"output={output}", f"parent={runs / stage.parent}"),
        *(f"train.max_steps={stage.steps}", f"train.per_device_batch_size={stage.rows}"),
        *("logging.every_steps=1", "logging.tensorboard=false"),
    ]


@pytest.fixture(scope="module")
def undisturbed(runs: Path) -> Callable[[str], Path]:
    """The folder of a launch that nobody told to end, by package."""
    found: dict[str, Path] = {}

    def of(package: str) -> Path:
        if package not in found:
            found[package] = runs.parent / f"whole-{package}"
            launch("cpu-ddp", *arguments(package, runs, found[package]))
        return found[package]

    return of


def rank(number: int, mark: str) -> int:
    """The process of a rank; what it starts itself has its environment, too."""
    mine = [pid for pid in living(MARK, mark) if environment_of(pid).get("RANK") == str(number)]
    (found,) = [pid for pid in mine if status_of(pid, "PPid") not in mine]
    return found


def launcher(mark: str) -> int:
    return status_of(rank(0, mark), "PPid")


TELLS: dict[str, Callable[[str], None]] = {
    "SIGTERM to a process": lambda mark: os.kill(rank(1, mark), signal.SIGTERM),
    "SIGTERM to the launcher": lambda mark: os.kill(launcher(mark), signal.SIGTERM),
    "SIGKILL to the launcher": lambda mark: os.kill(launcher(mark), signal.SIGKILL),
}


@pytest.mark.parametrize(("package", "how"), [*(("sft", how) for how in TELLS), ("grpo", next(iter(TELLS)))])
def test_all_processes_stop_after_the_same_step_and_go_on_to_the_same_weights(
    runs: Path, undisturbed: Callable[[str], Path], tmp_path: Path, package: str, how: str
) -> None:
    folder, mark = tmp_path / "r" / package, f"{package}/{how}"
    given = arguments(package, runs, folder)
    process = subprocess.Popen(
        [*ACCELERATE, "configs/accelerate/cpu-ddp.yaml", "-m", *given],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment(), MARK: mark},
        preexec_fn=partial(end_with, os.getpid()),
    )  # fmt: skip
    try:
        log, began = folder / "metrics.jsonl", time.monotonic()
        while not log.is_file() or log.read_text().count("\n") < 2:
            assert process.poll() is None, process.communicate()[1][-4000:]
            assert time.monotonic() - began < 200
            time.sleep(0.02)
        TELLS[how](mark)
        _, told = process.communicate(timeout=100)
        assert gone(MARK, mark), "a process outlived its launch"
    finally:
        for pid in living(MARK, mark):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode == (-signal.SIGKILL if "SIGKILL" in how else 1), told[-4000:]
    (kept,) = checkpoints(folder / "checkpoints")
    assert broken(kept) == ""
    # The main process alone tells, and the launcher of its own.
    (step,) = re.findall(r"stopped by SIGTERM: step (\d+) is saved\. Start the same launch again", told)
    assert kept.name == f"checkpoint-{step}"
    # Each process has written its own part of it.
    assert {path.name for path in kept.glob("rng_state_*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert not (folder / "artifact.json").exists()

    launch("cpu-ddp", *given)
    whole = undisturbed(package)
    ours, theirs = tensors(folder / "model"), tensors(whole / "model")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert read_artifact(folder).fingerprints["weights"] == read_artifact(whole).fingerprints["weights"]
