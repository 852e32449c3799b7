"""`python -m alloy evaluate MODEL --suites math,tools --out DIR`."""

import json
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from alloy.artifact import open_run, resolve_parent, write_atomically
from alloy.command import Parser, print_json, quiet_libraries
from alloy.config import apply_overrides, dump, parse, read_yaml
from alloy.errors import InputError
from alloy.evaluate.config import EvaluateConfig
from alloy.evaluate.standard import GENERATED, NAMES, read_place, standard_suites
from alloy.evaluate.throughput import measure_throughput, parse_shapes
from alloy.rl_config import EngineConfig

_PROMPT_TOKENS = 4096
"""Room for prompts whose length nobody knows yet."""
_TURNS_FULL = 4
"""Turns of a conversation that may be as long as they can."""

_FORMS = f"""suites: {", ".join(NAMES)}

  python -m alloy evaluate MODEL --suites math,tools --out DIR
  python -m alloy evaluate MODEL --suites math,instructions --data math=gsm8k.jsonl --data instructions=ifeval.jsonl \\
      --engine vllm --out DIR
  python -m alloy evaluate MODEL --config suites.yaml --compare OTHER --out DIR suites.math.temperature=0.6
  python -m alloy evaluate MODEL --throughput 8192:16384
  python -m alloy evaluate MODEL --lm-eval gsm8k,ifeval --out DIR"""


def run(arguments: list[str]) -> int:
    given = _parser().parse_intermixed_args(arguments)
    if given.throughput:
        return _throughput(given)
    if given.dry_run:
        print(dump(configure(given)), end="")
        return 0
    if given.out is None:
        raise InputError("--out: no folder to keep results in. Name one.")
    return _harness(given) if given.lm_eval else _suites(given)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m alloy evaluate",
        description="Measure a model on suites, with intervals.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=_FORMS,
    )
    parser.add_argument("model", type=Path, help="run folder or model folder")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="e.g. suites.math.samples=8")
    parser.add_argument("--suites", help="names by comma; those that need no data when not given")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SUITE=PLACE",
        help="a file, or a Hub name[:subset]:split",
    )
    parser.add_argument("--config", type=Path, help="YAML that tells the suites, as an evaluation stage's")
    parser.add_argument("--out", type=Path, help="folder for results, items and table")
    parser.add_argument(
        "--compare", action="append", default=[], type=Path, metavar="OTHER", help="a model on the same items"
    )
    parser.add_argument("--engine", choices=("transformers", "vllm"))
    parser.add_argument("--items", type=int, help="of each suite at most")
    parser.add_argument(
        "--samples", type=int, help="of each item; drawn at 0.6, top_p 0.95 unless told otherwise"
    )
    parser.add_argument("--thinking", choices=("on", "off"))
    parser.add_argument("--budgets", help="of the suite budget: 0,64,256,none")
    parser.add_argument("--lengths", help="of the suite long, in tokens: 512,2048")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the config, which --config takes, and stop"
    )
    parser.add_argument("--throughput", metavar="IN:OUT", help="tokens a second on vLLM, no suites")
    parser.add_argument("--requests", type=int, default=64, help="of a round of --throughput (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of --throughput (%(default)s)")
    parser.add_argument("--lm-eval", metavar="TASKS", help="tasks of lm-eval, by its command line, no suites")
    parser.add_argument("--lm-eval-args", default="", metavar="ARGS", help="more arguments for lm-eval")
    return parser


def _suites(given: Namespace) -> int:
    config = configure(given)
    run, parents = open_run(config)
    if not run.finished():
        quiet_libraries()
        from alloy.evaluate.measure import train

        with redirect_stdout(sys.stderr if given.json else sys.stdout):
            train(config, run, parents)
    if given.json:
        from alloy.evaluate.measure import read_results

        print_json(read_results(given.out))
    else:
        print((given.out / "table.txt").read_text(encoding="utf-8"))
    return 0


def configure(given: Namespace) -> EvaluateConfig:
    """The config of an evaluation stage that a command line asks for.

    Raises:
        InputError: an unknown suite, a number that is none, or what the config itself refuses.
    """
    values, places = read_yaml(given.config) if given.config else ({}, {})
    for compared in ("focus", "products", "win_rate", "reward_model", "compare"):
        values.pop(compared, None)  # they name a recipe's models
    values["suites"] = _chosen(given, values.get("suites") or {})
    names = _names([given.model, *given.compare])
    values |= {"models": {name: str(path) for name, path in names.items()}, "seed": given.seed}
    ours, *others = names
    values["compare"] = {ours: others} if others else {}
    if given.out is not None:
        values["output"] = str(given.out)
    if given.config is None:
        values["rollout"] = {"vllm_max_model_tokens": _room(given.model, values["suites"].values())}
    if given.engine:
        values["rollout"] = {**(values.get("rollout") or {}), "engine": given.engine}
    apply_overrides(values, given.overrides)
    return parse(EvaluateConfig, values, str(given.config or "suites"), places)


