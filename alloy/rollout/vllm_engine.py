"""Rollouts with vLLM in this process, on a GPU or on the CPU."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alloy.rl_config import EngineConfig
from alloy.rollout.engine import Sampling
from alloy.rollout.segments import Segment, SegmentedEngine, Written
from alloy.rollout.vllm_process import BUDGET_PROCESSOR, no_compiling, running_llm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLM
    from vllm.outputs import CompletionOutput


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


class VllmEngine(SegmentedEngine):
    """An engine over a running `vllm.LLM`: one of ours keeps thinking budgets by itself, for one that TRL has
    started they are kept in segments.

    Log-probabilities are of the distribution that tokens were drawn from: tempered, and after `top_p`
    where that is below 1.
    """

    room_setting = "rollout.vllm_max_model_tokens"

    def __init__(self, llm: Any, tokenizer: "PreTrainedTokenizerBase", grace: int = 500) -> None:
        super().__init__(tokenizer, grace)
        self.llm: LLM | None = llm
        self.leaves_budgets = BUDGET_PROCESSOR in (llm.llm_engine.model_config.logits_processors or [])

    def _room(self) -> int:
        if self.llm is None:
            raise RuntimeError("this engine is closed")
        return self.llm.llm_engine.model_config.max_model_len

    def _write(self, segments: Sequence[Segment], sampling: Sampling) -> list[Written]:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        settings = [
            SamplingParams(
                max_tokens=segment.max_tokens,
                stop_token_ids=segment.stop_ids,
                # Ends of turn come from the tokenizer alone, not from what a generation config adds.
                ignore_eos=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=segment.seed,
                logprobs=0,
                detokenize=False,
                extra_args=self._budget_arguments(segment),
            )
            for segment in segments
        ]
        inputs = [TokensPrompt(prompt_token_ids=segment.prompt_ids) for segment in segments]
        assert self.llm is not None
        with no_compiling():
            outputs = self.llm.generate(inputs, settings, use_tqdm=False)
        return [_written(output.outputs[0]) for output in outputs]

    def _budget_arguments(self, segment: Segment) -> dict[str, int] | None:
        if segment.budget is None:
            return None
        return {"thinking_budget": segment.budget, "thinking_grace": self.grace, "thinking_opened": 1}


def _written(output: "CompletionOutput") -> Written:
    assert output.logprobs is not None
    chosen = zip(output.token_ids, output.logprobs, strict=True)
    return Written(output.token_ids, [choices[token].logprob for token, choices in chosen if choices])
