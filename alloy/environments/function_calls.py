"""Calls of functions on offer: the single-turn prompts of the Berkeley Function Calling Leaderboard.

The data come with the package `bfcl-eval`; only its files are read, because importing it pulls in the
clients of many vendors. Which calls are right is decided here, by the leaderboard's rules.

Source: Patil et al. 2025, "The Berkeley Function Calling Leaderboard (BFCL)".
"""

import importlib.util
import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from alloy.environments.function_calls_answers import first_answer, wrong_calls
from alloy.environments.phrasing import seed_of, split_templates
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError
from alloy.verify.verdict import Verdict

CATEGORIES = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "live_relevance",
)
"""Of one turn, whose functions are Python's."""
ONE_CALL = ("simple_python", "multiple", "live_simple", "live_multiple")
"""Those with one call as the answer."""
_CLASSES = 5
"""That functions are dealt into by their order in the files; three of them are for training."""
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""JSON schema's names of the data's types; the others are the same."""
NO_CALL = "None of these functions can do that."

Item = dict[str, Any]
"""`category`, `messages`, `tools` and `answers`: the calls that are right, as `function_calls_answers` has
them; none where nothing is to be called, None where any call is right."""


class FunctionCallsEnvironment:
    """Questions that calls of the functions on offer answer, or none of them.

    The functions are what is held out: one that a task's answer calls is called in no other split.
    Without an answer (irrelevance, relevance) it is the set of functions on offer.

    Args:
        categories: of the leaderboard. `irrelevance` is right without a call, `live_relevance` with any.
        max_tools: on offer in a task; None is no limit.
        max_prompt_characters: of question and tools together; None is no limit.
        held_out: False puts every item into every split, to measure a model that saw none of them.
    """

    name = "function_calls"

    def __init__(
        self,
        categories: Sequence[str] = ONE_CALL,
        max_tools: int | None = 3,
        max_prompt_characters: int | None = 1000,
        held_out: bool = True,
    ) -> None:
        unknown = [category for category in categories if category not in CATEGORIES]
        if unknown or not categories:
            raise InputError(f"categories = {list(categories)!r}: take some of {', '.join(CATEGORIES)}.")
        self.items = [
            item
            for category in categories
            for item in _read(category)
            if (max_tools is None or len(item["tools"]) <= max_tools)
            and (max_prompt_characters is None or _characters(item) <= max_prompt_characters)
        ]
        self.held_out = held_out
        self._families = families([_names(item) for item in self.items])
        if len(set(self._families)) < _CLASSES:
            raise InputError(
                f"max_tools = {max_tools}, max_prompt_characters = {max_prompt_characters}: only "
                f"{len(set(self._families))} functions are left. Raise one of the two."
            )

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """The split's items in the seed's order; when they run out they begin again in another."""
        families = list(dict.fromkeys(self._families))
        kept = set(split_templates(families, split) if self.held_out else families)
        items = [
            (item, family) for item, family in zip(self.items, self._families, strict=True) if family in kept
        ]
        order: list[tuple[Item, str]] = []
        while len(order) < count:
            order += random.Random(seed_of(self.name, split, seed, len(order))).sample(items, len(items))
        return [self._task(f"{self.name}/{split}/{seed}/{i}", *each) for i, each in enumerate(order[:count])]

    def open(self, task: Task) -> World | None:
        return None

    def describe(self, task: Task) -> dict[str, Any]:
        """What evaluation groups tasks by: `category`."""
        return {"category": task.gold["category"]}

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """1 for the right calls and nothing else, 0 otherwise.

        A call that cannot be read is none of the right ones, not even where any is. `parts`: `call`, as many
        calls as are right; `function`, of the right functions; `invalid_calls`, the share that cannot be read,
        lacks an argument or names one that the function does not have; `invented_tools`, the share of the
        calls of functions that are not on offer.
        """
        turn = completion[-1]
        calls, unreadable = turn.get("tool_calls") or [], len(turn.get("invalid_calls") or [])
        answers = task.gold["answers"]
        schemas = {tool["name"]: tool["parameters"] for tool in task.tools}
        if answers is None:
            counted = bool(calls)
            named = counted and all(call["name"] in schemas for call in calls)
            wrong = None if counted else "no call"
        else:
            counted = len(calls) == len(answers)
            asked = [answer["function"] for answer in answers]
            named = sorted(str(call["name"]) for call in calls) == sorted(asked)
            wrong = wrong_calls(calls, answers)
        if unreadable:
            wrong = f"{unreadable} calls cannot be read"
        invalid = unreadable + sum(_breaks_schema(call, schemas) for call in calls)
        invented = sum(call["name"] not in schemas for call in calls)
        every = max(1, len(calls) + unreadable)
        parts = {
            "call": float(counted and not unreadable),
            "function": float(named),
            "invalid_calls": invalid / every,
            "invented_tools": invented / every,
        }
        silent = not calls and answers != []
        return Verdict(
            float(wrong is None), "unparsable" if unreadable or silent else "ok", (wrong or "")[:200], parts
        )

    def _task(self, name: str, item: Item, family: str) -> Task:
        return Task(
            id=name,
            environment=self.name,
            template=family,
            messages=item["messages"],
            tools=item["tools"],
            gold={key: item[key] for key in ("category", "answers")},
            demonstration=_demonstrate(item["answers"]),
        )


def families(names: Sequence[Sequence[str]]) -> list[str]:
    """What each item is dealt to the splits by: the first name of all that hang together through items.

    Args:
        names: of each item; two items that share a name, or each share one with a third, are one family.
    """
    seen = list(dict.fromkeys(name for each in names for name in each))
    place = {name: index for index, name in enumerate(seen)}
    leader = {name: name for name in seen}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for first, *others in names:
        for other in others:
            earlier, later = sorted((find(first), find(other)), key=place.__getitem__)
            leader[later] = earlier
    return [find(first) for first, *_ in names]


def _names(item: Item) -> list[str]:
    if item["answers"]:
        return [answer["function"] for answer in item["answers"]]
    return ["none of " + ", ".join(sorted(tool["name"] for tool in item["tools"]))]


def _demonstrate(answers: list[dict[str, Any]] | None) -> list[Message]:
    """A turn with the first of the right calls; nothing is known where any call is right."""
    if answers is None:
        return []
    calls = []
    thoughts = []
    for answer in answers:
        arguments = first_answer(answer["possible"], answer["parameters"])
        calls.append({"name": answer["function"], "arguments": arguments})
        told = ", ".join(f"{key} = {json.dumps(value)}" for key, value in arguments.items())
        thoughts.append(f"{answer['function']}: {told}" if told else answer["function"])
    if not calls:
        return [{"role": "assistant", "thinking": "no function fits", "content": NO_CALL}]
    return [{"role": "assistant", "thinking": "; ".join(thoughts), "content": "", "tool_calls": calls}]


def _breaks_schema(call: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> bool:
    """Whether a call of a function on offer lacks an argument or has one that is not the function's."""
    schema = schemas.get(call["name"])
    if schema is None:
        return False
    arguments = call["arguments"]
    return any(name not in arguments for name in schema.get("required", [])) or any(
        name not in schema.get("properties", {}) for name in arguments
    )


