"""A thinking budget on servers that keep none: think up to the budget, close, go on.

The first call may write as many tokens as the budget allows. If it has not closed its thinking by then, the
closing tag is put behind it and a second call goes on from there, with what the first has left of the
limit. Prompts are rendered here and sent as token ids, which every server of OpenAI's `/completions` takes.

The close is a hard stop: it does not wait for a newline, as a server of `python -m alloy serve` does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alloy.chat import THINK_CLOSE, THINK_OPEN, parse_completion
from alloy.errors import InputError
from alloy.rollout.budget import BudgetTokens
from alloy.serve.asking import Asked, Reply, Show
from alloy.serve.splitting import ThinkingSplit
from alloy.template import chat_template, encode_prompt

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase

_UNKNOWN_ROOM = 1024
"""Tokens of a completion, where neither the request nor the server says how many."""


class TwoCalls:
    """A client of any server with OpenAI's `/completions`.

    Args:
        client: with the server's address and key.
        model: as the server calls it.
        tokenizer: the served model's, with its chat template.
        room: tokens of a prompt and its completion that the server takes, where that is known.
    """

    def __init__(
        self, client: "OpenAI", model: str, tokenizer: "PreTrainedTokenizerBase", room: int | None = None
    ) -> None:
        self.client, self.model, self.tokenizer, self.room = client, model, tokenizer, room
        self._special = {THINK_OPEN, THINK_CLOSE} & set(tokenizer.all_special_tokens)

    def write(self, asked: Asked, show: Show = lambda _: None) -> Reply:
        """One turn, in one call or two.

        Raises:
            InputError: the conversation leaves no room in the model's context.
            openai.OpenAIError: the server did not answer.
        """
        prompt = encode_prompt(self.tokenizer, asked.messages, asked.tools, asked.thinks)
        opened = BudgetTokens.of(self.tokenizer).opened(prompt) if asked.thinks else False
        split = ThinkingSplit(opened)

        def feed(text: str) -> None:
            show(split.feed(text))

        most = self._most(len(prompt), asked)
        limit = min(most, asked.budget) if asked.thinks and asked.budget is not None else most
        first = self._complete(prompt, limit, asked, feed)
        text, used, finished, requests = first.text, first.tokens, first.finished, 1
        if not finished and used < most:
            open_still = split.thought and THINK_CLOSE not in text
            behind = _behind(text) if open_still else ""
            written = self.tokenizer.encode(text + behind, add_special_tokens=False)
            used += len(self.tokenizer.encode(behind, add_special_tokens=False))
            feed(behind)
            text += behind
            if used < most:
                second = self._complete(prompt + written, most - used, asked, feed)
                text, used, finished = text + second.text, used + second.tokens, second.finished
                requests = 2
        show(split.finish())
        if opened is None and split.thought:
            text = text.lstrip().removeprefix(THINK_OPEN)
        notation = chat_template(self.tokenizer).notation if asked.tools else "hermes"
        message = parse_completion(text, split.thought, notation, asked.tools)
        thought = self.tokenizer.encode(text.partition(THINK_CLOSE)[0], add_special_tokens=False)
        return Reply(message, used, len(thought) if split.thought else 0, finished, requests)

    def _most(self, prompt: int, asked: Asked) -> int:
        """Tokens that both calls may write together."""
        most = asked.max_tokens
        if self.room is not None:
            left = self.room - prompt
            if left < 1:
                raise InputError(f"the conversation has {prompt} tokens, the model takes {self.room}.")
            most = left if most is None else min(most, left)
        return _UNKNOWN_ROOM if most is None else most

    def _complete(self, prompt: list[int], limit: int, asked: Asked, feed: Any) -> "_Written":
        """One call, streamed."""
        extra: dict[str, Any] = {"skip_special_tokens": False} if self._special else {}
        stream = self.client.completions.create(
            model=self.model,
            prompt=prompt,
            max_tokens=limit,
            temperature=asked.heat,
            top_p=asked.top_p,
            seed=asked.seed,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=extra,
        )
        text, tokens, reason = "", None, None
        for chunk in stream:
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
            for choice in chunk.choices:
                text += choice.text
                reason = choice.finish_reason or reason
                feed(choice.text)
        if tokens is None:
            # A server that does not count: at its limit it has written just that many.
            counted = len(self.tokenizer.encode(text, add_special_tokens=False))
            tokens = limit if reason == "length" else min(limit, counted + 1)
        return _Written(text, tokens, reason == "stop")


@dataclass(frozen=True, slots=True)
class _Written:
    text: str
    tokens: int
    finished: bool


def _behind(text: str) -> str:
    """What closes thinking that is open still."""
    # A tag that the limit has cut in two is completed.
    begun = next((n for n in range(len(THINK_CLOSE) - 1, 1, -1) if text.endswith(THINK_CLOSE[:n])), 0)
    if begun or not text or text.endswith("\n"):
        return THINK_CLOSE[begun:]
    return f"\n{THINK_CLOSE}"
