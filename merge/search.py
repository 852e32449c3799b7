"""A search over alphas of groups, one group at a time: the others stay where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from merge.choose import Point


@dataclass(frozen=True)
class Step:
    """One group moved, or left where it was."""

    group: str
    before: float
    here: dict[str, float]
    """The alphas of all groups after it."""
    tried: list[Point]
    """In order of the group's alpha."""
    point: Point
    """The one that was chosen; the search goes on from it."""

    @property
    def after(self) -> float:
        return self.here[self.group]


def search(
    start: Point,
    groups: Sequence[str],
    alphas: Sequence[float],
    at: Callable[[dict[str, float]], Point],
    pick: Callable[[Sequence[Point]], Point],
    rounds: int,
) -> list[Step]:
    """Coordinate-wise: for one group after another all alphas are tried, and the rule picks among them.

    Ends after a round that moved nothing, or after `rounds`. The same points give the same path.

    Args:
        start: of one alpha for all groups, itself among `alphas`.
        alphas: in ascending order.
        at: the point of an alpha for every group.
        pick: the rule.
    """
    assert isinstance(start.setting, float)
    here = dict.fromkeys(groups, start.setting)
    path: list[Step] = []
    for _ in range(rounds):
        moved = False
        for group in groups:
            before = here[group]
            tried = [at({**here, group: alpha}) for alpha in alphas]
            point = pick(tried)
            here[group] = alphas[tried.index(point)]
            moved = moved or here[group] != before
            path.append(Step(group, before, dict(here), tried, point))
        if not moved:
            break
    return path
