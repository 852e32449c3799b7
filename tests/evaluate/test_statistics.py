"""Intervals and tests against analytic oracles, simulation and numbers worked out by hand."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.evaluate.statistics import (
    Interval,
    item_means,
    mean_interval,
    paired_difference,
    paired_product_difference,
    paired_test,
    product_interval,
    weighted_interval,
)

score_lists = st.lists(st.floats(-5, 5, allow_nan=False), min_size=1, max_size=30)


def test_an_interval_prints_as_percent() -> None:
    interval = Interval(0.62, 0.555, 0.685, 200)
    assert str(interval) == "62.0 [55.5, 68.5]"
    assert interval.percent(0) == "62 [56, 68]"


@pytest.mark.parametrize(
    ("interval", "excludes_zero"),
    [
        (Interval(0.1, 0.01, 0.2, 50), True),
        (Interval(-0.1, -0.2, -0.01, 50), True),
        (Interval(0.1, 0.0, 0.2, 50), False),
        (Interval(0.1, -0.1, 0.3, 50), False),
        (Interval(1.0, 1.0, 1.0, 1), False),
    ],
)
def test_zero_is_excluded_only_by_an_interval_beside_it(interval: Interval, excludes_zero: bool) -> None:
    assert interval.excludes() is excludes_zero


def test_excludes_takes_any_point() -> None:
    assert Interval(0.6, 0.55, 0.65, 100).excludes(0.5)
    assert not Interval(0.6, 0.55, 0.65, 100).excludes(0.55)


def test_a_large_sample_agrees_with_the_normal_interval() -> None:
    scores = (np.arange(4000) < 1200).astype(float)
    half = 1.959964 * math.sqrt(0.3 * 0.7 / 4000)
    interval = mean_interval(scores, resamples=8000)
    assert interval.value == pytest.approx(0.3)
    assert interval.low == pytest.approx(0.3 - half, abs=0.05 * half)
    assert interval.high == pytest.approx(0.3 + half, abs=0.05 * half)
    assert interval.n == 4000


def test_confidence_widens_as_the_normal_quantile_does() -> None:
    scores = np.random.default_rng(1).normal(size=3000)
    narrow, wide = (mean_interval(scores, resamples=8000, confidence=c) for c in (0.8, 0.95))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(1.959964 / 1.281552, rel=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = sum(
        not mean_interval(rng.random(120) < 0.4, resamples=500, seed=seed).excludes(0.4)
        for seed in range(400)
    )
    # 400 trials at 0.95 have a standard error of 0.011; the percentile bootstrap is a little narrow.
    assert 0.915 <= hits / 400 <= 0.98


def test_samples_of_one_item_are_no_new_items() -> None:
    rng = np.random.default_rng(3)
    per_item = (rng.random(100) < 0.5).astype(float)
    alone = mean_interval(per_item)
    eightfold = mean_interval(np.repeat(per_item, 8), clusters=np.repeat(np.arange(100), 8).tolist())
    assert eightfold == alone
    taken_for_items = mean_interval(np.repeat(per_item, 8))
    ratio = (alone.high - alone.low) / (taken_for_items.high - taken_for_items.low)
    assert ratio == pytest.approx(math.sqrt(8), rel=0.1)


def test_every_item_counts_once_however_many_samples_it_has() -> None:
    interval = mean_interval([1, 1, 1, 0], clusters=["a", "a", "a", "b"])
    assert (interval.value, interval.n) == (0.5, 2)


def test_item_means_keep_the_order_of_first_appearance() -> None:
    assert item_means([1, 0, 4, 0], clusters=["z", "a", "z", "b"]).tolist() == [2.5, 0, 0]


def test_two_items_have_three_bootstrap_means() -> None:
    # Means 0, 0.5 and 1 with chances 1/4, 1/2 and 1/4: both 2.5% tails lie on the outer ones.
    assert mean_interval([0, 1]) == Interval(0.5, 0.0, 1.0, 2)
    assert mean_interval([0, 1], confidence=0.4) == Interval(0.5, 0.5, 0.5, 2)


@pytest.mark.parametrize("scores", [[1.0], [0.1], [0.1] * 7, [0.7] * 30, [0.0] * 5])
def test_equal_scores_have_an_interval_without_width(scores: list[float]) -> None:
    interval = mean_interval(scores)
    assert interval.value == pytest.approx(scores[0])
    assert interval.low == interval.value == interval.high
    assert interval.n == len(scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no scores: a mean needs at least one item"),
        (([0.5, math.nan],), r"scores\[1\] is nan: leave out what could not be judged"),
        (([math.inf],), r"scores\[0\] is inf"),
        (([[1.0]],), "scores have 2 dimensions"),
        (([1.0, 0.0], ["a"]), "2 scores but 1 clusters"),
        (([1.0], None, 0), "resamples = 0"),
        (([1.0], None, 10, 1.0), "confidence = 1.0"),
    ],
)
def test_wrong_arguments_are_told(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(*arguments)


@pytest.mark.parametrize("function", [paired_difference, paired_test])
def test_a_pair_needs_the_same_items(function) -> None:
    with pytest.raises(ValueError, match="2 scores against 3: a pair needs the same items"):
        function([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="no scores"):
        function([], [])


@settings(max_examples=40, deadline=None)
@given(score_lists, st.integers(0, 5))
def test_one_seed_gives_one_answer_within_the_range_of_the_scores(scores: list[float], seed: int) -> None:
    interval = mean_interval(scores, resamples=100, seed=seed)
    assert interval == mean_interval(scores, resamples=100, seed=seed)
    assert min(scores) - 1e-9 <= interval.low <= interval.high <= max(scores) + 1e-9


@settings(max_examples=40, deadline=None)
@given(score_lists, st.floats(-3, 3), st.floats(0.1, 10))
def test_shifting_and_scaling_scores_moves_the_interval_along(
    scores: list[float], shift: float, scale: float
) -> None:
    before = mean_interval(scores, resamples=100)
    after = mean_interval(scale * np.array(scores) + shift, resamples=100)
    for name in ("value", "low", "high"):
        assert getattr(after, name) == pytest.approx(scale * getattr(before, name) + shift, abs=1e-9)


def test_another_seed_draws_other_items() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    assert mean_interval(scores, seed=1) != mean_interval(scores, seed=2)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.normal(size=300)
    parents = difficulty + rng.normal(scale=0.1, size=300)
    ours = difficulty + 0.05 + rng.normal(scale=0.1, size=300)
    interval = paired_difference(ours, parents)
    half = 1.959964 * np.std(ours - parents) / math.sqrt(300)
    assert interval.value == pytest.approx(np.mean(ours) - np.mean(parents))
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert interval.excludes()
    assert not Interval(
        interval.value, *(interval.value + s * np.std(ours) / 8.8 for s in (-1, 1)), 300
    ).excludes()


def test_a_difference_to_itself_is_nothing() -> None:
    scores = [0.1, 0.7, 1.0, 0.3]
    assert paired_difference(scores, scores) == Interval(0.0, 0.0, 0.0, 4)
    assert paired_test(scores, scores) == 1.0


def test_paired_difference_is_clustered_by_item() -> None:
    ours, parents = [1, 1, 0, 1], [0, 0, 0, 1]
    interval = paired_difference(ours, parents, clusters=["a", "a", "b", "b"])
    assert (interval.value, interval.n) == (0.5, 2)


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    # Two tails of a fair coin: 2 * (1 + 10 + 45) / 1024, 2 * 1 / 2 ** 6, at most 1.
    [(8, 2, 0.109375), (0, 6, 0.03125), (5, 5, 1.0), (1, 0, 1.0), (3, 1, 0.625)],
)
def test_binary_scores_are_tested_by_mcnemar(wins: int, losses: int, expected: float) -> None:
    ours = [1] * wins + [0] * losses + [1] * 9 + [0] * 9
    parents = [0] * wins + [1] * losses + [1] * 9 + [0] * 9
    assert paired_test(ours, parents) == pytest.approx(expected, abs=1e-15)


def test_mcnemar_stands_thousands_of_discordant_items() -> None:
    count, wins = 20_000, 10_200
    p = paired_test([1] * wins + [0] * (count - wins), [0] * wins + [1] * (count - wins))
    z = (2 * wins - count - 1) / math.sqrt(count)
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert paired_test([1] * count, [0] * count) == 0.0


def test_few_differing_items_are_counted_pattern_by_pattern() -> None:
    # |+-1 +-2 +-4| >= 7 for 2 of 8 patterns; >= 5 for 4 of 8.
    assert paired_test([1, 2, 4], [0, 0, 0]) == 0.25
    assert paired_test([0, 2, 4], [1, 0, 0]) == 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_the_exact_test_agrees_with_counting_by_hand(differences: list[int]) -> None:
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in
            itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    expected = sum(abs(total) >= abs(sum(differences)) for total in sums) / len(sums)
    assert paired_test(differences, [0] * len(differences)) == pytest.approx(expected)


def test_drawn_patterns_agree_with_the_normal_tail() -> None:
    differences = np.random.default_rng(2).normal(0.1, 1, size=400)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    expected = math.erfc(z / math.sqrt(2))
    p = paired_test(differences, np.zeros(400), resamples=20_000)
    assert p == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))
    assert p == paired_test(differences, np.zeros(400), resamples=20_000)


def test_a_drawn_p_is_never_zero() -> None:
    assert paired_test(np.linspace(1, 2, 100), np.zeros(100), resamples=999) == 0.001


def test_equal_policies_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(11)
    rejected = sum(
        paired_test(rng.normal(size=40), rng.normal(size=40), resamples=400, seed=seed) <= 0.05
        for seed in range(300)
    )
    assert 0.015 <= rejected / 300 <= 0.09


def test_the_product_interval_agrees_with_the_delta_method() -> None:
    math_scores = np.arange(1000) < 600
    chat_scores = np.arange(500) < 400
    deviation = math.sqrt(0.8**2 * 0.24 / 1000 + 0.6**2 * 0.16 / 500)
    interval = product_interval(math_scores, chat_scores, resamples=8000)
    assert interval.value == pytest.approx(0.48)
    assert interval.low == pytest.approx(0.48 - 1.96 * deviation, abs=0.1 * deviation)
    assert interval.high == pytest.approx(0.48 + 1.96 * deviation, abs=0.1 * deviation)
    assert interval.n == 1500


def test_the_product_of_single_items_is_their_product() -> None:
    assert product_interval([0.5], [0.25]) == Interval(0.125, 0.125, 0.125, 2)


def test_the_product_difference_agrees_with_the_delta_method() -> None:
    rng = np.random.default_rng(9)
    a1, a2 = rng.random(800) < 0.7, rng.random(400) < 0.6
    b1, b2 = a1 & (rng.random(800) < 0.9), a2 | (rng.random(400) < 0.1)
    # The gradient of the difference: each suite's item counts with the other suite's mean.
    first = a2.mean() * a1 - b2.mean() * b1
    second = a1.mean() * a2 - b1.mean() * b2
    deviation = math.sqrt(first.var() / 800 + second.var() / 400)
    interval = paired_product_difference(a1, b1, a2, b2, resamples=8000)
    assert interval.value == pytest.approx(a1.mean() * a2.mean() - b1.mean() * b2.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * deviation, rel=0.06)
    assert interval.n == 1200


def test_the_product_difference_pairs_the_policies_item_by_item() -> None:
    scores_1, scores_2 = [0, 1, 1, 0, 1], [1, 0, 1]
    same = paired_product_difference(scores_1, scores_1, scores_2, scores_2)
    assert same == Interval(0.0, 0.0, 0.0, 8)
    with pytest.raises(ValueError, match="5 scores against 3"):
        paired_product_difference(scores_1, scores_2, scores_2, scores_2)


def test_a_suite_of_thousands_is_quick() -> None:
    start = time.perf_counter()
    interval = mean_interval(np.arange(20_000) % 2)
    assert interval.excludes(0.49)
    assert time.perf_counter() - start < 5


def test_shares_of_several_things_are_pooled_and_items_are_resampled() -> None:
    # 1 of 3 and 1 of 1: two of four, not the mean of the shares.
    found = weighted_interval([1 / 3, 1.0], [3, 1])
    assert (found.value, found.n) == (0.5, 2)
    assert (found.low, found.high) == (pytest.approx(1 / 3), 1.0)
    rng = np.random.default_rng(0)
    scores = rng.random(200)
    equal, plain = weighted_interval(scores, np.full(200, 7.0)), mean_interval(scores)
    for name in ("value", "low", "high"):
        assert getattr(equal, name) == pytest.approx(getattr(plain, name))


def test_the_ratio_s_interval_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(1, 4, 3000).astype(float)
    scores = rng.binomial(weights.astype(int), 0.6) / weights
    found = weighted_interval(scores, weights, resamples=4000)
    residuals = weights * (scores - found.value) / weights.mean()
    half = 1.959964 * residuals.std() / math.sqrt(3000)
    assert found.value == pytest.approx((weights * scores).sum() / weights.sum())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_samples_share_their_item_s_weight() -> None:
    alone = weighted_interval([0.5, 1.0], [2, 4])
    twice = weighted_interval([0.5, 0.5, 1.0, 1.0], [2, 2, 4, 4], clusters=["a", "a", "b", "b"])
    assert twice == alone


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2]])
def test_weights_that_weigh_nothing(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights: one is negative, or all are 0"):
        weighted_interval([0.5, 0.5], weights)
