"""What every row must satisfy before anything is learned from it."""

import json
from collections.abc import Sequence
from typing import Any

from jsonschema.exceptions import SchemaError, best_match

from alloy.data.config import RepeatConfig
from alloy.data.shapes import Conversation, RowError
from alloy.environments.task import Message
from alloy.verify.schema import validator_of

TAGS = ("<think>", "</think>")


def check(row: Conversation, repeats: RepeatConfig | None, special: Sequence[str] = ()) -> None:
    """Refuse a row that teaches something wrong.

    Args:
        special: texts that the tokenizer turns into special tokens; in a turn they would end it.
    Raises:
        RowError: what is wrong, in words for `rejected.jsonl`.
    """
    _check_order(row.messages)
    _check_plain(_json(row.tools, "the tools"), "the tools", special)
    for number, message in enumerate(row.messages, 1):
        _check_text(message, number, special)
        if message["role"] == "assistant":
            _check_written(message, number, repeats)
    _check_calls(row)


def _check_order(messages: Sequence[Message]) -> None:
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError("has no assistant turn: there is nothing to learn")
    # What may follow what. A conversation may end anywhere: what follows the last answer is not learned.
    follows = {
        "start": ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("tool", "assistant"),
    }
    before, calls = "start", 0
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in follows[before]:
            raise RowError(f"turn {number} is the {role}'s after {_owner(before)}: roles must alternate")
        if role == "tool":
            calls -= 1
            if calls < 0:
                raise RowError(f"turn {number} is a tool's answer that no call asked for")
        elif role == "assistant":
            if before == "tool" and calls:
                raise RowError(f"turn {number} goes on before {calls} of the calls were answered")
            calls = len(message.get("tool_calls") or [])
        elif role == "user" and before == "assistant" and calls:
            raise RowError(f"turn {number - 1} calls tools, and no tool answers")
        before = role


def _owner(role: str) -> str:
    return "nothing" if role == "start" else f"the {role}'s"


def _check_text(message: Message, number: int, special: Sequence[str]) -> None:
    parts = [message.get("content") or "", message.get("thinking") or ""]
    if message.get("tool_calls"):
        parts.append(_json(message["tool_calls"], f"turn {number}"))
    for text in parts:
        _check_plain(text, f"turn {number}", special)
    if message["role"] in ("user", "system") and not parts[0].strip():
        raise RowError(f"turn {number} is empty")


def _check_plain(text: str, where: str, special: Sequence[str]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{where}: no valid UTF-8, half a surrogate pair at {error.start}") from None
    if "\x00" in text:
        raise RowError(f"{where}: a NUL character")
    for token in special:
        if token in text:
            raise RowError(f"{where}: the special token {token} in its text")


def _json(value: Any, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"{where}: not JSON ({error})") from None


def _check_written(message: Message, number: int, repeats: RepeatConfig | None) -> None:
    content, thought = message.get("content") or "", message.get("thinking") or ""
    if not content.strip() and not message.get("tool_calls"):
        raise RowError(f"turn {number} has no answer" + (" after its thinking" if thought else ""))
    for text, what in ((content, "answer"), (thought, "thinking")):
        found = [tag for tag in TAGS if tag in text]
        if found:
            raise RowError(
                f"turn {number} has {' and '.join(found)} in its {what}: thinking tags are not balanced"
            )
        if repeats is not None:
            again = repeated_run(text, repeats.words, repeats.times)
            if again:
                raise RowError(
                    f"turn {number} says {again[:60]!r} {repeats.times} times in a row in its {what}"
                )


def repeated_run(text: str, most_words: int, times: int) -> str | None:
    """A phrase of up to `most_words` words that is said at least `times` times in a row, or None."""
    words = text.split()
    total = len(words)
    for period in range(1, min(most_words, total // times) + 1):
        needed, run = period * (times - 1), 0
        for index in range(period, total):
            run = run + 1 if words[index] == words[index - period] else 0
            if run >= needed:
                return " ".join(words[index - period + 1 : index + 1])
    return None


def _check_calls(row: Conversation) -> None:
    offered = {tool["name"]: tool.get("parameters") for tool in row.tools}
    for number, message in enumerate(row.messages, 1):
        for call in message.get("tool_calls") or []:
            if call["name"] not in offered:
                raise RowError(f"turn {number} calls {call['name']!r}, which is not offered")
            schema = offered[call["name"]]
            if not schema:
                continue
            try:
                validator = validator_of(json.dumps(schema, sort_keys=True))
                wrong = best_match(validator.iter_errors(call["arguments"]))
            except SchemaError as error:
                raise RowError(
                    f"the parameters of {call['name']!r} are no JSON schema: {error.message}"
                ) from None
            except Exception as error:  # a schema may refer to anything
                raise RowError(f"the parameters of {call['name']!r} cannot be checked: {error}") from None
            if wrong is not None:
                raise RowError(
                    f"turn {number} calls {call['name']!r} with arguments against its schema: {wrong.message}"
                )
