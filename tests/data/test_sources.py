import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alloy.data.config import DataConfig, ReasoningOffConfig, SourceConfig, TruncateConfig
from alloy.data.sources import Row, read_jsonl, read_rows
from alloy.data.transforms import strip_reasoning, truncate_thinking
from alloy.errors import InputError

GOOD = {"prompt": "2+2?", "completion": "4", "thinking": "easy"}


def write(folder: Path, *lines: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def read(path: Path, **given: Any) -> list[Row]:
    return list(read_rows(SourceConfig(path=path, **given), 0))


def test_prompt_and_completion(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {"prompt": "hi", "completion": "hello"})
    first, second = read(path)
    assert first.messages == [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "thinking": "easy"},
    ]
    assert (first.thinking, second.thinking) == (True, False)
    assert (first.where, second.where) == (f"{path}:1", f"{path}:2")


def test_messages_in_the_field_s_shape(tmp_path: Path) -> None:
    function = {"name": "add", "arguments": '{"a": 1}'}
    row = {
        "messages": [
            {"role": "user", "content": "add"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "r",
                "tool_calls": [{"function": function}],
            },
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    }
    (found,) = read(write(tmp_path, row))
    assert found.messages[1] == {
        "role": "assistant",
        "content": "",
        "thinking": "r",
        "tool_calls": [{"name": "add", "arguments": {"a": 1}}],
    }
    assert found.tools == [{"name": "add", "parameters": {}}]
    assert found.thinking


def test_rows_limits_a_file_and_thinking_off_is_kept_off(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, GOOD, "not read")
    assert [row.thinking for row in read(path, rows=2, thinking=False)] == [False, False]


def test_gzip_is_read_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress("".join(json.dumps(GOOD | {"n": n}) + "\n" for n in range(300)).encode())
    path.write_bytes(whole)
    assert len(read(path)) == 300
    for broken in (whole[: len(whole) // 2], b"not gzip", whole[:40] + b"\0" * 40 + whole[80:]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"rows\.jsonl\.gz"):
            read(path)


def turns(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}, *messages], **more}


def says(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "y", **more}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "list where an object is needed"),
        ({"question": "x", "answer": "y"}, "has answer, question, and needs `messages`;"),
        ({"prompt": 3, "completion": "x"}, "prompt is int, a text is needed"),
        ({"messages": "x"}, "messages is str, a list is needed"),
        (turns({"role": "owl", "content": "x"}), "a turn's role is 'owl'; known are system, user, assistant"),
        (turns("x"), "a turn is str, an object is needed"),
        (turns(says(content=[{"type": "image"}])), "the assistant turn's content is list, a text is needed"),
        (turns(says(thinking=3)), "a turn's thinking is int, a text is needed"),
        (turns(says(), tools=3), "tools is int, a list is needed"),
        (turns(says(), tools="["), "tools is no JSON: '['"),
        (turns(says(), tools=[3]), "a tool is an object with a name, not '3'"),
        (turns(says(tool_calls={"a": 1})), "tool_calls is dict, a list is needed"),
        (turns(says(tool_calls=[{"function": "add"}])), "a tool call needs a name"),
        (
            turns(says(tool_calls=[{"name": "add", "arguments": "{"}])),
            "a tool call's arguments is no JSON: '{'",
        ),
        (
            turns(says(tool_calls=[{"name": "add", "arguments": [1]}])),
            "a tool call's arguments are list, an object is needed",
        ),
    ],
)
def test_a_bad_row_is_told_with_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(InputError, match="no valid UTF-8"):
        list(read_jsonl(tmp_path / "x.jsonl"))


def test_environment_rows_are_the_same_for_the_same_seed() -> None:
    source = SourceConfig(environment="math", rows=4)
    assert list(read_rows(source, 1)) == list(read_rows(source, 1))
    assert list(read_rows(source, 1)) != list(read_rows(source, 2))
    assert all(row.thinking for row in read_rows(source, 1))


