"""`python -m merge sweep ...`: every setting evaluated in memory, the one chosen written as a run folder."""

import contextlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, get_args

from alloy.command import Parser, print_json
from alloy.config import load, parse
from alloy.errors import InputError
from alloy.evaluate.config import EvaluateConfig
from merge.config import Donor, MergeConfig, Rule, parse_alphas
from merge.method_command import METHODS, add_method, options_given
from merge.terminal import command, shard_bytes

_SUITES = Path("configs/demo/evaluate.yaml")


def sweep(arguments: list[str]) -> int:
    """Evaluate every setting in memory, choose one, write that merge as a run folder."""
    method = arguments[0] if arguments[:1] and arguments[0] in METHODS else "linear"
    parser = _parser(method)
    given = parser.parse_args(arguments if method == "linear" else arguments[1:])
    _refuse_foreign_folder(given.out)
    weights = None if given.suite_weights is None else _weights(given.suite_weights)
    sweep = {
        "suites": _suites(given.suites.split(","), given.suites_from, given.items),
        "rule": given.rule or ("product" if weights is None else "weighted-sum"),
        "weights": weights,
        **_varied(given, method),
    }
    values = {
        "output": str(given.out),
        "donor": given.donor,
        "dtype": given.dtype,
        "seed": given.seed or 0,
        "max_shard_bytes": shard_bytes(given.max_shard_bytes, 4 << 30),
        "sweep": sweep,
        **_merged(given, method, sweep),
    }
    from merge import run as run_stage

    with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
        artifact = run_stage(parse(MergeConfig, values, "merge sweep"), force=given.force)
    if given.json:
        print_json(artifact.model_dump(mode="json"))
    else:
        print((given.out / "table.md").read_text(), end="")
    return 0


def _parser(method: str) -> Parser:
    prog = "python -m merge sweep" + (f" {method}" if method != "linear" else "")
    parser = command(prog, "Evaluate every setting in memory, merge at the one chosen.")
    if method == "linear":
        parser.add_argument(
            "--reasoning", required=True, metavar="A", help="run folder, model folder, adapter"
        )
        parser.add_argument("--chat", required=True, metavar="B", help="run folder, model folder or adapter")
        parser.add_argument("--alphas", required=True, metavar="0.1:0.9:0.1", help="or a list: 0.1,0.5,0.9")
        parser.add_argument("--groups", metavar="attention,mlp,other", help="search an alpha for each, too")
        parser.add_argument("--rounds", type=int, help="through the groups at most; default 2")
        parser.add_argument(
            "--donor", choices=get_args(Donor), help="whose config, tokenizer, template to keep"
        )
        parser.add_argument("--match-tokens", action="store_true", help="match embeddings token by token")
    else:
        add_method(parser, method, swept=True)
        parser.add_argument("--option", required=True, help="the method's option to vary")
        parser.add_argument("--values", required=True, metavar="0.1:0.9:0.1", help="or a list: 0.1,0.5,0.9")
    parser.add_argument("--suites", required=True, metavar="math,chat", help="names of suites")
    parser.add_argument(
        "--suites-from", type=Path, default=_SUITES, metavar="YAML", help=f"default {_SUITES}"
    )
    parser.add_argument("--items", type=int, help="of each suite; the config's otherwise")
    parser.add_argument(
        "--rule", choices=get_args(Rule), help="default product, or weighted-sum with weights"
    )
    parser.add_argument("--suite-weights", metavar="math=2,chat=1", help="compare points by a weighted sum")
    if method != "dare":
        # Whose own seed is this one, too.
        parser.add_argument("--seed", type=int)
    parser.add_argument("--force", action="store_true", help="run again even when finished")
    return parser


def _varied(given: Namespace, method: str) -> dict[str, Any]:
    """What is tried."""
    if method != "linear":
        return {"option": given.option, "values": _range("--values", given.values)}
    found: dict[str, Any] = {"alphas": _range("--alphas", given.alphas)}
    if given.groups:
        found["groups"] = given.groups.split(",")
    if given.rounds is not None:
        found["rounds"] = given.rounds
    return found


def _merged(given: Namespace, method: str, sweep: dict[str, Any]) -> dict[str, Any]:
    """What is merged."""
    if method == "linear":
        return {"reasoning": given.reasoning, "chat": given.chat, "match_tokens": given.match_tokens}
    options = options_given(method, given)
    options.pop(sweep["option"], None)
    models = {f"model-{number}": path for number, path in enumerate(given.models, 1)}
    return {"method": method, "models": models, "base": given.base, "options": options}


def _range(flag: str, text: str) -> list[float]:
    try:
        return parse_alphas(text)
    except ValueError as error:
        raise InputError(f"{flag} {error}.") from None


def _weights(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {suite: float(weight) for suite, weight in pairs}
    except ValueError:
        raise InputError(f"--suite-weights {text!r}: write math=2,chat=1, a number for each suite.") from None


def _suites(names: list[str], source: Path, items: int | None) -> dict[str, dict[str, Any]]:
    """The named suites of an evaluation config, on the validation split."""
    known = load(EvaluateConfig, source).suites
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"--suites {unknown[0]}: {source} has no such suite. Known there: {', '.join(known)}."
        )
    chosen = {name: {**known[name].model_dump(), "split": "validation"} for name in names}
    return {name: {**suite, "items": items or suite["items"]} for name, suite in chosen.items()}


def _refuse_foreign_folder(out: Path) -> None:
    """A run folder is emptied when its inputs change, so one that is no run folder is not taken."""
    if out.is_dir() and any(out.iterdir()) and not (out / "inputs.json").is_file():
        raise InputError(f"--out {out} is there already and is no run folder. Name another one.")
