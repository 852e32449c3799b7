"""What a stage trains on, in YAML; imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from alloy.artifact import fingerprint_json
from alloy.config import Config, read_yaml
from alloy.errors import InputError

ShapeName = Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "xlam", "glaive"]
_ORIGINS = ("environment", "path", "hub", "blend")


class SourceConfig(Config):
    """Where rows come from, and how many of them are taken.

    Exactly one of `environment`, `path`, `hub` and `blend` says where.
    """

    environment: str | None = None
    """Of alloy/environments; its train split's demonstrations become rows."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    path: Path | None = None
    """JSONL, JSONL.gz or Parquet."""
    hub: str | None = None
    """A dataset's name on the Hub, or a folder that `datasets` loads."""
    subset: str | None = None
    """Of a Hub dataset: its configuration."""
    split: str = "train"
    """Of a Hub dataset."""
    revision: str | None = None
    """Of a Hub dataset: a branch, tag or commit; pin it, or the same config may mean other data one day."""
    streaming: bool = False
    """Of a Hub dataset: read row by row, without keeping a copy of it."""
    blend: Path | None = None
    """Another SFT stage's YAML: its whole blend is one source here, in its own proportions."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Ours to theirs: {prompt: question, completion: answer}."""
    keep: dict[str, str | list[str]] = Field(default_factory=dict)
    """Only rows whose column has this value, or one of these: {language: english}. The others are as if not there."""
    shape: ShapeName = "auto"
    """How a row holds its conversation; read from its columns when `auto`."""
    rows: int | None = Field(None, gt=0)
    """The first so many; needed for an environment, all when not given."""
    epochs: float = Field(1.0, gt=0)
    """How often its rows are learned from: 0.1 takes a tenth of them by chance, 3 takes all of them three
    times. With `share`, the most often that they may be repeated."""
    share: float | None = Field(None, gt=0, le=1)
    """Of the blend's tokens; a source without one is taken for its `epochs`."""
    weight: float | None = Field(None, gt=0)
    """Instead of `share`: its part of the blend's tokens relative to the other weights; all sources have one
    or none has."""
    thinking: bool = True
    """Whether the rows' thinking is kept; off, they teach reasoning-off."""

    @model_validator(mode="after")
    def _one_origin(self) -> "SourceConfig":
        if sum(getattr(self, name) is not None for name in _ORIGINS) != 1:
            raise ValueError(f"a source is one of {', '.join(_ORIGINS)}: give exactly one")
        if self.environment is not None and self.rows is None:
            raise ValueError("an environment makes rows without end: give `rows`")
        if self.keep and self.path is None and self.hub is None:
            raise ValueError("keep looks at the columns of a path or of the hub: leave it out")
        return self

    @property
    def name(self) -> str:
        """What messages and counts call it."""
        return str(next(value for name in _ORIGINS if (value := getattr(self, name)) is not None))


def has_shares(sources: Sequence[SourceConfig]) -> bool:
    """Whether tokens decide how much of them is taken: they must all be tokenised first."""
    return any(source.share is not None for source in sources)


class RepeatConfig(Config):
    """Which repetition makes a row bad: a phrase of up to `words` words, `times` times in a row."""

    words: int = Field(default=16, gt=0)
    """The longest phrase that is looked for."""
    times: int = Field(default=16, gt=1)
    """So often in a row is bad."""


class DecontaminateConfig(Config):
    """Rows that share a run of words with an evaluation set are left out."""

    against: list[SourceConfig] = Field(min_length=1)
    """The evaluation sets; what their users ask is compared."""
    words: int = Field(13, gt=0)
    """Length of the run; a shorter prompt counts as a whole."""

    @model_validator(mode="after")
    def _named(self) -> "DecontaminateConfig":
        if any(source.blend is not None for source in self.against):
            raise ValueError("an evaluation set is no blend: name the sets themselves")
        return self


class CheckConfig(Config):
    """Which rows are learned from; what is left out stands in `rejected.jsonl` with the reason."""

    repeats: RepeatConfig | None = RepeatConfig()
    """Null lets repetitions pass."""
    max_rejected_share: float = Field(default=0.01, ge=0, le=1)
    """Of a source's rows; more stops the run before it starts."""
    deduplicate: bool = True
    """Of rows that are equal, word for word, the first is kept."""
    decontaminate: DecontaminateConfig | None = None
    """Nothing is compared when not given."""


