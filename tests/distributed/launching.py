"""Launches of two CPU processes, as a user starts them, and what they leave."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

COMPILED_WITHIN = 180
"""Seconds."""
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]


def environment() -> dict[str, str]:
    """Of a launch on a CPU.

    A process that was killed while it compiled DeepSpeed's kernels leaves a lock that others wait for without
    end. What is compiled here lies apart, and such a lock is taken away.
    """
    compiled = Path(tempfile.gettempdir()) / f"alloy-tests-kernels-{os.getuid()}"
    for lock in compiled.glob("*/lock"):
        if time.time() - lock.stat().st_mtime > COMPILED_WITHIN:
            lock.unlink(missing_ok=True)
    return {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TORCH_EXTENSIONS_DIR": str(compiled),
    }


def launch(config: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`accelerate launch --config_file configs/accelerate/CONFIG.yaml -m ARGUMENTS`."""
    done = subprocess.run(
        [*ACCELERATE, f"configs/accelerate/{config}.yaml", "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment(),
    )
    if check:
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def updates(folder: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of every update that was logged."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["grad_norm"]) for row in rows if "grad_norm" in row]


def tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of a model folder."""
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def shapes(folder: Path) -> dict[str, Any]:
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors(folder).items()}
