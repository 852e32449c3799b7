"""What a thinking budget needs to know of a tokenizer: its tags, its newlines, and how its tokens read.

Tags are found in the text of the tokens, however a model cuts them: where `</think>` is several tokens, its
last one may come out merged with the newline behind it, and a search for ids would miss it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from alloy.chat import THINK_CLOSE, THINK_OPEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class BudgetTokens:
    """A tokenizer's vocabulary as the budget reads it.

    Attributes:
        texts: of each token, as it reads behind another one.
        close: ids of the closing tag, as they are written when it is forced.
        ends: tokens that end a turn.
        marks: special tokens, which stand between turns; none of them is part of a tag.
    """

    texts: Sequence[str]
    close: tuple[int, ...]
    ends: frozenset[int] = frozenset()
    marks: frozenset[int] = frozenset()
    close_text: str = THINK_CLOSE
    open_text: str = THINK_OPEN
    _steps: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "BudgetTokens":
        """Of a tokenizer as it is now; its vocabulary is decoded once, however many engines ask."""
        return _tokens_of(tokenizer, len(tokenizer))

    @cached_property
    def newlines(self) -> frozenset[int]:
        """Every token whose text contains a newline."""
        return frozenset(token for token, text in enumerate(self.texts) if "\n" in text)

    @cached_property
    def begun(self) -> dict[int, int]:
        """Tokens after which the closing tag may be under way, and how many of its characters they end in."""
        found = ((token, self._read(0, text)) for token, text in enumerate(self.texts))
        return {token: matched for token, matched in found if matched}

    @cached_property
    def heeded(self) -> frozenset[int]:
        """Tokens that cannot be passed over while thinking goes on."""
        return self.ends.union(self.begun)

    @cached_property
    def rest(self) -> dict[int, tuple[int, ...]]:
        """The tokens that complete the closing tag, by the characters of it that stand where a token ends."""
        lengths = [0]
        for token in self.close:
            lengths.append(lengths[-1] + len(self.text(token)))
        return {length: self.close[place:] for place, length in enumerate(lengths[:-1])}

    def text(self, token: int) -> str:
        """Empty for an id that only the model has: its vocabulary may be padded."""
        return self.texts[token] if 0 <= token < len(self.texts) else ""

    def step(self, matched: int, token: int) -> int:
        """Characters of the closing tag that the text ends in after another token; all of them: it is closed.

        Args:
            matched: before it.
        """
        if not matched:
            return self.begun.get(token, 0)
        known = self._steps.get((matched, token))
        if known is None:
            known = self._steps[matched, token] = self._read(matched, self.text(token))
        return known

    def _read(self, matched: int, text: str) -> int:
        tag = self.close_text
        read = tag[:matched] + text
        if tag in read:
            return len(tag)
        longest = min(len(tag) - 1, len(read))
        return next((n for n in range(longest, 0, -1) if read.endswith(tag[:n])), 0)

    def opened(self, prompt: Sequence[int]) -> bool | None:
        """Whether a prompt ends inside an opened thinking tag; None where it has no tag: the model may open one.

        Only what stands behind the last special token counts: a tag that a user has written opens nothing.
        """
        start = next((n for n in range(len(prompt), 0, -1) if prompt[n - 1] in self.marks), 0)
        turn = "".join(map(self.text, prompt[start:]))
        last_open, last_close = turn.rfind(self.open_text), turn.rfind(self.close_text)
        if last_open == last_close:  # both are missing
            return None
        return last_open > last_close


@lru_cache(maxsize=8)
def _tokens_of(tokenizer: "PreTrainedTokenizerBase", size: int) -> BudgetTokens:
    # Behind another token, because some tokenizers drop the space before the first one.
    before = tokenizer.encode("a", add_special_tokens=False)[-1:]
    width = len(_decode(tokenizer, [before])[0])
    texts = [text[width:] for text in _decode(tokenizer, [[*before, token] for token in range(size)])]
    close = tuple(tokenizer.encode(THINK_CLOSE, add_special_tokens=False))
    tags = {THINK_OPEN, THINK_CLOSE}
    marks = frozenset(token for token in tokenizer.all_special_ids if texts[token] not in tags)
    ends = frozenset(end for end in (tokenizer.eos_token_id,) if end is not None)
    return BudgetTokens(texts, close, ends, marks)


def _decode(tokenizer: "PreTrainedTokenizerBase", rows: list[list[int]]) -> list[str]:
    return tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False)
