"""Training and merging on one GPU beside plain TRL: SFT, DPO and GRPO, and a merge beside a loop of torch.

The systems take turns on the same work; every measurement is a process of its own. `trl` is TRL as it comes,
`trl tuned` is TRL with the settings that Alloy takes by itself on this device: what is left between the two and
ours is not a setting. The model has random weights and Qwen3-0.6B's shape; nothing is fetched.

`--cpu` runs all of it on a tiny model, to see that it runs: its figures say nothing.
"""

import subprocess
import sys
import tempfile
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from alloy.command import quiet_libraries
from alloy.plan.launch import parse_quantity
from bench.gpu_child import PARTS, import_once, in_child
from bench.gpu_sizes import ON_CPU, ON_GPU, Sizes, make_model, peak_of
from bench.outcome import parser, ratio_interval, tell

SYSTEMS = dict.fromkeys(PARTS, ("ours", "trl", "trl tuned")) | {"merge": ("ours", "loop")}
UNITS = {
    "sft": "tokens a second",
    "dpo": "pairs a second",
    "grpo": "completions a second",
    "merge": "GB a second",
}
Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    given = arguments()
    quiet_libraries()
    sizes = replace(ON_CPU if given.cpu else ON_GPU, **_named(given))
    device = "cpu" if given.cpu else gpu_name()
    if given.cpu:
        import_once(given.parts)
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        folder = Path(work)
        models = {"model": given.model or make_model(folder / "model", sizes), "parents": folder / "parents"}
        if "merge" in given.parts:
            write_parents(models["parents"], sizes)
        found = {part: compare(part, sizes, models, folder, given) for part in given.parts}
    flops = parse_quantity(given.device_flops, "--device-flops") if given.device_flops else peak_of(device)
    title = f"{device}, {given.rounds} rounds" + (", only to see that it runs" if given.cpu else "")
    columns = ["part", "system", "rate", "", "MFU", "seconds", "peak GiB", "ours / it"]
    tell(title, columns, table(found, flops), result(found, flops, device, sizes), given.json)


def arguments() -> Namespace:
    made = parser(__doc__)
    made.add_argument("--cpu", action="store_true", help="a tiny model on a CPU: only to see that it runs")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--systems", nargs="+", help="of ours, trl, 'trl tuned', loop; all when not given")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--model", type=Path, help="a model folder instead of one with random weights")
    made.add_argument("--device-flops", metavar="989T", help="bfloat16 operations a second, dense, at best")
    made.add_argument(
        "--folder", type=Path, help="for models and runs; the system's temporary folder otherwise"
    )
    for name in (
        "steps",
        "warm",
        "sequence",
        "sequences",
        "pairs",
        "prompts",
        "group",
        "completion",
        "merge_layers",
    ):
        made.add_argument(f"--{name.replace('_', '-')}", type=int, help="see bench/gpu_sizes.py")
    return made.parse_args()  # fmt: skip


def _named(given: Namespace) -> dict[str, int]:
    return {name: value for name in asdict(ON_CPU) if (value := getattr(given, name, None)) is not None}


def gpu_name() -> str:
    """Asked in a process of its own: this one leaves the GPU alone."""
    asked = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    name = done.stdout.strip()
    if not name:
        raise SystemExit("There is no GPU that torch sees. With --cpu everything runs on a tiny model.")
    return name


def write_parents(folder: Path, sizes: Sizes) -> None:
    from bench.merge_checkpoints import write_checkpoint

    for seed, role in enumerate(("reasoning", "chat")):
        write_checkpoint(folder / role, sizes.merge_layers, seed)


def compare(part: str, sizes: Sizes, models: dict[str, Path], folder: Path, given: Namespace) -> Runs:
    """Every system of a part, in turn, the order turned round every second time."""
    systems = [system for system in SYSTEMS[part] if not given.systems or system in given.systems]
    found: Runs = {system: [] for system in systems}
    model = models["parents" if part == "merge" else "model"]
    for number in range(given.rounds):
        for system in systems if number % 2 == 0 else systems[::-1]:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                found[system].append(in_child(part, system, sizes, model, Path(own), number))
    return found


def whole(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for run in runs if "failed" not in run]


def ratio(runs: Runs, peer: str) -> tuple[float, float, float] | None:
    """Ours to a peer, of the rounds that both finished; None where there is none."""
    both = [
        (mine["rate"], its["rate"])
        for mine, its in zip(runs.get("ours", []), runs[peer], strict=False)
        if "failed" not in mine and "failed" not in its
    ]
    return ratio_interval([mine / its for mine, its in both]) if both else None


def mfu(run: dict[str, Any], flops: float | None) -> float | None:
    return run["operations"] / flops if flops and "operations" in run else None


def table(found: dict[str, Runs], flops: float | None) -> list[list[str]]:
    rows = []
    for part, runs in found.items():
        for system, each in runs.items():
            done = whole(each)
            if not done:
                rows.append([part, system, "", each[0]["failed"], *[""] * 4])
                continue
            shares = [share for run in done if (share := mfu(run, flops)) is not None]
            ratios = ratio(runs, system) if system != "ours" else None
            failed = f" ({len(each) - len(done)} failed)" if len(done) < len(each) else ""
            rows.append(
                [
                    part,
                    system + failed,
                    f"{fmean(run['rate'] for run in done):,.4g}",
                    UNITS[part],
                    f"{fmean(shares):.1%}" if shares else "",
                    ", ".join(f"{run['seconds']:.3g}" for run in done),
                    f"{max(run['memory_gib'] for run in done):.2f}",
                    "{:.2f} [{:.2f}, {:.2f}]".format(*ratios) if ratios else "",
                ]
            )
    return rows


def result(found: dict[str, Runs], flops: float | None, device: str, sizes: Sizes) -> dict[str, Any]:
    """The ratios first."""
    told: dict[str, Any] = {}
    for part, runs in found.items():
        for peer in list(runs)[1:]:
            ratios = ratio(runs, peer)
            name = f"{part}_ratio_to_{peer.replace(' ', '_')}"
            told[name] = ratios[0] if ratios else None
            told[f"{name}_interval"] = list(ratios[1:]) if ratios else None
    told |= {"device": device, "device_flops": flops}
    for part, runs in found.items():
        for system, each in runs.items():
            done = whole(each)
            shares = [mfu(run, flops) for run in done]
            told[f"{part}_{system.replace(' ', '_')}"] = {
                "rates": [run["rate"] for run in done],
                "mfu": shares if part == "sft" else None,
                "memory_gib": max((run["memory_gib"] for run in done), default=None),
                "failed": [run["failed"] for run in each if "failed" in run],
                **{key: done[0][key] for key in ("settings", "rounded_right", "completion_tokens") if done and key in done[0]},
            }  # fmt: skip
    return told | {"sizes": asdict(sizes)}


if __name__ == "__main__":
    main()
