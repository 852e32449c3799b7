"""Our comparison of calls beside the leaderboard's own checker: on every gold answer, and on mutated ones."""

import copy
import importlib.util
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from bfcl_oracle import checker

from alloy.environments import function_calls
from alloy.environments.function_calls_answers import first_answer, wrong_calls

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bfcl_eval") is None, reason="bfcl-eval is not installed"
)

WITH_ANSWERS = [name for name in function_calls.CATEGORIES if not name.endswith("relevance")]
MUTATIONS = dict.fromkeys(WITH_ANSWERS, 8) | {"live_parallel": 100, "live_parallel_multiple": 100}
"""Of each item."""
Calls = list[dict[str, Any]]
Row = dict[str, Any]


@cache
def rows(category: str) -> list[Row]:
    """Every item of a category as the data have it, with its schemas and answers as we have them."""
    folder = function_calls._data_folder()
    known = function_calls._known_answers(folder / "possible_answer" / f"BFCL_v4_{category}.json")
    found = []
    for row in function_calls._lines(folder / f"BFCL_v4_{category}.json"):
        schemas = {tool["name"]: function_calls._tool(tool)["parameters"] for tool in row["function"]}
        answers = [
            {"function": name, "possible": possible, "parameters": schemas[name]}
            for answer in known[row["id"]]
            for name, possible in answer.items()
        ]
        found.append(
            {"functions": row["function"], "truth": known[row["id"]], "answers": answers, "id": row["id"]}
        )
    return found


def gold(row: Row) -> Calls:
    return [
        {"name": answer["function"], "arguments": first_answer(answer["possible"], answer["parameters"])}
        for answer in row["answers"]
    ]


def theirs(row: Row, calls: Calls, category: str) -> bool:
    output = [{call["name"]: call["arguments"]} for call in copy.deepcopy(calls)]
    return checker()(row["functions"], output, row["truth"], category)


def ours(row: Row, calls: Calls) -> bool:
    return wrong_calls(calls, row["answers"]) is None


@pytest.mark.parametrize("category", WITH_ANSWERS)
def test_gold_answers_are_judged_as_the_leaderboard_does(category: str) -> None:
    verdicts = Counter((ours(row, gold(row)), theirs(row, gold(row), category)) for row in rows(category))
    lost = {"live_simple": 2, "live_multiple": 3}.get(category, 0)
    assert verdicts == Counter({(True, True): len(rows(category)) - lost, (False, False): lost})


def other_value(rng: random.Random, value: Any) -> Any:
    """A value of the same type that is not the same."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + rng.choice([1, -1, 0.5, 1e-9])
        case str():
            return rng.choice([value + "x", value[:-1], "", value[::-1], "None", " "])
        case list():
            if not value:
                return [rng.choice(["", 0, "x"])]
            at = rng.randrange(len(value))
            return rng.choice(
                [
                    value[::-1],
                    [*value, value[at]],
                    value[:at] + value[at + 1 :],
                    [*value[:at], other_value(rng, value[at]), *value[at + 1 :]],
                    [],
                ]
            )
        case dict():
            if not value:
                return {"key": "x"}
            key = rng.choice(list(value))
            return rng.choice(
                [
                    {name: one for name, one in value.items() if name != key},
                    {**value, key: other_value(rng, value[key])},
                    {**value, key: other_type(rng, value[key])},
                    {**value, "another": value[key]},
                    {},
                ]
            )
    return 0


def other_type(rng: random.Random, value: Any) -> Any:
    """The value as one of another type."""
    forms: list[Any] = [str(value), [value], {"value": value}, None, json.dumps(value), 0, True]
    match value:
        case bool():
            forms += [int(value), float(value), str(value).lower()]
        case int():
            forms += [float(value), value + 0.0, bool(value)]
        case float():
            forms += [int(value), round(value)]
        case str():
            forms += [list(value), value.split(), 5, 5.0]
        case list():
            forms += [value[0] if value else "", tuple_text(value), *value]
        case dict():
            forms += [list(value.values()), [value, value]]
    return rng.choice(forms)


def tuple_text(value: list[Any]) -> str:
    return ", ".join(map(str, value))


def retyped(rng: random.Random, text: str) -> str:
    """A text with its case, spaces and punctuation changed: some of it counts, some does not."""
    at = rng.randrange(len(text) + 1)
    mark = rng.choice(list(" ,./-_*^;:!?'\"()\n\tß"))
    return rng.choice(
        [
            text.upper(),
            text.lower(),
            text.title(),
            text[:at] + mark + text[at:],
            text.replace(" ", ""),
            text.replace(",", ""),
            text.replace("'", '"'),
            text.replace('"', "'"),
            f" {text} ",
        ]
    )


def deeply(rng: random.Random, value: Any, change: Callable[[Any], Any]) -> Any:
    """A change somewhere within a value."""
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], deeply(rng, value[at], change), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.7:
        key = rng.choice(list(value))
        return {**value, key: deeply(rng, value[key], change)}
    return change(value)


def of_possible(rng: random.Random, value: Any) -> Any:
    """A possible value as a call would write it, any of an object's values for each key."""
    if isinstance(value, dict):
        return {
            key: of_possible(rng, rng.choice(values)) if isinstance(values, list) and values else values
            for key, values in value.items()
            if rng.random() < 0.8
        }
    if isinstance(value, list):
        return [of_possible(rng, item) for item in value]
    return value


