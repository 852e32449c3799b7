"""How a merge was chosen: scores over what was swept, the objective, and the path of a search over groups."""

from dataclasses import dataclass, field
from typing import Any

from alloy.report.chart import Line, Panel, draw, estimated
from alloy.report.lenient import items, mapping, number, text
from alloy.report.notation import (
    Estimate,
    are_shares,
    escape,
    figure,
    figures,
    folded,
    numbers,
    write,
    write_estimate,
)
from alloy.report.record import Stage

_NAMED = {
    "alpha": "Alpha is the share of the chat checkpoint: 0 is the reasoning checkpoint alone.",
    "t": "t is how far the merge lies from the first model to the second.",
    "density": "Density is the share of each model's changes that is kept.",
    "scale": "Scale is the factor on the changes that are added to the base.",
}
_STEPS = 12
"""Of a search that are drawn; the table has all."""


@dataclass
class Point:
    """A setting that was tried: what was swept, or by group an alpha."""

    at: float | None
    alphas: dict[str, float]
    scores: dict[str, Estimate]
    objective: float | None
    error: float | None
    dominated: bool = False

    @property
    def aim(self) -> Estimate:
        """The objective, one standard error to either side."""
        if self.objective is None or self.error is None:
            return Estimate({"value": self.objective})
        ends = {"low": self.objective - self.error, "high": self.objective + self.error}
        return Estimate({"value": self.objective, **ends})


@dataclass
class Step:
    """A group whose alpha was searched, the others staying where they were."""

    group: str
    before: float | None
    after: float | None
    alphas: dict[str, float]
    tried: list[Point] = field(default_factory=list)

    @property
    def chosen(self) -> Point | None:
        return next((p for p in self.tried if p.alphas.get(self.group, p.at) == self.after), None)


@dataclass
class Sweep:
    """The content of a sweep.json, as far as it can be read."""

    over: str
    points: list[Point]
    suites: list[str]
    chosen: float | None
    groups: dict[str, float]
    rule: str
    objective: str
    path: list[Step]

    @property
    def start(self) -> float | None:
        """The alpha of all groups from which their search began."""
        return next((step.before for step in self.path if step.before is not None), None)

    @property
    def shares(self) -> bool:
        return are_shares([estimate for point in self.points for estimate in point.scores.values()])


def trade_off(merge: Stage) -> str:
    """What was chosen, by which rule, the charts that show why, and the path of a search."""
    sweep = _read(merge.sweep)
    if not sweep.points:
        return ""
    xs = [point.at or 0.0 for point in sweep.points]
    lines = [
        estimated(suite, xs, [point.scores.get(suite, Estimate(None)) for point in sweep.points])
        for suite in sweep.suites
    ]
    aim = estimated(sweep.objective, xs, [point.aim for point in sweep.points])
    in_shares = sweep.shares and all(0 <= y <= 1 for _, y in aim.points)
    mark = None
    if sweep.chosen is not None:
        mark = (sweep.chosen, f"chosen {sweep.chosen:g}")
        for line, shares in [*((line, sweep.shares) for line in lines), (aim, in_shares)]:
            line.told = next((write(y, shares) for x, y in line.points if x == sweep.chosen), "")
    elif sweep.start is not None:
        mark = (sweep.start, f"start {sweep.start:g}")
    charts = [
        draw(Panel(f"Scores over {sweep.over}", lines, sweep.over, shares=sweep.shares, mark=mark)),
        draw(Panel(sweep.objective.capitalize(), [aim], sweep.over, shares=in_shares, mark=mark)),
        _against(sweep),
    ]
    beside = " The figure beside a name is that of the chosen setting." if sweep.chosen is not None else ""
    hint = (
        '<p class="hint">Held-out validation items, the same at every setting. Whiskers are 95% intervals of the '
        f"scores, and one standard error of the {escape(sweep.objective)}.{beside}</p>"
    )
    return (
        f'<p class="lead">{_told(sweep)}</p><div class="panels wide">{"".join(charts)}</div>{hint}'
        f"{_searched(sweep)}{_table(sweep)}"
    )


def _read(given: dict[str, Any]) -> Sweep:
    over = text(given.get("over")) or "alpha"
    points = [_point(entry, over) for entry in map(mapping, items(given.get("points")))]
    points = sorted((p for p in points if p.at is not None), key=lambda p: p.at or 0.0)
    found = {suite: 0 for point in points for suite in point.scores}
    named = [name for name in items(given.get("suites")) if isinstance(name, str)]
    return Sweep(
        over,
        points,
        list(dict.fromkeys([*named, *found])),
        number(given.get("chosen")),
        _numbers(given.get("chosen")),
        text(given.get("rule")),
        text(given.get("objective")) or "objective",
        [_step(entry) for entry in map(mapping, items(given.get("path"))) if text(entry.get("group"))],
    )


def _point(entry: dict[str, Any], over: str) -> Point:
    scores = {suite: Estimate(cell) for suite, cell in mapping(entry.get("scores")).items()}
    return Point(
        number(entry.get(over)),
        _numbers(entry.get(over)),
        scores,
        number(entry.get("objective")),
        number(entry.get("standard_error")),
        entry.get("dominated") is True,
    )


def _step(entry: dict[str, Any]) -> Step:
    tried = [_point(point, "alpha") for point in map(mapping, items(entry.get("tried")))]
    return Step(
        text(entry.get("group")),
        number(entry.get("before")),
        number(entry.get("after")),
        _numbers(entry.get("alphas")),
        tried,
    )


def _numbers(value: Any) -> dict[str, float]:
    return {name: known for name, x in mapping(value).items() if (known := number(x)) is not None}


