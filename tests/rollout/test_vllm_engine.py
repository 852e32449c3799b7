"""vLLM for real, on the CPU, held against the transformers engine over the same weights."""

import importlib.util
import math
import os
import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement import BUDGETS, GREEDY, assert_budgets_agree, assert_greedy_agrees, prompts, tokens

from alloy.errors import InputError
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.suites import evaluate_suite
from alloy.policy import computes_bfloat16, load_model
from alloy.rl_config import RolloutConfig
from alloy.rollout.engine import Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.rollout.vllm_process import engine_dtype

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")

ROLLOUT = RolloutConfig(engine="vllm", max_completion_tokens=32, batch_size=48, vllm_max_model_tokens=192)


@pytest.fixture(scope="module")
def colocated(sharp_folder: Path) -> Iterator[Any]:
    """The one engine of these tests, beside a model in float32, as a trainer has it.

    A merge before it in the same process has loaded numba, on whose library vLLM's start stumbled.
    """
    importlib.import_module("merge.compiled")
    from accelerate import Accelerator

    from alloy.policy import load_tokenizer
    from alloy.rollout.vllm_colocated import ColocatedVllm

    accelerator = Accelerator(cpu=True)
    before = (torch.set_num_threads, random.getstate(), torch.get_rng_state())
    environment = variables()
    with pytest.MonkeyPatch.context() as patch:
        # Both engines are to agree to the token: that needs float32 here, whatever the hardware likes better.
        patch.setattr("alloy.rollout.vllm_process.engine_dtype", lambda: "float32")
        found = ColocatedVllm(load_model(sharp_folder), accelerator, load_tokenizer(sharp_folder), ROLLOUT)
    assert random.getstate() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    kept: list[Any] = []
    found.llm.apply_model(lambda model: kept.append(weakref.ref(model)))
    yield found
    found.close()
    found.close()
    assert kept[0]() is None, "the weights are still in memory"
    assert not torch.distributed.is_initialized()
    assert torch.set_num_threads is before[0]
    assert variables() == environment


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def engines(colocated: Any, sharp_folder: Path) -> tuple[Any, TransformersEngine]:
    """Both engines over the folder's weights."""
    from alloy.rollout.vllm_engine import VllmEngine

    colocated.model = load_model(sharp_folder)
    colocated.sync_weights()
    tokenizer = colocated.processing_class
    return VllmEngine(colocated.llm, tokenizer, 6), TransformersEngine(colocated.model, tokenizer, 8, 6)


def test_greedy_tokens_and_their_log_probabilities_are_those_of_transformers(engines: Any) -> None:
    assert_greedy_agrees(*engines)


def test_more_prompts_than_one_step_reads_keep_their_own_seeds(engines: Any) -> None:
    """5,760 tokens of prompts: read in parts, vLLM would turn back a generator that cannot be turned back."""
    given = [[20 + (7 * row + column) % 200 for column in range(120)] for row in range(48)]
    first, again = (engines[0].generate(given, Sampling(6), 3) for _ in range(2))
    assert all(generation.token_ids for generation in first)
    assert [g.token_ids for g in first] == [g.token_ids for g in again]
    assert len({tuple(g.token_ids) for g in first}) > 40


@pytest.mark.parametrize("budgets", BUDGETS)
@pytest.mark.parametrize("by_itself", [True, False])
def test_a_thinking_budget_closes_where_the_other_engine_closes(
    engines: Any, budgets: list[int | None], by_itself: bool
) -> None:
    """By vLLM's logits processor; in segments, as with an LLM that TRL has started without it."""
    ours, theirs = engines
    assert ours.leaves_budgets
    ours.leaves_budgets = by_itself
    assert_budgets_agree(ours, theirs, budgets)


