"""Completions cut into thinking and answer, and carried into the page unharmed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.curves import panels
from alloy.report.record import Series, Stage
from alloy.report.rollouts import _spread, embed, split_thinking


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
    found = _spread(lines, wanted)
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
