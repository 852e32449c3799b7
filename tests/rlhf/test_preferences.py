import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from alloy.data.preference_shapes import Preference
from alloy.environments.chat import ChatEnvironment, attributes
from alloy.errors import InputError
from rlhf.config import PreferenceConfig
from rlhf.preferences import Preferences, read_preferences


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, pairs: int | None = 1, held_out: int = 1, **more: Any) -> Preferences:
    values = {"path": path, "pairs": pairs, "held_out": held_out, "max_rejected_share": 0, **more}
    return read_preferences(PreferenceConfig.model_validate(values), 0)


def all_pairs(path: Path, **more: Any) -> list[Preference]:
    found = read(path, None, 1, **more)
    return [*found.training, *found.held_out]


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_the_better_answer_wins_with_the_probability_of_its_gap(noise: float) -> None:
    won: dict[int, int] = defaultdict(int)
    seen: dict[int, int] = defaultdict(int)
    for pair in ChatEnvironment().pairs("train", 8000, 0, noise):
        topic = pair.task.gold["topic"]
        quality = [sum(attributes(answer, topic).values()) for answer in (pair.chosen, pair.rejected)]
        gap = round(abs(quality[0] - quality[1]))
        seen[gap] += 1
        won[gap] += quality[0] > quality[1]
    assert min(seen[gap] for gap in (1, 2, 3)) > 100
    for gap in (1, 2, 3):
        expected = 1 / (1 + math.exp(-gap / 5 / noise))
        deviation = math.sqrt(expected * (1 - expected) / seen[gap])
        assert abs(won[gap] / seen[gap] - expected) < 4 * deviation


def test_held_out_pairs_are_of_other_templates() -> None:
    config = PreferenceConfig(environment="chat", pairs=50, held_out=20)
    found = read_preferences(config, 0)
    assert (len(found.training), len(found.held_out)) == (50, 20)
    prompts = {str(pair.prompt) for pair in found.training}
    assert prompts.isdisjoint(str(pair.prompt) for pair in found.held_out)
    assert read_preferences(config, 0) == found
    assert read_preferences(config, 1) != found


def test_a_file_of_texts_and_of_turns(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    path = write(
        tmp_path,
        {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2},
        {
            "prompt": turns,
            "chosen": [*turns, {"role": "assistant", "content": "a"}],
            "rejected": "b",
            "margin": 1.5,
        },
    )
    found = all_pairs(path)
    assert len(found) == 2
    assert Preference([{"role": "user", "content": "q"}], "a", "b", 2) in found
    assert Preference(turns, "a", "b", 1.5) in found


GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "a"}, "no rejected. Say with `columns` which is which"),
        ({"question": "q"}, "no prompt and no chosen and no rejected"),
        ({**GOOD, "rejected": " "}, "the rejected answer is empty"),
        ({**GOOD, "prompt": 3}, "a prompt is a text or a list of turns, not '3'"),
        ({**GOOD, "prompt": [{"role": "owl", "content": "q"}]}, "a turn's role is 'owl'"),
        ({**GOOD, "chosen": []}, "an answer is a text or a list of turns, not '[]'"),
        ({**GOOD, "rejected": [{"role": "assistant"}]}, "an answer is a text or a list of turns"),
        ({**GOOD, "margin": "much"}, "margin is 'much', a number is needed"),
    ],
)
def test_a_bad_row_is_told_with_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_too_few_rows_and_margins_on_some_only(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"pairs\.jsonl: 1 pairs, of which 0 are left to train on beside 1 held out .* Lower one",
    ):
        read(write(tmp_path, GOOD), 1, 2)
    with pytest.raises(InputError, match="some pairs have a margin and some have none"):
        read(write(tmp_path, GOOD, {**GOOD, "prompt": "p", "margin": 1}))
    assert len(all_pairs(write(tmp_path, GOOD, {**GOOD, "prompt": "p", "margin": 1}), margin_weight=0)) == 2


def test_an_environment_without_pairs() -> None:
    with pytest.raises(InputError, match="'math' makes no preference pairs. Use 'chat'."):
        read_preferences(PreferenceConfig(environment="math", pairs=1, held_out=1), 0)


def test_a_prompt_is_read_whole(tmp_path: Path) -> None:
    """An empty system turn says nothing, and a tool's answer belongs to a call of the turn before."""
    call = {"id": "x", "function": {"name": "add", "arguments": "{}"}}
    prompt = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "x"},
    ]
    path = write(tmp_path, {"prompt": prompt, "chosen": "a", "rejected": "b"}, GOOD)
    pair = next(pair for pair in all_pairs(path) if len(pair.prompt) > 1)
    assert [turn["role"] for turn in pair.prompt] == ["user", "assistant", "tool"]
    assert pair.prompt[2] == {"role": "tool", "content": "1"}


def test_no_prompt_is_in_both_parts_whatever_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 5}", "chosen": f"a{n}", "rejected": "b"} for n in range(20)]
    path = write(tmp_path, *rows)
    found = read(path, None, 6)
    # Five prompts of four pairs: two of them are held out for six pairs, and the two left over are not trained on.
    assert (len(found.training), len(found.held_out)) == (12, 6)
    prompts = [{str(pair.prompt) for pair in part} for part in (found.training, found.held_out)]
    assert prompts[0].isdisjoint(prompts[1])
    assert (len(prompts[0]), len(prompts[1])) == (3, 2)
    again = read(write(tmp_path, *reversed(rows)), None, 6)
    assert {str(pair.prompt) for pair in again.held_out} == prompts[1]


HELPSTEER = {
    "context": [{"role": "user", "content": "q"}],
    "response1": "one",
    "response2": "two",
    "overall_preference": -2,
}


