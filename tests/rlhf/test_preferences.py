import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from alloy.environments.chat import ChatEnvironment, attributes
from alloy.errors import InputError
from rlhf.config import PreferenceConfig
from rlhf.preferences import Preference, read_preferences


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, pairs: int = 1, held_out: int = 1) -> tuple[list[Preference], list[Preference]]:
    return read_preferences(PreferenceConfig(path=path, pairs=pairs, held_out=held_out), 0)


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
    training, held_out = read_preferences(config, 0)
    assert (len(training), len(held_out)) == (50, 20)
    assert {str(pair.prompt) for pair in training}.isdisjoint(str(pair.prompt) for pair in held_out)
    assert read_preferences(config, 0) == (training, held_out)
    assert read_preferences(config, 1) != (training, held_out)


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
    (first,), (second,) = read(path)
    assert first == Preference([{"role": "user", "content": "q"}], "a", "b", 2)
    assert second == Preference(turns, "a", "b", 1.5)


GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "a"}, "no rejected. Rename the columns."),
        ({"question": "q"}, "no prompt and no chosen and no rejected"),
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
        InputError, match=r"pairs\.jsonl: 1 pairs, data\.pairs \+ data\.held_out = 3\. Lower one"
    ):
        read(write(tmp_path, GOOD), 1, 2)
    with pytest.raises(InputError, match="some pairs have a margin and some have none"):
        read(write(tmp_path, GOOD, {**GOOD, "margin": 1}))


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
    path = write(tmp_path, *[{"prompt": prompt, "chosen": "a", "rejected": "b"}] * 2)
    (pair,), _ = read(path)
    assert [turn["role"] for turn in pair.prompt] == ["user", "assistant", "tool"]
    assert pair.prompt[2] == {"role": "tool", "content": "1"}
