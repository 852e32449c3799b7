"""The logits processor in vLLM's own batch: requests come, go, change places, are preempted and come back."""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.rollout.budget import BudgetTokens, ThinkingBudget

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")

SLOTS = 6
LENGTH = 40


@pytest.fixture(scope="module")
def make(tiny_model_folder: Path) -> Any:
    """A processor as vLLM makes one, from its own config."""
    from vllm.engine.arg_utils import EngineArgs

    from alloy.rollout.budget_vllm import ThinkingBudgetLogitsProcessor

    def made(additional: dict[str, Any] | None = None) -> Any:
        config = EngineArgs(
            model=str(tiny_model_folder),
            dtype="float32",
            enforce_eager=True,
            additional_config=additional or {},
        ).create_engine_config()
        return ThinkingBudgetLogitsProcessor(config, torch.device("cpu"), False)

    return made


@pytest.fixture(scope="module")
def processor(make: Any) -> Any:
    return make()


@dataclass
class Asked:
    """A request: what it wants to write, and what it wrote."""

    number: int
    prompt: list[int]
    arguments: dict[str, Any] | None
    wanted: list[int]
    state: Any = None

    def expected(self, tokens: BudgetTokens) -> list[int]:
        """What the plain machine writes of it."""
        given = self.arguments or {}
        budget = given.get("thinking_budget", -1)
        opened = tokens.opened(self.prompt)
        if "thinking_opened" in given:
            opened = bool(given["thinking_opened"])
        machine = ThinkingBudget(
            tokens,
            None if budget == -1 or opened is False else budget,
            given.get("thinking_grace", 500),
            bool(opened),
        )
        written = []
        for want in self.wanted:
            token = machine.force()
            written.append(want if token is None else token)
            machine.observe(written[-1])
        return written


@dataclass
class Batch:
    """vLLM's persistent batch with our processor, stepped as its model runner steps it."""

    processor: Any
    vocabulary: int
    waiting: list[Asked]
    input: Any = field(init=False)
    done: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        from vllm.v1.sample.logits_processor import LogitsProcessors
        from vllm.v1.worker.gpu_input_batch import InputBatch

        self.processor.rows.clear()
        self.input = InputBatch(
            max_num_reqs=SLOTS, max_model_len=2 * LENGTH, max_num_batched_tokens=1024,
            device=torch.device("cpu"), vocab_size=self.vocabulary, block_sizes=[16],
            kernel_block_sizes=[16], max_num_blocks_per_req=[8],
            logitsprocs=LogitsProcessors([self.processor]), logitsprocs_need_output_token_ids=True,
        )  # fmt: skip
        self.running: dict[str, Asked] = {}

    def step(self, rng: Random) -> None:
        for name, asked in list(self.running.items()):
            over = len(asked.state.output_token_ids) == len(asked.wanted)
            if over or rng.random() < 0.1:  # finished, or preempted
                self.input.remove_request(name)
                del self.running[name]
                (self.done if over else self.waiting).append(asked)
        while self.waiting and len(self.running) < SLOTS and rng.random() < 0.6:
            asked = self.waiting.pop(rng.randrange(len(self.waiting)))
            self.running[str(asked.number)] = asked
            # Scheduled again with asynchronous scheduling, a request has a new list.
            asked.state.output_token_ids = list(asked.state.output_token_ids)
            self.input.add_request(asked.state)
        self.input.condense()
        if len(self.running) > 1 and rng.random() < 0.4:
            self.input.swap_states(*rng.sample(range(len(self.running)), 2))
        self.input.refresh_metadata()
        self._sample(rng)

    def _sample(self, rng: Random) -> None:
        logits = torch.zeros(len(self.running), self.vocabulary)
        order = [self.running[name] for name in self.input.req_ids]
        for row, asked in enumerate(order):
            logits[row, asked.wanted[len(asked.state.output_token_ids)]] = 1.0
        chosen = self.processor.apply(logits).argmax(-1).tolist()
        for asked, token in zip(order, chosen, strict=True):
            if rng.random() > 0.1:  # what is drawn while a long prompt is read in steps is thrown away
                asked.state.output_token_ids.append(token)


