"""Operations against those that torch counts, and times by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, NemotronHConfig, Qwen3Config

from alloy.config import LoraConfig
from alloy.plan.architectures import shape_of
from alloy.plan.compute import (
    compute_of,
    sampling_operations,
    sampling_seconds,
    scoring_operations,
    training_operations,
)
from alloy.plan.disk import disk_of
from alloy.plan.launch import Launch
from alloy.plan.work import Sampling, Scoring, Training, Work
from sft.config import SftConfig

TINY = {
    "model_type": "llama", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 6, "tie_word_embeddings": True,
}  # fmt: skip
SHAPE = shape_of(TINY, "x")
TRAINING = Training(
    steps=10, rows=2, length=8, micro_batches=3, precision="float32", attention="documents",
    checkpointing=False, optimizer="adamw",
)  # fmt: skip
SAMPLING = Sampling(
    "rollouts", completions=6, prompt=4, completion=8, rows=2, engine="transformers", memory_share=0.3,
    beside_training=True,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "qwen3", "nemotron_h"])
def test_a_forward_pass_has_as_many_operations_as_torch_counts(kind: str) -> None:
    """torch counts attention's whole square; a causal model needs half of it."""
    common = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 48}  # fmt: skip
    configs: dict[str, Any] = {
        "llama": LlamaConfig(**common, num_hidden_layers=3),
        "qwen3": Qwen3Config(**common, num_hidden_layers=3, head_dim=16),
        "nemotron_h": NemotronHConfig(**common, hybrid_override_pattern="*-*", head_dim=16),
    }
    model = AutoModelForCausalLM.from_config(configs[kind], attn_implementation="eager").eval()
    tokens, counter = 24, FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(input_ids=torch.zeros((1, tokens), dtype=torch.long), use_cache=False)
    shape = shape_of(configs[kind].to_dict(), "x")
    other_half = sum(
        2 * layer.queries * tokens * tokens for layer in shape.layers if hasattr(layer, "queries")
    )
    # The rotation's own small product of frequencies and positions is counted, too.
    rotation = 0 if kind == "nemotron_h" else 2 * tokens * (16 if kind == "qwen3" else 8) // 2
    planned = tokens * (shape.operations(tokens) + shape.head_operations) + other_half + rotation
    assert planned == counter.get_total_flops()


def test_a_token_by_hand() -> None:
    attention = 2 * 48 + 4 * 4 * 4  # matrices of 16 + 8 + 8 + 16; four queries that see four of eight
    assert SHAPE.operations(8) == 2 * (attention + 2 * 72)
    assert SHAPE.head_operations == 80


def test_experts_that_are_not_chosen_cost_nothing() -> None:
    moe = shape_of(
        {**TINY, "model_type": "qwen3_moe", "head_dim": 2, "num_experts": 6, "num_experts_per_tok": 2,
         "moe_intermediate_size": 5},
        "x",
    )  # fmt: skip
    router, experts = 6 * 4, 2 * 3 * 4 * 5
    assert moe.operations(8) == 2 * (2 * 48 + 64 + 2 * (router + experts))


def test_mamba_by_hand() -> None:
    hybrid = shape_of(
        {"model_type": "nemotron_h", "vocab_size": 10, "hidden_size": 8, "hybrid_override_pattern": "M",
         "num_attention_heads": 2, "mamba_num_heads": 4, "mamba_head_dim": 4, "n_groups": 2,
         "ssm_state_size": 3, "conv_kernel": 4, "chunk_size": 16},
        "x",
    )  # fmt: skip
    projected, convolved, inner = 16 + 28 + 4, 28, 16
    matrices = 8 * projected + inner * 8
    within = 16 * (2 * 3 + inner)  # scores by group and their product, of half a chunk of 16
    assert hybrid.operations(64) == 2 * matrices + 2 * convolved * 4 + within + 4 * inner * 3


def test_training_is_three_times_forward() -> None:
    tokens = 10 * 3 * 2 * 8 * 4
    launch = Launch(devices=4)
    forward = tokens * (SHAPE.operations(8) + 80)
    assert TRAINING.tokens(4) == tokens
    assert training_operations(TRAINING, SHAPE, launch) == 3 * forward
    # What checkpointing computes again is no work of the model's.
    assert training_operations(replace(TRAINING, checkpointing=True), SHAPE, launch) == 3 * forward
    # Where the head reads two of eight positions.
    some = training_operations(replace(TRAINING, scored=2), SHAPE, launch)
    assert some == 3 * (tokens * SHAPE.operations(8) + tokens / 4 * 80)


