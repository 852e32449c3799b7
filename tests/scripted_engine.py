"""A policy whose words are known."""

from collections.abc import Sequence
from typing import Any

from alloy.chat import TURN_CLOSE
from alloy.rollout.engine import Generation, Sampling


class Script:
    """An engine that writes what it is told, conversation by conversation, turn by turn."""

    grace = 0
    batch_size = None

    def __init__(self, tokenizer: Any, scripts: Sequence[Sequence[str]], end: str = TURN_CLOSE) -> None:
        self.tokenizer, self.end = tokenizer, end
        self.scripts = [list(script) for script in scripts]
        self.prompts: list[list[int]] = []
        self.seen: list[tuple[int, list[int | None]]] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[Any] | None = None,
    ) -> list[Generation]:
        self.seen.append((len(prompts), list(budgets or [])))
        self.prompts += [list(prompt) for prompt in prompts]
        waiting = [script for script in self.scripts if script]
        found = []
        for script in waiting[: len(prompts)]:
            text = script.pop(0)
            finished = not text.endswith("...")
            ids = self.tokenizer.encode(text + (self.end if finished else ""), add_special_tokens=False)
            found.append(Generation(ids, [0] * len(ids), finished, [-0.5] * len(ids)))
        return found
