"""Written spans under the public templates' formats, against what stands there by hand."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alloy.chat import TEMPLATE
from alloy.environments.task import Message
from alloy.errors import InputError
from alloy.template import Encoded, chat_template, encode_conversation, encode_prompt, tool_turn_ids

FOLDER = Path(__file__).parent / "templates"
SPECIAL = {
    "chatml": ["<|im_start|>", "<|im_end|>"],
    "llama3": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "qwen3": ["<|im_start|>", "<|im_end|>"],
    "nemotron3": ["<|im_start|>", "<|im_end|>"],
    "mistral": ["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"],
}
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
SHOWN = '{"type": "function", "function": ' + str(TOOL).replace("'", '"') + "}"
CALL = {"name": "add", "arguments": {"a": 1}}


def bytes_tokenizer(name: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a byte: whatever is written can be told apart exactly."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return _with_template(backend, name, template)


def spaced_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """As SentencePiece ones do, it puts a space before a text: pieces must not be tokenised apart."""
    letters = {chr(code): number for number, code in enumerate(range(33, 127))}
    letters |= {"▁": len(letters), "\n": len(letters) + 1}
    backend = Tokenizer(models.BPE(letters, []))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return _with_template(backend, name, None)


def _with_template(backend: Tokenizer, name: str, template: str | None) -> PreTrainedTokenizerFast:
    special = SPECIAL[name]
    end = next(token for token in special if token in ("<|im_end|>", "<|eot_id|>", "</s>"))
    begin = special[0] if special[0] in ("<|begin_of_text|>", "<s>") else None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, bos_token=begin, additional_special_tokens=special
    )
    tokenizer.chat_template = template or (FOLDER / f"{name}.jinja").read_text()
    return tokenizer


def shown(tokenizer: Any, encoded: Encoded) -> str:
    """The sequence as text, what carries loss in double brackets."""
    parts, on = [], False
    ids: list[int] = []
    for token, bit in [*zip(encoded.input_ids, encoded.completion_mask, strict=True), (None, 2)]:
        if bit != on:
            parts.append(tokenizer.decode(ids) if not on else f"⟦{tokenizer.decode(ids)}⟧")
            ids, on = [], bool(bit) if bit != 2 else on
        if token is not None:
            ids.append(token)
    return "".join(parts)


def sequences(name: str, messages: list[Message], tools: Any = (), **given: Any) -> list[str]:
    tokenizer = bytes_tokenizer(name)
    return [shown(tokenizer, e) for e in encode_conversation(tokenizer, messages, tools, **given)]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, thinking: str = "", *calls: Any) -> Message:
    turn: Message = {"role": "assistant", "content": text}
    return (
        turn | ({"thinking": thinking} if thinking else {}) | ({"tool_calls": list(calls)} if calls else {})
    )


TWO_TURNS = [user("a?"), assistant("b", "t1"), user("c?"), assistant("d", "t2")]
TOOL_TURN: list[Message] = [
    {"role": "system", "content": "S"},
    user("1+1?"),
    assistant("", "t1", CALL),
    {"role": "tool", "content": "2"},
    assistant("It is 2.", "t2"),
]


def test_chatml_keeps_history_so_that_two_turns_are_one_sequence() -> None:
    assert sequences("chatml", TWO_TURNS) == [
        "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n⟦<think>\nt1\n</think>\n\nb<|im_end|>⟧"
        "\n<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n⟦<think>\nt2\n</think>\n\nd<|im_end|>⟧"
    ]


def test_llama3_keeps_history_and_cuts_no_answer() -> None:
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    plain = [turn | {"thinking": ""} for turn in TWO_TURNS]
    assert sequences("llama3", plain) == [
        f"<|begin_of_text|>{head.format('user')}a?<|eot_id|>{head.format('assistant')}⟦b<|eot_id|>⟧"
        f"{head.format('user')}c?<|eot_id|>{head.format('assistant')}⟦d<|eot_id|>⟧"
    ]
    tools = [turn | {"thinking": ""} for turn in TOOL_TURN]
    (found,) = sequences("llama3", tools, [TOOL])
    assert found.endswith(
        f'1+1?<|eot_id|>{head.format("assistant")}⟦{{"name": "add", "parameters": {{"a": 1}}}}<|eot_id|>⟧'
        f'{head.format("ipython")}"2"<|eot_id|>{head.format("assistant")}⟦It is 2.<|eot_id|>⟧'
    )


def test_qwen3_drops_earlier_thinking_so_that_a_user_turn_is_a_sequence() -> None:
    ask, answer = "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\n"
    assert sequences("qwen3", TWO_TURNS) == [
        f"{ask.format('a?')}{answer}⟦<think>\nt1\n</think>\n\nb<|im_end|>⟧",
        f"{ask.format('a?')}{answer}b<|im_end|>\n{ask.format('c?')}{answer}⟦<think>\nt2\n</think>\n\nd<|im_end|>⟧",
    ]
    # With thinking off the prompt ends in an empty pair. A history without it is another text: two sequences.
    assert sequences("qwen3", TWO_TURNS, thinking=False)[1] == (
        f"{ask.format('a?')}{answer}b<|im_end|>\n{ask.format('c?')}{answer}<think>\n\n</think>\n\n⟦d<|im_end|>⟧"
    )


def test_qwen3_keeps_thinking_across_the_tool_steps_of_a_turn() -> None:
    (found,) = sequences("qwen3", TOOL_TURN, [TOOL])
    assert found == (
        f"<|im_start|>system\nS\n\n<tools>\n{SHOWN}\n</tools><|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
        '<|im_start|>assistant\n⟦<think>\nt1\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n'
        "</tool_call><|im_end|>⟧\n<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nt2\n</think>\n\nIt is 2.<|im_end|>⟧"
    )


def test_nemotron3_opens_thinking_in_the_prompt_and_answers_tools_in_a_user_turn() -> None:
    (found,) = sequences("nemotron3", TOOL_TURN, [TOOL])
    assert found.endswith(
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n⟦t1\n</think>\n\n<tool_call>\n"
        "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>\n<|im_end|>⟧\n"
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n⟦t2\n</think>\nIt is 2.<|im_end|>⟧"
    )
    off = sequences("nemotron3", TWO_TURNS, thinking=False)
    # Off, history looks the same in both turns.
    assert len(off) == 1
    assert off[0].count("<|im_start|>assistant\n<think></think>⟦") == 2


def test_mistral_moves_the_tools_to_the_last_user_turn() -> None:
    plain: list[Message] = [turn | {"thinking": ""} for turn in [*TOOL_TURN, user("c?"), assistant("d")]]
    tools = f"[AVAILABLE_TOOLS] [{SHOWN}][/AVAILABLE_TOOLS]"
    call = '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "call00200"}]</s>'
    result = '[TOOL_RESULTS] {"content": 2, "call_id": "call00200"}[/TOOL_RESULTS]'
    assert sequences("mistral", plain, [TOOL]) == [
        f"<s>{tools}[INST] S\n\n1+1?[/INST]⟦{call}⟧{result}⟦ It is 2.</s>⟧",
        f"<s>[INST] 1+1?[/INST]{call}{result} It is 2.</s>{tools}[INST] S\n\nc?[/INST]⟦ d</s>⟧",
    ]


def test_a_tokenizer_that_puts_a_space_before_a_text_is_given_the_whole_text() -> None:
    tokenizer = spaced_tokenizer("mistral")
    (encoded,) = encode_conversation(tokenizer, [user("a?"), assistant("b")])
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids) == [
        *("<s>", "[INST]", "▁", "a", "?", "[/INST]", "▁", "b", "</s>"),
    ]
    assert encoded.completion_mask == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    whole = tokenizer.apply_chat_template([user("a?"), assistant("b")], tokenize=True, return_dict=False)
    assert encoded.input_ids == whole


def test_a_token_over_the_border_of_prompt_and_answer_is_refused() -> None:
    tokenizer = spaced_tokenizer("mistral")
    tokenizer.add_tokens(["]x"])
    tokenizer.chat_template = "{%- for m in messages -%}{{- '[' + m.role + ']' + m.content -}}{%- if m.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- '[assistant]' -}}{%- endif -%}"
    with pytest.raises(InputError, match=r"the token '\]x' is written by two sides"):
        encode_conversation(tokenizer, [user("a"), assistant("x")])


# What cannot be proven.

BARE = "{%- for m in messages -%}{{- m.role + ': ' + m.content + '<|im_end|>\\n' -}}{%- endfor -%}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            BARE + "{%- if add_generation_prompt -%}{{- 'Answer: ' -}}{%- endif -%}",
            "does not begin with the prompt",
        ),
        (BARE.replace("m.content", "m.content | upper"), "does not show turn 1 (the user's) to the model"),
        (BARE.replace("<|im_end|>", ""), "and no special token: the model would never learn to stop"),
        ("{{- raise_exception('no') -}}", "refuses the conversation: no"),
        (
            BARE + "{%- if messages | length > 1 -%}{{- 1 / 0 -}}{%- endif -%}",
            "refuses the conversation: division",
        ),
    ],
)
def test_what_cannot_be_proven_names_the_template(template: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        encode_conversation(bytes_tokenizer("chatml", template), [user("a"), assistant("b")])
    assert str(caught.value).startswith("the chat template of ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "messages", "tools", "said"),
    [
        (
            "chatml",
            [user("a"), assistant("", "", CALL)],
            [],
            "leaves out or changes the call 1 in turn 2",
        ),
        ("chatml", [user("a"), assistant("b")], [TOOL], "does not show the tools to the model"),
        (
            "llama3",
            [user("a"), assistant("", "", CALL, CALL)],
            [TOOL],
            "leaves out or changes the call 2 in turn 2",
        ),
        ("llama3", [user("a"), assistant("", "why", CALL)], [TOOL], "the thinking in turn 2"),
    ],
)
def test_nothing_is_left_out_without_a_word(name: str, messages: Any, tools: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        encode_conversation(bytes_tokenizer(name), messages, tools)
    assert said in str(caught.value)


def test_a_tokenizer_without_a_template() -> None:
    tokenizer = bytes_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="has no chat template. Put one chat_template.jinja into its folder"):
        encode_prompt(tokenizer, [user("a")])


# Marked templates say themselves what is written; they are held to it.

HEAD = "{{- '<|im_start|>' + m.role + '\\n' -}}"
FOOT = "{{- '<|im_end|>\\n' -}}"
ASK = "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
PLAIN = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n⟦a<|im_end|>⟧"


def marked(assistant_turn: str, before: str = "") -> str:
    return (
        before + "{%- for m in messages -%}{%- if m.role == 'assistant' -%}" + assistant_turn
        + "{%- else -%}" + HEAD + "{{- m.content -}}" + FOOT + "{%- endif -%}{%- endfor -%}" + ASK
    )  # fmt: skip


@pytest.mark.parametrize(
    "assistant_turn",
    [
        HEAD + "{% generation %}{{- m.content + '<|im_end|>' -}}{% endgeneration %}{{- '\\n' -}}",
        # The header is never written, though it is marked.
        "{% generation %}" + HEAD + "{{- m.content -}}" + FOOT + "{% endgeneration %}",
        # The end of the turn is written, though it is not marked.
        HEAD + "{% generation %}{{- m.content -}}{% endgeneration %}" + FOOT,
    ],
)
def test_marks_are_taken_for_what_is_written_at_inference(assistant_turn: str) -> None:
    tokenizer = bytes_tokenizer("chatml", marked(assistant_turn))
    (encoded,) = encode_conversation(tokenizer, [user("q"), assistant("a")])
    assert shown(tokenizer, encoded) == PLAIN


def test_marks_inside_a_macro_are_off_and_the_rendering_is_used() -> None:
    macro = "{%- macro say(m) -%}{% generation %}{{- m.content + '<|im_end|>' -}}{% endgeneration %}{%- endmacro -%}"
    tokenizer = bytes_tokenizer("chatml", marked(HEAD + "{{- say(m) -}}{{- '\\n' -}}", macro))
    (encoded,) = encode_conversation(tokenizer, [user("q"), assistant("a")])
    assert shown(tokenizer, encoded) == PLAIN


def test_a_marked_template_that_marks_every_turn() -> None:
    turn = HEAD + "{% generation %}{{- m.content + '<|im_end|>' -}}{% endgeneration %}{{- '\\n' -}}"
    tokenizer = bytes_tokenizer("chatml", marked(turn))
    plain = [turn | {"thinking": ""} for turn in TWO_TURNS]
    assert [shown(tokenizer, e) for e in encode_conversation(tokenizer, plain)] == [
        "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n"
        "<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>⟧"
    ]


CALLS = "{%- for c in m.tool_calls or [] -%}{{- SHOWN -}}{%- endfor -%}"
TOOLS = "{%- for t in tools or [] -%}{{- t.function.name + ' ' -}}{%- endfor -%}"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{{- m.content -}}", "leaves out or changes the call 1 in turn 2"),
        (
            "{{- m.content -}}" + CALLS.replace("SHOWN", "c.function.name"),
            "changes the argument of call 1 in turn 2",
        ),
        ("{{- m.content -}}" + CALLS.replace("SHOWN", "c.function | string"), "as Python, not as JSON"),
        (
            "{{- m.content -}}{%- set c = (m.tool_calls or [none])[0] -%}{%- if c -%}{{- c.function | tojson -}}{%- endif -%}",
            "leaves out or changes the call 2 in turn 2",
        ),
    ],
)
def test_calls_are_proven_to_the_argument(written: str, said: str) -> None:
    """Names that stand in the prose, or in another name, prove nothing."""
    template = marked(HEAD + "{% generation %}" + written + "{{- '<|im_end|>' -}}{% endgeneration %}", TOOLS)
    calls = [{"name": "get_weather", "arguments": {"a": "get"}}, {"name": "get", "arguments": {"a": "x"}}]
    tools = [{**TOOL, "name": call["name"]} for call in calls]
    with pytest.raises(InputError) as caught:
        encode_conversation(
            bytes_tokenizer("chatml", template),
            [user("q"), assistant("I call get_weather and get with x", "", *calls)],
            tools,
        )
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "read", ["m['reasoning_content']", "m.get('reasoning_content')", "m.reasoning_content"]
)
def test_thinking_is_found_however_it_is_read(read: str) -> None:
    turn = (
        HEAD
        + "{%- if "
        + read
        + " -%}{{- '<think>' + "
        + read
        + " + '</think>' -}}{%- endif -%}{{- m.content -}}"
    )
    tokenizer = bytes_tokenizer("chatml", marked(turn + FOOT))
    (encoded,) = encode_conversation(tokenizer, [user("q"), assistant("a", "t")])
    assert shown(tokenizer, encoded).endswith("assistant\n⟦<think>t</think>a<|im_end|>⟧")


def test_a_step_that_looks_different_once_its_tool_has_answered_is_a_sequence_of_its_own() -> None:
    """Qwen3's rule: an empty pair stands in the last step alone."""
    plain = [turn | {"thinking": ""} for turn in TOOL_TURN]
    first, second = sequences("qwen3", plain, [TOOL], thinking=False)
    step = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    assert first.endswith(f"1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n⟦{step}⟧")
    assert f"<|im_start|>assistant\n{step}\n<|im_start|>user\n<tool_response>" in second
    assert second.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n⟦It is 2.<|im_end|>⟧")
    tokenizer = bytes_tokenizer("qwen3")
    between = tokenizer.decode(tool_turn_ids(tokenizer, ["2"], False))
    assert between == (
        "\n<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_a_budget_is_told_to_the_turn_that_has_it() -> None:
    template = TEMPLATE.replace(
        "{%- set first = messages[0] -%}",
        "{%- set first = messages[0] -%}{{- reasoning_budget | default('none') -}}",
    )
    tokenizer = bytes_tokenizer("chatml", template)
    messages = chat_template(tokenizer).sequences(TWO_TURNS, budget=3)
    assert ["".join(piece.text for piece in pieces)[:6] for pieces in messages] == ["none<|", "3<|im_"]


def test_a_normalizer_that_prepends_a_space_forbids_tokenising_apart() -> None:
    letters = {chr(code): number for number, code in enumerate(range(33, 127))}
    letters |= {"▁": len(letters), "\n": len(letters) + 1}
    backend = Tokenizer(models.BPE(letters, []))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = _with_template(backend, "mistral", None)
    assert not chat_template(tokenizer).splits
    assert chat_template(bytes_tokenizer("mistral")).splits


# Controls, turn by turn.


def test_thinking_is_on_where_a_turn_has_it_unless_its_prompt_says_otherwise() -> None:
    mixed = [user("a?"), assistant("b"), user("c?"), assistant("d", "t2")]
    tokenizer = bytes_tokenizer("chatml", TEMPLATE)
    (found,) = (shown(tokenizer, e) for e in encode_conversation(tokenizer, mixed))
    assert found == (
        "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n<think></think>\n⟦b<|im_end|>⟧\n"
        "<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n<think>\n⟦t2\n</think>\nd<|im_end|>⟧"
    )
    controlled = [user("a? /think"), assistant("b"), user("c? /no_think"), assistant("d", "t2")]
    first, second = (shown(tokenizer, e) for e in encode_conversation(tokenizer, controlled))
    assert first.endswith("<think>\n⟦</think>\nb<|im_end|>⟧")
    assert second.endswith("<think></think>\n⟦d<|im_end|>⟧")


def test_a_template_that_reads_the_control_itself_is_told() -> None:
    template = (
        "{%- set ns = namespace(on=true) -%}{%- for m in messages -%}"
        "{%- if '/no_think' in m.content -%}{%- set ns.on = false -%}{%- endif -%}"
        "{{- m.role + ':' + m.content.replace(' /no_think', '') + '<|im_end|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- 'assistant:' + ('<think>' if ns.on else '<think></think>') -}}{%- endif -%}"
    )
    tokenizer = bytes_tokenizer("chatml", template)
    prompts = [tokenizer.decode(encode_prompt(tokenizer, [user("a")], thinking=on)) for on in (True, False)]
    assert prompts == ["user:a<|im_end|>assistant:<think>", "user:a<|im_end|>assistant:<think></think>"]


# Training sees what a rollout sees.

WORDS = st.text(st.sampled_from("ab Z0.\n"), max_size=8)


@pytest.mark.parametrize("name", ["qwen3", "nemotron3"])
@given(question=WORDS, steps=st.lists(WORDS, max_size=2), answer=WORDS)
def test_prompt_writing_and_tool_turns_joined_are_the_training_sequence(
    name: str, question: str, steps: list[str], answer: str
) -> None:
    tokenizer = bytes_tokenizer(name)
    messages: list[Message] = [user(question)]
    for said in steps:
        messages += [assistant("", "why", CALL), {"role": "tool", "content": said}]
    messages.append(assistant(answer.strip(), "so"))
    (encoded,) = encode_conversation(tokenizer, messages, [TOOL])
    runs = _runs(encoded)
    assert runs[0] == encode_prompt(tokenizer, messages[:1], [TOOL], True)
    assert runs[2::2] == [tool_turn_ids(tokenizer, [said], True) for said in steps]
    assert all(run[-1] == tokenizer.eos_token_id for run in runs[1::2])


def _runs(encoded: Encoded) -> list[list[int]]:
    """Prompt, writing, tool turn, writing, ..."""
    runs: list[list[int]] = [[]]
    for index, token in enumerate(encoded.input_ids):
        if index and encoded.completion_mask[index] != encoded.completion_mask[index - 1]:
            runs.append([])
        runs[-1].append(token)
    return runs
