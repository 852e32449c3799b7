"""docs/configuration.md, written from the configs themselves: `python -m alloy.reference > docs/configuration.md`.

Imports no torch. What a key means is the text below its field; what it takes is what pydantic checks.
"""

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from alloy.pipeline import RecipeConfig, import_stage
from alloy.reference_introduction import INTRODUCTION
from alloy.simulate.config import SimulateConfig

STAGES = {
    "Base model": "alloy.base",
    "SFT": "sft",
    "GRPO": "grpo",
    "DPO": "dpo",
    "Reward model": "rlhf.reward_model",
    "RLHF": "rlhf",
    "Merge": "merge",
    "Evaluation": "alloy.evaluate",
}

_NAMES = {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path", Any: "anything"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "at least {} of them"}


def reference() -> str:
    """The whole page, in Markdown."""
    roots: dict[str, tuple[type[BaseModel], str]] = {
        "Recipe": (RecipeConfig, "`configs/<recipe>/pipeline.yaml`, read by `python -m alloy run RECIPE`.")
    }
    for title, package in STAGES.items():
        roots[title] = (
            import_stage(package).CONFIG,
            f"`package: {package}`, or `python -m {package} CONFIG`.",
        )
    roots["Simulation"] = (SimulateConfig, "`python -m alloy simulate CONFIG`.")
    blocks: dict[str, type[BaseModel]] = {}
    for cls, _ in roots.values():
        _collect(cls, blocks)
    parts = [INTRODUCTION]
    for title, (cls, where) in roots.items():
        parts.append(f"## {title}\n\n{where} {_told(cls)}\n\n{_table(cls)}\n")
    parts.append("## Blocks\n\nWhat a key holds that is a mapping of its own.\n")
    for name in sorted(blocks):
        parts.append(f"### {name}\n\n{_told(blocks[name])}\n\n{_table(blocks[name])}\n")
    return "\n".join(parts)


def _collect(cls: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    for field in cls.model_fields.values():
        for model in _models(field.annotation):
            if _title(model) not in found:
                found[_title(model)] = model
                _collect(model, found)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _title(cls: type[BaseModel]) -> str:
    return cls.__name__.removesuffix("Config")


def _told(cls: type[BaseModel]) -> str:
    """A class's docstring in one paragraph."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


def _table(cls: type[BaseModel]) -> str:
    rows = ["| key | type | default | rule | meaning |", "|---|---|---|---|---|"]
    filled = _filled(cls)
    for name, field in sorted(cls.model_fields.items(), key=lambda told: _owner(cls, told[0])):
        cells = (f"`{name}`", _type(field.annotation), _default(name, field, filled), _rule(field), _meaning(cls, name))  # fmt: skip
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _owner(cls: type[BaseModel], name: str) -> int:
    """How far up a field comes from: a class's own keys stand first."""
    return next(i for i, owner in enumerate(cls.__mro__) if name in inspect.get_annotations(owner))


def _type(annotation: Any) -> str:
    """In words: `list of integer`, `name: Suite`; a block is a link to its table."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts) if len(parts) == 1 else "choice"
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None)) + _or_null(parts)
    if origin is list:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"mapping of name to {_type(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = _title(annotation)
        return f"[{title}](#{title.lower()})"
    return _NAMES[annotation]


def _or_null(parts: tuple[Any, ...]) -> str:
    return " or null" if type(None) in parts else ""


@cache
def _filled(cls: type[BaseModel]) -> dict[str, Any]:
    """What an empty mapping becomes: a preset may fill in what has no default of its own."""
    try:
        return dict(cls.model_validate({}))
    except ValidationError:
        return {}


def _default(name: str, field: FieldInfo, filled: dict[str, Any]) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        if name not in filled:
            return "**needed**"
        default = filled[name]
    if isinstance(default, BaseModel):
        if dict(default) == _filled(type(default)):
            return "its defaults"
        return f"`{_flow(default.model_dump(mode='json', exclude_defaults=True))}`"
    return f"`{_flow(default)}`"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _rule(field: FieldInfo) -> str:
    rules = []
    for literal in _literals(field.annotation):
        if len(choices := get_args(literal)) > 1:
            rules.append(", ".join(f"`{choice}`" for choice in choices))
    for constraint in field.metadata:
        for sign, text in _SIGNS.items():
            if (bound := getattr(constraint, sign, None)) is not None:
                rules.append(text.format(bound) if "{}" in text else f"{text} {bound:g}")
    return "; ".join(rules)


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield annotation
        return
    for part in get_args(annotation):
        yield from _literals(part)


def _meaning(cls: type[BaseModel], name: str) -> str:
    """The text below a field, of the nearest class that has it; else the docstring of the block it holds."""
    for owner in cls.__mro__:
        if issubclass(owner, BaseModel) and owner is not BaseModel and name in (told := _field_texts(owner)):
            return told[name]
    models = list(_models(cls.model_fields[name].annotation))
    return _told(models[0]) if models else ""


@cache
def _field_texts(cls: type[BaseModel]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(inspect.cleandoc(str(text.value.value)).split())
    return found


if __name__ == "__main__":
    sys.stdout.write(reference())
