"""A stage in the processes of a launch, run whole and then killed after a checkpoint; its rollouts are recorded.

    accelerate launch ... -m tests.distributed.killed PACKAGE STEP FOLDER CONFIG [key=value ...]

leaves FOLDER/whole, a finished run, FOLDER/killed, one that every process died in at the beginning of the step
after STEP, and FOLDER/rollouts-RANK-CALL.pickle, what the first sampled.
"""

import importlib
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from alloy.pipeline import load_stage_config
from alloy.training import RunCallback


def record(folder: Path) -> None:
    from alloy.rl import PolicyTrainer

    roll_out, calls = PolicyTrainer.rollouts_of, iter(range(1 << 30))

    def recorded(self: Any, count: int) -> dict[str, Any]:
        found = roll_out(self, count)
        path = folder / f"rollouts-{self.accelerator.process_index}-{next(calls)}.pickle"
        path.write_bytes(pickle.dumps(found))
        return found

    PolicyTrainer.rollouts_of = recorded


def kill_after(step: int) -> None:
    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            # The checkpoint is whole when all have written their parts of it.
            PartialState().wait_for_everyone()
            os.kill(os.getpid(), signal.SIGKILL)

    RunCallback.on_step_begin = on_step_begin


def main(package: str, step: str, folder: str, config: str, *overrides: str) -> None:
    stage = importlib.import_module(package)
    if package in ("grpo", "rlhf"):
        record(Path(folder))
    for name in ("whole", "killed"):
        given = load_stage_config(package, Path(config), [f"output={folder}/{name}", *overrides])
        stage.run(given)
        kill_after(int(step))
    raise AssertionError("the second run was not killed")


if __name__ == "__main__":
    main(*sys.argv[1:])
