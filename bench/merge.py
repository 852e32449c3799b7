"""Two checkpoints of random bfloat16 weights merged, beside mergekit: time, memory, right roundings.

mergekit pins libraries that Alloy's do not fit to, so it gets an environment of its own under the cache
folder; the checkpoints are made once and lie there, too. Each system is a process of its own, from its start
to its end, in turn, and its result is removed before the next; ours hashes what it writes and syncs it.
The floor is what the disk needs: both parents read, one written, synced.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from alloy.data.identity import cache_folder
from bench.merge_checkpoints import LAYERS, layers_of, size_of, write_checkpoint
from bench.outcome import parser, ratio_interval, tell

ALPHA = 0.3
MERGEKIT = "0.1.5"
_AT_ONCE = 1 << 22
# A small process between: one that is started by this one would count this one's memory as its own.
_LAUNCHER = """
import os, sys, time
began = time.perf_counter()
to_errors = [(os.POSIX_SPAWN_DUP2, 2, 1)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=to_errors)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--layers", type=int, default=LAYERS, help="of a Llama; 19 are 1.28B weights")
    arguments.add_argument(
        "--growth",
        nargs="?",
        const="0.3,0.6,1.2,2.4,4",
        default="",
        help="ours alone on parents of so many GiB, too; %(const)s when none are named",
    )
    arguments.add_argument("--folder", type=Path, help="for the checkpoints; the cache folder otherwise")
    arguments.add_argument("--without-mergekit", action="store_true")
    given = arguments.parse_args()
    mergekit = None if given.without_mergekit else environment()
    folder = given.folder or cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    parents = made_once(folder, given.layers)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        need_disk(folder, size_of(given.layers))
        result, rows = compare(parents, Path(work), given.layers, given.runs, mergekit)
        grown = growth(Path(work), [float(gib) for gib in given.growth.split(",") if gib])
    if grown:
        result["growth"] = grown
    for point in grown:
        rows.append(
            [f"{point['gib']:.1f} GiB a parent", f"{point['seconds']:.1f}", f"{point['memory_gib']:.2f}", ""]
        )
    for key, said in (("ratio", "mergekit / ours"), ("floor_ratio", "ours / floor")):
        if key in result:
            value, low, high = result[key]
            rows.append([said, f"{value:.2f} [{low:.2f}, {high:.2f}]", "", ""])
    columns = ["system", "seconds", "peak GiB", "rounded right, %"]
    tell(f"two checkpoints of {size_of(given.layers) / 2**30:.1f} GiB", columns, rows, result, given.json)


