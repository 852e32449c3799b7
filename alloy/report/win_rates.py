"""How often every model's answers are preferred to a reference's, by whom, and at equal length."""

from typing import Any

from alloy.report.lenient import items, mapping, number, text
from alloy.report.notation import Estimate, escape, figures, listed, signed, write, write_estimate
from alloy.report.record import Stage

_HALF = 0.5
_HINT = (
    '<p class="hint">Share of the prompts, in percent with 95% intervals, whose answer is preferred to the '
    "reference's; a tie is half, and * marks an interval without a half in it. A judge is asked in both orders and "
    "the mean is taken; steady is the share of the comparisons in which it prefers the same answer in both. At equal "
    "length: a logistic regression of the preference, with the difference of lengths set to 0. Words: how many more "
    "the answers have than the reference's, in the mean.</p>"
)


def win_rates(stage: Stage) -> str:
    """A row for each model and who prefers; empty where nothing was compared."""
    rows = [row for row in map(mapping, items(stage.results.get("win_rates"))) if text(row.get("stage"))]
    if not rows:
        return ""
    suites = list(dict.fromkeys(name for row in rows if (name := text(row.get("suite")))))
    asked = f"<p>Answers to the prompts of {escape(listed(suites))}.</p>" if suites else ""
    head = ["model", "reference", "by", "wins", "at equal length", "words", "steady", "prompts", "missing"]
    return asked + figures(head, [_row(row) for row in rows]) + _HINT


def _row(row: dict[str, Any]) -> list[str]:
    plain, steady = Estimate(row.get("plain")), Estimate(row.get("steady"))
    words, missing = number(row.get("words_more")), number(row.get("missing"))
    return [
        text(row.get("stage")),
        text(row.get("reference")) or "–",
        text(row.get("by")).replace("_", " ") or "–",
        _rate(plain),
        _rate(Estimate(row.get("controlled"))),
        "–" if words is None else signed(words, write(abs(words), False)),
        write_estimate(steady, True),
        "–" if plain.n is None else f"{plain.n:g}",
        "–" if missing is None else f"{missing:g}",
    ]


def _rate(estimate: Estimate) -> str:
    bounds = estimate.bounds
    mark = "*" if bounds is not None and not bounds[0] <= _HALF <= bounds[1] else ""
    return write_estimate(estimate, True) + mark
