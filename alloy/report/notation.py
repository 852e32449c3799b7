"""How numbers and names are written on the page."""

import html
import re
from typing import Any

from alloy.report.lenient import mapping, number

MINUS = "\u2212"
_NUMBER = re.compile(r"[+\u2212\u00b1]?[\d.]|[\u2013\u221e]")
"""How a cell begins that holds a number, or says that there is none."""


def escape(value: object) -> str:
    """Text for HTML content and attributes; run folders hold what a model wrote."""
    return html.escape(str(value), quote=True)


def figure(value: float) -> str:
    """Three significant digits, with a true minus: 1,234, 1.23M, 1.23e−4."""
    if value == 0:
        return "0"
    size = abs(value)
    if 1e6 <= size < 1e15:
        written = count(size)
    elif size >= 1e15 or size < 1e-3:
        mantissa, exponent = f"{size:.2e}".split("e")
        written = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)
    elif size >= 1000:
        written = f"{size:,.0f}"
    else:
        written = f"{size:.3g}"
    return (MINUS if value < 0 else "") + written


def count(value: float) -> str:
    """1,234,567 reads 1.23M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def signed(value: float, written: str) -> str:
    return ("+" if value > 0 else MINUS if value < 0 else "\u00b1") + written


def listed(names: list[str], most: int = 5) -> str:
    """a, b and c; past `most`, how many more there are."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


class Estimate:
    """An interval as results.json has it: value, low, high, n, whichever are there."""

    def __init__(self, cell: Any) -> None:
        fields = mapping(cell)
        self.value = number(fields.get("value"))
        self.low = number(fields.get("low"))
        self.high = number(fields.get("high"))
        self.n = number(fields.get("n"))

    @property
    def bounds(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def excludes_zero(self) -> bool:
        bounds = self.bounds
        return bounds is not None and not bounds[0] <= 0 <= bounds[1] and (self.n is None or self.n > 1)


def are_shares(estimates: list[Estimate]) -> bool:
    """Whether all lie from 0 to 1, so that they are written as percent."""
    known = [x for e in estimates for x in (e.value, e.low, e.high) if x is not None]
    return bool(known) and all(0 <= x <= 1 for x in known)


def write(value: float, shares: bool) -> str:
    """A share as percent with one decimal, any other number with three digits."""
    return f"{100 * value:.1f}" if shares else figure(value)


def write_estimate(estimate: Estimate, shares: bool) -> str:
    """Value and interval: 62.0 [55.5, 68.5]; a dash where nothing was measured."""
    if estimate.value is None:
        return "–"
    bounds = estimate.bounds
    interval = f" [{write(bounds[0], shares)}, {write(bounds[1], shares)}]" if bounds else ""
    return write(estimate.value, shares) + interval


def figures(head: list[str], rows: list[list[str]]) -> str:
    """A table of text; columns of numbers stand to the right."""
    right = [i > 0 and all(_NUMBER.match(row[i]) for row in rows if i < len(row)) for i in range(len(head))]
    names = [" class=n" if numeric else "" for numeric in right]
    top = "".join(
        f"<th scope=col{name}>{escape(title)}</th>" for name, title in zip(names, head, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{names[i]}>{escape(cell)}</td>" for i, cell in enumerate(row[: len(head)]))
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="numbers"><table class="plain">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def numbers(head: list[str], rows: list[list[str]]) -> str:
    """The figures behind a chart, folded."""
    return folded("The numbers", figures(head, rows))


def folded(title: str, content: str) -> str:
    """What is there to be opened; nothing where there is no content."""
    return f'<details class="more"><summary>{escape(title)}</summary>{content}</details>' if content else ""