def test_budgets_hold_while_requests_come_and_go(engines: Any) -> None:
    """More requests than run at once, each with its own budget and limit: places in the batch are given on."""
    ours, theirs = engines
    given = [[20 + (7 * row + column) % 200 for column in range(3 + row % 9)] for row in range(70)]
    budgets = [None if row % 7 == 6 else (row * 5) % 23 for row in range(70)]
    limits = [8 + (row * 11) % 30 for row in range(70)]
    found, expected = (
        engine.generate(given, GREEDY, 0, budgets=budgets, max_tokens=limits) for engine in (ours, theirs)
    )
    assert [(g.token_ids, g.forced) for g in found] == [(g.token_ids, g.forced) for g in expected]
    assert sum(any(generation.forced) for generation in found) > 30


def test_new_weights_are_what_it_generates_with(colocated: Any, engines: Any) -> None:
    ours, theirs = engines
    old = tokens(theirs.generate(prompts(ours), GREEDY, 0))
    perturb(colocated.model, 0.05)
    new = tokens(theirs.generate(prompts(ours), GREEDY, 0))
    assert all(mine != other for mine, other in zip(old, new, strict=True))
    assert tokens(ours.generate(prompts(ours), GREEDY, 0)) == old, (
        "the engine's weights are the trainer's own"
    )
    colocated.sync_weights()
    assert tokens(ours.generate(prompts(ours), GREEDY, 0)) == new


