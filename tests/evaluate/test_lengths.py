"""Prompts of a length in tokens: never longer, nearly as long, the same question at every length."""

from typing import Any

import pytest

from alloy.environments.registry import Environments
from alloy.errors import InputError
from alloy.evaluate.asked import portions
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.lengths import fitted_tasks
from alloy.template import encode_prompt


def suite(**changes: Any) -> SuiteConfig:
    return SuiteConfig.model_validate(
        {"environment": "long_context", "items": 12, "lengths": [600, 1500], "max_completion_tokens": 8}
        | changes
    )


@pytest.mark.parametrize("tokens", [600, 1500, 4000])
def test_prompts_fill_the_length_and_never_exceed_it(tiny_tokenizer: Any, tokens: int) -> None:
    tasks = fitted_tasks(suite(), tokens, tiny_tokenizer)
    lengths = [len(encode_prompt(tiny_tokenizer, task.messages, task.tools, True)) for task in tasks]
    assert len(lengths) == 12
    assert max(lengths) <= tokens
    assert max(lengths) >= 0.95 * tokens
    assert {task.gold["kind"] for task in tasks} == {"needle", "needles", "tracking", "aggregation"}


def test_a_task_is_the_same_at_every_length(tiny_tokenizer: Any) -> None:
    config = suite()
    made = list(portions(config, Environments.make({"long_context": {}}), tiny_tokenizer, 0, 512))
    assert [[asked.length for asked in portion.asked] for portion in made] == [[600] * 12, [1500] * 12]
    short, long = (portion.asked for portion in made)
    assert [a.item.partition("@")[0] for a in short] == [a.item.partition("@")[0] for a in long]
    assert short[0].item == "long_context/test/0/0@600"
    assert [a.task.gold for a in short] == [a.task.gold for a in long]
    questions = [
        [a.task.messages[0]["content"].rpartition("\n\n")[2] for a in each] for each in (short, long)
    ]
    assert questions[0] == questions[1]


def test_a_length_without_room_for_the_facts_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(
        InputError,
        match=r"lengths: 40 tokens are too few for a task of long_context, which takes up to \d{3}",
    ):
        fitted_tasks(suite(), 40, tiny_tokenizer)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"environment": "math"}, "lengths: for the environment long_context, and this is math"),
        ({"options": {"words": 9}}, "neither with several budgets nor with options.words"),
        ({"budgets": [1, 2]}, "neither with several budgets"),
        ({"items": None}, "items: long_context makes as many tasks as are asked for"),
        ({"samples": 2}, "samples = 2 at temperature 0 are all the same"),
    ],
)
def test_what_a_suite_refuses(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        suite(**changes)
