"""The tools on offer, from a file or an environment, with what is known of each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema.exceptions import SchemaError, best_match

from alloy.errors import InputError
from alloy.simulate.reading import compact
from alloy.simulate.told import Told, declared
from alloy.verify.schema import validator_of


@dataclass(frozen=True)
class Offer:
    """Tools of a conversation.

    Attributes:
        schemas: by name, each {"name", "description", "parameters"}.
        read_only: names of tools that change nothing.
        free_text: (tool, parameter) whose text the assistant composes.
    """

    schemas: dict[str, dict[str, Any]]
    read_only: frozenset[str] = frozenset()
    free_text: frozenset[tuple[str, str]] = frozenset()

    @property
    def listed(self) -> list[dict[str, Any]]:
        return list(self.schemas.values())

    @cached_property
    def said(self) -> Told:
        """What the schemas say in all their words."""
        return Told(self.listed)

    @cached_property
    def declared(self) -> dict[str, Told]:
        """By tool: the values that its schema itself gives for arguments."""
        return {name: Told(list(declared(self.parameters(name)))) for name in self.schemas}

    def parameters(self, name: str) -> dict[str, Any]:
        found = self.schemas.get(name, {}).get("parameters")
        return found if isinstance(found, dict) else {}

    def only(self, names: Iterable[str], read_only: Iterable[str] = ()) -> "Offer":
        """Some of the tools, in the order of all; some of them marked read-only."""
        wanted = set(names)
        return Offer(
            {name: schema for name, schema in self.schemas.items() if name in wanted},
            self.read_only | frozenset(read_only),
            self.free_text,
        )

    def complaint(self, name: str, arguments: dict[str, Any]) -> str | None:
        """What is wrong with the arguments of an offered tool, by its schema; None when nothing is."""
        try:
            validator = validator_of(json.dumps(self.parameters(name), sort_keys=True))
            wrong = best_match(validator.iter_errors(arguments))
        except Exception as error:  # a schema may refer to anything; that it is one was seen before
            return f"cannot be checked: {error}"[:300]
        if wrong is None:
            return None
        path = ".".join(str(part) for part in wrong.absolute_path)
        return f"{path}: {wrong.message}"[:300] if path else str(wrong.message)[:300]


def read_tools(path: Path, read_only: Iterable[str] = (), free_text: Iterable[str] = ()) -> Offer:
    """The tools of a JSON file.

    Tools may be wrapped as OpenAI's `{"type": "function", "function": {...}}`.

    Raises:
        InputError: no such file, no list, a tool without a name, parameters that are no schema of an
            object, a name twice, or a mark on a tool that is not there.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `tools` to a JSON list of tool schemas.")
    try:
        listed = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}). A list of tool schemas is needed.") from None
    if not isinstance(listed, list) or not listed:
        raise InputError(f'{path}: it holds no list of tools. Write [{{"name": ..., "parameters": ...}}].')
    schemas: dict[str, dict[str, Any]] = {}
    marked = list(read_only)
    for number, item in enumerate(listed):
        where = f"{path}: [{number}]"
        tool = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
            raise InputError(f"{where}: {compact(item)[:80]} has no name. A tool is an object with a name.")
        name = tool["name"]
        if name in schemas:
            raise InputError(f"{where}: a tool {name!r} stands there before. Rename or remove one.")
        if tool.get("read_only") is True:
            marked.append(name)
        schemas[name] = {
            "name": name,
            "description": str(tool.get("description") or ""),
            "parameters": _parameters(tool, where, name),
        }
    _require_known(marked, schemas, path, "read_only")
    pairs = [(name, parameter) for name, _, parameter in (item.partition(".") for item in free_text)]
    _require_known([name for name, _ in pairs], schemas, path, "free_text")
    for name, parameter in pairs:
        if parameter not in schemas[name]["parameters"].get("properties", {}):
            raise InputError(f"free_text: {name!r} of {path} has no parameter {parameter!r}. Correct it.")
    return Offer(schemas, frozenset(marked), frozenset(pairs))


def offer_of(
    tools: Iterable[dict[str, Any]], read_only: Iterable[str] = (), free_text: Iterable[str] = ()
) -> Offer:
    """The tools of an environment's task."""
    pairs = (item.partition(".") for item in free_text)
    return Offer(
        {tool["name"]: tool for tool in tools},
        frozenset(read_only),
        frozenset((name, parameter) for name, _, parameter in pairs),
    )


def _parameters(tool: dict[str, Any], where: str, name: str) -> dict[str, Any]:
    given = tool.get("parameters") or {"type": "object", "properties": {}}
    try:
        if not isinstance(given, dict) or given.get("type", "object") != "object":
            raise SchemaError("a schema of type object is needed")
        if not isinstance(given.get("properties", {}), dict):
            raise SchemaError("properties is no object")
        validator_of(json.dumps(given, sort_keys=True))
    except (SchemaError, RecursionError) as error:
        told = getattr(error, "message", error)
        raise InputError(f"{where}: the parameters of {name!r} are no JSON schema: {told}.") from None
    return given


def _require_known(names: Iterable[str], schemas: dict[str, Any], path: Path, key: str) -> None:
    for name in names:
        if name not in schemas:
            raise InputError(f"{key}: {name!r} is no tool of {path}. Known: {', '.join(schemas)}.")
