"""Rollouts with vLLM in this process, on a GPU or on the CPU.

vLLM knows neither the newline nor the grace of a thinking budget, so a budget is kept by generating in
segments: up to the budget, then up to the next newline, then freely. Between them runs the state
machine that the other engine asks at every token, and the prefix cache makes going on cheap.
"""

import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alloy.errors import InputError
from alloy.rl_config import EngineConfig
from alloy.rollout.budget import BudgetTokens, ThinkingBudget
from alloy.rollout.engine import Generation, Sampling
from alloy.rollout.vllm_process import no_compiling, running_llm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLM
    from vllm.outputs import CompletionOutput

_MAX_TEMPERATURE = 2
"""vLLM's own."""


@contextmanager
def open_vllm(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", config: EngineConfig, grace: int
) -> Iterator["VllmEngine"]:
    """An engine over a model folder; when the block ends nothing of it is left in this process."""
    with ExitStack() as stack:
        llm = running_llm(
            folder,
            max_model_tokens=config.vllm_max_model_tokens,
            max_sequences=config.batch_size,
            memory_share=config.vllm_memory_share,
        )
        engine = VllmEngine(stack.enter_context(llm), tokenizer, grace)
        try:
            yield engine
        finally:
            # The last reference to the weights must go before vLLM's side is cleaned up.
            engine.llm = None


class VllmEngine:
    """An engine over a running `vllm.LLM`.

    Log-probabilities are of the distribution that tokens were drawn from: tempered, and after `top_p`
    where that is below 1. A prompt that leaves no room within the engine's `max_model_len` comes back
    as an empty completion that did not finish: a long conversation scores, it does not stop a run.

    Args:
        grace: tokens past a thinking budget after which the close is forced.
    """

    def __init__(self, llm: Any, tokenizer: "PreTrainedTokenizerBase", grace: int = 500) -> None:
        self.llm: LLM | None = llm
        self.tokenizer = tokenizer
        self.grace = grace
        self.end_of_turn: int = tokenizer.eos_token_id
        self._budget_tokens: BudgetTokens | None = None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
    ) -> list[Generation]:
        if self.llm is None:
            raise RuntimeError("this engine is closed")
        if sampling.temperature > _MAX_TEMPERATURE:
            raise InputError(
                f"rollout.temperature = {sampling.temperature}: vLLM takes 0 to {_MAX_TEMPERATURE}. Lower it, "
                "or set rollout.engine=transformers."
            )
        room = self.llm.llm_engine.model_config.max_model_len
        limits = list(max_tokens) if max_tokens is not None else [sampling.max_tokens] * len(prompts)
        writings = [
            _Writing(
                list(prompt),
                min(limits[index], room - len(prompt)),
                self.end_of_turn,
                self._budget(budgets[index]) if budgets is not None else None,
            )
            for index, prompt in enumerate(prompts)
        ]
        self._refuse_too_long(writings, room)
        for writing in writings:
            writing.force()
        segment = 0
        active = [index for index, writing in enumerate(writings) if not writing.done]
        while active:
            self._write(writings, active, sampling, f"{seed}/{segment}")
            active = [index for index in active if not writings[index].done]
            segment += 1
        return [writing.generation for writing in writings]

    def _budget(self, budget: int | None) -> ThinkingBudget | None:
        if budget is None:
            return None
        if self._budget_tokens is None:
            self._budget_tokens = BudgetTokens.of(self.tokenizer)
        return ThinkingBudget(self._budget_tokens, budget, self.grace)

    @staticmethod
    def _refuse_too_long(writings: Sequence["_Writing"], room: int) -> None:
        too_long = [writing for writing in writings if writing.limit <= 0]
        if not too_long:
            return
        longest = max(len(writing.prompt) for writing in too_long)
        if len(too_long) == len(writings):
            raise InputError(
                f"rollout.vllm_max_model_tokens = {room}: every prompt is as long or longer (up to {longest} "
                "tokens). Raise it, or shorten the prompts."
            )
        print(
            f"warning: {len(too_long)} of {len(writings)} prompts (up to {longest} tokens) leave no room to "
            f"write in rollout.vllm_max_model_tokens = {room}; they come back empty",
            file=sys.stderr,
        )

    def _write(
        self, writings: Sequence["_Writing"], active: Sequence[int], sampling: Sampling, seed: str
    ) -> None:
        """One segment of every active completion."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        settings = []
        for index in active:
            count, stops = writings[index].segment()
            settings.append(
                SamplingParams(
                    max_tokens=count,
                    stop_token_ids=stops,
                    # Ends of turn come from the tokenizer alone, not from what a generation config adds.
                    ignore_eos=True,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=zlib.crc32(f"{seed}/{index}".encode()),
                    logprobs=0,
                    detokenize=False,
                )
            )
        inputs = [TokensPrompt(prompt_token_ids=writings[index].so_far) for index in active]
        assert self.llm is not None
        with no_compiling():
            outputs = self.llm.generate(inputs, settings, use_tqdm=False)
        for index, output in zip(active, outputs, strict=True):
            writings[index].take(output.outputs[0])


@dataclass
class _Writing:
    """A completion on its way."""

    prompt: list[int]
    limit: int
    end_of_turn: int
    budget: ThinkingBudget | None
    generation: Generation = field(default_factory=lambda: Generation([], [], False, []))

    @property
    def so_far(self) -> list[int]:
        return self.prompt + self.generation.token_ids

    @property
    def done(self) -> bool:
        return self.generation.finished or len(self.generation.token_ids) >= self.limit

    def segment(self) -> tuple[int, list[int]]:
        """How many tokens may be written before the budget must be asked again, and what ends them sooner."""
        room = self.limit - len(self.generation.token_ids)
        budget = self.budget
        if budget is None or budget.budget is None or budget.closed:
            return room, [self.end_of_turn]
        left = budget.budget - budget.count
        if left > 0:
            return min(room, left), [self.end_of_turn]
        return min(room, left + budget.grace), [self.end_of_turn, *sorted(budget.tokens.newlines)]

    def take(self, output: "CompletionOutput") -> None:
        """Add what the policy wrote in a segment, then what the budget forces after it."""
        assert output.logprobs is not None
        for token, choices in zip(output.token_ids, output.logprobs, strict=True):
            assert choices is not None
            self._add(token, 0, choices[token].logprob)
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
