"""Thinking budgets: well-formedness, accuracy and cost at each, an ablation beside what it ablates."""

from dataclasses import dataclass, field
from typing import Any

from alloy.report.chart import COLOURS, Line, Panel, draw, estimated
from alloy.report.lenient import items, mapping, number, text
from alloy.report.notation import (
    Estimate,
    escape,
    figures,
    folded,
    listed,
    numbers,
    signed,
    write,
    write_estimate,
)
from alloy.report.record import Stage

_SHARES = {"well_formed": "Well-formed", "accuracy": "Accuracy"}
_COSTS = {"tokens": "Tokens a completion", "seconds": "Seconds a completion"}
_METRICS = {"well_formed": "well_formed", "success": "accuracy"}
"""A metric of the differences, and what the curve calls it."""


@dataclass
class Pair:
    """Two models that were asked to be compared at each budget, and by how much the first is ahead."""

    ours: str
    theirs: str
    gaps: dict[str, dict[float, Estimate]] = field(default_factory=dict)
    """`well_formed` and `accuracy`: budget -> paired difference."""


@dataclass(frozen=True)
class Measured:
    """What was measured by model and budget; no limit is infinite."""

    entries: dict[str, dict[float, dict[str, Any]]]

    @property
    def budgets(self) -> list[float]:
        return sorted({budget for found in self.entries.values() for budget in found})

    @property
    def names(self) -> list[str]:
        return [_name(budget) for budget in self.budgets]

    def at(self, model: str, key: str) -> list[Estimate]:
        found = self.entries[model]
        return [_estimate(found.get(budget, {}).get(key)) for budget in self.budgets]

    def line(self, model: str, key: str, label: str = "") -> Line:
        return estimated(label or model, [float(i) for i in range(len(self.budgets))], self.at(model, key))


def budget_curve(evaluation: Stage) -> str:
    """The ablation first, where there is one; then every model, the choice of a budget, and the numbers."""
    measured = _measured(evaluation)
    if not measured.entries:
        return ""
    pairs = _pairs(evaluation, measured)
    sizes = {e.n for m in measured.entries for e in measured.at(m, "well_formed") if e.n is not None}
    size = f" of {max(sizes):g} tasks" if sizes else ""
    told = (
        "<p>Thinking tokens allowed before the thinking is closed by force; ∞ is no limit, 0 is thinking off. "
        "A completion is well-formed when its thinking is closed once and an answer follows that ends by "
        f"itself. Percent{size} at each budget, with 95% intervals.</p>"
    )
    if pairs:
        told += "".join(_compared(pair, measured) for pair in pairs)
        apart = "".join(_panel_of(model, measured) for model in measured.entries)
        told += folded("Every model by itself", f'<div class="panels small">{apart}</div>')
        told += folded("What a completion costs", _every_line(measured, _COSTS))
    else:
        told += _every_line(measured, _SHARES | _COSTS)
    return told + _choices(evaluation) + _table(measured)


def _measured(evaluation: Stage) -> Measured:
    found: dict[str, dict[float, dict[str, Any]]] = {}
    for model, entries in mapping(evaluation.results.get("budget")).items():
        known = {_order(entry): entry for given in items(entries) if (entry := mapping(given))}
        if known:
            found[model] = known
    return Measured(found)


def _pairs(evaluation: Stage, measured: Measured) -> list[Pair]:
    """From the differences that were asked for, those at a budget."""
    found: dict[tuple[str, str], Pair] = {}
    for entry in map(mapping, items(evaluation.results.get("differences"))):
        metric, at, budget = text(entry.get("metric")).partition("@")
        gap = Estimate(entry)
        if entry.get("asked") is not True or not at or metric not in _METRICS or gap.value is None:
            continue
        suite = text(entry.get("suite"))
        ours, theirs = (_model(text(entry.get(key)), suite, measured) for key in ("stage", "parent"))
        try:
            allowed = float("inf") if budget == "unlimited" else float(budget)
        except ValueError:
            continue
        if ours in measured.entries and theirs in measured.entries and allowed in measured.budgets:
            pair = found.setdefault((ours, theirs), Pair(ours, theirs))
            pair.gaps.setdefault(_METRICS[metric], {})[allowed] = gap
    return list(found.values())


def _model(stage: str, suite: str, measured: Measured) -> str:
    """A model's name among the curves, which tell the suite where there are several."""
    return stage if stage in measured.entries else f"{stage}: {suite}"


def _compared(pair: Pair, measured: Measured) -> str:
    """The pair in colour, every other model grey behind it."""
    charts = []
    for key, title in _SHARES.items():
        lines = [measured.line(pair.ours, key), measured.line(pair.theirs, key)]
        for line in lines:
            line.told = _spread([y for _, y in line.points])
        for model in measured.entries:
            if model not in (pair.ours, pair.theirs):
                other = measured.line(model, key)
                other.muted = True
                lines.append(other)
        charts.append(
            draw(Panel(title, lines, "budget", measured.names, shares=True, holds=(0.0, 1.0), large=True))
        )
    ahead = [_gap_line(pair, key, measured) for key in _SHARES]
    title = f"{pair.ours} less {pair.theirs}, percentage points"
    charts.append(
        draw(Panel(title, ahead, "budget", measured.names, shares=True, holds=(0.0,), large=True, zero=True))
    )
    others = [model for model in measured.entries if model not in (pair.ours, pair.theirs)]
    grey = f" Grey: {escape(listed(others, most=12))}." if others else ""
    return (
        f'<p class="lead">{_sentence(pair, measured)}</p><div class="panels hero">{"".join(charts)}</div>'
        '<p class="hint">Whiskers are 95% intervals over the tasks; the last chart is the paired difference on '
        f"the same tasks: where its interval lies above 0, the gap is not chance.{grey}</p>"
    )


