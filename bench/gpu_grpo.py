"""GRPO: completions rolled out and trained on a second, one update after the other."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.gpu_child import plain, tuned
from bench.gpu_environment import CoinEnvironment, rewards
from bench.gpu_sizes import Sizes

MICRO = 16
"""Completions that pass at once, at most."""


def measure(system: str, sizes: Sizes, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """One run: `rate` in completions a second, by the time that TRL's trainer, which both sides are, logs of itself."""
    logged, settings = (ours if system == "ours" else trl)(system, sizes, model, folder, seed)
    timed = logged[sizes.warm :]
    seconds = sum(row["step_time"] for row in timed)
    per_step = sizes.prompts * sizes.group
    return {
        "rate": len(timed) * per_step / seconds,
        "seconds": seconds,
        "completion_tokens": fmean(row["completions/mean_length"] for row in timed),
        "settings": settings,
    }


def engine() -> str:
    """vLLM beside the trainer on a GPU where it is installed."""
    from importlib.util import find_spec

    import torch

    return "vllm" if torch.cuda.is_available() and find_spec("vllm") is not None else "transformers"


def config(sizes: Sizes, model: Path, folder: Path, seed: int) -> Any:
    from alloy.config import parse
    from grpo.config import GrpoConfig

    values = {
        "model": str(model), "output": str(folder / "run"), "seed": seed,
        "environments": {"coin": {"environment": "bench.gpu_environment:CoinEnvironment",
                                  "tasks": sizes.prompts * sizes.steps}},
        # With thinking all of a completion would be thinking that is never closed.
        "rollout": {"max_completion_tokens": sizes.completion, "engine": engine(), "thinking_share": 0,
                    "vllm_max_model_tokens": 512 + sizes.completion},
        # Completions of random weights never end.
        "loss": {"mask_unfinished": False},
        "prompts_per_step": sizes.prompts, "group_size": sizes.group, "optim": {"learning_rate": 1e-5},
        "train": {"max_steps": sizes.steps, "per_device_batch_size": min(MICRO, sizes.prompts * sizes.group)},
        "logging": {"every_steps": 1, "tensorboard": False},
    }  # fmt: skip
    return parse(GrpoConfig, values, "bench.gpu")


def ours(
    _: str, sizes: Sizes, model: Path, folder: Path, seed: int
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The stage itself."""
    import grpo

    given = config(sizes, model, folder, seed)
    grpo.run(given)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "step_time" in row]
    return rows, {"engine": given.rollout.engine}


def trl(
    system: str, sizes: Sizes, model: Path, folder: Path, seed: int
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """TRL's trainer on the same prompts, loss and engine; `trl tuned` with Alloy's settings."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from alloy.device import settle
    from alloy.policy import load_tokenizer
    from alloy.template import encode_prompt
    from grpo.plan import work

    settled = settle(config(sizes, model, folder, seed), work)
    tokenizer = load_tokenizer(model)
    tasks = CoinEnvironment().tasks("train", sizes.prompts * sizes.steps, seed)
    prompts = [tokenizer.decode(encode_prompt(tokenizer, task.messages, task.tools, False)) for task in tasks]
    micro = settled.train.per_device_batch_size
    vllm = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3,
            "vllm_max_model_length": settled.rollout.vllm_max_model_tokens}  # fmt: skip
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=rewards,
        args=GRPOConfig(
            **plain(folder / "trl", sizes, seed),
            **(tuned(settled) if system == "trl tuned" else {}),
            **(vllm if settled.rollout.engine == "vllm" else {}),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=sizes.prompts * sizes.group // micro,
            num_generations=sizes.group,
            max_completion_length=sizes.completion,
            beta=0.0,
            loss_type="dapo",
            epsilon_high=0.28,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "step_time" in row]
    return rows, {"engine": settled.rollout.engine}
