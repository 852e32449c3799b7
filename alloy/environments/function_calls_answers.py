"""The leaderboard's possible answers: which values of a call's arguments are right.

For each argument the data list the values that are right; an empty text among them means that the
argument may be left out. Within an object every key has such a list of its own.
"""

import re
from typing import Any

Possible = dict[str, list[Any]]

LEFT_OUT = ""
_IGNORED = re.compile(r"[ ,./\-_*^]")


def first_answer(possible: Possible, parameters: dict[str, Any]) -> dict[str, Any]:
    """The call that takes the first possible value of every argument that cannot be left out."""
    required = parameters.get("required", [])
    return {
        name: _first(values)
        for name, values in possible.items()
        if LEFT_OUT not in values or (name in required and any(value != LEFT_OUT for value in values))
    }


def _first(values: list[Any]) -> Any:
    return _plain(next((value for value in values if value != LEFT_OUT), LEFT_OUT))


def _plain(value: Any) -> Any:
    """A possible value as a call would write it: an object's lists of values become their first."""
    if isinstance(value, dict):
        return {key: _first(values) for key, values in _lists(value).items() if LEFT_OUT not in values}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _lists(wanted: dict[str, Any]) -> Possible:
    """An object's possible values; here and there the data write one value without its list."""
    return {key: values if isinstance(values, list) else [values] for key, values in wanted.items()}


def wrong_argument(arguments: dict[str, Any], possible: Possible, parameters: dict[str, Any]) -> str | None:
    """What is wrong with a call's arguments, in words; None where nothing is."""
    properties = parameters.get("properties", {})
    for name in parameters.get("required", []):
        if name not in arguments:
            return f"{name} is missing"
    for name, value in arguments.items():
        if name not in possible or name not in properties:
            return f"{name} is not asked for"
        if not _is_of_type(value, properties[name].get("type"), possible[name]):
            return f"{name} is of the wrong type"
        if not any(_same(value, wanted) for wanted in possible[name]):
            return f"{name} has the wrong value"
    for name, values in possible.items():
        if name not in arguments and LEFT_OUT not in values:
            return f"{name} is missing"
    return None


def _is_of_type(value: Any, declared: str | None, wanted: list[Any]) -> bool:
    """Of the type that the schema declares, or of the type that a possible answer has."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    kind = kinds.get(declared or "")
    if kind is None or any(type(value) is type(other) for other in wanted if other != LEFT_OUT):
        return True
    return isinstance(value, kind) and (declared == "boolean" or not isinstance(value, bool))


def _same(value: Any, wanted: Any) -> bool:
    """Equal as the leaderboard sees it: case, spaces and light punctuation of texts do not count."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and _same_object(value, wanted)
    if isinstance(wanted, list):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(_same(mine, theirs) for mine, theirs in zip(value, wanted, strict=True))
        )
    if isinstance(wanted, str):
        return isinstance(value, str) and _bare(value) == _bare(wanted)
    # In Python True equals 1: a yes is no number.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _same_object(value: dict[str, Any], wanted: Possible) -> bool:
    lists = _lists(wanted)
    return all(
        any(_same(value[key], one) for one in values) if key in value else LEFT_OUT in values
        for key, values in lists.items()
    ) and all(key in lists for key in value)


def _bare(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')
