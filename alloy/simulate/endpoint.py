"""An OpenAI-compatible endpoint: asked with its own client, answered with plain data.

The client's own retries do the waiting: after 429, 5xx, a timeout or a lost connection, twice as long each
time, or as long as the server says.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alloy.errors import InputError, StageError
from alloy.secrets import without_key
from alloy.simulate.config import EndpointConfig, RoleConfig
from alloy.simulate.reading import plain_text, split_thinking

MAX_REFUSALS = 16
"""Requests refused in a row, with no answer in between, after which the endpoint is taken to be broken."""


class Refused(Exception):
    """The endpoint does not answer this request, and why; another one it may."""


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        calls: native tool calls, as they were sent: (name, arguments).
        cut: whether it ran into the limit of tokens.
        prompt_tokens, completion_tokens: as the endpoint counts; 0 where it does not.
    """

    text: str
    thinking: str = ""
    calls: list[tuple[Any, Any]] = field(default_factory=list)
    cut: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Endpoint:
    """One server and model. What of the protocol it takes is found out by `prepare`.

    Raises:
        InputError: the environment variable with the key is not set.
    """

    def __init__(self, config: EndpointConfig) -> None:
        from openai import AsyncOpenAI

        self.config = config
        self.takes_seed = config.send_seed
        self.limit_key = "max_tokens"
        """Older servers know this name alone, newer models of OpenAI's only `max_completion_tokens`."""
        self._refusals = 0
        key = os.environ.get(config.api_key_env) if config.api_key_env else "none"
        if not key:
            raise InputError(
                f"endpoint.api_key_env = {_name_told(config.api_key_env)}: there is no such environment "
                "variable. Set it to the endpoint's key."
            )
        self._client = AsyncOpenAI(
            api_key=key,
            base_url=config.base_url,
            timeout=config.timeout_seconds,
            max_retries=config.max_retries,
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(
        self,
        messages: Sequence[dict[str, Any]],
        role: RoleConfig,
        seed: int,
        tools: Sequence[dict[str, Any]] = (),
        json_answer: bool = False,
    ) -> Reply:
        """One completion.

        Raises:
            Refused: this request was not answered.
            StageError: no request will be: the endpoint is gone, or refuses the key or the model.
        """
        import openai

        try:
            reply = _reply(await self._post(self._body(messages, role, seed, tools, json_answer)))
        except (
            openai.BadRequestError,
            openai.UnprocessableEntityError,
            openai.ConflictError,
            openai.InternalServerError,
            openai.APITimeoutError,
            ValueError,  # what came is no JSON
        ) as error:
            self._refusals += 1
            told = _told(error, self.config)
            if self._refusals > MAX_REFUSALS:
                raise StageError(
                    f"{self.config.base_url}: {self._refusals} requests in a row were not answered, the last "
                    f"with: {told}. Mend that, and run the same command to go on."
                ) from None
            raise Refused(told) from None
        except openai.APIStatusError as error:
            if error.status_code == 413:
                raise Refused(_told(error, self.config)) from None
            raise StageError(
                f"{self.config.base_url}: {_told(error, self.config)}. Run the same command to go on."
            ) from None
        except openai.OpenAIError as error:
            raise StageError(
                f"{self.config.base_url} stopped answering ({_told(error, self.config)}). "
                "Start it, and run the same command to go on."
            ) from None
        self._refusals = 0
        return reply

    async def prepare(self, role: RoleConfig, tools: Sequence[dict[str, Any]] = ()) -> None:
        """Find out with a few short requests whether the endpoint answers, and in which dialect.

        Raises:
            InputError: it does not answer, knows no such model, or takes no tools.
        """
        import openai

        hello = [{"role": "user", "content": "Say yes."}]
        short = role.model_copy(update={"max_completion_tokens": min(16, role.max_completion_tokens)})
        for _ in range(3):
            try:
                await self._post(self._body(hello, short, 0, tools, False), patient=False)
                return
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                told = _told(error, self.config)
                if self.limit_key == "max_tokens" and "max_completion_tokens" in told:
                    self.limit_key = "max_completion_tokens"
                elif self.takes_seed and "seed" in told:
                    self.takes_seed = False
                else:
                    raise InputError(await self._explain(error, bool(tools))) from None
            except (openai.OpenAIError, ValueError) as error:
                raise InputError(await self._explain(error, bool(tools))) from None
        raise InputError(f"endpoint.base_url = {self.config.base_url}: it refuses every form of a request.")

    def _body(
        self,
        messages: Sequence[dict[str, Any]],
        role: RoleConfig,
        seed: int,
        tools: Sequence[dict[str, Any]],
        json_answer: bool,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": list(messages),
            "temperature": role.temperature,
            "top_p": role.top_p,
            self.limit_key: role.max_completion_tokens,
        }
        if self.takes_seed:
            body["seed"] = seed
        if tools:
            body["tools"] = [{"type": "function", "function": tool} for tool in tools]
        if json_answer and self.config.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body | role.extra_body

    async def _post(self, body: dict[str, Any], patient: bool = True) -> Any:
        """What the server sent, as JSON; the client's own types would be built from it unchecked."""
        client = self._client if patient else self._client.with_options(max_retries=2)
        return await client.post("/chat/completions", cast_to=object, body=body)

    async def _explain(self, error: Exception, with_tools: bool) -> str:
        """What is wrong with an endpoint before anything was started, and the remedy."""
        import openai

        told = _told(error, self.config)
        address = f"endpoint.base_url = {self.config.base_url}"
        if isinstance(error, openai.APIConnectionError):
            return f"{address}: nothing answers there ({told}). Start the server, or correct the address."
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            named = _name_told(self.config.api_key_env)
            return f"{address}: the key is refused ({told}). Correct the variable that api_key_env names ({named})."
        served = await self._models()
        if served and self.config.model not in served:
            return (
                f"endpoint.model = {self.config.model!r}: {self.config.base_url} does not serve it. "
                f"It serves {', '.join(served[:8])}. Name one of these."
            )
        if isinstance(error, openai.NotFoundError):
            return (
                f"{address}: it knows no chat completions, or no model {self.config.model!r} ({told}). "
                "Correct base_url (it ends with /v1 on most servers) or model."
            )
        if with_tools and isinstance(error, openai.BadRequestError) and "tool" in told.lower():
            return (
                f"{address}: it takes no tools ({told}). Set calls: prompted, or start it with tool calling "
                "(vLLM: --enable-auto-tool-choice --tool-call-parser NAME)."
            )
        return f"{address}: a first request failed ({told}). Mend that; nothing was started."

    async def _models(self) -> list[str]:
        """What the endpoint says that it serves; nothing where it does not say."""
        import openai

        try:
            listed = await self._client.with_options(max_retries=0).get("/models", cast_to=object)
        except (openai.OpenAIError, ValueError):
            return []
        found = listed.get("data") if isinstance(listed, dict) else None
        entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
        return [str(entry["id"]) for entry in entries if "id" in entry]


def _reply(data: Any) -> Reply:
    """A chat completion as it came over the wire; nothing of it is trusted to be there.

    Raises:
        ValueError: it is none.
    """
    choices = data.get("choices") if isinstance(data, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ValueError(f"what came is no chat completion: {data!r}")
    thinking, text = split_thinking(plain_text(message.get("content")))
    thinking = plain_text(message.get("reasoning_content") or message.get("reasoning")).strip() or thinking
    listed = message.get("tool_calls")
    functions = [
        call.get("function") if isinstance(call, dict) else call
        for call in (listed if isinstance(listed, list) else ())
    ]
    calls = [
        (call.get("name"), call.get("arguments")) if isinstance(call, dict) else (None, call)
        for call in functions
    ]
    usage = data.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    return Reply(
        text,
        thinking,
        calls,
        choice.get("finish_reason") == "length",
        *(_count(counted.get(key)) for key in ("prompt_tokens", "completion_tokens")),
    )


def _name_told(name: str | None) -> str:
    """The name of an environment variable, unless it may be a key that was written in its place."""
    if name is None:
        return "not set"
    return repr(name) if re.fullmatch(r"[A-Z0-9_]{1,40}", name) else "(not shown: it may be a key)"


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _told(error: Exception, config: EndpointConfig) -> str:
    """What an error says, in one line and without the key."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    told = str(said or error or type(error).__name__)
    status = getattr(error, "status_code", None)
    cause = error.__cause__
    if cause is not None and status is None:
        told = f"{told.rstrip('.')}: {str(cause) or type(cause).__name__}"
    told = without_key(told, os.environ.get(config.api_key_env or ""))
    return f"{status}: {told}" if status and str(status) not in told else told
