"""Calls in the notations that models write: what public templates render is read back, and nothing crashes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_template import bytes_tokenizer

from alloy.chat import TEMPLATE, parse_completion
from alloy.errors import InputError
from alloy.template import chat_template, encode_conversation
from alloy.tool_calls import NOTATIONS, Notation, parse_calls

ADD = {
    "name": "add",
    "description": "Adds.",
    "parameters": {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "number"},
            "exact": {"type": "boolean"},
            "names": {"type": "array", "items": {"type": "string"}},
            "note": {"type": "string"},
            "more": {"type": "object"},
        },
    },
}
CALL = {"name": "add", "arguments": {"a": 1, "note": "7"}}
TOLD = json.dumps(CALL)
LLAMA = '{"name": "add", "parameters": {"a": 1, "note": "7"}}'
XML = "<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=note>\n7\n</parameter>\n</function>"


def tokenizer_of(name: str) -> Any:
    return bytes_tokenizer("chatml", TEMPLATE) if name == "alloy" else bytes_tokenizer(name)


@pytest.mark.parametrize(
    ("template", "notation"),
    [
        ("alloy", "hermes"),
        ("qwen3", "hermes"),
        ("nemotron3", "nemotron-3"),
        ("llama3", "llama-3"),
        ("mistral", "mistral"),
    ],
)
def test_a_template_tells_its_notation(template: str, notation: Notation) -> None:
    assert chat_template(tokenizer_of(template)).notation == notation


def test_a_template_with_calls_of_its_own_kind_is_refused_by_what_it_writes() -> None:
    odd = TEMPLATE.replace("'<tool_call>{\"name\": '", "'CALL! {\"name\": '").replace(
        "}</tool_call>", "} END"
    )
    with pytest.raises(InputError, match=r"writes a tool call as 'CALL! \{.* none of the notations"):
        _ = chat_template(bytes_tokenizer("chatml", odd)).notation


@pytest.mark.parametrize(
    ("notation", "answer", "content"),
    [
        ("hermes", f"<tool_call>{TOLD}</tool_call>", ""),
        ("hermes", f"So: <tool_call>\n{TOLD}\n</tool_call>", "So: "),
        ("nemotron-3", f"<tool_call>\n{XML}\n</tool_call>\n", ""),
        ("nemotron-3", f"So:\n<tool_call>{XML}</tool_call>", "So:"),
        ("llama-3", LLAMA, ""),
        ("llama-3", f"<|python_tag|>{LLAMA}", ""),
        ("llama-3", f" {TOLD}\n", ""),  # some write "arguments"
        ("mistral", f"[TOOL_CALLS] [{TOLD}]", ""),
        ("mistral", f"[TOOL_CALLS]add[ARGS]{json.dumps(CALL['arguments'])}", ""),
        ("mistral", f"So. [TOOL_CALLS]add{json.dumps(CALL['arguments'])}", "So. "),
        (
            "mistral",
            '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "note": "7"}, "id": "abcdefghi"}]',
            "",
        ),
        ("fenced", f"```json\n{TOLD}\n```", ""),
        ("fenced", f"So:\n```tool_call\n{TOLD}\n```\nDone.", "So:\n\nDone."),
        ("fenced", f"```\n[{TOLD}]\n```", ""),
        ("fenced", f"```json\n{TOLD}", ""),  # the turn ended before the fence did
    ],
)
def test_one_call(notation: Notation, answer: str, content: str) -> None:
    written = parse_calls(answer, notation, [ADD])
    assert (written.calls, written.invalid, written.content) == ([CALL], [], content)


OTHER = {"name": "sub", "arguments": {}}


@pytest.mark.parametrize(
    ("notation", "answer"),
    [
        ("hermes", f"<tool_call>{TOLD}</tool_call>\n<tool_call>{json.dumps(OTHER)}</tool_call>"),
        ("nemotron-3", f"<tool_call>{XML}</tool_call><tool_call><function=sub></function></tool_call>"),
        ("llama-3", f'{LLAMA}; {{"name": "sub", "parameters": {{}}}}'),
        ("llama-3", f'{LLAMA}\n{{"name": "sub", "parameters": {{}}}}'),
        ("mistral", f"[TOOL_CALLS][{TOLD}, {json.dumps(OTHER)}]"),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1, "note": "7"}[TOOL_CALLS]sub[ARGS]{}'),
        ("fenced", f"```json\n[{TOLD}, {json.dumps(OTHER)}]\n```"),
        ("fenced", f"```json\n{TOLD}\n{json.dumps(OTHER)}\n```"),
        ("fenced", f"```json\n{TOLD}\n```\n```json\n{json.dumps(OTHER)}\n```"),
    ],
)
def test_calls_keep_their_order(notation: Notation, answer: str) -> None:
    assert parse_calls(answer, notation, [ADD]).calls == [CALL, OTHER]


@pytest.mark.parametrize(
    ("notation", "answer", "invalid"),
    [
        ("hermes", f"<tool_call>{TOLD}", TOLD),
        ("hermes", "<tool_call>{</tool_call>", "{"),
        ("hermes", "<tool_call>add(a=1)</tool_call>", "add(a=1)"),
        ("hermes", f"<tool_call>{XML}</tool_call>", XML),
        ("nemotron-3", f"<tool_call>{TOLD}</tool_call>", TOLD),
        ("nemotron-3", f"<tool_call>{XML}", XML),
        ("nemotron-3", "<tool_call><function=add>x</function></tool_call>", "<function=add>x</function>"),
        (
            "nemotron-3",
            "<tool_call><function=add><parameter=a>1</function></tool_call>",
            "<function=add><parameter=a>1</function>",
        ),
        ("llama-3", '{"name": "add", "parameters": [1]}', '{"name": "add", "parameters": [1]}'),
        ("llama-3", '{"name": "add", "parameters": {', '{"name": "add", "parameters": {'),
        ("llama-3", "<|python_tag|>add(1)", "add(1)"),
        ("mistral", f"[TOOL_CALLS] [{TOLD}", f"[{TOLD}"),
        ("mistral", "[TOOL_CALLS]add[ARGS]1", "add[ARGS]1"),
        ("mistral", "[TOOL_CALLS]", ""),
        ("mistral", "[TOOL_CALLS] [1]", "[1]"),
        ("fenced", '```json\n{"name": "add", "arguments": 1}\n```', '{"name": "add", "arguments": 1}'),
        ("fenced", '```json\n{"name": "add", "arguments": {\n```', '{"name": "add", "arguments": {'),
        ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>", "[" * 100_000),
        ("hermes", '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>', '{"name": "\\ud800", "arguments": {}}'),
    ],
)  # fmt: skip
def test_a_malformed_call_is_kept_as_it_was_written(notation: Notation, answer: str, invalid: str) -> None:
    written = parse_calls(answer, notation, [ADD])
    assert written.calls == []
    assert [text.strip() for text in written.invalid] == [invalid]


@pytest.mark.parametrize(
    ("notation", "answer"),
    [
        ("hermes", LLAMA),
        ("llama-3", 'As JSON: {"name": "add", "parameters": {}}'),
        ("llama-3", '{"total": 3}'),
        ("mistral", TOLD),
        ("fenced", '```json\n{"total": 3}\n```'),
        ("fenced", f"```python\n{TOLD}\n```"),
        ("fenced", TOLD),
    ],
)
def test_an_answer_that_only_resembles_a_call_is_an_answer(notation: Notation, answer: str) -> None:
    written = parse_calls(answer, notation)
    assert (written.content, written.calls, written.invalid) == (answer, [], [])


def test_values_in_tags_are_of_the_type_that_the_schema_declares() -> None:
    values = {"a": "1", "b": "1.5", "exact": "true", "names": '["x"]', "note": "true", "more": '{"k": null}'}
    body = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    (call,) = parse_calls(
        f"<tool_call><function=add>{body}</function></tool_call>", "nemotron-3", [ADD]
    ).calls
    assert call["arguments"] == {
        "a": 1, "b": 1.5, "exact": True, "names": ["x"], "note": "true", "more": {"k": None}
    }  # fmt: skip
    # What is of no such type stays text, for the world to complain of; so does what no schema declares.
    odd = "<tool_call><function=add><parameter=a>one</parameter><parameter=z>1</parameter></function></tool_call>"
    assert parse_calls(odd, "nemotron-3", [ADD]).calls[0]["arguments"] == {"a": "one", "z": "1"}
    # A value keeps its own lines; one line break at each end belongs to the notation.
    lines = "<tool_call><function=add><parameter=note>\n\na\nb\n\n</parameter></function></tool_call>"
    assert parse_calls(lines, "nemotron-3", [ADD]).calls[0]["arguments"] == {"note": "\na\nb\n"}


PARTS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "<function=add>", "</function>", "<parameter=a>", "</parameter>",
        "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "```json\n", "\n```", TOLD, LLAMA, XML, f"[{TOLD}]",
        '{"name": "add"', '{"name": "a", "arguments": {"x": NaN}}', "{" * 3000, "[" * 3000, "9" * 5000, ";", "\n",
    ]
)  # fmt: skip
ANYTHING = st.lists(st.one_of(PARTS, st.text(max_size=6)), max_size=8).map("".join)


@given(ANYTHING, st.sampled_from(NOTATIONS), st.booleans())
def test_whatever_is_written_is_a_turn(text: str, notation: Notation, thinking: bool) -> None:
    turn = parse_completion(text, thinking, notation, [ADD])
    for call in turn.get("tool_calls", []):
        assert isinstance(call["name"], str)
        assert isinstance(call["arguments"], dict)
    json.dumps(turn, ensure_ascii=False)
    if not any(mark in text for mark in ("<tool_call>", "{", "[TOOL_CALLS]", "<|python_tag|>")):
        assert "tool_calls" not in turn
        assert "invalid_calls" not in turn


VALUES = {
    "a": st.integers(-(10**6), 10**6),
    "b": st.floats(-1e6, 1e6).map(lambda number: round(number, 3)),
    "exact": st.booleans(),
    "names": st.lists(st.text("abc é{}[]\"'\\", max_size=4), max_size=3),
    "note": st.text("abc 7é{}[]\"'\\", min_size=1, max_size=12).filter(lambda text: text.strip() == text),
}
ARGUMENTS = st.fixed_dictionaries({}, optional=VALUES)


@given(ARGUMENTS, st.sampled_from(["alloy", "qwen3", "llama3", "mistral"]))
def test_what_a_template_renders_is_read_back(arguments: dict[str, Any], template: str) -> None:
    """A call goes through the template, the tokens that carry loss, and back."""
    tokenizer = tokenizer_of(template)
    call = {"name": "add", "arguments": arguments}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    (encoded,) = encode_conversation(tokenizer, turns, [ADD], False)
    ids = [i for i, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True) if bit]
    text = tokenizer.decode(ids).removesuffix(tokenizer.eos_token)
    turn = parse_completion(text, False, chat_template(tokenizer).notation, [ADD])
    assert turn.get("tool_calls") == [call]
    assert "invalid_calls" not in turn


@given(
    st.fixed_dictionaries({}, optional={"a": VALUES["a"], "note": st.text("abc 7é", min_size=1, max_size=9)})
)
def test_what_nemotron_3_renders_is_read_back(arguments: dict[str, Any]) -> None:
    """Its values are written as text: numbers and texts come back by the schema."""
    tokenizer = tokenizer_of("nemotron3")
    call = {"name": "add", "arguments": arguments}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    (encoded,) = encode_conversation(tokenizer, turns, [ADD], False)
    ids = [i for i, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True) if bit]
    turn = parse_completion(
        tokenizer.decode(ids).removesuffix(tokenizer.eos_token), False, "nemotron-3", [ADD]
    )
    assert turn.get("tool_calls") == [call]
