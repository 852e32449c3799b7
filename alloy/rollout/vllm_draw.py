"""How vLLM draws a token on a CPU: one random number a token, not one for every entry of the vocabulary.

vLLM draws exponential noise for the whole vocabulary, once for the batch and again for every request
that has a seed of its own. On a GPU that is cheap. A CPU draws it number by number: with fifty thousand
entries it takes as long as two thirds of a model of 135 million parameters.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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


def invert(logprobs: Tensor, numbers: Tensor) -> Tensor:
    """The token of each row at a share of its cumulative distribution.

    In float64: fifty thousand float32 probabilities sum to 1 only to six digits, and a token of one
    in ten million must be drawn once in ten million times.

    Args:
        logprobs: shape (B, V).
        numbers: shape (B), float64, from 0 up to 1.
    """
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    # Below the total whatever the rounding: what is above it belongs to no token.
    shares = torch.minimum(numbers * total, total.nextafter(torch.zeros_like(total)))
    # The first token whose sum exceeds the share: one of probability 0 adds nothing and is never that.
    return torch.searchsorted(cumulative, shares[:, None], right=True)[:, 0]
