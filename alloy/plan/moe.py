"""What a layer of experts holds and computes."""

from dataclasses import dataclass

from alloy.plan.layers import AttentionKind, Cache, Matrices, Mlp, numbers
from alloy.plan.numerics import Numerics, kept_by_rms_norm, kept_inputs


@dataclass(frozen=True)
class Moe:
    """Experts, some of which a token passes through, behind a router; and one that all pass through.

    Attributes:
        chosen: experts a token.
        shared: the expert that all tokens pass through.
        latent: width that tokens are brought to before the experts; `hidden` when None.
    """

    hidden: int
    experts: int
    chosen: int
    size: int
    gated: bool = True
    shared: Mlp | None = None
    latent: int | None = None
    biases: int = 0

    @property
    def width(self) -> int:
        return self.latent or self.hidden

    @property
    def matrices(self) -> Matrices:
        # The experts are tensors of three dimensions, no linear modules: an adapter passes them over.
        latent = (
            {"fc1_latent_proj": (self.hidden, self.latent), "fc2_latent_proj": (self.latent, self.hidden)}
            if self.latent
            else {}
        )
        return latent | (self.shared.matrices if self.shared else {})

    @property
    def expert(self) -> int:
        """Parameters of one."""
        return (3 if self.gated else 2) * self.width * self.size

    @property
    def parameters(self) -> int:
        around = self.experts * self.hidden + self.hidden + numbers(self.matrices) + self.biases
        return self.experts * self.expert + around

    @property
    def active(self) -> int:
        return self.parameters - (self.experts - self.chosen) * self.expert

    @property
    def cache(self) -> Cache:
        return Cache()

    def operations(self, length: int) -> float:
        matrices = self.chosen * self.expert + self.experts * self.hidden + numbers(self.matrices)
        return 2 * matrices

    def kept(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        # The grouped product of the experts is not autocast: it computes in what comes in.
        number = numerics.stream
        inside = (4 if self.gated else 2) * self.size
        found = kept_by_rms_norm(self.hidden, numerics) + kept_inputs(self.hidden, 1, numerics)
        found += self.chosen * number * (2 * self.width + inside)
        found += 4 * self.experts + 40 * self.chosen  # the router's probabilities, and who goes where
        if self.shared:
            found += self.shared.kept_behind_norm(numerics)
            if not numerics.casts:  # it reads what the router reads
                found -= kept_inputs(self.hidden, 1, numerics)
        if self.latent:
            found += kept_inputs(self.latent, 1, numerics)
        return found

    def working(self, numerics: Numerics, attention: AttentionKind, length: int) -> float:
        return 3 * numerics.stream * self.chosen * self.size
