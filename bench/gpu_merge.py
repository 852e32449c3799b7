"""A merge of two checkpoints: gigabytes read and written a second, beside a plain loop of torch on the device."""

import os
import time
from pathlib import Path
from typing import Any

from bench.gpu_sizes import Sizes
from bench.merge import ALPHA, measured, share_right, warm
from bench.merge import ours as command
from bench.outcome import peak_memory


def measure(system: str, sizes: Sizes, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """One merge: `rate` in gigabytes (1e9) a second, memory of the machine's; ours from its process's start, hashed
    and synced.

    Args:
        model: the folder that holds the two checkpoints, `reasoning` and `chat`.
    """
    parents = [model / role for role in ("reasoning", "chat")]
    out = folder / "merged"
    for parent in parents:
        warm(parent)
    os.sync()
    if system == "ours":
        found: dict[str, Any] = dict(measured(command(parents, out)))
    else:
        found = {"seconds": loop(parents, out), "memory_gib": peak_memory()}
    moved = 3 * (parents[0] / "model.safetensors").stat().st_size
    return {**found, "rate": moved / 1e9 / found["seconds"], "rounded_right": share_right(parents, out)}


def loop(parents: list[Path], out: Path) -> float:
    """Seconds for what one writes by hand: a tensor after the other, blended in float32, saved and synced at the end.

    torch and safetensors are there already, which is in its favour.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.perf_counter()
    reasoning, chat = (safe_open(parent / "model.safetensors", "pt", device=device) for parent in parents)
    blended = {}
    for name in reasoning.keys():  # noqa: SIM118
        one, other = reasoning.get_tensor(name), chat.get_tensor(name)
        blended[name] = ((1 - ALPHA) * one.float() + ALPHA * other.float()).to(one.dtype).cpu()
    out.mkdir(parents=True)
    save_file(blended, out / "model.safetensors")
    with (out / "model.safetensors").open("rb") as stream:
        os.fsync(stream.fileno())
    return time.perf_counter() - began
