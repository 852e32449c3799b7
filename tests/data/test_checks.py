from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.data.checks import check, repeated_run
from alloy.data.config import RepeatConfig
from alloy.data.shapes import Conversation, RowError

ADD = {
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
U = {"role": "user", "content": "x"}
A = {"role": "assistant", "content": "y"}
S = {"role": "system", "content": "s"}
T = {"role": "tool", "content": "1"}


def calls(**arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": arguments}]}


def judge(*messages: dict[str, Any], tools: Any = (), special: Any = ("<|im_end|>",)) -> str | None:
    try:
        check(Conversation(list(messages), list(tools)), RepeatConfig(), special)
    except RowError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "messages",
    [
        (U, A),
        (S, U, A, U, A),
        (U, A, U),
        (U, calls(a=1), T, A),
        (U, calls(a=1), T, calls(a=2), T, A),
        (U, calls(a=1)),
        (U, {**A, "thinking": "so so so so"}),
        (U, {**A, "content": "no " * 15}),
    ],
)
def test_good_rows(messages: Any) -> None:
    assert judge(*messages, tools=[ADD]) is None


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((U,), "has no assistant turn"),
        ((A, U, A), "turn 1 is the assistant's after nothing: roles must alternate"),
        ((U, U, A), "turn 2 is the user's after the user's"),
        ((U, A, A), "turn 3 is the assistant's after the assistant's"),
        ((U, S, A), "turn 2 is the system's after the user's"),
        ((U, A, T, A), "turn 3 is a tool's answer that no call asked for"),
        ((U, calls(a=1), T, T, A), "turn 4 is a tool's answer that no call asked for"),
        ((U, calls(a=1), A), "turn 3 is the assistant's after the assistant's"),
        ((U, calls(a=1), U, A), "turn 2 calls tools, and no tool answers"),
        (({**U, "content": " "}, A), "turn 1 is empty"),
        ((U, {**A, "content": ""}), "turn 2 has no answer"),
        ((U, {**A, "content": "\n", "thinking": "t"}), "turn 2 has no answer after its thinking"),
        ((U, {**A, "content": "a</think>b"}), "turn 2 has </think> in its answer"),
        (
            (U, {**A, "thinking": "<think>a"}),
            "turn 2 has <think> in its thinking: thinking tags are not balanced",
        ),
        ((U, {**A, "content": "a\ud800"}), "turn 2: no valid UTF-8, half a surrogate pair at 1"),
        (({**U, "content": "a\x00"}, A), "turn 1: a NUL character"),
        (({**U, "content": "a<|im_end|>b"}, A), "turn 1: the special token <|im_end|> in its text"),
        ((U, {**A, "content": "no " * 16}), "turn 2 says 'no' 16 times in a row in its answer"),
        ((U, {**A, "thinking": "w " + "a b " * 16}), "turn 2 says 'a b' 16 times in a row in its thinking"),
        (
            (U, calls(a="1")),
            "turn 2 calls 'add' with arguments against its schema: '1' is not of type 'integer'",
        ),
        ((U, calls()), "turn 2 calls 'add' with arguments against its schema: 'a' is a required property"),
    ],
)
def test_bad_rows_and_why(messages: Any, reason: str) -> None:
    assert (judge(*messages, tools=[ADD]) or "").startswith(reason)


def test_what_is_wrong_with_the_tools_and_the_arguments() -> None:
    assert judge(U, A, tools=[{"name": "a", "description": "\ud800"}]) == (
        "the tools: no valid UTF-8, half a surrogate pair at 31"
    )
    assert (
        judge(U, A, tools=[{"name": "a<|im_end|>"}]) == "the tools: the special token <|im_end|> in its text"
    )
    assert (judge(U, calls(a=object()), tools=[ADD]) or "").startswith(
        "turn 2: not JSON (Object of type object"
    )


def test_every_call_is_answered_before_the_assistant_goes_on() -> None:
    two = {**calls(a=1), "tool_calls": [{"name": "add", "arguments": {"a": n}} for n in (1, 2)]}
    assert judge(U, two, T, T, A, tools=[ADD]) is None
    assert judge(U, two, T, A, tools=[ADD]) == "turn 4 goes on before 1 of the calls were answered"


def test_a_call_of_a_tool_that_is_not_offered() -> None:
    assert judge(U, calls(a=1)) == "turn 2 calls 'add', which is not offered"


def test_schemas_that_are_none_or_refer_elsewhere() -> None:
    broken = {"name": "add", "parameters": {"type": "nonsense"}}
    assert "are no JSON schema" in (judge(U, calls(a=1), tools=[broken]) or "")
    elsewhere = {"name": "add", "parameters": {"$ref": "http://127.0.0.1:9/schema"}}
    assert "cannot be checked" in (judge(U, calls(a=1), tools=[elsewhere]) or "")


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    st.integers(2, 6),
    st.lists(st.sampled_from("cd"), max_size=5),
    st.lists(st.sampled_from("ef"), max_size=5),
)
def test_a_run_is_found_exactly_where_it_is_long_enough(
    phrase: list[str], times: int, before: list[str], after: list[str]
) -> None:
    text = " ".join([*before, *phrase * times, *after])
    assert repeated_run(text, 4, times) is not None
    words = text.split()

    def has_run() -> bool:
        return any(
            words[start : start + n] * (times + 1) == words[start : start + n * (times + 1)]
            for n in range(1, 5)
            for start in range(len(words))
            if words[start : start + n * (times + 1)] and start + n * (times + 1) <= len(words)
        )

    assert (repeated_run(text, 4, times + 1) is not None) == has_run()
