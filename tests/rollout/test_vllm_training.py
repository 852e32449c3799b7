"""GRPO with vLLM in the same process: two steps through the stage, on the CPU."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

import grpo
from alloy.base import ModelShape
from alloy.build_base import random_model, train_tokenizer
from alloy.environments.registry import make_environment
from alloy.policy import load_model, save_policy
from alloy.rollout.vllm_process import engine_dtype

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")


def test_two_steps_stay_in_step_with_the_weights(tmp_path: Path) -> None:
    tasks = make_environment("math").tasks("train", 50, 0)
    texts = [turn["content"] for task in tasks for turn in [*task.messages, *task.demonstration]]
    tokenizer = train_tokenizer(texts, 400)
    torch.manual_seed(0)
    model = random_model(
        ModelShape(hidden_size=64, layers=2, heads=2, mlp_size=128, max_positions=256), tokenizer
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    save_policy(model, tokenizer, tmp_path / "parent")
    config = grpo.CONFIG.model_validate(
        {
            "output": str(tmp_path / "micro" / "grpo"),
            "parent": str(tmp_path / "parent"),
            "environments": {"math": {"tasks": 8}},
            "rollout": {
                "engine": "vllm",
                "max_completion_tokens": 8,
                "batch_size": 8,
                "vllm_max_model_tokens": 192,
            },
            "prompts_per_step": 2,
            "group_size": 2,
            # Random weights win nothing: it is the decay that moves them between the two steps.
            "optim": {
                "learning_rate": 0.05,
                "weight_decay": 1.0,
                "scheduler": "constant",
                "warmup_ratio": 0.0,
            },
            "train": {"max_steps": 2, "per_device_batch_size": 4},
            "logging": {"every_steps": 1, "tensorboard": False},
        }
    )
    artifact = grpo.run(config)
    assert artifact.kind == "policy"
    lines = [json.loads(line) for line in (artifact.folder / "metrics.jsonl").read_text().splitlines()]
    apart = [line["sampling/sampling_logp_difference/mean"] for line in lines if "reward" in line]
    assert len(apart) == 2
    # In float32 both compute the same; a step behind, they would be about 0.1 apart.
    assert max(apart) < (1e-3 if engine_dtype() == "float32" else 0.2)
    before, after = (
        load_model(p).get_input_embeddings().weight for p in (tmp_path / "parent", artifact.model)
    )
    torch.testing.assert_close(after, before * 0.95**2)
    assert not torch.distributed.is_initialized()
