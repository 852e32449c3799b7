"""One call of one function, out of a few on offer: the prompts of the Berkeley Function Calling Leaderboard.

The data come with the package `bfcl-eval`; only its files are read, because importing it pulls in the
clients of many vendors. Which arguments are right is decided here, by the leaderboard's rules.

Source: Patil et al. 2025, "The Berkeley Function Calling Leaderboard (BFCL)".
"""

import importlib.util
import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from alloy.environments.function_calls_answers import first_answer, wrong_argument
from alloy.environments.phrasing import seed_of, split_templates
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError
from alloy.verify.verdict import Verdict, unparsable

CATEGORIES = ("simple_python", "multiple", "live_simple", "live_multiple")
"""Those with one call as the answer, whose functions are Python's."""
_CLASSES = 5
"""That functions are dealt into by their order in the files; three of them are for training."""
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""JSON schema's names of the data's types; the others are the same."""

Item = dict[str, Any]
"""`messages`, `tools`, `function` (the name of the right one), `possible` (its arguments' right values)."""


class FunctionCallsEnvironment:
    """Questions that one call answers.

    The functions are what is held out: the one that a task's answer calls is called in no other split.

    Args:
        categories: of the leaderboard.
        max_tools: on offer in a task.
        max_prompt_characters: of question and tools together.
    """

    name = "function_calls"

    def __init__(
        self,
        categories: Sequence[str] = CATEGORIES,
        max_tools: int = 3,
        max_prompt_characters: int = 1000,
    ) -> None:
        unknown = [category for category in categories if category not in CATEGORIES]
        if unknown or not categories:
            raise InputError(f"categories = {list(categories)!r}: take some of {', '.join(CATEGORIES)}.")
        self.items = [
            item
            for category in categories
            for item in _read(category)
            if len(item["tools"]) <= max_tools and _characters(item) <= max_prompt_characters
        ]
        self._functions = list(dict.fromkeys(item["function"] for item in self.items))
        if len(self._functions) < _CLASSES:
            raise InputError(
                f"max_tools = {max_tools}, max_prompt_characters = {max_prompt_characters}: only "
                f"{len(self._functions)} functions are left. Raise one of the two."
            )

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """The split's items in the seed's order; when they run out they begin again in another."""
        functions = set(split_templates(self._functions, split))
        items = [item for item in self.items if item["function"] in functions]
        order: list[Item] = []
        while len(order) < count:
            order += random.Random(seed_of(self.name, split, seed, len(order))).sample(items, len(items))
        return [self._task(f"{self.name}/{split}/{seed}/{i}", item) for i, item in enumerate(order[:count])]

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """1 for the right call and nothing else, 0 otherwise; `parts` tells how far it came."""
        turn = completion[-1]
        calls = turn.get("tool_calls") or []
        if turn.get("invalid_calls") or len(calls) != 1:
            return unparsable(
                f"{len(calls)} valid calls and {len(turn.get('invalid_calls') or [])} others, not one"
            )
        gold = task.gold
        named = calls[0]["name"] == gold["function"]
        wrong = wrong_argument(calls[0]["arguments"], gold["possible"], gold["parameters"]) if named else ""
        right = named and wrong is None
        detail = "" if right else f"argument {wrong}" if named else f"function {str(calls[0]['name'])[:60]!r}"
        return Verdict(float(right), detail=detail[:200], parts={"call": 1.0, "function": float(named)})

    def _task(self, name: str, item: Item) -> Task:
        arguments = first_answer(item["possible"], item["parameters"])
        told = ", ".join(f"{key} = {json.dumps(value)}" for key, value in arguments.items())
        return Task(
            id=name,
            environment=self.name,
            template=item["function"],
            messages=item["messages"],
            tools=item["tools"],
            gold={key: item[key] for key in ("function", "possible", "parameters")},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": f"{item['function']}: {told}" if told else item["function"],
                    "content": "",
                    "tool_calls": [{"name": item["function"], "arguments": arguments}],
                }
            ],
        )


def _characters(item: Item) -> int:
    return len(json.dumps(item["tools"])) + sum(len(turn["content"]) for turn in item["messages"])


@cache
def _read(category: str) -> list[Item]:
    """A category's items, without those whose own answer breaks their own schema.

    Raises:
        InputError: the package is not installed.
    """
    folder = _data_folder()
    rows = _lines(folder / f"BFCL_v4_{category}.json")
    answers = {
        row["id"]: row["ground_truth"]
        for row in _lines(folder / "possible_answer" / f"BFCL_v4_{category}.json")
    }
    found = []
    for row in rows:
        ((function, possible),) = answers[row["id"]][0].items()
        tools = [_tool(tool) for tool in row["function"]]
        parameters = next((tool["parameters"] for tool in tools if tool["name"] == function), None)
        if parameters is None or len(row["question"]) != 1:
            continue
        if wrong_argument(first_answer(possible, parameters), possible, parameters) is None:
            found.append(
                {
                    "messages": row["question"][0],
                    "tools": tools,
                    "function": function,
                    "possible": possible,
                    "parameters": parameters,
                }
            )
    return found


def _data_folder() -> Path:
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "function_calls: the package bfcl-eval is not installed. `make setup` installs it, without what it needs "
            "to be imported."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Install the version of bfcl-eval that is locked.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": function["name"],
        "description": function["description"],
        "parameters": _schema(function["parameters"]),
    }


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The data's schema in JSON schema's names."""
    shaped = {key: value for key, value in schema.items() if key not in ("type", "optional")}
    declared = _TYPES.get(schema.get("type", "any"), schema.get("type"))
    if "properties" in schema:
        shaped["properties"] = {name: _schema(inner) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        shaped["items"] = _schema(schema["items"])
    return {"type": declared, **shaped} if declared else shaped
