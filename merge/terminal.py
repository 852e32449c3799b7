"""What the merge commands say on a terminal: a bar while they write, and what they wrote."""

import contextlib
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alloy.command import Parser, print_json
from alloy.errors import InputError
from merge.config import DtypeName
from merge.groups import told

if TYPE_CHECKING:
    from merge.mixture import MergeReport


def command(prog: str, description: str, epilog: str = "") -> Parser:
    """A parser with what all merge commands take."""
    parser = Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--dtype", choices=get_args(DtypeName), help="of the result; the parents' otherwise")
    parser.add_argument("--max-shard-bytes", type=int, help="of one weights file; 4 GiB otherwise")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def shard_bytes(given: int | None, otherwise: int) -> int:
    if given is not None and given <= 0:
        raise InputError(f"--max-shard-bytes {given}: a file holds at least 1 byte.")
    return given or otherwise


def tell(report: "MergeReport", as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {"out": report.out}
        if report.setting is not None:
            shown["alpha"] = report.setting
        fields = ("shards", "resumed", "tensors", "bytes", "seconds", "notes")
        print_json({**shown, **report.parents, **{name: getattr(report, name) for name in fields}})
        return
    for note in report.notes:
        print(f"note: {note}")
    kept = f", {len(report.resumed)} files of an interrupted run kept" if report.resumed else ""
    size = f"{report.tensors} tensors, {report.bytes / 2**30:.2f} GiB"
    at = "" if report.setting is None else f", alpha {told(report.setting)}"
    print(f"{size} in {report.seconds:.1f} s{at}{kept} -> {report.out}")


@contextlib.contextmanager
def progress_bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
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
