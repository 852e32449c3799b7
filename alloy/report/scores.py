"""What the evaluation found: the table of stages by suites, the alpha trade-off, the budget curve."""

from typing import Any

from alloy.report.chart import COLOURS, Line, Panel, draw, estimated
from alloy.report.notation import (
    Estimate,
    are_shares,
    count,
    escape,
    figure,
    figures,
    numbers,
    signed,
    write,
    write_estimate,
)
from alloy.report.record import Stage, items, mapping, number, text

_BAR = 64
_COSTS = ("tokens", "seconds")
"""Of a thinking budget: no shares."""


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
    under = [", ".join(sorted(metrics))] if metrics else []
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


def trade_off(merge: Stage) -> str:
    """Scores over alpha with the choice marked, the objective, and suite against suite for two."""
    points = [mapping(point) for point in items(merge.sweep.get("points"))]
    points = sorted((p for p in points if number(p.get("alpha")) is not None), key=lambda p: p["alpha"])
    if not points:
        return ""
    suites = _named(merge.sweep.get("suites"), {s: 0 for p in points for s in mapping(p.get("scores"))})
    scores = {suite: [Estimate(mapping(p.get("scores")).get(suite)) for p in points] for suite in suites}
    shares = are_shares([estimate for column in scores.values() for estimate in column])
    alphas = [float(p["alpha"]) for p in points]
    chosen = number(merge.sweep.get("chosen"))
    mark = (chosen, f"chosen {chosen:g}") if chosen is not None else None
    objective = [
        (a, o) for a, p in zip(alphas, points, strict=True) if (o := number(p.get("objective"))) is not None
    ]
    lines = [estimated(suite, alphas, scores[suite]) for suite in suites]
    aim = Line("objective", objective, whiskers=True)
    in_shares = shares and all(0 <= o <= 1 for _, o in objective)
    charts = [
        draw(Panel("Scores over alpha", lines, "alpha", shares=shares, mark=mark)),
        draw(Panel("Objective", [aim], "alpha", shares=in_shares, mark=mark)),
        _against(suites, scores, alphas, chosen, shares),
    ]
    rule = text(merge.sweep.get("rule"))
    groups = {group: number(alpha) for group, alpha in mapping(merge.sweep.get("chosen")).items()}
    by_group = ", ".join(f"{escape(group)} {alpha:g}" for group, alpha in groups.items() if alpha is not None)
    told = f"{chosen:g}" if chosen is not None else by_group
    said = f"<p>Alpha is the share of the chat checkpoint. Chosen: <b>{told}</b>" if told else "<p>"
    said += f", by the rule: {escape(rule)}." if rule else ""
    head = ["alpha", *suites, "objective"]
    rows = []
    for index, alpha in enumerate(alphas):
        value = number(points[index].get("objective"))
        row = [f"{alpha:g}" + (" ◂ chosen" if alpha == chosen else "")]
        row += [write_estimate(scores[suite][index], shares) for suite in suites]
        rows.append([*row, "–" if value is None else figure(value)])
    return f'{said}</p><div class="panels wide">{"".join(charts)}</div>{numbers(head, rows)}'


def _against(
    suites: list[str],
    scores: dict[str, list[Estimate]],
    alphas: list[float],
    chosen: float | None,
    shares: bool,
) -> str:
    """The second suite over the first, one point an alpha; nothing unless there are two suites."""
    if len(suites) != 2:
        return ""
    unit = 100 if shares else 1
    pairs = zip(alphas, scores[suites[0]], scores[suites[1]], strict=True)
    met = [
        (a, (unit * x.value, unit * y.value))
        for a, x, y in pairs
        if x.value is not None and y.value is not None
    ]
    if not met:
        return ""
    path = Line(f"alpha {met[0][0]:g} to {met[-1][0]:g}", [point for _, point in met], whiskers=True)
    best = Line("chosen", [point for a, point in met if a == chosen], whiskers=True, emphasis=1.7)
    return draw(Panel(f"{suites[1]} over {suites[0]}", [path, best], suites[0]))


def budget_curve(evaluation: Stage) -> str:
    """Accuracy, well-formedness and length over thinking budgets, a line a stage."""
    measured: dict[str, list[dict[str, Any]]] = {}
    for stage, entries in mapping(evaluation.results.get("budget")).items():
        found = [mapping(entry) for entry in items(entries) if mapping(entry)]
        if found:
            measured[stage] = sorted(found, key=_budget_order)
    if not measured:
        return ""
    budgets = sorted({_budget_order(e) for entries in measured.values() for e in entries})
    place = {budget: index for index, budget in enumerate(budgets)}
    names = [_budget_name(budget) for budget in budgets]
    charts = []
    for title, key in (
        ("Accuracy", "accuracy"),
        ("Well-formed", "well_formed"),
        ("Tokens a completion", "tokens"),
        ("Seconds a completion", "seconds"),
    ):
        lines = []
        for stage, entries in measured.items():
            xs = [float(place[_budget_order(entry)]) for entry in entries]
            lines.append(estimated(stage, xs, [_estimate_or_number(entry.get(key)) for entry in entries]))
        for start in range(0, len(lines), COLOURS):
            portion = lines[start : start + COLOURS]
            charts.append(draw(Panel(title, portion, "budget", names, shares=key not in _COSTS)))
    head = ["stage", "budget", "accuracy", "well-formed", "tokens", "seconds"]
    rows = []
    for stage, entries in measured.items():
        for entry in entries:
            shares = [write_estimate(Estimate(entry.get(key)), True) for key in ("accuracy", "well_formed")]
            costs = [write_estimate(_estimate_or_number(entry.get(key)), False) for key in _COSTS]
            rows.append([stage, _budget_name(_budget_order(entry)), *shares, *costs])
    return (
        "<p>Thinking tokens allowed before the thinking is closed; ∞ is no limit, 0 is thinking off.</p>"
        f'<div class="panels wide">{"".join(charts)}</div>{_choices(evaluation)}{numbers(head, rows)}'
    )


def _choices(evaluation: Stage) -> str:
    """The smallest budget within one standard error of the best, overall and by what is told of the tasks."""
    rows = []
    for stage, suites in mapping(evaluation.results.get("budget_choice")).items():
        for suite, told in mapping(suites).items():
            for name, given in mapping(told).items():
                labels = (
                    {"all": given}
                    if name == "overall"
                    else {f"{name} {k}": v for k, v in mapping(given).items()}
                )
                for label, choice in labels.items():
                    found = mapping(choice)
                    if "budget" in found:
                        budgets = [
                            _budget_name(_budget_order({"budget": found.get(key)}))
                            for key in ("budget", "best_budget")
                        ]
                        accuracies = [
                            write_estimate(Estimate(found.get(key)), True)
                            for key in ("accuracy", "best_accuracy")
                        ]
                        rows.append(
                            [stage, suite, label, budgets[0], accuracies[0], budgets[1], accuracies[1]]
                        )
    if not rows:
        return ""
    head = ["stage", "suite", "tasks", "chosen budget", "its accuracy", "best budget", "its accuracy"]
    return (
        "<p>Chosen is the smallest budget whose accuracy is within one standard error of the best one's.</p>"
        + figures(head, rows)
    )


def _budget_order(entry: dict[str, Any]) -> float:
    budget = number(entry.get("budget"))
    return float("inf") if budget is None else budget


def _budget_name(budget: float) -> str:
    return "∞" if budget == float("inf") else f"{budget:g}"


def _estimate_or_number(value: Any) -> Estimate:
    return Estimate(value if isinstance(value, dict) else {"value": value})
