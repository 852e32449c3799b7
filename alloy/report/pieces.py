"""A prompt or a completion cut into its pieces: thinking, answers, tool calls, what the tools returned.

Completions are untrusted text, and every piece stays text.
"""

import json
import re
from typing import Any

from alloy.chat import THINK_CLOSE, THINK_OPEN, TURN_CLOSE, TURN_OPEN
from alloy.report.lenient import items, mapping, text
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN

Pieces = list[tuple[str, str]]
"""(kind, text)."""

_A_TEXT = 6000
_TURN = re.compile(rf"(?:{re.escape(TURN_CLOSE)}\s*)?{re.escape(TURN_OPEN)}(\w+)\n")
_CALL = re.compile(rf"{re.escape(CALL_OPEN)}(.*?)(?:{re.escape(CALL_CLOSE)}|\Z)", re.DOTALL)


def cut(value: Any, kind: str) -> Pieces:
    """Text, or turns of a conversation, in pieces; what is too long loses its middle.

    Args:
        kind: of text that says nothing of itself: `prompt` or `answer`.
    """
    return [(name, _shortened(piece)) for name, piece in _pieces(value, kind)]


def split_thinking(completion: str) -> Pieces:
    """Thinking and answer in turn.

    A completion may begin inside a thinking that its prompt opened, and may end before it closes.
    """
    pieces: Pieces = []
    head, close, tail = completion.partition(THINK_CLOSE)
    if close and THINK_OPEN not in head:
        pieces.append(("thinking", head))
        completion = tail
    while completion:
        answer, opened, rest = completion.partition(THINK_OPEN)
        pieces.append(("answer", answer))
        thinking, closed, completion = rest.partition(THINK_CLOSE)
        if opened:
            pieces.append(("thinking" if closed else "thinking, never closed", thinking))
    return [(kind, part.strip("\n")) for kind, part in pieces if part.strip()]


def split_turns(completion: str) -> Pieces:
    """A completion as it was sampled: the model's turns, and the tools' answers between them."""
    first, *rest = _TURN.split(completion)
    pieces = _written(first)
    for role, said in zip(rest[::2], rest[1::2], strict=True):
        pieces += (
            _written(said) if role == "assistant" else [(role, said.removesuffix(TURN_CLOSE).strip("\n"))]
        )
    return [(kind, piece) for kind, piece in pieces if piece.strip()]


def _written(turn: str) -> Pieces:
    """What the model wrote in one turn; calls stand apart from the answer."""
    found: Pieces = []
    for kind, piece in split_thinking(turn.strip("\n").removesuffix(TURN_CLOSE)):
        if kind != "answer":
            found.append((kind, piece))
            continue
        for index, part in enumerate(_CALL.split(piece)):
            found.append(("tool call" if index % 2 else "answer", part.strip("\n")))
    return found


def _pieces(value: Any, kind: str) -> Pieces:
    """Text, or turns of a conversation, as (kind, text) pieces."""
    if isinstance(value, str):
        return split_turns(value) if kind == "answer" else [(kind, value)]
    if not isinstance(value, list):
        return [] if value is None else [(kind, json.dumps(value, ensure_ascii=False))]
    pieces: Pieces = []
    for turn in map(mapping, value):
        role = text(turn.get("role")) or kind
        if text(turn.get("thinking")):
            pieces.append(("thinking", text(turn.get("thinking"))))
        content = turn.get("content")
        if content:
            written = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            pieces += _written(written) if role == "assistant" else [(role, written)]
        for call in items(turn.get("tool_calls")):
            pieces.append(("tool call", json.dumps(call, ensure_ascii=False)))
    return pieces


def _shortened(piece: str) -> str:
    if len(piece) <= _A_TEXT:
        return piece
    half = _A_TEXT // 2
    return f"{piece[:half]}\n\n[… {len(piece) - 2 * half:,} characters left out …]\n\n{piece[-half:]}"
