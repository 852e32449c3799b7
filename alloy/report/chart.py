"""Small charts of lines or bars as inline SVG, coloured by the page's stylesheet so that dark mode holds.

Lines are told apart by the shape of their end mark as well as by colour, bars by their order. The axes'
domains lie in data attributes, from which the page's script reads values under the pointer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from alloy.report.notation import MINUS, Estimate, escape, figure

COLOURS = 7
_WIDTH, _HEIGHT = 280, 160
_LARGE = (380, 216)
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 8, 22
_THIN_TO = 180
"""Points that a line keeps; more would lie on the same pixels."""
_TREND_FROM = 24
"""Points from which a line is shown as its moving average, with what was logged faint behind it."""
_BARS = 0.8
"""Share of a case's width that its bars take."""
_SHORT = 7
"""Letters of an axis' title that fit before its first tick."""
_LETTER = 5.8
"""Pixels of a letter of a case's name, at most."""

Point = tuple[float, float]


@dataclass
class Line:
    """A named line; `ranges` holds (x, low, high) and is drawn as a band or as whiskers.

    Attributes:
        whiskers: its points are estimates: each has its mark, and none is averaged.
        emphasis: size of its marks.
        joined: whether a line leads through its marks.
        told: what stands beside its name; its last value when empty.
        colour: a class of the stylesheet; one of its own when empty.
        hollow: x of bars that are drawn as outlines.
        muted: drawn thin and grey behind the others, without a place in the legend.
    """

    label: str
    points: list[Point]
    ranges: list[tuple[float, float, float]] = field(default_factory=list)
    whiskers: bool = False
    emphasis: float = 1.0
    joined: bool = True
    told: str = ""
    colour: str = ""
    hollow: tuple[float, ...] = ()
    muted: bool = False


@dataclass
class Panel:
    """One chart.

    Attributes:
        names: labels of x = 0, 1, 2, ... where x is no number but a list of cases.
        shares: y is written as percent.
        mark: an x to set off with a vertical line, and what it is called.
        bars: its lines are drawn as bars from 0, side by side at each of the names.
        holds: values of y that have a place on the axis, whatever the lines do.
        large: what leads a section has more room.
        zero: sets off y = 0, where differences are drawn.
    """

    title: str
    lines: list[Line]
    x_title: str = ""
    names: list[str] = field(default_factory=list)
    shares: bool = False
    mark: tuple[float, str] | None = None
    bars: bool = False
    holds: tuple[float, ...] = ()
    large: bool = False
    zero: bool = False


@dataclass(frozen=True)
class _Scale:
    x0: float
    x1: float
    y0: float
    y1: float
    top: float
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.width - _RIGHT

    @property
    def bottom(self) -> int:
        return self.height - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top)

    def at(self, point: Point) -> str:
        return f"{self.x(point[0]):.1f},{self.y(point[1]):.1f}"


