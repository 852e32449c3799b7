"""Two shapes of tool-calling sets of their own: xLAM's columns and Glaive's transcripts."""

import json
import re
from typing import Any

from alloy.data.turns import (
    Conversation,
    RowError,
    conversation,
    expect,
    from_json,
    listed,
    read_call,
    read_turn,
)
from alloy.environments.task import Message

_DECODER = json.JSONDecoder()


def xlam(row: dict[str, Any]) -> Conversation:
    """`query`, `answers` (calls) and `tools`, lists or JSON of one, as in Salesforce/xlam-function-calling-60k.

    Its tools name their parameters with Python's types and without a schema around them.
    """
    calls = from_json(row.get("answers"), "answers")
    if not isinstance(calls, list) or not calls:
        raise RowError(f"answers is {str(row.get('answers'))[:60]!r}, a list of calls is needed")
    turns = [
        read_turn({"role": "user", "content": expect(row, "query", str)}),
        {"role": "assistant", "content": "", "tool_calls": [read_call(call) for call in calls]},
    ]
    tools = listed({"tools": from_json(row.get("tools"), "tools")}, "tools")
    return conversation(turns, {**row, "tools": [_with_schema(tool) for tool in tools]})


def _with_schema(tool: Any) -> Any:
    """A tool of xLAM's: {"city": {"type": "str, optional", "description": ..., "default": ...}, ...}."""
    given = tool.get("parameters") if isinstance(tool, dict) else None
    if not isinstance(given, dict) or not all(isinstance(part, dict) for part in given.values()):
        return tool
    required = [
        name
        for name, part in given.items()
        if "optional" not in str(part.get("type", "")).lower() and "default" not in part
    ]
    return {**tool, "parameters": {"type": "object", "properties": given, "required": required}}


_SPEAKERS = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_SPEAKER = re.compile(r"(?:^|\n)\s*(USER|ASSISTANT|FUNCTION RESPONSE):")
_CALL = "<functioncall>"
_END = "<|endoftext|>"
# Arguments stand as JSON between single quotes: no JSON as a whole.
_QUOTED = re.compile(r"""(\{\s*"name"\s*:\s*".*?"\s*,\s*"arguments"\s*:\s*)'(.*)'(\s*\})""", re.DOTALL)


def glaive(row: dict[str, Any]) -> Conversation:
    """`system` with the functions as JSON in its text, and `chat` as a transcript: glaive-function-calling-v2."""
    system, tools = _functions(expect(row, "system", str))
    turns: list[Message] = [{"role": "system", "content": system}] if system else []
    chat = expect(row, "chat", str)
    parts = _SPEAKER.split(chat)
    if len(parts) < 3 or parts[0].strip():
        raise RowError('chat is no transcript: it begins with "USER:"')
    for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
        said = text.replace(_END, "").strip()
        content, called, written = said.partition(_CALL)
        if speaker != "ASSISTANT" or not called:
            turns.append(read_turn({"role": _SPEAKERS[speaker], "content": said}))
            continue
        calls = [
            read_call(from_json(_unquoted(part.strip()), "a function call")) for part in written.split(_CALL)
        ]
        turns.append({"role": "assistant", "content": content.strip(), "tool_calls": calls})
    return conversation(turns, {"tools": tools})


def _functions(text: str) -> tuple[str, list[Any]]:
    """A system prompt without its functions, and the functions."""
    said = re.sub(r"^\s*SYSTEM:\s*", "", text)
    at, tools = said.find("{"), []
    before = said if at < 0 else said[:at]
    while at >= 0:
        try:
            tool, end = _DECODER.raw_decode(said, at)
        except ValueError:
            raise RowError(f"a function in the system prompt is no JSON: {said[at : at + 60]!r}") from None
        tools.append(tool)
        at = said.find("{", end)
    return before.strip().removesuffix("-").strip(), tools


def _unquoted(text: str) -> str:
    found = _QUOTED.fullmatch(text)
    return f"{found[1]}{found[2]}{found[3]}" if found else text
