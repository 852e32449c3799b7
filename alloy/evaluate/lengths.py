"""Tasks of long documents at a length in tokens: as many words as fit, by the model's own tokenizer."""

from typing import TYPE_CHECKING, cast

from alloy.environments.registry import make_environment
from alloy.environments.task import Split, Task
from alloy.errors import InputError
from alloy.evaluate.config import SuiteConfig
from alloy.template import encode_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRIED = 8
"""Tasks by which the number of words is found; the others hold as many tokens up to a few."""


def fitted_tasks(suite: SuiteConfig, tokens: int, tokenizer: "PreTrainedTokenizerBase") -> list[Task]:
    """A suite's tasks of `long_context`, whose prompts have at most so many tokens, and nearly as many.

    The facts and the question of a task are the same at every length.

    Raises:
        InputError: the facts and the question alone are longer.
    """

    count = cast(int, suite.items)

    def longest(found: list[Task]) -> int:
        return max(len(encode_prompt(tokenizer, task.messages, task.tools, suite.thinking)) for task in found)

    def made(words: int, many: int) -> list[Task]:
        environment = make_environment(suite.environment, {**suite.options, "words": words})
        return environment.tasks(cast(Split, suite.split), many, 0)

    # A word is a token or more; a hundredth more or less is near enough.
    fits, too_many = 0, tokens + 1
    while too_many - fits > max(1, fits // 100):
        words = (fits + too_many) // 2
        if longest(made(words, min(count, _TRIED))) <= tokens:
            fits = words
        else:
            too_many = words
    words = max(1, fits)
    while longest(tasks := made(words, count)) > tokens:
        if words == 1:
            raise InputError(
                f"lengths: {tokens} tokens are too few for a task of long_context, which takes up to {longest(tasks)} "
                "with this tokenizer. Ask for longer ones, or for fewer documents."
            )
        words = max(1, words - max(1, words // 100))
    return tasks
