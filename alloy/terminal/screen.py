"""What a person sees: in a terminal thinking is dim; through a pipe the answers alone are on standard output."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

from rich.console import Console

from alloy.serve.asking import Reply
from alloy.serve.splitting import Parts


class Screen:
    """Where a chat is shown. What is no answer goes to standard error where nobody watches."""

    def __init__(self) -> None:
        self.watched = sys.stdin.isatty() and sys.stdout.isatty()
        self._answers = Console(highlight=False, soft_wrap=True)
        self._beside = (
            self._answers if self.watched else Console(stderr=True, highlight=False, soft_wrap=True)
        )
        self._last = ""

    def lines(self) -> Iterator[str]:
        """What the user says, line by line."""
        if not self.watched:
            yield from (line.rstrip("\n") for line in sys.stdin)
            return
        with suppress(ImportError):
            import_module("readline")  # `input` can be edited and keeps a history once it is loaded
        while True:
            try:
                yield input("> ")
            except (EOFError, KeyboardInterrupt):
                print()
                return

    def show(self, parts: Parts) -> None:
        if parts.thinking:
            self._write(self._beside, parts.thinking, "thinking")
        if parts.answer:
            self._write(self._answers, parts.answer, "answer")

    def tell(self, text: str) -> None:
        """A line that neither side of the conversation has said."""
        self._break(self._beside)
        self._beside.print(text, style="cyan", markup=False)

    def complain(self, text: str) -> None:
        self._break(self._beside)
        self._beside.print(text, style="red", markup=False)

    @contextmanager
    def turn(self) -> Iterator[Callable[[Sequence[Reply]], None]]:
        """Around what follows a line of the user's: what is yielded tells what it took."""
        began = time.monotonic()
        yield lambda replies: self._took(replies, time.monotonic() - began)
        self._break(self._answers)

    def _took(self, replies: Sequence[Reply], seconds: float) -> None:
        tokens = sum(reply.tokens for reply in replies)
        thinking = sum(reply.thinking_tokens for reply in replies)
        cut = "" if replies[-1].finished else ", cut off at the limit"
        self._break(self._answers)
        self._beside.print(
            f"{tokens} tokens, {thinking} of thinking, {seconds:.1f} s{cut}", style="dim", markup=False
        )

    def _write(self, console: Console, text: str, kind: str) -> None:
        if self._last not in ("", kind):
            self._break(console)
        self._last = kind
        console.print(text, end="", style="dim" if kind == "thinking" else None, markup=False)
        console.file.flush()

    def _break(self, console: Console) -> None:
        """Begin a new line where one is open."""
        if self._last:
            (self._beside if self._last == "thinking" else self._answers).print()
        self._last = ""