def draw(panel: Panel) -> str:
    """A chart with its title and legend; nothing where no line has a point."""
    lines = [line for line in panel.lines if line.points]
    if not lines:
        return ""
    scale = _scale(panel, lines)
    muted = "".join(
        f'<polyline class="muted" points="{" ".join(map(scale.at, line.points))}"/>'
        for line in lines
        if line.muted
    )
    body = _axes(panel, scale) + muted
    lines = [line for line in lines if not line.muted]
    for index, line in enumerate(lines):
        shape = _draw_bars(line, scale, index, len(lines)) if panel.bars else _draw_line(line, scale, index)
        body += f'<g class="{_colour(line, index)}">{shape}</g>'
    legend = "".join(_legend_entry(line, index, panel.shares) for index, line in enumerate(lines))
    names = escape("|".join(panel.names))
    return (
        f'<figure class="panel{" large" if panel.large else ""}"><figcaption>{escape(panel.title)}</figcaption>'
        f'<svg class="chart" viewBox="0 0 {scale.width} {scale.height}" role="img" aria-label="{escape(panel.title)}" '
        f'data-x="{scale.x0:.12g} {scale.x1:.12g}" data-y="{scale.y0:.12g} {scale.y1:.12g}" '
        f'data-plot="{_LEFT} {scale.top} {scale.right} {scale.bottom}" data-names="{names}" '
        f'data-x-title="{escape(panel.x_title)}"{" data-shares" if panel.shares else ""}>{body}'
        f'<line class="cursor" y1="{_TOP}" y2="{scale.bottom}"/></svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def estimated(label: str, xs: Sequence[float], estimates: Sequence[Estimate]) -> Line:
    """A line through the estimates that are known, with their intervals."""
    known = [(x, e) for x, e in zip(xs, estimates, strict=True) if e.value is not None]
    points = [(x, e.value) for x, e in known if e.value is not None]
    return Line(label, points, [(x, *e.bounds) for x, e in known if e.bounds], whiskers=True)


def sparkline(points: Sequence[Point]) -> str:
    """A line alone, a word's size, its last point marked."""
    thinned = _trend(_thin(points)[0])
    xs, ys = [x for x, _ in thinned], [y for _, y in thinned]
    width, height = max(xs) - min(xs) or 1, max(ys) - min(ys) or 1
    placed = [(2 + 92 * (x - min(xs)) / width, 22 - 20 * (y - min(ys)) / height) for x, y in thinned]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    last = f'<circle cx="{placed[-1][0]:.1f}" cy="{placed[-1][1]:.1f}" r="2"/>'
    return f'<svg viewBox="0 0 98 24" aria-hidden="true"><polyline points="{path}"/>{last}</svg>'


def marker(index: int, x: float = 0, y: float = 0, size: float = 1) -> str:
    """The end mark of line number `index`: with the colour it makes 28 that differ."""
    r, half, tip = 3 * size, 2.7 * size, 3.8 * size
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}"/>',
        f'<rect x="{x - half:.1f}" y="{y - half:.1f}" width="{2 * half:g}" height="{2 * half:g}"/>',
        f'<path d="M{x:.1f} {y - tip:.1f}l{tip:g} {1.7 * tip:.3g}h{-2 * tip:g}z"/>',
        f'<path d="M{x:.1f} {y - tip:.1f}l{tip:g} {tip:g}l{-tip:g} {tip:g}l{-tip:g} {-tip:g}z"/>',
    )
    return shapes[index % len(shapes)]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers from low to high, about as many as wanted."""
    rough = (high - low) / max(wanted, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [0.0 if i == 0 else i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _scale(panel: Panel, lines: list[Line]) -> _Scale:
    xs = [x for line in lines for x, _ in line.points] + ([panel.mark[0]] if panel.mark else [])
    ys = [y for line in lines for _, y in line.points]
    ys += [y for line in lines for _, low, high in line.ranges for y in (low, high)]
    ys += [*panel.holds, *([0.0] if panel.bars else [])]
    beside = 0.5 if panel.bars else 0.3
    x0, x1 = (-beside, len(panel.names) - 1 + beside) if panel.names else _widened(min(xs), max(xs), 0)
    y0, y1 = _widened(min(ys), max(ys), 0.06)
    if panel.shares:
        # Room below 0 only for what can lie there, as a difference.
        y0, y1 = max(y0, -0.02) if min(ys) >= 0 else y0, min(y1, 1.02)
    width, height = _LARGE if panel.large else (_WIDTH, _HEIGHT)
    # The name of a marked x stands above what is drawn.
    return _Scale(x0, x1, y0, y1, _TOP + 12 if panel.mark else _TOP, width, height)


def _widened(low: float, high: float, margin: float) -> tuple[float, float]:
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low - margin * (high - low), high + margin * (high - low)


def _axes(panel: Panel, scale: _Scale) -> str:
    parts = []
    for tick in ticks(scale.y0, scale.y1, 5):
        if panel.bars and abs(tick - round(tick)) > 1e-9:
            continue  # Bars count.
        y = scale.y(tick)
        label = f"{100 * tick:g}".replace("-", MINUS) if panel.shares else figure(round(tick, 12))
        name = "grid zero" if panel.zero and tick == 0 else "grid"
        parts.append(f'<path class="{name}" d="M{_LEFT} {y:.1f}H{scale.right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 3.3:.1f}" text-anchor="end">{label}</text>')
    cases = _fitting(panel.names, scale)
    if not cases:
        cases = [(tick, figure(round(tick, 12))) for tick in ticks(scale.x0, scale.x1, 5)]
    for where, name in cases:
        x = scale.x(where)
        anchor = "end" if x > scale.right - 8 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{scale.height - 6}" text-anchor="{anchor}">{escape(name)}</text>')
    if len(panel.x_title) <= _SHORT:
        parts.append(
            f'<text class="axis" x="{_LEFT - (6 if panel.names else 11)}" y="{scale.height - 6}" text-anchor="end">{escape(panel.x_title)}</text>'
        )
    if panel.mark:
        x = scale.x(panel.mark[0])
        parts.append(f'<path class="mark" d="M{x:.1f} {scale.top - 2}V{scale.bottom}"/>')
        name = escape(panel.mark[1])
        room = 2.8 * len(panel.mark[1])
        anchor = "start" if x - _LEFT < room else "end" if scale.right - x < room else "middle"
        parts.append(f'<text class="mark" x="{x:.1f}" y="{_TOP + 6}" text-anchor="{anchor}">{name}</text>')
    return "".join(parts)


def _fitting(names: Sequence[str], scale: _Scale) -> list[tuple[float, str]]:
    """As many evenly spaced cases' names as have room, the first and the last among them."""
    if not names:
        return []
    room = _LETTER * max(map(len, names)) + 5
    needed = math.ceil(room / (scale.x(1) - scale.x(0)))
    last = len(names) - 1
    every = next((step for step in range(needed, last) if last % step == 0), max(last, 1))
    return [(float(i), name) for i, name in enumerate(names)][::every]


