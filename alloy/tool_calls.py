"""Tool calls as models write them: the notations in use, each read back to names and arguments.

Nothing here raises at what a model wrote: what looks like a call and cannot be read is handed back as it
stands, for the world to complain of. Which notation a model was taught is told by its chat template
(`ChatTemplate.notation`).
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Notation = Literal["hermes", "nemotron-3", "llama-3", "mistral", "fenced"]
NOTATIONS: tuple[Notation, ...] = get_args(Notation)
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"

_DECODER = json.JSONDecoder()
_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>(.*)</function>\s*", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
_FENCE = re.compile(r"```[ \t]*(?:json|tool_calls?)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_PYTHON_TAG, _MISTRAL_OPEN, _MISTRAL_ARGUMENTS = "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]"
_LOOKS_LIKE_A_CALL = re.compile(r'\s*\[?\s*\{\s*"name"\s*:')


@dataclass(slots=True)
class Written:
    """What an assistant turn says and calls.

    Attributes:
        content: the text beside the calls.
        calls: [{"name": str, "arguments": dict}], in their order.
        invalid: calls that cannot be read, as they were written.
    """

    content: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)


def parse_calls(answer: str, notation: Notation, tools: Sequence[dict[str, Any]] = ()) -> Written:
    """The calls of an answer. Never raises.

    Args:
        answer: what was written behind the thinking, without the end of the turn.
        tools: schemas of the tools on offer: `nemotron-3` writes values without their types.
    """
    return _PARSERS[notation](answer, tools)


def _hermes(answer: str, tools: Sequence[dict[str, Any]]) -> Written:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen, Alloy's own."""
    content, *blocks = answer.split(CALL_OPEN)
    found = Written(content)
    for block in blocks:
        body, closed, rest = block.partition(CALL_CLOSE)
        found.content += rest
        call = _call(_loads(body)) if closed else None
        _take(found, call, body)
    return found


def _nemotron_3(answer: str, tools: Sequence[dict[str, Any]]) -> Written:
    """`<tool_call><function=...><parameter=...>value</parameter></function></tool_call>`: also Qwen3-Coder."""
    properties = {tool["name"]: tool.get("parameters", {}).get("properties", {}) for tool in tools}
    content, *blocks = answer.split(CALL_OPEN)
    found = Written(content.rstrip("\n") if blocks else content)
    for block in blocks:
        body, closed, rest = block.partition(CALL_CLOSE)
        found.content += rest.strip("\n")
        function = _FUNCTION.fullmatch(body) if closed else None
        call = None
        if function:
            name = function[1].strip()
            arguments = _tagged_arguments(function[2], properties.get(name, {}))
            call = None if arguments is None else {"name": name, "arguments": arguments}
        _take(found, call, body)
    return found


def _tagged_arguments(text: str, properties: dict[str, Any]) -> dict[str, Any] | None:
    """Values in tags, of the types that the schema declares; None where text stands between the tags."""
    arguments: dict[str, Any] = {}
    place = 0
    for match in _PARAMETER.finditer(text):
        if match.start() != place:
            return None
        place = match.end()
        key, value = match[1].strip(), match[2]
        declared = properties.get(key, {})
        kind = declared.get("type", "string") if isinstance(declared, dict) else "string"
        read = value if kind == "string" else _loads(value)
        arguments[key] = value if read is None and value.strip() != "null" else read
    return arguments if not text[place:].strip() else None


def _llama_3(answer: str, tools: Sequence[dict[str, Any]]) -> Written:
    """The whole turn is `{"name": ..., "parameters": {...}}`, or several with `;` between them."""
    marked = answer.strip().startswith(_PYTHON_TAG)
    text = answer.strip().removeprefix(_PYTHON_TAG).strip()
    if not marked and not _LOOKS_LIKE_A_CALL.match(text):
        return Written(answer)
    found = Written("")
    for value, _ in _values(text, ";"):
        _take(found, _call(value), text)
    if not found.calls and not found.invalid:
        found.invalid.append(text)
    return found


def _mistral(answer: str, tools: Sequence[dict[str, Any]]) -> Written:
    """`[TOOL_CALLS] [{"name": ..., "arguments": {...}}]`, or `[TOOL_CALLS]name[ARGS]{...}` for each call."""
    content, *blocks = answer.split(_MISTRAL_OPEN)
    found = Written(content)
    for block in blocks:
        body = block.strip()
        if body.startswith(("[{", "[ {", "[\n")):
            listed = _loads(body)
            for item in listed if isinstance(listed, list) else [None]:
                _take(found, _call(item), body)
            continue
        name, _, rest = body.partition("{")
        arguments = _loads("{" + rest)
        name = name.strip().removesuffix(_MISTRAL_ARGUMENTS).strip()
        call = {"name": name, "arguments": arguments} if name and isinstance(arguments, dict) else None
        _take(found, call, body)
    return found


def _fenced(answer: str, tools: Sequence[dict[str, Any]]) -> Written:
    """A fenced block of JSON: one call, a list of them, or one a line. Other fenced JSON is an answer."""
    found = Written("")
    place = 0
    for match in _FENCE.finditer(answer):
        body = match[1]
        if not _LOOKS_LIKE_A_CALL.match(body):
            continue
        found.content += answer[place : match.start()]
        place = match.end()
        for value, _ in _values(body, ""):
            for item in value if isinstance(value, list) else [value]:
                _take(found, _call(item), body)
    found.content += answer[place:]
    return found


_PARSERS: dict[Notation, Callable[[str, Sequence[dict[str, Any]]], Written]] = {
    "hermes": _hermes,
    "nemotron-3": _nemotron_3,
    "llama-3": _llama_3,
    "mistral": _mistral,
    "fenced": _fenced,
}


def _take(found: Written, call: dict[str, Any] | None, body: str) -> None:
    if call is not None and _is_text(call):
        found.calls.append(call)
    else:
        found.invalid.append(body)


def _call(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}


def _values(text: str, separator: str) -> Iterator[tuple[Any, int]]:
    """JSON values one behind the other, each with where it ends; None for the rest that is no JSON."""
    place = 0
    while True:
        while place < len(text) and (text[place].isspace() or text[place] == separator):
            place += 1
        if place == len(text):
            return
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            yield None, len(text)
            return
        yield value, place


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_text(call: dict[str, Any]) -> bool:
    """Half a surrogate pair is JSON, but no text that could be written or tokenised."""
    try:
        json.dumps(call, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
