import math

import pytest

from alloy.errors import StageError
from merge.choose import RULES, Point, best_product, smallest_within_one_standard_error


def point(alpha: float, math_right: int, chat_right: int, items: int = 10) -> Point:
    scores = {
        "math": [1.0] * math_right + [0.0] * (items - math_right),
        "chat": [1.0] * chat_right + [0.0] * (items - chat_right),
    }
    return Point(alpha, scores)


def test_the_best_product_wins() -> None:
    # 0.8 * 0.3 = 0.24, 0.6 * 0.6 = 0.36, 0.2 * 0.9 = 0.18: neither end is best.
    points = [point(0.1, 8, 3), point(0.5, 6, 6), point(0.9, 2, 9)]
    assert best_product(points).alpha == 0.5
    assert points[1].product == pytest.approx(0.36)
    assert points[0].means == {"math": 0.8, "chat": 0.3}


def test_equal_products_go_to_the_smallest_alpha() -> None:
    points = [point(0.7, 4, 6), point(0.3, 6, 4), point(0.5, 4, 6)]
    assert best_product(points).alpha == 0.3


def test_the_standard_error_of_a_product_by_hand() -> None:
    # math 0.8 over 10 items: s^2 = 1.6 / 9; chat 0.5: s^2 = 2.5 / 9.
    # var = 0.5^2 * 1.6/90 + 0.8^2 * 2.5/90 = 0.4/90 + 1.6/90 = 2/90.
    assert point(0.5, 8, 5).standard_error == pytest.approx(math.sqrt(2 / 90))
    assert Point(0.5, {"math": [0.5]}).standard_error == 0.0


def test_the_smallest_alpha_within_one_standard_error() -> None:
    # Best 0.6 * 0.6 = 0.36 at 0.5; s^2 = 2.4/9 each; var = 2 * 0.36 * 2.4/90 = 0.0192, error 0.1386;
    # the bar is 0.2214. 0.24 at 0.3 passes it, 0.21 at 0.1 does not.
    points = [point(0.1, 7, 3), point(0.3, 8, 3), point(0.5, 6, 6), point(0.9, 5, 6)]
    assert smallest_within_one_standard_error(points).alpha == 0.3
    # With 1000 items the error is 0.0139, the bar 0.346: only the best itself passes.
    many = [point(0.3, 800, 300, 1000), point(0.5, 600, 600, 1000)]
    assert smallest_within_one_standard_error(many).alpha == 0.5


def test_every_rule_takes_the_only_point() -> None:
    only = point(0.4, 0, 0)
    assert all(rule([only]) is only for rule in RULES.values())


def test_scores_that_cannot_be_multiplied_are_refused() -> None:
    with pytest.raises(StageError, match=r"chat at alpha 0\.5 has the score 1\.5: a score lies from 0 to 1"):
        Point(0.5, {"chat": [0.5, 1.5]})
    with pytest.raises(StageError, match=r"math at alpha 0\.5: no item could be judged"):
        Point(0.5, {"math": []})
    with pytest.raises(StageError, match="has the score nan"):
        Point(0.5, {"math": [float("nan")]})
