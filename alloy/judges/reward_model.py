"""Scores of answers by a reward model in this process: batched by length, padded little."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

from alloy.environments.task import Message
from alloy.policy import load_model, load_tokenizer, own_device
from alloy.scorer import AutoScorer
from alloy.template import encode_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_TOKENS = 8192
"""Tokens that pass through a reward model at once, padding included."""


class Scorer(Protocol):
    """A reward model, wherever it runs."""

    def score(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        """One score an answer, in their order; None for a conversation longer than the model reads.

        Higher is better; the zero means nothing.
        """
        ...


def is_encoder(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether its model reads a text between [CLS] and [SEP], as BERT's kind does, and has no turns."""
    return tokenizer.cls_token is not None and tokenizer.sep_token is not None


def encode_answer(tokenizer: "PreTrainedTokenizerBase", prompt: Sequence[Message], answer: str) -> list[int]:
    """The tokens that a reward model reads: the conversation with the answer, thinking hidden.

    An encoder reads [CLS] user: ... [SEP] assistant: ... [SEP].
    """
    turns = [*prompt, {"role": "assistant", "content": answer}]
    if not is_encoder(tokenizer):
        return encode_conversation(tokenizer, turns, thinking=False)[-1].input_ids
    ids = [int(tokenizer.cls_token_id)]
    for turn in turns:
        said = str(turn.get("content") or "")
        if turn.get("tool_calls"):
            said = f"{said}\n{json.dumps(turn['tool_calls'], ensure_ascii=False)}"
        ids += tokenizer.encode(f"{turn['role']}: {said}", add_special_tokens=False, verbose=False)
        ids.append(int(tokenizer.sep_token_id))
    return ids


def most_tokens(model_config: Any, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The longest conversation that a model has positions for."""
    places = getattr(model_config, "max_position_embeddings", None) or 1 << 30
    return int(min(places, tokenizer.model_max_length))


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length: no batch is larger than `batch_tokens` when padded, but for one row."""
    batch: list[int] = []
    # The longest first: whether the memory suffices shows at once.
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class RewardModel:
    """A reward model from a model folder.

    Args:
        batch_tokens: that pass through the model at once, padding included.

    Attributes:
        most: tokens of the longest conversation that it reads.
        too_long: conversations that were longer and have no score.
    """

    def __init__(self, folder: Path, batch_tokens: int = BATCH_TOKENS) -> None:
        self.tokenizer = load_tokenizer(folder)
        model = load_model(folder, auto=AutoScorer)
        self.model: Any = model.to(own_device()).eval()
        self.batch_tokens = batch_tokens
        self.most = most_tokens(self.model.config, self.tokenizer)
        self.too_long = 0

    @torch.no_grad()
    def score(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        """As `Scorer` says."""
        rows = [encode_answer(self.tokenizer, p, a) for p, a in zip(prompts, answers, strict=True)]
        fitting = [index for index, row in enumerate(rows) if len(row) <= self.most]
        self._tell_too_long(len(rows) - len(fitting))
        scores: list[float | None] = [None] * len(rows)
        for batch in length_batches([len(rows[i]) for i in fitting], self.batch_tokens):
            chosen = [fitting[place] for place in batch]
            for index, value in zip(chosen, self._pass([rows[i] for i in chosen]), strict=True):
                scores[index] = value
        return scores

    def _pass(self, rows: Sequence[list[int]]) -> list[float]:
        ids = [torch.tensor(row) for row in rows]
        batch = pad_sequence(ids, batch_first=True, padding_value=int(self.tokenizer.pad_token_id))
        mask = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
        device = self.model.device
        logits = self.model(input_ids=batch.to(device), attention_mask=mask.to(device)).logits[:, 0]
        return [float(value) for value in logits.float().tolist()]

    def _tell_too_long(self, count: int) -> None:
        if count and not self.too_long:
            print(
                f"warning: {count} conversations are longer than the {self.most} tokens that the reward model "
                "reads: they have no score. Shorten prompts or answers; later ones are counted only.",
                file=sys.stderr,
            )
        self.too_long += count
