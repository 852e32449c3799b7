from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.data.packing import Bins, best_fit, next_fit, one_each


def as_lists(bins: Bins) -> list[list[int]]:
    return [bins[number].tolist() for number in range(len(bins))]


LENGTHS = st.lists(st.integers(1, 50), max_size=80)


@given(LENGTHS, st.integers(50, 120), st.sampled_from([best_fit, next_fit]))
def test_every_example_once_and_no_bin_too_full(lengths: list[int], capacity: int, fit: Any) -> None:
    bins = as_lists(fit(lengths, capacity))
    assert sorted(index for chosen in bins for index in chosen) == list(range(len(lengths)))
    assert all(chosen and sum(lengths[i] for i in chosen) <= capacity for chosen in bins)


@given(LENGTHS, st.integers(50, 120))
def test_best_fit_opens_a_bin_only_where_none_has_room(lengths: list[int], capacity: int) -> None:
    bins = as_lists(best_fit(lengths, capacity))
    # Decreasing: a bin's first example found no room in any earlier bin as it stood then, which held
    # only examples at least as long.
    for number, chosen in enumerate(bins):
        first = lengths[chosen[0]]
        for earlier in bins[:number]:
            at_least_as_long = sum(lengths[i] for i in earlier if (-lengths[i], i) < (-first, chosen[0]))
            assert at_least_as_long + first > capacity
    # Any two bins but the last would otherwise have been one: no more than twice the optimum, and
    # for best-fit-decreasing at most 11/9 of it and one more.
    lower = -(-sum(lengths) // capacity)
    assert len(bins) <= max(1, 2 * lower) or not lengths


def test_best_fit_takes_the_tightest_bin() -> None:
    # 7 opens bin 0 (3 left), 5 bin 1 (5 left), 4 fits bin 1 alone, 3 fits bin 0 exactly, 1 fits bin 1.
    assert as_lists(best_fit([5, 7, 3, 4, 1], 10)) == [[1, 2], [0, 3, 4]]


def test_best_fit_fills_sequences_of_short_examples() -> None:
    lengths = [20 + (7 * n) % 41 for n in range(1000)]
    bins = best_fit(lengths, 192)
    assert sum(lengths) / (len(bins) * 192) > 0.97
    assert len(next_fit(lengths, 192)) > len(bins)


def test_next_fit_keeps_the_order() -> None:
    assert as_lists(next_fit([4, 4, 4, 1], 9)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("fit", [best_fit, next_fit])
def test_an_example_longer_than_a_sequence(fit: Any) -> None:
    with pytest.raises(ValueError, match="an example of 11 tokens does not fit into 10"):
        fit([3, 11], 10)


@pytest.mark.parametrize("fit", [best_fit, next_fit, one_each])
def test_no_example_and_an_empty_example(fit: Any) -> None:
    assert as_lists(fit([], 10)) == []
    with pytest.raises(ValueError, match="an example without tokens has no place"):
        fit([3, 0], 10)


def test_a_million_lengths_fill_their_sequences() -> None:
    """Log-normal, median 4,000, 5% above 40,000, into 131,072; the time is measured in bench/."""
    spread = np.log(10) / 1.6449
    drawn = np.random.default_rng(0).lognormal(np.log(4000), spread, 1_000_000)
    lengths = np.clip(drawn.astype(np.int64), 1, 131_072)
    bins = best_fit(lengths, 131_072)
    assert np.array_equal(np.sort(bins.items), np.arange(1_000_000))
    sums = np.add.reduceat(lengths[bins.items], bins.starts[:-1])
    assert sums.max() <= 131_072
    assert lengths.sum() / (len(bins) * 131_072) > 0.999
