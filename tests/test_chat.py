import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.chat import (
    TAG_TOKENS,
    THINK_CLOSE,
    TURN_CLOSE,
    parse_completion,
    split_control,
)
from alloy.environments.task import Message
from alloy.errors import InputError
from alloy.template import encode_conversation, encode_prompt, to_template_tools, tool_turn_ids
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN

TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "add", "arguments": {"a": 1, "b": "x"}}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, thinking: str = "", *calls: dict[str, Any]) -> Message:
    turn: Message = {"role": "assistant", "content": text}
    if thinking:
        turn["thinking"] = thinking
    if calls:
        turn["tool_calls"] = list(calls)
    return turn


def prompt_text(tokenizer: Any, messages: list[Message], **given: Any) -> str:
    return str(tokenizer.decode(encode_prompt(tokenizer, messages, **given)))


def texts(tokenizer: Any, messages: list[Message], **given: Any) -> list[tuple[str, str]]:
    """Each training sequence as text, and the text that carries loss, its runs joined by |."""
    found = []
    for encoded in encode_conversation(tokenizer, messages, **given):
        runs: list[list[int]] = [[]]
        for token, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True):
            if bit:
                runs[-1].append(token)
            elif runs[-1]:
                runs.append([])
        found.append((tokenizer.decode(encoded.input_ids), "|".join(tokenizer.decode(r) for r in runs if r)))
    return found


# Hand-checked renderings.


def test_a_prompt_with_thinking(tiny_tokenizer: Any) -> None:
    assert prompt_text(tiny_tokenizer, [user("2+2?")]) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )


def test_a_prompt_without_thinking(tiny_tokenizer: Any) -> None:
    expected = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think></think>\n"
    assert prompt_text(tiny_tokenizer, [user("2+2? /no_think")]) == expected
    assert prompt_text(tiny_tokenizer, [user("2+2?")], thinking=False) == expected


def test_system_and_tools_share_the_first_turn(tiny_tokenizer: Any) -> None:
    told = '{"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}'
    tail = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    system = [{"role": "system", "content": "Be brief."}, user("hi")]
    assert prompt_text(tiny_tokenizer, system, tools=[TOOL]) == (
        f"<|im_start|>system\nBe brief.\nTools:\n{told}<|im_end|>\n{tail}"
    )
    assert prompt_text(tiny_tokenizer, [user("hi")], tools=[TOOL]) == (
        f"<|im_start|>system\nTools:\n{told}<|im_end|>\n{tail}"
    )


def test_a_tool_conversation_with_thinking_is_one_sequence(tiny_tokenizer: Any) -> None:
    messages = [
        user("add"),
        assistant("", "call it", CALL),
        {"role": "tool", "content": "3"},
        assistant("It is 3.", "done"),
    ]
    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": "x"}}</tool_call>'
    assert texts(tiny_tokenizer, messages) == [
        (
            "<|im_start|>user\nadd<|im_end|>\n"
            f"<|im_start|>assistant\n<think>\ncall it\n</think>\n{call}<|im_end|>\n"
            "<|im_start|>tool\n3<|im_end|>\n"
            "<|im_start|>assistant\n<think>\ndone\n</think>\nIt is 3.<|im_end|>",
            f"call it\n</think>\n{call}<|im_end|>|done\n</think>\nIt is 3.<|im_end|>",
        )
    ]


def test_one_sequence_a_user_turn_and_earlier_thinking_is_dropped(tiny_tokenizer: Any) -> None:
    messages = [user("one"), assistant("A", "first"), user("two"), assistant("B", "second"), user("three")]
    first = "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    assert texts(tiny_tokenizer, messages) == [
        (f"{first}<think>\nfirst\n</think>\nA<|im_end|>", "first\n</think>\nA<|im_end|>"),
        (
            f"{first}<think></think>\nA<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nsecond\n</think>\nB<|im_end|>",
            "second\n</think>\nB<|im_end|>",
        ),
    ]


def test_without_thinking_every_turn_of_the_assistant_carries_loss(tiny_tokenizer: Any) -> None:
    messages = [user("one"), assistant("A", "hidden"), user("two"), assistant("B")]
    (sequence, written), *rest = texts(tiny_tokenizer, messages, thinking=False)
    assert rest == []
    assert written == "A<|im_end|>|B<|im_end|>"
    assert "hidden" not in sequence
    assert sequence.count("<think></think>\n") == 2


def test_a_turn_with_nothing_thought_still_closes_its_thinking(tiny_tokenizer: Any) -> None:
    ((_, written),) = texts(tiny_tokenizer, [user("one"), assistant("A")], thinking=True)
    assert written == "</think>\nA<|im_end|>"


