"""What a model wrote, read as data: JSON out of a text, thinking off it, calls as they were sent."""

import json
import re
from typing import Any

MAX_DEPTH = 40
"""Levels of nesting; what is nested deeper is no answer of an API."""

_FENCE = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)```", re.DOTALL)
_START = re.compile(r"\{|\[\s*[{\]]")
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"


class NoJson(ValueError):
    """A text holds no JSON that can be used, and why."""


def read_json(text: str) -> Any:
    """The JSON object or array that a text is, or that stands in its last fence, or that it goes on with.

    Within a sentence only objects and lists of objects count: "[1]" may be a footnote.

    Numbers beyond a float, NaN, half surrogate pairs and deep nesting are refused: they could not be
    written again.

    Raises:
        NoJson: with what is wrong.
    """
    why = "there is no { or [ in it"
    fenced = _FENCE.findall(text)
    for candidate in (text.strip(), *(fenced[-1:])):
        if candidate.strip().startswith(("{", "[")):
            try:
                return _usable(json.loads(candidate, parse_constant=_refuse))
            except (ValueError, RecursionError) as error:
                why = str(error) or type(error).__name__
    start = _START.search(text)
    if start is not None:
        try:
            decoder = json.JSONDecoder(parse_constant=_refuse)
            return _usable(decoder.raw_decode(text, start.start())[0])
        except (ValueError, RecursionError) as error:
            why = str(error) or type(error).__name__
    raise NoJson(why)


def read_arguments(text: Any) -> dict[str, Any]:
    """The arguments of a call: a JSON object, as text or as itself; nothing is no arguments.

    Raises:
        NoJson: with what is wrong.
    """
    if text is None or text == "":
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse) if isinstance(text, str) else text
        if isinstance(value, dict):
            checked: dict[str, Any] = _usable(value)
            return checked
    except (ValueError, RecursionError, TypeError) as error:
        raise NoJson(str(error) or type(error).__name__) from None
    raise NoJson(f"{type(value).__name__} where an object is needed")


def split_thinking(text: str) -> tuple[str, str]:
    """Thinking at the start of a text, and what follows it. Thinking that was not closed is all of it."""
    if _THINK_CLOSE in text:
        thought, _, rest = text.partition(_THINK_CLOSE)
        return thought.replace(_THINK_OPEN, "", 1).strip(), rest.lstrip("\n")
    if text.lstrip().startswith(_THINK_OPEN):
        return text.lstrip().removeprefix(_THINK_OPEN).strip(), ""
    return "", text


def plain_text(value: Any) -> str:
    """A text that can be encoded; "" for what is no text."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _usable(value: Any) -> Any:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
            )
        ]
        if not level:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
            return value
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
