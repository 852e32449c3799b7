"""Alloy's conversation format: roles, thinking on and off, tools; and what was written, read back.

A conversation is a list of turns (`alloy.environments.task.Message`). Thinking of earlier turns is
dropped, but kept across the tool steps of the current turn. What becomes of a conversation in this
and any other template is in `alloy.template`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from alloy.environments.task import Message
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN, Notation, parse_calls

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
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
  {%- if message.role in ('system', 'user') and enable_thinking is not defined and 'think' in message.content -%}
    {%- for word in message.content.split() -%}
      {%- if word == '/think' -%}{%- set ns.thinking = true -%}{%- endif -%}
      {%- if word == '/no_think' -%}{%- set ns.thinking = false -%}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- macro plain(text) -%}
  {%- if '/think' not in text and '/no_think' not in text -%}{{- text -}}{%- else -%}
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
  {%- endif -%}
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


def parse_completion(
    text: str, thinking: bool, notation: Notation = "hermes", tools: Sequence[dict[str, Any]] = ()
) -> Message:
    """What the assistant wrote after the generation prompt, as a turn. Never raises.

    Thinking that was not closed is thinking, with an empty answer. A tool call that cannot be read is
    kept under `invalid_calls` as it was written.

    Args:
        notation: of its tool calls.
        tools: on offer; their schemas tell the types of values that a notation writes without.
    """
    text = text.removesuffix(TURN_CLOSE)
    thought, answer = "", text
    if thinking:
        thought, closed, answer = text.partition(THINK_CLOSE)
        thought, answer = thought.strip("\n"), answer.removeprefix("\n") if closed else ""
    written = parse_calls(answer, notation, tools)
    message: Message = {"role": "assistant", "content": written.content}
    if thought:
        message["thinking"] = thought
    if written.calls:
        message["tool_calls"] = written.calls
    if written.invalid:
        message["invalid_calls"] = written.invalid
    return message