def test_helpsteer3_has_its_sign_its_margin_and_its_ties(tmp_path: Path) -> None:
    rows = [
        HELPSTEER,
        {**HELPSTEER, "context": "p", "overall_preference": 3},
        {**HELPSTEER, "overall_preference": 0},
        {**HELPSTEER, "response2": "one"},
    ]
    found = read(write(tmp_path, *rows), None, 1)
    assert found.counts == {"rows": 4, "ties": 2, "rejected": 0}
    by_margin = {pair.margin: pair for pair in [*found.training, *found.held_out]}
    assert by_margin == {
        2.0: Preference([{"role": "user", "content": "q"}], "one", "two", 2.0),
        3.0: Preference([{"role": "user", "content": "p"}], "two", "one", 3.0),
    }


def turns(*said: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]


def test_ultrafeedback_has_scores(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": turns("q", "a"), "rejected": turns("q", "b")}
    rows = [
        {**row, "score_chosen": 10.0, "score_rejected": 5.5},
        {
            **row,
            "chosen": turns("p", "a"),
            "rejected": turns("p", "b"),
            "score_chosen": 4,
            "score_rejected": 1,
        },
        {**row, "score_chosen": 7, "score_rejected": 7},
    ]
    found = read(write(tmp_path, *rows), None, 1)
    assert found.counts["ties"] == 1
    pairs = {pair.margin: pair.helpfulness for pair in [*found.training, *found.held_out]}
    # 10 of 10 is 5 of 5; 5.5 lies in the middle, as 3 does.
    assert pairs[4.5] == pytest.approx((5.0, 3.0))
    assert pairs[3.0] == pytest.approx((1 + 4 / 3, 1.0))


def transcript(*said: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[n % 2]}: {text}" for n, text in enumerate(said))


def test_hh_rlhf_transcripts(tmp_path: Path) -> None:
    rows = [
        {"chosen": transcript("q", "a", "more", "yes"), "rejected": transcript("q", "a", "more", "no")},
        {"chosen": transcript("p", "a") + "\n\nAssistant: b", "rejected": transcript("p", "c")},
    ]
    found = all_pairs(write(tmp_path, *rows))
    assert Preference(turns("q", "a", "more"), "yes", "no") in found
    assert Preference(turns("p"), "a\n\nb", "c") in found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**HELPSTEER, "overall_preference": 4}, "overall_preference is 4: a number from -3 to 3"),
        ({**HELPSTEER, "context": 7}, "a prompt is a text or a list of turns, not '7'"),
        (
            {"chosen": transcript("q", "a"), "rejected": transcript("p", "a")},
            "chosen and rejected differ before their last turn",
        ),
        ({"chosen": transcript("q", "a"), "rejected": "b"}, "rejected is no transcript"),
        (
            {"chosen": turns("q", "a"), "rejected": turns("q", "b"), "score_chosen": 1, "score_rejected": 2},
            "score_chosen 1 is below score_rejected 2",
        ),
        ({"chosen": turns("q"), "rejected": turns("q", "b")}, "chosen is no conversation of a prompt"),
        ({"prompt": [{"role": "system", "content": "s"}], "chosen": "a", "rejected": "b"}, "no user turn"),
    ],
)
def test_a_bad_row_of_a_published_shape(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(InputError) as caught:
        read(path)
    assert f"{path}:2: " in str(caught.value)
    assert message in str(caught.value)
    assert "1 of 2 rows are bad, data.max_rejected_share = 0 are allowed" in str(caught.value)


def test_bad_rows_that_are_allowed_are_counted(tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": f"q{n}"} for n in range(9)]
    found = read(write(tmp_path, *rows, {"prompt": "q"}), None, 2, max_rejected_share=0.1)
    assert found.counts == {"rows": 10, "ties": 0, "rejected": 1}
    assert (len(found.training), len(found.held_out)) == (7, 2)


def test_parquet_gzip_columns_and_a_held_out_file(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"question": f"q{n}", "better": "a", "worse": "b"} for n in range(4)]
    table, packed = tmp_path / "pairs.parquet", tmp_path / "held.jsonl.gz"
    pq.write_table(pa.Table.from_pylist(rows), table)
    with gzip.open(packed, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows[:2])
    columns = {"prompt": "question", "chosen": "better", "rejected": "worse"}
    found = read(table, None, 2, columns=columns, held_out_path=packed)
    assert [pair.prompt[0]["content"] for pair in found.held_out] == ["q0", "q1"]
    assert [pair.prompt[0]["content"] for pair in found.training] == ["q2", "q3"]


def test_a_folder_that_datasets_loads(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, count in (("train", 3), ("validation", 2)):
        rows = [{**GOOD, "prompt": f"{split} {n}"} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read(None, None, 2, hub=str(folder), held_out_split="validation")  # type: ignore[arg-type]
    assert [pair.prompt[0]["content"] for pair in found.training] == ["train 0", "train 1", "train 2"]
    assert [pair.prompt[0]["content"] for pair in found.held_out] == ["validation 0", "validation 1"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "preferences come from an environment, a path or the hub"),
        ({"path": "x.jsonl", "hub": "y"}, "give exactly one"),
        ({"environment": "chat"}, "an environment makes pairs without end"),
        ({"hub": "x", "held_out_path": "y.jsonl"}, "held_out_path goes with path"),
        ({"path": "x.jsonl", "held_out_split": "test"}, "held_out_split goes with hub"),
    ],
)
def test_a_config_that_says_too_little_or_too_much(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PreferenceConfig.model_validate({"held_out": 1, **values})
