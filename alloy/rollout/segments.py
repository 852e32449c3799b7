"""Completions written in segments, for what takes a limit and stop tokens.

TRL's server knows neither the newline nor the grace of a budget, so a budget is kept by asking for a
completion piece by piece: up to the budget, then up to the next newline, then freely. Between the pieces
runs the state machine that the transformers engine asks at every token, and the prefix cache makes going on
cheap. What keeps budgets by itself writes a completion in one segment.
"""

import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alloy.errors import InputError
from alloy.rollout.budget import BudgetTokens, ThinkingBudget
from alloy.rollout.engine import Generation, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_TEMPERATURE = 2
"""vLLM's own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What is asked for at once of one completion.

    Attributes:
        prompt_ids: the prompt, and what has been written so far.
        max_tokens: after which the budget is asked again.
        stop_ids: tokens that end it sooner; the one that did is written.
        seed: of this segment alone.
        budget: that is left to what writes it; None for no limit.
    """

    prompt_ids: list[int]
    max_tokens: int
    stop_ids: list[int]
    seed: int
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a segment: tokens, and the log-probability of each."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]


class SegmentedEngine(ABC):
    """An engine over anything that writes segments.

    A prompt that leaves no room within the model's context comes back as an empty completion that did
    not finish: a long conversation scores, it does not stop a run.

    Args:
        grace: tokens past a thinking budget after which the close is forced.
    """

    batch_size: int | None = None
    room_setting: str
    """The name of what limits a prompt and its completion together."""
    leaves_budgets = False
    """Whether what writes the segments keeps the budgets."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", grace: int = 500) -> None:
        self.tokenizer = tokenizer
        self.grace = grace
        self.end_of_turn: int = tokenizer.eos_token_id

    @abstractmethod
    def _room(self) -> int:
        """Tokens of a prompt and its completion together."""

    @abstractmethod
    def _write(self, segments: Sequence[Segment], sampling: Sampling) -> list[Written]:
        """Every segment with at least one token, in their order."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[Any] | None = None,  # vLLM finds the beginning of a prompt again by itself
    ) -> list[Generation]:
        if sampling.temperature > _MAX_TEMPERATURE:
            raise InputError(
                f"rollout.temperature = {sampling.temperature}: vLLM takes 0 to {_MAX_TEMPERATURE}. Lower it, "
                "or set rollout.engine=transformers."
            )
        room = self._room()
        limits = list(max_tokens) if max_tokens is not None else [sampling.max_tokens] * len(prompts)
        writings = [
            _Writing(
                list(prompt),
                min(limits[index], room - len(prompt)),
                self.end_of_turn,
                self._budget(budgets[index]) if budgets is not None else None,
                self.leaves_budgets,
            )
            for index, prompt in enumerate(prompts)
        ]
        self._refuse_too_long(writings, room)
        if not self.leaves_budgets:
            for writing in writings:
                writing.force()
        number = 0
        active = [index for index, writing in enumerate(writings) if not writing.done]
        while active:
            segments = [writings[index].segment(f"{seed}/{number}/{index}") for index in active]
            for index, written in zip(active, self._write(segments, sampling), strict=True):
                writings[index].take(written)
            active = [index for index in active if not writings[index].done]
            number += 1
        return [writing.generation for writing in writings]

    def _budget(self, budget: int | None) -> ThinkingBudget | None:
        if budget is None:
            return None
        return ThinkingBudget(BudgetTokens.of(self.tokenizer), budget, self.grace)

    def _refuse_too_long(self, writings: Sequence["_Writing"], room: int) -> None:
        too_long = [writing for writing in writings if writing.limit <= 0]
        if not too_long:
            return
        longest = max(len(writing.prompt) for writing in too_long)
        if len(too_long) == len(writings):
            raise InputError(
                f"{self.room_setting} = {room}: every prompt is as long or longer (up to {longest} tokens). "
                "Raise it, or shorten the prompts."
            )
        print(
            f"warning: {len(too_long)} of {len(writings)} prompts (up to {longest} tokens) leave no room to "
            f"write in {self.room_setting} = {room}; they come back empty",
            file=sys.stderr,
        )


@dataclass
class _Writing:
    """A completion on its way."""

    prompt: list[int]
    limit: int
    end_of_turn: int
    budget: ThinkingBudget | None
    leaves_budget: bool
    generation: Generation = field(default_factory=lambda: Generation([], [], False, []))

    @property
    def done(self) -> bool:
        return self.generation.finished or len(self.generation.token_ids) >= self.limit

    def segment(self, name: str) -> Segment:
        """What may be written before the budget must be asked again."""
        room, stops = self.limit - len(self.generation.token_ids), [self.end_of_turn]
        budget, left_to_it = self.budget, None
        if budget is not None and self.leaves_budget:
            left_to_it = budget.budget
        elif budget is not None and budget.budget is not None and not budget.closed:
            left = budget.budget - budget.count
            if left > 0:
                room = min(room, left)
            else:
                room = min(room, left + budget.grace)
                stops += sorted(budget.tokens.newlines)
        prompt = self.prompt + self.generation.token_ids
        return Segment(prompt, room, stops, zlib.crc32(name.encode()), left_to_it)

    def take(self, written: Written) -> None:
        """Add what was written in a segment, then what the budget forces after it."""
        for token, logprob in zip(written.token_ids, written.logprobs, strict=True):
            forced = self.budget is not None and self.budget.force() is not None
            self._add(token, int(forced), 0.0 if forced else logprob)
        self.generation.finished = self.generation.token_ids[-1] == self.end_of_turn
        self.force()

    def force(self) -> None:
        while self.budget is not None and not self.done:
            token = self.budget.force()
            if token is None:
                return
            self._add(token, 1, 0.0)

    def _add(self, token: int, forced: int, logprob: float) -> None:
        self.generation.token_ids.append(token)
        self.generation.forced.append(forced)
        assert self.generation.logprobs is not None
        self.generation.logprobs.append(logprob)
        if self.budget is not None:
            self.budget.observe(token)