class ReasoningOffConfig(Config):
    """A share of the rows with the thinking removed and the control set to off."""

    share: float = Field(0.1, ge=0, le=1)
    """Of the rows with thinking."""
    mode: Literal["replace", "copy"] = "replace"
    """`copy` adds the stripped row beside the row, `replace` puts it in the row's place."""


class TruncateConfig(Config):
    """A share of the rows with their thinking cut abruptly and the answer kept whole."""

    share: float = Field(0.05, ge=0, le=1)
    """Of the rows with thinking."""
    min_tokens: int = Field(1000, ge=0)
    """The shortest thinking that is left."""
    max_tokens: int = Field(2000, ge=0)
    """The cut is drawn between the two, in tokens of thinking; shorter rows are passed over."""
    budgets: list[int] | None = Field(None, min_length=1)
    """The cut is one of these instead."""
    tell: bool = False
    """Hand the cut to the chat template as the thinking budget; it must take one (`reasoning_budget` or
    `thinking_budget`)."""

    @model_validator(mode="after")
    def _in_order(self) -> "TruncateConfig":
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is greater than max_tokens: swap them")
        if self.budgets is not None and min(self.budgets) < 0:
            raise ValueError("a budget is less than 0 tokens")
        return self


class DataConfig(Config):
    """A blend of sources, what is done to the rows, and how they are laid into sequences."""

    sources: list[SourceConfig] = Field(min_length=1)
    """What is blended."""
    checks: CheckConfig = CheckConfig()
    """What makes a row bad."""
    reasoning_off: ReasoningOffConfig | None = None
    """None when not given."""
    truncate: TruncateConfig | None = None
    """None when not given."""
    packing: Literal["best-fit", "concatenate", "none"] = "best-fit"
    """`best-fit`: documents isolated; `concatenate`: attending to each other; `none`: one a sequence."""
    too_long: Literal["stop", "reject", "alone"] = "stop"
    """What happens to an example longer than a sequence; it is never cut. `alone` gives it a longer
    sequence of its own."""
    workers: int | None = Field(None, gt=0)
    """Processes that read, check and tokenise; one a core when not given. No result depends on it."""

    @model_validator(mode="before")
    @classmethod
    def _weights_are_shares(cls, values: Any) -> Any:
        """Weights, where all sources have them, become the shares that they mean."""
        sources = values.get("sources") if isinstance(values, dict) else None
        if not isinstance(sources, list):
            return values
        told = [source if isinstance(source, dict) else source.model_dump() for source in sources if source]
        weights = [source.get("weight") for source in told]
        if all(weight is None for weight in weights):
            return values
        if not all(isinstance(weight, int | float) and weight > 0 for weight in weights) or any(
            source.get("share") is not None for source in told
        ):
            raise ValueError("give a positive weight to all sources and no share, or no weight at all")
        total = sum(float(source["weight"]) for source in told)
        shared = [{**source, "weight": None, "share": source["weight"] / total} for source in told]
        return {**values, "sources": shared}

    @model_validator(mode="after")
    def _shares(self) -> "DataConfig":
        shares = [source.share for source in self.sources if source.share is not None]
        if sum(shares) > 1 + 1e-9:
            raise ValueError(f"the shares add up to {sum(shares):g}: at most 1 is possible")
        if len(shares) == len(self.sources) and sum(shares) < 1 - 1e-9:
            raise ValueError(f"every source has a share and they add up to {sum(shares):g}: make it 1")
        if len(shares) < len(self.sources) and sum(shares) > 1 - 1e-9:
            raise ValueError("the shares leave nothing for the sources without one: lower them")
        return self

    def fingerprint(self) -> str:
        """Of the files' contents and of the code that makes rows."""
        from alloy.data.identity import contents

        sources = [*self.sources]
        if self.checks.decontaminate is not None:
            sources += self.checks.decontaminate.against
        return fingerprint_json([contents(source) for source in sources])


def blended_sources(path: Path) -> list[SourceConfig]:
    """The sources of another stage's `data`.

    Raises:
        InputError: no such file, or none with `data.sources`.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `blend` to the YAML of an SFT stage.")
    told = read_yaml(path)[0].get("data")
    if not isinstance(told, dict) or "sources" not in told:
        raise InputError(f"{path}: it has no data.sources. Set `blend` to the YAML of an SFT stage.")
    try:
        sources = DataConfig.model_validate(told).sources
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("data", *first["loc"]))
        raise InputError(f"{path}: {where}: {first['msg']}.") from None
    if any(source.blend is not None for source in sources):
        raise InputError(f"{path}: its own sources have a blend. Name that file's sources instead.")
    return sources
