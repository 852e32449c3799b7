"""A class of the user's, written for TRL's `environment_factory`: what it offers, and what is wrong with it."""

import inspect
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from alloy.errors import InputError
from alloy.named import load_named
from alloy.verify.schema import validator_of

_NOT_TOOLS = ("reset", "get_reward")
RAISED = (Exception, SystemExit)
"""What a user's code may raise: `exit()` in a tool would otherwise end the run."""


class NotText(TypeError):
    """It said something that no policy of Alloy's can read."""


class TrlClass:
    """The class that `package.module:Class` names, or that a function there makes instances of.

    Attributes:
        make: makes an instance, without arguments.
        tool_names: of its public methods, by the rule of TRL's trainer.

    Raises:
        InputError: there is none, it lacks something, or has what is not waited for here.
    """

    def __init__(self, told: str) -> None:
        self.told = told
        self.make: Callable[[], Any] = load_named(told, "environment")
        self.cls: type = self.make if isinstance(self.make, type) else type(self.made())
        self.tool_names = _tool_names(self.cls, told)
        self._reset = inspect.signature(self.cls.reset)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return self.told

    def made(self) -> Any:
        """An instance.

        Raises:
            InputError: it cannot be made.
        """
        try:
            return self.make()
        except RAISED as error:
            raise InputError(
                f"{self.told}: it cannot be made ({tell(error)}). It must be made without arguments."
            ) from None

    @property
    def takes_prompt(self) -> bool:
        """Whether `reset` takes `prompt`, as it must in TRL."""
        takes = self._reset.parameters.values()
        return any(each.name == "prompt" or each.kind is each.VAR_KEYWORD for each in takes)

    def check_arguments(self, arguments: dict[str, Any]) -> None:
        """Raises TypeError where `reset` does not take them."""
        self._reset.bind(None, **arguments)

    @cached_property
    def tools(self) -> list[dict[str, Any]]:
        """What a policy is told of the public methods: word for word what TRL tells it.

        Raises:
            InputError: one without type hints or a docstring, or with a type that JSON has not.
        """
        # At config time nothing may load torch, and this does.
        from transformers.utils import get_json_schema

        found = []
        for name in self.tool_names:
            try:
                found.append(get_json_schema(getattr(self.cls, name))["function"])
                argument_check(found[-1])
            except Exception as error:  # transformers, typing and jsonschema each have their own
                raise InputError(
                    f"{self.told}: {name} cannot be described as a tool ({tell(error)}). Give each argument a type that "
                    "JSON has, and a line under Args: in the docstring."
                ) from None
        return found


def _tool_names(cls: type, told: str) -> list[str]:
    # On the class: on an instance, getmembers would evaluate properties.
    methods = dict(inspect.getmembers(cls, inspect.isfunction))
    names = [name for name in methods if name not in _NOT_TOOLS and not name.startswith("_")]
    for name in (*_NOT_TOOLS, *names):
        method = methods.get(name)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise InputError(
                f"{told}: {name} is async, and Alloy waits for no coroutine. Make it a plain method (asyncio.run inside)."
            )
    if "reset" not in methods:
        raise InputError(
            f"{told}: there is no reset. Give it a method reset(self, ...) that takes a row's columns and returns "
            "what is appended to the prompt, or None."
        )
    if "get_reward" not in methods:
        raise InputError(
            f"{told}: there is no get_reward, and Alloy takes no reward function beside a class. Give it a method "
            "get_reward(self) that returns a number from 0 to 1."
        )
    if not names:
        raise InputError(f"{told}: there is no public method, so nothing can be called. Give it one a tool.")
    return names


# What it says.


def as_text(said: Any) -> Any:
    """Content blocks, which TRL takes too, as their text; anything else as it is.

    Raises:
        NotText: there is an image among them.
    """
    if not (isinstance(said, list) and said and all(isinstance(b, dict) and "type" in b for b in said)):
        return said
    for block in said:
        if block["type"] != "text":
            raise NotText(f"it returned a block of type {block['type']!r}, and policies read text")
    return "".join(str(block.get("text", "")) for block in said)


def observation(returned: Any) -> str | None:
    """What a `reset` returned, as text; None for nothing.

    Raises:
        NotText: it is something else.
    """
    said = as_text(returned)
    if said is not None and not isinstance(said, str):
        raise NotText(f"it returned {type(said).__name__}, a text or None is needed")
    return said


def tell(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# What it is given.


def argument_check(tool: dict[str, Any]) -> Callable[[Any], str]:
    """Says what is wrong with the arguments of a call, by the tool's schema; "" when nothing is.

    No argument that the schema does not name fits.

    Raises:
        jsonschema.SchemaError: the schema is none.
    """
    schema = {**_standard(tool["parameters"]), "additionalProperties": False}
    validator = validator_of(json.dumps(schema, sort_keys=True))

    def complaint(arguments: Any) -> str:
        from jsonschema.exceptions import best_match

        problem = best_match(validator.iter_errors(arguments))
        if problem is None:
            return ""
        path = "/".join(str(part) for part in problem.absolute_path)
        return f"{path}: {problem.message}"[:300] if path else str(problem.message)[:300]

    return complaint


def _standard(schema: Any) -> Any:
    """A schema of transformers in JSON schema's own words: it says `nullable` where null is allowed, too."""
    if isinstance(schema, list):
        return [_standard(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # An argument may have that name; then it is a schema.
    nullable = schema.get("nullable") is True
    found = {key: _standard(value) for key, value in schema.items() if not (nullable and key == "nullable")}
    return {"anyOf": [found, {"type": "null"}]} if nullable else found
