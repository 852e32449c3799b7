"""What a model writes, split while it comes: thinking, answer, tool calls.

What may be the beginning of a tag is held back until it is one or is none, so that no piece of a tag is
ever shown. All together the parts are those of `alloy.chat.parse_completion`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN, Notation, parse_calls

_MARKERS: dict[Notation, str] = {
    "hermes": CALL_OPEN,
    "nemotron-3": CALL_OPEN,
    "mistral": "[TOOL_CALLS]",
    "fenced": "```",
}
"""What a call begins with; in `llama-3` it is a whole answer."""
_LLAMA_OPENINGS = ("<|python_tag|>", "{", "[")


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of a piece of text."""

    thinking: str = ""
    answer: str = ""


class ThinkingSplit:
    """Thinking apart from the answer.

    Args:
        opened: whether the text begins inside an opened thinking tag; None: it may begin with one.

    Attributes:
        answering: the answer has begun.
        thought: there is thinking before the answer.
    """

    def __init__(self, opened: bool | None) -> None:
        self.thought = opened is True
        self._stage: Literal["begin", "thinking", "gap", "answer"] = "begin"
        if opened is not None:
            self._stage = "thinking" if opened else "answer"
        self._held = ""
        self._told = False
        """Whether any thinking has been handed out."""

    @property
    def answering(self) -> bool:
        return self._stage == "answer"

    def feed(self, text: str) -> Parts:
        """Take the next piece of text; what of all that is held may be shown."""
        self._held += text
        if self._stage == "begin":
            self._begin()
        thinking = self._think() if self._stage == "thinking" else ""
        if self._stage == "gap" and self._held:
            # The newline behind the closing tag is of neither.
            self._held, self._stage = self._held.removeprefix("\n"), "answer"
        if self._stage != "answer":
            return Parts(thinking)
        answer, self._held = self._held, ""
        return Parts(thinking, answer)

    def finish(self) -> Parts:
        """What was still held when the text ended."""
        held, self._held = self._held, ""
        if self._stage != "thinking":
            return Parts("", held)
        return Parts(held.rstrip("\n") if self._told else held.strip("\n"))

    def _begin(self) -> None:
        text = self._held.lstrip()
        if text.startswith(THINK_OPEN):
            self.thought, self._stage, self._held = True, "thinking", text[len(THINK_OPEN) :]
        elif not THINK_OPEN.startswith(text):
            self._stage = "answer"

    def _think(self) -> str:
        thought, closed, rest = self._held.partition(THINK_CLOSE)
        if not self._told:
            thought = thought.lstrip("\n")
        safe = (thought if closed else thought[: _safe_length(thought, THINK_CLOSE)]).rstrip("\n")
        if closed:
            self._stage, self._held = "gap", rest
        else:
            self._held = thought[len(safe) :]
        self._told = self._told or bool(safe)
        return safe


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of a piece of an answer.

    Attributes:
        calls: [{"name": str, "arguments": dict}], whole ones.
    """

    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)


class CallSplit:
    """Tool calls apart from what is said beside them; a call is told once it is whole.

    A call that cannot be read is text: whoever asked sees it as it was written.

    Args:
        tools: schemas on offer, {"name", "description", "parameters"}.
    """

    def __init__(self, notation: Notation, tools: Sequence[dict[str, Any]] = ()) -> None:
        self.notation: Notation = notation
        self.tools = tools
        self._text = ""
        self._sent = 0
        """Characters of content that have been handed out."""
        self._calls = 0
        self._closed = 0
        """Whole calls, read or not."""

    def feed(self, text: str) -> Said:
        """Take the next piece of the answer."""
        self._text += text
        end = self._content_end()
        content = self._text[self._sent : end]
        self._sent = max(self._sent, end)
        calls: list[dict[str, Any]] = []
        closed = self._text.count(CALL_CLOSE) if _MARKERS.get(self.notation) == CALL_OPEN else 0
        if closed > self._closed:
            self._closed = closed
            whole = self._text[: self._text.rindex(CALL_CLOSE) + len(CALL_CLOSE)]
            calls = self._new(parse_calls(whole, self.notation, self.tools).calls)
        return Said(content, calls)

    def finish(self) -> Said:
        """What was still held when the answer ended."""
        written = parse_calls(self._text, self.notation, self.tools)
        if not written.calls and not self._calls:
            content = self._text
        else:
            content = "\n".join([written.content, *written.invalid]) if written.invalid else written.content
        left = content[self._sent :]
        self._sent = len(content)
        return Said(
            left if left.strip() or not self._calls + len(written.calls) else "", self._new(written.calls)
        )

    def _new(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found, self._calls = calls[self._calls :], max(self._calls, len(calls))
        return found

    def _content_end(self) -> int:
        """How far the text is content for certain; newlines before a call belong to the call."""
        text = self._text
        if self.notation == "llama-3":
            begun = text.lstrip()
            may_be = any(begun.startswith(one) or one.startswith(begun) for one in _LLAMA_OPENINGS)
            return 0 if may_be else len(text)
        marker = _MARKERS[self.notation]
        place = text.find(marker)
        end = place if place >= 0 else _safe_length(text, marker)
        return len(text[:end].rstrip("\n"))


def _safe_length(text: str, tag: str) -> int:
    """Characters of a text that cannot be the beginning of a tag at its end."""
    longest = min(len(tag) - 1, len(text))
    return len(text) - next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
