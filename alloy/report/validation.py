"""Which step of a run was kept: held-out outcomes over the measured steps, and why that one."""

from dataclasses import dataclass
from typing import Any

from alloy.report.chart import Line, Panel, draw, estimated
from alloy.report.lenient import items, mapping, number
from alloy.report.notation import Estimate, are_shares, escape, listed, numbers, signed, write, write_estimate
from alloy.report.record import Stage

_FELL = 1.5
"""Size of the mark of a step where an environment fell, so that it covers the outcome's own."""


@dataclass(frozen=True)
class Measured:
    """A step's outcomes on the held-out tasks; step 0 is the parent."""

    step: float
    mean: float | None
    fell: list[str]
    cells: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        return f"step {self.step:g}" if self.step else "parent"

    def outcome(self, label: str) -> Estimate:
        return Estimate(self.cells.get(label))


def validation(stage: Stage) -> str:
    """Which step was kept and why, and an environment a chart; empty where nothing was measured."""
    measured = measured_of(stage)
    if not measured:
        return ""
    labels = list(dict.fromkeys(label for entry in measured for label in entry.cells))
    outcomes = [entry.outcome(label) for entry in measured for label in labels]
    shares = are_shares(outcomes)
    kept = number(stage.validation.get("kept"))
    mark = None
    if any(entry.step == kept for entry in measured) and kept is not None:
        mark = (kept, f"{_word(stage)} {kept:g}" if kept else f"parent {_word(stage)}")
    charts = [draw(_panel(label, measured, kept, mark, shares)) for label in labels]
    if len(labels) > 1:
        charts.append(draw(_mean_panel(measured, kept, mark, shares)))
    charts += [draw(panel) for panel in _beside(stage, mark)]
    return (
        f"<p>{_choice(stage, measured, kept, shares)}{_stopped(stage, measured)}</p>"
        f'<div class="panels small">{"".join(charts)}</div>'
        '<p class="hint">Held-out tasks over training steps, with 95% intervals; step 0 is the parent. An '
        "environment fell where the interval of the paired difference to the parent lies below 0, and such a "
        f"step is not kept. The figure beside a name is that of the {_word(stage)} step.</p>"
        f"{_table(measured, kept, labels, shares, stage)}"
    )


def measured_of(stage: Stage) -> list[Measured]:
    """The steps that were measured, in order; what has no step or no environment is passed over."""
    found: dict[float, Measured] = {}
    for entry in map(mapping, items(stage.validation.get("steps"))):
        step = number(entry.get("step"))
        cells = {label: mapping(cell) for label, cell in mapping(entry.get("environments")).items()}
        known = {label: cell for label, cell in cells.items() if Estimate(cell).value is not None}
        fell = [label for label in items(entry.get("fell")) if isinstance(label, str)]
        if step is not None and known:
            found[step] = Measured(step, number(entry.get("mean")), fell, known)
    return [found[step] for step in sorted(found)]


def _word(stage: Stage) -> str:
    """Until a stage is finished a later step may still be better."""
    return "kept" if stage.artifact else "best"


def _panel(
    label: str,
    measured: list[Measured],
    kept: float | None,
    mark: tuple[float, str] | None,
    shares: bool,
) -> Panel:
    """One environment's outcomes, those marked where it fell."""
    known = [entry for entry in measured if label in entry.cells]
    outcomes = [entry.outcome(label) for entry in known]
    line = estimated("outcome", [entry.step for entry in known], outcomes)
    line.told = "".join(write_estimate(entry.outcome(label), shares) for entry in known if entry.step == kept)
    there = {entry.step for entry in known if label in entry.fell}
    return _marked(f"{label}: held out", line, there, mark, shares)


def _mean_panel(
    measured: list[Measured], kept: float | None, mark: tuple[float, str] | None, shares: bool
) -> Panel:
    """The mean of all environments, those marked where one of them fell."""
    points = [(entry.step, entry.mean) for entry in measured if entry.mean is not None]
    told = "".join(write(y, shares) for x, y in points if x == kept)
    line = Line("mean", points, whiskers=True, told=told)
    there = {entry.step for entry in measured if entry.fell}
    return _marked("Mean of the environments: held out", line, there, mark, shares)


