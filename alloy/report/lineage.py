"""The graph of stages: one row a stage, lines from parents to children beside the rows.

Drawn like a history of revisions: it stays readable with many stages and on a narrow screen.
"""

from dataclasses import dataclass, field

from alloy.report.chart import sparkline
from alloy.report.curves import main_curve
from alloy.report.notation import count, duration, escape, figure
from alloy.report.record import Stage, State, mapping, number, text

ROW = 60
"""Height of a row in pixels; the stylesheet has the same."""
_DOT = 5.5
_ROOM = 96
"""Width that the lanes share where there are many; a phone's screen needs the rest."""
_STATES: dict[State, str] = {
    "finished": "finished",
    "stale": "stale",
    "unfinished": "unfinished",
    "given": "given to the run",
}


@dataclass(frozen=True)
class Row:
    """A stage of the run, or a model that was given to it (`stage` is None)."""

    name: str
    parents: tuple[str, ...]
    stage: Stage | None = None

    @property
    def state(self) -> State:
        return self.stage.state if self.stage else "given"


@dataclass(frozen=True)
class Edge:
    """From a row to a later one, along a lane in between."""

    start: int
    end: int
    lane: int


@dataclass
class Layout:
    """The lane of each row, and the lane that each edge takes between its rows."""

    lanes: list[int] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    @property
    def width(self) -> int:
        return 1 + max([*self.lanes, *(edge.lane for edge in self.edges)], default=0)

    @property
    def pitch(self) -> float:
        """Pixels from lane to lane."""
        return max(2 * _DOT, min(20, _ROOM / self.width))

    def centre(self, lane: int, row: int) -> tuple[float, float]:
        return (lane + 0.5) * self.pitch, (row + 0.5) * ROW


def rows_of(stages: list[Stage]) -> list[Row]:
    """Stages in order, each given model just before the first stage that starts from it."""
    names = {stage.name for stage in stages}
    rows: list[Row] = []
    ancestors: dict[str, set[str]] = {}
    for stage in stages:
        parents = list(dict.fromkeys(stage.parents.values()))
        for parent in parents:
            if parent not in names:
                names.add(parent)
                rows.append(Row(parent, ()))
        known = [parent for parent in parents if parent in ancestors]
        ancestors[stage.name] = set(known).union(*(ancestors[parent] for parent in known))
        if stage.kind == "evaluation" or stage.results:
            # It judges every stage; only the latest of each line is worth an arrow.
            parents = [p for p in parents if not any(p in ancestors.get(other, ()) for other in parents)]
        rows.append(Row(stage.name, tuple(parents), stage))
    return rows


def lay_out(rows: list[Row]) -> Layout:
    """Give every row and edge a lane so that no line runs through a stage that it does not touch.

    A stage's own lane goes on to the child with the longest line of descendants; other children turn off
    it. Lines from one parent may run together, lines from different parents never do.
    """
    place = {row.name: index for index, row in enumerate(rows)}
    parents = [sorted(p for name in row.parents if (p := place[name]) < i) for i, row in enumerate(rows)]
    heirs = _heirs(parents)
    taken: dict[tuple[int, int], int] = {}
    layout = Layout()

    def is_free(lane: int, start: int, end: int, owner: int) -> bool:
        return all(taken.get((lane, row), owner) == owner for row in range(start, end))

    def lowest_free(start: int, end: int, owner: int) -> int:
        return next(lane for lane in range(len(taken) + 1) if is_free(lane, start, end, owner))

    for index in range(len(rows)):
        inherited = [layout.lanes[p] for p in parents[index] if heirs[p] == index]
        end = heirs[index] or index
        lane = min(inherited) if inherited else lowest_free(index, end + 1, index)
        layout.lanes.append(lane)
        taken[lane, index] = index
        for row in range(index + 1, end + 1):
            taken.setdefault((lane, row), index)
        for start in parents[index]:
            near = (known for known in (layout.lanes[start], lane) if is_free(known, start + 1, index, start))
            between = next(near, None)
            if between is None:
                between = lowest_free(start + 1, index, start)
            taken.update({(between, row): start for row in range(start + 1, index)})
            layout.edges.append(Edge(start, index, between))
    return layout


