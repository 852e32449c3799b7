"""What TRL's policy optimisation is told, in its words."""

import torch
from datasets import Dataset
from trl import GRPOConfig

from alloy.artifact import Run, world_size
from alloy.divisions import launched_by
from alloy.errors import InputError
from alloy.rl_config import PolicyOptimisationConfig
from alloy.training import common_arguments


def placeholders(config: PolicyOptimisationConfig) -> Dataset:
    """As many prompts as TRL counts off; which task stands behind each is decided when it is rolled out."""
    rollout = config.rollout
    batches = -(-config.train.max_steps // (rollout.updates * rollout.passes))
    return Dataset.from_dict({"prompt": [""] * (batches * config.prompts_per_step * rollout.updates)})


def check_launch(config: PolicyOptimisationConfig) -> None:
    """Whether a config fits the processes and the devices that it was launched with.

    Raises:
        InputError: it does not; asked before a run's folder is touched.
    """
    world, micro = world_size(), config.train.per_device_batch_size
    if config.prompts_per_step % world:
        raise InputError(
            f"prompts_per_step = {config.prompts_per_step}: no multiple of the {world} processes, and a "
            "group is never divided among them. Change one of the two."
        )
    per_step = config.prompts_per_step * config.group_size
    if per_step % (micro * world):
        raise InputError(
            f"prompts_per_step x group_size = {per_step} is no multiple of train.per_device_batch_size x "
            f"processes = {micro} x {world}. Lower train.per_device_batch_size."
        )
    few = [label for label, given in config.environments.items() if given.tasks < world]
    if few:
        raise InputError(
            f"environments.{few[0]}.tasks = {config.environments[few[0]].tasks}: fewer than the {world} "
            "processes. Raise it."
        )
    if config.rollout.engine == "transformers" and launched_by("FSDP"):
        raise InputError(
            "rollout.engine = transformers: under FSDP a process puts a layer together only when all others do, "
            "and completions differ in length. Set rollout.engine=vllm, or launch with ddp, zero2 or zero3."
        )
    if config.rollout.engine == "vllm-server" and not torch.cuda.is_available():
        raise InputError(
            "rollout.engine = vllm-server: the server is given new weights over NCCL, which needs a GPU here. "
            "Set rollout.engine=vllm, which runs on a CPU too."
        )


def to_trl(config: PolicyOptimisationConfig, run: Run) -> GRPOConfig:
    """The one place that knows TRL's names for policy optimisation."""
    loss, rollout = config.loss, config.rollout
    world, micro = world_size(), config.train.per_device_batch_size
    per_step = config.prompts_per_step * config.group_size
    accumulation = per_step // (micro * world)
    arguments = common_arguments(config, run)
    arguments["gradient_accumulation_steps"] = accumulation
    arguments |= {
        "num_generations": config.group_size,
        "steps_per_generation": accumulation * rollout.updates,
        "num_iterations": rollout.passes,
        "max_completion_length": rollout.max_completion_tokens * rollout.max_turns,
        "temperature": rollout.temperature,
        "beta": loss.kl_coef,
        "epsilon": loss.clip_low,
        "epsilon_high": loss.clip_high,
        "loss_type": loss.kind,
        "scale_rewards": loss.scale_rewards,
        "vllm_importance_sampling_correction": loss.importance != "none",
        "shuffle_dataset": False,
        "disable_dropout": True,
        # On a CPU the trainer is given its engine after it is made: TRL's own start needs a GPU.
        "use_vllm": rollout.engine == "vllm" and torch.cuda.is_available(),
        "log_completions": False,
    }
    if loss.importance != "none":
        arguments |= {
            "vllm_importance_sampling_mode": loss.importance,
            "vllm_importance_sampling_clip_min": loss.importance_min,
            "vllm_importance_sampling_clip_max": loss.importance_max,
        }
    if rollout.engine == "vllm-server":
        arguments |= {
            "use_vllm": True,
            "vllm_mode": "server",
            "vllm_server_base_url": rollout.server_url,
            "vllm_server_timeout": rollout.server_timeout_seconds,
        }
    elif arguments["use_vllm"]:
        arguments |= {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": rollout.vllm_memory_share,
            "vllm_max_model_length": rollout.vllm_max_model_tokens,
        }
    return GRPOConfig(**arguments)
