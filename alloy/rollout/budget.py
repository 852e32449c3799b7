"""The thinking budget: one small state machine that every engine runs.

Tokens are counted after the thinking tag has opened. At the budget the thinking closes at the next
newline; at budget + grace it closes by force. Nothing after the close is touched.

Source: Nemotron Nano 2 (arXiv:2508.14444): close at the next newline, by force 500 tokens later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from alloy.rollout.budget_tokens import BudgetTokens

__all__ = ["DEFAULT_GRACE", "BudgetTokens", "ThinkingBudget", "count_thinking"]

DEFAULT_GRACE = 500
"""Tokens; the paper's."""


@dataclass(slots=True)
class ThinkingBudget:
    """The state of one completion. It follows from the tokens written so far and from nothing else.

    Args:
        budget: tokens of thinking; None is unlimited.
        grace: tokens past the budget after which the close is forced.
        opened: whether the completion begins inside an opened thinking tag. Where it does not, a tag
            that it begins with opens thinking; one that comes later, or after the close, does not.

    Attributes:
        count: tokens of thinking so far, and of a closing tag that is under way.
        closed: there is no thinking any more: nothing will be forced.
    """

    tokens: BudgetTokens
    budget: int | None
    grace: int = DEFAULT_GRACE
    opened: bool = True
    count: int = 0
    closed: bool = False
    _matched: int = 0
    """Characters of the closing tag that the text ends in."""
    _at_newline: bool = True
    """A budget of 0 closes at once: the opening tag's own newline is the newline."""
    _pending: tuple[int, ...] = ()
    _begun: str = ""
    """What has been written before the thinking opened."""

    @property
    def free(self) -> int | None:
        """Tokens that may be written before it need be asked again; None: never again."""
        if self.closed or self.budget is None:
            return None
        return 0 if self._pending else max(0, self.budget - self.count)

    def force(self) -> int | None:
        """The token that must come next, or None where the policy is free to choose."""
        if not self._pending and self._is_due():
            # What the policy has written of a tag of several tokens stays: only the rest is forced.
            self._pending = self.tokens.rest.get(self._matched, self.tokens.close)
        return self._pending[0] if self._pending else None

    def observe(self, token: int) -> None:
        """Take note of the token that was written, forced or chosen."""
        if self.closed:
            return
        if not self.opened:
            self._open(token)
            return
        obeyed = bool(self._pending) and token == self._pending[0]
        self._pending = self._pending[1:] if obeyed else ()
        self.count += 1
        self._at_newline = token in self.tokens.newlines
        self._matched = self.tokens.step(self._matched, token)
        written = obeyed and not self._pending
        if written or self._matched == len(self.tokens.close_text) or token in self.tokens.ends:
            self.closed, self._pending = True, ()

    def advance(self, written: Sequence[int]) -> None:
        """Take note of tokens that were written as it demanded: forced where it forces, chosen elsewhere."""
        place, free = 0, self.free
        if self.opened and not self._matched and (free is None or free > 1):
            # Far from the budget only tokens matter that could begin the closing tag, or end the turn.
            place = self._skip(written[:free])
        for token in written[place:]:
            if self.closed:
                return
            self.force()
            self.observe(token)

    def _skip(self, written: Sequence[int]) -> int:
        """Pass over tokens without looking at each, up to the last one; how many were passed."""
        heeded = self.tokens.heeded
        if len(written) < 2 or not heeded.isdisjoint(written[:-1]):
            return 0
        self.count += len(written) - 1
        return len(written) - 1

    def _open(self, token: int) -> None:
        self._begun += self.tokens.text(token)
        text = self._begun.lstrip()
        behind = text.partition(self.tokens.open_text)[2]
        if text.startswith(self.tokens.open_text):
            self.opened = True
            self.closed = self.tokens.close_text in behind
        elif token in self.tokens.ends or not self.tokens.open_text.startswith(text):
            self.closed = True

    def _is_due(self) -> bool:
        if self.closed or not self.opened or self.budget is None or self.count < self.budget:
            return False
        return self._at_newline or self.count >= self.budget + self.grace


def count_thinking(tokens: BudgetTokens, written: Sequence[int]) -> int:
    """Tokens before the closing tag; all of them where it is missing."""
    place = "".join(map(tokens.text, written)).find(tokens.close_text)
    if place < 0:
        return len(written)
    read = 0
    for count, token in enumerate(written):
        read += len(tokens.text(token))
        if read > place:
            return count
    raise AssertionError("the tag lies within the text")
