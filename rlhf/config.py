"""The configs of the two stages of RLHF; imports no torch."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from alloy.artifact import fingerprint_files
from alloy.config import Config, TrainingConfig
from alloy.environments.registry import fingerprint_environment
from alloy.rl_config import PolicyOptimisationConfig


class PreferenceConfig(Config):
    """Where preference pairs come from: the chat environment, or a JSONL file."""

    environment: str | None = None
    """One that makes pairs: `chat`."""
    options: dict[str, Any] = Field(default_factory=dict)
    noise: float = Field(0.25, gt=0)
    """Temperature of the environment's Bradley-Terry choice on the true quality."""
    path: Path | None = None
    """JSONL with `prompt`, `chosen`, `rejected` (text or turns), and `margin` where there is one."""
    pairs: int = Field(gt=0)
    held_out: int = Field(gt=0)
    """Pairs that only measure; of other templates where an environment makes them."""

    @model_validator(mode="after")
    def _one_origin(self) -> "PreferenceConfig":
        if (self.environment is None) == (self.path is None):
            raise ValueError("preferences come from an environment or from a path: give exactly one")
        return self


class RewardModelConfig(TrainingConfig):
    """A Bradley-Terry reward model."""

    data: PreferenceConfig

    def data_fingerprint(self) -> str:
        if self.data.environment is not None:
            return fingerprint_environment(self.data.environment)
        return fingerprint_files([self.data.path] if self.data.path and self.data.path.is_file() else [])


class RlhfConfig(PolicyOptimisationConfig):
    """GRPO whose reward is the reward model's score of the answer."""

    PARENTS = {"parent": ("policy",), "reward_model": ("reward-model",)}

    reward_model: str | None = None
    """A run folder or a model folder; from `needs` in pipeline.yaml when not given."""
    hide_thinking: bool = True
    """Whether the reward model sees the answer only."""
    unfinished_reward: float = -2.0
    """Of a completion that ran into its limit, in standard deviations of the scores below the mean."""
    validation_prompts: int = Field(100, gt=0)
    """Held out; scored before and after with thinking on and off."""

    @model_validator(mode="before")
    @classmethod
    def _unfinished_completions_learn(cls, values: Any) -> Any:
        """`unfinished_reward` is there for them, so that they carry loss unless the config says otherwise."""
        if isinstance(values, dict) and isinstance(values.get("loss", {}), dict):
            return {**values, "loss": {"mask_unfinished": False, **values.get("loss", {})}}
        return values

    @model_validator(mode="after")
    def _scores_are_no_pass_rates(self) -> "RlhfConfig":
        if self.curriculum is not None:
            raise ValueError(
                "curriculum: it draws by pass rate, and a reward model's score is none. Leave it out"
            )
        return self
