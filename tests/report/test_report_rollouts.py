"""Completions cut into thinking and answer, and carried into the page unharmed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.report.curves import panels
from alloy.report.pieces import cut, split_thinking, split_turns
from alloy.report.record import Series, Stage
from alloy.report.rollouts import collect, embed, spread


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


def test_turns_of_a_sampled_completion_are_told_apart() -> None:
    completion = (
        'look it up\n</think>\n<tool_call>{"name": "find"}</tool_call><|im_end|>\n<|im_start|>tool\n'
        '{"visits":"55"}<|im_end|>\n<|im_start|>assistant\n<think>\nenough\n</think>\nDone.<|im_end|>'
    )
    assert split_turns(completion) == [
        ("thinking", "look it up"),
        ("tool call", '{"name": "find"}'),
        ("tool", '{"visits":"55"}'),
        ("thinking", "enough"),
        ("answer", "Done."),
    ]


def test_a_call_that_never_ends_is_still_a_call() -> None:
    assert split_turns("so<tool_call>{") == [("answer", "so"), ("tool call", "{")]


@pytest.mark.parametrize("value", [None, "", 3, [], [3], {"role": "x"}, "<|im_start|>", "<|im_start|>tool\n"])
def test_whatever_was_logged_is_cut_without_an_error(value: object) -> None:
    assert all(isinstance(piece, str) for pair in cut(value, "answer") for piece in pair)


def test_answers_of_an_evaluation_are_of_the_same_tasks(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for model in ("a", "b"):
        rows = [
            {"task": f"math/{i}", "thinking": i % 2 == 0, "prompt": "?", "completion": f"t</think>{i}", "status": "ok",
             "budget": 4 if i else None, "scores": {"success": i / 100, "well_formed": 1.0}}
            for i in range(100)
        ]  # fmt: skip
        rows[3]["scores"] = None  # the verifier failed
        (tmp_path / "items" / f"{model}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {
        "a": {"math": "items/a.jsonl", "gone": "items/gone.jsonl"},
        "b": {"math": "../../items/b.jsonl"},
        "c": 3,
    }
    found, total = collect([Stage("evaluate", tmp_path, results={"files": files})], [])
    assert total == 200
    assert [sample["task"] for sample in found[:12]] == [sample["task"] for sample in found[12:]]
    first, last = found[0], found[11]
    assert (first["stage"], first["source"], first["environment"], first["part"]) == (
        "a",
        "evaluation",
        "math",
        "",
    )
    assert (last["task"], last["reward"], last["thinking"], last["part"]) == (
        "math/99",
        0.99,
        "off",
        "budget 4",
    )
    assert last["completion"] == [("thinking", "t"), ("answer", "99")]


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
