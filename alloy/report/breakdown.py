"""What is behind a suite's score: what went wrong with tools, and success by kind of task."""

from typing import Any

from alloy.environments.task import TOOL_FAULTS
from alloy.report.lenient import items, mapping, text
from alloy.report.notation import Estimate, are_shares, count, escape, signed, write
from alloy.report.record import Stage

_HINT = (
    '<p class="hint">Success in percent with its 95% interval, by what is told of the tasks. Side effects, '
    "invalid calls and invented tools are means over the tasks, and better when they are less; where the "
    "interval of the paired difference to the parent excludes 0, the change is shown.</p>"
)


def breakdown(evaluation: Stage) -> str:
    """A table for each suite whose environment tells its tasks apart; empty where none does."""
    results = evaluation.results
    groups = mapping(results.get("groups"))
    suites = dict.fromkeys(suite for row in groups.values() for suite in mapping(row))
    drawn = "".join(_suite(suite, results) for suite in suites)
    return drawn + _HINT if drawn else ""


def _suite(suite: str, results: dict[str, Any]) -> str:
    """A row a fault and a label of each group, a column a stage."""
    told = {
        stage: found
        for stage in mapping(results.get("groups"))
        if (found := mapping(_at(results, "groups", stage, suite)))
    }
    listed = [name for name in items(results.get("stages")) if isinstance(name, str) and name in told]
    stages = list(dict.fromkeys([*listed, *told]))
    bodies = [_faults(suite, stages, results)]
    for name in dict.fromkeys(name for found in told.values() for name in found):
        rows = ""
        for label in dict.fromkeys(label for stage in stages for label in mapping(told[stage].get(name))):
            cells = [Estimate(_at(told, stage, name, label)) for stage in stages]
            rows += _row(f"{name} {label}", cells, [""] * len(stages))
        bodies.append(rows)
    if not any(bodies):
        return ""
    head = "".join(f"<th scope=col>{escape(stage)}</th>" for stage in stages)
    body = "".join(f"<tbody>{rows}</tbody>" for rows in bodies if rows)
    return (
        f'<h3>{escape(suite)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(suite)} by kind of task"><table class="results plain">'
        f"<thead><tr><th></th>{head}</tr></thead>{body}</table></div>"
    )


def _at(found: Any, *keys: str) -> Any:
    for key in keys:
        found = mapping(found).get(key)
    return found


def _faults(suite: str, stages: list[str], results: dict[str, Any]) -> str:
    rows = ""
    for fault in TOOL_FAULTS:
        cells = [Estimate(_at(results, "details", stage, suite, fault)) for stage in stages]
        changes = [_changes(results, stage, suite, fault) for stage in stages]
        if any(cell.value is not None for cell in cells):
            rows += _row(fault.replace("_", " "), cells, changes)
    return rows


def _row(name: str, cells: list[Estimate], changes: list[str]) -> str:
    if all(cell.value is None for cell in cells):
        return ""
    shares = are_shares(cells)
    sizes = [cell.n for cell in cells if cell.n is not None]
    size = f" <small>n {count(max(sizes))}</small>" if sizes else ""
    row = ""
    for cell, change in zip(cells, changes, strict=True):
        if cell.value is None:
            row += '<td><span class="none" title="not measured">–</span></td>'
            continue
        bounds = cell.bounds
        interval = f"<small>{write(bounds[0], shares)} – {write(bounds[1], shares)}</small>" if bounds else ""
        row += f"<td><b>{write(cell.value, shares)}</b>{change}{interval}</td>"
    return f"<tr><th scope=row>{escape(name)}{size}</th>{row}</tr>"


def _changes(results: dict[str, Any], stage: str, suite: str, fault: str) -> str:
    """The changes to the parents that are not chance: to fall is better."""
    found = ""
    for entry in map(mapping, items(results.get("differences"))):
        change = Estimate(entry)
        of = (text(entry.get("stage")), text(entry.get("suite")), text(entry.get("metric")))
        if of != (stage, suite, fault) or change.value is None or not change.excludes_zero():
            continue
        fell = change.value < 0
        shares = are_shares([Estimate({"value": abs(change.value)})])
        written = signed(change.value, write(abs(change.value), shares))
        found += (
            f'<span class="change {"up" if fell else "down"}">{"▼" if fell else "▲"} {written} '
            f"<i>{escape(text(entry.get('parent')))}</i>"
            f'<span class="unseen"> significantly {"better" if fell else "worse"}</span></span>'
        )
    return found
