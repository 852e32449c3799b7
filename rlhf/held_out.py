"""What a reward model is worth on pairs that it was not trained on: accuracy, by margin and by length, calibration.

Length bias shows as accuracy that differs between pairs whose preferred answer is the longer one and pairs
where it is the shorter, and as the model preferring the longer answer more often than people did.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alloy.data.preference_shapes import Preference
from alloy.evaluate.statistics import Interval, mean_interval
from alloy.judges.reward_model import Scorer

BINS = 8
"""Of the calibration, with equally many pairs in each."""
_FEW = 20
"""Pairs that a bin has at least."""
_KINDS = 6
"""Different margins up to which each has a row of its own; beyond, four groups of equal size."""


@dataclass(frozen=True)
class Measured:
    """A held-out pair: the two scores, and what tells it apart.

    Attributes:
        longer_by: words of the chosen answer more than of the rejected one.
    """

    chosen: float
    rejected: float
    longer_by: int
    margin: float | None = None

    @property
    def right(self) -> float:
        """1 where the chosen answer scores higher, 0 where it scores lower; a tie is half."""
        return 0.5 if self.chosen == self.rejected else float(self.chosen > self.rejected)


def measure(scorer: Scorer, pairs: Sequence[Preference]) -> list[Measured]:
    """Both answers of every pair scored; a pair with an answer that has no score is left out."""
    prompts = [pair.prompt for pair in pairs]
    scores = scorer.score([*prompts, *prompts], [*(p.chosen for p in pairs), *(p.rejected for p in pairs)])
    found = []
    for pair, chosen, rejected in zip(pairs, scores[: len(pairs)], scores[len(pairs) :], strict=True):
        if chosen is not None and rejected is not None:
            longer_by = len(pair.chosen.split()) - len(pair.rejected.split())
            found.append(Measured(chosen, rejected, longer_by, pair.margin))
    return found


def held_out_accuracy(found: Sequence[Measured]) -> Interval:
    """Share of pairs whose chosen answer scores higher, with its interval; a tie is half."""
    return mean_interval([pair.right for pair in found])


def describe(found: Sequence[Measured]) -> dict[str, Any]:
    """What the artifact and the report tell of the held-out pairs.

    Returns: `accuracy`; `by_margin` and `by_length`, rows of a label and an interval; `prefers_longer`, the
        share of pairs of unequal length in which the longer answer is preferred, by the model and by the
        data; `calibration`, see `calibration`; `calibration_error`.
    """
    unequal = [pair for pair in found if pair.longer_by]
    by_model = [pair.right if pair.longer_by > 0 else 1 - pair.right for pair in unequal]
    bins = calibration(found)
    return {
        "accuracy": asdict(held_out_accuracy(found)),
        "by_margin": _rows(_by_margin(found)),
        "by_length": _rows(_by_length(found)),
        "prefers_longer": {
            "model": asdict(mean_interval(by_model)),
            "data": asdict(mean_interval([float(pair.longer_by > 0) for pair in unequal])),
        }
        if unequal
        else {},
        "calibration": bins,
        "calibration_error": calibration_error(bins),
    }


def calibration(found: Sequence[Measured], bins: int = BINS) -> list[dict[str, float]]:
    """How often the higher-scored answer is the preferred one, by how sure the model is of it.

    The model's probability is Bradley-Terry's, sigmoid of the difference of the scores, from a half up; the
    bins have equally many pairs.

    Returns: by bin `predicted` (the mean probability), and `value`, `low`, `high`, `n` of what was observed.
    """
    ordered = sorted(found, key=lambda pair: abs(pair.chosen - pair.rejected))
    count = max(1, min(bins, len(ordered) // _FEW))
    rows = []
    for index in range(count):
        part = ordered[index * len(ordered) // count : (index + 1) * len(ordered) // count]
        if part:
            predicted = sum(_sigmoid(abs(pair.chosen - pair.rejected)) for pair in part) / len(part)
            rows.append({"predicted": predicted, **asdict(mean_interval([pair.right for pair in part]))})
    return rows


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """The mean distance between what was predicted and what was observed, weighted by the bins' pairs."""
    total = sum(row["n"] for row in bins)
    return sum(row["n"] * abs(row["predicted"] - row["value"]) for row in bins) / max(1, total)


def _by_margin(found: Sequence[Measured]) -> list[tuple[str, list[Measured]]]:
    with_margin = [(pair.margin, pair) for pair in found if pair.margin is not None]
    kinds = sorted({margin for margin, _ in with_margin})
    if len(kinds) <= _KINDS:
        return [(f"{kind:g}", [pair for margin, pair in with_margin if margin == kind]) for kind in kinds]
    return _quarters([pair for _, pair in with_margin], lambda pair: pair.margin or 0.0)


def _by_length(found: Sequence[Measured]) -> list[tuple[str, list[Measured]]]:
    """The chosen answer much shorter, shorter, as long, longer, much longer, in words."""
    sizes = sorted(abs(pair.longer_by) for pair in found if pair.longer_by)
    if not sizes:
        return [("equal", list(found))]
    much = sizes[len(sizes) // 2]
    groups: list[tuple[str, Callable[[int], bool]]] = [
        (f"{much} words shorter, or more", lambda by: by <= -much),
        ("shorter", lambda by: -much < by < 0),
        ("as long", lambda by: by == 0),
        ("longer", lambda by: 0 < by < much),
        (f"{much} words longer, or more", lambda by: by >= much),
    ]
    return [(label, [pair for pair in found if holds(pair.longer_by)]) for label, holds in groups]


def _quarters(
    pairs: Sequence[Measured], key: Callable[[Measured], float]
) -> list[tuple[str, list[Measured]]]:
    ordered = sorted(pairs, key=key)
    parts = [ordered[i * len(ordered) // 4 : (i + 1) * len(ordered) // 4] for i in range(4)]
    return [(f"{key(part[0]):.3g} to {key(part[-1]):.3g}", part) for part in parts if part]


def _rows(groups: Sequence[tuple[str, list[Measured]]]) -> list[dict[str, Any]]:
    return [{"label": label, **asdict(held_out_accuracy(part))} for label, part in groups if part]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
