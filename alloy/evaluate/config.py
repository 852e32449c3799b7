"""What is measured, in YAML; imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, StageConfig
from alloy.environments.enough import Wanted, refuse_too_few
from alloy.environments.registry import ENVIRONMENTS, fingerprint_environment
from alloy.judges.config import JudgeConfig
from alloy.rl_config import EngineConfig, refuse_server


class SuiteConfig(Config):
    """One suite: tasks of an environment, rolled out and judged."""

    environment: str
    """Its name, or `package.module:Class`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    items: int | None = Field(None, gt=0)
    """At most; all of a benchmark's when not given."""
    samples: int = Field(1, gt=0)
    """Completions of each item: `success` is their mean (pass@1), beside maj@k and pass@k."""
    split: str = "test"
    """Which of the environment's tasks."""
    thinking: bool = True
    """Whether the model is asked to think."""
    budgets: list[int | None] = Field(default=[None], min_length=1)
    """Tokens of thinking; several make it a budget suite, whose score is well-formedness."""
    lengths: list[int] = Field(default_factory=list)
    """Tokens of the prompts of `long_context`, every item once at each; instead of its option `words`."""
    grace_tokens: int = Field(16, ge=0)
    """Past the budget, after which the close is forced."""
    max_completion_tokens: int = Field(128, gt=0)
    """Of one turn."""
    max_turns: int = Field(6, gt=0)
    """Of the model, in a conversation with tools."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Where the temperature is not 0."""
    judge_unfinished: bool = False
    """Judge an answer that was cut off as it stands, as IFEval's public scripts do; else it is worth 0."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "SuiteConfig":
        if self.items is None and self.environment in ENVIRONMENTS and self.environment != "benchmark":
            raise ValueError(f"items: {self.environment} makes as many tasks as are asked for. Say how many")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples = {self.samples} at temperature 0 are all the same. Set temperature")
        if self.lengths and self.environment != "long_context":
            raise ValueError(f"lengths: for the environment long_context, and this is {self.environment}")
        if self.lengths and (len(self.budgets) > 1 or "words" in self.options):
            raise ValueError(
                "lengths: they go neither with several budgets nor with options.words. Remove one"
            )
        return self


class WinRateConfig(Config):
    """How often the answers of a suite are preferred to a reference model's."""

    reference: str
    """One of the models."""
    suite: str = "chat"
    """Whose answers are compared."""
    judge: JudgeConfig | None = None
    """Prefers beside the reward model, or instead of it; asked in both orders whatever it says of them."""


class EvaluateConfig(StageConfig):
    """The suites of a recipe, measured on every stage's model; results are kept item by item."""

    PARENTS = {"models": ("policy",), "reward_model": ("reward-model",)}
    OPTIONAL_PARENTS = frozenset({"reward_model"})

    models: dict[str, str] = Field(default_factory=dict)
    """Name to run folder; from `needs` in pipeline.yaml when not given."""
    suites: dict[str, SuiteConfig]
    """By name."""
    focus: dict[str, list[str]] = Field(default_factory=dict)
    """The suites that a stage is there to move, any of them; told below the table."""
    products: dict[str, list[str]] = Field(default_factory=dict)
    """Two suites by stage: their product is compared with every parent's, as a merge is chosen by it."""
    compare: dict[str, list[str]] = Field(default_factory=dict)
    """By model, others that it is compared with item by item, beside those that it was made from."""
    portion_items: int = Field(512, gt=0)
    """Completions that are made together and then written to disk: what a kill may cost."""
    rollout: Annotated[EngineConfig, AfterValidator(refuse_server)] = EngineConfig()
    win_rate: WinRateConfig | None = None
    reward_model: str | None = None
    """Prefers for `win_rate`: a run folder; from `needs` in pipeline.yaml when not given."""

    @model_validator(mode="after")
    def _win_rate_has_all_it_needs(self) -> "EvaluateConfig":
        given = self.win_rate
        if given is None:
            if self.reward_model is not None:
                raise ValueError("reward_model: it prefers for win_rate. Give that, or leave it out")
            return self
        if given.judge is None and self.reward_model is None:
            raise ValueError("win_rate: nobody prefers. Give reward_model, win_rate.judge or both")
        if given.suite not in self.suites:
            raise ValueError(
                f"win_rate.suite: {given.suite!r} is no suite here. Known: {', '.join(self.suites)}"
            )
        suite = self.suites[given.suite]
        if len(suite.budgets) > 1 or suite.samples > 1 or suite.lengths:
            raise ValueError(
                f"win_rate.suite: {given.suite!r} has several answers to a task, by budget, sample or length. "
                "Name another"
            )
        if self.models and given.reference not in self.models:
            raise ValueError(
                f"win_rate.reference: {given.reference!r} is no model here. Known: {', '.join(self.models)}"
            )
        return self

    @model_validator(mode="after")
    def _known_models(self) -> "EvaluateConfig":
        # None yet where the suites alone are asked for: a recipe names its models in pipeline.yaml.
        for name in [*self.compare, *(other for others in self.compare.values() for other in others)]:
            if self.models and name not in self.models:
                raise ValueError(f"compare: {name!r} is no model here. Known: {', '.join(self.models)}")
        return self

    @model_validator(mode="after")
    def _known_suites(self) -> "EvaluateConfig":
        for field in ("focus", "products"):
            for stage, names in getattr(self, field).items():
                unknown = [name for name in names if name not in self.suites]
                if unknown:
                    raise ValueError(
                        f"{field}.{stage}: {unknown[0]!r} is no suite here. Known: {', '.join(self.suites)}"
                    )
                if field == "products" and len(names) != 2:
                    raise ValueError(f"products.{stage}: {len(names)} suites, exactly two are needed")
        return self

    def data_fingerprint(self) -> str:
        return suites_fingerprint(list(self.suites.values()))

    def check_tasks(self) -> None:
        refuse_too_few(suites_wanted("suites", self.suites))


def suites_wanted(place: str, suites: Mapping[str, SuiteConfig]) -> list[Wanted]:
    """What suites ask of their environments."""
    return [
        Wanted(f"{place}.{name}", suite.environment, suite.options, suite.split, suite.items)
        for name, suite in suites.items()
        if not suite.lengths
    ]


def suites_fingerprint(suites: Sequence[SuiteConfig]) -> str:
    """The identity of what the suites' tasks are made from."""
    return fingerprint_json([fingerprint_environment(suite.environment, suite.options) for suite in suites])