def _beside(stage: Stage, mark: tuple[float, str] | None) -> list[Panel]:
    """What was measured on the same rollouts and chose nothing, as the score that is trained on: it rising alone
    is reward hacking."""
    found: dict[str, list[tuple[float, Estimate]]] = {}
    for entry in map(mapping, items(stage.validation.get("steps"))):
        step = number(entry.get("step"))
        for name, cells in mapping(entry.get("beside")).items():
            for label, cell in mapping(cells).items():
                outcome = Estimate(mapping(cell))
                if step is not None and outcome.value is not None:
                    words = name.replace("_", " ").replace("/", ", ")
                    found.setdefault(f"{label}, {words}: beside", []).append((step, outcome))
    return [
        Panel(title, [estimated("score", [x for x, _ in known], [y for _, y in known])], "step", mark=mark)
        for title, known in found.items()
        if len(known) > 1
    ]


def _marked(title: str, line: Line, fell: set[float], mark: tuple[float, str] | None, shares: bool) -> Panel:
    at = [point for point in line.points if point[0] in fell]
    told = f"at {listed([f'{x:g}' for x, _ in at])}"
    lost = Line("fell", at, whiskers=True, emphasis=_FELL, joined=False, told=told, colour="down")
    return Panel(title, [line, lost], "step", shares=shares, mark=mark)


def _choice(stage: Stage, measured: list[Measured], kept: float | None, shares: bool) -> str:
    """Which step was kept, and why."""
    name, done = escape(stage.name), bool(stage.artifact)
    means = {entry.step: entry.mean for entry in measured if entry.mean is not None}
    if kept is None or kept not in means:
        return f"The validation.json of {name} does not tell which of the measured steps was kept."
    if not kept and not done and len(measured) == 1:
        return f"{name} has measured no step but the parent so far."
    mean, refused = _percent(means[kept], shares), _refused(measured, means[kept], shares)
    if not kept:
        verb = "The parent's weights were handed on" if done else "So far the parent is the best"
        return (
            f"<b>{verb}</b>: of the steps of {name} at which no environment fell, none has a higher mean over "
            f"the environments than the parent's {mean}.{refused}"
        )
    verb = "kept" if done else "has as its best so far"
    parent = f"; the parent's is {_percent(means[0.0], shares)}" if 0.0 in means else ""
    return (
        f"{name} {verb} <b>step {kept:g}</b>: its mean over the environments, {mean}, is the highest of the "
        f"steps at which none of them fell{parent}.{refused}"
    )


def _stopped(stage: Stage, measured: list[Measured]) -> str:
    """That training ended before its last step, where it did."""
    last, planned = measured[-1].step, stage.max_steps
    patience = number(mapping(stage.settings.get("validation")).get("patience"))
    if not stage.artifact or planned is None or patience is None or last >= planned:
        return ""
    return f" Training stopped at step {last:g} of {planned:g}: no better one in {patience:g} measurements."


def _refused(measured: list[Measured], mean: float, shares: bool) -> str:
    """The steps with a higher mean that were not kept, for an environment fell."""
    better = [(e.mean, e) for e in measured if e.fell and e.mean is not None and e.mean > mean]
    better.sort(key=lambda pair: -pair[0])
    told = [f"{e.name} ({_percent(m, shares)}; {escape(listed(e.fell))} fell)" for m, e in better]
    return f" Higher, but not to be kept: {listed(told)}." if told else ""


def _percent(value: float, shares: bool) -> str:
    return f"{write(value, shares)}%" if shares else write(value, shares)


def _table(
    measured: list[Measured], kept: float | None, labels: list[str], shares: bool, stage: Stage
) -> str:
    head = ["step", "mean", "fell", *(part for label in labels for part in (label, "to the parent"))]
    rows = []
    for entry in measured:
        step = f"{entry.step:g}" + (f" ◂ {_word(stage)}" if entry.step == kept else "")
        row = [step, "–" if entry.mean is None else write(entry.mean, shares), ", ".join(entry.fell) or "–"]
        for label in labels:
            row += [write_estimate(entry.outcome(label), shares), _gain(entry.cells.get(label), shares)]
        rows.append(row)
    return numbers(head, rows)


def _gain(cell: dict[str, Any] | None, shares: bool) -> str:
    """The paired difference to the parent with its interval: +4.0 [−1.0, +9.0]."""
    gain = Estimate(mapping(cell).get("gain"))
    parts = [signed(x, write(abs(x), shares)) for x in (gain.value, gain.low, gain.high) if x is not None]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]" if len(parts) == 3 else "–"