def _chosen(given: Namespace, told: dict[str, Any]) -> dict[str, Any]:
    """The suites that are asked for, with what the flags change of all of them."""
    data = dict(_pair(each) for each in given.data)
    names = given.suites.split(",") if given.suites else list(told or [*GENERATED, *data])
    if given.config is None:
        suites = standard_suites(list(dict.fromkeys(names)), data)
    else:
        unknown = [name for name in [*names, *data] if name not in told]
        if unknown:
            raise InputError(
                f"--suites: {unknown[0]!r} is no suite of {given.config}. Known: {', '.join(told)}."
            )
        suites = {name: _with_data(told[name] or {}, data.get(name)) for name in names}
    return {name: _changed(name, dict(suite), given) for name, suite in suites.items()}


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise InputError(f"--data {text!r}: it is written SUITE=PLACE, such as math=data/gsm8k.jsonl.")
    return name, place


def _with_data(suite: dict[str, Any], place: str | None) -> dict[str, Any]:
    if place is None:
        return suite
    return {**suite, "options": {**(suite.get("options") or {}), "path": read_place(place)}}


def _changed(name: str, suite: dict[str, Any], given: Namespace) -> dict[str, Any]:
    if given.items is not None:
        suite["items"] = min(given.items, suite.get("items") or given.items)
    if given.thinking:
        suite["thinking"] = given.thinking == "on"
    if given.samples is not None and len(suite.get("budgets") or [None]) == 1 and not suite.get("lengths"):
        suite["samples"] = given.samples
        if given.samples > 1:
            # As the paper samples where thinking is on.
            suite |= {"temperature": suite.get("temperature") or 0.6, "top_p": suite.get("top_p", 0.95)}
    if given.budgets and suite.get("budgets"):
        suite["budgets"] = [_number("--budgets", part) for part in given.budgets.split(",")]
    if given.lengths and suite.get("lengths"):
        suite["lengths"] = [_number("--lengths", part) for part in given.lengths.split(",")]
    return suite


def _room(model: Path, suites: Iterable[dict[str, Any]]) -> int:
    """Tokens of the longest prompt and completion that the suites may need, as far as the model has positions."""
    needed = max(
        max(suite.get("lengths") or [_PROMPT_TOKENS])
        + suite["max_completion_tokens"] * min(suite.get("max_turns", 1), _TURNS_FULL)
        for suite in suites
    )
    config = next(
        (path for path in (model / "model/config.json", model / "config.json") if path.is_file()), None
    )
    there = json.loads(config.read_text()).get("max_position_embeddings") if config else None
    return min(needed, there) if isinstance(there, int) else needed


def _number(flag: str, text: str) -> int | None:
    if flag == "--budgets" and text in ("none", "inf"):
        return None
    if not text.isdecimal():
        raise InputError(
            f"{flag} {text!r}: numbers of tokens by comma are wanted{', or none' * (flag == '--budgets')}."
        )
    return int(text)


def _names(paths: list[Path]) -> dict[str, Path]:
    """A name for each model: its folder's, with those above it until no other has the same."""
    for depth in range(1, 8):
        named = {_name(path, depth): path for path in paths}
        if len(named) == len(paths):
            return named
    raise InputError(f"--compare {paths[-1]}: it is a model that is measured already. Name another.")


def _name(path: Path, depth: int) -> str:
    parts = [part for part in path.resolve().parts if part not in ("/", "model")]
    return "/".join(parts[-depth:]) or "model"


def _throughput(given: Namespace) -> int:
    shapes = parse_shapes(given.throughput)
    if given.requests < 1 or given.rounds < 1:
        raise InputError("--requests, --rounds: both must be positive.")
    values: dict[str, Any] = {}
    apply_overrides(values, [override.removeprefix("rollout.") for override in given.overrides])
    engine = parse(EngineConfig, {"vllm_memory_share": 0.9, **values, "engine": "vllm"}, "rollout")
    parent = resolve_parent(given.model, role="model")
    quiet_libraries()
    with redirect_stdout(sys.stderr):
        found = measure_throughput(parent.path, shapes, engine, given.requests, given.rounds, given.seed)
    told = [each.to_json() for each in found]
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_atomically(given.out / "throughput.json", json.dumps(told, indent=1))
    print_json(told) if given.json else print(*found, sep="\n")
    return 0


def _harness(given: Namespace) -> int:
    from alloy.evaluate.harness import refuse_without_harness, run_harness

    refuse_without_harness()
    parent = resolve_parent(given.model, role="model")
    given.out.mkdir(parents=True, exist_ok=True)
    engine = given.engine or "transformers"
    with redirect_stdout(sys.stderr):
        told = run_harness(
            parent.path, given.lm_eval, given.out, engine, given.items, given.seed, given.lm_eval_args
        )
    write_atomically(given.out / "lm-eval.json", json.dumps(told, indent=1))
    if given.json:
        print_json(told)
        return 0
    for row in told:
        print(
            f"{row['task']:24} {row['metric']:32} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}] n {row['n']}"
        )
    return 0
