"""`python -m merge ...`: two checkpoints, a sweep over alphas, or a stage from its config."""

import contextlib
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from alloy.command import Parser, main, print_json
from alloy.config import load, parse
from alloy.errors import InputError
from alloy.evaluate.config import EvaluateConfig
from alloy.stage import stage_main
from merge.config import Donor, DtypeName, MergeConfig, Rule, parse_alphas
from merge.groups import GROUPS, parse_alpha

_FORMS = """forms:
  python -m merge --reasoning A --chat B --alpha 0.5 --out C         merge two checkpoints
  python -m merge METHOD --models A B [C ...] [--base X] --out DIR   mean, task, slerp, ties or dare
  python -m merge sweep --reasoning A --chat B --alphas 0.1:0.9:0.1 --suites math,chat --out DIR
  python -m merge CONFIG [--dry-run] [--force] [key.sub=value ...]   a stage of a recipe"""


_SUITES = Path("configs/demo/evaluate.yaml")
_METHODS = ("mean", "task", "slerp", "ties", "dare")


def run(arguments: list[str]) -> int:
    if arguments[:1] == ["sweep"]:
        return sweep(arguments[1:])
    if arguments[:1] and arguments[0] in _METHODS:
        return by_method(arguments[0], arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        return stage_main("merge", arguments)
    return merge(arguments)


def _parser(prog: str, description: str) -> Parser:
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--reasoning", required=True, metavar="A", help="run folder or model folder")
    parser.add_argument("--chat", required=True, metavar="B", help="run folder or model folder")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--donor", choices=get_args(Donor), help="whose config, tokenizer and template to keep"
    )
    parser.add_argument("--dtype", choices=get_args(DtypeName), help="of the result; the parents' otherwise")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def merge(arguments: list[str]) -> int:
    """(1 - alpha) * reasoning + alpha * chat, as a Hugging Face folder."""
    parser = _parser(
        "python -m merge", "Interpolate two checkpoints: (1 - alpha) * reasoning + alpha * chat."
    )
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = _FORMS
    shares = ",".join(f"{group}=0.5" for group in GROUPS)
    parser.add_argument("--alpha", required=True, help=f"share of the chat weights, 0 to 1, or {shares}")
    parser.add_argument("--max-shard-bytes", type=int, default=4 << 30, help="of one weights file")
    parser.add_argument(
        "--match-tokens",
        action="store_true",
        help="bring embeddings of another vocabulary into the donor's order",
    )
    given = parser.parse_args(arguments)
    try:
        alpha = parse_alpha(given.alpha)
    except ValueError as error:
        raise InputError(f"--alpha {error}.") from None
    _check_size(given.max_shard_bytes)
    from merge.stream import merge_checkpoints

    with _progress_bar(shown=not given.json) as progress:
        report = merge_checkpoints(
            given.reasoning,
            given.chat,
            alpha,
            given.out,
            donor=given.donor,
            dtype=given.dtype,
            max_shard_bytes=given.max_shard_bytes,
            match_tokens=given.match_tokens,
            progress=progress,
        )
    return _tell(report, given.json)


def by_method(method: str, arguments: list[str]) -> int:
    """Any number of models by another method, whose options are its function's keyword arguments."""
    from merge.many import merge_models
    from merge.methods import METHODS, needs_base, options_of

    parser = Parser(
        prog=f"python -m merge {method}",
        description=METHODS[method].__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--models", required=True, nargs="+", metavar="A", help="run folders or model folders"
    )
    parser.add_argument(
        "--base", required=needs_base(method), metavar="X", help="what they were trained from"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--donor", help="model-1, model-2, ... or base: whose config and tokenizer to keep")
    parser.add_argument("--dtype", choices=get_args(DtypeName), help="of the result; the models' otherwise")
    parser.add_argument("--max-shard-bytes", type=int, default=4 << 30, help="of one weights file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = options_of(method)
    for name, option in options.items():
        required = option.default is option.empty
        default = {} if required else {"default": option.default, "help": "default %(default)s"}
        readers: dict[str, Callable[[str], Any]] = {"list[float]": _numbers, "bool": _yes_or_no, "int": int}
        parser.add_argument(
            f"--{name}", required=required, type=readers.get(_type_of(option), float), **default
        )
    given = parser.parse_args(arguments)
    _check_size(given.max_shard_bytes)
    with _progress_bar(shown=not given.json) as progress:
        report = merge_models(
            method,
            {name: getattr(given, name) for name in options},
            given.models,
            given.base,
            given.out,
            donor=given.donor,
            dtype=given.dtype,
            max_shard_bytes=given.max_shard_bytes,
            progress=progress,
        )
    return _tell(report, given.json)


def _type_of(option: Any) -> str:
    return str(
        getattr(option.annotation, "__name__", "")
        if option.annotation in (bool, int, float)
        else option.annotation
    )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _yes_or_no(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _check_size(max_shard_bytes: int) -> None:
    if max_shard_bytes <= 0:
        raise InputError(f"--max-shard-bytes {max_shard_bytes}: a file holds at least 1 byte.")


def _tell(report: Any, as_json: bool) -> int:
    if as_json:
        print_json(asdict(report))
        return 0
    for note in report.notes:
        print(f"note: {note}")
    kept = f", {len(report.resumed)} files of an interrupted run kept" if report.resumed else ""
    size = f"{report.tensors} tensors, {report.bytes / 2**30:.2f} GiB"
    print(f"{size} in {report.seconds:.1f} s{kept} -> {report.out}")
    return 0


@contextlib.contextmanager
def _progress_bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, on standard error; nothing anywhere else."""
    if not shown or not sys.stderr.isatty():
        yield lambda written, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("merge"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("merge", total=None)
        yield lambda written, total: bar.update(task, advance=written, total=total)


def sweep(arguments: list[str]) -> int:
    """Evaluate every alpha in memory, choose one, write that merge as a run folder."""
    parser = _parser("python -m merge sweep", "Evaluate every alpha in memory, merge at the one chosen.")
    parser.add_argument("--alphas", required=True, metavar="0.1:0.9:0.1", help="or a list: 0.1,0.5,0.9")
    parser.add_argument("--suites", required=True, metavar="math,chat", help="names of suites")
    parser.add_argument(
        "--suites-from", type=Path, default=_SUITES, metavar="YAML", help=f"default {_SUITES}"
    )
    parser.add_argument("--items", type=int, help="of each suite; the config's otherwise")
    parser.add_argument("--rule", choices=get_args(Rule), default="product", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="run again even when finished")
    given = parser.parse_args(arguments)
    _refuse_foreign_folder(given.out)
    try:
        alphas = parse_alphas(given.alphas)
    except ValueError as error:
        raise InputError(f"--alphas {error}.") from None
    values = {
        "reasoning": given.reasoning,
        "chat": given.chat,
        "output": str(given.out),
        "donor": given.donor,
        "dtype": given.dtype,
        "seed": given.seed,
        "sweep": {
            "alphas": alphas,
            "suites": _suites(given.suites.split(","), given.suites_from, given.items),
            "rule": given.rule,
        },
    }
    from merge import run as run_stage

    with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
        artifact = run_stage(parse(MergeConfig, values, "merge sweep"), force=given.force)
    if given.json:
        print_json(artifact.model_dump(mode="json"))
    else:
        print((given.out / "table.md").read_text(), end="")
    return 0


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


if __name__ == "__main__":
    sys.exit(main(run))
