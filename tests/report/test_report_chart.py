"""Charts: round ticks, honest thinning, numbers as people write them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.chart import Line, Panel, _thin, _trend, draw, ticks
from alloy.report.notation import count, duration, figure


@pytest.mark.parametrize(
    ("low", "high", "wanted", "expected"),
    [
        (0, 1, 4, [0, 0.25, 0.5, 0.75, 1]),
        (1, 120, 5, [25, 50, 75, 100]),
        (-0.3, 0.35, 4, [-0.2, 0, 0.2]),
        (0, 1000, 5, [0, 200, 400, 600, 800, 1000]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: int, expected: list[float]) -> None:
    assert ticks(low, high, wanted) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 6))
def test_ticks_lie_inside_and_are_about_as_many_as_wanted(low: float, width: float, wanted: int) -> None:
    found = ticks(low, low + width, wanted)
    slack = 1e-6 * (abs(low) + width)
    assert all(low - slack <= tick <= low + width + slack for tick in found)
    assert len(found) <= wanted + 1


def test_a_trend_keeps_a_straight_line_to_its_very_ends() -> None:
    line = [(float(x), 3.0 - 0.5 * x) for x in range(100)]
    assert _trend(line) == [(x, pytest.approx(y)) for x, y in line]


def test_a_trend_is_a_moving_average_in_the_middle() -> None:
    points = [(float(x), float(x % 2)) for x in range(64)]
    assert _trend(points)[30][1] == pytest.approx(sum((28 + i) % 2 for i in range(5)) / 5)


def test_a_short_line_is_left_as_it_is() -> None:
    points = [(0.0, 5.0), (1.0, 1.0), (2.0, 7.0)]
    assert _trend(points) == points
    assert _thin(points) == (points, [])


def test_thinning_keeps_the_mean_and_the_extremes() -> None:
    points = [(float(x), math.sin(x)) for x in range(1800)]
    thinned, spread = _thin(points)
    assert len(thinned) == 180
    assert sum(y for _, y in thinned) / 180 == pytest.approx(sum(y for _, y in points) / 1800)
    assert min(low for _, low, _ in spread) == min(y for _, y in points)
    assert max(high for _, _, high in spread) == max(y for _, y in points)


def test_points_are_drawn_where_the_axes_say() -> None:
    drawn = draw(Panel("t", [Line("a", [(0, 10.0), (10, 20.0)])]))
    line = re.search(r'class="line" points="([^"]+)"', drawn)
    assert line is not None
    (x0, y0), (x1, y1) = ([float(v) for v in pair.split(",")] for pair in line[1].split())
    left, top, right, bottom = (float(v) for v in re.search(r'data-plot="([^"]+)"', drawn)[1].split())  # type: ignore[index]
    assert (x0, x1) == (left, right)
    # 6% of the range is left free above and below.
    assert (y0 - top) / (bottom - top) == pytest.approx(1.06 / 1.12, abs=1e-3)
    assert (y1 - top) / (bottom - top) == pytest.approx(0.06 / 1.12, abs=1e-3)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-300, 2e-300], [1e300, -1e300], [5.0], [1e15, 1e15 + 1]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    drawn = draw(Panel("t", [Line("a", [(float(i), v) for i, v in enumerate(values)])]))
    assert "nan" not in drawn
    assert "inf" not in drawn


def names_of(drawn: str) -> list[str]:
    return re.findall(r'text-anchor="(?:middle|end)">([^<]+)</text>', drawn.split('y="154"', 1)[1])


@pytest.mark.parametrize(
    ("parts", "shown"),
    [(4, ["0", "25", "50", "75", "100"]), (16, ["0", "25", "50", "75", "100"]), (13, ["0", "100"])],
)
def test_names_are_as_many_as_have_room(parts: int, shown: list[str]) -> None:
    names = [f"{100 * i / parts:.3g}" for i in range(parts + 1)]
    drawn = draw(Panel("t", [Line("a", [(0.0, 3.0)])], names=names, bars=True))
    assert names_of(drawn) == shown


def test_bars_begin_at_0_and_are_counted_in_whole_numbers() -> None:
    drawn = draw(Panel("t", [Line("a", [(0.0, 2.0), (1.0, 1.0)])], names=["x", "y"], bars=True))
    assert re.findall(r'text-anchor="end">([^<]+)</text>', drawn) == ["0", "1", "2"]
    low, high = (float(v) for v in re.search(r'data-y="([^"]+)"', drawn)[1].split())  # type: ignore[index]
    assert (low, high) == pytest.approx((-0.12, 2.12))


def test_an_axis_holds_what_it_is_told_to() -> None:
    drawn = draw(Panel("t", [Line("a", [(0.0, 0.5), (1.0, 0.6)])], shares=True, holds=(0.0, 1.0)))
    assert 'data-y="-0.02 1.02"' in drawn


def test_a_chart_without_points_is_left_out() -> None:
    assert draw(Panel("t", [Line("a", [])])) == ""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.12345, "0.123"),
        (-2.5, "−2.5"),
        (1234.5, "1,234"),
        (1e-5, "1e−5"),
        (1.234e9, "1.23B"),
        (-2e20, "−2e20"),
    ],
)
def test_figures_have_three_digits(value: float, written: str) -> None:
    assert figure(value) == written


def test_counts_and_durations() -> None:
    assert [count(x) for x in (7, 1500, 1_234_567, 9e9)] == ["7", "1.5k", "1.23M", "9B"]
    assert [duration(x) for x in (3.4, 59.7, 3599.8, 7260)] == ["3 s", "1 min 0 s", "1 h 0 min", "2 h 1 min"]
