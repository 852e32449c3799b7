"""What each stage is there to move, and whether it did: paired differences with their intervals."""

from dataclasses import dataclass
from typing import Any

from alloy.report.lenient import items, mapping, text
from alloy.report.notation import Estimate, are_shares, escape, signed, write
from alloy.report.record import Stage

_WIDE = 420
"""Of the drawing of an interval."""
_PAD = 6


@dataclass(frozen=True)
class Target:
    """A stage's change on what it is there to move, to one of those that it is compared with."""

    stage: str
    what: str
    to: str
    change: Estimate


def targets(evaluation: Stage) -> str:
    """A row a target: name, change, interval drawn on one scale; empty where the config names none."""
    found = _targets(evaluation.results)
    if not found:
        return ""
    known = [x for t in found for x in (t.change.value, t.change.low, t.change.high) if x is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    high = high if high > low else low + 1
    rows, last = "", ""
    for target in found:
        stage = (
            escape(target.stage)
            if target.stage != last
            else f'<span class="unseen">{escape(target.stage)}</span>'
        )
        last = target.stage
        rows += f"<tr><th scope=row>{stage}</th>{_cells(target, low, high)}</tr>"
    return (
        '<h3>What each stage is there to move</h3><div class="scroll" tabindex="0" role="region" '
        'aria-label="what each stage is there to move"><table class="targets"><thead><tr><th scope=col>stage</th>'
        "<th scope=col>suite</th><th scope=col>to</th><th scope=col class=n>change</th><th scope=col>95% interval</th>"
        f"<th></th></tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="hint">Paired differences on the same items, in percentage points. The line is 0: an interval '
        "that does not touch it is more than chance. A product is that of two suites' scores.</p>"
    )


def _targets(results: dict[str, Any]) -> list[Target]:
    """The differences of focus, of the metric that the table shows, then the products."""
    cells = mapping(results.get("cells"))
    found = []
    for entry in map(mapping, items(results.get("differences"))):
        stage, suite, change = text(entry.get("stage")), text(entry.get("suite")), Estimate(entry)
        shown = text(mapping(mapping(cells.get(stage)).get(suite)).get("metric"))
        if (
            entry.get("focus") is True
            and text(entry.get("metric")) in ("", shown)
            and change.value is not None
        ):
            found.append(Target(stage, suite, text(entry.get("parent")), change))
    for entry in map(mapping, items(results.get("products"))):
        suites = [name for name in items(entry.get("suites")) if isinstance(name, str)]
        change = Estimate(entry)
        if suites and change.value is not None:
            found.append(
                Target(text(entry.get("stage")), " × ".join(suites), text(entry.get("parent")), change)
            )
    order = {name: index for index, name in enumerate(items(results.get("stages"))) if isinstance(name, str)}
    return sorted(found, key=lambda target: order.get(target.stage, len(order)))


def _cells(target: Target, low: float, high: float) -> str:
    change = target.change
    known = [x for x in (change.value, change.low, change.high) if x is not None]
    shares = are_shares([Estimate({"value": abs(x)}) for x in known])
    ends = [signed(x, write(abs(x), shares)) for x in (change.low, change.high) if x is not None]
    value = change.value or 0.0
    sure = change.excludes_zero()
    name = ("up" if value > 0 else "down") if sure else "chance"
    word = f" significantly {'better' if value > 0 else 'worse'}" if sure else ""
    return (
        f"<td>{escape(target.what)}</td><td>{escape(target.to)}</td>"
        f'<td class="n {name}"><b>{signed(value, write(abs(value), shares))}</b>'
        f'<span class="unseen">{word}</span></td>'
        f"<td><small>{f'{ends[0]} to {ends[1]}' if len(ends) == 2 else '–'}</small></td>"
        f"<td>{_drawn(change, name, low, high)}</td>"
    )


def _drawn(change: Estimate, name: str, low: float, high: float) -> str:
    def at(value: float) -> float:
        return _PAD + (value - low) / (high - low) * (_WIDE - 2 * _PAD)

    value, bounds = change.value or 0.0, change.bounds
    span = f'<path class="span" d="M{at(bounds[0]):.1f} 14H{at(bounds[1]):.1f}"/>' if bounds else ""
    return (
        f'<svg class="change {name}" viewBox="0 0 {_WIDE} 28" aria-hidden="true">'
        f'<path class="nought" d="M{at(0):.1f} 0V28"/>{span}<circle cx="{at(value):.1f}" cy="14" r="3.4"/></svg>'
    )
