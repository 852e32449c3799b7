"""The search over groups on a landscape that is known in closed form."""

import pytest

from merge.choose import Objective, Point, best
from merge.search import search

ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]
PRODUCT = Objective()


def landscape(alphas: dict[str, float]) -> float:
    """Highest where attention is 0.25 and mlp 0.75; the two pull at each other a little."""
    a, m = alphas["attention"], alphas["mlp"]
    return 0.9 - (a - 0.25) ** 2 - (m - 0.75) ** 2 - 0.5 * (a - 0.25) * (m - 0.75)


class Landscape:
    def __init__(self) -> None:
        self.asked: list[dict[str, float]] = []

    def at(self, alphas: dict[str, float]) -> Point:
        self.asked.append(alphas)
        return Point(alphas, {"math": [landscape(alphas)]})


def start(alpha: float) -> Point:
    return Point(alpha, {"math": [landscape({"attention": alpha, "mlp": alpha})]})


def test_one_group_after_another_climbs_by_hand() -> None:
    known = Landscape()
    path = search(start(0.5), ["attention", "mlp"], ALPHAS, known.at, lambda p: best(p, PRODUCT), rounds=3)
    # With mlp at 0.5: 0.9 - x^2 - 0.0625 + 0.125 x, x = attention - 0.25: 0.8375 at 0, 0.80625 at 0.25.
    # Then mlp is best at 0.75, and a second round moves nothing: three rounds are not needed.
    assert [(s.group, s.before, s.after) for s in path] == [
        ("attention", 0.5, 0.25),
        ("mlp", 0.5, 0.75),
        ("attention", 0.25, 0.25),
        ("mlp", 0.75, 0.75),
    ]
    assert [s.here for s in path][1] == {"attention": 0.25, "mlp": 0.75}
    assert PRODUCT.value(path[0].point) == pytest.approx(0.8375)
    assert PRODUCT.value(path[-1].point) == pytest.approx(0.9)
    assert known.asked[:5] == [{"attention": alpha, "mlp": 0.5} for alpha in ALPHAS]
    worth = [PRODUCT.value(s.point) for s in path]
    assert worth == sorted(worth)


def test_rounds_bound_the_search() -> None:
    known = Landscape()
    path = search(start(1.0), ["mlp", "attention"], ALPHAS, known.at, lambda p: best(p, PRODUCT), rounds=1)
    assert [s.group for s in path] == ["mlp", "attention"]
    assert len(known.asked) == 10
