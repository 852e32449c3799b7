"""The configs of the two stages of RLHF; imports no torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, TrainingConfig
from alloy.data.config import SourceConfig
from alloy.data.identity import contents
from alloy.data.preference_shapes import PreferenceShapeName
from alloy.environments.registry import fingerprint_environment
from alloy.errors import InputError
from alloy.judges.config import JudgeConfig
from alloy.rl_config import EnvironmentConfig, PolicyOptimisationConfig


class PreferenceConfig(Config):
    """Where preference pairs come from: an environment that makes them, a file, or a dataset."""

    environment: str | None = None
    """One that makes pairs: `chat`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    noise: float = Field(0.25, ge=0.01)
    """Temperature of the environment's Bradley-Terry choice on the true quality."""
    path: Path | None = None
    """JSONL, JSONL.gz or Parquet."""
    hub: str | None = None
    """A dataset's name on the Hub, or a folder that `datasets` loads."""
    subset: str | None = None
    """Of a Hub dataset: its configuration."""
    split: str = "train"
    """Of a Hub dataset."""
    revision: str | None = None
    """Of a Hub dataset; pin it."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Ours to theirs: {prompt: question, chosen: better, rejected: worse}."""
    keep: dict[str, str | list[str]] = Field(default_factory=dict)
    """Only rows whose column has this value, or one of these: {language: english}."""
    shape: PreferenceShapeName = "auto"
    """How a row holds its preference; read from its columns when `auto`."""
    pairs: int | None = Field(None, gt=0)
    """To train on; all that are not held out when not given. An environment needs it."""
    held_out: int = Field(gt=0)
    """Pairs that only measure; their prompts are in no pair that trains (of an environment: their templates)."""
    held_out_path: Path | None = None
    """A file of its own for the held-out pairs; cut from the others when not given."""
    held_out_split: str | None = None
    """A split of its own, of a Hub dataset."""
    margin_weight: float = Field(1.0, ge=0)
    """What margins are multiplied by, where the data has them; 0 leaves them out."""
    max_rejected_share: float = Field(0.01, ge=0, le=1)
    """Of the rows; more bad ones stop the run before it starts, fewer are left out and counted. Ties are
    not bad: they are left out and counted apart."""
    too_long: Literal["stop", "reject"] = "stop"
    """What happens to pairs longer than train.max_sequence_tokens; `reject` leaves them out and counts them."""

    @model_validator(mode="after")
    def _one_origin(self) -> "PreferenceConfig":
        if sum(origin is not None for origin in (self.environment, self.path, self.hub)) != 1:
            raise ValueError("preferences come from an environment, a path or the hub: give exactly one")
        if self.environment is not None and self.pairs is None:
            raise ValueError("an environment makes pairs without end: give `pairs`")
        if self.held_out_path is not None and self.path is None:
            raise ValueError("held_out_path goes with path: remove it")
        if self.held_out_split is not None and self.hub is None:
            raise ValueError("held_out_split goes with hub: remove it")
        return self

    def source(self) -> SourceConfig:
        """Where the rows are.

        Raises:
            ValueError: they come from an environment.
        """
        given = ("path", "hub", "subset", "split", "revision", "keep")
        return SourceConfig.model_validate({name: getattr(self, name) for name in given})

    def held_out_source(self) -> SourceConfig | None:
        """Where the held-out rows are; None where they are cut from the others."""
        if self.held_out_path is not None:
            return SourceConfig.model_validate({"path": self.held_out_path})
        if self.held_out_split is not None:
            return self.source().model_copy(update={"split": self.held_out_split})
        return None


class RewardModelConfig(TrainingConfig):
    """A Bradley-Terry reward model."""

    data: PreferenceConfig
    """The preferences."""

    def data_fingerprint(self) -> str:
        if self.data.environment is not None:
            return fingerprint_environment(self.data.environment)
        sources = [source for source in (self.data.source(), self.data.held_out_source()) if source]
        missing = [source.path for source in sources if source.path and not source.path.is_file()]
        if missing:
            raise InputError(f"data: {missing[0]}: there is no such file. Name a JSONL or Parquet file.")
        return fingerprint_json([contents(source) for source in sources])