def _characters(item: Item) -> int:
    return len(json.dumps(item["tools"])) + sum(len(turn["content"]) for turn in item["messages"])


@cache
def _read(category: str) -> list[Item]:
    """A category's items, without those whose own answer is not right by the leaderboard's rules.

    Raises:
        InputError: the package is not installed.
    """
    folder = _data_folder()
    rows = _lines(folder / f"BFCL_v4_{category}.json")
    relevance = category.endswith("relevance")
    known = {} if relevance else _known_answers(folder / "possible_answer" / f"BFCL_v4_{category}.json")
    found = []
    for row in rows:
        tools = [_tool(tool) for tool in row["function"]]
        parameters = {tool["name"]: tool["parameters"] for tool in tools}
        answers: list[dict[str, Any]] | None = [
            {"function": name, "possible": possible, "parameters": parameters.get(name)}
            for answer in known.get(row["id"], [])
            for name, possible in answer.items()
        ]
        if category == "live_relevance":
            answers = None
        if len(row["question"]) == 1 and (relevance or _can_win(answers or [])):
            found.append(
                {"category": category, "messages": row["question"][0], "tools": tools, "answers": answers}
            )
    return found


def _can_win(answers: list[dict[str, Any]]) -> bool:
    if not answers or any(answer["parameters"] is None for answer in answers):
        return False
    return wrong_calls(_demonstrate(answers)[0]["tool_calls"], answers) is None


def _known_answers(path: Path) -> dict[str, list[dict[str, Any]]]:
    return {row["id"]: row["ground_truth"] for row in _lines(path)}


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
