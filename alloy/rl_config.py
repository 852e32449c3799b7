"""The settings of group-relative policy optimisation; imports no torch."""

from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, TrainingConfig
from alloy.environments.enough import Wanted, refuse_too_few
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

    engine: Literal["transformers", "vllm", "vllm-server"] = "transformers"
    """`vllm` runs in this process, `vllm-server` on GPUs of its own (grpo and rlhf: `trl vllm-serve`)."""
    batch_size: int = Field(default=128, gt=0)
    """Completions that are decoded at once."""
    vllm_memory_share: float = Field(default=0.3, gt=0, le=1)
    """Of a GPU."""
    vllm_max_model_tokens: int = Field(default=2048, gt=0)
    """Of a prompt and its completion together."""
    server_url: str = "http://127.0.0.1:8000"
    """Where `vllm-server` answers."""
    server_timeout_seconds: float = Field(default=240.0, gt=0)
    """How long it may take to start."""


EngineConfigT = TypeVar("EngineConfigT", bound=EngineConfig)


def refuse_server(config: EngineConfigT) -> EngineConfigT:
    """For stages that roll out from model folders: a server is given the weights of a trainer alone."""
    if config.engine == "vllm-server":
        raise ValueError(
            "engine = vllm-server: it is given a trainer's weights, in grpo and rlhf; here a model folder is "
            "opened. Set rollout.engine=vllm"
        )
    return config


class RolloutConfig(EngineConfig):
    """How completions are made."""

    max_completion_tokens: int = Field(gt=0)
    """Of one turn."""
    max_turns: int = Field(1, gt=0)
    """Of the policy, in a conversation with tools; an answer without a call ends it."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the most likely tokens that make up this probability."""
    thinking_share: float = Field(1.0, ge=0, le=1)
    """Of the prompts; the others are rolled out with thinking off."""
    thinking_budget: int | None = Field(None, ge=0)
    """Tokens; unlimited when not given."""
    grace_tokens: int = Field(500, ge=0)
    """Past the budget, in which a newline is waited for; then the thinking is closed by force."""


class UpdateRolloutConfig(RolloutConfig):
    """How completions are made and used for updates of the policy that wrote them."""

    refills: int = Field(0, ge=0)
    """Rounds in which a group whose outcomes are all equal gives its place to another task's."""
    updates: int = Field(1, gt=0)
    """Optimizer updates that one batch of rollouts is made for, each with its own part of it."""
    passes: int = Field(1, gt=0)
    """Times that every rollout is trained on."""
    gap_warning: float = Field(0.1, gt=0)
    """Mean gap between the sampler's and the trainer's log-probabilities, in nats, past which a run warns."""


class LossConfig(Config):
    """The policy loss; what is not set comes from the preset."""

    preset: Literal["nemotron-3", "grpo"] = "nemotron-3"
    """`nemotron-3`: Nemotron 3 Nano's settings where they are public (arXiv:2512.20848); `grpo`: those of
    the paper that brought it (arXiv:2402.03300)."""
    kind: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo"]
    """`dapo`: the mean over all tokens of a batch; `grpo`: over sequences, of each one's mean over its tokens."""
    kl_coef: float = Field(ge=0)
    """Of the KL to the parent."""
    clip_low: float = Field(gt=0)
    """The ratio of new to old probability counts down to 1 - clip_low."""
    clip_high: float = Field(gt=0)
    """And up to 1 + clip_high."""
    baseline: Literal["group", "leave_one_out"]
    """What a reward is compared with: the mean of its group, or of the others in its group."""
    scale_rewards: Literal["group", "batch", "none"]
    """Whose standard deviation advantages are divided by."""
    mask_unfinished: bool
    """Whether a completion that ran into its limit carries no loss (it still counts in the baseline); false
    in RLHF unless set, where `unfinished_reward` is there for them."""
    importance: Literal["none", "token_mask", "sequence_mask", "token_truncate", "sequence_truncate"]
    """Correction for the gap between vLLM's log-probabilities and the trainer's: outside the bounds a
    ratio is masked or truncated. The transformers engine has no such gap."""
    importance_min: float | None = Field(gt=0)
    """Lower bound of the correction; none when null."""
    importance_max: float | None = Field(gt=0)
    """Upper bound of the correction; none when null."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**_LOSS_PRESETS.get(str(values.get("preset", "nemotron-3")), {}), **values}


# KL, clipping, baseline, token-level loss and the masking of both kinds are reported for Nemotron 3; how
# rewards are scaled and where the mask begins are not: those are ours, as are the older papers' gaps.
_LOSS_PRESETS: dict[str, dict[str, Any]] = {
    "nemotron-3": {
        "kind": "dapo",
        "kl_coef": 0.0,
        "clip_low": 0.2,
        "clip_high": 0.28,
        "baseline": "leave_one_out",
        "scale_rewards": "group",
        "mask_unfinished": True,
        "importance": "token_mask",
        "importance_min": 0.5,
        "importance_max": 2.0,
    },
    "grpo": {
        "kind": "grpo",
        "kl_coef": 0.04,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "baseline": "group",
        "scale_rewards": "group",
        "mask_unfinished": False,
        "importance": "none",
        "importance_min": None,
        "importance_max": None,
    },
}


class ShapingConfig(Config):
    """A verifier of the completion alone whose reward is added to the outcome's."""

    verifier: Literal["format", "length"]
    """`format`: thinking closed once and an answer after it; `length`: within bounds."""
    weight: float
    """Of its reward, 0 or 1."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of `length`: minimum, maximum, unit (tokens, words, characters) and part (answer, thinking, completion)."""


