"""The stages as a list: one row a stage, with its lineage, its curve, what it says of itself and its cost.

Where there is no room for the graph beside it, lines from parents to children run along the rows, as in a
history of revisions: that stays readable with many stages and on a narrow screen.
"""

from alloy.report.chart import sparkline
from alloy.report.curves import main_curve
from alloy.report.flow import flow
from alloy.report.layout import Edge, Layout, Row, lay_out, rows_of
from alloy.report.lenient import items, mapping, number, text
from alloy.report.notation import count, duration, escape, figure
from alloy.report.record import Stage, State
from alloy.report.validation import measured_of

ROW = 60
"""Height of a row in pixels; the stylesheet has the same."""
_DOT = 5.5
_ROOM = 96
"""Width that the lanes share where there are many; a phone's screen needs the rest."""
_STATES: dict[State, str] = {
    "finished": "finished",
    "stale": "stale: its parent has changed since",
    "interrupted": "interrupted, or still running",
    "missing": "not run yet",
    "given": "given to the run",
}


def graph(stages: list[Stage]) -> str:
    """The graph, and the list of stages below it."""
    rows = rows_of(stages)
    layout = lay_out(rows)
    listed = "".join(map(_describe, rows))
    width = layout.width * _pitch(layout)
    return (
        f'{flow(rows)}<figure class="graph" style="--lanes:{width:g}px">{_draw(rows, layout)}'
        f'<ol>{listed}</ol><figcaption class="hint">{_key(rows)}'
        "<span>A line leads from a parent to what was made from it.</span></figcaption></figure>"
    )


def _pitch(layout: Layout) -> float:
    """Pixels from lane to lane."""
    return max(2 * _DOT, min(20, _ROOM / layout.width))


def _centre(layout: Layout, lane: int, row: int) -> tuple[float, float]:
    return (lane + 0.5) * _pitch(layout), (row + 0.5) * ROW


def _key(rows: list[Row]) -> str:
    present = {row.state for row in rows}
    return "".join(
        f'<span><i class="dot {state}"></i>{meaning}</span>'
        for state, meaning in _STATES.items()
        if state in present
    )


def _draw(rows: list[Row], layout: Layout) -> str:
    width, height = layout.width * _pitch(layout), len(rows) * ROW
    parts = [
        f'<svg class="lanes" width="{width:g}" height="{height}" viewBox="0 0 {width:g} {height}" role="img" '
        'aria-label="lineage of the stages"><defs><marker id="arrow" viewBox="0 0 6 6" refX="5" refY="3" '
        'markerWidth="5.5" markerHeight="5.5" orient="auto"><path d="M0 0.4L5.4 3L0 5.6z"/></marker></defs>'
    ]
    parts += [_draw_edge(edge, layout) for edge in layout.edges]
    for index, row in enumerate(rows):
        x, y = _centre(layout, layout.lanes[index], index)
        parts.append(f'<g class="node {row.state}">{_draw_dot(row, x, y)}</g>')
    return "".join(parts) + "</svg>"


def _draw_edge(edge: Edge, layout: Layout) -> str:
    x, y = _centre(layout, layout.lanes[edge.start], edge.start)
    path = f"M{x:g} {y + _DOT + 1:g}"
    for row in range(edge.start + 1, edge.end + 1):
        lane = layout.lanes[edge.end] if row == edge.end else edge.lane
        to_x, to_y = _centre(layout, lane, row)
        if row == edge.end:
            to_y -= _DOT + 2
        middle = (y + to_y) / 2
        path += f"V{to_y:g}" if to_x == x else f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
    return f'<path class="edge" d="{path}" marker-end="url(#arrow)"/>'


def _draw_dot(row: Row, x: float, y: float) -> str:
    title = f"<title>{escape(row.name)}: {row.state}</title>"
    if row.stage and row.stage.kind == "reward-model":
        r = _DOT + 1
        return f'<path d="M{x:g} {y - r:g}L{x + r:g} {y:g}L{x:g} {y + r:g}L{x - r:g} {y:g}z">{title}</path>'
    if row.judges:
        side = 2 * _DOT - 1
        return (
            f'<rect x="{x - side / 2:g}" y="{y - side / 2:g}" width="{side}" height="{side}">{title}</rect>'
        )
    return f'<circle cx="{x:g}" cy="{y:g}" r="{_DOT}">{title}</circle>'


def _describe(row: Row) -> str:
    stage = row.stage
    if stage is None:
        name, path = escape(_last(row.name)), escape(row.name)
        return f'<li><div class="who"><b title="{path}">{name}</b><small>given to the run</small></div></li>'
    origin = f" from {', '.join(map(_last, row.parents))}" if row.parents else ""
    state = stage.state if stage.state != "finished" else ""
    badge = f'<span class="badge {state}">{state}</span>' if state else ""
    why = f"<small>{escape(stage.why)}</small>" if stage.why else ""
    curve = main_curve(stage)
    name, what = escape(stage.name), escape((stage.kind or "stage") + origin)
    return (
        f'<li><div class="who"><b title="{name}">{name}</b>{badge}<small title="{what}">{what}</small></div>'
        f'<div class="spark">{sparkline(curve) if curve else ""}</div>'
        f'<div class="gist">{why or _main_metrics(stage)}</div><div class="cost">{_cost(stage)}</div></li>'
    )


def _last(path: str) -> str:
    """The end of a path is what a model is known by."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def _headline(stage: Stage) -> list[tuple[str, float]]:
    """Of an evaluation its size; the held-out mean beside the parent's where steps were validated; else what the
    stage says first."""
    if stage.judges:
        measured = {
            "models": mapping(stage.results.get("cells")),
            "suites": items(stage.results.get("suites")),
        }
        return [(name, float(len(found))) for name, found in measured.items() if found]
    means = {entry.step: entry.mean for entry in measured_of(stage) if entry.mean is not None}
    kept = number(stage.validation.get("kept"))
    if kept is not None and kept in means:
        parent = [("the parent's", means[0.0])] if kept and 0.0 in means else []
        return [("held-out mean", means[kept]), *parent]
    known = ((name, number(value)) for name, value in mapping(stage.artifact.get("metrics")).items())
    # An interval's ends and the number of its items say little on their own.
    ends = {"low", "high", "n"}
    return [(name, x) for name, x in known if x is not None and name.rsplit("/", 1)[-1] not in ends][:2]


def _main_metrics(stage: Stage) -> str:
    shown = _headline(stage)
    return "".join(
        f'<span title="{escape(name)}"><i>{escape(name)}</i> <b>{figure(value)}</b></span>'
        for name, value in shown
    )


def _cost(stage: Stage) -> str:
    seconds, tokens = number(stage.artifact.get("seconds")), number(stage.artifact.get("tokens"))
    parts = [duration(seconds)] if seconds is not None else []
    if tokens:
        parts.append(f"{count(tokens)} tokens")
    if text(stage.artifact.get("device")) and not parts:
        parts.append(escape(stage.artifact["device"]))
    return "".join(f"<span>{part}</span>" for part in parts)
