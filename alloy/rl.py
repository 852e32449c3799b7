"""Group-relative policy optimisation on TRL, shared by grpo/ and rlhf/: there is one RL loop.

TRL's GRPOTrainer keeps what it does well: grouping, advantages, the clipped loss, importance
correction, distribution. What Alloy is for is handed in from outside: rollouts (`roll_out`: worlds,
thinking on and off, budgets), verdicts, and which prompts stand in a batch.
"""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from alloy.artifact import Run
from alloy.environments.registry import Environments
from alloy.environments.task import Task
from alloy.errors import InputError
from alloy.policy import lora_to_peft
from alloy.rl_config import PolicyOptimisationConfig, divide
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Engine, Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.training import RunCallback, common_arguments, equip

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Score = Callable[[Sequence[Rollout]], list[float | None]]
"""Rewards of rollouts, in their order; None where the verifier itself failed."""


@dataclass
class PromptPool:
    """The prompts of a run in the order they are trained on: a fixed ratio of environments in every batch."""

    tasks: list[Task]
    thinking: list[bool]

    def dataset(self) -> Dataset:
        # TRL hands a rollout function nothing but the prompt, so the prompt is the index of its task.
        return Dataset.from_dict({"prompt": [str(index) for index in range(len(self.tasks))]})


def blend_prompts(
    by_environment: dict[str, list[Task]],
    shares: dict[str, float],
    prompts_per_step: int,
    steps: int,
    thinking_share: float,
    seed: int,
) -> PromptPool:
    """Lay out every step's prompts: each environment's share in each of them, rounded by largest remainder.

    A pool that runs out begins again in another order.
    """
    rng = random.Random(f"{seed}/prompts")
    counts = divide(prompts_per_step, shares)
    queues: dict[str, list[Task]] = {name: [] for name in shares}
    pool = PromptPool([], [])
    for _ in range(steps):
        for name, count in counts.items():
            for _ in range(count):
                if not queues[name]:
                    queues[name] = rng.sample(by_environment[name], len(by_environment[name]))
                pool.tasks.append(queues[name].pop())
                pool.thinking.append(rng.random() < thinking_share)
    return pool


def draw_tasks(config: PolicyOptimisationConfig, environments: Environments) -> dict[str, list[Task]]:
    """The training tasks of every environment in a config, by its name."""
    return {
        name: environments[name].tasks("train", given.tasks, config.seed)
        for name, given in config.environments.items()
    }


