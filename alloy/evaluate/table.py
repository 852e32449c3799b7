"""The table of stages by suites, as text."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table


def render(summary: dict[str, Any]) -> str:
    """Every stage against every suite in percent, with its interval; * better, ! worse than a parent.

    A mark means that the 95% interval of the paired bootstrap difference excludes 0.
    """
    table = Table(title="stage x suite: percent [95% interval]", title_justify="left")
    table.add_column("stage")
    for suite in summary["suites"]:
        metric = next((row[suite]["metric"] for row in summary["cells"].values() if suite in row), "")
        table.add_column(f"{suite}\n{metric}", justify="right")
    for stage in summary["stages"]:
        row = summary["cells"][stage]
        table.add_row(
            stage, *(_cell(row.get(suite), _mark(summary, stage, suite)) for suite in summary["suites"])
        )
    stream = io.StringIO()
    Console(file=stream, width=24 + 24 * len(summary["suites"])).print(table)
    return stream.getvalue() + "* better, ! worse than its parent: the paired 95% interval excludes 0\n"


def _cell(cell: dict[str, Any] | None, mark: str) -> str:
    if cell is None:
        return "-"
    return f"{100 * cell['value']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]{mark or ' '}"


def _mark(summary: dict[str, Any], stage: str, suite: str) -> str:
    metric = summary["cells"][stage].get(suite, {}).get("metric")
    found = [
        d for d in summary["differences"] if (d["stage"], d["suite"], d["metric"]) == (stage, suite, metric)
    ]
    if any(d["low"] > 0 for d in found):
        return "*"
    return "!" if any(d["high"] < 0 for d in found) else ""
