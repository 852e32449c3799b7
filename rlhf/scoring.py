"""Scores of answers by a reward model in this process: batched by length, padded little."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification

from alloy.environments.task import Message
from alloy.policy import load_model, load_tokenizer
from alloy.template import encode_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_answer(tokenizer: "PreTrainedTokenizerBase", prompt: Sequence[Message], answer: str) -> list[int]:
    """The tokens that a reward model reads: the conversation with the answer, thinking hidden."""
    turns = [*prompt, {"role": "assistant", "content": answer}]
    return encode_conversation(tokenizer, turns, thinking=False)[-1].input_ids


class RewardModel:
    """A reward model from a model folder.

    Args:
        batch_size: conversations scored at once.
    """

    def __init__(self, folder: Path, batch_size: int = 64) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.model: Any = load_model(folder, auto=AutoModelForSequenceClassification).eval()
        self.batch_size = batch_size

    @torch.no_grad()
    def score(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float]:
        """One score an answer, in their order; higher is better, the zero means nothing."""
        rows = [encode_answer(self.tokenizer, p, a) for p, a in zip(prompts, answers, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            ids = [torch.tensor(rows[i]) for i in chosen]
            batch = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
            mask = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
            device = self.model.device
            logits = self.model(input_ids=batch.to(device), attention_mask=mask.to(device)).logits[:, 0]
            for index, value in zip(chosen, logits.tolist(), strict=True):
                scores[index] = value
        return scores
