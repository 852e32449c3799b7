"""SIGTERM in every training stage: a checkpoint, the way to go on, and the weights of a run that never stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from stages import STAGES, logged, run_stage, weights

from alloy.checkpoints import broken, checkpoints
from alloy.errors import InputError
from alloy.preemption import GRACE, Preempted, heeded
from alloy.training import RunCallback


def tell_to_end(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("name", STAGES)
def test_told_in_a_step_it_ends_after_it_and_goes_on_to_the_same_weights_and_log(
    micro_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No checkpoints are asked for: the one there is is the signal's."""
    from alloy.rl import PolicyTrainer

    folder, log = tmp_path / "r" / name, PolicyTrainer._log_rollouts

    def told(*given: Any, **named: Any) -> None:
        tell_to_end()
        log(*given, **named)

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            tell_to_end()

    with monkeypatch.context() as patch:
        if name in ("grpo", "rlhf"):
            # In the middle of the rollouts.
            patch.setattr(PolicyTrainer, "_log_rollouts", told)
        else:
            patch.setattr(RunCallback, "on_step_begin", on_step_begin)
        with (
            pytest.raises(Preempted, match="stopped by SIGTERM: step 1 is saved. To go on from there: "),
            heeded(),
        ):
            run_stage(name, micro_runs, folder)
    part = folder / STAGES[name].part
    assert [path.name for path in checkpoints(part / "checkpoints")] == ["checkpoint-1"]
    assert broken(part / "checkpoints" / "checkpoint-1") == ""
    assert not (part / "artifact.json").exists()
    run_stage(name, micro_runs, folder)
    assert weights(folder, name) == weights(micro_runs / name, name)
    # Between two lines of the log, too: what is said of the updates before the signal is not lost.
    assert logged(folder, name) == logged(micro_runs / name, name)


def test_where_no_step_ends_it_ends_at_once_and_keeps_what_was_saved(
    micro_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRACE, "0.3")
    seconds = 0.0

    def hang(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        nonlocal seconds
        if state.global_step == 1:
            began = time.monotonic()
            tell_to_end()
            tell_to_end()
            try:
                time.sleep(60)
            finally:
                seconds = time.monotonic() - began

    monkeypatch.setattr(RunCallback, "on_step_begin", hang)
    with pytest.raises(Preempted, match="what was saved before is kept"), heeded():
        run_stage("sft-1", micro_runs, tmp_path / "r" / "sft-1", "train.save_steps=1")
    assert 0.3 <= seconds < 4
    assert [path.name for path in checkpoints(tmp_path / "r" / "sft-1" / "checkpoints")] == ["checkpoint-1"]


def test_outside_training_it_ends_at_once() -> None:
    began = time.monotonic()

    def work() -> None:
        with heeded():
            tell_to_end()
            time.sleep(60)

    with pytest.raises(Preempted):
        work()
    assert time.monotonic() - began < 5


STUCK = """
import sys, threading
from alloy import preemption
from alloy.command import main
preemption._TO_UNWIND = 0.3
def run(_):
    try:
        print("at work", flush=True)
        threading.Event().wait(60)
    finally:
        # A library that waits for its own threads.
        threading.Event().wait(60)
sys.exit(main(run, []))
"""


def test_a_process_that_cannot_unwind_is_left_with_status_1_and_the_command() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert told.startswith("stopped by SIGTERM: what was saved before is kept. To go on from there: ")
    assert "Traceback" not in told


@pytest.mark.parametrize("given", ["soon", "-1", "nan", ""])
def test_a_grace_is_seconds(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(GRACE, given)
    with pytest.raises(InputError, match=f"ALLOY_GRACE_SECONDS = '{given}'"), heeded():
        pass


def test_a_forked_process_ends_as_any_other_and_another_thread_changes_nothing() -> None:
    with heeded():
        # A signal between the fork and Python's own work after it would be forgotten by Python.
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(writer, b"ready")
            time.sleep(60)
            os._exit(0)
        assert os.read(reader, 5) == b"ready"
        os.close(reader)
        os.close(writer)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=lambda: heeded().__enter__())
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is before
