import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.errors import StageError
from merge.choose import (
    RULES,
    Objective,
    Point,
    best,
    pareto,
    smallest_within_one_standard_error,
    undominated,
)

PRODUCT = Objective()


def point(alpha: float, math_right: int, chat_right: int, items: int = 10) -> Point:
    scores = {
        "math": [1.0] * math_right + [0.0] * (items - math_right),
        "chat": [1.0] * chat_right + [0.0] * (items - chat_right),
    }
    return Point(alpha, scores)


def test_the_best_product_wins() -> None:
    # 0.8 * 0.3 = 0.24, 0.6 * 0.6 = 0.36, 0.2 * 0.9 = 0.18: neither end is best.
    points = [point(0.1, 8, 3), point(0.5, 6, 6), point(0.9, 2, 9)]
    assert best(points, PRODUCT).setting == 0.5
    assert PRODUCT.value(points[1]) == pytest.approx(0.36)
    assert points[0].means == {"math": 0.8, "chat": 0.3}


def test_a_weighted_sum_may_choose_otherwise() -> None:
    # 3:1 for math: 2.7 / 4, 2.4 / 4, 1.5 / 4; 1:3: 1.7 / 4, 2.4 / 4, 2.9 / 4.
    points = [point(0.1, 8, 3), point(0.5, 6, 6), point(0.9, 2, 9)]
    for_math, for_chat = Objective({"math": 3, "chat": 1}), Objective({"math": 0.5, "chat": 1.5})
    assert [for_math.value(p) for p in points] == pytest.approx([0.675, 0.6, 0.375])
    assert [for_chat.value(p) for p in points] == pytest.approx([0.425, 0.6, 0.725])
    assert [best(points, o).setting for o in (for_math, PRODUCT, for_chat)] == [0.1, 0.5, 0.9]
    assert (for_math.name, PRODUCT.name) == ("weighted sum", "product")


def test_of_equals_the_first_is_taken() -> None:
    points = [point(0.3, 6, 4), point(0.5, 4, 6), point(0.7, 4, 6)]
    assert all(rule(points, PRODUCT).setting == 0.3 for rule in RULES.values())


def test_the_standard_error_of_a_product_by_hand() -> None:
    # math 0.8 over 10 items: s^2 = 1.6 / 9; chat 0.5: s^2 = 2.5 / 9.
    # var = 0.5^2 * 1.6/90 + 0.8^2 * 2.5/90 = 0.4/90 + 1.6/90 = 2/90.
    assert PRODUCT.standard_error(point(0.5, 8, 5)) == pytest.approx(math.sqrt(2 / 90))
    assert PRODUCT.standard_error(Point(0.5, {"math": [0.5]})) == 0.0


def test_the_standard_error_of_a_weighted_sum_by_hand() -> None:
    # Shares 3/4 and 1/4: var = 9/16 * 1.6/90 + 1/16 * 2.5/90 = 16.9/1440.
    weighted = Objective({"math": 3, "chat": 1})
    assert weighted.standard_error(point(0.5, 8, 5)) == pytest.approx(math.sqrt(16.9 / 1440))


def test_the_smallest_alpha_within_one_standard_error() -> None:
    # Best 0.6 * 0.6 = 0.36 at 0.5; s^2 = 2.4/9 each; var = 2 * 0.36 * 2.4/90 = 0.0192, error 0.1386;
    # the bar is 0.2214. 0.24 at 0.3 passes it, 0.21 at 0.1 does not.
    points = [point(0.1, 7, 3), point(0.3, 8, 3), point(0.5, 6, 6), point(0.9, 5, 6)]
    assert smallest_within_one_standard_error(points, PRODUCT).setting == 0.3
    # With 1000 items the error is 0.0139, the bar 0.346: only the best itself passes.
    many = [point(0.3, 800, 300, 1000), point(0.5, 600, 600, 1000)]
    assert smallest_within_one_standard_error(many, PRODUCT).setting == 0.5
    # For math alone the best is 0.8 at 0.3, its error sqrt(0.16 / 9) = 0.133: 0.7 at 0.1 passes 0.667.
    assert smallest_within_one_standard_error(points, Objective({"math": 1, "chat": 0})).setting == 0.1


def test_dominated_points_by_hand() -> None:
    # (8, 3) and (6, 6) and (2, 9) trade; (6, 5) is below (6, 6); (5, 6) too; the second (6, 6) is no worse.
    points = [point(0.1, 8, 3), point(0.2, 6, 5), point(0.3, 6, 6), point(0.4, 5, 6), point(0.5, 6, 6)]
    points.append(point(0.9, 2, 9))
    assert [p.setting for p in undominated(points)] == [0.1, 0.3, 0.5, 0.9]


def test_the_smallest_greatest_loss_by_hand() -> None:
    # The best are 0.9 of math and 0.9 of chat. Losses: 0.6 at 0.1, 0.4 at 0.4, 0.5 at 0.5, 0.7 at 0.9.
    # The product would take 0.5: 0.32 against 0.35 there.
    points = [point(0.1, 9, 3), point(0.4, 5, 6), point(0.5, 4, 9), point(0.9, 2, 9)]
    assert pareto(points, PRODUCT).setting == 0.4
    assert best(points, PRODUCT).setting == 0.5


def test_equal_losses_go_to_the_higher_objective() -> None:
    # Both lose 0.3 at most, of 0.8 and of 0.9: 0.5 * 0.8 = 0.40 against 0.8 * 0.6 = 0.48.
    points = [point(0.1, 5, 8), point(0.5, 8, 6), point(0.6, 4, 9)]
    assert pareto(points, PRODUCT).setting == 0.5
    assert pareto(points, Objective({"math": 1, "chat": 9})).setting == 0.1


scores = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=4)


@given(st.lists(st.fixed_dictionaries({"math": scores, "chat": scores, "tools": scores}), min_size=1))
def test_whatever_is_chosen_by_an_objective_or_the_front_is_not_dominated(found: list) -> None:  # type: ignore[type-arg]
    points = [Point(float(n), each) for n, each in enumerate(found)]
    front = undominated(points)
    assert front
    assert pareto(points, PRODUCT) in front
    assert best(points, Objective({"math": 1, "chat": 2, "tools": 0.5})) in front


def test_every_rule_takes_the_only_point() -> None:
    only = point(0.4, 0, 0)
    assert all(rule([only], PRODUCT) is only for rule in RULES.values())


def test_scores_that_cannot_be_multiplied_are_refused() -> None:
    with pytest.raises(StageError, match=r"chat at 0\.5 has the score 1\.5: a score lies from 0 to 1"):
        Point(0.5, {"chat": [0.5, 1.5]})
    with pytest.raises(StageError, match=r"math at mlp=0\.5,other=0\.1: no item could be judged"):
        Point({"mlp": 0.5, "other": 0.1}, {"math": []})
    with pytest.raises(StageError, match="has the score nan"):
        Point(0.5, {"math": [float("nan")]})
