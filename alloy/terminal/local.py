"""A model in this process, writing token by token."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from alloy.chat import parse_completion
from alloy.errors import InputError
from alloy.rollout.budget import BudgetTokens, count_thinking
from alloy.rollout.budget_transformers import ThinkingBudgetLogitsProcessor
from alloy.serve.asking import Asked, Reply, Show
from alloy.serve.splitting import ThinkingSplit
from alloy.template import chat_template, encode_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNKNOWN_ROOM = 1 << 15
"""Tokens, of a model that does not say how many positions it has."""


class LocalWriter:
    """Writes with `model.generate`.

    Args:
        grace: tokens past a thinking budget after which the close is forced.
    """

    def __init__(self, model: Any, tokenizer: "PreTrainedTokenizerBase", grace: int) -> None:
        self.model, self.tokenizer, self.grace = model.eval(), tokenizer, grace
        self.tokens = BudgetTokens.of(tokenizer)

    def write(self, asked: Asked, show: Show) -> Reply:
        """
        Raises:
            InputError: the conversation leaves no room in the model's context.
        """
        prompt = encode_prompt(self.tokenizer, asked.messages, asked.tools, asked.thinks)
        room = getattr(self.model.config, "max_position_embeddings", _UNKNOWN_ROOM) - len(prompt)
        if room < 1:
            raise InputError(
                f"the conversation has {len(prompt)} tokens, the model has no more room. /clear begins anew."
            )
        opened = self.tokens.opened(prompt) if asked.thinks else False
        stream = _Stream(self.tokenizer, ThinkingSplit(opened), show)
        budget = ThinkingBudgetLogitsProcessor(
            self.tokenizer, asked.budget if asked.thinks else None, self.grace
        )
        if asked.seed is not None:
            torch.manual_seed(asked.seed)
        with suppress(KeyboardInterrupt):  # what was written until then is the turn
            self._generate(prompt, min(room, asked.max_tokens or room), asked, budget, stream)
        show(stream.split.finish())
        return self._reply(stream, asked, opened)

    def _generate(self, prompt: list[int], limit: int, asked: Asked, budget: Any, stream: "_Stream") -> None:
        ids = torch.tensor([prompt], device=self.model.device)
        heat = asked.heat
        how: dict[str, Any]
        if heat > 0:
            how = {"do_sample": True, "temperature": heat, "top_p": asked.top_p, "top_k": 0}
        else:
            how = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            **how,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            logits_processor=[budget],
            streamer=stream,
        )

    def _reply(self, stream: "_Stream", asked: Asked, opened: bool | None) -> Reply:
        ids = stream.token_ids
        finished = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
        text = self.tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=False)
        if opened is None:
            text = text.lstrip().removeprefix(self.tokens.open_text) if stream.split.thought else text
        thinking = stream.split.thought or opened is True
        notation = chat_template(self.tokenizer).notation if asked.tools else "hermes"
        message = parse_completion(text, thinking, notation, asked.tools)
        thought = count_thinking(self.tokens, ids) if thinking else 0
        return Reply(message, len(ids), thought, finished)


class _Stream(BaseStreamer):
    """Takes the tokens of one completion as they are drawn."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", split: ThinkingSplit, show: Show) -> None:
        self.split, self.token_ids = split, list[int]()
        self._end = tokenizer.eos_token_id
        self._backend = tokenizer.backend_tokenizer
        self._decoded = DecodeStream(skip_special_tokens=False)
        self._show = show
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:  # comes first, whole
            self._prompt = False
            return
        (token,) = value.flatten().tolist()
        self.token_ids.append(token)
        text = None if token == self._end else self._decoded.step(self._backend, token)
        if text:
            self._show(self.split.feed(text))

    def end(self) -> None:
        pass
