"""What a curriculum drew from and drew: counts, what is left out, and what was won."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.curriculum import curriculum, histogram, profiles_of
from alloy.report.record import Series, Stage

DROPS = {"drop_solved": True, "drop_unsolved": False, "follow": False}


def profile(rates: dict[str, list[Any]], step: Any = 0, rollouts: Any = 4) -> dict[str, Any]:
    named = {label: {f"{label}/{i}": rate for i, rate in enumerate(found)} for label, found in rates.items()}
    return {"step": step, "rollouts": rollouts, "seconds": 1.0, "rates": named}


def stage(*profiles: dict[str, Any], **settings: Any) -> Stage:
    return Stage(
        "grpo", Path("grpo"), profiles=list(profiles), settings={"curriculum": {**DROPS, **settings}}
    )


def heights(drawn: str, chart: int = 0) -> list[list[tuple[float, float, bool]]]:
    """(x, height, outlined) of the bars of each line of a chart."""
    figure = re.findall(r"<figure.*?</figure>", drawn)[chart]
    lines = re.findall(r'<g class="s\d">(.*?)</g>', figure)
    bars = r'<rect( class="hollow")? x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"'
    return [
        [(float(x), float(height), bool(hollow)) for hollow, x, height in re.findall(bars, line)]
        for line in lines
    ]


def test_a_histogram_counts_the_tasks_at_each_rate() -> None:
    rates = [0.0, 0.0, 0.25, 0.5, 0.5, 0.5, 1.0]
    assert histogram(rates, 4) == [2, 1, 3, 0, 1]


def test_only_what_was_never_or_always_passed_stands_at_the_ends() -> None:
    """An outcome of 0.05 is not never passed, and one of 0.95 would not be left out as solved."""
    assert histogram([0.05, 0.95, 0.6], 4) == [0, 1, 1, 1, 0]


@given(st.lists(st.floats(0, 1), max_size=50), st.integers(2, 20))
def test_every_task_stands_somewhere(rates: list[float], parts: int) -> None:
    counts = histogram(rates, parts)
    assert sum(counts) == len(rates)
    assert counts[0] == sum(rate == 0 for rate in rates)
    assert counts[-1] == sum(rate == 1 for rate in rates)


def test_bars_are_as_high_as_their_counts() -> None:
    drawn = curriculum(stage(profile({"math": [0, 0, 0, 0, 0.25, 0.25, 1]})))
    (bars,) = heights(drawn)
    assert len(bars) == 3, "a place without a task has no bar"
    assert [height / bars[2][1] for _, height, _ in bars] == pytest.approx([4, 2, 1], abs=0.02)
    # The script reads every count, those without a bar as well.
    points = re.search(r'class="line apart" points="([^"]+)"', drawn)
    assert points is not None
    assert len(points[1].split()) == 5


def test_bars_of_several_profiles_stand_side_by_side() -> None:
    first, second = heights(curriculum(stage(profile({"m": [0, 1]}), profile({"m": [0, 1]}, step=20))))
    assert [hollow for _, _, hollow in first] == [False, True]
    (a, _, _), (b, _, _) = first
    (c, _, _), (d, _, _) = second
    assert a < c < b < d
    assert c - a == pytest.approx(d - b, abs=0.11)


def test_what_is_left_out_is_told_and_outlined() -> None:
    rates = {"math": [0.0, 0.0, 0.5, 1.0, 1.0, 1.0], "tools": [0.0, 0.25], "near": [0.99, 0.01]}
    text = curriculum(stage(profile(rates)))
    assert "mean 58.3, 3 left out" in text
    assert "mean 12.5, 0 left out" in text
    assert "mean 50.0, 0 left out" in text
    assert "Tasks that were always passed are left out of the draw: their bars are outlined." in text
    both = curriculum(stage(profile(rates), drop_unsolved=True))
    assert "mean 58.3, 5 left out" in both
    assert "mean 12.5, 1 left out" in both
    assert "mean 50.0, 0 left out" in both
    assert [[hollow for *_, hollow in bars] for bars in heights(both)] == [[True, False, True]]
    none = curriculum(stage(profile(rates), drop_solved=False))
    assert "None is left out of the draw." in none
    assert "hollow" not in none


def test_where_none_would_remain_all_stay() -> None:
    text = curriculum(stage(profile({"math": [1.0, 1.0], "tools": [0.5, 1.0]})))
    assert "mean 100.0, 0 left out" in text
    assert "Where none would remain, all stay: math (parent)." in text
    assert heights(text, 0)[0][0][2] is False
    assert heights(text, 1)[0][1][2] is True


def test_nothing_is_said_to_be_outlined_where_nothing_is() -> None:
    text = curriculum(stage(profile({"math": [0.0, 0.5]})))
    assert "always passed are left out of the draw; there was none to leave out." in text


def test_a_config_that_does_not_say_what_is_dropped_is_not_guessed() -> None:
    bare = Stage("grpo", Path("grpo"), profiles=[profile({"math": [0.0, 1.0]})])
    text = curriculum(bare)
    assert "Its config does not say which of them it leaves out." in text
    assert "left out</b>" not in text
    assert ">mean 50.0</b>" in text


def test_when_tasks_were_profiled_is_told() -> None:
    rates = {"math": [0.5]}
    assert "grpo rolled every task out 4 times before training." in curriculum(stage(profile(rates)))
    again = curriculum(stage(profile(rates, 40), profile(rates), profile(rates, 20)))
    assert "4 times before training and again at steps 20 and 40." in again
    once = curriculum(stage(profile(rates, 20, rollouts=1)))
    assert "grpo rolled every task out 1 time at step 20." in once
    unknown = curriculum(stage(profile(rates, rollouts="x")))
    assert "grpo rolled every task out before training." in unknown
    follow = curriculum(stage(profile(rates), follow=True))
    assert "takes the pass rate of its latest group: it may leave the draw or come back." in follow


def test_of_many_profiles_the_chart_shows_some_and_the_numbers_all() -> None:
    text = curriculum(stage(*(profile({"math": [0.5]}, step) for step in range(0, 100, 10))))
    assert len(heights(text)) == 4
    assert re.findall(r"<span>([^<]+)</span>", text) == ["parent", "step 30", "step 60", "step 90"]
    assert "The charts show 4 of these 10." in text
    assert text.count("<td>math</td>") == 10


def test_the_numbers_have_every_count() -> None:
    text = curriculum(stage(profile({"math": [0, 0, 0.25, 1]})))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert cells == ["math", "parent", "4", "31.2", "2", "1", "0", "0", "1", "1"]
    assert "<th scope=col class=n>at 25</th>" in text


def test_one_rollout_has_no_rates_between() -> None:
    text = curriculum(stage(profile({"math": [0, 1, 0.4]}, rollouts=1)))
    assert "<th scope=col class=n>at between</th>" in text
    assert re.findall(r"<td[^>]*>([^<]*)</td>", text)[4:7] == ["1", "1", "1"]


def test_many_rollouts_share_places() -> None:
    drawn = curriculum(stage(profile({"math": [i / 200 for i in range(201)]}, rollouts=200)))
    (bars,) = heights(drawn)
    assert len(bars) == 21
    assert ">100</text>" in drawn


def test_what_is_no_pass_rate_is_passed_over() -> None:
    broken = profile({"math": [0.5, "x", None, True, 1e308, -3, float("nan")], "tools": ["x"]}, step="y")
    (found,) = profiles_of(stage(broken, {"rates": 3}, {"rates": {"math": [1]}}))
    assert (found.rates, found.name) == ({"math": [0.5]}, "parent")


def logged(**values: list[float]) -> dict[str, Series]:
    return {name.replace("__", "/"): Series([1.0, 2.0], found) for name, found in values.items()}


def test_target_draw_and_reward_have_a_chart_an_environment() -> None:
    log = logged(
        curriculum__tools__target=[0.75, 0.25],
        curriculum__tools__pass_rate=[0.7, 0.3],
        rewards__tools__mean=[0.4, 0.6],
        curriculum__math__target=[0.75, 0.25],
        rewards__chat__mean=[0.1, 0.2],
    )
    drawn = curriculum(Stage("grpo", Path("grpo"), logs={"": log}))
    assert re.findall(r'aria-label="([^"]+)"', drawn) == ["math: over steps", "tools: over steps"]
    tools = drawn[drawn.index("tools: over steps") :]
    told = re.findall(r'<span>([^<]+)</span><b data-last="([^"]+)">', tools)
    assert told == [("target", "25.0"), ("drawn", "30.0"), ("reward won", "60.0")]
    # Pass rates are drawn on the whole of their range.
    assert 'data-y="-0.02 1.02"' in tools


def test_a_reward_past_1_is_written_as_it_is() -> None:
    log = logged(curriculum__math__target=[0.75, 0.25], rewards__math__mean=[0.4, 1.5])
    drawn = curriculum(Stage("grpo", Path("grpo"), logs={"": log}))
    assert re.findall(r'data-last="([^"]+)"', drawn) == ["0.25", "1.5"]


def test_a_stage_without_a_curriculum_has_none() -> None:
    assert curriculum(Stage("sft", Path("sft"), logs={"": logged(loss=[1.0, 2.0])})) == ""
