"""A model behind an OpenAI-compatible server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alloy.environments.task import Message
from alloy.errors import InputError, StageError
from alloy.serve.asking import Asked, Reply, Show
from alloy.serve.requests import SIGN
from alloy.serve.splitting import Parts, ThinkingSplit
from alloy.serve.two_calls import TwoCalls

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Served:
    """A server, and what it says of itself.

    Attributes:
        model: the first that it has, unless another is named.
        keeps_budgets: whether it takes `thinking_budget`.
        room: tokens of a prompt and its completion; None where it does not say.
    """

    client: "OpenAI"
    model: str
    keeps_budgets: bool
    room: int | None


def connect(url: str, key: str, name: str | None = None) -> Served:
    """
    Raises:
        InputError: nothing answers, the key is refused, or there is no such model.
    """
    import openai

    client = openai.OpenAI(base_url=url, api_key=key, max_retries=1)
    try:
        answer = client.models.with_raw_response.list()
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        raise InputError(
            f"--url {url}: nothing answers there ({cause}). Start `python -m alloy serve MODEL`."
        ) from None
    except openai.AuthenticationError:
        raise InputError(f"--url {url}: the key is refused. Set --api-key.") from None
    except openai.OpenAIError as error:
        raise InputError(f"--url {url}: {error}. It ends with /v1 on most servers.") from None
    served = {model.id: model for model in answer.parse().data}
    if not served or (name and name not in served):
        raise InputError(
            f"--url {url}: it serves {', '.join(served) or 'no model'}. Name one of them with --served."
        )
    model = served[name] if name else next(iter(served.values()))
    room = (model.model_extra or {}).get("max_model_len")
    keeps = answer.headers.get(SIGN[0].decode()) == SIGN[1].decode()
    return Served(client, model.id, keeps, room if isinstance(room, int) else None)


class RemoteWriter:
    """Writes with a server's chat completions.

    Args:
        tokenizer: the served model's, for a server that keeps no budgets: they are kept in two calls.
        grace: tokens past a budget after which the close is forced.
    """

    def __init__(self, served: Served, tokenizer: "PreTrainedTokenizerBase | None", grace: int) -> None:
        self.served, self.grace = served, grace
        self._two_calls = None
        if tokenizer is not None:
            self._two_calls = TwoCalls(served.client, served.model, tokenizer, served.room)

    def write(self, asked: Asked, show: Show) -> Reply:
        """
        Raises:
            InputError: a budget that nobody keeps, or what the server refuses.
            StageError: the server stopped answering.
        """
        import openai

        try:
            if self.served.keeps_budgets or not asked.budget:
                return self._chat(asked, show)
            if self._two_calls is None:
                raise InputError(
                    "this server keeps no thinking budgets. Name the model's folder beside --url: then they are kept "
                    "in two calls."
                )
            return self._two_calls.write(asked, show)
        except openai.APIConnectionError as error:
            raise StageError(
                f"{self.served.client.base_url} stopped answering ({error.__cause__ or error})."
            ) from None
        except openai.APIStatusError as error:
            raise InputError(f"{self.served.client.base_url}: {error}") from None

    def _chat(self, asked: Asked, show: Show) -> Reply:
        extra: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": asked.thinks}}
        if self.served.keeps_budgets:
            extra |= {"thinking_budget": asked.budget, "thinking_grace": self.grace}
        more: dict[str, Any] = {}
        if asked.tools:
            more["tools"] = [{"type": "function", "function": tool} for tool in asked.tools]
        if asked.max_tokens is not None:
            more["max_tokens"] = asked.max_tokens
        create: Any = self.served.client.chat.completions.create
        stream = create(
            model=self.served.model,
            messages=to_openai(asked.messages),
            temperature=asked.heat,
            top_p=asked.top_p,
            seed=asked.seed,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=extra,
            **more,
        )
        reading = _Reading(show)
        try:
            for chunk in stream:
                reading.take(chunk)
        except KeyboardInterrupt:
            stream.close()
        return reading.reply()


class _Reading:
    """A reply as it comes, chunk by chunk."""

    def __init__(self, show: Show) -> None:
        self._show = show
        # A server without a reasoning parser sends the tags, too.
        self._split = ThinkingSplit(None)
        self._thinking = self._content = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._reason: str | None = None
        self._tokens = self._thought = 0

    def take(self, chunk: Any) -> None:
        if chunk.usage is not None:
            self._tokens = chunk.usage.completion_tokens
            details = chunk.usage.completion_tokens_details
            self._thought = (details.reasoning_tokens if details else None) or 0
        for choice in chunk.choices:
            self._reason = choice.finish_reason or self._reason
            delta = choice.delta
            extra = delta.model_extra or {}
            self._add(Parts(extra.get("reasoning") or extra.get("reasoning_content") or ""))
            self._add(self._split.feed(delta.content or ""))
            for call in delta.tool_calls or []:
                kept = self._calls.setdefault(call.index, {"name": "", "arguments": ""})
                if call.function is not None:
                    kept["name"] += call.function.name or ""
                    kept["arguments"] += call.function.arguments or ""

    def reply(self) -> Reply:
        self._add(self._split.finish())
        message: Message = {"role": "assistant", "content": self._content}
        if self._thinking.strip("\n"):
            message["thinking"] = self._thinking.strip("\n")
        calls = [
            {"name": call["name"], "arguments": _arguments(call["arguments"])}
            for call in self._calls.values()
        ]
        if calls:
            message["tool_calls"] = calls
        finished = self._reason in ("stop", "tool_calls")
        return Reply(message, self._tokens, self._thought, finished, 1)

    def _add(self, parts: Parts) -> None:
        self._thinking += parts.thinking
        self._content += parts.answer
        if parts.thinking or parts.answer:
            self._show(parts)


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Our turns as OpenAI's interface has them: calls with ids, arguments as text."""
    found: list[dict[str, Any]] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        turn: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
        if message.get("thinking"):
            turn["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            waiting = [f"call-{index}-{number}" for number in range(len(message["tool_calls"]))]
            turn["tool_calls"] = [
                {
                    "id": name,
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
                }
                for name, call in zip(waiting, message["tool_calls"], strict=True)
            ]
        if message["role"] == "tool" and waiting:
            turn["tool_call_id"] = waiting.pop(0)
        found.append(turn)
    return found