class EnvironmentConfig(Config):
    """Tasks of one environment in the blend."""

    environment: str | None = None
    """Its name; the key it stands under when not given, so that one environment can be there twice."""
    share: float = Field(1.0, gt=0)
    """Of every batch, relative to the others'."""
    tasks: int = Field(gt=0)
    """How many different ones are drawn; they are repeated when they run out."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    system: str | None = None
    """A system prompt that replaces the tasks' own."""
    thinking_share: float | None = Field(None, ge=0, le=1)
    """rollout.thinking_share when not given."""
    weight: float = Field(1.0, gt=0)
    """Of the outcome in the reward."""
    shaping: list[ShapingConfig] = Field(default_factory=list)
    """Rewards beside the outcome's."""


class CurriculumConfig(Config):
    """Draw tasks by how often the policy passes them, the easy ones first (arXiv:2512.20848)."""

    rollouts: int = Field(4, gt=0)
    """Of every task by the parent, before training; kept for the same parent and tasks."""
    drop_solved: bool = True
    """Leave out the tasks that were passed every time."""
    drop_unsolved: bool = False
    """Leave out the tasks that were never passed."""
    first_pass_rate: float = Field(0.75, ge=0, le=1)
    """Mean of the Gaussian over pass rates at the first step."""
    last_pass_rate: float = Field(0.25, ge=0, le=1)
    """At the last step; it moves evenly in between."""
    spread: float = Field(0.2, gt=0)
    """Standard deviation of the Gaussian."""
    follow: bool = True
    """A task that was trained on takes the pass rate of its latest group."""
    again_every_steps: int | None = Field(None, gt=0)
    """Profile again with the policy as it is then."""


class ValidationConfig(Config):
    """Held-out tasks on which the checkpoint that is kept is chosen."""

    tasks: int = Field(gt=0)
    """Of every environment."""
    every_steps: int = Field(gt=0)
    """Optimizer updates between two measurements; the parent and the last step are measured in any case."""
    patience: int | None = Field(None, gt=0)
    """Measurements in a row without a step that is better than all before, after which training stops."""


class PolicyOptimisationConfig(TrainingConfig):
    """What GRPO and RLHF have in common."""

    environments: dict[str, EnvironmentConfig] = Field(min_length=1)
    """All are trained on in every batch."""
    rollout: UpdateRolloutConfig
    loss: LossConfig = Field(default_factory=lambda: LossConfig.model_validate({}))
    prompts_per_step: int = Field(gt=0)
    """Of all processes together, by their environments' shares."""
    group_size: int = Field(gt=1)
    """Completions of one prompt."""
    curriculum: CurriculumConfig | None = None
    """Every task is drawn equally often when not given."""
    validation: ValidationConfig | None = None
    """The last step is kept when not given."""

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
        return fingerprint_json(
            [
                fingerprint_environment(given.environment or label, given.options)
                for label, given in self.environments.items()
            ]
        )

    def check_tasks(self) -> None:
        refuse_too_few(
            Wanted(f"environments.{label}", given.environment or label, given.options, split, count)
            for label, given in self.environments.items()
            for split, count in self.tasks_wanted(given).items()
            if count
        )

    def tasks_wanted(self, given: EnvironmentConfig) -> dict[str, int]:
        """Of an environment, by split."""
        return {"train": given.tasks, "validation": self.validation.tasks if self.validation else 0}

    def shares(self) -> dict[str, float]:
        return {label: given.share for label, given in self.environments.items()}

    def thinking_share(self, label: str) -> float:
        own = self.environments[label].thinking_share
        return self.rollout.thinking_share if own is None else own
