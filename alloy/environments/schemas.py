"""Asking for a JSON object that satisfies a JSON schema of a few fields."""

import json
import random
from collections.abc import Sequence
from typing import Any, Literal

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

Kind = Literal["string", "integer", "boolean", "enum"]

THINGS = ("book", "car", "house", "lamp", "shop", "song", "trip", "watch")
# What a field may be called by its kind; no name is in two of them.
_FIELDS: dict[Kind, tuple[str, ...]] = {
    "string": ("name", "city", "owner", "title"),
    "integer": ("age", "count", "price", "size"),
    "boolean": ("new", "open", "ready", "sold"),
    "enum": ("color", "day", "level", "shape"),
}
KINDS = tuple(_FIELDS)
_ENUMS = {
    "color": ("blue", "green", "red", "white"),
    "day": ("Monday", "Friday", "Sunday", "today"),
    "level": ("low", "middle", "high", "none"),
    "shape": ("round", "flat", "long", "square"),
}
_TEXTS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "iris", "lotus", "maple")

_ASKS = (
    "Describe a {thing} in JSON.",
    "Make up a {thing} as JSON.",
    "Write JSON about a {thing}.",
    "Give me a {thing} in JSON.",
    "I need JSON for a {thing}.",
)
_RULES = (
    "Follow this schema: {schema}",
    "It must satisfy the schema {schema}",
    "The schema is {schema}",
    "Use the schema {schema}",
    "It has to fit {schema}",
)


class SchemaEnvironment:
    """An object of `min_fields` to `max_fields` fields, all required and no other allowed.

    Args:
        kinds: of fields: any text, a whole number between two bounds, true or false, one of a few words.
        max_number: the greatest upper bound of a whole number.
    """

    name = "schema"
    verifier = "schema"

    def __init__(
        self,
        min_fields: int = 1,
        max_fields: int = 3,
        max_number: int = 20,
        kinds: Sequence[Kind] = KINDS,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if isinstance(kinds, str) or unknown or not kinds:
            raise InputError(f"kinds = {kinds!r}: take some of {', '.join(KINDS)}.")
        self._names = [name for kind in dict.fromkeys(kinds) for name in _FIELDS[kind]]
        if not 1 <= min_fields <= max_fields <= len(self._names):
            raise InputError(
                f"min_fields = {min_fields}, max_fields = {max_fields}: 1 <= min_fields <= max_fields <= "
                f"{len(self._names)} is needed."
            )
        if max_number < 2:
            raise InputError(f"max_number = {max_number}: take 2 or more.")
        self.min_fields, self.max_fields, self.max_number = min_fields, max_fields, max_number

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        frames = split_grid(len(_ASKS), len(_RULES), split)
        return [self._task(split, seed, index, frames) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", **task.gold}

    def _task(self, split: Split, seed: int, index: int, frames: list[tuple[int, int]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        ask, rule = rng.choice(frames)
        names = rng.sample(self._names, rng.randint(self.min_fields, self.max_fields))
        fields = {name: self._field(rng, name) for name in names}
        schema = {
            "type": "object",
            "properties": fields,
            "required": names,
            "additionalProperties": False,
        }
        answer = {name: _value(rng, field) for name, field in fields.items()}
        text = f"{_ASKS[ask]} {_RULES[rule]}".format(thing=rng.choice(THINGS), schema=json.dumps(schema))
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"ask {ask}, rule {rule}",
            messages=[{"role": "user", "content": text}],
            gold={"schema": schema},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": "\n".join(f"{name}: {_told(field)}" for name, field in fields.items()),
                    "content": json.dumps(answer),
                }
            ],
        )

    def _field(self, rng: random.Random, name: str) -> dict[str, Any]:
        kind = next(kind for kind, names in _FIELDS.items() if name in names)
        if kind == "enum":
            return {"enum": rng.sample(_ENUMS[name], rng.randint(2, 3))}
        if kind != "integer":
            return {"type": kind}
        low, high = sorted(rng.sample(range(self.max_number + 1), 2))
        return {"type": kind, "minimum": low, "maximum": high}


def _value(rng: random.Random, field: dict[str, Any]) -> Any:
    """A value that the field's schema allows."""
    if "enum" in field:
        return rng.choice(field["enum"])
    if field["type"] == "integer":
        return rng.randint(field["minimum"], field["maximum"])
    return rng.random() < 0.5 if field["type"] == "boolean" else rng.choice(_TEXTS)


def _told(field: dict[str, Any]) -> str:
    """What a field asks for, in few words."""
    if "enum" in field:
        return " or ".join(field["enum"])
    if field["type"] == "integer":
        return f"{field['minimum']} to {field['maximum']}"
    return "true or false" if field["type"] == "boolean" else "text"