def test_an_adapter_needs_no_gradients_of_what_is_frozen() -> None:
    lora = replace(TRAINING, lora=LoraConfig(rank=3))
    tokens = TRAINING.tokens(1)
    expected = 2 * tokens * (SHAPE.operations(8) + 80) + 3 * tokens * 2 * 348
    assert training_operations(lora, SHAPE, Launch()) == expected


def test_times() -> None:
    launch = Launch(devices=2, flops=1e6, mfu=0.5)
    scoring = Scoring("the reference", "policy", tokens=100, rows=2, length=8)
    found = compute_of(Work(training=TRAINING, scoring=(scoring,)), SHAPE, launch)
    assert found.scoring == scoring_operations(scoring, SHAPE) == 100 * (SHAPE.operations(8) + 80)
    assert found.training_seconds == (found.training + found.scoring) / (1e6 * 0.5 * 2)
    assert (found.trained, found.scored, found.sampled) == (TRAINING.tokens(2), 100, 0)


def test_sampling_waits_for_memory_or_for_the_multiplier() -> None:
    # A step reads the weights and two rows' keys and values at four of eight tokens behind a prompt of four.
    read = 4 * 300 + 2 * 8 * 2 * (2 + 2) * 4
    slow_memory = Launch(flops=1e15, bandwidth=1000, mbu=0.5)
    seconds = sampling_seconds(SAMPLING, SHAPE, slow_memory)
    assert seconds == pytest.approx(6 / 2 * 8 * read / 500, rel=1e-6)
    slow_multiplier = Launch(flops=1000, mfu=0.5, bandwidth=1e15)
    prompts = 2 * 4 * SHAPE.operations(4)
    step = 2 * (SHAPE.operations(8) + 80)
    expected = 3 * (prompts + 8 * step) / 500
    assert sampling_seconds(SAMPLING, SHAPE, slow_multiplier) == pytest.approx(expected)
    # Two devices halve it where the completions are divided among them.
    two = replace(slow_memory, devices=2)
    assert sampling_seconds(SAMPLING, SHAPE, two) == pytest.approx(seconds / 2)
    assert sampling_seconds(replace(SAMPLING, divided=False), SHAPE, two) == pytest.approx(seconds)
    # vLLM's weights and cache are of bfloat16.
    assert sampling_seconds(replace(SAMPLING, engine="vllm"), SHAPE, slow_memory) == pytest.approx(
        seconds / 2
    )


def test_sampled_tokens_see_prompt_and_completion() -> None:
    expected = 6 * (4 * SHAPE.operations(4) + 8 * (SHAPE.operations(12) + 80))
    assert sampling_operations(SAMPLING, SHAPE) == expected


def config(**train: Any) -> SftConfig:
    return SftConfig.model_validate(
        {
            "data": {"sources": [{"environment": "math", "rows": 10}]},
            "optim": {"learning_rate": 1e-4},
            "train": {"max_steps": 10, **train},
        }
    )


def test_disk() -> None:
    work = Work(training=TRAINING)
    assert disk_of(config(), work, SHAPE, Launch()).stays == 1200
    assert disk_of(config(), work, SHAPE, Launch()).passes == 0
    # Two kept and one more while it is written: weights and two moments each.
    saved = disk_of(config(save_steps=5), work, SHAPE, Launch())
    assert saved.passes == 3 * (1200 + 2400)
    # Divided states are saved by every device; bfloat16 weights with float32 ones beside the moments.
    bfloat16 = Work(training=replace(TRAINING, precision="bfloat16"), candidates=2)
    zero3 = disk_of(config(save_steps=5), bfloat16, SHAPE, Launch(devices=4, sharding="zero3"))
    assert zero3.stays == 600
    assert zero3.passes == pytest.approx(2 * 1200 + 3 * (600 + 3600))
    # An adapter's checkpoints hold the adapter; a reward model is one score wider and a head narrower.
    lora = Work(training=replace(TRAINING, lora=LoraConfig(rank=3)), makes="scorer")
    saved = disk_of(config(save_steps=5, keep_checkpoints=1), lora, SHAPE, Launch())
    assert (saved.stays, saved.passes) == (4 * 304, 2 * 12 * 348)
    assert disk_of(config(), Work(models=3), SHAPE, Launch()).stays == 3600