class PolicyTrainer(GRPOTrainer):
    """TRL's trainer, whose completions come from `roll_out` and whose rewards from `score`."""

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        config: PolicyOptimisationConfig,
        run: Run,
        tasks: dict[str, list[Task]],
        environments: Environments,
        score: Score,
    ) -> None:
        self.alloy_config = config
        self.run = run
        self.pool = blend_prompts(
            tasks,
            config.shares(),
            config.prompts_per_step,
            config.train.max_steps,
            config.rollout.thinking_share,
            config.seed,
        )
        self.alloy_environments = environments
        self.score = score
        self.plan = RolloutPlan(
            Sampling(config.rollout.max_completion_tokens, config.rollout.temperature, config.rollout.top_p),
            config.rollout.max_turns,
            config.rollout.thinking_budget,
        )
        super().__init__(
            model=model,
            args=to_trl(config, run),
            # One function an environment: TRL then logs each reward under its name.
            reward_funcs=[_reward_function(name, self) for name in environments],
            train_dataset=self.pool.dataset(),
            processing_class=tokenizer,
            peft_config=lora_to_peft(config.lora),
            rollout_func=lambda prompts, trainer: self.rollouts_of(prompts),
            callbacks=[RunCallback(run)],
        )
        equip(self, config.optim)
        if config.rollout.engine == "vllm" and not self.use_vllm:
            self._colocate_on_cpu()

    def _colocate_on_cpu(self) -> None:
        from alloy.rollout.vllm_colocated import CloseAtEnd, ColocatedVllm

        rollout = self.alloy_config.rollout
        self.vllm_generation = ColocatedVllm(self.model, self.accelerator, self.processing_class, rollout)
        self._last_loaded_step = -1
        self.use_vllm = True
        self.add_callback(CloseAtEnd(self.vllm_generation))

    def rollouts_of(self, prompts: Sequence[str]) -> dict[str, Any]:
        """TRL's rollout function: prompts (indices of tasks, each repeated for its group) to token ids."""
        indices = [int(prompt) for prompt in prompts]
        seed = self.alloy_config.seed + 7919 * (self.state.global_step + 1) + self.accelerator.process_index
        with _EngineContext(self) as engine:
            rollouts = roll_out(
                [self.pool.tasks[i] for i in indices],
                [self.pool.thinking[i] for i in indices],
                engine,
                self.processing_class,
                self.alloy_environments,
                self.plan,
                seed,
            )
        rewards = self.score(rollouts)
        self._log_rollouts(rollouts, rewards)
        return {
            "prompt_ids": [r.prompt_ids for r in rollouts],
            "completion_ids": [r.token_ids for r in rollouts],
            "logprobs": None if not self.use_vllm else [r.logprobs for r in rollouts],
            "env_mask": [r.completion_mask for r in rollouts],
            "environment": [r.task.environment for r in rollouts],
            "alloy_reward": rewards,
        }

    def _log_rollouts(self, rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> None:
        step = self.state.global_step
        failed = sum(reward is None for reward in rewards)
        self._log_metric("verifier/failed_share", failed / len(rollouts))
        for name, on in (("thinking_on", True), ("thinking_off", False)):
            mine = [r for r in rollouts if r.thinking is on]
            if mine:
                self._log_metric(f"tokens/{name}", sum(sum(r.completion_mask) for r in mine) / len(mine))
        if step % self.alloy_config.logging.every_steps == 0:
            every = max(1, len(rollouts) // 4)
            shown = list(zip(rollouts, rewards, strict=True))[::every][:4]
            self.run.sample(sample_row(r, self.processing_class, step, score=reward) for r, reward in shown)


class _EngineContext:
    """The engine for one generation: the live model, gathered where it is sharded, or vLLM in step with it."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer
        self.context: Any = None

    def __enter__(self) -> Engine:
        trainer = self.trainer
        rollout = trainer.alloy_config.rollout
        if trainer.use_vllm:
            from alloy.rollout.vllm_engine import VllmEngine

            if trainer.state.global_step != trainer._last_loaded_step:
                trainer.vllm_generation.sync_weights()
                trainer._last_loaded_step = trainer.state.global_step
            return VllmEngine(trainer.vllm_generation.llm, trainer.processing_class, rollout.grace_tokens)
        self.context = unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)
        model = self.context.__enter__()
        return TransformersEngine(model, trainer.processing_class, rollout.batch_size, rollout.grace_tokens)

    def __exit__(self, *error: Any) -> None:
        if self.context is not None:
            self.context.__exit__(*error)


def _reward_function(name: str, trainer: PolicyTrainer) -> Callable[..., list[float | None]]:
    def reward(*, environment: list[str], alloy_reward: list[float | None], **_: Any) -> list[float | None]:
        return [
            value if mine == name else None for mine, value in zip(environment, alloy_reward, strict=True)
        ]

    reward.__name__ = name
    return reward


def to_trl(config: PolicyOptimisationConfig, run: Run) -> GRPOConfig:
    """The one place that knows TRL's names for policy optimisation."""
    loss = config.loss
    per_step = config.prompts_per_step * config.group_size
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = config.train.per_device_batch_size
    if per_step % (micro * world):
        raise InputError(
            f"prompts_per_step x group_size = {per_step} is no multiple of train.per_device_batch_size x "
            f"processes = {micro} x {world}. Lower train.per_device_batch_size."
        )
    arguments = common_arguments(config, run)
    arguments["gradient_accumulation_steps"] = per_step // (micro * world)
    arguments |= {
        "num_generations": config.group_size,
        "generation_batch_size": per_step,
        "max_completion_length": config.rollout.max_completion_tokens * config.rollout.max_turns,
        "temperature": config.rollout.temperature,
        "beta": loss.kl_coef,
        "epsilon": loss.clip_low,
        "epsilon_high": loss.clip_high,
        "loss_type": loss.kind,
        "scale_rewards": loss.scale_rewards,
        "mask_truncated_completions": loss.mask_unfinished,
        "shuffle_dataset": False,
        "disable_dropout": True,
        # On a CPU the trainer is given its engine after it is made: TRL's own start needs a GPU.
        "use_vllm": config.rollout.engine == "vllm" and torch.cuda.is_available(),
        "log_completions": False,
    }
    if arguments["use_vllm"]:
        arguments |= {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": config.rollout.vllm_memory_share,
            "vllm_max_model_length": config.rollout.vllm_max_model_tokens,
        }
    return GRPOConfig(**arguments)


def first_metrics(history: Sequence[dict[str, Any]], key: str, count: int = 3) -> tuple[float, float]:
    """The mean of a logged number over its first and its last entries."""
    values = [float(entry[key]) for entry in history if key in entry and entry[key] == entry[key]]
    if not values:
        return 0.0, 0.0
    return sum(values[:count]) / len(values[:count]), sum(values[-count:]) / len(values[-count:])