def _told(sweep: Sweep) -> str:
    """What was chosen, and by which rule."""
    told = f"{sweep.chosen:g}" if sweep.chosen is not None else ""
    told = told or ", ".join(f"{escape(group)} {alpha:g}" for group, alpha in sweep.groups.items())
    said = f"Chosen: {escape(sweep.over)} <b>{told}</b>" if told else "No setting was chosen"
    said += f", by the rule: {escape(sweep.rule)}. " if sweep.rule else ". "
    return said + _NAMED.get(sweep.over, "")


def _against(sweep: Sweep) -> str:
    """The second suite over the first, a point a setting; nothing unless there are two suites."""
    if len(sweep.suites) != 2:
        return ""
    unit = 100 if sweep.shares else 1
    met: list[tuple[float, tuple[float, float]]] = []
    for point in sweep.points:
        x, y = (point.scores.get(suite, Estimate(None)).value for suite in sweep.suites)
        if x is not None and y is not None and point.at is not None:
            met.append((point.at, (unit * x, unit * y)))
    if not met:
        return ""
    ends = f"{sweep.over} {met[0][0]:g} to {met[-1][0]:g}"
    path = Line(ends, [place for _, place in met], whiskers=True, told=" ")
    best = Line("chosen", [place for at, place in met if at == sweep.chosen], whiskers=True, emphasis=1.7)
    if best.points:
        best.told = f"{best.points[0][1]:.1f} at {best.points[0][0]:.1f}" if sweep.shares else ""
    return draw(Panel(f"{sweep.suites[1]} over {sweep.suites[0]}", [path, best], sweep.suites[0]))


def _searched(sweep: Sweep) -> str:
    """The path of a search over groups: where each alpha went, and what the objective became."""
    if not sweep.path:
        return ""
    groups = list(dict.fromkeys(step.group for step in sweep.path))
    places = [float(i) for i in range(len(sweep.path) + 1)]
    names = ["start", *(str(i + 1) for i in range(len(sweep.path)))]
    first = sweep.start
    begun = next((p for p in sweep.points if p.at == first), None)
    moves = [
        Line(group, known, whiskers=True)
        for group in groups
        if (known := _moves(sweep.path, group, first, places))
    ]
    gained = [begun.aim if begun else Estimate(None)]
    gained += [step.chosen.aim if step.chosen else Estimate(None) for step in sweep.path]
    charts = [
        draw(Panel("Alpha of each group, step by step", moves, "step", names, holds=(0.0, 1.0))),
        draw(
            Panel(
                f"{sweep.objective.capitalize()}, step by step",
                [estimated(sweep.objective, places, gained)],
                "step",
                names,
                shares=sweep.shares and all(0 <= (e.value or 0) <= 1 for e in gained),
            )
        ),
    ]
    start = f"From alpha {first:g} for all, one" if first is not None else "One"
    return (
        "<h3>The search over groups</h3>"
        f"<p>{start} group after another was tried at every alpha while the others stayed, and the rule chose "
        "among them. Each round asks the same items again, so that part of what is gained is their accident.</p>"
        f'<div class="panels wide">{"".join(charts)}</div>{_tries(sweep)}{_path(sweep, groups)}'
    )


def _moves(
    path: list[Step], group: str, first: float | None, places: list[float]
) -> list[tuple[float, float]]:
    found = [first, *(step.alphas.get(group) for step in path)]
    return [(x, y) for x, y in zip(places, found, strict=True) if y is not None]


def _tries(sweep: Sweep) -> str:
    """The objective over the alpha of the group that a step moved."""
    charts = []
    for index, step in enumerate(sweep.path[:_STEPS], 1):
        tried = [(at, p) for p in step.tried if (at := p.alphas.get(step.group, p.at)) is not None]
        line = estimated(sweep.objective, [at for at, _ in tried], [p.aim for _, p in tried])
        mark = (step.after, f"chosen {step.after:g}") if step.after is not None else None
        shares = all(0 <= y <= 1 for _, y in line.points)
        charts.append(draw(Panel(f"Step {index}: {step.group}", [line], "alpha", shares=shares, mark=mark)))
    return folded("What each step tried", f'<div class="panels small">{"".join(charts)}</div>')


def _path(sweep: Sweep, groups: list[str]) -> str:
    rows = []
    for index, step in enumerate(sweep.path, 1):
        moved = step.before is not None and step.after is not None and step.before != step.after
        what = f"{step.group} {step.before:g} to {step.after:g}" if moved else f"{step.group} stays"
        row = [str(index), what, *(_plain(step.alphas.get(group)) for group in groups)]
        chosen = step.chosen
        scores = chosen.scores if chosen else {}
        row += [write_estimate(scores.get(suite, Estimate(None)), sweep.shares) for suite in sweep.suites]
        rows.append([*row, _aim(chosen)])
    head = ["step", "moved", *groups, *sweep.suites, sweep.objective]
    return folded("The steps in numbers", figures(head, rows))


def _table(sweep: Sweep) -> str:
    rows = []
    for point in sweep.points:
        mark = " ◂ chosen" if point.at == sweep.chosen else " dominated" if point.dominated else ""
        row = [f"{point.at:g}{mark}"]
        row += [write_estimate(point.scores.get(s, Estimate(None)), sweep.shares) for s in sweep.suites]
        rows.append([*row, _aim(point)])
    return numbers([sweep.over, *sweep.suites, sweep.objective], rows)


def _aim(point: Point | None) -> str:
    if point is None or point.objective is None:
        return "–"
    error = f" ± {figure(point.error)}" if point.error is not None else ""
    return figure(point.objective) + error


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
