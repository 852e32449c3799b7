"""One measurement in a process of its own: a peak that is its own, and an end that ends nothing else."""

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.gpu_sizes import Sizes
from bench.outcome import peak_memory

PARTS = ("sft", "dpo", "grpo", "merge")
PATIENCE_SECONDS = 1800
"""Of one measurement; longer is taken for an end that never comes."""


_IMPORTS = {
    "sft": ["trl.trainer.sft_trainer", "sft.train"],
    "dpo": ["trl.trainer.dpo_trainer", "dpo.trainer"],
    "grpo": ["trl.trainer.grpo_trainer", "alloy.rl"],
    "merge": [],
}


def import_once(parts: list[str]) -> None:
    """Have what measurements need imported once; each is a copy of the process that did. For a CPU: what was
    imported may have begun to use a GPU, which no copy can go on with."""
    modules = [f"bench.gpu_{part}" for part in parts]
    multiprocessing.set_forkserver_preload([name for part in parts for name in _IMPORTS[part]] + modules)


def in_child(part: str, system: str, sizes: Sizes, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """What `measure(system, sizes, model, folder, seed)` of the part's module gives, or `failed`: how it ended."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    child = context.Process(target=_measure, args=(theirs, part, system, sizes, model, folder, seed))
    child.start()
    theirs.close()
    found: dict[str, Any] = {"failed": f"no answer in {PATIENCE_SECONDS} s"}
    with suppress(EOFError):
        if ours.poll(PATIENCE_SECONDS):
            found = {"failed": "ended without a word"}
            found = ours.recv()
    child.join(5)
    if child.is_alive():
        child.kill()
        child.join()
    if found.get("failed") == "ended without a word":
        found["failed"] = f"exit {child.exitcode}"
    return found


def _measure(answer: Connection, part: str, *given: Any) -> None:
    # What trainers say goes beside the benchmark's own JSON, not into it.
    os.dup2(2, 1)
    from alloy.command import quiet_libraries

    quiet_libraries()
    answer.send(outcome(part, *given))


def outcome(part: str, *given: Any) -> dict[str, Any]:
    """What a part measures, with this process's peak memory; what a system cannot do is an outcome, too."""
    import torch

    measure: Callable[..., dict[str, Any]] = import_module(f"bench.gpu_{part}").measure
    try:
        found = measure(*given)
        found = {"memory_gib": memory_gib(), **found}
    except (torch.OutOfMemoryError, MemoryError):
        return {"failed": "out of memory"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return found


def memory_gib() -> float:
    """The most that this process had of its GPU at once, or of the machine's memory where there is none."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return peak_memory()


def now() -> float:
    """Seconds, when everything that was asked of the GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def clock(warm: int) -> Any:
    """A trainer's callback that tells when its first `warm` updates were done, and its last."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began = ended = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == warm:
                self.began = now()
            if state.global_step == state.max_steps:
                self.ended = now()

        @property
        def seconds(self) -> float:
            return self.ended - self.began

    return Clock()


def plain(output: Path, sizes: Sizes, seed: int) -> dict[str, Any]:
    """What TRL has to be told to be comparable; all else is left as TRL has it."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(output), "max_steps": sizes.steps, "learning_rate": 1e-5, "seed": seed, "report_to": [],
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "use_cpu": not gpu,
        **({} if gpu else {"bf16": False}),
    }  # fmt: skip


def tuned(settled: Any) -> dict[str, Any]:
    """What Alloy decided for this device, as TRL's arguments."""
    from alloy.kernels import LAYERS_ALONE

    return {
        "gradient_checkpointing": settled.train.gradient_checkpointing,
        "use_liger_kernel": settled.train.fused_kernels,
        "liger_kernel_config": LAYERS_ALONE,
    }
