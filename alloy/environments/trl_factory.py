"""Alloy's environments for TRL's own trainer: the other direction of `trl_interface`."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from inspect import Parameter, Signature
from typing import Any

from alloy.environments.registry import Environments
from alloy.environments.task import Environment, Message, Task
from alloy.errors import InputError

_HINTS: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}


def as_trl_environment(environment: Environment, tasks: Sequence[Task]) -> dict[str, Any]:
    """What a plain `trl.GRPOTrainer` needs to train on tasks with tools: `GRPOTrainer(..., **found)`.

    The tools of all the tasks are on offer in each of them, since TRL offers those of a class. A verdict
    without a reward is None there, which TRL leaves out.

    Returns: `environment_factory`, a class whose methods are the tools; `reward_funcs`, which judges what was
        written and the world that was left behind; `train_dataset`, a row a task.
    Raises:
        InputError: tasks without tools or a world, or a tool whose schema a Python signature cannot say.
    """
    from datasets import Dataset

    tools = {tool["name"]: tool for task in tasks for tool in task.tools}
    known = {task.id: replace(task, tools=list(tools.values())) for task in tasks}
    if not tools or environment.open(next(iter(known.values()))) is None:
        raise InputError(
            f"{environment.name}: nothing answers a call here. Take tasks with tools and a world."
        )

    class AlloyEnvironment:
        def reset(self, task: str, **columns: Any) -> None:
            self._task = known[task]
            self._world = environment.open(self._task)

    for name, tool in tools.items():
        setattr(AlloyEnvironment, name, _method(tool))

    def verdict(completions: Any, environments: Any, **columns: Any) -> list[float | None]:
        pairs = zip(environments, completions, strict=True)
        done = [(each._task, _turns(completion), each._world) for each, completion in pairs]
        judges = Environments({task.environment: environment for task in tasks})
        return [found.reward if found else None for found in judges.judge(done)]

    return {
        "environment_factory": AlloyEnvironment,
        "reward_funcs": verdict,
        "train_dataset": Dataset.from_list([{"prompt": task.messages, "task": task.id} for task in tasks]),
    }


def _method(tool: dict[str, Any]) -> Callable[..., str]:
    """A method that calls a tool, with the hints and the docstring that TRL reads its schema from."""
    from transformers.utils import get_json_schema

    name, parameters = tool["name"], tool["parameters"]
    properties, needed = parameters.get("properties", {}), parameters.get("required", [])

    def method(self: Any, **arguments: Any) -> str:
        return str(self._world.call(name, arguments))

    hints = {key: _HINTS.get(str(schema.get("type")), dict) for key, schema in properties.items()}
    lines = [tool["description"], "", *(["Args:"] if properties else [])]
    for key, schema in properties.items():
        choices = f" (choices: {json.dumps(schema['enum'])})" if "enum" in schema else ""
        lines.append(f"    {key}: {schema.get('description', key)}{choices}")
    method.__name__, method.__doc__, method.__annotations__ = name, "\n".join(lines), hints
    try:
        signature = [Parameter("self", Parameter.POSITIONAL_ONLY)]
        for key, hint in hints.items():
            default = Parameter.empty if key in needed else None
            signature.append(Parameter(key, Parameter.KEYWORD_ONLY, default=default, annotation=hint))
        method.__signature__ = Signature(signature)  # type: ignore[attr-defined]
        same = _said(get_json_schema(method)["function"]) == _said(tool)
    except Exception:  # inspect's, json's and transformers' own: all say that it cannot be said
        same = False
    if not same or name.startswith("_") or name in ("reset", "get_reward"):
        raise InputError(f"{name}: no Python method says this tool's schema. Take tasks without it.")
    return method


def _said(tool: dict[str, Any]) -> list[Any]:
    """What a tool's schema says, but for the descriptions of its arguments, which not every tool has."""
    properties = deepcopy(tool["parameters"].get("properties", {}))
    for schema in properties.values():
        schema.pop("description", None)
    return [tool["name"], tool["description"], properties, sorted(tool["parameters"].get("required", []))]


def _turns(completion: list[dict[str, Any]]) -> list[Message]:
    """TRL's turns as ours; where it was cut off behind a tool's answer, the policy said nothing."""
    turns: list[Message] = []
    for turn in completion:
        turns.append({"role": turn["role"], "content": turn.get("content") or ""})
        if turn.get("reasoning_content"):
            turns[-1]["thinking"] = turn["reasoning_content"]
        calls = [call["function"] for call in turn.get("tool_calls") or []]
        if calls:
            turns[-1]["tool_calls"] = [call for call in calls if isinstance(call["arguments"], dict)]
    return turns if turns[-1]["role"] == "assistant" else [*turns, {"role": "assistant", "content": ""}]
