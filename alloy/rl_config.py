"""The settings of group-relative policy optimisation; imports no torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, TrainingConfig
from alloy.environments.registry import fingerprint_environment


def divide(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole numbers in the ratio of the shares that sum to `total` (largest remainder)."""
    whole = sum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: counts[n] - exact[n])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


class EngineConfig(Config):
    """What completions are made with."""

    engine: Literal["transformers", "vllm"] = "transformers"
    batch_size: int = Field(default=128, gt=0)
    """Completions that are decoded at once."""
    vllm_memory_share: float = Field(default=0.3, gt=0, le=1)
    """Of a GPU."""
    vllm_max_model_tokens: int = Field(default=2048, gt=0)
    """Of a prompt and its completion together."""


class RolloutConfig(EngineConfig):
    """How completions are made."""

    max_completion_tokens: int = Field(gt=0)
    """Of one turn."""
    max_turns: int = Field(1, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    thinking_share: float = Field(1.0, ge=0, le=1)
    """Of the prompts; the others are rolled out with thinking off."""
    thinking_budget: int | None = Field(None, ge=0)
    """Tokens; unlimited when not given."""
    grace_tokens: int = Field(500, ge=0)


class LossConfig(Config):
    """The policy loss. The defaults are the DAPO-style settings that Nemotron 3's public recipe uses."""

    kind: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo"] = "dapo"
    kl_coef: float = Field(default=0.0, ge=0)
    """Of the KL to the parent."""
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.28, gt=0)
    scale_rewards: Literal["group", "batch", "none"] = "group"
    mask_unfinished: bool = False
    """Whether a completion that ran into its limit carries no loss (it still counts in the baseline)."""


class EnvironmentConfig(Config):
    """Tasks of one environment in the blend."""

    share: float = Field(1.0, gt=0)
    """Of every batch, relative to the others'."""
    tasks: int = Field(gt=0)
    """How many different ones are drawn; they are repeated when they run out."""
    options: dict[str, Any] = Field(default_factory=dict)


class PolicyOptimisationConfig(TrainingConfig):
    """What GRPO and RLHF have in common."""

    environments: dict[str, EnvironmentConfig] = Field(min_length=1)
    rollout: RolloutConfig
    loss: LossConfig = LossConfig()
    prompts_per_step: int = Field(gt=0)
    group_size: int = Field(gt=1)
    """Completions of one prompt."""

    @model_validator(mode="after")
    def _whole_batches(self) -> "PolicyOptimisationConfig":
        total, micro = self.prompts_per_step * self.group_size, self.train.per_device_batch_size
        if total % micro:
            raise ValueError(
                f"prompts_per_step x group_size = {total} is no multiple of train.per_device_batch_size = {micro}"
            )
        without = [name for name, count in divide(self.prompts_per_step, self.shares()).items() if not count]
        if without:
            raise ValueError(
                f"{without[0]} would have no prompt in a batch of {self.prompts_per_step}: raise its share or "
                "prompts_per_step"
            )
        if self.train.gradient_accumulation_steps != 1:
            raise ValueError(
                "train.gradient_accumulation_steps follows from prompts_per_step, group_size and "
                "train.per_device_batch_size here: leave it out"
            )
        return self

    def data_fingerprint(self) -> str:
        return fingerprint_json([fingerprint_environment(name) for name in self.environments])

    def shares(self) -> dict[str, float]:
        return {name: environment.share for name, environment in self.environments.items()}

    def options(self) -> dict[str, dict[str, Any]]:
        return {name: environment.options for name, environment in self.environments.items()}
