"""What a model writes, cut into any pieces: the parts are those of the whole text read at once."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.chat import THINK_OPEN, parse_completion
from alloy.serve.splitting import CallSplit, Said, ThinkingSplit
from alloy.tool_calls import NOTATIONS, Notation, parse_calls

CALLS: dict[Notation, str] = {
    "hermes": '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>',
    "nemotron-3": "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
    "llama-3": '{"name": "add", "parameters": {"a": 1}}',
    "mistral": '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]',
    "fenced": '```json\n{"name": "add", "arguments": {"a": 1}}\n```',
}
TOOLS = [{"name": "add", "description": "", "parameters": {"properties": {"a": {"type": "integer"}}}}]
CALL = {"name": "add", "arguments": {"a": 1}}


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


def split(text: str, opened: bool | None, cuts: list[int]) -> tuple[str, str]:
    reading = ThinkingSplit(opened)
    parts = [*(reading.feed(piece) for piece in pieces(text, cuts)), reading.finish()]
    return "".join(part.thinking for part in parts), "".join(part.answer for part in parts)


TEXT = st.lists(
    st.sampled_from(["a", "\n", "<", "</think>", "</thi", "<think>", "nk>", " ", "</", "b\n\n"]), max_size=12
).map("".join)
CUTS = st.lists(st.integers(0, 80))


@given(TEXT, CUTS)
def test_thinking_and_answer_are_those_of_the_whole(text: str, cuts: list[int]) -> None:
    message = parse_completion(text, True)
    thinking, answer = split(text, True, cuts)
    assert thinking == message.get("thinking", "")
    assert answer == message["content"]
    assert split(text, False, cuts) == ("", text)


@given(TEXT, CUTS)
def test_a_text_that_opens_its_thinking_itself(text: str, cuts: list[int]) -> None:
    begun = text.lstrip()
    if begun.startswith(THINK_OPEN):
        assert split(text, None, cuts) == split(begun[len(THINK_OPEN) :], True, [])
    else:
        assert split(text, None, cuts) == ("", text)


def test_a_newline_inside_unfinished_thinking_stays() -> None:
    assert split("a\n<", True, []) == ("a\n<", "")
    assert split("\n\na\n", True, [1, 3]) == ("a", "")


def test_no_piece_of_a_tag_is_shown() -> None:
    reading = ThinkingSplit(True)
    shown = [reading.feed(piece) for piece in ("\nso\n", "</", "thi", "nk>", "\n", "yes", "</think>")]
    assert [part.thinking for part in shown] == ["so", "", "", "", "", "", ""]
    assert [part.answer for part in shown] == ["", "", "", "", "", "yes", "</think>"]
    assert reading.answering
    assert reading.thought


def said(text: str, notation: Notation, cuts: list[int]) -> list[Said]:
    reading = CallSplit(notation, TOOLS)
    return [*(reading.feed(piece) for piece in pieces(text, cuts)), reading.finish()]


@pytest.mark.parametrize("notation", NOTATIONS)
@given(cuts=CUTS)
def test_a_call_is_told_whole_in_every_notation(notation: Notation, cuts: list[int]) -> None:
    before = "" if notation == "llama-3" else "Well."
    found = said(before + ("\n" if before else "") + CALLS[notation], notation, cuts)
    assert [call for one in found for call in one.calls] == [CALL]
    assert "".join(one.content for one in found) == before


@pytest.mark.parametrize("notation", NOTATIONS)
@given(
    text=st.lists(st.sampled_from(["a", "\n", "<tool", "_call>", "`", "``", "[TOOL", "{", " 1", "<"])).map(
        "".join
    ),
    cuts=CUTS,
)
def test_text_without_a_call_is_left_as_it_is(notation: Notation, text: str, cuts: list[int]) -> None:
    if parse_calls(text, notation, TOOLS).calls:
        return
    assert "".join(one.content for one in said(text, notation, cuts)) == text


@given(CUTS)
def test_calls_come_as_soon_as_they_are_closed_and_an_unreadable_one_is_text(cuts: list[int]) -> None:
    good = CALLS["hermes"]
    reading = CallSplit("hermes", TOOLS)
    assert reading.feed(f"One.\n{good}") == Said("One.", [CALL])
    assert reading.feed("<tool_call>{no}</tool_call>").calls == []
    assert reading.feed(good) == Said("", [CALL])
    end = reading.finish()
    assert end.calls == []
    assert "{no}" in end.content
    text = f"One.\n{good}<tool_call>{{no}}</tool_call>{good}"
    found: list[Any] = [call for one in said(text, "hermes", cuts) for call in one.calls]
    assert found == [CALL, CALL]
    assert "".join(one.content for one in said(text, "hermes", cuts)).startswith("One.")
