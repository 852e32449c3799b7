"""The leaderboard's possible answers: which calls are right.

For each argument the data list the values that are right; an empty text among them means that the
argument may be left out. Within an object every key has such a list of its own.

A call is right exactly when the leaderboard's own checker for Python says so, accidents included: an
int is a float but not the other way round; case, spaces and light punctuation of a text do not count,
but only where the text is an argument, an item of a list or a value of an object, not deeper; where
all possible values have another type than the schema's (a variable's name, say), they are compared to
the letter; of calls in parallel each answer takes the first call that fits it. One thing differs: an
int too large for a float, at which that checker raises, is wrong here.
"""

import re
from collections.abc import Sequence
from typing import Any

Possible = dict[str, list[Any]]
Call = dict[str, Any]
"""`name` and `arguments`."""
Answer = dict[str, Any]
"""`function`, `possible` (its arguments' right values) and `parameters` (its schema)."""

LEFT_OUT = ""
_IGNORED = re.compile(r"[ ,./\-_*^]")
_KINDS: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def first_answer(possible: Possible, parameters: dict[str, Any]) -> dict[str, Any]:
    """The arguments that take the first possible value wherever one cannot be left out."""
    required = parameters.get("required", [])
    return {
        name: _first(values)
        for name, values in possible.items()
        if LEFT_OUT not in values or (name in required and any(value != LEFT_OUT for value in values))
    }


def _first(values: list[Any]) -> Any:
    return _plain(next((value for value in values if value != LEFT_OUT), LEFT_OUT))


def _plain(value: Any) -> Any:
    """A possible value as a call would write it: an object's lists of values become their first.

    Deep within an object the data write one value without its list, once.
    """
    if isinstance(value, dict):
        return {
            key: _first(values) if isinstance(values, list) else values
            for key, values in value.items()
            if not isinstance(values, list) or LEFT_OUT not in values
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def wrong_calls(calls: Sequence[Call], answers: Sequence[Answer]) -> str | None:
    """What is wrong with the calls of a turn, in words; None where they are what is asked for, in any order."""
    if len(calls) != len(answers):
        return f"{len(calls)} calls, not {len(answers)}"
    left = list(calls)
    for answer in answers:
        complaints = []
        for place, call in enumerate(left):
            complaint = wrong_call(call, answer)
            if complaint is None:
                del left[place]
                break
            complaints.append(complaint)
        else:
            # The call of this function came closest; with none, whatever was called instead.
            return next((told for told in complaints if not told.startswith("function")), complaints[0])
    return None


def wrong_call(call: Call, answer: Answer) -> str | None:
    """What is wrong with one call, in words; None where it is the answer."""
    if call["name"] != answer["function"]:
        return f"function {str(call['name'])[:60]!r}"
    wrong = wrong_argument(call["arguments"], answer["possible"], answer["parameters"])
    return None if wrong is None else f"argument {wrong}"


def wrong_argument(arguments: dict[str, Any], possible: Possible, parameters: dict[str, Any]) -> str | None:
    """What is wrong with a call's arguments, in words; None where nothing is."""
    properties = parameters.get("properties", {})
    for name in parameters.get("required", []):
        if name not in arguments:
            return f"{name} is missing"
    for name, value in arguments.items():
        if name not in possible or name not in properties:
            return f"{name} is not asked for"
        complaint = _wrong_value(value, possible[name], properties[name])
        if complaint:
            return f"{name} {complaint}"
    for name, values in possible.items():
        if name not in arguments and LEFT_OUT not in values:
            return f"{name} is missing"
    return None


def _wrong_value(value: Any, possible: list[Any], schema: dict[str, Any]) -> str:
    """What is wrong with a value; empty where nothing is."""
    kind = _KINDS.get(schema.get("type", "string"))
    of_items = _KINDS.get((schema.get("items") or {}).get("type", "string")) if kind is list else None
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return "has the wrong value"
    given, answered = type(value), _type_of(possible)
    if given is kind:
        if of_items is not None and not any(_holds(value, one, of_items) for one in possible):
            return "is of the wrong type"
        to_the_letter = answered not in (None, kind)
    elif answered is not None and given is answered:
        to_the_letter = True
    else:
        return "is of the wrong type"
    if to_the_letter or kind in (int, float, bool):
        same = value in possible
    elif kind is dict:
        same = any(_same_object(value, one) for one in possible)
    elif kind is list and of_items is dict:
        same = any(_same_objects(value, one) for one in possible)
    elif kind is list:
        same = any(_same_list(value, one) for one in possible)
    else:
        same = _bare(value) in [_bare(one) for one in possible if type(one) is str]
    return "" if same else "has the wrong value"


def _type_of(possible: list[Any]) -> type | None:
    """Of the first value; None where there is nothing but leaving out."""
    return next((type(value) for value in possible if value != LEFT_OUT), None)


def _holds(value: list[Any], possible: Any, kind: type) -> bool:
    """Whether every item has the schema's type or that of the possible list's first."""
    if type(possible) is not list:
        return True
    return all(type(item) in (kind, _type_of(possible)) for item in value)


def _same_list(value: list[Any], possible: Any) -> bool:
    # To leave a list out and to give an empty one is the same.
    return isinstance(possible, list | str) and [_bare(item) for item in value] == [
        _bare(item) for item in possible
    ]


def _same_objects(value: list[Any], possible: Any) -> bool:
    return (
        isinstance(possible, list | str)
        and len(value) == len(possible)
        and all(_same_object(mine, theirs) for mine, theirs in zip(value, possible, strict=True))
    )


def _same_object(value: Any, possible: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(possible, dict):
        return False
    return all(
        key in possible and _bare(one) in [_bare(right) for right in possible[key]]
        for key, one in value.items()
    ) and all(key in value or LEFT_OUT in values for key, values in possible.items())


def _bare(value: Any) -> Any:
    """A text as the leaderboard compares it; anything else as it is."""
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
