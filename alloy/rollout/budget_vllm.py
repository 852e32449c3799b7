"""The thinking budget for vLLM, each request with its own: loaded when an engine or a server starts.

    vllm serve MODEL --logits-processors alloy.rollout.budget_vllm:ThinkingBudgetLogitsProcessor

A request has its budget in `SamplingParams.extra_args`, over HTTP in `vllm_xargs`:

    thinking_budget   tokens of thinking; -1 is unlimited
    thinking_grace    tokens past the budget after which the close is forced
    thinking_opened   1: the prompt ends inside an opened thinking tag, 0: no thinking is to come; read
                      from the prompt where it is not given

What holds for requests that do not say, a server is started with:

    --additional-config '{"thinking_budget": 1024, "thinking_grace": 500}'

It is of the interface of vLLM's first model runner: on a GPU start vLLM with VLLM_USE_V2_MODEL_RUNNER=0.
vLLM takes no logits processors beside speculative decoding.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from vllm.exceptions import VLLMValidationError
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from alloy.rollout.budget import DEFAULT_GRACE, BudgetTokens, ThinkingBudget

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

NAMES = ("thinking_budget", "thinking_grace", "thinking_opened")
UNLIMITED = -1


class ThinkingBudgetLogitsProcessor(LogitsProcessor):
    """Closes the thinking of the requests of a running batch, each at its budget.

    A request that was preempted comes back with what it had written: its state follows from that.
    """

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        model = vllm_config.model_config
        tokenizer = AutoTokenizer.from_pretrained(
            model.tokenizer, revision=model.tokenizer_revision, trust_remote_code=model.trust_remote_code
        )
        self.tokens = BudgetTokens.of(tokenizer)
        given = vllm_config.additional_config
        self.defaults = {name: given[name] for name in NAMES if isinstance(given, dict) and name in given}
        read_arguments(self.defaults)
        self.device = device
        self.rows: dict[int, _Row] = {}

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """vLLM asks this of every request: what is wrong with one is its own error, status 400."""
        read_arguments(sampling_params.extra_args or {})

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that came, went or changed places. What they wrote is not looked at here: with
        asynchronous scheduling it is not known before `apply`."""
        if batch_update is None:
            return
        rows = self.rows
        for index in batch_update.removed:
            rows.pop(index, None)
        for index, parameters, prompt, written in batch_update.added:
            rows.pop(index, None)
            state = self._state(parameters.extra_args or {}, prompt)
            if state is not None:
                rows[index] = _Row(state, written)
        for start, end, direction in batch_update.moved:
            moved, replaced = rows.pop(start, None), rows.pop(end, None)
            if moved is not None:
                rows[end] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                rows[start] = replaced

    def apply(self, logits: Tensor) -> Tensor:
        """Logits of shape (B, V), changed in place: all but a forced token at minus infinity."""
        forced: dict[int, int] = {}
        over = []
        for index, row in self.rows.items():
            if len(row.written) < row.wake:
                continue
            token = row.demand()
            if token is not None:
                forced[index] = token
            elif row.state.free is None:
                over.append(index)
        for index in over:
            del self.rows[index]
        if forced:
            rows = torch.tensor(list(forced), device=self.device)
            tokens = torch.tensor(list(forced.values()), device=self.device)
            logits.index_fill_(0, rows, -torch.inf)
            logits[rows, tokens] = 0.0
        return logits

    def _state(self, given: Mapping[str, Any], prompt: list[int] | None) -> ThinkingBudget | None:
        budget, grace, opened = read_arguments({**self.defaults, **given})
        if budget is None:
            return None
        if opened is None:
            opened = self.tokens.opened(prompt or [])
        if opened is False:
            return None
        return ThinkingBudget(self.tokens, budget, grace, bool(opened))


class _Row:
    """A request that may still be thinking.

    Attributes:
        written: vLLM's own list, which grows.
        wake: tokens written when it must be asked again.
    """

    __slots__ = ("_seen", "state", "wake", "written")

    def __init__(self, state: ThinkingBudget, written: list[int]) -> None:
        self.state, self.written = state, written
        self._seen = self.wake = 0

    def demand(self) -> int | None:
        """The token that must come next, if one must."""
        self.state.advance(self.written[self._seen :])
        self._seen = len(self.written)
        token = self.state.force()
        # While a long prompt is read in steps, what is drawn is thrown away: at its budget a row is asked again.
        self.wake = self._seen + (self.state.free or 0)
        return token


def read_arguments(given: Mapping[str, Any]) -> tuple[int | None, int, bool | None]:
    """Budget (None: unlimited), grace, and whether thinking is open (None: not said).

    Raises:
        VLLMValidationError: a value that is none.
    """
    budget = _whole(given, "thinking_budget", UNLIMITED, UNLIMITED)
    grace = _whole(given, "thinking_grace", DEFAULT_GRACE, 0)
    opened = _whole(given, "thinking_opened", -1, -1)
    return None if budget == UNLIMITED else budget, grace, None if opened == -1 else bool(opened)


def _whole(given: Mapping[str, Any], name: str, otherwise: int, least: int) -> int:
    value = given.get(name, otherwise)
    if not isinstance(value, int) or value < least:
        unlimited = ", or -1 for no limit" if least == UNLIMITED else ""
        raise VLLMValidationError(
            f"{name} = {value!r}: it must be a whole number of tokens, 0 or more{unlimited}.", parameter=name
        )
    return value
