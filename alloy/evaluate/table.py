"""The table of stages by suites, as text."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table


def render(summary: dict[str, Any]) -> str:
    """Every stage against every suite in percent, with its interval; * better, ! worse than its first parent.

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
    lines = [
        "* better, ! worse than its parent (a merged model: than the reasoning one): the paired 95% interval excludes 0",
        *_moved(summary),
    ]
    return stream.getvalue() + "\n".join(lines) + "\n"


def _moved(summary: dict[str, Any]) -> list[str]:
    """What every stage was there to move, against its parent, in points."""
    lines = [
        f"{d['stage']:8} {d['suite']:14} {_points(d)} to {d['parent']}"
        for d in summary["differences"]
        if d["focus"] and d["metric"] == summary["cells"][d["stage"]][d["suite"]]["metric"]
    ]
    lines += [
        f"{p['stage']:8} {' x '.join(p['suites']):14} {_points(p)} to {p['parent']}; {100 * p['product']:.1f} in all"
        for p in summary["products"]
    ]
    return ["", "what a stage is there to move, percent points [95% interval]", *lines] if lines else []


def _points(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def _cell(cell: dict[str, Any] | None, mark: str) -> str:
    if cell is None:
        return "-"
    return f"{100 * cell['value']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]{mark or ' '}"


def _mark(summary: dict[str, Any], stage: str, suite: str) -> str:
    metric = summary["cells"][stage].get(suite, {}).get("metric")
    for d in summary["differences"]:
        if (d["stage"], d["suite"], d["metric"]) == (stage, suite, metric):
            # The first one is to the first parent: of a merged model, the reasoning checkpoint.
            return "*" if d["low"] > 0 else "!" if d["high"] < 0 else ""
    return ""
