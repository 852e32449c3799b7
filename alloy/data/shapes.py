"""The shapes in which conversations are published, read into one.

A shape is a function from a row to a `Conversation`; it raises `RowError` with what is wrong. A row
that fits none of them is told which columns it has.
"""

import json
import re
from collections.abc import Callable, Collection
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


Shape = Callable[[dict[str, Any]], Conversation]

_ROLES = {
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


def messages(row: dict[str, Any]) -> Conversation:
    """`messages` of `role` and `content`, with `tool_calls`; thinking beside the content or in tags.

    The row may carry `tools` (a list, or JSON of one), or have them in `metadata`, and `reasoning` as
    "on" or "off", as the Nemotron post-training datasets do.
    """
    turns = [_turn(turn) for turn in _expect(row, "messages", list)]
    if turns and turns[0]["role"] == "system" and not turns[0]["content"].strip():
        del turns[0]  # published sets have an empty one where nothing is said
    return _conversation(turns, row)


def sharegpt(row: dict[str, Any]) -> Conversation:
    """`conversations` of `from` and `value`, with `system` beside them."""
    turns: list[Message] = []
    if row.get("system"):
        turns.append({"role": "system", "content": _expect(row, "system", str)})
    for turn in _expect(row, "conversations", list):
        if not isinstance(turn, dict):
            raise RowError(f"a turn is {type(turn).__name__}, an object is needed")
        said = {"role": turn.get("from", turn.get("role")), "content": turn.get("value", turn.get("content"))}
        if _ROLES.get(str(said["role"])) == "call":
            call = _call(_json(said["content"], "a function call"))
            turns.append({"role": "assistant", "content": "", "tool_calls": [call]})
        else:
            turns.append(_turn(said))
    return _conversation(turns, row)


def alpaca(row: dict[str, Any]) -> Conversation:
    """`instruction`, perhaps `input`, and `output`; `history` as pairs and `system` where there are any."""
    turns: list[Message] = []
    if row.get("system"):
        turns.append({"role": "system", "content": _expect(row, "system", str)})
    for pair in _list(row, "history"):
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise RowError("history is no list of pairs")
        turns += [_turn({"role": r, "content": c}) for r, c in zip(("user", "assistant"), pair, strict=True)]
    given = row.get("input") or ""
    if not isinstance(given, str):
        raise RowError(f"input is {type(given).__name__}, a text is needed")
    asked = _expect(row, "instruction", str)
    turns.append({"role": "user", "content": f"{asked}\n\n{given}" if given.strip() else asked})
    turns.append(_turn({"role": "assistant", "content": _expect(row, "output", str)}))
    return _conversation(turns, row)


def prompt_completion(row: dict[str, Any]) -> Conversation:
    """`prompt` and `completion`, each a text or a list of turns; `thinking` where there is any."""
    turns: list[Message] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(key)
        if isinstance(value, list):
            turns += [_turn(turn) for turn in value]
        else:
            turns.append(_turn({"role": role, "content": _expect(row, key, str)}))
    if row.get("thinking"):
        if not turns or turns[-1]["role"] != "assistant":
            raise RowError("has thinking and no answer that it belongs to")
        turns[-1]["thinking"] = _expect(row, "thinking", str)
    return _conversation(turns, row)


SHAPES: dict[str, Shape] = {
    "messages": messages,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "prompt-completion": prompt_completion,
}

_TOLD_BY = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
}


def shape_of(row: dict[str, Any], named: Collection[str] = ()) -> Shape:
    """The shape that a row's columns tell.

    Args:
        named: our names of columns that the config gives: a shape that they tell goes before the others.
    Raises:
        RowError: none does.
    """
    ordered = sorted(_TOLD_BY.items(), key=lambda item: not set(item[1]) <= set(named))
    for name, columns in ordered:
        if all(row.get(column) is not None for column in columns):
            return SHAPES[name]
    wanted = "; ".join(" and ".join(f"`{c}`" for c in columns) for columns in _TOLD_BY.values())
    raise RowError(
        f"has {', '.join(sorted(row)) or 'nothing'}, and needs {wanted}. Say with `columns` which is which"
    )


def _conversation(turns: list[Message], row: dict[str, Any]) -> Conversation:
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


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"a turn is {type(turn).__name__}, an object is needed")
    role = _ROLES.get(str(turn.get("role")))
    if role is None or role == "call":
        raise RowError(f"a turn's role is {turn.get('role')!r}; known are {', '.join(_ROLES)}")
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
        message["tool_calls"] = [_call(call) for call in calls]
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


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") or call if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"a tool call needs a name and an object of arguments, not {str(call)[:80]}")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}", "a tool call's arguments")
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
            metadata = _json(metadata, "metadata")
        given = metadata.get("tools") if isinstance(metadata, dict) else None
    if isinstance(given, str):
        given = _json(given or "[]", "tools")
    if given is None:
        return []
    if not isinstance(given, list):
        raise RowError(f"tools is {type(given).__name__}, a list is needed")
    return [_tool(tool) for tool in given]


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"a tool is an object with a name, not {str(tool)[:80]!r}")
    return function


def _switch(row: dict[str, Any]) -> bool | None:
    return {"on": True, "off": False}.get(str(row.get("reasoning")).lower())


def _json(text: Any, what: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowError(f"{what} is no JSON: {text[:80]!r}") from None


def _expect(row: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(row.get(key), kind):
        wanted = {"str": "text", "list": "list"}[kind.__name__]
        raise RowError(f"{key} is {type(row.get(key)).__name__}, a {wanted} is needed")
    return row[key]


def _list(row: dict[str, Any], key: str) -> list[Any]:
    """A list that may be missing or null."""
    return _expect(row, key, list) if row.get(key) is not None else []
