"""Generated schemas: what is asked for is what judges, every bound can be broken, splits share no template."""

import json
from typing import Any, get_args

import jsonschema
import pytest

from alloy.environments.registry import Environments, check_gold, make_environment
from alloy.environments.schemas import KINDS, SchemaEnvironment
from alloy.environments.task import Split, Task
from alloy.errors import InputError
from alloy.verify.registry import judge_row

SPLITS: tuple[Split, ...] = get_args(Split)


def reward(task: Task, answer: Any) -> float | None:
    said = answer if isinstance(answer, str) else json.dumps(answer)
    return judge_row("schema", SchemaEnvironment().row(task, [{"role": "assistant", "content": said}])).reward


@pytest.mark.parametrize("split", SPLITS)
def test_the_schema_that_is_asked_for_judges_and_the_demonstration_satisfies_it(split: Split) -> None:
    environment = SchemaEnvironment()
    tasks = environment.tasks(split, 200, 1)
    check_gold(Environments({"schema": environment}), tasks)
    for task in tasks:
        text = task.messages[0]["content"]
        assert json.loads(text[text.index("{") :]) == task.gold["schema"]
        answer = json.loads(task.demonstration[0]["content"])
        jsonschema.Draft202012Validator(task.gold["schema"]).validate(answer)
        assert list(answer) == task.gold["schema"]["required"]
        told = [line.split(": ")[0] for line in task.demonstration[0]["thinking"].split("\n")]
        assert told == list(answer)


def test_what_breaks_a_rule_loses() -> None:
    broken = dict.fromkeys(("missing", "more", "low", "high", "float", "text", "enum", "boolean"), 0)
    for task in SchemaEnvironment().tasks("train", 120, 0):
        answer = json.loads(task.demonstration[0]["content"])
        cases: dict[str, dict[str, Any]] = {"more": {**answer, "other": 1}}
        for name, field in task.gold["schema"]["properties"].items():
            cases["missing"] = {key: value for key, value in answer.items() if key != name}
            if "enum" in field:
                cases["enum"] = {**answer, name: "nothing"}
            elif field["type"] == "integer":
                cases["low"] = {**answer, name: field["minimum"] - 1}
                cases["high"] = {**answer, name: field["maximum"] + 1}
                cases["float"] = {**answer, name: field["minimum"] + 0.5}
            elif field["type"] == "string":
                cases["text"] = {**answer, name: 3}
            else:
                cases["boolean"] = {**answer, name: "true"}
        for case, wrong in cases.items():
            assert reward(task, wrong) == 0.0, (case, wrong, task.gold)
            broken[case] += 1
        assert reward(task, answer) == 1.0
        assert reward(task, "I do not know.") == 0.0
    assert min(broken.values()) > 20, broken


def test_numbers_of_fields_and_bounds_are_kept_to_and_reached() -> None:
    tasks = SchemaEnvironment(2, 4, 9).tasks("train", 400, 0)
    fields = [field for task in tasks for field in task.gold["schema"]["properties"].values()]
    assert {len(task.gold["schema"]["required"]) for task in tasks} == {2, 3, 4}
    integers = [field for field in fields if field.get("type") == "integer"]
    assert all(0 <= field["minimum"] < field["maximum"] <= 9 for field in integers)
    assert {field["minimum"] for field in integers} == set(range(9))
    assert {field["maximum"] for field in integers} == set(range(1, 10))


def test_kinds_of_fields() -> None:
    seen: dict[str, set[str]] = {}
    for kind in KINDS:
        for task in SchemaEnvironment(1, 4, kinds=[kind]).tasks("train", 60, 0):
            for name, field in task.gold["schema"]["properties"].items():
                assert ("enum" if "enum" in field else field["type"]) == kind
                seen.setdefault(kind, set()).add(name)
    assert [len(names) for names in seen.values()] == [4, 4, 4, 4]
    assert len(set().union(*seen.values())) == 16


def test_no_template_is_in_two_splits() -> None:
    templates = {
        split: {task.template for task in SchemaEnvironment().tasks(split, 400, 0)} for split in SPLITS
    }
    assert [len(templates[split]) for split in SPLITS] == [15, 5, 5]
    assert len(set().union(*templates.values())) == 25


def test_the_same_seed_makes_the_same_tasks() -> None:
    long = SchemaEnvironment().tasks("test", 12, 3)
    assert SchemaEnvironment().tasks("test", 5, 3) == long[:5]
    assert SchemaEnvironment().tasks("test", 5, 4) != long[:5]
    assert len({task.id for task in long}) == 12


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kinds": ["date"]}, "take some of string, integer, boolean, enum"),
        ({"kinds": "enum"}, "kinds = 'enum': take some of string"),
        ({"min_fields": 0}, "1 <= min_fields <= max_fields <= 16 is needed"),
        ({"min_fields": 3, "max_fields": 2}, "min_fields = 3, max_fields = 2: 1 <= min_fields"),
        ({"max_fields": 5, "kinds": ["enum"]}, "max_fields <= 4 is needed"),
        ({"max_number": 1}, "max_number = 1: take 2 or more"),
    ],
)
def test_bad_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        make_environment("schema", options)
    assert told in str(caught.value)
