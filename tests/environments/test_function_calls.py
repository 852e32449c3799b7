import importlib.util
import os
import sys
from typing import Any

import pytest

from alloy.environments.function_calls import FunctionCallsEnvironment
from alloy.environments.function_calls_answers import first_answer, wrong_argument
from alloy.environments.registry import Environments, check_gold
from alloy.environments.task import Task
from alloy.errors import InputError

INSTALLED = importlib.util.find_spec("bfcl_eval") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("bfcl-eval is not installed: make setup installs it", pytrace=False)
needs_data = pytest.mark.skipif(not INSTALLED, reason="bfcl-eval is not installed")

PARAMETERS = {
    "type": "object",
    "properties": {
        "base": {"type": "integer"},
        "unit": {"type": "string"},
        "rate": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "deep": {"type": "boolean"},
        "place": {"type": "object"},
    },
    "required": ["base"],
}


@pytest.mark.parametrize(
    ("arguments", "possible", "wrong"),
    [
        ({"base": 10}, {"base": [10], "unit": ["units", ""]}, None),
        ({"base": 10, "unit": "Units."}, {"base": [10], "unit": ["units", ""]}, None),
        ({"base": 10, "unit": "metres"}, {"base": [10], "unit": ["units", ""]}, "unit has the wrong value"),
        ({}, {"base": [10]}, "base is missing"),
        ({"base": 10}, {"base": [10], "rate": [0.5]}, "rate is missing"),
        ({"base": 10.0}, {"base": [10]}, "base is of the wrong type"),
        ({"base": "10"}, {"base": [10]}, "base is of the wrong type"),
        ({"base": True}, {"base": [1]}, "base is of the wrong type"),
        ({"base": 1, "rate": 2}, {"base": [1], "rate": [2.0]}, None),
        ({"base": 1, "deep": True}, {"base": [1], "deep": [True, ""]}, None),
        ({"base": 1, "deep": 1}, {"base": [1], "deep": [True, ""]}, "deep is of the wrong type"),
        ({"base": 1, "tags": ["New York", "b"]}, {"base": [1], "tags": [["new-york", "B"]]}, None),
        ({"base": 1, "tags": ["b", "a"]}, {"base": [1], "tags": [["a", "b"]]}, "tags has the wrong value"),
        ({"base": 1, "place": {"city": "Rome"}}, {"base": [1], "place": [{"city": ["Rome"], "zip": ["1", ""]}]}, None),
        ({"base": 1, "place": {"zip": "1"}}, {"base": [1], "place": [{"city": ["Rome"], "zip": ["1", ""]}]},
         "place has the wrong value"),
        ({"base": 1, "colour": "red"}, {"base": [1]}, "colour is not asked for"),
        ({"base": [[[]]], "unit": None}, {"base": [1], "unit": ["x"]}, "base is of the wrong type"),
    ],
)  # fmt: skip
def test_arguments_by_hand(
    arguments: dict[str, Any], possible: dict[str, list[Any]], wrong: str | None
) -> None:
    assert wrong_argument(arguments, possible, PARAMETERS) == wrong


def test_the_first_answer_leaves_out_what_may_be_left_out() -> None:
    possible = {"base": [10, 11], "unit": ["units", ""], "place": [{"city": ["Rome"], "zip": ["1", ""]}]}
    assert first_answer(possible, PARAMETERS) == {"base": 10, "place": {"city": "Rome"}}


@pytest.fixture(scope="module")
def environment() -> FunctionCallsEnvironment:
    return FunctionCallsEnvironment()


def called(task: Task, name: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": "", "tool_calls": [{"name": name, "arguments": arguments}]}]


@needs_data
def test_every_known_call_wins_and_no_vendor_is_imported(environment: FunctionCallsEnvironment) -> None:
    for split, at_least in (("train", 300), ("validation", 64), ("test", 64)):
        tasks = environment.tasks(split, at_least, 0)  # type: ignore[arg-type]
        assert (
            len({task.gold["function"] + task.messages[-1]["content"] for task in tasks}) >= at_least * 0.95
        )
        check_gold(Environments({environment.name: environment}), tasks)
    assert "bfcl_eval" not in sys.modules


@needs_data
def test_no_function_is_called_in_two_splits(environment: FunctionCallsEnvironment) -> None:
    names = [
        {t.template for t in environment.tasks(split, 400, 1)} for split in ("train", "validation", "test")
    ]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]


@needs_data
def test_what_is_not_the_one_right_call_loses(environment: FunctionCallsEnvironment) -> None:
    task = environment.tasks("test", 1, 0)[0]
    right = task.demonstration[0]["tool_calls"][0]
    assert environment.judge(task, task.demonstration, None).reward == 1.0
    other = environment.judge(task, called(task, right["name"] + "x", right["arguments"]), None)
    assert (other.reward, other.parts) == (0.0, {"call": 1.0, "function": 0.0})
    strange = environment.judge(task, called(task, right["name"], {"nobody_asked": 1}), None)
    assert (strange.reward, strange.parts) == (0.0, {"call": 1.0, "function": 1.0})
    assert environment.judge(task, [{"role": "assistant", "content": "hello"}], None).status == "unparsable"
    twice = [{**task.demonstration[0], "tool_calls": [right, right]}]
    assert environment.judge(task, twice, None).reward == 0.0
    broken = [{**task.demonstration[0], "invalid_calls": ["{"]}]
    assert environment.judge(task, broken, None).reward == 0.0


@needs_data
def test_tools_are_json_schema_and_short(environment: FunctionCallsEnvironment) -> None:
    for task in environment.tasks("train", 200, 0):
        assert 1 <= len(task.tools) <= 3
        assert all(tool["parameters"]["type"] == "object" for tool in task.tools)
        text = str(task.tools)
        assert "'type': 'dict'" not in text
        assert "'type': 'float'" not in text


@needs_data
def test_a_longer_list_starts_with_the_shorter(environment: FunctionCallsEnvironment) -> None:
    longer = environment.tasks("validation", 250, 2)
    assert longer[:50] == environment.tasks("validation", 50, 2)
    assert len({task.id for task in longer}) == 250


@needs_data
def test_bad_options() -> None:
    with pytest.raises(InputError, match="take some of simple_python"):
        FunctionCallsEnvironment(categories=["parallel"])
    with pytest.raises(InputError, match="only 0 functions are left"):
        FunctionCallsEnvironment(max_prompt_characters=10)
