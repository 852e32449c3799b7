"""The outcome that both sides of `bench.grpo` train on, as `trl grpo` takes a reward function."""

from collections.abc import Sequence
from typing import Any


def outcome(
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    gold: Sequence[str],
    end: Sequence[int],
    **_: Any,
) -> list[float]:
    """1 where the answer after the thinking is right and the completion ended by itself."""
    from alloy.verify.math import verify_math

    return [
        float(verify_math(text, right, True).reward or 0.0) if ids[-1] == stop else 0.0
        for text, ids, right, stop in zip(completions, completion_ids, gold, end, strict=True)
    ]
