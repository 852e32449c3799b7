"""A model's shape: its blocks, embeddings and head, and what follows from them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from alloy.config import LoraConfig
from alloy.lora_targets import goes_onto
from alloy.plan.layers import Layer, Matrices, numbers
from alloy.plan.mamba import Mamba

Block = tuple[Layer, ...]
Head = Literal["language", "score", "none"]


@dataclass(frozen=True)
class Shape:
    """What a config.json says of a model.

    Attributes:
        architecture: its `model_type`.
        blocks: each is what gradient checkpointing computes again as a whole.
        tied: whether the language head is the embedding.
        beside: parameters of embeddings other than the tokens', and of what stands before or behind the blocks.
        labels: that a scoring head writes.
        head_bias: whether a scoring head has one.
        positions: tokens of the longest sequence; 0 when not known.
        counted: exact parameters by the weights' own header, where the blocks are a guess.
        note: what is uncertain about it.
    """

    architecture: str
    vocabulary: int
    hidden: int
    blocks: tuple[Block, ...]
    tied: bool = False
    beside: int = 0
    head: Head = "language"
    labels: int = 1
    head_bias: bool = False
    positions: int = 0
    counted: int | None = None
    note: str = ""

    @property
    def layers(self) -> Iterable[Layer]:
        return (layer for block in self.blocks for layer in block)

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def own_head(self) -> int:
        """Parameters of a head that is not the embedding."""
        if self.head == "language":
            return 0 if self.tied else self.embedding
        return self.labels * (self.hidden + self.head_bias) if self.head == "score" else 0

    @cached_property
    def block_parameters(self) -> tuple[int, ...]:
        return tuple(sum(layer.parameters for layer in block) for block in self.blocks)

    @cached_property
    def parameters(self) -> int:
        """Exact for the architectures that are known."""
        if self.counted is not None:
            return self.counted
        return self.embedding + self.beside + sum(self.block_parameters) + self.own_head

    @cached_property
    def active(self) -> int:
        """Parameters that one token passes through, embedding and head included."""
        return self.parameters - sum(layer.parameters - layer.active for layer in self.layers)

    @property
    def around(self) -> int:
        """Parameters outside the blocks."""
        return self.embedding + self.beside + self.own_head

    @cached_property
    def hybrid(self) -> bool:
        """Whether some of its layers are of state-space kind."""
        return any(isinstance(layer, Mamba) for layer in self.layers)

    def by_reference(self) -> "Shape":
        """The same, where no kernels of Mamba's are: the reference in PyTorch computes its state-space layers."""
        blocks = (
            tuple(replace(layer, fused=False) if isinstance(layer, Mamba) else layer for layer in block)
            for block in self.blocks
        )
        return replace(self, blocks=tuple(blocks))

    def operations(self, length: int) -> float:
        """Of a forward pass through the blocks, a token in a sequence of `length`."""
        return sum(layer.operations(length) for layer in self.layers)

    @property
    def head_operations(self) -> float:
        """Of the head, a token that it reads."""
        return 2.0 * (self.embedding if self.head == "language" else self.labels * self.hidden)

    def cache_bytes(self, tokens: int, key_bytes: int, value_bytes: int) -> float:
        """Keys, values and states of one sequence of `tokens`."""
        found = 0.0
        for layer in self.layers:
            cache = layer.cache
            kept = min(tokens, cache.window or tokens)
            found += cache.state + kept * (cache.keys * key_bytes + cache.values * value_bytes)
        return found

    def matrices(self) -> list[Matrices]:
        """The linear modules of every layer."""
        return [layer.matrices for layer in self.layers]

    def adapter_parameters(self, lora: LoraConfig) -> int:
        """Of a low-rank adapter on the linear modules that it goes onto."""
        return sum(
            lora.rank * (reads + writes)
            for layer in self.layers
            for name, (reads, writes) in layer.matrices.items()
            if goes_onto(lora, name, state_space=isinstance(layer, Mamba))
        )

    @cached_property
    def multiplied(self) -> int:
        """Parameters of the linear modules, which autocast copies into bfloat16."""
        return sum(numbers(found) for found in self.matrices())

    def as_scorer(self) -> "Shape":
        """The same model with one score for a head: the language head is gone."""
        if self.head == "score":
            return replace(self, labels=1)
        counted = None if self.counted is None else self.counted - self.own_head + self.hidden
        return replace(self, head="score", labels=1, tied=False, counted=counted)
