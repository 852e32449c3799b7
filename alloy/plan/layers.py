"""What the layers of a transformer hold and compute: parameters, operations, and bytes a token.

The bytes are those that PyTorch's autograd keeps for transformers' own modules, tensor by tensor; a test
holds them against what autograd really keeps. Korthikanti et al. 2022 (arXiv:2205.05198) count the same
way for fused GPT layers.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from alloy.plan.numerics import Numerics, kept_by_layer_norm, kept_by_rms_norm, kept_inputs

AttentionKind = Literal["documents", "flash", "sdpa", "eager"]
"""`documents`: `alloy.attention`; `flash`: causal, no mask; `sdpa`: with a mask, as padding needs one."""
Matrices = dict[str, tuple[int, int]]
"""Name of a linear module to numbers that it reads and writes."""


@dataclass(frozen=True)
class Cache:
    """What a layer keeps of a sequence while it is sampled.

    Attributes:
        keys, values: numbers a token.
        state: bytes, however long the sequence is.
        window: tokens that are kept at most; all when None.
    """

    keys: int = 0
    values: int = 0
    state: int = 0
    window: int | None = None


class Layer(Protocol):
    """One part of a block, with the norm that stands before (or after) it."""

    @property
    def parameters(self) -> int: ...

    @property
    def active(self) -> int:
        """Parameters that one token passes through."""
        ...

    @property
    def matrices(self) -> Matrices:
        """Its linear modules: what an adapter attaches to."""
        ...

    @property
    def cache(self) -> Cache: ...

    def operations(self, length: int) -> float:
        """Floating-point operations of a forward pass, a token in a sequence of `length`."""
        ...

    def kept(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        """Bytes a token that are kept for the backward pass, in a sequence of `length`."""
        ...

    def working(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        """Bytes a token that come and go while the layer is computed."""
        ...


def numbers(matrices: Matrices) -> int:
    return sum(reads * writes for reads, writes in matrices.values())


@dataclass(frozen=True)
class Attention:
    """Self-attention with grouped keys.

    Attributes:
        biases: parameters of its biases.
        head_norms: queries and keys are normalised head by head.
        after: a LayerNorm behind the residual (BERT) instead of an RMSNorm before.
        window: tokens that a token sees at most.
    """

    hidden: int
    heads: int
    key_heads: int
    head_size: int
    biases: int = 0
    head_norms: bool = False
    after: bool = False
    causal: bool = True
    window: int | None = None
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")

    @property
    def queries(self) -> int:
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        return self.key_heads * self.head_size

    @property
    def matrices(self) -> Matrices:
        query, key, value, output = self.names
        return {
            query: (self.hidden, self.queries),
            key: (self.hidden, self.keys),
            value: (self.hidden, self.keys),
            output: (self.queries, self.hidden),
        }

    @property
    def parameters(self) -> int:
        norms = (2 if self.after else 1) * self.hidden + (2 * self.head_size if self.head_norms else 0)
        return numbers(self.matrices) + self.biases + norms

    @property
    def active(self) -> int:
        return self.parameters

    @property
    def cache(self) -> Cache:
        return Cache(self.keys, self.keys, window=self.window) if self.causal else Cache()

    def operations(self, length: int) -> float:
        seen = min(length, self.window or length)
        # In a causal sequence a token sees half of the others in the mean.
        reach = seen * (1 - seen / (2 * length)) if self.causal else seen
        return 2 * numbers(self.matrices) + 4 * self.queries * reach

    def kept(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        norm = kept_by_layer_norm if self.after else kept_by_rms_norm
        found = norm(self.hidden, numerics) + kept_inputs(self.hidden, 3, numerics)
        if self.head_norms:
            found += (4 + numerics.compute) * (self.queries + self.keys) + 4 * (self.heads + self.key_heads)
        # Only kernels without a mask read grouped keys as they are.
        keys = self.keys if attention == "flash" else self.queries
        found += numerics.compute * (self.queries + 2 * keys + self.queries)
        if attention == "eager":
            # Probabilities in float32, and again in what they are multiplied in.
            return found + self.heads * length * (4 if numerics.compute == 4 else 6)
        found += 4 * self.heads  # the logarithms of the sums
        if attention == "documents":
            found += numerics.compute * self.queries  # the documents' outputs, laid side by side
        if attention == "sdpa":
            found += numerics.compute * length  # the mask as a number, made anew in every layer
        return found

    def working(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        scores = self.heads * length * (8 + numerics.compute) if attention == "eager" else 0
        return 6 * numerics.compute * self.queries + scores


@dataclass(frozen=True)
class Mlp:
    """Two matrices with an activation between, or three with a gate."""

    hidden: int
    size: int
    gated: bool = True
    biases: int = 0
    after: bool = False
    names: tuple[str, ...] = ("up_proj", "down_proj", "gate_proj")

    @property
    def matrices(self) -> Matrices:
        up, down, *gate = self.names
        found = {up: (self.hidden, self.size), down: (self.size, self.hidden)}
        return found | ({gate[0]: (self.hidden, self.size)} if self.gated else {})

    @property
    def parameters(self) -> int:
        return numbers(self.matrices) + self.biases + (2 if self.after else 1) * self.hidden

    @property
    def active(self) -> int:
        return self.parameters

    @property
    def cache(self) -> Cache:
        return Cache()

    def operations(self, length: int) -> float:
        return 2 * numbers(self.matrices)

    def kept(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        norm = kept_by_layer_norm if self.after else kept_by_rms_norm
        return norm(self.hidden, numerics) + self.kept_behind_norm(numerics)

    def kept_behind_norm(self, numerics: Numerics) -> float:
        # Gated: gate, its activation, up, their product. Else: before and behind the activation.
        parts = 4 if self.gated else 2
        inputs = kept_inputs(self.hidden, 2 if self.gated else 1, numerics)
        return inputs + parts * numerics.compute * self.size

    def working(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        return 3 * numerics.compute * self.size