def test_after_every_optimizer_step_the_synced_engine_writes_what_the_trained_model_writes(
    colocated: Any, engines: Any
) -> None:
    """Prompts on both sides of a block of vLLM's prefix cache: what it keeps of the old weights must go."""
    ours, theirs = engines
    long = [20 + 7 * n % 200 for n in range(150)]
    given = [*prompts(ours), ours.tokenizer.encode("four five six\n"), long, long[:128] + long[:9]]
    optimizer = torch.optim.AdamW(colocated.model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(5)
    before = tokens(theirs.generate(given, GREEDY, 0))
    for _ in range(4):
        ids = torch.randint(20, 300, (4, 24), generator=generator)
        colocated.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        after = tokens(theirs.generate(given, GREEDY, 0))
        assert after != before, "the step must move the weights"
        assert tokens(ours.generate(given, GREEDY, 0)) == before, "not synced yet: the old weights"
        colocated.sync_weights()
        assert tokens(ours.generate(given, GREEDY, 0)) == after
        before = after


def test_an_adapter_is_merged_for_the_engine_and_taken_out_again(
    colocated: Any, engines: Any, sharp_folder: Path
) -> None:
    import peft

    ours, _ = engines
    settings = peft.LoraConfig(
        r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    torch.manual_seed(1)
    adapted = peft.get_peft_model(load_model(sharp_folder), settings)
    base = {name: weight.clone() for name, weight in adapted.named_parameters()}
    colocated.model = adapted
    theirs = TransformersEngine(adapted, ours.tokenizer, 8)
    plain = tokens(ours.generate(prompts(ours), GREEDY, 0))
    expected = tokens(theirs.generate(prompts(ours), GREEDY, 0))
    assert expected != plain
    colocated.sync_weights()
    assert tokens(ours.generate(prompts(ours), GREEDY, 0)) == expected
    for name, weight in adapted.named_parameters():
        torch.testing.assert_close(weight, base[name], atol=1e-6, rtol=0)


def test_sampling_is_the_same_for_the_same_seed_only(engines: Any) -> None:
    ours, _ = engines
    many = prompts(ours)[:1] * 4
    first = ours.generate(many, Sampling(16), 7)
    assert tokens(first) == tokens(ours.generate(many, Sampling(16), 7))
    assert tokens(first) != tokens(ours.generate(many, Sampling(16), 8))
    assert len({tuple(ids) for ids in tokens(first)}) > 1, "every prompt has a seed of its own"


def test_tokens_are_drawn_from_the_model_s_distribution(engines: Any) -> None:
    ours, theirs = engines
    prompt, count = prompts(ours)[1], 1500
    with torch.no_grad():
        logits = theirs.model(torch.tensor([prompt])).logits[0, -1].double()
    expected = (logits / 0.8).softmax(-1)
    drawn = ours.generate([prompt] * count, Sampling(1, temperature=0.8), 5)
    counts = torch.bincount(torch.tensor([g.token_ids[0] for g in drawn]), minlength=len(expected))
    # Pearson's statistic over the tokens that are expected five times or more, the rest taken together.
    often = expected * count >= 5
    parts = torch.stack([torch.cat([of[often], of[~often].sum()[None]]) for of in (counts, expected * count)])
    freedom = parts.shape[1] - 1
    assert freedom >= 20
    statistic = float(((parts[0] - parts[1]) ** 2 / parts[1]).sum())
    # Its mean is the degrees of freedom, its variance twice that: one run in thirty thousand is beyond.
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5
    for generation in drawn[:20]:
        (token,) = generation.token_ids
        assert generation.logprobs == [pytest.approx(math.log(expected[token]), abs=1e-4)]
    ranked, order = expected.sort(descending=True)
    nucleus = set(order[: int((ranked.cumsum(0) < 0.5).sum()) + 1].tolist())
    within = ours.generate([prompt] * 200, Sampling(1, temperature=0.8, top_p=0.5), 6)
    assert {g.token_ids[0] for g in within} <= nucleus


def test_limits_hold_and_the_end_of_turn_is_kept(engines: Any) -> None:
    ours, _ = engines
    limits = [1, 2, 3, *[64] * 21]
    found = ours.generate(prompts(ours) * 8, Sampling(64, temperature=2.0), 1, max_tokens=limits)
    assert any(generation.finished for generation in found)
    for generation, limit in zip(found, limits, strict=True):
        ended = generation.token_ids[-1] == ours.end_of_turn
        assert generation.finished == ended
        assert ours.end_of_turn not in generation.token_ids[:-1]
        assert len(generation.token_ids) == limit or ended
        assert len(generation.logprobs) == len(generation.forced) == len(generation.token_ids)


def test_a_temperature_that_vllm_refuses_is_told_as_a_setting(engines: Any) -> None:
    ours, _ = engines
    with pytest.raises(InputError, match=r"rollout.temperature = 3.0: vLLM takes 0 to 2"):
        ours.generate(prompts(ours), Sampling(4, temperature=3.0), 0)


def test_a_conversation_that_fills_the_context_scores_and_one_prompt_too_long_for_all_stops(
    engines: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, _ = engines
    full, nearly = [5] * 192, [5] * 184
    found = ours.generate([full, nearly], Sampling(32, temperature=0.0), 0)
    assert (found[0].token_ids, found[0].finished) == ([], False)
    assert len(found[1].token_ids) <= 8
    assert "1 of 2 prompts (up to 192 tokens)" in capsys.readouterr().err
    with pytest.raises(InputError, match="vllm_max_model_tokens = 192: every prompt"):
        ours.generate([full], GREEDY, 0)


def test_a_suite_scores_the_same_on_either_engine(engines: Any) -> None:
    suite = SuiteConfig(
        environment="repeat",
        items=6,
        options={"most": 1, "longest": 1},
        max_completion_tokens=16,
        budgets=[2, 5],
    )
    ours, theirs = (evaluate_suite("repeat", suite, engine, engine.tokenizer, 0) for engine in engines)
    assert len(ours.items) == 12
    assert [row["completion"] for row in ours.completions] == [
        row["completion"] for row in theirs.completions
    ]
    assert ours.scores == theirs.scores


def test_the_dtype_follows_what_the_hardware_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for flags, dtype in (
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert engine_dtype() == dtype
        assert computes_bfloat16("auto") == (dtype == "bfloat16")
        assert computes_bfloat16("bfloat16")
        assert not computes_bfloat16("float32")


def perturb(model: Any, size: float) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
