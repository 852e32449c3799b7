"""A pydantic error told in one line: the key, the rule, the value."""

from typing import Any

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    return "; ".join(_one(dict(problem)) for problem in error.errors(include_url=False))


def _one(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is needed"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not known"
    value = repr(problem["input"])
    return f"{key} = {value if len(value) <= 80 else value[:77] + '...'}: {problem['msg']}"
