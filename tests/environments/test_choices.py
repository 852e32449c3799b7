"""Generated choices: one right answer whose letter and size tell nothing, and templates that splits do not share."""

import re
from collections import Counter
from typing import Any, get_args

import pytest

from alloy.environments.choices import KINDS, ChoiceEnvironment
from alloy.environments.registry import Environments, check_gold, make_environment
from alloy.environments.task import Split, Task
from alloy.errors import InputError
from alloy.verify.registry import judge_row

SPLITS: tuple[Split, ...] = get_args(Split)


def solve(task: Task) -> list[str]:
    """The right choices, read from the question's words."""
    text, choices = task.messages[0]["content"], task.gold["choices"]
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r" \(?A[).:] ", text)[0])]
    if "largest" in text:
        wanted = max(map(int, choices))
    elif "smallest" in text:
        wanted = min(map(int, choices))
    elif "after" in text.lower():
        wanted = numbers[0] + 1
    else:
        minus = " - " in text or "less" in text
        wanted = numbers[0] - numbers[1] if minus else numbers[0] + numbers[1]
    return [letter for letter, choice in zip("ABCDE", choices, strict=False) if int(choice) == wanted]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("options", [{}, {"choices": 5, "max_number": 60}, {"choices": 2, "max_number": 4}])
def test_exactly_one_choice_is_right_and_it_is_the_gold(split: Split, options: dict[str, Any]) -> None:
    environment = ChoiceEnvironment(**options)
    for task in environment.tasks(split, 300, 1):
        choices = task.gold["choices"]
        assert len(choices) == len(set(choices)) == options.get("choices", 3)
        assert min(map(int, choices)) >= 0
        assert solve(task) == [task.gold["gold"]], task
        listed = task.messages[0]["content"].split("A", 1)[1] if "After" not in task.template else ""
        assert all(choice in listed for choice in choices) or not listed


def test_demonstrations_win_through_the_pool_and_every_other_letter_loses() -> None:
    environment = ChoiceEnvironment()
    tasks = environment.tasks("train", 200, 0)
    check_gold(Environments({"choice": environment}), tasks)
    for task in tasks[:60]:
        for letter in "ABC":
            for said in (letter, f"The answer is {letter}."):
                row = environment.row(task, [{"role": "assistant", "content": said}])
                assert judge_row("choice", row).reward == float(letter == task.gold["gold"])


def test_the_thinking_works_it_out() -> None:
    for task in ChoiceEnvironment(["sum", "difference"]).tasks("train", 100, 0):
        *listed, worked, last = task.demonstration[0]["thinking"].split("\n")
        choices, letter = task.gold["choices"], task.gold["gold"]
        assert listed == [f"{value} {each}" for value, each in zip(choices, "ABC", strict=True)]
        a, sign, b, result = re.fullmatch(r"(\d+)([+-])(\d+)=(\d+)", worked).groups()  # type: ignore[union-attr]
        assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert last == f"{result} {letter}"
        assert choices["ABC".index(letter)] == result
        assert re.search(ChoiceEnvironment.thinking_mark, last)
        assert not re.search(ChoiceEnvironment.thinking_mark, task.demonstration[0]["content"])
        assert task.demonstration[0]["content"] == f"The answer is {letter}."


def test_neither_the_letter_nor_the_size_of_a_choice_is_a_good_guess() -> None:
    tasks = ChoiceEnvironment(["sum"]).tasks("train", 3000, 0)
    letters = Counter(task.gold["gold"] for task in tasks)
    ranks = Counter(
        sorted(map(int, task.gold["choices"])).index(
            int(task.gold["choices"]["ABC".index(task.gold["gold"])])
        )
        for task in tasks
    )
    # A third of 3000 each; five standard deviations are 129.
    assert all(abs(count - 1000) < 129 for count in letters.values()), letters
    assert all(abs(count - 1000) < 129 for count in ranks.values()), ranks


def test_no_template_is_in_two_splits_and_every_kind_is_in_each() -> None:
    templates = {
        split: {task.template for task in ChoiceEnvironment().tasks(split, 1500, 0)} for split in SPLITS
    }
    assert {split: len(found) for split, found in templates.items()} == {
        "train": 75,
        "validation": 25,
        "test": 25,
    }
    assert len(set().union(*templates.values())) == 125
    assert all({name.split(",")[0] for name in found} == set(KINDS) for found in templates.values())


def test_the_splits_share_their_words() -> None:
    words = {
        split: {
            word
            for task in ChoiceEnvironment().tasks(split, 1500, 0)
            for word in re.findall(r"[A-Za-z]+|\W", task.messages[0]["content"])
        }
        for split in SPLITS
    }
    assert words["validation"] <= words["train"]
    assert words["test"] <= words["train"]
    assert len(words["train"]) < 50


def test_the_same_seed_makes_the_same_tasks() -> None:
    long = ChoiceEnvironment().tasks("test", 12, 3)
    assert ChoiceEnvironment().tasks("test", 5, 3) == long[:5]
    assert ChoiceEnvironment().tasks("test", 5, 4) != long[:5]
    assert len({task.id for task in long}) == 12


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kinds": ["product"]}, "take some of sum, difference, largest, smallest, after"),
        ({"kinds": []}, "take some of sum"),
        ({"kinds": "sum"}, "kinds = 'sum': take some of sum"),
        ({"choices": 6}, "choices = 6: take 2 to 5"),
        ({"choices": 1}, "choices = 1: take 2 to 5"),
        ({"max_number": 5}, "max_number = 5: take at least 6 for 3 choices"),
    ],
)
def test_bad_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        make_environment("choice", options)
    assert told in str(caught.value)
