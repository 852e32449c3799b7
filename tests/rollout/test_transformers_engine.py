import random
from typing import Any

import pytest
import torch
from greedy import alone, common_token
from transformers.cache_utils import DynamicSlidingWindowLayer

from alloy.chat import THINK_CLOSE
from alloy.rollout.budget import BudgetTokens, count_thinking
from alloy.rollout.engine import Sampling
from alloy.rollout.kept_keys import keep, roomy_cache
from alloy.rollout.transformers_engine import TransformersEngine, _draw
from alloy.template import encode_prompt

GREEDY = Sampling(24, 0.0)


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Of very different lengths."""
    rng = random.Random(seed)
    return [[rng.randrange(3, 590) for _ in range(rng.choice((2, 5, 9, 30)))] for _ in range(count)]


@pytest.fixture
def engine(lively_model: Any, tiny_tokenizer: Any) -> TransformersEngine:
    engine = TransformersEngine(lively_model, tiny_tokenizer, batch_size=64, grace=4)
    engine.end_of_turn = common_token(engine.generate(prompts(24), GREEDY, 0), 24 * 0.6)
    return engine


def test_greedy_is_generate_token_for_token(engine: TransformersEngine, tiny_tokenizer: Any) -> None:
    given = prompts(12)
    found = engine.generate(given, GREEDY, 0)
    width = max(map(len, given))
    pad = tiny_tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in given])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in given])
    expected = engine.model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=24, do_sample=False,
        eos_token_id=engine.end_of_turn, pad_token_id=pad,
    )[:, width:].tolist()  # fmt: skip
    for generation, row in zip(found, expected, strict=True):
        assert generation.token_ids == row[: len(generation.token_ids)]
        assert all(token == pad for token in row[len(generation.token_ids) :])
    assert len({len(generation.token_ids) for generation in found}) > 2, "rows must end at different times"


def test_padding_and_compaction_change_nothing(engine: TransformersEngine) -> None:
    given = prompts(24)[:10]
    together = engine.generate(given, GREEDY, 0)
    assert {g.finished for g in together} == {True, False}
    for prompt, generation in zip(given, together, strict=True):
        expected = alone(engine.model, prompt, 24, engine.end_of_turn)
        assert generation.token_ids == expected
        assert generation.finished == (expected[-1] == engine.end_of_turn)
        assert engine.generate([prompt], GREEDY, 7)[0].token_ids == expected


def test_results_come_in_the_order_of_the_prompts_whatever_the_batches(engine: TransformersEngine) -> None:
    given = prompts(24)
    whole = engine.generate(given, GREEDY, 0)
    engine.batch_size = 5
    assert [g.token_ids for g in engine.generate(given, GREEDY, 0)] == [g.token_ids for g in whole]
    assert engine.generate([], GREEDY, 0) == []


def test_limits(engine: TransformersEngine) -> None:
    given = prompts(6)
    whole = engine.generate(given, GREEDY, 0)
    limits = [1, 2, 3, 8, 24, 24]
    for limit, full, short in zip(
        limits, whole, engine.generate(given, GREEDY, 0, max_tokens=limits), strict=True
    ):
        assert short.token_ids == full.token_ids[:limit]
        assert short.finished == (short.token_ids[-1] == engine.end_of_turn)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
def test_logprobs_are_those_of_a_full_forward_pass(engine: TransformersEngine, temperature: float) -> None:
    given = prompts(8)
    for prompt, generation in zip(given, engine.generate(given, Sampling(16, temperature), 3), strict=True):
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + generation.token_ids]), use_cache=False).logits[0]
        logprobs = (logits[len(prompt) - 1 : -1].double() / (temperature or 1.0)).log_softmax(-1)
        expected = logprobs.gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0].tolist()
        assert generation.logprobs == pytest.approx(expected, abs=1e-4)
        assert generation.forced == [0] * len(generation.token_ids)


def test_a_seed_repeats_and_another_does_not(engine: TransformersEngine) -> None:
    given = prompts(8)
    first, again, other = (
        [g.token_ids for g in engine.generate(given, Sampling(12), seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    # The same prompt twice in a batch is drawn twice.
    twice = engine.generate([given[3]] * 2, Sampling(12), 1)
    assert twice[0].token_ids != twice[1].token_ids


def second_turns(engine: TransformersEngine, count: int) -> tuple[list[list[int]], list[Any]]:
    """Prompts that go on from a first turn, each with words of the world behind it, and its kept state."""
    given = prompts(count)
    first = engine.generate(given, GREEDY, 0, states=[None] * count)
    world = random.Random(1)
    more = [[world.randrange(3, 590) for _ in range(world.choice((1, 4, 11)))] for _ in given]
    return [p + g.token_ids + m for p, g, m in zip(given, first, more, strict=True)], [g.state for g in first]


def test_a_conversation_goes_on_from_what_was_read_of_it(engine: TransformersEngine) -> None:
    given, states = second_turns(engine, 12)
    engine.batch_size = 5
    again = engine.generate(given, GREEDY, 0)
    # Some go on and others begin, as in a batch that a new conversation joins.
    kept = [None if row % 4 == 1 else state for row, state in enumerate(states)]
    found = engine.generate(given, GREEDY, 0, states=kept)
    assert [g.token_ids for g in found] == [g.token_ids for g in again]
    for one, other in zip(found, again, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_only_what_was_not_read_is_read(engine: TransformersEngine) -> None:
    (given, *_), (state, *_) = second_turns(engine, 1)
    read: list[int] = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    (found,) = engine.generate([given], Sampling(3, 0.0), 0, states=[state])
    hook.remove()
    assert read == [len(given) - state.tokens] + [1] * (len(found.token_ids) - 1)


def test_a_cache_of_more_than_keys_and_values_is_not_kept(engine: TransformersEngine) -> None:
    cache = roomy_cache(engine.model.config)
    cache.layers[0] = DynamicSlidingWindowLayer(sliding_window=4)
    assert keep(cache, 0, torch.ones(1, 3)) is None


def test_the_model_s_mode_is_left_as_it_was(engine: TransformersEngine) -> None:
    engine.model.train()
    engine.generate(prompts(2), Sampling(2), 0)
    assert engine.model.training


@pytest.mark.parametrize("budget", [0, 3, 10])
def test_a_budget_closes_thinking_within_its_grace(
    engine: TransformersEngine, tiny_tokenizer: Any, budget: int
) -> None:
    engine.end_of_turn = -1
    tokens = BudgetTokens.of(tiny_tokenizer)
    prompt = encode_prompt(tiny_tokenizer, [{"role": "user", "content": "How many apples are left?"}])
    given = [[*prompt, token] for token in range(300, 308)]
    budgets = [budget] * 7 + [None]
    found = engine.generate(given, Sampling(32), 0, budgets=budgets)
    free = engine.generate(given, Sampling(32), 0)
    for generation in found[:7]:
        thinking = count_thinking(tokens, generation.token_ids)
        assert thinking <= budget + engine.grace
        assert sum(generation.forced) <= 1
        assert all(
            logprob == 0.0
            for logprob, forced in zip(generation.logprobs or [], generation.forced, strict=True)
            if forced
        )
        if any(generation.forced):
            assert generation.forced.index(1) == thinking
            before = generation.token_ids[thinking - 1] if thinking else None
            assert thinking in (0, budget + engine.grace) or before in tokens.newlines
    assert any(any(generation.forced) for generation in found[:7])
    # One without a budget is drawn from the same numbers: nothing is changed.
    assert found[7] == free[7]
    assert THINK_CLOSE in tiny_tokenizer.decode(found[0].token_ids)


def test_greedy_after_a_forced_close_goes_on_from_the_forced_token(
    engine: TransformersEngine, tiny_tokenizer: Any
) -> None:
    engine.end_of_turn = -1
    engine.grace = 0
    (prompt,) = prompts(1)
    close = BudgetTokens.of(tiny_tokenizer).close
    (found,) = engine.generate([prompt], Sampling(10, 0.0), 0, budgets=[4])
    free = alone(engine.model, prompt, 4, -1)
    assert found.token_ids[:5] == [*free, *close]
    assert found.token_ids[5:] == alone(engine.model, [*prompt, *free, *close], 5, -1)


def test_top_p_keeps_the_smallest_set_that_holds_its_share() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(4000, 1)
    generator = torch.Generator().manual_seed(0)
    tokens, logprobs = _draw(logits, Sampling(1, 1.0, 0.75), generator)
    counts = torch.bincount(tokens, minlength=4).tolist()
    assert counts[2] == counts[3] == 0
    # 0.5 and 0.3 renormalised: 0.625; 4000 draws have a standard deviation of 31.
    assert abs(counts[0] - 2500) < 155
    # The log-probabilities are of the whole distribution.
    assert sorted({round(value, 4) for value in logprobs.exp().tolist()}) == [0.3, 0.5]
    assert set(_draw(logits, Sampling(1, 1.0, 0.45), generator)[0].tolist()) == {0}


def test_temperature_sharpens() -> None:
    logits = torch.tensor([[0.0, 1.0]]).repeat(4000, 1)
    generator = torch.Generator().manual_seed(0)
    tokens, logprobs = _draw(logits, Sampling(1, 0.5), generator)
    share = 1 / (1 + 2.718281828459045**-2.0)  # softmax of (0, 2): 0.8808
    assert abs(tokens.float().mean().item() - share) < 0.026
    assert logprobs.exp().max().item() == pytest.approx(share, abs=1e-6)
