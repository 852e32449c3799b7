"""A policy whose words depend on the question, in whatever order it is asked."""

from collections.abc import Sequence
from typing import Any

from alloy.chat import TURN_CLOSE
from alloy.rollout.engine import Generation


class ByPrompt:
    """An engine whose words depend on the question: the next of those that it was given for it."""

    grace = 0
    batch_size = None

    def __init__(self, tokenizer: Any, said: dict[str, list[str]]) -> None:
        self.tokenizer, self.said = tokenizer, said

    def generate(self, prompts: Sequence[Sequence[int]], *given: Any, **more: Any) -> list[Generation]:
        found = []
        for prompt in prompts:
            text = self.tokenizer.decode(prompt)
            words = next(words for question, words in self.said.items() if question in text).pop(0)
            finished = not words.endswith("...")
            ids = self.tokenizer.encode(words + TURN_CLOSE * finished, add_special_tokens=False)
            found.append(Generation(ids, [0] * len(ids), finished))
        return found
