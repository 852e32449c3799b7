"""The graph of stages, drawn from left to right: a box a stage with its state, an arrow from each parent."""

from alloy.report.layout import Edge, Layout, Row, depths, lay_out
from alloy.report.lenient import number
from alloy.report.notation import duration, escape

_WIDTH, _HEIGHT = 108, 42
"""Of a box, in pixels."""
_STEP, _LANE = 128, 58
"""From box to box, along and across."""
_LETTERS = 14
"""Of a name that fits into a box."""


def flow(rows: list[Row]) -> str:
    """One figure; a box stands one step after the last of its parents."""
    places = depths(rows)
    layout = lay_out(rows, places, both_sides=True)
    width = max(places, default=0) * _STEP + _WIDTH + 2
    height = (layout.width - 1) * _LANE + _HEIGHT + 2
    edges = "".join(_arrow(edge, rows, places, layout) for edge in layout.edges)
    boxes = "".join(
        _box(row, place, lane) for row, place, lane in zip(rows, places, layout.lanes, strict=True)
    )
    return (
        '<figure class="flow" tabindex="0" role="region" aria-label="graph of the stages">'
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="the stages, each after what it was made from"><defs><marker id="tip" viewBox="0 0 6 6" '
        'refX="5.4" refY="3" markerWidth="5.5" markerHeight="5.5" orient="auto">'
        f'<path d="M0 0.4L5.4 3L0 5.6z"/></marker></defs>{edges}{boxes}</svg></figure>'
    )


def _corner(place: int, lane: int) -> tuple[float, float]:
    return place * _STEP + 1, lane * _LANE + 1


def _arrow(edge: Edge, rows: list[Row], places: list[int], layout: Layout) -> str:
    """Straight along its lane past other boxes, bent in the gaps between them."""
    start, end = rows[edge.start], rows[edge.end]
    x, y = _corner(places[edge.start], layout.lanes[edge.start])
    x, y = x + _WIDTH, y + _HEIGHT / 2
    path = f"M{x:g} {y:g}"
    for place in range(places[edge.start] + 1, places[edge.end] + 1):
        lane = layout.lanes[edge.end] if place == places[edge.end] else edge.lane
        to_x, to_y = _corner(place, lane)
        to_y += _HEIGHT / 2
        middle = (x + to_x) / 2
        path += f"H{to_x:g}" if to_y == y else f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"
        if place < places[edge.end]:
            path += f"h{_WIDTH}"
        x, y = to_x + _WIDTH, to_y
    name = "edge judged" if end.judges else "edge"
    told = f"{end.name} {'measures' if end.judges else 'is made from'} {start.name}{_role(end, start)}"
    return f'<path class="{name}" d="{path}" marker-end="url(#tip)"><title>{escape(told)}</title></path>'


def _role(child: Row, parent: Row) -> str:
    """What the parent is to the child, where that is more than its parent."""
    roles = [role for role, name in child.stage.parents.items() if name == parent.name] if child.stage else []
    told = [role.replace("_", " ") for role in roles if role not in ("parent", parent.name)]
    return f" ({', '.join(told)})" if told else ""


def _box(row: Row, place: int, lane: int) -> str:
    x, y = _corner(place, lane)
    name = row.name.rstrip("/").rsplit("/", 1)[-1]
    shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
    round_by = _HEIGHT / 2 if row.judges else 7
    why = f": {row.stage.why}" if row.stage and row.stage.why else ""
    return (
        f'<g class="box {row.state}"><title>{escape(f"{row.name} is {row.state}{why}")}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="{round_by:g}"/>'
        f'<text class="name" x="{x + _WIDTH / 2:g}" y="{y + 18:g}">{escape(shown)}</text>'
        f'<text x="{x + _WIDTH / 2:g}" y="{y + 33:g}">{escape(_told(row))}</text></g>'
    )


def _told(row: Row) -> str:
    """What stands below the name: the time of a finished stage, the state of any other."""
    seconds = number(row.stage.artifact.get("seconds")) if row.stage else None
    if row.state == "finished" and seconds is not None:
        return f"✓ {duration(seconds)}"
    return {
        "finished": "✓ finished",
        "stale": "↻ stale",
        "interrupted": "◐ interrupted",
        "missing": "missing",
    }.get(row.state, row.state)
