"""The thinking budget for `model.generate` of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor

from alloy.rollout.budget import DEFAULT_GRACE, BudgetTokens, ThinkingBudget

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ThinkingBudgetLogitsProcessor(LogitsProcessor):
    """Closes thinking at a budget, in batches with padding on the left; made for one call of `generate`.

        budget = ThinkingBudgetLogitsProcessor(tokenizer, 256)
        model.generate(**prompts, logits_processor=[budget])

    Whether a row begins inside an opened thinking tag is read from its prompt. Rows far from their budget
    are not looked at. For greedy decoding and sampling; beam search exchanges rows, which this does not follow.

    Args:
        budgets: tokens of thinking, one for all or one for each prompt; None is unlimited.
        grace: tokens past the budget after which the close is forced.
        opened: True: the prompts end inside an opened thinking tag, False: no thinking is to come; read from
            the prompts when None.
    Raises:
        ValueError: while generating, from a second call, or with another number of prompts.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        budgets: int | Sequence[int | None] | None,
        grace: int = DEFAULT_GRACE,
        opened: bool | None = None,
    ) -> None:
        self.tokens = BudgetTokens.of(tokenizer)
        self.budgets, self.grace, self.opened = budgets, grace, opened
        self._rows: list[_Row] | None = None
        self._start = self._length = 0
        """Tokens of a row: its prompt, and all when it was last seen."""
        self._wake = 0
        """Written tokens at which a row must be looked at again."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of shape (B, V), with all but the forced token of a row at minus infinity."""
        if self._rows is None:
            self._begin(input_ids)
        elif input_ids.shape[1] != self._length + 1:
            raise ValueError(
                "a ThinkingBudgetLogitsProcessor follows one call of generate, a token at a time. Make a new one for "
                "each call, and leave assisted decoding and beam search out."
            )
        self._length = input_ids.shape[1]
        if self._length - self._start < self._wake:
            return scores
        forced = self._forced(input_ids)
        if not forced:
            return scores
        rows = torch.tensor(list(forced), device=scores.device)
        tokens = torch.tensor(list(forced.values()), device=scores.device)
        scores = scores.index_fill(0, rows, -torch.inf)
        scores[rows, tokens] = 0.0
        return scores

    def _begin(self, input_ids: Tensor) -> None:
        self._start = input_ids.shape[1]
        budgets = self.budgets
        if budgets is None or isinstance(budgets, int):
            budgets = [budgets]
        # Several sequences of one prompt are neighbours.
        copies, left = divmod(len(input_ids), len(budgets))
        if left or not copies:
            raise ValueError(
                f"{len(budgets)} thinking budgets for {len(input_ids)} rows. Give one for each prompt."
            )
        self._rows = []
        for index, prompt in enumerate(input_ids.tolist()):
            opened = self.tokens.opened(prompt) if self.opened is None else self.opened
            budget = budgets[index // copies]
            if budget is not None and opened is not False:
                state = ThinkingBudget(self.tokens, budget, self.grace, bool(opened))
                self._rows.append(_Row(index, state))

    def _forced(self, input_ids: Tensor) -> dict[int, int]:
        """Rows whose next token is not theirs to choose, with that token; asks those that are due."""
        assert self._rows is not None
        count = self._length - self._start
        due = [row for row in self._rows if row.wake <= count]
        forced: dict[int, int] = {}
        if due:
            first = min(row.seen for row in due)
            indices = torch.tensor([row.index for row in due], device=input_ids.device)
            written = input_ids[indices, self._start + first :].tolist()
            for row, tokens in zip(due, written, strict=True):
                row.state.advance(tokens[row.seen - first :])
                row.seen = count
                token = row.state.force()
                if token is not None:
                    forced[row.index] = token
                row.wake = count + (row.state.free or 0)
        self._rows = [row for row in self._rows if row.state.free is not None]
        self._wake = min((row.wake for row in self._rows), default=0) if self._rows else _NEVER
        return forced


_NEVER = 1 << 62


@dataclass(slots=True)
class _Row:
    """A row that may still be thinking.

    Attributes:
        seen: tokens written when it was last asked.
        wake: tokens written when it must be asked again.
    """

    index: int
    state: ThinkingBudget
    seen: int = 0
    wake: int = 0
