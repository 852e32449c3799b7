"""What a request may say to our server beyond what vLLM reads, and who may say it.

`thinking_budget` and `thinking_grace` stand beside `messages` or `prompt`, as any other field:

    client.chat.completions.create(model=..., messages=[...], extra_body={"thinking_budget": 256})

A budget of 0 is thinking off, null no limit; without the field the server's own holds.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEY_VARIABLE = "VLLM_API_KEY"
"""vLLM reads it, too, so that a key need not stand in a list of processes."""
SIGN = (b"x-thinking-budget", b"per-request")
"""On every answer: by it a client knows that the server keeps budgets."""
_OPEN_PATHS = ("/health", "/ping", "/version")
_CHAT = "/v1/chat/completions"
_PATHS = (_CHAT, "/v1/completions", "/v1/responses")
_UNLIMITED = -1


class BudgetRequests:
    """ASGI middleware in front of vLLM's server.

    With a key every path but those that only say that the server lives wants it; vLLM alone leaves some
    open that generate.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        key = os.environ.get(KEY_VARIABLE)
        self._key = hashlib.sha256(key.encode()).digest() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not self._may(scope, path):
            await _refuse(send, 401, "this server wants a key: Authorization: Bearer KEY", None)
            return
        if scope["method"] == "POST" and path in _PATHS:
            body = await _read(receive)
            try:
                changed = with_budget(body, chat=path == _CHAT)
            except ValueError as error:
                await _refuse(send, 400, str(error), str(error).split(" ", 1)[0])
                return
            headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            headers.append((b"content-length", str(len(changed)).encode()))
            scope = {**scope, "headers": headers}
            receive = _replay(changed, receive)
        await self.app(scope, receive, _signing(send))

    def _may(self, scope: Scope, path: str) -> bool:
        if self._key is None or path in _OPEN_PATHS or scope["method"] == "OPTIONS":
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(hashlib.sha256(key).digest(), self._key)


def with_budget(body: bytes, chat: bool) -> bytes:
    """A request's body with its budget where vLLM hands it on to logits processors.

    Raises:
        ValueError: a budget or grace that is none. A body that is no JSON is vLLM's to complain of.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(request, dict) or not request.keys() & {"thinking_budget", "thinking_grace"}:
        return body
    arguments = request.get("vllm_xargs") or {}
    if not isinstance(arguments, dict):
        return body
    if "thinking_budget" in request:
        budget = request.pop("thinking_budget")
        if budget is not None and not _is_whole(budget):
            raise ValueError(
                f"thinking_budget = {budget!r}: it must be a whole number of tokens, 0 for no thinking, or null for "
                "no limit."
            )
        arguments["thinking_budget"] = _UNLIMITED if budget is None else budget
        if chat and budget == 0:
            settings = request.get("chat_template_kwargs") or {}
            request["chat_template_kwargs"] = {"enable_thinking": False, **settings}
    if "thinking_grace" in request:
        grace = request.pop("thinking_grace")
        if not _is_whole(grace):
            raise ValueError(f"thinking_grace = {grace!r}: it must be a whole number of tokens, 0 or more.")
        arguments["thinking_grace"] = grace
    request["vllm_xargs"] = arguments
    return json.dumps(request).encode()


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


async def _read(receive: Receive) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(pieces)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _signing(send: Send) -> Send:
    async def signed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), SIGN]}
        await send(message)

    return signed


async def _refuse(send: Send, status: int, told: str, parameter: str | None) -> None:
    """An error as OpenAI's clients read it."""
    kind = "BadRequestError" if status == 400 else "AuthenticationError"
    error = {"message": told, "type": kind, "param": parameter, "code": status}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), SIGN]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
