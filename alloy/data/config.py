"""What a stage trains on, in YAML; imports no torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from alloy.artifact import fingerprint_files, fingerprint_json
from alloy.config import Config
from alloy.environments.registry import fingerprint_environment


class SourceConfig(Config):
    """Where rows come from: an environment's demonstrations, a JSONL file, or a generator by name."""

    environment: str | None = None
    """Of alloy/environments; its train split's demonstrations become rows."""
    options: dict[str, Any] = Field(default_factory=dict)
    path: Path | None = None
    """JSONL or JSONL.gz with `messages` (and `tools`), or with `prompt` and `completion`."""
    rows: int | None = Field(None, gt=0)
    """How many; needed for an environment, all of a file when not given."""
    thinking: bool = True
    """Whether the rows' thinking is kept; off, they teach reasoning-off."""

    @model_validator(mode="after")
    def _one_origin(self) -> "SourceConfig":
        if (self.environment is None) == (self.path is None):
            raise ValueError("a source is either an environment or a path: give exactly one")
        if self.environment is not None and self.rows is None:
            raise ValueError("an environment makes rows without end: give `rows`")
        return self


class ReasoningOffConfig(Config):
    """A share of the rows with the thinking removed and the control set to off."""

    share: float = Field(0.1, ge=0, le=1)
    mode: Literal["replace", "copy"] = "replace"
    """`copy` adds the stripped row beside the row, `replace` puts it in the row's place."""


class TruncateConfig(Config):
    """A share of the rows with their thinking cut abruptly and the answer kept whole."""

    share: float = Field(0.05, ge=0, le=1)
    min_tokens: int = Field(1000, ge=0)
    max_tokens: int = Field(2000, ge=0)
    """The cut is drawn between the two, in tokens of thinking; shorter rows are passed over."""

    @model_validator(mode="after")
    def _in_order(self) -> "TruncateConfig":
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is greater than max_tokens: swap them")
        return self


class DataConfig(Config):
    """A blend of sources, what is done to the rows, and how they are laid into sequences."""

    sources: list[SourceConfig] = Field(min_length=1)
    reasoning_off: ReasoningOffConfig | None = None
    truncate: TruncateConfig | None = None
    packing: Literal["best-fit", "concatenate", "none"] = "best-fit"
    """`best-fit`: documents isolated; `concatenate`: attending to each other; `none`: one a sequence."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What happens to an example longer than a sequence; it is never cut."""

    def fingerprint(self) -> str:
        """Of the files' contents and of the code that makes rows."""
        files = [source.path for source in self.sources if source.path is not None]
        code = [fingerprint_environment(s.environment) for s in self.sources if s.environment]
        return fingerprint_json([fingerprint_files([path for path in files if path.is_file()]), *code])
