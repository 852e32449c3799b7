"""Structured output: does a completion hold JSON that satisfies a JSON schema?"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from alloy.verify.answer import answer_of
from alloy.verify.verdict import Verdict, unparsable

MAX_STARTS = 100
"""Brackets that are tried as the start of a JSON value."""

_FENCE = re.compile(r"```[ \t]*(?:json|JSON|Json)?[ \t]*\n(.*?)```", re.DOTALL)
_TYPES: dict[str, type] = {"object": dict, "array": list}


def verify_schema(completion: str, schema: dict[str, Any], thinking_opened: bool = False) -> Verdict:
    """Reward 1 when the JSON in a completion satisfies the schema, else 0; what it says is not judged.

    The JSON is the whole answer, or the last fenced block, or the last object or array within the
    text (of the type that the schema names, when it names one). NaN and Infinity are no JSON.
    References to other documents are not followed.

    Args:
        schema: a JSON schema of any draft that jsonschema knows.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    import jsonschema

    try:
        validator = validator_of(json.dumps(schema, sort_keys=True))
    except jsonschema.SchemaError as error:
        return Verdict(None, "error", f"schema: {error.message}")
    answer = answer_of(completion, thinking_opened)
    if answer is None:
        return unparsable("the thinking was never closed")
    values = list(_values(answer, _TYPES.get(str(schema.get("type")))))
    if not values:
        return unparsable("no JSON found")
    problem = jsonschema.exceptions.best_match(validator.iter_errors(values[-1]))
    if problem is None:
        return Verdict(1.0)
    path = "/".join(str(part) for part in problem.absolute_path)
    return Verdict(0.0, "ok", f"{path or 'the value'}: {problem.message}"[:300])


@lru_cache(maxsize=4096)
def validator_of(schema: str) -> Any:
    """A validator of the schema that this JSON says, read once; it follows no references to other documents.

    Raises:
        jsonschema.SchemaError: it is no schema.
    """
    import jsonschema
    import referencing

    parsed = json.loads(schema)
    cls = jsonschema.validators.validator_for(parsed, default=jsonschema.Draft202012Validator)
    cls.check_schema(parsed)
    # An empty registry: without one, jsonschema would fetch references over the network.
    return cls(parsed, registry=referencing.Registry())


def _values(answer: str, wanted: type | None) -> Iterator[Any]:
    """The JSON values that an answer may mean; the last one is meant."""
    try:
        yield _loads(answer.strip())
        return
    except (ValueError, RecursionError):
        pass
    fenced = []
    for block in _FENCE.findall(answer):
        try:
            fenced.append(_loads(block.strip()))
        except (ValueError, RecursionError):
            continue
    if fenced:
        yield from fenced
        return
    embedded = list(_embedded(answer))
    yield from [value for value in embedded if wanted is None or isinstance(value, wanted)] or embedded


def _embedded(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_refuse)
    position = 0
    for _ in range(MAX_STARTS):
        start = re.compile(r"[{\[]").search(text, position)
        if start is None:
            return
        try:
            value, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
        else:
            yield value


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
