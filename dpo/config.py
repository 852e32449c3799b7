"""The config of an iterated DPO stage; imports no torch."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from alloy.artifact import fingerprint_json
from alloy.config import Config, TrainingConfig
from alloy.environments.registry import fingerprint_environment
from alloy.rl_config import RolloutConfig, refuse_server


class DpoEnvironmentConfig(Config):
    """The world whose end state decides."""

    name: str = "workplace"
    options: dict[str, Any] = Field(default_factory=dict)


class PairingConfig(Config):
    """How successes and failures of one task become pairs."""

    pairs_per_task: int = Field(default=2, gt=0)
    min_tokens: int = Field(default=2, ge=1)
    """A completion with fewer tokens of its own is trivial and is not paired."""


class DpoConfig(TrainingConfig):
    """DPO repeated on rollouts of the current policy; `train.max_steps` counts one iteration's updates."""

    environment: DpoEnvironmentConfig = DpoEnvironmentConfig()
    rollout: Annotated[RolloutConfig, AfterValidator(refuse_server)]
    pairing: PairingConfig = PairingConfig()
    iterations: int = Field(2, gt=0)
    tasks: int = Field(gt=0)
    """Sampled in an iteration; every iteration draws new ones."""
    rollouts_per_task: int = Field(4, gt=1)
    validation_tasks: int = Field(gt=0)
    """Held out; the iteration kept is the best on them."""
    beta: float = Field(0.1, gt=0)
    sft_weight: float = Field(0.2, ge=0)
    """Of the SFT term on the chosen completions. Source: Nemotron 3 Nano: 0.2."""

    def data_fingerprint(self) -> str:
        return fingerprint_json([fingerprint_environment(self.environment.name, self.environment.options)])