def test_a_conversation_without_an_assistant_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="without an assistant turn has nothing to learn"):
        encode_conversation(tiny_tokenizer, [user("hi")])


def test_a_template_that_marks_nothing_is_refused(
    tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{%- for m in messages -%}{{- m.content -}}{%- endfor -%}{% generation %}{% endgeneration %}"
    monkeypatch.setattr(tiny_tokenizer, "chat_template", template)
    with pytest.raises(InputError, match="and no special token: the model would never learn to stop"):
        encode_conversation(tiny_tokenizer, [user("a"), assistant("b")])


# Controls.


@pytest.mark.parametrize(
    ("text", "plain", "thinking"),
    [
        ("hi", "hi", True),
        ("hi /no_think", "hi", False),
        ("/no_think", "", False),
        ("/no_think hi /think there", "hi there", True),
        (
            "a/no_think /no_thinking /no_think. (/no_think)",
            "a/no_think /no_thinking /no_think. (/no_think)",
            True,
        ),
        ("see /think/x", "see /think/x", True),
        ("two  spaces\nand /no_think\nlines", "two  spaces\nand\nlines", False),
        ("windows /no_think\r\nline", "windows\nline", False),
        ("tab\t/no_think\tend", "tab end", False),
    ],
)
def test_controls_are_words(text: str, plain: str, thinking: bool) -> None:
    messages, on = split_control([user(text)])
    assert (messages[0]["content"], on) == (plain, thinking)


def test_the_last_control_wins_across_turns_and_only_people_have_it() -> None:
    messages: list[Message] = [
        {"role": "system", "content": "/no_think"},
        user("/think a"),
        assistant("/no_think"),
        {"role": "tool", "content": "/no_think"},
    ]
    plain, thinking = split_control(messages)
    assert thinking
    assert [turn["content"] for turn in plain] == ["", "a", "/no_think", "/no_think"]
    assert messages[1]["content"] == "/think a"  # what was given is not touched


PIECES = st.sampled_from(
    [
        "/think",
        "/no_think",
        "/thinking",
        "a",
        "B c",
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
        "\xa0",
        "x/think",
        "/think.",
        "",
    ]
)
CONTROLLED = st.lists(PIECES, max_size=8).map("".join)


@given(st.booleans(), st.lists(CONTROLLED, min_size=1, max_size=3))
def test_the_template_has_the_same_rule_as_python(tiny_tokenizer: Any, system: bool, said: list[str]) -> None:
    messages = [user(text) for text in said]
    if system:
        messages[0] = {"role": "system", "content": said[0]}
    by_template = tiny_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    plain, thinking = split_control(messages)
    by_python = tiny_tokenizer.apply_chat_template(
        plain, add_generation_prompt=True, tokenize=False, enable_thinking=thinking
    )
    assert by_template == by_python


@given(CONTROLLED)
def test_no_control_is_left_and_nothing_else_is_lost(text: str) -> None:
    plain = split_control([user(text)])[0][0]["content"]
    assert plain.split() == [word for word in text.split() if word not in ("/think", "/no_think")]


# Training sees exactly the tokens that a rollout sees.

WORDS = st.text(st.sampled_from('abc XYZ 019 .,"{}\n'), max_size=20)
THOUGHTS = WORDS.map(lambda text: text.strip("\n"))
VALUES = st.one_of(
    st.integers(-9, 99), st.booleans(), st.none(), WORDS, st.lists(st.integers(0, 9), max_size=2)
)
CALLS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["add", "find_mail"]),
        "arguments": st.dictionaries(st.sampled_from("abc"), VALUES),
    }
)
STEPS = st.lists(st.tuples(THOUGHTS, st.lists(CALLS, min_size=1, max_size=2), WORDS), max_size=2)


