"""Our parsers where vLLM uses them: composed by its own manager, whole answers and streams of tokens."""

import importlib.util
import json
import os
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from alloy.chat import parse_completion
from alloy.template import encode_prompt

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")

TOOL = {
    "name": "add",
    "description": "adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
WRITTEN = [
    "I see.\nTwo lines.\n</think>\nYes.",
    f"look\n</think>\nWell.\n{CALL}",
    f"look\n</think>\n{CALL}{CALL}",
    "never closed\n",
    "</think>\n",
    "a < b\n</think>\n\nx </think> <think>",
    f"{CALL} in thought\n</think>\nno",
]


@pytest.fixture(scope="module")
def parser_class() -> Any:
    from vllm.parser.parser_manager import ParserManager
    from vllm.reasoning import ReasoningParserManager

    ReasoningParserManager.import_reasoning_parser("alloy.serve.vllm_parsers")
    return ParserManager.get_parser("alloy", "alloy", enable_auto_tools=True)


def asked(**more: Any) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    messages = [{"role": "user", "content": "?"}]
    tools = [{"type": "function", "function": TOOL}]
    return ChatCompletionRequest(model="m", messages=messages, tools=tools, **more)


def prompt(tokenizer: Any, thinking: bool) -> list[int]:
    return encode_prompt(tokenizer, [{"role": "user", "content": "?"}], [TOOL], thinking)


def expected(text: str, thinking: bool) -> tuple[str, str, list[Any]]:
    message = parse_completion(text, thinking)
    calls = [(call["name"], call["arguments"]) for call in message.get("tool_calls", [])]
    return message.get("thinking", ""), message["content"].rstrip("\n"), calls


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("text", WRITTEN)
def test_a_whole_answer(parser_class: Any, tiny_tokenizer: Any, text: str, thinking: bool) -> None:
    parser = parser_class(tiny_tokenizer, asked().tools)
    assert parser.is_reasoning_end(prompt(tiny_tokenizer, thinking)) is not thinking
    reasoning, content, calls = parser.parse(text, asked(), enable_auto_tools=True)
    found = [(call.name, json.loads(call.arguments)) for call in calls or []]
    assert (reasoning or "", (content or "").rstrip("\n"), found) == expected(text, thinking)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("text", WRITTEN)
def test_a_stream_tells_the_same(parser_class: Any, tiny_tokenizer: Any, text: str, thinking: bool) -> None:
    for seed in range(4):
        parser = parser_class(tiny_tokenizer, asked().tools)
        found = stream(parser, tiny_tokenizer, text, prompt(tiny_tokenizer, thinking), Random(seed))
        assert (found.reasoning.strip("\n"), found.content.rstrip("\n"), found.calls) == expected(
            text, thinking
        )
        assert found.indices == list(range(len(found.calls)))


def stream(parser: Any, tokenizer: Any, text: str, prompt_ids: list[int], rng: Random) -> Any:
    """What the deltas of a request add up to, a few tokens at a time."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    found = SimpleNamespace(reasoning="", content="", calls=[], indices=[])
    place = 0
    while place < len(ids):
        width = rng.randrange(1, 4)
        delta = ids[place : place + width]
        place += width
        message = parser.parse_delta(
            tokenizer.decode(delta), delta, asked(), prompt_token_ids=prompt_ids, finished=place >= len(ids)
        )
        if message is None:
            continue
        found.reasoning += message.reasoning or ""
        found.content += message.content or ""
        for call in message.tool_calls:
            found.indices.append(call.index)
            assert call.id
            found.calls.append((call.function.name, json.loads(call.function.arguments)))
    return found


def test_tokens_of_thinking_are_counted(parser_class: Any, tiny_tokenizer: Any) -> None:
    parser = parser_class(tiny_tokenizer, None)
    ids = tiny_tokenizer.encode("one two\n</think>\nthree", add_special_tokens=False)
    thought = tiny_tokenizer.encode("one two\n", add_special_tokens=False)
    parser.is_reasoning_end(prompt(tiny_tokenizer, True))
    assert parser.count_reasoning_tokens(ids) == len(thought)
    parser.is_reasoning_end(prompt(tiny_tokenizer, False))
    assert parser.count_reasoning_tokens(ids) == 0


def test_a_grammar_waits_for_the_end_of_the_thinking(parser_class: Any, tiny_tokenizer: Any) -> None:
    """The engine's own parser sees tokens alone."""
    reasoning = parser_class(tiny_tokenizer, None).reasoning_parser
    ids = tiny_tokenizer.encode("one two\n</think>\nthree", add_special_tokens=False)
    end = len(tiny_tokenizer.encode("one two\n</think>", add_special_tokens=False))
    ended = [reasoning.is_reasoning_end_streaming(ids[: n + 1], [ids[n]]) for n in range(len(ids))]
    assert ended.index(True) == end - 1
    assert reasoning.extract_content_ids(ids) == ids[end:]


def test_where_the_prompt_was_not_asked_the_request_says_whether_it_thinks(
    parser_class: Any, tiny_tokenizer: Any
) -> None:
    def parsed(text: str, messages: list[Any], settings: dict[str, Any] | None = None) -> tuple[Any, Any]:
        parser = parser_class(tiny_tokenizer, None, chat_template_kwargs=settings)
        request = SimpleNamespace(messages=messages)
        found: tuple[Any, Any] = parser.reasoning_parser.extract_reasoning(text, request)
        return found

    assert parsed("a\n</think>\nb", []) == ("a", "b")
    assert parsed("<think>a</think>b", []) == ("a", "b")
    assert parsed("b", [{"role": "user", "content": "x /no_think"}]) == (None, "b")
    assert parsed("b", [], {"enable_thinking": False}) == (None, "b")
