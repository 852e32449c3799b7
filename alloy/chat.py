"""One conversation format, to tokens and back: roles, thinking on and off, tools, which tokens carry loss.

A conversation is a list of turns (`alloy.environments.task.Message`). Thinking of earlier turns is
dropped, but kept across the tool steps of the current turn, so a conversation with thinking in
several turns becomes one training sequence per user turn.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alloy.environments.task import Message
from alloy.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
TURN_OPEN, TURN_CLOSE = "<|im_start|>", "<|im_end|>"
PAD = "<|pad|>"
SPECIAL_TOKENS = (PAD, TURN_OPEN, TURN_CLOSE)
TAG_TOKENS = (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE)
"""Single tokens, but not special ones: they stay in decoded text, where the parsers need them."""

# `/think` and `/no_think` count as words of their own; `/thinking` and `a/think` are paths.
_CONTROL = re.compile(r"(?<!\S)/(no_)?think(?!\S)")

# The template repeats the rule of `split_control` in Jinja, which has no regular expressions, so
# that a served model obeys it too; a test holds the two against each other.
TEMPLATE = """\
{%- set ns = namespace(thinking=enable_thinking if enable_thinking is defined else true, last=-1, word='') -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
  {%- if message.role in ('system', 'user') and enable_thinking is not defined -%}
    {%- for word in message.content.split() -%}
      {%- if word == '/think' -%}{%- set ns.thinking = true -%}{%- endif -%}
      {%- if word == '/no_think' -%}{%- set ns.thinking = false -%}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- macro plain(text) -%}
  {%- set lines = namespace(out=[]) -%}
  {%- for line in text.split('\\n') -%}
    {%- set kept = namespace(out=[]) -%}
    {%- for word in line.split(' ') -%}
      {%- set parts = word.split() -%}
      {%- if '/think' in parts or '/no_think' in parts -%}
        {%- for part in parts if part not in ('/think', '/no_think') -%}
          {%- set kept.out = kept.out + [part] -%}
        {%- endfor -%}
      {%- else -%}
        {%- set kept.out = kept.out + [word] -%}
      {%- endif -%}
    {%- endfor -%}
    {%- set lines.out = lines.out + [kept.out | join(' ')] -%}
  {%- endfor -%}
  {{- lines.out | join('\\n') -}}
{%- endmacro -%}
{%- macro written(message) -%}
  {{- message.content or '' -}}
  {%- for call in message.tool_calls or [] -%}
    {%- set function = call.function if call.function is defined else call -%}
    {{- '<tool_call>{"name": ' + (function.name | tojson) + ', "arguments": ' -}}
    {{- (function.arguments if function.arguments is string else function.arguments | tojson) -}}
    {{- '}</tool_call>' -}}
  {%- endfor -%}
  {{- '<|im_end|>' -}}
{%- endmacro -%}
{%- set first = messages[0] -%}
{%- if tools or first.role == 'system' -%}
  {{- '<|im_start|>system\\n' -}}
  {%- if first.role == 'system' -%}{{- plain(first.content) -}}{%- endif -%}
  {%- if tools -%}
    {%- if first.role == 'system' -%}{{- '\\n' -}}{%- endif -%}
    {{- 'Tools:' -}}
    {%- for tool in tools -%}
      {{- '\\n' + ((tool.function if tool.function is defined else tool) | tojson) -}}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    {{- '<|im_start|>user\\n' -}}{{- plain(message.content) -}}{{- '<|im_end|>\\n' -}}
  {%- elif message.role == 'tool' -%}
    {{- '<|im_start|>tool\\n' + message.content + '<|im_end|>\\n' -}}
  {%- elif message.role == 'assistant' -%}
    {%- set current = loop.index0 > ns.last -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if ns.thinking and current -%}{{- '<think>\\n' -}}{%- else -%}{{- '<think></think>\\n' -}}{%- endif -%}
    {%- if current or not ns.thinking -%}
      {%- generation -%}
      {%- if ns.thinking -%}
        {%- set thought = message.reasoning_content if message.reasoning_content is defined else '' -%}
        {%- if thought -%}{{- thought + '\\n' -}}{%- endif -%}{{- '</think>\\n' -}}
      {%- endif -%}
      {{- written(message) -}}
      {%- endgeneration -%}
    {%- else -%}
      {{- written(message) -}}
    {%- endif -%}
    {{- '\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if ns.thinking -%}{{- '<think>\\n' -}}{%- else -%}{{- '<think></think>\\n' -}}{%- endif -%}
{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One training sequence: token ids, and 1 where a token carries loss."""

    input_ids: list[int]
    completion_mask: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


def split_control(messages: Sequence[Message]) -> tuple[list[Message], bool]:
    """Take `/think` and `/no_think` out of system and user turns.

    Returns: the turns without them, and whether thinking is on: the last one wins, the default is on.
    """
    thinking = True
    found: list[Message] = []
    for message in messages:
        text = message.get("content") or ""
        controls = _CONTROL.findall(text) if message["role"] in ("system", "user") else []
        if controls:
            thinking = controls[-1] == ""
            message = {**message, "content": _without_control(text)}
        found.append(message)
    return found, thinking


_WORDS = frozenset(("/think", "/no_think"))


def _without_control(text: str) -> str:
    return "\n".join(" ".join(_without_words(line.split(" "))) for line in text.split("\n"))


def _without_words(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        # Between spaces there may be a tab or a carriage return, which set words apart too.
        parts = word.split()
        if _WORDS.isdisjoint(parts):
            yield word
        else:
            yield from (part for part in parts if part not in _WORDS)


def to_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Our turns in the shape that chat templates of the field read."""
    shaped = []
    for message in messages:
        turn: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
        if message.get("thinking"):
            turn["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            turn["tool_calls"] = [{"type": "function", "function": call} for call in message["tool_calls"]]
        shaped.append(turn)
    return shaped


def to_template_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return [{"type": "function", "function": tool} for tool in tools] or None


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    thinking: bool | None = None,
) -> list[int]:
    """Token ids up to where the assistant begins to write.

    Args:
        thinking: on or off; read from `/think` and `/no_think` when None.
    """
    plain, control = split_control(messages)
    ids: list[int] = tokenizer.apply_chat_template(
        to_template(plain),
        tools=to_template_tools(tools),
        add_generation_prompt=True,
        enable_thinking=control if thinking is None else thinking,
        tokenize=True,
        return_dict=False,
    )
    return ids


def encode_conversation(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    thinking: bool | None = None,
) -> list[Encoded]:
    """A conversation as training sequences; loss on what the assistant wrote, its end of turn included.

    With thinking off it is one sequence. With thinking on, an earlier turn looks different once a
    later one begins, so there is one sequence a user turn, with loss on that turn's answer alone.

    Raises:
        InputError: no assistant turn, or a template in which the written tokens cannot be told apart.
    """
    plain, control = split_control(messages)
    thinking = control if thinking is None else thinking
    last = [index for index, message in enumerate(plain) if message["role"] == "assistant"]
    if not last:
        raise InputError("a conversation without an assistant turn has nothing to learn. Remove the row.")
    if not thinking:
        return [_encode(tokenizer, plain[: last[-1] + 1], tools, False)]
    users = [index for index, message in enumerate(plain) if message["role"] == "user"]
    ends = [*users[1:], last[-1] + 1]
    begins = users or [0]
    return [
        _encode(tokenizer, plain[:end], tools, True)
        for begin, end in zip(begins, ends, strict=True)
        if any(begin <= index < end for index in last)
    ]


def _encode(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    thinking: bool,
) -> Encoded:
    rendered = tokenizer.apply_chat_template(
        to_template(messages),
        tools=to_template_tools(tools),
        enable_thinking=thinking,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask = list(rendered["assistant_masks"])
    if not any(mask):
        raise InputError(
            "the chat template marks no assistant token ({% generation %} is missing or empty). "
            "Give the model folder Alloy's template: build it with `package: alloy.base`."
        )
    # The newline after the last end of turn is never generated: it would only pad.
    end = len(mask) - next(i for i, bit in enumerate(reversed(mask)) if bit)
    return Encoded(list(rendered["input_ids"])[:end], mask[:end])


def tool_turn_ids(tokenizer: "PreTrainedTokenizerBase", answers: Sequence[str], thinking: bool) -> list[int]:
    """What stands between an assistant's end of turn and its next writing, after its tools answered.

    Tokens that the policy wrote are kept as they are: only these are appended, so that nothing is
    ever tokenised twice.
    """
    before = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]
    after = [*before, *({"role": "tool", "content": answer} for answer in answers)]
    full: str = tokenizer.apply_chat_template(
        after, add_generation_prompt=True, enable_thinking=thinking, tokenize=False
    )
    # The assistant's turn above is the first to close after its role: everything behind it is new.
    end = full.index(TURN_CLOSE, full.index(f"{TURN_OPEN}assistant")) + len(TURN_CLOSE)
    ids: list[int] = tokenizer.encode(full[end:], add_special_tokens=False)
    return ids


def parse_completion(text: str, thinking: bool) -> Message:
    """What the assistant wrote after the generation prompt, as a turn. Never raises.

    Thinking that was not closed is thinking, with an empty answer. A tool call that is no JSON is
    kept under `invalid_calls` as it was written.
    """
    text = text.removesuffix(TURN_CLOSE)
    thought, answer = "", text
    if thinking:
        thought, closed, answer = text.partition(THINK_CLOSE)
        thought, answer = thought.strip("\n"), answer.removeprefix("\n") if closed else ""
    message: Message = {"role": "assistant", "content": answer}
    if thought:
        message["thinking"] = thought
    if CALL_OPEN in answer:
        content, calls, invalid = _parse_calls(answer)
        message["content"] = content
        if calls:
            message["tool_calls"] = calls
        if invalid:
            message["invalid_calls"] = invalid
    return message


def _parse_calls(answer: str) -> tuple[str, list[dict[str, Any]], list[str]]:
    content, *blocks = answer.split(CALL_OPEN)
    calls, invalid = [], []
    for block in blocks:
        body, closed, rest = block.partition(CALL_CLOSE)
        content += rest
        try:
            call = json.loads(body)
            # Half a surrogate pair is JSON, but no text that could be written or tokenised.
            json.dumps(call, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            call = None
        if (
            closed
            and isinstance(call, dict)
            and isinstance(call.get("name"), str)
            and isinstance(call.get("arguments"), dict)
        ):
            calls.append({"name": call["name"], "arguments": call["arguments"]})
        else:
            invalid.append(body)
    return content, calls, invalid
