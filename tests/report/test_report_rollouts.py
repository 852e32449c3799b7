"""Completions cut into thinking and answer, and carried into the page unharmed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.curves import panels
from alloy.report.record import Series, Stage
from alloy.report.rollouts import embed, split_thinking, spread


@pytest.mark.parametrize(
    ("completion", "pieces"),
    [
        ("4", [("answer", "4")]),
        ("<think>2+2</think>\n4", [("thinking", "2+2"), ("answer", "4")]),
        ("2+2\n</think>\n4", [("thinking", "2+2"), ("answer", "4")]),
        ("<think>2+2", [("thinking, never closed", "2+2")]),
        ("<think></think>\n4", [("answer", "4")]),
        (
            "a</think>b<think>c</think>d",
            [("thinking", "a"), ("answer", "b"), ("thinking", "c"), ("answer", "d")],
        ),
        ("a</think>b</think>c", [("thinking", "a"), ("answer", "b</think>c")]),
        ("", []),
    ],
)
def test_thinking_is_told_from_the_answer(completion: str, pieces: list[tuple[str, str]]) -> None:
    assert split_thinking(completion) == pieces


@given(st.lists(st.sampled_from(["<think>", "</think>", "x", "\n", "y z"]), max_size=12).map("".join))
def test_no_text_is_lost(completion: str) -> None:
    def words(text: str) -> str:
        return "".join(text.replace("<think>", "").replace("</think>", "").split())

    assert words("".join(text for _, text in split_thinking(completion))) == words(completion)


@given(st.text())
def test_embedded_json_reads_back_and_cannot_end_its_element(text: str) -> None:
    embedded = embed([text])
    assert json.loads(embedded) == [text]
    assert not set("<>&\u2028\u2029") & set(embedded)


@given(st.integers(0, 500), st.integers(1, 200))
def test_a_spread_has_the_first_the_last_and_no_more_than_wanted(lines: int, wanted: int) -> None:
    found = spread(lines, wanted)
    assert len(found) == min(lines, wanted)
    assert all(0 <= line < lines for line in found)
    if lines:
        assert 0 in found
    if min(lines, wanted) > 1:
        assert lines - 1 in found


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("loss", "Loss"),
        ("eval_loss", "Loss"),
        ("reward", "Reward"),
        ("reward/math", "Reward"),
        ("reward_std", "Spread of rewards"),
        ("rewards/chosen", "Chosen and rejected"),
        ("rewards/accuracies", "Accuracy and pass rate"),
        ("kl", "KL to the reference"),
        ("completions/mean_length", "Length, tokens"),
        ("curriculum/level", "Curriculum"),
        ("rewards/math/mean", "Reward"),
        ("zero_signal/rolled", "Groups without a signal"),
        ("zero_signal/standard", "Groups without a signal"),
        ("completions/with_advantage", "Completions with an advantage"),
        ("groups/rolled", "Groups rolled out"),
        ("verdict/error", "Verdicts that are not ok"),
        ("sampler_gap/mean", "Mean sampler gap, nats"),
        ("sampler_gap/max", "Largest sampler gap, nats"),
        ("sampler_gap/effective", "Effective sample share"),
        ("tokens/thinking_off", "Length by thinking, tokens"),
        ("grad_norm", "grad_norm"),
    ],
)
def test_logged_names_find_their_chart(name: str, title: str) -> None:
    series = Series([1.0, 2.0], [0.5, 0.6])
    leading, others = panels(Stage("s", Path("s"), logs={"": {name: series}}))
    assert [panel.title for panel in leading + others] == [title]


def test_a_line_has_its_own_colour_however_many_there_are() -> None:
    log = {f"reward/{i}": Series([1.0, 2.0], [0.1, 0.2]) for i in range(16)}
    leading, _ = panels(Stage("s", Path("s"), logs={"": log}))
    assert [len(panel.lines) for panel in leading] == [7, 7, 2]


def test_what_was_logged_once_is_no_curve() -> None:
    assert panels(Stage("s", Path("s"), logs={"": {"train_loss": Series([9.0], [0.5])}})) == ([], [])


def test_shares_are_drawn_on_the_whole_of_their_range() -> None:
    log = {
        "zero_signal/math": Series([1.0, 2.0], [0.5, 0.6]),
        "zero_signal/rolled": Series([1.0, 2.0], [0.1, 0.2]),
    }
    (panel,), _ = panels(Stage("s", Path("s"), logs={"": log}))
    assert (panel.shares, panel.holds) == (True, (0.0, 1.0))
    assert [line.label for line in panel.lines] == ["math", "all rolled out"]


def test_what_has_a_figure_of_its_own_is_no_curve_as_well() -> None:
    found = Series([1.0, 2.0], [0.5, 0.6])
    log = {"curriculum/math/target": found, "curriculum/math/pass_rate": found, "validation/math": found}
    stage = Stage("s", Path("s"), logs={"": log}, validation={"kept": 0, "steps": []})
    assert panels(stage) == ([], [])
    # Where validation.json is lost, what was logged is still there.
    stage.validation = {}
    assert [panel.title for panel in panels(stage)[0]] == ["Accuracy and pass rate"]


def test_a_line_is_called_what_differs_within_its_chart() -> None:
    found = Series([1.0, 2.0], [0.5, 0.6])
    names = (
        "reward",
        "rewards/math/mean",
        "rewards/math/std",
        "verdict/error",
        "sampler_gap/max",
        "groups/rolled",
    )
    leading, others = panels(Stage("s", Path("s"), logs={"": dict.fromkeys(names, found)}))
    labels = {panel.title: [line.label for line in panel.lines] for panel in leading + others}
    assert labels["Reward"] == ["reward", "math"]
    assert labels["Spread of rewards"] == ["math/std"]
    assert labels["Verdicts that are not ok"] == ["error"]
    assert labels["Largest sampler gap, nats"] == ["max"]
