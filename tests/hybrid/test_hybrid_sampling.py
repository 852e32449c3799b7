"""A hybrid's rollouts: a cache of keys and states, prompts padded on the left, rows taken out as they end."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from greedy import alone, common_token
from transformers import AutoModelForCausalLM

from alloy.rollout.engine import Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.state_space import mixers

GREEDY = Sampling(20, 0.0)


def prompts() -> list[list[int]]:
    """Shorter than the convolution's window, and longer than a chunk."""
    rng = random.Random(0)
    return [[rng.randrange(20, 500) for _ in range(length)] for length in (1, 2, 3, 7, 16, 17, 33, 40)]


@pytest.fixture
def engine(hybrid: Any, tiny_tokenizer: Any) -> TransformersEngine:
    engine = TransformersEngine(hybrid, tiny_tokenizer, batch_size=8, grace=4)
    engine.end_of_turn = common_token(engine.generate(prompts(), GREEDY, 0), 3)
    return engine


def test_a_padded_batch_writes_what_each_prompt_writes_alone(engine: TransformersEngine) -> None:
    found = engine.generate(prompts(), GREEDY, 0)
    assert {g.finished for g in found} == {True, False}
    for prompt, generation in zip(prompts(), found, strict=True):
        assert generation.token_ids == alone(engine.model, prompt, 20, engine.end_of_turn)
    assert len({tuple(g.token_ids) for g in found}) == len(found)


def test_logprobs_are_those_of_a_full_forward_pass(engine: TransformersEngine) -> None:
    for prompt, generation in zip(prompts(), engine.generate(prompts(), Sampling(16, 1.0), 3), strict=True):
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + generation.token_ids]), use_cache=False).logits[0]
        logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0].tolist()
        assert generation.logprobs == pytest.approx(expected, abs=2e-4)


def test_the_limit_of_time_steps_is_the_config_s(hybrid: Any, hybrid_folder: Path) -> None:
    """transformers' own is 0.001 in every forward pass and none in sampling: the test above fails with it."""
    layers = mixers(hybrid)
    assert [layer.time_step_limit for layer in layers] == [(0.0, float("inf"))] * 2
    # One that somebody else loads, as TRL does the reference model.
    other = AutoModelForCausalLM.from_pretrained(hybrid_folder)
    other.config.time_step_limit = [0.01, 0.1]
    assert mixers(other)[0].time_step_limit == (0.01, 0.1)
    # The bound would be felt: some steps are shorter.
    steps = []
    hybrid.model.layers[0].mixer.in_proj.register_forward_hook(
        lambda _, __, found: steps.append(found[..., -4:])
    )
    with torch.no_grad():
        hybrid(torch.tensor([prompts()[-1]]), use_cache=False)
    step = torch.nn.functional.softplus(steps[0] + layers[0].dt_bias)
    assert step.min() < 0.001 < step.max()


def test_transformers_own_generate_agrees(engine: TransformersEngine, tiny_tokenizer: Any) -> None:
    given, pad = prompts(), tiny_tokenizer.pad_token_id
    width = max(map(len, given))
    rows = engine.model.generate(
        input_ids=torch.tensor([[pad] * (width - len(p)) + p for p in given]),
        attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in given]),
        max_new_tokens=20, do_sample=False, eos_token_id=engine.end_of_turn, pad_token_id=pad,
    )[:, width:].tolist()  # fmt: skip
    for generation, row in zip(engine.generate(given, GREEDY, 0), rows, strict=True):
        assert generation.token_ids == row[: len(generation.token_ids)]


def test_a_conversation_is_read_anew_at_every_turn(engine: TransformersEngine) -> None:
    """A state behind the padding of a later turn would be wrong, and none is kept."""
    first = engine.generate(prompts(), GREEDY, 0, states=[None] * 8)
    assert {g.state for g in first} == {None}
    given = [p + g.token_ids + [30, 31] for p, g in zip(prompts(), first, strict=True)]
    found = engine.generate(given, GREEDY, 0, states=[g.state for g in first])
    for prompt, generation in zip(given, found, strict=True):
        assert generation.token_ids == alone(engine.model, prompt, 20, engine.end_of_turn)
