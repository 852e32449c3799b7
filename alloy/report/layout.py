"""Lanes for a graph of stages: no line runs through a stage that it does not touch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from alloy.report.record import Stage, State


@dataclass(frozen=True)
class Row:
    """A stage of the run, or a model that was given to it (`stage` is None)."""

    name: str
    parents: tuple[str, ...]
    stage: Stage | None = None

    @property
    def state(self) -> State:
        return self.stage.state if self.stage else "given"

    @property
    def judges(self) -> bool:
        return self.stage is not None and self.stage.judges


@dataclass(frozen=True)
class Edge:
    """From a row to a later one, along a lane in between; rows by number."""

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
        if stage.judges:
            # It measures every stage; only the latest of each line is worth an arrow.
            parents = [p for p in parents if not any(p in ancestors.get(other, ()) for other in parents)]
        rows.append(Row(stage.name, tuple(parents), stage))
    return rows


def depths(rows: Sequence[Row]) -> list[int]:
    """Of each row the length of the longest line that leads to it."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.name] = 1 + max((found[p] for p in row.parents if p in found), default=-1)
    return [found[row.name] for row in rows]


def lay_out(rows: Sequence[Row], places: Sequence[int] | None = None, both_sides: bool = False) -> Layout:
    """Give every row and edge a lane.

    A stage's own lane goes on to the child with the longest line of descendants; other children turn off
    it. Lines from one parent may run together, lines from different parents never do.

    Args:
        places: where along the lanes each row stands, its parents before it; a row may share its place. Its
            number when not given.
        both_sides: lines that pass by stages may do so on either side of the first lane.
    """
    place = list(places or range(len(rows)))
    index_of = {row.name: index for index, row in enumerate(rows)}
    parents = [
        sorted(p for name in row.parents if place[p := index_of[name]] < place[i])
        for i, row in enumerate(rows)
    ]
    heirs = _heirs(parents, place)
    taken: dict[tuple[int, int], int] = {}
    lanes = [0] * len(rows)
    edges: list[Edge] = []

    def fits(lane: int, start: int, end: int, owners: set[int]) -> bool:
        return all(taken.get((lane, at), -1) in {-1, *owners} for at in range(start, end))

    def free(start: int, end: int, owner: int, sides: bool = False) -> int:
        beyond = range(len(taken) + 1)
        order = [lane for n in beyond for lane in ((-n, n) if n else (0,))] if sides else beyond
        return next(lane for lane in order if fits(lane, start, end, {owner}))

    for index in sorted(range(len(rows)), key=lambda i: (place[i], i)):
        at, heir = place[index], heirs[index]
        end = place[heir] if heir is not None else at
        inherited = sorted((lanes[p], p) for p in parents[index] if heirs[p] == index)
        kept = (lane for lane, p in inherited if fits(lane, at, at + 1, {p}))
        lane = next(kept, None)
        if lane is None:
            lane = free(at, end + 1, index)
        lanes[index] = lane
        taken[lane, at] = index
        for passed in range(at + 1, end + 1):
            taken.setdefault((lane, passed), index)
        for start in parents[index]:
            own = (known for known in (lanes[start], lane) if fits(known, place[start] + 1, at, {start}))
            between = next(own, None)
            if between is None:
                between = free(place[start] + 1, at, start, both_sides)
            taken.update({(between, passed): start for passed in range(place[start] + 1, at)})
            edges.append(Edge(start, index, between))
    lowest = min([*lanes, *(edge.lane for edge in edges)], default=0)
    return Layout(
        [lane - lowest for lane in lanes],
        [Edge(edge.start, edge.end, edge.lane - lowest) for edge in edges],
    )


def _heirs(parents: list[list[int]], place: Sequence[int]) -> list[int | None]:
    """For each row the child with the longest line of descendants, the first of equals."""
    lengths = [0] * len(parents)
    heirs: list[int | None] = [None] * len(parents)
    for child in sorted(range(len(parents)), key=lambda i: (place[i], i), reverse=True):
        for parent in parents[child]:
            if lengths[child] + 1 >= lengths[parent]:
                lengths[parent], heirs[parent] = lengths[child] + 1, child
    return heirs
