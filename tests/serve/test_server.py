"""The server as a user starts it, reached with the official client: budgets, thinking, calls, key.

The model knows by heart what it writes, so that what comes over the wire can be told in advance.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
from counting import COUNT, LINES, RAIN, WEATHER

from alloy.errors import InputError
from alloy.policy import load_tokenizer
from alloy.rollout.budget import BudgetTokens
from alloy.serve.asking import Asked
from alloy.serve.splitting import Parts
from alloy.terminal.remote import RemoteWriter, connect

GRACE = 6
TOOLS = [{"type": "function", "function": WEATHER}]
WHOLE = "\n".join(LINES)


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    import openai

    return openai.OpenAI(base_url=server, api_key="sesame", max_retries=0, timeout=600)


@pytest.fixture(scope="module")
def tokenizer(taught_folder: Any) -> Any:
    return load_tokenizer(taught_folder)


def chat(client: Any, messages: list[Any], budget: Any = "unsaid", **more: Any) -> Any:
    body = more.pop("extra_body", {}) | ({} if budget == "unsaid" else {"thinking_budget": budget})
    return client.chat.completions.create(
        model="counter", messages=messages, temperature=0, max_tokens=150, extra_body=body, **more
    )


def closes_at(tokenizer: Any, budget: int) -> str:
    """The thinking that a budget leaves of the whole: to the first newline at or past it, or by force."""
    newlines = BudgetTokens.of(tokenizer).newlines
    ids = tokenizer.encode(WHOLE + "\n", add_special_tokens=False)
    if budget > 0:
        end = next((n for n in range(budget, len(ids) + 1) if ids[n - 1] in newlines), len(ids))
        ids = ids[: min(end, budget + GRACE)]
    else:
        ids = []
    return str(tokenizer.decode(ids)).strip("\n")


def test_without_a_budget_the_model_thinks_to_its_end(client: Any) -> None:
    found = chat(client, COUNT)
    message = found.choices[0].message
    assert (message.reasoning, message.content) == (WHOLE, "done")
    assert found.choices[0].finish_reason == "stop"
    assert chat(client, COUNT, None).choices[0].message.reasoning == WHOLE


@pytest.mark.parametrize("budget", [1, 5, 14, 20, 33])
def test_a_budget_closes_at_the_next_newline_or_when_the_grace_is_over(
    client: Any, tokenizer: Any, budget: int
) -> None:
    found = chat(client, COUNT, budget)
    message = found.choices[0].message
    assert message.reasoning == closes_at(tokenizer, budget)
    if message.reasoning in {"\n".join(LINES[:n]) for n in range(1, 7)}:
        assert message.content == "done", "cut behind a line it was taught to answer"
    thought = found.usage.completion_tokens_details.reasoning_tokens
    assert budget <= thought <= budget + GRACE
    # The plain form of the same.
    plain = chat(client, COUNT, extra_body={"vllm_xargs": {"thinking_budget": budget}})
    assert plain.choices[0].message.reasoning == message.reasoning


def test_a_budget_of_zero_and_no_think_are_thinking_off(client: Any) -> None:
    off = [{"role": "user", "content": "Count. /no_think"}]
    for found in (chat(client, COUNT, 0), chat(client, off), chat(client, off, 20)):
        message = found.choices[0].message
        assert (message.reasoning, message.content) == (None, "done")


def test_requests_of_different_budgets_run_together(client: Any, tokenizer: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    budgets = [None, 1, 33, 0, 5, 14, None, 20, 5, 1, 33, 14]
    with ThreadPoolExecutor(len(budgets)) as pool:
        found = list(pool.map(lambda budget: chat(client, COUNT, budget), budgets))
    for one, budget in zip(found, budgets, strict=True):
        whole = WHOLE if budget is None else closes_at(tokenizer, budget)
        assert (one.choices[0].message.reasoning or "") == whole


def test_a_stream_tells_the_same(client: Any, tokenizer: Any) -> None:
    thinking = content = ""
    for chunk in chat(client, COUNT, 20, stream=True):
        for choice in chunk.choices:
            thinking += (choice.delta.model_extra or {}).get("reasoning") or ""
            content += choice.delta.content or ""
            assert "think>" not in thinking + content
    assert thinking == closes_at(tokenizer, 20)
    whole = chat(client, COUNT, 20).choices[0].message
    assert (thinking, content) == (whole.reasoning, whole.content)


def test_a_tool_is_called_and_its_answer_is_read(client: Any) -> None:
    found = chat(client, RAIN, tools=TOOLS)
    message = found.choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"})
    assert (message.reasoning, message.content, found.choices[0].finish_reason) == (
        "look",
        None,
        "tool_calls",
    )
    turn = {
        "role": "assistant", "content": "", "reasoning_content": "look",
        "tool_calls": [call.model_dump()],
    }  # fmt: skip
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answer = chat(client, [*RAIN, turn, told], tools=TOOLS).choices[0].message
    assert (answer.reasoning, answer.content) == ("so", "It is sunny.")


def test_a_call_is_streamed_whole(client: Any) -> None:
    calls, reasons = [], []
    for chunk in chat(client, RAIN, tools=TOOLS, stream=True):
        for choice in chunk.choices:
            calls += choice.delta.tool_calls or []
            reasons.append(choice.finish_reason)
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Rome"})
    ]
    assert reasons[-1] == "tool_calls"


def test_raw_completions_have_budgets_too(client: Any, tokenizer: Any) -> None:
    from alloy.template import encode_prompt

    found = client.completions.create(
        model="counter", prompt=encode_prompt(tokenizer, COUNT), temperature=0, max_tokens=150,
        extra_body={"thinking_budget": 14},
    )  # fmt: skip
    assert found.choices[0].text.partition("</think>")[0].strip("\n") == closes_at(tokenizer, 14)


def test_a_budget_that_is_none_and_a_wrong_key_are_refused(client: Any, server: str) -> None:
    import openai

    with pytest.raises(
        openai.BadRequestError, match="thinking_budget = -4: it must be a whole number of tokens"
    ):
        chat(client, COUNT, -4)
    with pytest.raises(openai.BadRequestError, match="thinking_budget = 1.5: it must be a whole number"):
        chat(client, COUNT, extra_body={"vllm_xargs": {"thinking_budget": 1.5}})
    with pytest.raises(openai.AuthenticationError):
        chat(client.with_options(api_key="wrong"), COUNT)


@pytest.mark.parametrize("budget", [0, 5, 12, 20, None])
def test_two_calls_keep_a_budget_on_a_server_that_is_not_told_of_it(
    client: Any, tokenizer: Any, budget: int | None
) -> None:
    from alloy.serve.two_calls import TwoCalls

    shown: list[Parts] = []
    reply = TwoCalls(client, "counter", tokenizer).write(
        Asked(COUNT, budget=budget, max_tokens=120, temperature=0.0), shown.append
    )
    thinking = "".join(part.thinking for part in shown)
    assert reply.message.get("thinking", "") == thinking
    assert "".join(part.answer for part in shown) == reply.message["content"]
    ids = tokenizer.encode(WHOLE, add_special_tokens=False)
    if budget is None:
        assert (thinking, reply.message["content"], reply.requests) == (WHOLE, "done", 1)
    elif budget == 0:
        assert (thinking, reply.message["content"], reply.requests) == ("", "done", 1)
    else:
        assert thinking == tokenizer.decode(ids[:budget]).strip("\n"), "a hard stop at the budget"
        assert reply.requests == 2
    assert reply.tokens <= 120


def test_the_second_call_has_what_the_first_has_left(client: Any, tokenizer: Any) -> None:
    from alloy.serve.two_calls import TwoCalls

    two = TwoCalls(client, "counter", tokenizer)
    asked: list[int] = []
    complete = two._complete

    def counted(prompt: Any, limit: int, *rest: Any) -> Any:
        asked.append(limit)
        return complete(prompt, limit, *rest)

    two._complete = counted  # type: ignore[method-assign]
    newline = tokenizer.encode("\n</think>", add_special_tokens=False)
    reply = two.write(Asked(COUNT, budget=5, max_tokens=9, temperature=0.0))
    assert asked == [5, 9 - 5 - len(newline)]
    assert reply.tokens <= 9
    asked.clear()
    short = two.write(Asked(COUNT, budget=8, max_tokens=8, temperature=0.0))
    assert asked == [8]
    assert (short.finished, short.message["content"]) == (False, "")


def test_the_server_says_that_it_keeps_budgets(server: str) -> None:
    served = connect(server, "sesame")
    assert (served.model, served.keeps_budgets, served.room) == ("counter", True, 512)
    with pytest.raises(InputError, match="the key is refused"):
        connect(server, "wrong")
    with pytest.raises(InputError, match="it serves counter. Name one of them"):
        connect(server, "sesame", "other")


def test_a_chat_with_a_server_that_keeps_no_budgets_makes_two_calls(server: str, tokenizer: Any) -> None:
    served = connect(server, "sesame")
    plain = replace(served, keeps_budgets=False)
    asked = Asked(COUNT, budget=12, max_tokens=120, temperature=0.0)
    reply = RemoteWriter(plain, tokenizer, GRACE).write(asked, lambda _: None)
    assert reply.requests == 2
    assert reply.message["thinking"] == tokenizer.decode(tokenizer.encode(WHOLE)[:12]).strip("\n")
    with pytest.raises(InputError, match="keeps no thinking budgets. Name the model's folder"):
        RemoteWriter(plain, None, GRACE).write(asked, lambda _: None)
    told: list[Parts] = []
    kept = RemoteWriter(served, None, GRACE).write(replace(asked, max_tokens=None), told.append)
    assert kept.requests == 1
    assert kept.message["thinking"] == closes_at(tokenizer, 12) == "".join(part.thinking for part in told)
    assert kept.thinking_tokens >= 12
