"""`python -m alloy plan RECIPE`: what a recipe would take, before it runs."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from alloy.command import Parser, print_json
from alloy.pipeline import load_recipe
from alloy.plan.launch import SHARDINGS, Launch, parse_quantity, read_accelerate
from alloy.plan.recipe import StagePlan, plan_recipe
from alloy.plan.remedy import Remedy, find_remedy
from alloy.plan.table import render


def run(arguments: list[str]) -> int:
    given = _parser().parse_intermixed_args(arguments)
    recipe = load_recipe(given.recipe)
    launch = launch_of(given)
    runs = given.runs or Path("runs") / recipe.name
    plans = plan_recipe(recipe, runs, launch, given.overrides)
    made = {plan.stage: plan.shape for plan in plans}
    remedies = {
        plan.stage: find_remedy(recipe, plan, runs, launch, made) for plan in plans if not plan.fits(launch)
    }
    if given.json:
        print_json([_row(plan, launch, remedies) for plan in plans])
    else:
        print(render(recipe.name, plans, launch, remedies))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m alloy plan",
        description="What a recipe would take: steps, tokens, memory a device, time, disk. Nothing is run; of "
        "models and data only what describes them is read.",
    )
    parser.add_argument("recipe", help="a name under configs/ or a folder with a pipeline.yaml")
    parser.add_argument("overrides", nargs="*", metavar="STAGE.key=value", help="or seed=N for every stage")
    parser.add_argument("--devices", help="how many, all machines together (default 1)")
    parser.add_argument("--device-memory", metavar="80GiB", help="of one; whether stages fit is judged by it")
    parser.add_argument("--sharding", choices=SHARDINGS, help="how weights are divided (default none)")
    parser.add_argument("--offload", choices=("none", "optimizer", "all"), help="to the machine's memory")
    parser.add_argument(
        "--accelerate", type=Path, metavar="FILE", help="take these from a config of accelerate"
    )
    parser.add_argument("--cpu", action="store_true", help="processes on a CPU")
    parser.add_argument("--reserve", type=float, help="share of a device's memory left free (default 0.1)")
    parser.add_argument(
        "--mfu", type=float, help="share of its operations that training reaches (default 0.4)"
    )
    parser.add_argument(
        "--mbu", type=float, help="share of its bandwidth that sampling reaches (default 0.5)"
    )
    parser.add_argument("--device-flops", metavar="989T", help="operations a second of a device at best")
    parser.add_argument("--device-bandwidth", metavar="3.35TB/s", help="of a device's memory")
    parser.add_argument("--prompt-tokens", type=int, help="of a prompt that is rolled out (default 512)")
    parser.add_argument(
        "--runs", type=Path, help="folder of the recipe's run folders (default runs/<recipe>)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def launch_of(given: Namespace) -> Launch:
    """What the flags say; a flag replaces what the file of accelerate says.

    Raises:
        InputError: a value outside its rule.
    """
    found: dict[str, Any] = read_accelerate(given.accelerate) if given.accelerate else {}
    for name in ("sharding", "offload", "reserve", "mfu", "mbu", "prompt_tokens"):
        if getattr(given, name) is not None:
            found[name] = getattr(given, name)
    if given.cpu:
        found["cpu"] = True
    if given.sharding is not None and given.offload is None and given.accelerate:
        found["offload"] = (
            "none" if given.sharding not in ("zero2", "zero3") else found.get("offload", "none")
        )
    for name, flag, whole in (
        ("devices", "--devices", True),
        ("device_memory", "--device-memory", True),
        ("flops", "--device-flops", False),
        ("bandwidth", "--device-bandwidth", False),
    ):
        text = getattr(given, flag[2:].replace("-", "_"))
        if text is not None:
            value = parse_quantity(text, flag)
            found[name] = int(value) if whole else value
    return Launch(**found)


def _row(plan: StagePlan, launch: Launch, remedies: dict[str, Remedy | None]) -> dict[str, Any]:
    """A stage for machines: tokens and operations of all devices, bytes of one."""
    shape, training, compute, peak = plan.shape, plan.work.training, plan.compute, plan.memory.peak
    remedy = remedies.get(plan.stage)
    return {
        "stage": plan.stage,
        "package": plan.package,
        "architecture": shape.architecture if shape else None,
        "parameters": shape.parameters if shape else 0,
        "active_parameters": shape.active if shape else 0,
        "steps": training.steps if training else 0,
        "sequence_tokens": training.length if training else 0,
        "precision": training.precision if training else None,
        "gradient_checkpointing": plan.checkpoints if training else None,
        "tokens": {"trained": compute.trained, "scored": compute.scored, "sampled": compute.sampled},
        "operations": {
            "training": compute.training,
            "scoring": compute.scoring,
            "sampling": compute.sampling,
        },
        "hours": {
            "training": compute.training_seconds / 3600,
            "sampling": compute.sampling_seconds / 3600,
        },
        "memory": {
            "peak_bytes": peak.bytes,
            "peak_while": peak.name,
            "phases": [
                {"name": phase.name, "bytes": phase.bytes, **phase.kinds} for phase in plan.memory.phases
            ],
            "host_bytes": plan.memory.host,
        },
        "fits": plan.fits(launch) if launch.usable is not None else None,
        "remedy": {"change": remedy.told(launch), "peak_bytes": remedy.plan.memory.peak.bytes}
        if remedy
        else None,
        "disk": {"stays_bytes": plan.disk.stays, "passes_bytes": plan.disk.passes},
        "examples": plan.work.examples,
        "notes": list(plan.notes),
    }
