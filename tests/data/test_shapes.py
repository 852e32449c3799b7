"""Fixtures of each shape in which conversations are published."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alloy.data.config import SourceConfig
from alloy.data.sources import read_rows
from alloy.errors import InputError

CALL = {"name": "add", "arguments": {"a": 1}}
ADD = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


FIXTURES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], bool]] = {
    "messages with a tool call in the field's shape": (
        {
            "messages": [
                user("1?"),
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "r",
                    "tool_calls": [
                        {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
                    ],
                },
                {"role": "tool", "content": "1", "tool_call_id": "x"},
                assistant("one"),
            ],
            "tools": [{"type": "function", "function": ADD}],
        },
        [
            user("1?"),
            assistant("", thinking="r", tool_calls=[CALL]),
            {"role": "tool", "content": "1"},
            assistant("one"),
        ],
        [ADD],
        True,
    ),
    "content in parts": (
        {
            "messages": [
                user("hi"),
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ]
        },
        [user("hi"), assistant("ab")],
        [],
        False,
    ),
    "thinking in tags at the start": (
        {"messages": [user("hi"), assistant("<think>\nwhy\n</think>\n\nhello")]},
        [user("hi"), assistant("hello", thinking="why")],
        [],
        True,
    ),
    "an empty pair of tags is no thinking": (
        {"messages": [user("hi"), assistant("<think></think>\nhello")]},
        [user("hi"), assistant("hello")],
        [],
        False,
    ),
    "prompt and completion": (
        {"prompt": "2+2?", "completion": "4", "thinking": "easy"},
        [user("2+2?"), assistant("4", thinking="easy")],
        [],
        True,
    ),
    "prompt and completion as turns": (
        {"prompt": [{"role": "system", "content": "S"}, user("2+2?")], "completion": [assistant("4")]},
        [{"role": "system", "content": "S"}, user("2+2?"), assistant("4")],
        [],
        False,
    ),
    "ShareGPT": (
        {
            "system": "S",
            "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
        },
        [{"role": "system", "content": "S"}, user("hi"), assistant("hello")],
        [],
        False,
    ),
    "ShareGPT with a function call": (
        {
            "conversations": [
                {"from": "human", "value": "1?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "1"},
                {"from": "gpt", "value": "one"},
            ],
            "tools": json.dumps([ADD]),
        },
        [user("1?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "1"}, assistant("one")],
        [ADD],
        False,
    ),
    "Alpaca": (
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        [user("Add.\n\n1 and 2"), assistant("3")],
        [],
        False,
    ),
    "Alpaca with a history and no input": (
        {"instruction": "And?", "input": "", "output": "b", "history": [["hi", "hello"]], "system": "S"},
        [{"role": "system", "content": "S"}, user("hi"), assistant("hello"), user("And?"), assistant("b")],
        [],
        False,
    ),
    "Nemotron post-training, thinking on": (
        {
            "uuid": "u",
            "category": "math",
            "reasoning": "on",
            "messages": [
                {"role": "system", "content": ""},
                user("hi"),
                assistant("<think>\nwhy\n</think>\nhello", tool_calls=[]),
            ],
            "metadata": "{}",
        },
        [user("hi"), assistant("hello", thinking="why")],
        [],
        True,
    ),
    "Nemotron post-training, thinking off": (
        {
            "reasoning": "off",
            "messages": [user("hi"), assistant("hello")],
            "metadata": json.dumps({"tools": [{"type": "function", "function": ADD}]}),
        },
        [user("hi"), assistant("hello")],
        [ADD],
        False,
    ),
}


# A column of texts and lists is none that Arrow has.
CASES = [(k, e) for k in FIXTURES for e in ("jsonl", "parquet") if (k, e) != ("content in parts", "parquet")]


@pytest.mark.parametrize(("kind", "ending"), CASES)
def test_a_shape_is_read_into_ours(tmp_path: Path, kind: str, ending: str) -> None:
    row, messages, tools, thinking = FIXTURES[kind]
    path = tmp_path / f"rows.{ending}"
    if ending == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (found,) = read_rows(SourceConfig(path=path), 0)
    assert found.messages == messages
    assert found.tools == tools
    assert found.thinking is thinking


def test_columns_say_which_is_which(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "2+2?", "answer": "4", "prompt": "not this"}) + "\n\n")
    (found,) = read_rows(SourceConfig(path=path, columns={"prompt": "question", "completion": "answer"}), 0)
    assert [turn["content"] for turn in found.messages] == ["2+2?", "4"]


def test_columns_that_tell_a_shape_go_before_what_a_row_has_beside(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"problem": "2+2?", "solution": "4", "messages": [user("no"), assistant("no")]}
    path.write_text(json.dumps(row) + "\n")
    (found,) = read_rows(SourceConfig(path=path, columns={"prompt": "problem", "completion": "solution"}), 0)
    assert [turn["content"] for turn in found.messages] == ["2+2?", "4"]


def test_answers_of_tools_stand_in_the_order_of_their_calls(tmp_path: Path) -> None:
    calls = [{"id": i, "function": {"name": i, "arguments": "{}"}} for i in ("weather", "clock")]
    answers = [{"role": "tool", "tool_call_id": i, "content": f"of {i}"} for i in ("clock", "weather")]
    turns = [user("x"), assistant("", tool_calls=calls), *answers, assistant("y")]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n")
    (found,) = read_rows(SourceConfig(path=path), 0)
    assert [turn["content"] for turn in found.messages] == ["x", "", "of weather", "of clock", "y"]
    assert found.messages[1]["tool_calls"] == [{"name": i, "arguments": {}} for i in ("weather", "clock")]
    turns[2]["tool_call_id"] = "tea"
    path.write_text(json.dumps({"messages": turns}) + "\n")
    with pytest.raises(InputError, match="a tool answers the call 'tea', which there is not"):
        list(read_rows(SourceConfig(path=path), 0))


def test_parquet_row_numbers_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": str(n), "completion": "x"} for n in range(1500)]), path)
    rows = list(read_rows(SourceConfig(path=path, rows=1100), 0))
    assert [row.messages[0]["content"] for row in rows] == [str(n) for n in range(1100)]
    assert rows[1050].where == f"{path}:1050"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_by_name(tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for the Hub: `datasets` loads both in the same way."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    for split, count in (("train", 700), ("test", 3)):
        rows = [{"question": f"{split} {n}", "answer": "x"} for n in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000.parquet")
    columns = {"prompt": "question", "completion": "answer"}
    source = SourceConfig(hub=str(folder), split="train", streaming=streaming, rows=600, columns=columns)
    rows = list(read_rows(source, 0))
    assert len(rows) == 600
    assert rows[599].messages[0]["content"] == "train 599"
    assert rows[599].where == f"{folder}/train:599"
    (first, *_) = read_rows(source.model_copy(update={"split": "test"}), 0)
    assert first.messages[0]["content"] == "test 0"


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the dataset cannot be loaded .*Correct hub, subset, split or revision"
    ):
        list(read_rows(SourceConfig(hub=str(tmp_path / "none")), 0))
