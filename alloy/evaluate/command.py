"""`python -m alloy evaluate MODEL --suites math,tools --out DIR`."""

from pathlib import Path

from alloy.artifact import open_run
from alloy.command import Parser, print_json, quiet_libraries
from alloy.config import parse, read_yaml
from alloy.errors import InputError
from alloy.evaluate.config import EvaluateConfig

SUITES = Path("configs/demo/evaluate.yaml")
"""Where the suites are told by name when no other config is given."""


def run(arguments: list[str]) -> int:
    parser = Parser(prog="python -m alloy evaluate", description="Measure a model on suites, with intervals.")
    parser.add_argument("model", type=Path, help="run folder or model folder")
    parser.add_argument("--suites", help="names in the config, by comma; all when not given")
    parser.add_argument("--config", type=Path, default=SUITES, help=f"YAML that tells the suites ({SUITES})")
    parser.add_argument("--out", type=Path, required=True, help="folder for results, items and table")
    parser.add_argument("--items", type=int, help="items of each suite, instead of the config's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    given = parser.parse_args(arguments)
    config = _config(given.config, given.suites, given.items)
    config = config.model_copy(
        update={"models": {given.model.name: str(given.model)}, "output": str(given.out), "seed": given.seed}
    )
    run, parents = open_run(config)
    if not run.finished():
        quiet_libraries()
        from alloy.evaluate.measure import train

        train(config, run, parents)
    if given.json:
        from alloy.evaluate.measure import read_results

        print_json(read_results(given.out))
    else:
        print((given.out / "table.txt").read_text())
    return 0


def _config(path: Path, names: str | None, items: int | None) -> EvaluateConfig:
    values, lines = read_yaml(path)
    for compared in ("focus", "products", "win_rate", "reward_model"):
        values.pop(compared, None)  # there is one model only
    suites = values.get("suites") or {}
    if names:
        unknown = [name for name in names.split(",") if name not in suites]
        if unknown:
            raise InputError(f"--suites: {unknown[0]!r} is no suite of {path}. Known: {', '.join(suites)}.")
        values["suites"] = {name: suites[name] for name in names.split(",")}
    if items is not None:
        values["suites"] = {name: {**suite, "items": items} for name, suite in values["suites"].items()}
    return parse(EvaluateConfig, values, str(path), lines)
