"""What a Mamba-2 layer holds and computes."""

from dataclasses import dataclass

from alloy.plan.layers import AttentionKind, Cache, Matrices, numbers
from alloy.plan.numerics import Numerics, kept_by_rms_norm, kept_inputs


@dataclass(frozen=True)
class Mamba:
    """A Mamba-2 mixer with the norm before it. Source: Dao and Gu 2024 (arXiv:2405.21060).

    Attributes:
        groups: that share B and C.
        state: numbers of a head's state for each of its channels.
        kernel: tokens that the convolution sees.
        chunk: tokens that are computed as attention; between chunks the state is handed on.
        fused: whether mamba_ssm's kernels compute it (a GPU), or the reference in PyTorch.
    """

    hidden: int
    heads: int
    head_size: int
    groups: int
    state: int
    kernel: int
    chunk: int
    biases: int = 0
    fused: bool = True

    @property
    def inner(self) -> int:
        return self.heads * self.head_size

    @property
    def convolved(self) -> int:
        return self.inner + 2 * self.groups * self.state

    @property
    def projected(self) -> int:
        return self.inner + self.convolved + self.heads

    @property
    def matrices(self) -> Matrices:
        return {"in_proj": (self.hidden, self.projected), "out_proj": (self.inner, self.hidden)}

    @property
    def parameters(self) -> int:
        # Beside the matrices: the convolution, A, D and the bias of dt a head, and two norms.
        small = self.convolved * self.kernel + 3 * self.heads + self.inner + self.hidden
        return numbers(self.matrices) + small + self.biases

    @property
    def active(self) -> int:
        return self.parameters

    @property
    def cache(self) -> Cache:
        return Cache(state=4 * (self.convolved * self.kernel + self.inner * self.state))

    def operations(self, length: int) -> float:
        convolution = 2 * self.convolved * self.kernel
        # Within a chunk, half of which a token sees; then the state is fed, and read.
        within = min(self.chunk, length) * (self.groups * self.state + self.inner)
        return 2 * numbers(self.matrices) + convolution + within + 4 * self.inner * self.state

    def kept(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        found = kept_by_rms_norm(self.hidden, numerics) + kept_inputs(self.hidden, 1, numerics)
        if self.fused:
            # The projection, the scan's result and the gated norm's deviation; the rest is computed again.
            return found + numerics.compute * (self.projected + self.inner) + 4 * self.groups
        chunk = min(self.chunk, length)
        found += numerics.compute * (self.projected + self.inner)
        # Before and behind the convolution; autocast brings the first to float32 and back.
        found += (2 * numerics.compute + (4 if numerics.casts else 0)) * self.convolved
        found += 4 * self.heads * (3 * chunk + 3 * self.state + 6)
        found += 4 * self.inner * (7 + 2 * self.state / chunk)
        return found

    def working(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        if self.fused:
            return numerics.compute * (self.projected + 3 * self.inner)
        # The reference writes out C x B for every pair of tokens of a chunk, head and number of the state.
        return 8.0 * min(self.chunk, length) * self.heads * self.state