def _gap_line(pair: Pair, key: str, measured: Measured) -> Line:
    gaps = pair.gaps.get(key, {})
    known = [budget for budget in measured.budgets if budget in gaps]
    places = [float(measured.budgets.index(budget)) for budget in known]
    line = estimated(_SHARES[key].lower(), places, [gaps[budget] for budget in known])
    if line.points:
        line.told = _spread([y for _, y in line.points], with_sign=True)
    return line


def _sentence(pair: Pair, measured: Measured) -> str:
    """How well-formed both are over the budgets, and where they are furthest apart."""
    ours, theirs = (
        [e.value for e in measured.at(model, "well_formed") if e.value is not None]
        for model in (pair.ours, pair.theirs)
    )
    told = f"<b>{escape(pair.ours)}</b> beside <b>{escape(pair.theirs)}</b>"
    if ours and theirs:
        told = (
            f"<b>{escape(pair.ours)}</b> is well-formed in <b>{_spread(ours)}%</b> of its completions over the "
            f"budgets, <b>{escape(pair.theirs)}</b> in <b>{_spread(theirs)}%</b>"
        )
    gaps = pair.gaps.get("well_formed", {})
    if not gaps:
        return f"{told}."
    budget, gap = max(gaps.items(), key=lambda known: abs(known[1].value or 0))
    return f"{told}. They are furthest apart at budget {_name(budget)}: {_points(gap)} points."


def _points(gap: Estimate) -> str:
    parts = [signed(x, write(abs(x), True)) for x in (gap.value, gap.low, gap.high) if x is not None]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]" if len(parts) == 3 else parts[0]


def _spread(values: list[float], with_sign: bool = False) -> str:
    """The lowest and the highest: 12.5 to 97.5."""

    def written(value: float) -> str:
        return signed(value, write(abs(value), True)) if with_sign else write(value, True)

    ends = [written(end) for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _panel_of(model: str, measured: Measured) -> str:
    lines = [measured.line(model, key, title.lower()) for key, title in _SHARES.items()]
    return draw(Panel(model, lines, "budget", measured.names, shares=True, holds=(0.0, 1.0)))


def _every_line(measured: Measured, wanted: dict[str, str]) -> str:
    """A chart of every model for each of what is wanted; as many as it takes for each to have a colour."""
    charts = []
    for key, title in wanted.items():
        lines = [measured.line(model, key) for model in measured.entries]
        lines = [line for line in lines if line.points]
        for start in range(0, len(lines), COLOURS):
            part = lines[start : start + COLOURS]
            charts.append(draw(Panel(title, part, "budget", measured.names, shares=key in _SHARES)))
    return f'<div class="panels wide">{"".join(charts)}</div>' if charts else ""


def _table(measured: Measured) -> str:
    rows = []
    for model, entries in measured.entries.items():
        for budget in sorted(entries):
            shares = [write_estimate(Estimate(entries[budget].get(key)), True) for key in reversed(_SHARES)]
            costs = [write_estimate(_estimate(entries[budget].get(key)), False) for key in _COSTS]
            rows.append([model, _name(budget), *shares, *costs])
    return numbers(["model", "budget", "accuracy", "well-formed", "tokens", "seconds"], rows)


def _choices(evaluation: Stage) -> str:
    """The smallest budget within one standard error of the best, overall and by what is told of the tasks."""
    rows: list[list[str]] = []
    apart: list[list[str]] = []
    for stage, suites in mapping(evaluation.results.get("budget_choice")).items():
        for suite, told in mapping(suites).items():
            for name, given in mapping(told).items():
                if name == "overall":
                    rows += _choice([stage, suite, "all"], given)
                    continue
                for label, choice in mapping(given).items():
                    apart += _choice([stage, suite, f"{name} {label}"], choice)
    if not rows and not apart:
        return ""
    head = ["model", "suite", "tasks", "chosen budget", "its accuracy", "best budget", "its accuracy"]
    return (
        "<h3>Which budget to serve with</h3>"
        "<p>Chosen is the smallest budget whose accuracy is within one standard error of the best one's.</p>"
        + (figures(head, rows) if rows else "")
        + (folded("By kind of task", figures(head, apart)) if apart else "")
    )


def _choice(of: list[str], given: Any) -> list[list[str]]:
    found = mapping(given)
    if "budget" not in found:
        return []
    budgets = [_name(_order({"budget": found.get(key)})) for key in ("budget", "best_budget")]
    accuracies = [write_estimate(Estimate(found.get(key)), True) for key in ("accuracy", "best_accuracy")]
    return [[*of, budgets[0], accuracies[0], budgets[1], accuracies[1]]]


def _order(entry: dict[str, Any]) -> float:
    budget = number(entry.get("budget"))
    return float("inf") if budget is None else budget


def _name(budget: float) -> str:
    return "∞" if budget == float("inf") else f"{budget:g}"


def _estimate(value: Any) -> Estimate:
    """An interval, or a number alone."""
    return Estimate(value if isinstance(value, dict) else {"value": value})