def request(rng: Random, number: int, tokens: BudgetTokens, tags: tuple[int, int]) -> Asked:
    from vllm import SamplingParams
    from vllm.v1.worker.gpu_input_batch import CachedRequestState

    opening, close = tags
    arguments: dict[str, Any] | None = None
    if rng.random() < 0.85:
        arguments = {
            "thinking_budget": rng.choice([-1, 0, 1, 5, 12, 30]),
            "thinking_grace": rng.choice([0, 3, 50]),
        }
    if arguments is not None and rng.random() < 0.2:
        arguments["thinking_opened"] = rng.choice([0, 1])
    common = [opening, close, *sorted(tokens.newlines)[:2], *tokens.ends, 40, 41, 42, 43, 44, 45]
    wanted = [rng.choice(common) for _ in range(rng.randrange(1, LENGTH))]
    prompt = [50, 51, *rng.choice([[opening], [opening, close], [], [opening, 44]])]
    state = CachedRequestState(
        req_id=str(number), prompt_token_ids=prompt, mm_features=[],
        sampling_params=SamplingParams(extra_args=arguments), generator=None, block_ids=([],),
        num_computed_tokens=0, output_token_ids=[],
    )  # fmt: skip
    return Asked(number, prompt, arguments, wanted, state)


@given(st.integers(0, 2**32))
@settings(max_examples=100)
def test_whatever_happens_to_the_batch_every_request_is_written_as_if_alone(
    processor: Any, tiny_tokenizer: Any, seed: int
) -> None:
    rng = Random(seed)
    tokens = processor.tokens
    tags = tuple(tiny_tokenizer.convert_tokens_to_ids([THINK_OPEN, THINK_CLOSE]))
    asked = [request(rng, number, tokens, tags) for number in range(14)]
    batch = Batch(processor, len(tiny_tokenizer) + 8, list(asked))
    for _ in range(2000):
        if len(batch.done) == len(asked):
            break
        batch.step(rng)
    assert len(batch.done) == len(asked)
    for one in asked:
        assert one.state.output_token_ids == one.expected(tokens), (one.arguments, one.prompt, one.wanted)
    assert not processor.rows or batch.running


def test_what_a_server_was_started_with_holds_for_requests_that_do_not_say(
    make: Any, tiny_tokenizer: Any
) -> None:
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    made = make({"thinking_budget": 0, "thinking_grace": 3})
    (opening,) = tiny_tokenizer.encode(THINK_OPEN)
    said = [None, {"thinking_budget": -1}, {"thinking_budget": 2}, {"thinking_grace": 1}]
    added = [(row, SamplingParams(extra_args=args), [opening], []) for row, args in enumerate(said)]
    made.update_state(BatchUpdate(4, removed=[], added=added, moved=[]))
    assert {row: (kept.state.budget, kept.state.grace) for row, kept in made.rows.items()} == {
        0: (0, 3),
        2: (2, 3),
        3: (0, 1),
    }
    forced = torch.isinf(made.apply(torch.zeros(4, 600))).any(-1).tolist()
    assert forced == [True, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"thinking_budget": -2},
            r"thinking_budget = -2: it must be a whole number of tokens, 0 or more, or -1",
        ),
        ({"thinking_budget": "64"}, "thinking_budget = '64'"),
        ({"thinking_budget": 1.5}, "thinking_budget = 1.5"),
        ({"thinking_grace": -1}, r"thinking_grace = -1: it must be a whole number of tokens, 0 or more\."),
    ],
)
def test_a_budget_that_is_none_is_the_requests_own_error(
    processor: Any, arguments: dict[str, Any], told: str
) -> None:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError

    with pytest.raises(VLLMClientError, match=told):
        processor.validate_params(SamplingParams(extra_args=arguments))
    processor.validate_params(SamplingParams(extra_args={"thinking_budget": 3, "others": "x"}))
    processor.validate_params(SamplingParams())
