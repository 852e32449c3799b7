"""What the evaluation found: the table of stages by suites."""

from typing import Any

from alloy.report.lenient import items, mapping, text
from alloy.report.notation import (
    Estimate,
    are_shares,
    count,
    escape,
    signed,
    write,
)
from alloy.report.record import Stage

_BAR = 64


def table(evaluation: Stage) -> str:
    """Stages by suites: the value, its interval, and the change to each parent; empty without cells."""
    results = evaluation.results
    cells = {stage: mapping(row) for stage, row in mapping(results.get("cells")).items()}
    if not cells:
        return ""
    stages = _named(results.get("stages"), cells)
    suites = _named(results.get("suites"), {suite: 0 for row in cells.values() for suite in row})
    changes = _changes(results.get("differences"), cells)
    columns = {suite: [Estimate(cells.get(stage, {}).get(suite)) for stage in stages] for suite in suites}
    head = "".join(f"<th scope=col>{_heading(suite, cells, columns[suite])}</th>" for suite in suites)
    body = ""
    for index, stage in enumerate(stages):
        row = "".join(
            f"<td>{_cell(columns[suite][index], columns[suite], changes.get((stage, suite), []))}</td>"
            for suite in suites
        )
        body += f"<tr><th scope=row>{escape(stage)}</th>{row}</tr>"
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="stages by suites">'
        f'<table class="results"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="hint">Under each value its 95% interval. <span class="up">▲</span> better than the '
        'parent, <span class="down">▼</span> worse: the interval of the paired difference excludes 0. '
        "Changes without a mark may be chance.</p>"
    )


def _named(listed: Any, found: dict[str, Any]) -> list[str]:
    """The listed names in their order, then those that only the cells have."""
    names = [name for name in items(listed) if isinstance(name, str)]
    return list(dict.fromkeys([*names, *found]))


def _changes(
    differences: Any, cells: dict[str, dict[str, Any]]
) -> dict[tuple[str, str], list[tuple[str, Estimate]]]:
    """By stage and suite each parent with the change to it, of the metric that the cell shows."""
    found: dict[tuple[str, str], list[tuple[str, Estimate]]] = {}
    for entry in map(mapping, items(differences)):
        change = Estimate(entry)
        stage, suite = text(entry.get("stage")), text(entry.get("suite"))
        shown = text(mapping(cells.get(stage, {}).get(suite)).get("metric"))
        if change.value is not None and text(entry.get("metric")) in ("", shown):
            found.setdefault((stage, suite), []).append((text(entry.get("parent")), change))
    return found


def _heading(suite: str, cells: dict[str, dict[str, Any]], column: list[Estimate]) -> str:
    metrics = {text(mapping(row.get(suite)).get("metric")) for row in cells.values()} - {""}
    sizes = {estimate.n for estimate in column if estimate.n is not None}
    under = [", ".join(sorted(metrics)).replace("_", " ")] if metrics else []
    if sizes:
        under.append(
            f"n {count(min(sizes))}" if len(sizes) == 1 else f"n {count(min(sizes))}–{count(max(sizes))}"
        )
    small = f"<small>{escape(' · '.join(under))}</small>" if under else ""
    return escape(suite) + small


def _cell(estimate: Estimate, column: list[Estimate], changes: list[tuple[str, Estimate]]) -> str:
    if estimate.value is None:
        return '<span class="none" title="not measured">–</span>'
    shares = are_shares(column)
    bounds = estimate.bounds
    interval = f"<small>{write(bounds[0], shares)} – {write(bounds[1], shares)}</small>" if bounds else ""
    name_parents = len(changes) > 1
    changed = "".join(_change(parent if name_parents else "", change, shares) for parent, change in changes)
    if name_parents:
        changed = f'<div class="several">{changed}</div>'
    spread = f"<div>{_bar(estimate, column, shares)}{interval}</div>"
    return f"<b>{write(estimate.value, shares)}</b>{changed}{spread}"


def _change(parent: str, change: Estimate, shares: bool) -> str:
    value = change.value or 0.0
    written = signed(value, write(abs(value), shares))
    of = f" <i>{escape(parent)}</i>" if parent else ""
    bounds = change.bounds
    told = f" [{write(bounds[0], shares)}, {write(bounds[1], shares)}]" if bounds else ""
    title = f"paired difference {written}{told}"
    if not change.excludes_zero():
        return f'<span class="change" title="{escape(title)}">{written}{of}</span>'
    name, sign, word = ("up", "▲", "better") if value > 0 else ("down", "▼", "worse")
    return (
        f'<span class="change {name}" title="{escape(title)}">{sign} {written}{of}'
        f'<span class="unseen"> significantly {word}</span></span>'
    )


def _bar(estimate: Estimate, column: list[Estimate], shares: bool) -> str:
    """The interval on the column's scale: 0 to 100% for shares, else as wide as the column needs."""
    bounds = estimate.bounds
    if bounds is None or estimate.value is None:
        return ""
    low, high = (0.0, 1.0) if shares else _range(column)
    at = [3 + (x - low) / (high - low) * (_BAR - 6) for x in (bounds[0], bounds[1], estimate.value)]
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR} 8" aria-hidden="true"><path class="base" d="M3 4H{_BAR - 3}"/>'
        f'<path class="span" d="M{at[0]:.1f} 4H{at[1]:.1f}"/><circle cx="{at[2]:.1f}" cy="4" r="2"/></svg>'
    )


def _range(column: list[Estimate]) -> tuple[float, float]:
    known = [x for e in column for x in (e.value, e.low, e.high) if x is not None]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 1, high + 1)