def mutate(rng: random.Random, calls: Calls, row: Row) -> tuple[str, Calls]:
    """One mutation of a turn's calls, and its kind."""
    calls = copy.deepcopy(calls)
    kind = rng.choice(KINDS)
    if kind == "count":
        return kind, rng.choice([calls + calls[:1], calls[1:], [], calls[::-1] + calls])
    if kind == "order":
        rng.shuffle(calls)
        return kind, calls
    if not calls:
        return kind, calls
    call = rng.choice(calls)
    answer = next((a for a in row["answers"] if a["function"] == call["name"]), row["answers"][0])
    arguments = call["arguments"]
    key = rng.choice(list(arguments)) if arguments else None
    if kind == "function":
        offered = [function["name"] for function in row["functions"]]
        name = call["name"]
        call["name"] = rng.choice([*offered, name.upper(), name.replace(".", "_"), name + "2", ""])
    elif kind == "swap":
        other = rng.choice(calls)
        call["arguments"], other["arguments"] = other["arguments"], call["arguments"]
    elif kind == "extra":
        known = list(answer["parameters"].get("properties", {}))
        name = rng.choice([*known, "another", "", (key or "x").upper()])
        arguments.setdefault(name, rng.choice([None, "", 0, "x", [], {}, 1.5, True]))
    elif kind == "possible" and answer["possible"]:
        name = rng.choice(list(answer["possible"]))
        if answer["possible"][name]:
            arguments[name] = of_possible(rng, rng.choice(answer["possible"][name]))
    elif key is None:
        return kind, calls
    elif kind == "missing":
        del arguments[key]
    elif kind == "value":
        arguments[key] = deeply(rng, arguments[key], lambda value: other_value(rng, value))
    elif kind == "type":
        arguments[key] = deeply(rng, arguments[key], lambda value: other_type(rng, value))
    elif kind == "text":
        arguments[key] = deeply(
            rng, arguments[key], lambda value: retyped(rng, value) if isinstance(value, str) else value
        )
    elif kind == "empty":
        arguments[key] = rng.choice(["", [], {}, None, 0, [""], [[]], [{}], "."])
    return kind, calls


KINDS = [
    "count",
    "order",
    "function",
    "swap",
    "extra",
    "possible",
    "missing",
    "value",
    "type",
    "text",
    "empty",
]


@pytest.mark.parametrize("category", WITH_ANSWERS)
def test_mutated_answers_are_judged_as_the_leaderboard_does(category: str) -> None:
    agreed: Counter[tuple[str, bool]] = Counter()
    for row in rows(category):
        for number in range(MUTATIONS[category]):
            rng = random.Random(f"{row['id']}/{number}")
            calls, kinds = gold(row), []
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                kind, calls = mutate(rng, calls, row)
                kinds.append(kind)
            wanted, found = theirs(row, calls, category), ours(row, calls)
            assert found == wanted, (row["id"], kinds, calls, row["truth"])
            agreed[kinds[0] if len(kinds) == 1 else "several", wanted] += 1
    total = MUTATIONS[category] * len(rows(category))
    assert sum(agreed.values()) == total
    assert 0.1 * total < sum(count for (_, right), count in agreed.items() if right) < 0.5 * total
    for kind in ("count", "function", "extra", "missing", "value", "type", "text", "empty"):
        assert agreed[kind, False] > 0, kind
    for kind in ("order", "swap", "possible", "text", "type"):
        assert agreed[kind, True] > 0, kind


def test_an_int_too_large_for_a_float_is_wrong_where_their_checker_raises() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    raw = {
        "name": "f",
        "parameters": {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]},
    }
    truth = [{"f": {"x": [1.5]}}]
    row = {
        "functions": [raw],
        "truth": truth,
        "answers": [{"function": "f", "possible": truth[0]["f"], "parameters": schema}],
    }
    calls = [{"name": "f", "arguments": {"x": 10**400}}]
    with pytest.raises(OverflowError):
        theirs(row, calls, "simple_python")
    assert not ours(row, calls)


def test_in_parallel_each_answer_takes_the_first_call_that_fits() -> None:
    """Greedily, as the leaderboard: a call that fits two answers can be taken from the one that needs it."""
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    raw = {
        "name": "f",
        "parameters": {"type": "dict", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    }
    truth = [{"f": {"x": [1, 2]}}, {"f": {"x": [1]}}]
    answers = [{"function": "f", "possible": each["f"], "parameters": schema} for each in truth]
    row = {"functions": [raw], "truth": truth, "answers": answers}
    for calls, right in (([2, 1], True), ([1, 2], False)):
        made = [{"name": "f", "arguments": {"x": x}} for x in calls]
        assert ours(row, made) is theirs(row, made, "parallel") is right