def made_once(folder: Path, layers: int) -> list[Path]:
    """The two parents, written where they are not there yet."""
    parents = [folder / f"merge-{layers}-layers-{role}" for role in ("reasoning", "chat")]
    for seed, parent in enumerate(parents):
        if not parent.is_dir():
            need_disk(folder, size_of(layers))
            partial = parent.with_name(parent.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            write_checkpoint(partial, layers, seed).replace(parent)
    return parents


def compare(
    parents: list[Path], folder: Path, layers: int, runs: int, mergekit: Path | None
) -> tuple[dict[str, Any], list[list[str]]]:
    """The systems in turn on the same two checkpoints."""
    systems = ["floor", "ours", *(["mergekit"] if mergekit else [])]
    found: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    # Compiled once for all runs to come, as the peer's byte code is.
    small = [write_checkpoint(folder / f"small {n}", 1, n) for n in range(2)]
    measured(ours(small, folder / "out"))
    shutil.rmtree(folder / "out")
    for run in range(runs):
        for system in systems if run % 2 == 0 else systems[::-1]:
            for parent in parents:
                warm(parent)
            os.sync()
            out = folder / "out"
            if system == "floor":
                point = {"seconds": floor(parents, out), "memory_gib": 0.0}
            else:
                command = ours(parents, out) if system == "ours" else theirs(mergekit, parents, out)
                point = measured(command)
                if not found[system]:
                    point["right"] = share_right(parents, out)
            found[system].append(point)
            shutil.rmtree(out)
    rows: list[list[str]] = []
    result: dict[str, Any] = {}
    # The ratio comes first.
    for key, above, below in (("ratio", "mergekit", "ours"), ("floor_ratio", "ours", "floor")):
        if above in found:
            pairs = zip(found[above], found[below], strict=True)
            result[key] = ratio_interval([a["seconds"] / b["seconds"] for a, b in pairs])
    result |= {"weights": size_of(layers) // 2, "alpha": ALPHA, "load": os.getloadavg()[0]}
    for system, points in found.items():
        seconds = [point["seconds"] for point in points]
        memory, right = max(point["memory_gib"] for point in points), points[0].get("right")
        result[system] = {"seconds": seconds, "memory_gib": memory, "share_rounded_right": right}
        told = ", ".join(f"{second:.1f}" for second in seconds)
        rows.append(
            [system, told, f"{memory:.2f}" if memory else "", "" if right is None else f"{100 * right:.4f}"]
        )
    return result, rows


def growth(folder: Path, sizes: list[float]) -> list[dict[str, float]]:
    """Ours on larger and larger parents, as far as the disk allows."""
    points = []
    for gib in sizes:
        layers = layers_of(gib)
        if shutil.disk_usage(folder).free < 3 * size_of(layers) + (2 << 30):
            break
        parents = [write_checkpoint(folder / f"grown {n}", layers, n) for n in range(2)]
        for parent in parents:
            warm(parent)
        os.sync()
        points.append({"gib": size_of(layers) / 2**30, **measured(ours(parents, folder / "out"))})
        for used in (*parents, folder / "out"):
            shutil.rmtree(used)
    return points


def ours(parents: list[Path], out: Path) -> list[str]:
    named = ["--reasoning", str(parents[0]), "--chat", str(parents[1]), "--alpha", str(ALPHA)]
    return [sys.executable, "-m", "merge", *named, "--out", str(out)]


def theirs(python: Path | None, parents: list[Path], out: Path) -> list[str]:
    """mergekit's linear method on the same shares, as its README starts it; no tokenizer to copy."""
    config = {
        "merge_method": "linear",
        "dtype": "bfloat16",
        "models": [
            {"model": str(parent), "parameters": {"weight": weight}}
            for parent, weight in zip(parents, (1 - ALPHA, ALPHA), strict=True)
        ],
    }
    path = out.with_name("mergekit.json")
    path.write_text(json.dumps(config))
    assert python is not None
    return [str(python.with_name("mergekit-yaml")), str(path), str(out), "--no-copy-tokenizer"]


def environment() -> Path:
    """The Python of mergekit's own environment, made once."""
    folder = cache_folder() / "bench" / f"mergekit-{MERGEKIT}"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "mergekit-yaml").is_file():
        from importlib.metadata import version

        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The same torch on both sides.
        torch = f"torch=={version('torch').split('+')[0]}"
        subprocess.run([*pip, torch], check=True)
        subprocess.run([*pip, torch, f"mergekit=={MERGEKIT}"], check=True)
    return python


def measured(command: list[str]) -> dict[str, float]:
    """Seconds of a process from its start, and its peak resident memory with mapped pages, GiB."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()}
    with tempfile.TemporaryFile() as said:
        launched = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
        done = subprocess.run(launched, env=environment, stdout=subprocess.PIPE, stderr=said, check=False)
        if done.returncode:
            said.seek(0)
            raise SystemExit(f"{command[0]} failed: {said.read().decode(errors='replace')[-2000:]}")
    seconds, kilobytes = done.stdout.split()
    return {"seconds": float(seconds), "memory_gib": float(kilobytes) / 2**20}


def floor(parents: list[Path], out: Path) -> float:
    """Seconds to read both parents and write one, synced, a few megabytes at a time."""
    out.mkdir()
    buffer = bytearray(_AT_ONCE)
    began = time.perf_counter()
    with (out / "copy").open("wb", buffering=0) as target:
        os.posix_fallocate(target.fileno(), 0, (parents[0] / "model.safetensors").stat().st_size)
        for number, parent in enumerate(parents):
            with (parent / "model.safetensors").open("rb", buffering=0) as source:
                while got := source.readinto(buffer):
                    if number == 0:
                        target.write(memoryview(buffer)[:got])
        os.fsync(target.fileno())
    return time.perf_counter() - began


def warm(folder: Path) -> None:
    """Into the page cache, for every system alike."""
    buffer = bytearray(_AT_ONCE)
    with (folder / "model.safetensors").open("rb", buffering=0) as source:
        while source.readinto(buffer):
            pass


def share_right(parents: list[Path], out: Path) -> float:
    """Of ten million weights from all tensors, those that are the exact blend rounded to nearest even.

    The reference is exact where float64 is: the blend of two bfloat16 weights whose exponents are near
    fits into 80 bits, which x86's long double has all but 16 of; what lies that near to a tie is left out.
    """
    from safetensors import safe_open

    tables = [safe_open(parent / "model.safetensors", "pt") for parent in parents]
    files = sorted(out.glob("*.safetensors"))
    right = counted = 0
    for file in files:
        with safe_open(file, "pt") as result:
            for name in result.keys():  # noqa: SIM118
                bits = [
                    table.get_tensor(name).view(-1)[:50_000].view(dtype=_torch_bits()).numpy()
                    for table in (tables[0], tables[1], result)
                ]
                a, b, got = (((x.astype(np.uint32) & 0xFFFF) << 16).view(np.float32) for x in bits)
                exact = a.astype(np.longdouble) * (1 - np.longdouble(ALPHA)) + b.astype(np.longdouble) * ALPHA
                unit = np.ldexp(np.longdouble(1), np.frexp(exact)[1] - 8)
                steps = exact / unit
                sure = np.abs(np.abs(steps - np.floor(steps)) - 0.5) > 1e-15
                right += int(np.sum((np.rint(steps) * unit == got) & sure))
                counted += int(sure.sum())
    return right / counted


def _torch_bits() -> Any:
    import torch

    return torch.int16


def need_disk(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + (2 << 30):
        raise SystemExit(f"{folder}: {size / 2**30:.1f} GiB are written, {free / 2**30:.1f} GiB are free.")


if __name__ == "__main__":
    main()
