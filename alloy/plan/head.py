"""What the language head takes: TRL's fused head computes logits tile by tile and never has all of them.

Source: trl 1.16, `trl/kernels/chunked_logprob.py`.
"""

from alloy.plan.launch import Launch
from alloy.plan.numerics import Numerics
from alloy.plan.shape import Shape

TILE_TOKENS = 4096
TILE_WORDS = 32768


def head_bytes(shape: Shape, tokens: int, numerics: Numerics, launch: Launch, *, backward: bool) -> float:
    """Bytes while the head of a model is computed over some positions.

    On a GPU one tile is worked on in place. Elsewhere every step of the softmax makes a tile of its own, in
    float32: four are alive at once on the way forward; on the way back seven, and which of the words is meant.
    """
    if shape.head != "language":
        return numerics.stream * tokens * shape.labels
    rows, words = min(tokens, TILE_TOKENS), min(shape.vocabulary, TILE_WORDS)
    if not launch.cpu:
        weight = 0 if numerics.compute == 4 else numerics.compute * words * shape.hidden
        return numerics.compute * rows * TILE_WORDS + weight
    tiles = numerics.compute + (29 if backward else 12)
    copies = 0 if numerics.compute == 4 else (numerics.compute + 4) * words * shape.hidden
    return tiles * rows * words + copies


def sampled_logits_bytes(shape: Shape, rows: int) -> float:
    """The last position's logits of every row, tempered, as probabilities and as they were: in float32."""
    return 16.0 * rows * shape.vocabulary
