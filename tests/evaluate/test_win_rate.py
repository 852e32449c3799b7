"""Win rates by hand, and length control against cases whose answer is known."""

import math
import random

import pytest

from alloy.evaluate.win_rate import win_rate


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def shares(*groups: tuple[float, float, int]) -> tuple[list[float], list[float]]:
    """(share that wins, longer by, prompts) as single preferences."""
    wins: list[float] = []
    by: list[float] = []
    for share, longer, count in groups:
        won = round(share * count)
        wins += [1.0] * won + [0.0] * (count - won)
        by += [longer] * count
    return wins, by


def test_what_length_won_is_taken_out() -> None:
    # Longer by 10 it wins 90%, shorter by 10 50%. The standard deviation is 10, so the two stand at +-tanh(1)
    # and the regression goes through both: at 0 the logit is their mean, of 0.9 and 0.5, which is 0.75.
    wins, by = shares((0.9, 10, 500), (0.5, -10, 500))
    found = win_rate(wins, by, resamples=400)
    assert found.plain.value == pytest.approx(0.7)
    assert found.controlled.value == pytest.approx(0.75, abs=1e-3)
    assert found.controlled.low < 0.75 < found.controlled.high
    assert found.controlled.n == 1000


def test_a_model_that_only_writes_more_is_no_better() -> None:
    """Preferred by length alone, and longer in four of five: it wins 74%, and at equal length half."""
    wins, by = shares((0.9, 10, 800), (0.1, -10, 200))
    found = win_rate(wins, by, resamples=400)
    assert found.plain.value == pytest.approx(0.74)
    # The deviation of 800 times 10 and 200 times -10 is 8.
    t = math.tanh(10 / 8)
    assert logit(0.9) / t == pytest.approx(-logit(0.1) / t)
    assert found.controlled.value == pytest.approx(0.5, abs=1e-3)
    assert found.plain.low > 0.7
    assert found.controlled.low < 0.5 < found.controlled.high


def test_without_differences_of_length_there_is_nothing_to_control() -> None:
    found = win_rate([1.0, 0.0, 1.0, 0.5], [3.0] * 4)
    assert found.controlled == found.plain
    assert found.plain.value == 0.625


def test_a_taste_that_is_independent_of_length_changes_nothing() -> None:
    rng = random.Random(0)
    wins = [float(rng.random() < 0.6) for _ in range(2000)]
    found = win_rate(wins, [rng.gauss(0, 20) for _ in wins])
    assert found.controlled.value == pytest.approx(found.plain.value, abs=0.01)
    assert found.controlled.high - found.controlled.low == pytest.approx(
        found.plain.high - found.plain.low, rel=0.1
    )


def test_a_model_that_always_wins_has_a_rate_below_one_and_no_error() -> None:
    found = win_rate([1.0] * 50, [float(n % 7 - 3) for n in range(50)], resamples=100)
    assert 0.97 < found.controlled.value < 1.0
    assert 0.97 < found.controlled.low <= found.controlled.high < 1.0


def test_the_two_models_exchanged_have_the_rest() -> None:
    rng = random.Random(1)
    by = [rng.gauss(2, 5) for _ in range(300)]
    wins = [float(rng.random() < 1 / (1 + math.exp(-0.3 - 0.2 * b))) for b in by]
    ours = win_rate(wins, by, resamples=50)
    theirs = win_rate([1 - w for w in wins], [-b for b in by], resamples=50)
    assert ours.controlled.value + theirs.controlled.value == pytest.approx(1.0)
    # The truth at equal length is sigmoid(0.3) = 0.574.
    assert ours.controlled.value == pytest.approx(0.574, abs=0.06)


def test_intervals_cover() -> None:
    """Of 60 samples of 150 prompts, the 90% interval has the truth in about 54."""
    covered = 0
    for seed in range(60):
        rng = random.Random(seed)
        by = [rng.choice((-8.0, 8.0)) for _ in range(150)]
        # At +-tanh(1) when the deviation is 8: a = 0.4, b = 0.9.
        wins = [float(rng.random() < 1 / (1 + math.exp(-0.4 - 0.9 * math.tanh(b / 8)))) for b in by]
        found = win_rate(wins, by, resamples=200, confidence=0.9).controlled
        covered += found.low <= 1 / (1 + math.exp(-0.4)) <= found.high
    assert 46 <= covered <= 60


@pytest.mark.parametrize(
    ("wins", "by", "told"),
    [([1.0], [1.0, 2.0], "1 preferences, but 2 lengths"), ([], [], "no scores"), ([2.0, 1.0], [1.0, 0.0], "0 to 1")],
)  # fmt: skip
def test_what_makes_no_win_rate(wins: list[float], by: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        win_rate(wins, by)
