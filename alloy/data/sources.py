"""Sources to rows: conversations with where they came from."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alloy.data.config import SourceConfig
from alloy.environments.registry import make_environment
from alloy.environments.task import Message
from alloy.errors import InputError

_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn from.

    Attributes:
        where: file and line, or the task's id; for messages about it.
    """

    messages: list[Message]
    tools: list[dict[str, Any]]
    thinking: bool
    where: str


def read_rows(source: SourceConfig, seed: int) -> Iterator[Row]:
    """The rows of a source, the same for the same seed.

    Raises:
        InputError: a missing file, or a row without what is needed, with file and line.
    """
    if source.environment is not None:
        yield from _environment_rows(source, seed)
    elif source.path is not None:
        for number, row in enumerate(islice(read_jsonl(source.path), source.rows), 1):
            yield _file_row(row, source, f"{source.path}:{number}")


def _environment_rows(source: SourceConfig, seed: int) -> Iterator[Row]:
    environment = make_environment(source.environment or "", source.options)
    for task in environment.tasks("train", source.rows or 0, seed):
        if not task.demonstration:
            raise InputError(
                f"{task.id}: this environment has no demonstrations. Take it out of the sources."
            )
        thinking = source.thinking and any(turn.get("thinking") for turn in task.demonstration)
        yield Row([*task.messages, *task.demonstration], task.tools, thinking, task.id)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL or JSONL.gz file.

    Raises:
        InputError: no such file, or a line that is not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `path` to a JSONL file.")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        try:
            for number, line in enumerate(stream, 1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"{path}:{number}: not JSON ({error}). One object a line is needed."
                    ) from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number}: {type(row).__name__} where an object is needed.")
                yield row
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not readable as UTF-8 JSONL ({error}).") from None


def _file_row(row: dict[str, Any], source: SourceConfig, where: str) -> Row:
    if "messages" in row:
        messages = [read_turn(turn, where) for turn in _expect(row, "messages", list, where)]
        if any(turn["role"] == "system" for turn in messages[1:]):
            raise InputError(
                f"{where}: a system turn after the first turn is in no rendering. Move it to the front."
            )
    elif "prompt" in row and "completion" in row:
        prompt, completion = _expect(row, "prompt", str, where), _expect(row, "completion", str, where)
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        if row.get("thinking"):
            messages[1]["thinking"] = _expect(row, "thinking", str, where)
    else:
        raise InputError(
            f"{where}: neither `messages` nor `prompt` and `completion`; it has {', '.join(sorted(row)) or 'nothing'}. "
            "Rename the columns."
        )
    if not any(turn["role"] == "assistant" for turn in messages):
        raise InputError(f"{where}: no assistant turn: there is nothing to learn. Remove the row.")
    tools = [_tool(tool, where) for tool in _list(row, "tools", where)]
    thinking = source.thinking and any(turn.get("thinking") for turn in messages)
    return Row(messages, tools, thinking, where)


def _expect(row: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if not isinstance(row[key], kind):
        raise InputError(f"{where}: {key} is {type(row[key]).__name__}, a {kind.__name__} is needed.")
    return row[key]


def _list(row: dict[str, Any], key: str, where: str) -> list[Any]:
    """A list that may be missing or null."""
    return _expect(row, key, list, where) if row.get(key) is not None else []


def _tool(tool: Any, where: str) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InputError(f"{where}: a tool is an object with a name, not {str(tool)[:80]!r}.")
    return function


def read_turn(turn: Any, where: str) -> Message:
    """One turn of a file in our shape.

    Raises:
        InputError: an unknown role, or a part of the wrong type.
    """
    if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
        role = turn.get("role") if isinstance(turn, dict) else turn
        raise InputError(f"{where}: a turn's role is {role!r}. Known roles: {', '.join(_ROLES)}.")
    content = turn.get("content")
    if not isinstance(content, str) and not (content is None and turn.get("tool_calls")):
        raise InputError(
            f"{where}: the {turn['role']} turn's content is {type(content).__name__}, a str is needed."
        )
    message: Message = {"role": turn["role"], "content": content or ""}
    thought = turn.get("thinking") or turn.get("reasoning_content") or turn.get("reasoning")
    if thought:
        if not isinstance(thought, str):
            raise InputError(f"{where}: a turn's thinking is {type(thought).__name__}, a str is needed.")
        message["thinking"] = thought
    if turn.get("tool_calls"):
        message["tool_calls"] = [_call(call, where) for call in _list(turn, "tool_calls", where)]
    return message


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else {}
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise InputError(f"{where}: a tool call's arguments are no JSON: {arguments[:80]!r}.") from None
    if not isinstance(function.get("name"), str) or not isinstance(arguments, dict):
        raise InputError(
            f"{where}: a tool call needs a name and an object of arguments, not {str(call)[:80]}."
        )
    return {"name": function["name"], "arguments": arguments}
