"""Greedy decoding by hand, and an end of turn for a model that knows none."""

from collections import Counter
from typing import Any

import torch

from alloy.rollout.engine import Generation


def alone(model: Any, prompt: list[int], steps: int, end: int) -> list[int]:
    """A whole forward pass a token, no cache, no padding."""
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == end:
            break
    return ids[len(prompt) :]


def common_token(generations: list[Generation], count: float) -> int:
    """The one that stands in about `count` of them: it ends some early and others late or never."""
    written = Counter(token for generation in generations for token in set(generation.token_ids))
    return min(written, key=lambda token: (abs(written[token] - count), token))
