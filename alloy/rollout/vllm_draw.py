"""How vLLM draws a token on a CPU: one random number a token, not one for every entry of the vocabulary.

vLLM draws exponential noise for the whole vocabulary, once for the batch and again for every request
that has a seed of its own. On a GPU that is cheap. A CPU draws it number by number: with fifty thousand
entries it takes as long as two thirds of a model of 135 million parameters.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alloy.rollout.draw import invert

if TYPE_CHECKING:
    from vllm import LLM


def draw_with_one_number(llm: "LLM") -> None:
    """Make a running engine on a CPU draw by inverting the cumulative distribution."""
    llm.collective_rpc(draw_with_one_number_in)


def draw_with_one_number_in(worker: Any) -> None:
    """The same in vLLM's worker."""
    worker.model_runner.sampler.topk_topp_sampler.forward = _sample


def _sample(
    logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What vLLM's sampler does with tempered logits of shape (B, V): tokens, and all log-probabilities.

    Args:
        generators: of the rows with a seed of their own.
        k, p: limits of every row, applied as vLLM does.
    """
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    logprobs = apply_top_k_top_p(logits, k, p).log_softmax(-1, dtype=torch.float32)
    numbers = [
        torch.rand((), dtype=torch.float64, generator=generators.get(row)) for row in range(len(logprobs))
    ]
    return invert(logprobs, torch.stack(numbers)), logprobs
