"""What the shapes have in common: turns, calls and tools as they are published, read into Alloy's."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from alloy.environments.task import Message


class RowError(Exception):
    """A row that nothing can be learned from as it is, and why."""


@dataclass(slots=True)
class Conversation:
    """Turns in Alloy's shape, the tools offered, and whether the row says itself that it was thought in."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool | None = None


ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "call",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""Names of the speakers in published data."""

# At the start only: tags further inside are text about tags, and are judged as such.
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


def conversation(turns: list[Message], row: dict[str, Any]) -> Conversation:
    """Turns with the row's tools and its word on thinking.

    Raises:
        RowError: tools that cannot be read, or an answer to no call.
    """
    return Conversation(_in_order_of_calls(turns), _tools(row), _switch(row))


def _in_order_of_calls(turns: list[Message]) -> list[Message]:
    """The tools' answers in the order of the calls that their ids name; then ids have done their work.

    Raises:
        RowError: an answer to no call.
    """
    found: list[Message] = []
    wanted: list[str] = []
    for turn in turns:
        if turn["role"] == "assistant":
            calls = turn.get("tool_calls") or []
            wanted = [call.pop("id", None) or "" for call in calls]
        answer = turn.pop("tool_call_id", None)
        # Where some calls have no id there is nothing to match by.
        if turn["role"] != "tool" or not answer or not all(wanted):
            found.append(turn)
            continue
        if answer not in wanted:
            raise RowError(f"a tool answers the call {answer!r}, which there is not")
        turn["place"] = wanted.index(answer)
        end = len(found)
        while end and found[end - 1].get("place", -1) > turn["place"]:
            end -= 1
        found.insert(end, turn)
    for turn in found:
        turn.pop("place", None)
    return found


def read_turn(turn: Any) -> Message:
    """A turn of `role` and `content`, thinking and calls with it.

    Raises:
        RowError: an unknown role, or a part of the wrong type.
    """
    if not isinstance(turn, dict):
        raise RowError(f"a turn is {type(turn).__name__}, an object is needed")
    role = ROLES.get(str(turn.get("role")))
    if role is None or role == "call":
        raise RowError(f"a turn's role is {turn.get('role')!r}; known are {', '.join(ROLES)}")
    calls = turn.get("tool_calls")
    content = _text(turn.get("content"), role, may_miss=bool(calls))
    message: Message = {"role": role, "content": content}
    if role == "tool" and isinstance(turn.get("tool_call_id"), str):
        message["tool_call_id"] = turn["tool_call_id"]
    if role != "assistant":
        return message
    thought = turn.get("thinking") or turn.get("reasoning_content") or turn.get("reasoning")
    if thought is not None and not isinstance(thought, str):
        raise RowError(f"a turn's thinking is {type(thought).__name__}, a text is needed")
    found = _THOUGHT.match(content)
    if found and not thought:
        thought, message["content"] = found[1].strip("\n"), content[found.end() :]
    if thought and thought.strip():
        message["thinking"] = thought
    if calls:
        if not isinstance(calls, list):
            raise RowError(f"tool_calls is {type(calls).__name__}, a list is needed")
        message["tool_calls"] = [read_call(call) for call in calls]
    return message


def _text(content: Any, role: str, may_miss: bool) -> str:
    if content is None and may_miss:
        return ""
    if isinstance(content, list) and all(
        isinstance(p, dict) and isinstance(p.get("text"), str) for p in content
    ):
        return "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise RowError(f"the {role} turn's content is {type(content).__name__}, a text is needed")
    return content


def read_call(call: Any) -> dict[str, Any]:
    """A call, with or without OpenAI's wrapper; arguments may be JSON.

    Raises:
        RowError: it has no name, or arguments that are no object.
    """
    function = call.get("function") or call if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"a tool call needs a name and an object of arguments, not {str(call)[:80]}")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = from_json(arguments or "{}", "a tool call's arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowError(f"a tool call's arguments are {type(arguments).__name__}, an object is needed")
    made: dict[str, Any] = {"name": function["name"], "arguments": arguments}
    return made | ({"id": call["id"]} if isinstance(call.get("id"), str) else {})


def _tools(row: dict[str, Any]) -> list[dict[str, Any]]:
    given = row.get("tools")
    if given is None and row.get("metadata"):
        metadata = row["metadata"]
        if isinstance(metadata, str) and '"tools"' in metadata:
            metadata = from_json(metadata, "metadata")
        given = metadata.get("tools") if isinstance(metadata, dict) else None
    if isinstance(given, str):
        given = from_json(given or "[]", "tools")
    if given is None:
        return []
    if not isinstance(given, list):
        raise RowError(f"tools is {type(given).__name__}, a list is needed")
    return [read_tool(tool) for tool in given]


def read_tool(tool: Any) -> dict[str, Any]:
    """A tool's schema, with or without OpenAI's wrapper, or JSON of it.

    Raises:
        RowError: it has no name.
    """
    tool = from_json(tool, "a tool")
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"a tool is an object with a name, not {str(tool)[:80]!r}")
    parameters = function.get("parameters")
    return {**function, "parameters": _schema(parameters)} if isinstance(parameters, dict) else function


_PYTHON = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object", "list": "array",
    "tuple": "array", "set": "array",
}  # fmt: skip
"""Python's names of types, which published sets have where JSON schemas have their own."""


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema whose types are JSON schema's; a type that is none is left out."""
    found = dict(schema)
    if isinstance(schema.get("type"), str):
        bare = re.split(r"[\[,\s]", schema["type"].strip(), maxsplit=1)[0]
        known = _PYTHON.get(bare.lower(), bare)
        if known in ("string", "integer", "number", "boolean", "object", "array", "null"):
            found["type"] = known
        else:
            del found["type"]
    if isinstance(schema.get("properties"), dict):
        found["properties"] = {
            name: _schema(part) if isinstance(part, dict) else part
            for name, part in schema["properties"].items()
        }
    if isinstance(schema.get("items"), dict):
        found["items"] = _schema(schema["items"])
    return found


def _switch(row: dict[str, Any]) -> bool | None:
    return {"on": True, "off": False}.get(str(row.get("reasoning")).lower())


def from_json(text: Any, what: str) -> Any:
    """What a text says; anything else as it is.

    Raises:
        RowError: the text is no JSON.
    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowError(f"{what} is no JSON: {text[:80]!r}") from None


def expect(row: dict[str, Any], key: str, kind: type) -> Any:
    """A column, which must be a text or a list.

    Raises:
        RowError: it is something else.
    """
    if not isinstance(row.get(key), kind):
        wanted = {"str": "text", "list": "list"}[kind.__name__]
        raise RowError(f"{key} is {type(row.get(key)).__name__}, a {wanted} is needed")
    return row[key]


def listed(row: dict[str, Any], key: str) -> list[Any]:
    """A list that may be missing or null."""
    return expect(row, key, list) if row.get(key) is not None else []
