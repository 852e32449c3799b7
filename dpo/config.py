"""The config of an iterated DPO stage; imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, TrainingConfig
from alloy.environments.enough import Wanted, refuse_too_few
from alloy.environments.registry import fingerprint_environment
from alloy.rl_config import RolloutConfig, refuse_server


class DpoEnvironmentConfig(Config):
    """A world whose end state decides, or any other environment whose verdict does."""

    environment: str | None = None
    """Its name; the key it stands under when not given, so that one environment can be there twice."""
    tasks: int = Field(gt=0)
    """Sampled in an iteration; every iteration draws new ones."""
    validation_tasks: int = Field(gt=0)
    """Held out; the iteration kept is the best on them."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    system: str | None = None
    """A system prompt that replaces the tasks' own."""


class PairingConfig(Config):
    """How successes and failures of one task become pairs."""

    by: Literal["random", "closest", "shortest"] = "random"
    """`closest`: those that share most of what was written, so that the difference is what decided;
    `shortest`: the shortest successes first."""
    pairs_per_task: int = Field(default=2, gt=0)
    """At most."""
    min_tokens: int = Field(default=2, ge=1)
    """A completion with fewer tokens of its own is trivial and is not paired."""
    near_duplicate: float = Field(default=0.95, gt=0, le=1)
    """Of two successes (or two failures) of a task that share this part of their tokens one is dropped."""
    demonstrations: bool = False
    """Let the known solution be the success of a task that was never won: it is not the policy's own, and is
    marked `off_policy`."""


class DpoConfig(TrainingConfig):
    """DPO repeated on rollouts of the current policy; `train.max_steps` counts one iteration's updates."""

    environments: dict[str, DpoEnvironmentConfig] = Field(min_length=1)
    """All are sampled from in every iteration."""
    rollout: Annotated[RolloutConfig, AfterValidator(refuse_server)]
    pairing: PairingConfig = PairingConfig()
    iterations: int = Field(2, gt=0)
    """At most."""
    patience: int = Field(1, gt=0)
    """Iterations in a row without a new best after which the loop ends."""
    rollouts_per_task: int = Field(4, gt=1)
    """Of the policy, from which the pairs are made."""
    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held to the one that an iteration starts from."""
    sft_weight: float = Field(0.2, ge=0)
    """Of the SFT term on the chosen completions. Source: Nemotron 3 Nano: 0.2."""

    @model_validator(mode="after")
    def _demonstrations_think(self) -> "DpoConfig":
        if self.pairing.demonstrations and self.rollout.thinking_share < 1:
            raise ValueError(
                "pairing.demonstrations: known solutions are written with thinking. Set rollout.thinking_share=1, "
                "or leave them out"
            )
        return self

    def check_tasks(self) -> None:
        refuse_too_few(
            Wanted(f"environments.{label}", given.environment or label, given.options, split, count)
            for label, given in self.environments.items()
            for split, count in (
                ("train", given.tasks * self.iterations),
                ("validation", given.validation_tasks),
            )
        )

    def data_fingerprint(self) -> str:
        return fingerprint_json(
            [
                fingerprint_environment(given.environment or label, given.options)
                for label, given in self.environments.items()
            ]
        )
