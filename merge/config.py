"""What is merged and how alpha is found, in YAML; imports no torch."""

from decimal import Decimal, InvalidOperation
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, StageConfig
from alloy.environments.enough import refuse_too_few
from alloy.evaluate.config import SuiteConfig, suites_fingerprint, suites_wanted
from merge.adapter import base_fingerprint
from merge.groups import check_group, share

Rule = Literal["product", "weighted-sum", "smallest-within-one-standard-error", "pareto"]
Method = Literal["linear", "mean", "task", "slerp", "ties", "dare"]
Donor = Literal["reasoning", "chat"]
DtypeName = Literal["bfloat16", "float16", "float32", "float64"]

_MOST_ALPHAS = 1001


class SweepSuite(SuiteConfig):
    """A suite that alpha is chosen on: never the one that the table shows."""

    split: str = "validation"
    """Which of the environment's tasks."""


class SweepConfig(Config):
    """Settings to try, in memory, and how one of them is chosen."""

    alphas: list[float] = Field(default=[])
    """Shares of the chat weights; a list, or "start:stop:step" with both ends in."""
    groups: list[str] = Field(default=[])
    """Groups of tensors with an alpha each, searched one after another from the best alpha for all."""
    rounds: int = Field(2, gt=0)
    """Times that every group is tried at most."""
    option: str = ""
    """Of a method that is not linear: what is varied instead of alpha."""
    values: list[float] = Field(default=[])
    """Of the option; written as `alphas` are."""
    suites: dict[str, SweepSuite] = Field(min_length=1)
    """What every setting is measured on."""
    rule: Rule = "product"
    """How a setting is chosen from the suites' means; see docs/merge.md."""
    weights: dict[str, float] | None = None
    """One for each suite: points are compared by their weighted sum instead of the product of the means."""
    batch_size: int = Field(128, gt=0)
    """Prompts decoded at once."""

    @field_validator("alphas", "values", mode="before")
    @classmethod
    def _read_range(cls, value: Any) -> Any:
        return parse_alphas(value) if isinstance(value, str) else value

    @field_validator("alphas")
    @classmethod
    def _are_shares(cls, value: list[float]) -> list[float]:
        wrong = [alpha for alpha in value if not 0 <= alpha <= 1]
        if wrong:
            raise ValueError(f"{wrong[0]} is no share of the chat weights: choose from 0 to 1")
        return sorted(set(value))

    @field_validator("groups")
    @classmethod
    def _are_groups(cls, value: list[str]) -> list[str]:
        for group in value:
            check_group(group)
        return value

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights is None:
            if self.rule == "weighted-sum":
                raise ValueError(
                    "rule = weighted-sum: what does each suite weigh? Set weights, one for each suite"
                )
            return self
        if self.rule == "product":
            raise ValueError("weights: a product has none. Set rule=weighted-sum, or leave weights out")
        odd = sorted(self.weights.keys() ^ self.suites.keys())
        if odd:
            raise ValueError(f"weights: {odd[0]!r} has a weight or is a suite, and both are needed")
        wrong = [weight for weight in self.weights.values() if not (isfinite(weight) and weight >= 0)]
        if wrong or sum(self.weights.values()) <= 0:
            raise ValueError(f"weights: {self.weights}: numbers from 0 on are needed, and one above it")
        return self


class MergeConfig(StageConfig):
    """Two parents, and alpha or a sweep that finds it; or a method with models of its own."""

    PARENTS: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("reasoning", "chat", "models", "base"), ("policy", "reward-model", "adapter")
    )
    OPTIONAL_PARENTS: ClassVar[frozenset[str]] = frozenset({"reasoning", "chat", "base"})

    reasoning: str | None = None
    """A run folder or a model folder; from `needs` in pipeline.yaml when not given."""
    chat: str | None = None
    """The same, of the chat checkpoint."""
    alpha: float | dict[str, float] | None = None
    """Share of the chat weights; or one for every group of tensors."""
    sweep: SweepConfig | None = None
    """Instead of alpha: it finds it."""
    method: Method = "linear"
    """`linear` takes two parents and alpha; the others `models` and `options`."""
    models: dict[str, str] = Field(default={})
    """Of a method that is not linear: name to run folder; from `needs` when not given."""
    base: str | None = None
    """What the models were trained from, where the method asks for it."""
    options: dict[str, Any] = Field(default={})
    """Of a method that is not linear, as `python -m merge METHOD --help` tells."""
    donor: str | None = None
    """Whose config, tokenizer and template to keep where they differ; an error when not given."""
    match_tokens: bool = False
    """Bring embeddings of another vocabulary into the order of the donor's tokens."""
    dtype: DtypeName | None = None
    """Of the result; the parents' when not given."""
    max_shard_bytes: int = Field(4 << 30, gt=0)
    """Of one weights file; an interrupted merge goes on at the next one."""

    @field_validator("alpha")
    @classmethod
    def _are_shares(cls, value: float | dict[str, float] | None) -> float | dict[str, float] | None:
        for group in value if isinstance(value, dict) else ():
            check_group(group)
        for each in value.values() if isinstance(value, dict) else [value]:
            if each is not None:
                share(each)
        return value

    @field_validator("options")
    @classmethod
    def _fit_the_method(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        method, sweep = info.data.get("method", "linear"), info.data.get("sweep")
        if method == "linear":
            if value:
                raise ValueError(f"{next(iter(value))!r}: a linear merge has no options but alpha")
            return value
        from merge.methods import schema_of

        try:
            return schema_of(method, sweep.option if sweep else "").model_validate(value).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{method}: {name}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None

    @model_validator(mode="after")
    def _one_way_to_merge(self) -> Self:
        if self.method != "linear":
            _check_method(self)
            return self
        if (self.alpha is None) == (self.sweep is None):
            raise ValueError(
                "set either alpha or sweep: one says the share of the chat weights, the other finds it"
            )
        if self.sweep and (not self.sweep.alphas or self.sweep.option or self.sweep.values):
            raise ValueError(
                "sweep: a linear merge is swept over alphas. Set those; leave option and values out"
            )
        if self.models or self.base:
            raise ValueError("models and base are of other methods: set method, or reasoning and chat")
        if self.donor not in (None, *get_args(Donor)):
            raise ValueError(f"donor = {self.donor!r}: choose reasoning or chat")
        return self

    def data_fingerprint(self) -> str:
        suites = suites_fingerprint(list(self.sweep.suites.values())) if self.sweep else ""
        named = [self.reasoning, self.chat, self.base, *self.models.values()]
        adapted = [found for path in named if path and (found := base_fingerprint(Path(path)))]
        return fingerprint_json([suites, *adapted]) if adapted else suites

    def check_tasks(self) -> None:
        refuse_too_few(suites_wanted("sweep.suites", self.sweep.suites) if self.sweep else ())


def _check_method(config: MergeConfig) -> None:
    if config.alpha is not None or config.reasoning or config.chat:
        raise ValueError(
            f"{config.method} merges models: set those; alpha, reasoning and chat are of a linear merge"
        )
    if config.match_tokens:
        raise ValueError("match_tokens: only a linear merge matches vocabularies. Leave it out")
    sweep = config.sweep
    if sweep and (sweep.alphas or sweep.groups or not sweep.option or not sweep.values):
        raise ValueError(
            f"sweep: {config.method} is swept over one of its options. Set option and values; leave alphas and groups out"
        )
    reserved = sorted(config.models.keys() & {"reasoning", "chat", "models", "base"})
    if reserved:
        raise ValueError(f"models: {reserved[0]!r} is the name of another field: name the stage otherwise")


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