@pytest.mark.parametrize(
    "given", [{}, {"environment": "math", "path": "x", "rows": 1}, {"environment": "math"}]
)
def test_a_source_has_exactly_one_origin(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SourceConfig(**given)


def test_the_fingerprint_of_data_is_that_of_its_content(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = DataConfig(sources=[SourceConfig(path=path)])
    first = config.fingerprint()
    path.touch()
    assert config.fingerprint() == first
    write(tmp_path, GOOD, GOOD)
    assert config.fingerprint() != first


def test_a_large_file_is_hashed_once_for_its_time_of_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alloy.data import identity

    monkeypatch.setattr(identity, "LARGE", 10)
    monkeypatch.setenv("ALLOY_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path, GOOD)
    source = SourceConfig(path=path)
    first = identity.contents(source)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "fingerprint_file", lambda _: pytest.fail("hashed again"))
        assert identity.contents(source) == first
    write(tmp_path, GOOD, GOOD)
    assert identity.contents(source) != first


# Transforms.


def rows(count: int, thinking: str = "a b c d e f g h") -> list[Row]:
    return [
        Row(
            [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "answer", "thinking": thinking},
            ],
            [],
            True,
            f"row:{n}",
        )
        for n in range(count)
    ]


def test_reasoning_off_replaces_a_tenth() -> None:
    given = rows(2000)
    found = list(strip_reasoning(given, ReasoningOffConfig(share=0.1), 0))
    off = [row for row in found if not row.thinking]
    assert len(found) == 2000
    # Binomial(2000, 0.1): 200 +- 5 standard deviations of 13.4.
    assert 133 < len(off) < 267
    assert all("thinking" not in turn for row in off for turn in row.messages)
    assert all(row.messages[-1]["content"] == "answer" for row in off)
    assert [row for row in found if row.thinking] == [
        row for row in given if row.where not in {r.where for r in off}
    ]


def test_reasoning_off_copies_beside_the_row() -> None:
    found = list(strip_reasoning(rows(300), ReasoningOffConfig(share=0.1, mode="copy"), 0))
    off = [row.where for row in found if not row.thinking]
    assert len(found) == 300 + len(off)
    assert off
    assert [row.where for row in found if row.thinking] == [f"row:{n}" for n in range(300)]


def test_the_draw_of_a_row_does_not_depend_on_its_neighbours() -> None:
    config = ReasoningOffConfig(share=0.5)
    whole = {row.where for row in strip_reasoning(rows(100), config, 0) if not row.thinking}
    part = {row.where for row in strip_reasoning(rows(100)[50:], config, 0) if not row.thinking}
    assert part == {where for where in whole if int(where.split(":")[1]) >= 50}
    other = {row.where for row in strip_reasoning(rows(100), config, 1) if not row.thinking}
    assert other != whole


def test_rows_without_thinking_are_left_alone() -> None:
    plain = [Row([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], [], False, "p:1")]
    assert list(strip_reasoning(plain, ReasoningOffConfig(share=1), 0)) == plain
    assert truncated(plain, share=1.0, min_tokens=0, max_tokens=0) == plain


def truncated(given: list[Row], **config: Any) -> list[Row]:
    """Truncation in words: a token is a word."""
    vocabulary: list[str] = []

    def encode(text: str) -> list[int]:
        start = len(vocabulary)
        vocabulary.extend(text.split())
        return list(range(start, len(vocabulary)))

    return list(
        truncate_thinking(
            given, TruncateConfig(**config), 0, encode, lambda ids: " ".join(vocabulary[i] for i in ids)
        )
    )


def test_truncation_cuts_the_thinking_and_keeps_the_answer() -> None:
    found = truncated(rows(200), share=1.0, min_tokens=2, max_tokens=5)
    lengths = [len(row.messages[-1]["thinking"].split()) for row in found]
    assert set(lengths) == {2, 3, 4, 5}
    for row in found:
        assert "a b c d e f g h".startswith(row.messages[-1]["thinking"])
        assert row.messages[-1]["content"] == "answer"


def test_truncation_of_a_share_passes_over_what_is_short_enough() -> None:
    given = rows(1000)
    found = truncated(given, share=0.2, min_tokens=3, max_tokens=3)
    cut = sum(a != b for a, b in zip(given, found, strict=True))
    assert 137 < cut < 263  # Binomial(1000, 0.2): 200 +- 5 x 12.6
    assert truncated(given, share=1.0, min_tokens=8, max_tokens=9) == given


def test_a_cut_through_a_character_leaves_no_mark(tiny_tokenizer: Any) -> None:
    (row,) = rows(1, thinking="ab " + "\N{SNOWMAN}" * 3)
    ids = tiny_tokenizer.encode("ab " + "\N{SNOWMAN}" * 3, add_special_tokens=False)
    for cut in range(1, len(ids)):
        config = TruncateConfig(share=1.0, min_tokens=cut, max_tokens=cut)
        (found,) = truncate_thinking(
            [row],
            config,
            0,
            lambda text: tiny_tokenizer.encode(text, add_special_tokens=False),
            tiny_tokenizer.decode,
        )
        kept = found.messages[-1]["thinking"]
        assert "\ufffd" not in kept
        assert row.messages[-1]["thinking"].startswith(kept)


def test_truncation_bounds_in_order() -> None:
    with pytest.raises(ValidationError, match="min_tokens is greater than max_tokens"):
        TruncateConfig(min_tokens=5, max_tokens=4)
