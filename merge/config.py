"""What is merged and how alpha is found, in YAML; imports no torch."""

from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from alloy.config import Config, StageConfig
from alloy.evaluate.config import SuiteConfig, suites_fingerprint

Rule = Literal["product", "smallest-within-one-standard-error"]
Donor = Literal["reasoning", "chat"]
DtypeName = Literal["bfloat16", "float16", "float32", "float64"]

_MOST_ALPHAS = 1001


class SweepSuite(SuiteConfig):
    """A suite that alpha is chosen on: never the one that the table shows."""

    split: str = "validation"


class SweepConfig(Config):
    """Alphas to try, in memory, and how one of them is chosen."""

    alphas: list[float] = Field(min_length=1)
    """Shares of the chat weights; a list, or "start:stop:step" with both ends in."""
    suites: dict[str, SweepSuite] = Field(min_length=1)
    rule: Rule = "product"
    """The best product of the suites' means, or the smallest alpha no worse by more than its error."""
    batch_size: int = Field(128, gt=0)
    """Prompts decoded at once."""

    @field_validator("alphas", mode="before")
    @classmethod
    def _read_range(cls, value: Any) -> Any:
        return parse_alphas(value) if isinstance(value, str) else value

    @field_validator("alphas")
    @classmethod
    def _in_order(cls, value: list[float]) -> list[float]:
        wrong = [alpha for alpha in value if not 0 <= alpha <= 1]
        if wrong:
            raise ValueError(f"{wrong[0]} is no share of the chat weights: choose from 0 to 1")
        return sorted(set(value))


class MergeConfig(StageConfig):
    """Two parents, and alpha or a sweep that finds it."""

    PARENTS: ClassVar[dict[str, tuple[str, ...]]] = {
        "reasoning": ("policy", "reward-model"),
        "chat": ("policy", "reward-model"),
    }

    reasoning: str | None = None
    """A run folder or a model folder; from `needs` in pipeline.yaml when not given."""
    chat: str | None = None
    alpha: float | None = Field(None, ge=0, le=1)
    """Share of the chat weights."""
    sweep: SweepConfig | None = None
    donor: Donor | None = None
    """Whose config, tokenizer and template to keep where they differ; an error when not given."""
    dtype: DtypeName | None = None
    """Of the result; the parents' when not given."""
    max_shard_bytes: int = Field(4 << 30, gt=0)
    """Of one weights file; an interrupted merge goes on at the next one."""

    @model_validator(mode="after")
    def _one_way_to_alpha(self) -> Self:
        if (self.alpha is None) == (self.sweep is None):
            raise ValueError(
                "set either alpha or sweep: one says the share of the chat weights, the other finds it"
            )
        return self

    def data_fingerprint(self) -> str:
        suites = self.sweep.suites.values() if self.sweep else ()
        return suites_fingerprint(list(suites)) if suites else ""


def parse_alphas(text: str) -> list[float]:
    """`0.1:0.9:0.1` (both ends in, counted in decimals) or `0.1,0.5`.

    Raises:
        ValueError: neither of the two.
    """
    try:
        if ":" not in text:
            return [float(Decimal(part)) for part in text.split(",")]
        start, stop, step = (Decimal(part) for part in text.split(":"))
    except (InvalidOperation, ValueError):
        raise ValueError(f"{text!r} is no list of alphas: write 0.1:0.9:0.1 or 0.1,0.5,0.9") from None
    if not (step > 0 and start <= stop) or (stop - start) / step > _MOST_ALPHAS:
        raise ValueError(
            f"{text!r}: start:stop:step needs start <= stop, a positive step and at most 1000 steps"
        )
    return [float(start + i * step) for i in range(int((stop - start) / step) + 1)]
