"""Rollouts with a transformers model: batches of like length, finished rows taken out as they end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alloy.rollout.budget import BudgetTokens, ThinkingBudget
from alloy.rollout.draw import invert
from alloy.rollout.engine import Generation, Sampling
from alloy.rollout.kept_keys import KeptKeys, keep, recall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersEngine:
    """An engine over a model in this process.

    Args:
        batch_size: prompts decoded at once.
        grace: tokens past a thinking budget after which the close is forced.
    """

    def __init__(
        self, model: Any, tokenizer: "PreTrainedTokenizerBase", batch_size: int = 128, grace: int = 500
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.grace = grace
        self.end_of_turn: int = tokenizer.eos_token_id

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[KeptKeys | None] | None = None,
    ) -> list[Generation]:
        training = self.model.training
        self.model.eval()
        found: list[Generation | None] = [None] * len(prompts)
        limits = list(max_tokens) if max_tokens is not None else [sampling.max_tokens] * len(prompts)
        # Longest first: a batch of like lengths pads little.
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            generations = self._decode(
                [prompts[i] for i in chosen],
                sampling,
                f"{seed}/{start}",
                [self._budget(budgets[i]) if budgets is not None else None for i in chosen],
                [limits[i] for i in chosen],
                [states[i] for i in chosen] if states is not None else None,
            )
            for index, generation in zip(chosen, generations, strict=True):
                found[index] = generation
        self.model.train(training)
        return [generation for generation in found if generation is not None]

    def _budget(self, budget: int | None) -> ThinkingBudget | None:
        if budget is None:
            return None
        return ThinkingBudget(BudgetTokens.of(self.tokenizer), budget, self.grace)

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: str,
        budgets: Sequence[ThinkingBudget | None],
        limits: Sequence[int],
        states: Sequence[KeptKeys | None] | None,
    ) -> list[Generation]:
        device = self.model.device
        generator = torch.Generator(device).manual_seed(_number(seed))
        kept_keys = states or [None] * len(prompts)
        cache, read = recall(kept_keys, self.model.config, device)
        unread = [p[k.tokens if k is not None else 0 :] for p, k in zip(prompts, kept_keys, strict=True)]
        input_ids, mask = _pad_left(unread, self.tokenizer.pad_token_id, device)
        mask = torch.cat([read, mask], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, read.shape[1] :]
        found = [Generation([], [], False, []) for _ in prompts]
        alive = list(range(len(prompts)))
        while alive:
            logits = (
                self.model(
                    input_ids=input_ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )
            tokens, logprobs = _draw(logits, sampling, generator)
            written, scores = tokens.tolist(), logprobs.tolist()
            kept = []
            for row, index in enumerate(alive):
                forced = self._force(budgets[index], written, row)
                generation = found[index]
                generation.token_ids.append(written[row])
                generation.forced.append(int(forced))
                generation.logprobs.append(0.0 if forced else scores[row])  # type: ignore[union-attr]
                generation.finished = written[row] == self.end_of_turn
                if not generation.finished and len(generation.token_ids) < limits[index]:
                    kept.append(row)
                elif states is not None:
                    generation.state = keep(cache, row, mask)
            if not kept:
                break
            input_ids = torch.tensor([[written[row]] for row in kept], device=device)
            if len(kept) < len(alive):
                rows = torch.tensor(kept, device=device)
                cache.batch_select_indices(rows)
                mask, positions = mask[rows], positions[rows]
                alive = [alive[row] for row in kept]
            mask = torch.cat([mask, mask.new_ones((len(alive), 1))], dim=1)
            positions = positions[:, -1:] + 1
        return found

    @staticmethod
    def _force(budget: ThinkingBudget | None, written: list[int], row: int) -> bool:
        if budget is None:
            return False
        token = budget.force()
        if token is not None:
            written[row] = token
        budget.observe(written[row])
        return token is not None


def _number(seed: str) -> int:
    import zlib

    return zlib.crc32(seed.encode())


def _pad_left(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.as_tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One token a row and its log-probability under the tempered distribution; logits of shape (B, V)."""
    if sampling.temperature == 0:
        logprobs = logits.log_softmax(-1)
        tokens = logits.argmax(-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0]
    logprobs = (logits / sampling.temperature).log_softmax(-1)
    possible = logprobs
    if sampling.top_p < 1:
        ranked, order = logprobs.sort(dim=-1, descending=True)
        shares = ranked.exp()
        outside = shares.cumsum(-1) - shares >= sampling.top_p
        possible = logprobs.scatter(1, order, ranked.masked_fill(outside, -torch.inf))
    numbers = torch.rand(len(logits), dtype=torch.float64, device=logits.device, generator=generator)
    tokens = invert(possible, numbers)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]