class LengthControlConfig(Config):
    """What short thinking and short answers gain over the others of their group (arXiv:2512.20848)."""

    thinking_weight: float = Field(0.5, ge=0)
    """Of the relative length, -1 to 1 from the longest to the shortest, about 0 in the mean."""
    answer_weight: float = Field(0.5, ge=0)
    """The same, of the answer."""
    thinking_bonus: float = Field(0.5, ge=0)
    """For the shortest thinking of a group, where its score passes the gate."""
    answer_bonus: float = Field(0.5, ge=0)
    """The same, for the shortest answer."""
    gate_percentile: float = Field(80.0, ge=0, le=100)
    """Of the group's scores, before anything is added to them."""
    unit: Literal["deviation", "score"] = "deviation"
    """What 1 is: the standard deviation of the group's scores, or a point of the score itself (the paper's,
    whose scores are 1 to 5)."""

    def of(self, part: str) -> tuple[float, float]:
        """Weight and bonus of `thinking` or `answer`."""
        return (
            (self.thinking_weight, self.thinking_bonus)
            if part == "thinking"
            else (self.answer_weight, self.answer_bonus)
        )


class RlhfConfig(PolicyOptimisationConfig):
    """GRPO whose reward is what a reward model, or a judge, thinks of the answer."""

    PARENTS = {
        "parent": ("policy",),
        "reward_model": ("reward-model",),
        "held_out_reward_model": ("reward-model",),
    }
    OPTIONAL_PARENTS = frozenset({"reward_model", "held_out_reward_model"})

    reward_model: str | None = None
    """A run folder or a model folder; from `needs` in pipeline.yaml when not given."""
    reward_model_url: str | None = None
    """Instead: where `python -m alloy.judges` serves one."""
    judge: JudgeConfig | None = None
    """Instead: a model that compares the answers of a group."""
    held_out_reward_model: str | None = None
    """Another one: its scores choose the step that is kept, instead of the environments' verdicts."""
    held_out_judge: JudgeConfig | None = None
    """Instead: a judge chooses, by how often it prefers the policy's answers to those of its parent; asked in
    both orders whatever it says of them."""
    hide_thinking: bool = True
    """Whether the answer alone is scored."""
    unfinished_reward: float = Field(-2.0, lt=0)
    """Of a completion that ran into its limit, in standard deviations from its group's mean score; never above
    the lowest score of those that ended."""
    length_control: LengthControlConfig | None = None
    """Lengths gain nothing when not given."""
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
    def _one_reward(self) -> "RlhfConfig":
        given = [
            name for name in ("reward_model", "reward_model_url", "judge") if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(
                f"the reward comes from one of reward_model, reward_model_url and judge; given: {', '.join(given) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _held_out_is_measured(self) -> "RlhfConfig":
        given = [
            name for name in ("held_out_reward_model", "held_out_judge") if getattr(self, name) is not None
        ]
        if given and self.validation is None:
            raise ValueError(f"{given[0]} measures at validation's steps: give `validation`")
        if len(given) > 1:
            raise ValueError(
                "held_out_reward_model and held_out_judge: one of them chooses, leave out the other"
            )
        return self

    def tasks_wanted(self, given: EnvironmentConfig) -> dict[str, int]:
        found = super().tasks_wanted(given)
        return found | {"validation": max(found["validation"], self.validation_prompts)}

    @model_validator(mode="after")
    def _scores_are_no_pass_rates(self) -> "RlhfConfig":
        if self.curriculum is not None:
            raise ValueError(
                "curriculum: it draws by pass rate, and a reward model's score is none. Leave it out"
            )
        return self
