"""The thinking budget: one small state machine that every engine runs.

Tokens are counted after the thinking tag has opened. At the budget the thinking closes at the next
newline; at budget + grace it closes by force. Nothing after the close is touched.

Source: Nemotron Nano 2 (arXiv:2508.14444): close at the next newline, by force 500 tokens later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from alloy.chat import THINK_CLOSE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class BudgetTokens:
    """What the budget needs to know of a tokenizer.

    Attributes:
        close: ids of the closing tag.
        newlines: every token whose text contains a newline.
    """

    close: tuple[int, ...]
    newlines: frozenset[int]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "BudgetTokens":
        """Of a tokenizer as it is now; its vocabulary is decoded once, however many engines ask."""
        return _tokens_of(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _tokens_of(tokenizer: "PreTrainedTokenizerBase", size: int) -> BudgetTokens:
    close = tuple(tokenizer.encode(THINK_CLOSE, add_special_tokens=False))
    texts = tokenizer.batch_decode([[index] for index in range(size)])
    return BudgetTokens(close, frozenset(index for index, text in enumerate(texts) if "\n" in text))


@dataclass
class ThinkingBudget:
    """The state of one completion that began inside an opened thinking tag.

    Args:
        budget: tokens of thinking; None is unlimited.
        grace: tokens past the budget after which the close is forced.
    """

    tokens: BudgetTokens
    budget: int | None
    grace: int = 500
    count: int = 0
    closed: bool = False
    _pending: list[int] = field(default_factory=list)
    _tail: list[int] = field(default_factory=list)

    def force(self) -> int | None:
        """The token that must come next, or None where the policy is free to choose."""
        if not self._pending and not self.closed and self._is_due():
            # What the policy has written of a tag of several tokens stays: only the rest is forced.
            self._pending = list(self.tokens.close[self._matched() :])
        return self._pending[0] if self._pending else None

    def observe(self, token: int) -> None:
        """Take note of the token that was written, forced or chosen."""
        if self.closed:
            return
        if self._pending:
            self._pending.pop(0)
        self.count += 1
        self._tail = [*self._tail, token][-len(self.tokens.close) :]
        if tuple(self._tail) == self.tokens.close:
            self.closed = True
            self._pending = []

    def _is_due(self) -> bool:
        if self.budget is None or self.count < self.budget:
            return False
        # A budget of 0 closes at once: the opening tag's own newline is the newline.
        at_newline = not self._tail or self._tail[-1] in self.tokens.newlines
        return at_newline or self.count >= self.budget + self.grace

    def _matched(self) -> int:
        close = self.tokens.close
        longest = min(len(self._tail), len(close) - 1)
        return next((n for n in range(longest, 0, -1) if tuple(self._tail[-n:]) == close[:n]), 0)


def count_thinking(tokens: BudgetTokens, written: Sequence[int]) -> int:
    """Tokens before the closing tag; all of them where it is missing."""
    close = tokens.close
    width = len(close)
    for start in range(len(written) - width + 1):
        if tuple(written[start : start + width]) == close:
            return start
    return len(written)
