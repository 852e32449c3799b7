from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.data.blend import Part, blend
from alloy.data.config import DataConfig, SourceConfig
from alloy.errors import InputError


def counts(chosen: Any, size: int) -> list[int]:
    return np.bincount(chosen, minlength=size).tolist()


def test_whole_epochs_repeat_and_a_fraction_is_a_random_part() -> None:
    lengths = np.full(10, 5)
    chosen = blend([Part("a", np.arange(10), 2.3)], lengths, "0")
    assert sorted(counts(chosen, 10)) == [2] * 7 + [3] * 3
    assert counts(chosen, 10) != counts(blend([Part("a", np.arange(10), 2.3)], lengths, "1"), 10)
    assert chosen.tolist() == blend([Part("a", np.arange(10), 2.3)], lengths, "0").tolist()


def test_all_of_one_and_a_share_of_the_rest() -> None:
    # 100 examples of 30 tokens are taken whole; a quarter of the blend is 1,000 tokens of the other.
    lengths = np.array([30] * 100 + [10] * 500)
    parts = [Part("tools", np.arange(100)), Part("rest", np.arange(100, 600), share=0.25)]
    chosen = blend(parts, lengths, "0")
    assert (chosen < 100).sum() == 100
    assert lengths[chosen[chosen >= 100]].sum() == 1000


def test_shares_of_everything_use_up_the_source_that_runs_out_first() -> None:
    lengths = np.array([10] * 100 + [10] * 1000)
    parts = [Part("small", np.arange(100), 3.0, 0.5), Part("large", np.arange(100, 1100), 1.0, 0.5)]
    chosen = blend(parts, lengths, "0")
    # The small one may be seen three times: 3,000 tokens, and as many of the large one.
    assert counts(chosen, 1100)[:100] == [3] * 100
    assert (chosen >= 100).sum() == 300
    assert len(set(chosen[chosen >= 100])) == 300


def test_a_share_that_there_is_not_enough_for() -> None:
    parts = [Part("tools", np.arange(100)), Part("rest", np.arange(100, 110), 2.0, 0.5)]
    with pytest.raises(InputError) as caught:
        blend(parts, np.full(110, 10), "0")
    assert str(caught.value) == (
        "data.sources: a share of 0.5 of rest is 1,000 tokens, and 2 epochs of it have 200. Allow it more epochs, or "
        "lower its share."
    )


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.05, 3)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.data(),
)
def test_shares_are_met_to_within_an_example(sizes: list[tuple[int, float]], seed: int, data: Any) -> None:
    total = sum(size for size, _ in sizes)
    lengths = np.array(data.draw(st.lists(st.integers(1, 9), min_size=total, max_size=total)))
    ends = np.cumsum([0, *(size for size, _ in sizes)])
    weights = np.array([weight for _, weight in sizes])
    shares = weights / weights.sum()
    parts = [
        Part(str(n), np.arange(ends[n], ends[n + 1]), 2.0, float(share)) for n, share in enumerate(shares)
    ]
    chosen = blend(parts, lengths, str(seed))
    possible = min(
        2 * lengths[part.examples].sum() / share for part, share in zip(parts, shares, strict=True)
    )
    for part, share in zip(parts, shares, strict=True):
        own = chosen[np.isin(chosen, part.examples)]
        assert abs(lengths[own].sum() - share * possible) <= 5  # half of the longest, rounded up
        assert np.bincount(own).max(initial=0) <= 2


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.7, 0.7], "the shares add up to 1.4: at most 1 is possible"),
        ([0.3, 0.3], "every source has a share and they add up to 0.6: make it 1"),
        ([1.0, None], "the shares leave nothing for the sources without one"),
    ],
)
def test_shares_that_cannot_be(shares: list[float | None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig(sources=[SourceConfig(environment="math", rows=1, share=share) for share in shares])


def test_weights_are_shares_of_their_sum() -> None:
    config = DataConfig.model_validate(
        {
            "sources": [
                {"environment": "math", "rows": 1, "weight": 3},
                {"environment": "chat", "rows": 1, "weight": 1},
            ]
        }
    )
    assert [(source.share, source.weight) for source in config.sources] == [(0.75, None), (0.25, None)]
    assert DataConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("second", [{}, {"share": 0.5}, {"weight": 0}, {"weight": "x"}])
def test_weights_for_some_only(second: dict[str, Any]) -> None:
    sources = [{"environment": "math", "rows": 1, "weight": 3}, {"environment": "chat", "rows": 1, **second}]
    with pytest.raises(ValueError, match="give a positive weight to all sources and no share"):
        DataConfig.model_validate({"sources": sources})
