"""The activations of one micro-batch, block by block."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

from alloy.plan.launch import Launch
from alloy.plan.layers import Layer
from alloy.plan.numerics import Numerics, kept_by_rms_norm
from alloy.plan.shape import Shape
from alloy.plan.work import Training

STASH = 5
"""Tensors that TRL's offloading leaves on a GPU while they are copied (`trl/models/activation_offloading.py`)."""


@dataclass(frozen=True)
class Batch:
    """What passes through a model at once, on its way to the head and back.

    With gradient checkpointing a block keeps its input alone (Chen et al. 2016, arXiv:1604.06174), and on the
    way back it is computed again, one block at a time.
    """

    shape: Shape
    training: Training
    numerics: Numerics
    launch: Launch

    @property
    def tokens(self) -> int:
        """On one device; a sequence may be divided among several."""
        return ceil(self.training.rows * self.training.length / self.launch.parts)

    @cached_property
    def kept(self) -> list[float]:
        """Bytes that each block keeps while it has not been gone back through."""
        return [
            self.tokens * sum(self._kept(layer) for layer in block)
            for block in on_device(self.shape, self.launch)
        ]

    @cached_property
    def working(self) -> list[float]:
        """Bytes that each block has beside, while it is gone back through."""
        return [
            self.tokens
            * max(
                layer.working(self.numerics, self.training.attention, self.training.length) for layer in block
            )
            for block in on_device(self.shape, self.launch)
        ]

    def _kept(self, layer: Layer) -> float:
        return layer.kept(self.numerics, self.training.attention, self.training.length)

    @property
    def inputs(self) -> float:
        """Bytes of the hidden states between two blocks."""
        return float(self.tokens * self.numerics.stream * self.shape.hidden)

    @property
    def stored(self) -> float:
        """Bytes of all blocks when the head is reached."""
        if self.training.offloading:
            return self._on_the_way(len(self.kept))
        return self._all

    @property
    def offloaded(self) -> float:
        """Bytes of them that rest in the machine's memory."""
        return self._all if self.training.offloading else 0.0

    @property
    def _all(self) -> float:
        return len(self.kept) * self.inputs if self.training.checkpointing else sum(self.kept)

    def _on_the_way(self, blocks: int) -> float:
        """Bytes of the first so many blocks that have not left the device yet, or are back already."""
        if self.training.checkpointing:
            return self.inputs * min(blocks, STASH)
        return max(self.kept[:blocks], default=0.0)

    @property
    def behind(self) -> float:
        """Bytes behind the last block: the norm, and what the head reads."""
        norm = kept_by_rms_norm(self.shape.hidden, self.numerics)
        return self.tokens * (norm + self.numerics.stream * self.shape.hidden)

    def alive(self, index: int) -> float:
        """Bytes while block `index` is gone back through: those before it, its own, and what it works with."""
        own = self.kept[index] + self.working[index]
        if self.training.offloading:
            return self._on_the_way(index + 1) + own
        before = self.inputs * (index + 1) if self.training.checkpointing else sum(self.kept[:index])
        return before + own

    def copies(self, blocks: int) -> float:
        """Bytes of the weights in bfloat16 that autocast made for the first so many blocks, and their graph holds."""
        if not self.numerics.casts or not self.kept:
            return 0.0
        held = 1 if self.training.checkpointing and blocks < len(self.kept) else blocks
        return 2.0 * self.shape.multiplied * held / len(self.kept)


def on_device(shape: Shape, launch: Launch) -> tuple[tuple[Layer, ...], ...]:
    """The blocks as a device computes them: Mamba's kernels are for GPUs."""
    return shape.by_reference().blocks if launch.cpu else shape.blocks