def _draw_line(line: Line, scale: _Scale, index: int) -> str:
    points, spread = (line.points, []) if line.whiskers else _thin(line.points)
    trend = points if line.whiskers else _trend(points)
    parts = []
    if line.whiskers:
        for x, low, high in line.ranges:
            span = f"M{scale.x(x):.1f} {scale.y(low):.1f}V{scale.y(high):.1f}"
            parts.append(f'<path class="whisker" d="{span}"/>')
    else:
        parts.append(_band(line.ranges or spread, scale))
    if trend is not points and not spread:
        parts.append(f'<polyline class="faint" points="{" ".join(map(scale.at, points))}"/>')
    name = "line" if line.joined else "line apart"
    parts.append(f'<polyline class="{name}" points="{" ".join(map(scale.at, trend))}"/>')
    marked = trend if line.whiskers else trend[-1:]
    parts += [marker(index, scale.x(x), scale.y(y), line.emphasis) for x, y in marked]
    return "".join(parts)


def _draw_bars(line: Line, scale: _Scale, index: int, of: int) -> str:
    """Bars at the line's place among `of`; their values lie on a line that is not seen, for the script."""
    width = _BARS / of
    across, base = scale.x(width) - scale.x(0), scale.y(0)
    parts = [f'<polyline class="line apart" points="{" ".join(map(scale.at, line.points))}"/>']
    for x, y in line.points:
        if y <= 0:
            continue
        left = scale.x(x + (index - of / 2) * width)
        height = max(1.0, base - scale.y(y))
        name = ' class="hollow"' if x in line.hollow else ""
        parts.append(
            f'<rect{name} x="{left:.1f}" y="{base - height:.1f}" width="{across:.1f}" height="{height:.1f}"/>'
        )
    return "".join(parts)


def _band(ranges: Sequence[tuple[float, float, float]], scale: _Scale) -> str:
    if not ranges:
        return ""
    edge = [(x, high) for x, _, high in ranges] + [(x, low) for x, low, _ in reversed(ranges)]
    return f'<polygon class="band" points="{" ".join(map(scale.at, edge))}"/>'


def _thin(points: Sequence[Point]) -> tuple[list[Point], list[tuple[float, float, float]]]:
    """Means of equal portions with their lowest and highest, where there are too many points."""
    if len(points) <= _THIN_TO:
        return list(points), []
    thinned, spread = [], []
    for i in range(_THIN_TO):
        portion = points[i * len(points) // _THIN_TO : (i + 1) * len(points) // _THIN_TO]
        x = sum(p[0] for p in portion) / len(portion)
        ys = [p[1] for p in portion]
        thinned.append((x, sum(ys) / len(ys)))
        spread.append((x, min(ys), max(ys)))
    return thinned, spread


def _trend(points: list[Point]) -> list[Point]:
    """A moving average over a sixteenth of the line, five points at least; short lines are left as they are.

    Each value is that of the straight line fitted to its window: in the middle of a line this is the
    window's mean, and near an end, where the window is one-sided, a slope does not pull it inwards.
    """
    if len(points) < _TREND_FROM:
        return points
    reach = max(2, len(points) // 32)
    smooth = []
    for i, (x, _) in enumerate(points):
        window = range(max(0, i - reach), min(len(points), i + reach + 1))
        middle = sum(window) / len(window)
        mean = sum(points[j][1] for j in window) / len(window)
        slope = sum((j - middle) * points[j][1] for j in window) / sum((j - middle) ** 2 for j in window)
        smooth.append((x, mean + slope * (i - middle)))
    return smooth


def _legend_entry(line: Line, index: int, shares: bool) -> str:
    last = line.points[-1][1]
    written = escape(line.told) if line.told else f"{100 * last:.1f}" if shares else figure(last)
    return (
        f'<li class="{_colour(line, index)}"><svg viewBox="-5 -5 10 10" aria-hidden="true">{marker(index)}</svg>'
        f'<span>{escape(line.label)}</span><b data-last="{written}">{written}</b></li>'
    )


def _colour(line: Line, index: int) -> str:
    return line.colour or f"s{index % COLOURS}"
