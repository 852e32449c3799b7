"""Templates that the splits never share.

A template is a phrasing with holes, composed of two parts: an opening and a question, say. The
splits share the parts, so that a small model has seen every word, but never a whole template.
"""

from collections.abc import Sequence
from typing import TypeVar

from alloy.environments.task import Split

Item = TypeVar("Item")

_SHARES: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2), "validation": (3,), "test": (4,)}


def split_templates(templates: Sequence[Item], split: Split) -> list[Item]:
    """Three of every five templates in turn for training, one each for validation and test."""
    return [item for index, item in enumerate(templates) if index % 5 in _SHARES[split]]


def split_grid(rows: int, columns: int, split: Split) -> list[tuple[int, int]]:
    """Pairs of a row and a column, dealt along the diagonals: every row and column is in training."""
    return [(r, c) for r in range(rows) for c in range(columns) if (r + c) % 5 in _SHARES[split]]


def seed_of(environment: str, split: Split, seed: int, index: int) -> str:
    """A seed for `random.Random` that no other item of any split or environment shares."""
    return f"{environment}/{split}/{seed}/{index}"
