"""What every engine does: prompts in, token ids out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        max_tokens: of one completion.
        temperature: 0 is greedy.
        top_p: smallest set of tokens that holds this share of the probability.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(slots=True)
class Generation:
    """One completion.

    Attributes:
        token_ids: as generated, the end of turn included where it was reached.
        forced: 1 where the thinking budget wrote the token, not the policy.
        logprobs: of each token under the tempered distribution before top_p, 0.0 for a forced one;
            None where not asked for.
        finished: whether the end of turn was reached within the limit.
        state: what the engine kept of the conversation, for a prompt that goes on from here; an engine that
            finds the beginning of a prompt again by itself keeps None.
    """

    token_ids: list[int]
    forced: list[int]
    finished: bool
    logprobs: list[float] | None = None
    state: Any = field(default=None, compare=False, repr=False)


class Engine(Protocol):
    """Generates for many prompts at once.

    Attributes:
        grace: tokens past a thinking budget after which the close is forced.
    """

    grace: int

    @property
    def batch_size(self) -> int | None:
        """Prompts written at once; None where the engine schedules any number by itself."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[Any] | None = None,
    ) -> list[Generation]:
        """One completion a prompt, in their order.

        Args:
            budgets: tokens of thinking for each prompt whose thinking is open; None is unlimited.
            max_tokens: a limit for each prompt that replaces the sampling's.
            states: for each prompt, the state of the completion that it goes on from, of the same weights;
                None where it begins. Where given, the new completions have theirs.
        """
        ...