@given(WORDS, STEPS, THOUGHTS, WORDS, st.booleans())
def test_rollout_tokens_are_the_training_tokens(
    tiny_tokenizer: Any, question: str, steps: Any, thought: str, answer: str, thinking: bool
) -> None:
    """Prompt + what the policy writes + what the tools say = the conversation as SFT sees it."""
    messages: list[Message] = [user(question)]
    rolled = encode_prompt(tiny_tokenizer, messages, [TOOL], thinking)
    mask = [0] * len(rolled)

    def write(turn: Message) -> None:
        thought = turn.get("thinking", "")
        text = (thought + "\n" if thought else "") + THINK_CLOSE + "\n" if thinking else ""
        text += turn["content"]
        for call in turn.get("tool_calls", []):
            told = {"name": call["name"], "arguments": call["arguments"]}
            text += f"{CALL_OPEN}{json.dumps(told, ensure_ascii=False)}{CALL_CLOSE}"
        ids = tiny_tokenizer.encode(text + TURN_CLOSE, add_special_tokens=False)
        rolled.extend(ids)
        mask.extend([1] * len(ids))
        messages.append(turn)

    for step_thought, calls, said in steps:
        write(assistant("", step_thought, *calls))
        ids = tool_turn_ids(tiny_tokenizer, [said] * len(calls), thinking)
        rolled.extend(ids)
        mask.extend([0] * len(ids))
        messages += [{"role": "tool", "content": said} for _ in calls]
    write(assistant(answer, thought))
    (encoded,) = encode_conversation(tiny_tokenizer, messages, [TOOL], thinking)
    assert encoded.input_ids == rolled
    assert encoded.completion_mask == mask


@given(st.lists(st.tuples(WORDS, THOUGHTS, WORDS), min_size=1, max_size=3))
def test_every_written_turn_carries_loss_in_exactly_one_sequence(tiny_tokenizer: Any, turns: Any) -> None:
    messages: list[Message] = []
    for question, thought, answer in turns:
        messages += [user(question), assistant(answer, thought)]
    found = encode_conversation(tiny_tokenizer, messages, thinking=True)
    assert len(found) == len(turns)
    for encoded, (_, thought, answer) in zip(found, turns, strict=True):
        written = [i for i, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True) if bit]
        text = (thought + "\n" if thought else "") + f"{THINK_CLOSE}\n{answer}{TURN_CLOSE}"
        assert written == tiny_tokenizer.encode(text, add_special_tokens=False)
        first = encoded.completion_mask.index(1)
        assert encoded.completion_mask[first:] == [1] * (len(encoded) - first)


# Parsing.

ANYTHING = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [*TAG_TOKENS, TURN_CLOSE, "\n", '{"name": "a", "arguments": {}}', '{"name": 1}', "[" * 3000]
        ),
    ),
    max_size=8,
).map("".join)


@given(ANYTHING, st.booleans())
def test_parse_never_raises_and_returns_a_turn(text: str, thinking: bool) -> None:
    turn = parse_completion(text, thinking)
    assert turn["role"] == "assistant"
    assert isinstance(turn["content"], str)
    for call in turn.get("tool_calls", []):
        assert isinstance(call["name"], str)
        assert isinstance(call["arguments"], dict)
    if not thinking:
        assert "thinking" not in turn
    json.dumps(turn)


CLEAN = WORDS.filter(lambda text: CALL_OPEN not in text)


@given(THOUGHTS, CLEAN, st.lists(CALLS, max_size=2))
def test_parse_inverts_rendering(tiny_tokenizer: Any, thought: str, answer: str, calls: list[Any]) -> None:
    turn = assistant(answer, thought, *calls)
    for thinking in (True, False):
        (encoded,) = encode_conversation(tiny_tokenizer, [user("x"), turn], [TOOL], thinking)
        written = [i for i, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True) if bit]
        expected = turn if thinking else {key: value for key, value in turn.items() if key != "thinking"}
        assert parse_completion(tiny_tokenizer.decode(written), thinking) == expected


def test_thinking_that_is_not_closed_has_no_answer() -> None:
    assert parse_completion("1+1=2\nThe answer is 2.", True) == {
        "role": "assistant", "content": "", "thinking": "1+1=2\nThe answer is 2.",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"name": "a"}',
        '{"name": 1, "arguments": {}}',
        '{"name": "a", "arguments": []}',
        '{"name": "a", "arguments": {"x": "\\ud800"}}',  # half a surrogate pair: no tokenizer takes it
        "[" * 100_000,
        '{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}",
    ],
)
def test_a_call_that_is_none_is_kept_as_it_was_written(body: str) -> None:
    turn = parse_completion(f"text {CALL_OPEN}{body}{CALL_CLOSE} more", False)
    assert turn == {"role": "assistant", "content": "text  more", "invalid_calls": [body]}


def test_a_call_that_is_not_closed_is_invalid() -> None:
    turn = parse_completion(f'{CALL_OPEN}{{"name": "a", "arguments": {{}}}}', False)
    assert "tool_calls" not in turn
    assert turn["invalid_calls"] == ['{"name": "a", "arguments": {}}']


def test_tools_are_offered_in_the_field_s_shape() -> None:
    assert to_template_tools([]) is None
    assert to_template_tools([TOOL]) == [{"type": "function", "function": TOOL}]
