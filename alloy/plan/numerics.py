"""Bytes of a number, by where it stands in a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Numerics:
    """In what a model computes.

    Attributes:
        stream: bytes of a number of the hidden states between layers.
        compute: bytes of a number that matrices are multiplied in.
        casts: whether every matrix keeps its own copy of its input: autocast makes one for each.
    """

    stream: int
    compute: int
    casts: bool


FLOAT32 = Numerics(stream=4, compute=4, casts=False)
AUTOCAST = Numerics(stream=4, compute=2, casts=True)
"""Weights in float32, matrices multiplied in bfloat16."""
BFLOAT16 = Numerics(stream=2, compute=2, casts=False)
"""Weights in bfloat16: DeepSpeed's way, and a frozen base under an adapter."""


def kept_by_rms_norm(width: int, numerics: Numerics) -> float:
    """Bytes a token that RMSNorm keeps for its backward: what came in, in float32, and what it was divided to.

    What came in is the hidden state itself where that is float32, and a copy of it otherwise.
    """
    return 4 * width + numerics.stream * width + 4


def kept_by_layer_norm(width: int, numerics: Numerics) -> float:
    """Bytes a token: what came in, its mean and its deviation."""
    return numerics.stream * width + 8


def kept_inputs(width: int, readers: int, numerics: Numerics) -> float:
    """Bytes a token of what `readers` matrices read: once, or once for each where each makes its own copy."""
    return readers * numerics.compute * width if numerics.casts else numerics.stream * width
