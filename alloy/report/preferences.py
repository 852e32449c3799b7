"""What a reward model is worth on held-out pairs: accuracy by margin and by length, and its calibration."""

from typing import Any

from alloy.report.chart import Line, Panel, draw, estimated
from alloy.report.lenient import items, mapping, number, text
from alloy.report.notation import Estimate, escape, numbers, write_estimate
from alloy.report.record import Stage

_HINT = (
    '<p class="hint">Share of held-out pairs, in percent with 95% intervals, whose preferred answer scores '
    "higher. Calibration: how often the higher-scored answer is the preferred one, by the probability that the "
    "model gives it (sigmoid of the scores' difference); a calibrated model lies on the diagonal. A model with a "
    "length bias is less often right where the preferred answer is the shorter one, and prefers the longer "
    "answer more often than people do.</p>"
)


def preferences(stage: Stage) -> str:
    """Charts and tables of a reward model's held-out pairs; empty for any other stage."""
    told = mapping(mapping(stage.artifact.get("notes")).get("held_out"))
    accuracy = Estimate(told.get("accuracy"))
    if accuracy.value is None:
        return ""
    charts = [
        draw(_calibration(told)),
        draw(_labelled("Accuracy by length of the preferred answer", told.get("by_length"))),
        draw(_labelled("Accuracy by margin", told.get("by_margin"))),
    ]
    size = "" if accuracy.n is None else f" on {accuracy.n:g} pairs"
    return (
        f"<p>{escape(stage.name)} prefers the answer that people preferred in "
        f"<b>{write_estimate(accuracy, True)}%</b> of the cases{size}.{_longer(told)}</p>"
        f'<div class="panels small">{"".join(charts)}</div>{_HINT}{_table(told)}'
    )


def _calibration(told: dict[str, Any]) -> Panel:
    rows = [mapping(row) for row in items(told.get("calibration"))]
    known = [(x, row) for row in rows if (x := number(row.get("predicted"))) is not None]
    observed = estimated("observed", [x for x, _ in known], [Estimate(row) for _, row in known])
    error = number(told.get("calibration_error"))
    observed.told = "" if error is None else f"{100 * error:.1f} off in the mean"
    diagonal = Line("calibrated", [(0.5, 0.5), (1.0, 1.0)], told="predicted = observed")
    return Panel("Calibration", [observed, diagonal] if observed.points else [], "predicted", shares=True)


def _labelled(title: str, given: Any) -> Panel:
    rows = [mapping(row) for row in items(given)]
    cells = [(text(row.get("label")), Estimate(row)) for row in rows]
    known = [(label, cell) for label, cell in cells if label and cell.value is not None]
    if len(known) < 2:
        return Panel(title, [])
    line = estimated("accuracy", [float(i) for i in range(len(known))], [cell for _, cell in known])
    line.joined = False
    return Panel(title, [line], names=[label for label, _ in known], shares=True)


def _longer(told: dict[str, Any]) -> str:
    """Which share of the longer answers is preferred, by the model and by people."""
    found = {who: Estimate(mapping(told.get("prefers_longer")).get(who)) for who in ("model", "data")}
    if any(cell.value is None for cell in found.values()):
        return ""
    model, data = (write_estimate(found[who], True) for who in ("model", "data"))
    return f" It prefers the longer answer in {model}% of them, people did in {data}%."


def _table(told: dict[str, Any]) -> str:
    rows = []
    for name, key in (("length", "by_length"), ("margin", "by_margin"), ("calibration", "calibration")):
        for row in map(mapping, items(told.get(key))):
            cell = Estimate(row)
            label = text(row.get("label"))
            predicted = number(row.get("predicted"))
            if predicted is not None:
                label = f"predicted {100 * predicted:.1f}"
            if label and cell.value is not None:
                size = "–" if cell.n is None else f"{cell.n:g}"
                rows.append([name, label, write_estimate(cell, True), size])
    return numbers(["by", "", "percent", "pairs"], rows) if rows else ""
