"""What is measured, in YAML; imports no torch."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, StageConfig
from alloy.environments.registry import fingerprint_environment
from alloy.rl_config import EngineConfig, refuse_server


class SuiteConfig(Config):
    """One suite: tasks of an environment, rolled out and judged."""

    environment: str
    options: dict[str, Any] = Field(default_factory=dict)
    items: int = Field(gt=0)
    split: str = "test"
    thinking: bool = True
    budgets: list[int | None] = Field(default=[None], min_length=1)
    """Tokens of thinking; several make it a budget suite, whose score is well-formedness."""
    grace_tokens: int = Field(16, ge=0)
    """Past the budget, after which the close is forced."""
    max_completion_tokens: int = Field(128, gt=0)
    """Of one turn."""
    max_turns: int = Field(6, gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


class EvaluateConfig(StageConfig):
    """The suites of a recipe, measured on every stage's model; results are kept item by item."""

    PARENTS = {"models": ("policy",)}

    models: dict[str, str] = Field(default_factory=dict)
    """Name to run folder; from `needs` in pipeline.yaml when not given."""
    suites: dict[str, SuiteConfig]
    focus: dict[str, list[str]] = Field(default_factory=dict)
    """The suites that a stage is there to move, any of them; told below the table."""
    products: dict[str, list[str]] = Field(default_factory=dict)
    """Two suites by stage: their product is compared with every parent's, as a merge is chosen by it."""
    rollout: Annotated[EngineConfig, AfterValidator(refuse_server)] = EngineConfig()

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


def suites_fingerprint(suites: Sequence[SuiteConfig]) -> str:
    """The identity of what the suites' tasks are made from."""
    return fingerprint_json([fingerprint_environment(suite.environment, suite.options) for suite in suites])