def _heirs(parents: list[list[int]]) -> list[int | None]:
    """For each row the child with the longest line of descendants, the first of equals."""
    lengths = [0] * len(parents)
    heirs: list[int | None] = [None] * len(parents)
    for child in reversed(range(len(parents))):
        for parent in parents[child]:
            if lengths[child] + 1 >= lengths[parent]:
                lengths[parent], heirs[parent] = lengths[child] + 1, child
    return heirs


def graph(stages: list[Stage]) -> str:
    """The graph as one figure: lanes drawn beside a list of stages."""
    rows = rows_of(stages)
    layout = lay_out(rows)
    listed = "".join(_describe(row) for row in rows)
    return (
        f'<figure class="graph" style="--lanes:{layout.width * layout.pitch:g}px">{_draw(rows, layout)}'
        f'<ol>{listed}</ol><figcaption class="hint">{_key(rows)}'
        "<span>A line leads from a parent to what was made from it.</span></figcaption></figure>"
    )


def _key(rows: list[Row]) -> str:
    present = {row.state for row in rows}
    return "".join(
        f'<span><i class="dot {state}"></i>{meaning}</span>'
        for state, meaning in _STATES.items()
        if state in present
    )


def _draw(rows: list[Row], layout: Layout) -> str:
    width, height = layout.width * layout.pitch, len(rows) * ROW
    parts = [
        f'<svg class="lanes" width="{width:g}" height="{height}" viewBox="0 0 {width:g} {height}" role="img" '
        'aria-label="lineage of the stages"><defs><marker id="arrow" viewBox="0 0 6 6" refX="5" refY="3" '
        'markerWidth="5.5" markerHeight="5.5" orient="auto"><path d="M0 0.4L5.4 3L0 5.6z"/></marker></defs>'
    ]
    parts += [_draw_edge(edge, layout) for edge in layout.edges]
    for index, row in enumerate(rows):
        x, y = layout.centre(layout.lanes[index], index)
        parts.append(f'<g class="node {row.state}">{_draw_dot(row, x, y)}</g>')
    return "".join(parts) + "</svg>"


def _draw_edge(edge: Edge, layout: Layout) -> str:
    x, y = layout.centre(layout.lanes[edge.start], edge.start)
    path = f"M{x:g} {y + _DOT + 1:g}"
    for row in range(edge.start + 1, edge.end + 1):
        lane = layout.lanes[edge.end] if row == edge.end else edge.lane
        to_x, to_y = layout.centre(lane, row)
        if row == edge.end:
            to_y -= _DOT + 2
        middle = (y + to_y) / 2
        path += f"V{to_y:g}" if to_x == x else f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
    return f'<path class="edge" d="{path}" marker-end="url(#arrow)"/>'


def _draw_dot(row: Row, x: float, y: float) -> str:
    title = f"<title>{escape(row.name)}: {row.state}</title>"
    kind = row.stage.kind if row.stage else ""
    if kind == "reward-model":
        r = _DOT + 1
        return f'<path d="M{x:g} {y - r:g}L{x + r:g} {y:g}L{x:g} {y + r:g}L{x - r:g} {y:g}z">{title}</path>'
    if kind == "evaluation":
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
        f'<div class="gist">{_main_metrics(stage) or why}</div><div class="cost">{_cost(stage)}</div></li>'
    )


def _last(path: str) -> str:
    """The end of a path is what a model is known by."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def _main_metrics(stage: Stage) -> str:
    """The first two of what the stage itself says matters."""
    known = ((name, number(value)) for name, value in mapping(stage.artifact.get("metrics")).items())
    shown = [(name, value) for name, value in known if value is not None][:2]
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
