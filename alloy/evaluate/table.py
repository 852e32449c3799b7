"""The table of stages by suites, and what is behind each suite of tools, as text."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from alloy.environments.task import TOOL_FAULTS
from alloy.evaluate.table_lines import cell, chosen, compared, curve, not_measured, points, readings


def render(summary: dict[str, Any]) -> str:
    """Every stage against every suite in percent, with its interval; * better, ! worse than its first parent.

    A mark means that the 95% interval of the paired bootstrap difference excludes 0. A suite whose
    environment tells its tasks apart has a table of its own below.
    """
    table = Table(title="stage x suite: percent [95% interval]", title_justify="left")
    table.add_column("stage")
    for suite in summary["suites"]:
        metric = next((row[suite]["metric"] for row in summary["cells"].values() if suite in row), "")
        table.add_column(f"{suite}\n{metric}{_sizes(summary, suite)}", justify="right")
    for stage in summary["stages"]:
        row = summary["cells"][stage]
        table.add_row(
            stage, *(cell(row.get(suite), _mark(summary, stage, suite)) for suite in summary["suites"])
        )
    stream = io.StringIO()
    Console(file=stream, width=24 + 24 * len(summary["suites"])).print(table)
    lines = [
        "* better, ! worse than its parent (a merged model: than the reasoning one): the paired 95% interval excludes 0",
        *_moved(summary),
        *compared(summary),
        *readings(summary),
        *curve(summary),
        *chosen(summary),
        *not_measured(summary),
        *_won(summary),
    ]
    parts = [told for suite in summary["suites"] if (told := _behind(summary, suite))]
    return stream.getvalue() + "\n".join([*lines, *parts]) + "\n"


def _behind(summary: dict[str, Any], suite: str) -> str:
    """What went wrong with tools, and success by what is told of the tasks; a column a stage."""
    stages = [stage for stage in summary["stages"] if suite in summary["groups"].get(stage, {})]
    if not stages:
        return ""
    table = Table(title=f"\n{suite}: percent [95% interval]", title_justify="left")
    table.add_column("")
    for stage in stages:
        table.add_column(stage, justify="right")
    for fault in TOOL_FAULTS:
        cells = [summary["details"][stage][suite].get(fault) for stage in stages]
        if any(cells):
            marks = [_mark(summary, stage, suite, fault) for stage in stages]
            table.add_row(fault.replace("_", " "), *(_short(c, m) for c, m in zip(cells, marks, strict=True)))
    groups = [summary["groups"][stage][suite] for stage in stages]
    for name in dict.fromkeys(name for found in groups for name in found):
        table.add_section()
        for label in dict.fromkeys(label for found in groups for label in found.get(name, {})):
            cells = [found.get(name, {}).get(label) for found in groups]
            of = max(cell["n"] for cell in cells if cell)
            table.add_row(f"{name} {label} ({of})", *(_short(cell) for cell in cells))
    stream = io.StringIO()
    Console(file=stream, width=40 + 18 * len(stages)).print(table)
    return stream.getvalue().rstrip("\n")


def _moved(summary: dict[str, Any]) -> list[str]:
    """What every stage was there to move, against its parent, in points."""
    lines = [
        f"{d['stage']:8} {d['suite']:14} {points(d)} to {d['parent']}"
        for d in summary["differences"]
        if d["focus"] and d["metric"] == summary["cells"][d["stage"]][d["suite"]]["metric"]
    ]
    lines += [
        f"{p['stage']:8} {' x '.join(p['suites']):14} {points(p)} to {p['parent']}; {100 * p['product']:.1f} in all"
        for p in summary["products"]
    ]
    return ["", "what a stage is there to move, percent points [95% interval]", *lines] if lines else []


def _won(summary: dict[str, Any]) -> list[str]:
    """How often answers are preferred to the reference's, in percent; * where the interval excludes a half."""
    lines = []
    for row in summary.get("win_rates", []):
        missing = f"; {row['missing']} without a preference" if row["missing"] else ""
        cells = [
            cell(row[key], "*" if row[key]["low"] > 0.5 or row[key]["high"] < 0.5 else "")
            if key in row
            else "-"
            for key in ("plain", "controlled")
        ]
        by = row["by"].replace("_", " ")
        lines.append(f"{row['stage']:14} {by:13} {cells[0]:24} {cells[1]} to {row['reference']}{missing}")
    head = "preferred to the reference's answers: as they are, and at equal length; * not a half"
    return ["", head, *lines] if lines else []


def _short(cell: dict[str, Any] | None, mark: str = "") -> str:
    """In whole percents: groups are small, and there are many of them."""
    if cell is None:
        return "-"
    return f"{100 * cell['value']:.0f} [{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]{mark or ' '}"


def _mark(summary: dict[str, Any], stage: str, suite: str, fault: str = "") -> str:
    """Of the metric in the table, or of a fault, which is better when it is less."""
    metric = fault or summary["cells"][stage].get(suite, {}).get("metric")
    for d in summary["differences"]:
        if (d["stage"], d["suite"], d["metric"]) == (stage, suite, metric):
            # The first one is to the first parent: of a merged model, the reasoning checkpoint.
            rose, fell = d["low"] > 0, d["high"] < 0
            better, worse = (fell, rose) if fault else (rose, fell)
            return "*" if better else "!" if worse else ""
    return ""


def _sizes(summary: dict[str, Any], suite: str) -> str:
    """How many items; from to where a verifier failed on some of one model's."""
    sizes = sorted({row[suite]["n"] for row in summary["cells"].values() if suite in row})
    return f", n {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") if sizes else ""
