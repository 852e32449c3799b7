"""What stands in front of vLLM: the budget of a request, and the key."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from alloy.serve.requests import SIGN, BudgetRequests, with_budget

CHAT = "/v1/chat/completions"


def changed(request: dict[str, Any], chat: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(with_budget(json.dumps(request).encode(), chat))
    return found


def test_a_budget_goes_where_logits_processors_find_it() -> None:
    request = {"messages": [], "thinking_budget": 64, "thinking_grace": 5, "vllm_xargs": {"other": "x"}}
    assert changed(request) == {
        "messages": [],
        "vllm_xargs": {"other": "x", "thinking_budget": 64, "thinking_grace": 5},
    }
    assert changed({"thinking_budget": None}) == {"vllm_xargs": {"thinking_budget": -1}}


def test_a_budget_of_zero_is_thinking_off_unless_the_request_says_otherwise() -> None:
    assert changed({"thinking_budget": 0})["chat_template_kwargs"] == {"enable_thinking": False}
    said = {"thinking_budget": 0, "chat_template_kwargs": {"enable_thinking": True}}
    assert changed(said)["chat_template_kwargs"] == {"enable_thinking": True}
    assert "chat_template_kwargs" not in changed({"thinking_budget": 0}, chat=False)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b'{"messages": []}', b'{"thinking_budget": 1, "vllm_xargs": 3}', b"[" * 100_000],
)
def test_what_has_no_budget_or_cannot_be_read_is_left_as_it_is(body: bytes) -> None:
    assert with_budget(body, True) is body


@pytest.mark.parametrize("value", [-1, 1.5, "64", True, [1]])
@pytest.mark.parametrize("name", ["thinking_budget", "thinking_grace"])
def test_a_budget_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} = .*it must be a whole number of tokens"):
        changed({name: value})


async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Answers with what it was sent."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    length = dict(scope["headers"]).get(b"content-length", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"length-told", length)]})
    await send({"type": "http.response.body", "body": body})


def ask(
    path: str, pieces: list[bytes], method: str = "POST", key: str | None = None
) -> tuple[int, bytes, dict[bytes, bytes]]:
    headers = [(b"content-length", str(sum(map(len, pieces))).encode())]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    coming = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return coming.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(BudgetRequests(app)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


def test_a_request_that_comes_in_pieces_is_handed_on_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    status, body, headers = ask(CHAT, [b'{"thinking_', b'budget": 7, "model"', b': "m"}'])
    assert status == 200
    assert json.loads(body) == {"model": "m", "vllm_xargs": {"thinking_budget": 7}}
    assert headers[b"length-told"] == str(len(body)).encode()
    assert headers[SIGN[0]] == SIGN[1]
    assert ask("/tokenize", [b'{"thinking_budget": 7}'])[1] == b'{"thinking_budget": 7}'


def test_a_refusal_is_of_the_form_that_clients_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    status, body, _ = ask(CHAT, [b'{"thinking_budget": -3}'])
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, 400, "thinking_budget")
    assert error["message"].startswith("thinking_budget = -3: it must be a whole number")


def test_with_a_key_every_path_that_works_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sesame")
    for path in (CHAT, "/v1/models", "/invocations", "/tokenize", "/metrics", "/docs"):
        assert ask(path, [b"{}"])[0] == 401
        assert ask(path, [b"{}"], key="sesam")[0] == 401
        assert ask(path, [b"{}"], key="sesame")[0] == 200
    assert ask("/health", [b""], method="GET")[0] == 200
