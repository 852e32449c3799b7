"""`alloy run` and `alloy status`: a whole recipe from the command line."""

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from alloy.command import Parser, print_json
from alloy.errors import InputError
from alloy.pipeline import Recipe, load_recipe, run_recipe
from alloy.pipeline import status as recipe_status


def _parser(name: str, description: str) -> Parser:
    parser = Parser(prog=f"python -m alloy {name}", description=description)
    parser.add_argument("recipe", help="a name under configs/ or a folder with a pipeline.yaml")
    parser.add_argument("overrides", nargs="*", metavar="STAGE.key=value", help="or seed=N for every stage")
    parser.add_argument(
        "--runs", type=Path, help="folder of the recipe's run folders (default runs/<recipe>)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def run(arguments: list[str]) -> int:
    parser = _parser("run", "Run a recipe's stages in one process; what is finished is not run again.")
    parser.add_argument("--stage", action="append", default=[], help="only this stage and what it needs")
    parser.add_argument(
        "--package", action="append", default=[], help="only stages of this kind: sft, grpo, ..."
    )
    parser.add_argument("--force", action="store_true", help="run again even when finished")
    given = parser.parse_intermixed_args(arguments)
    recipe = load_recipe(given.recipe)
    wanted = given.stage + _stages_of(recipe, given.package)
    runs = given.runs or Path("runs") / recipe.name
    # What the stages say goes beside the JSON, not into it.
    with redirect_stdout(sys.stderr) if given.json else nullcontext():
        artifacts = run_recipe(recipe, runs, wanted=wanted, overrides=given.overrides, force=given.force)
    if given.json:
        print_json([artifact.model_dump(mode="json") for artifact in artifacts])
        return 0
    table = next((a.folder / "table.txt" for a in artifacts if a.kind == "evaluation"), None)
    if table and table.is_file():
        print(table.read_text())
    return 0


def _stages_of(recipe: Recipe, packages: list[str]) -> list[str]:
    found: list[str] = []
    for package in packages:
        stages = [s for s, entry in recipe.stages.items() if entry.package.split(".")[0] == package]
        if not stages:
            known = sorted({entry.package for entry in recipe.stages.values()})
            raise InputError(f"{recipe.name} has no stage of kind {package!r}. Kinds: {', '.join(known)}.")
        found += stages
    return found


def status(arguments: list[str]) -> int:
    given = _parser("status", "What is finished, stale (and why), missing.").parse_intermixed_args(arguments)
    recipe = load_recipe(given.recipe)
    rows = recipe_status(recipe, given.runs or Path("runs") / recipe.name, given.overrides)
    if given.json:
        print_json([{"stage": row.stage, "state": row.state, "why": row.why} for row in rows])
        return 0
    width = max(len(row.stage) for row in rows)
    for row in rows:
        took = f"{row.artifact.seconds:.0f} s" if row.artifact else row.why
        print(f"{row.stage:{width}}  {row.state:11}  {took}")
    return 0
