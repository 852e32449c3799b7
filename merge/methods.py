"""Merge methods beside linear interpolation, a function each: its signature is its schema.

A function gets the same run of one tensor from every model (and from the base, where it has such a
parameter) and returns that run of the result in float64; it is rounded once, when it is written. What
needs the whole tensor (a norm, a threshold) is found in passes of its own, so that a run is all there is
in memory.
"""

import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import create_model

from alloy.artifact import fingerprint_bytes
from alloy.config import Config
from merge.weights import Values

RUN = 1 << 18
"""Weights in a run of a pass over a whole tensor."""
_DIGITS = 16


class Facts:
    """What was found out about whole tensors, once, whichever thread asks first."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, find: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._known:
                self._known[key] = find()
            return self._known[key]


@dataclass(frozen=True)
class Part:
    """A run of one model's tensor."""

    name: str
    """Of the tensor."""
    model: int
    """Place among the models; -1 is the base."""
    start: int
    """Of the run's first weight."""
    values: Values
    total: int
    """Weights of the whole tensor."""
    read: Callable[[int, int], Values]
    """(first weight, how many) -> another run of the same tensor."""
    facts: Facts = field(default_factory=Facts)


def whole(parts: Sequence[Part], fold: Callable[..., Any]) -> list[Any]:
    """`fold` of every run of the parts' whole tensors, in order."""
    total = parts[0].total
    runs = [(start, min(RUN, total - start)) for start in range(0, total, RUN)]
    return [fold(*(part.read(start, count) for part in parts)) for start, count in runs]


def mean(models: list[Part], *, weights: list[float], normalize: bool = True) -> Values:
    """Weighted mean: sum of w_k * theta_k, by default divided by the sum of the weights.

    Args:
        weights: one for each model.
    Source: Wortsman et al. 2022 (arXiv:2203.05482).
    """
    total = _weighted([part.values for part in models], weights)
    return total / math.fsum(weights) if normalize else total


def task(models: list[Part], base: Part, *, weights: list[float], scale: float = 1.0) -> Values:
    """Task vectors added to the base: base + scale * sum of w_k * (theta_k - base); a negative weight unlearns.

    Source: Ilharco et al. 2023 (arXiv:2212.04089).
    """
    return base.values + scale * _weighted([part.values - base.values for part in models], weights)


def slerp(models: list[Part], *, t: float) -> Values:
    """The point at t on the arc between two models' tensors, each seen as one vector.

    sin((1 - t) w) / sin(w) * a + sin(t w) / sin(w) * b, where w is the angle between them; the line
    between them where the angle is below 1e-6 or a norm is 0.

    Args:
        t: from 0 (the first of the two) to 1.
    Source: Shoemake 1985.
    """
    first, second = models
    angle = first.facts.get((first.name, "angle"), lambda: _angle(first, second))
    if angle < 1e-6:
        return (1 - t) * first.values + t * second.values
    shares = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return shares[0] * first.values + shares[1] * second.values


def ties(
    models: list[Part], base: Part, *, weights: list[float], density: float = 0.2, scale: float = 1.0
) -> Values:
    """Trim, elect signs, and mean of what agrees: base + scale * merged task vectors.

    Of each task vector the `density` largest weights by magnitude stay (and those equal to the smallest
    that does); at each weight the sign of the weighted sum is elected; the weighted mean is of the models
    that have it. The paper trims a model as a whole and weighs models alike; here a tensor is trimmed.

    Args:
        density: share of each tensor's weights that stays, above 0 to 1.
    Source: Yadav et al. 2023 (arXiv:2306.01708).
    """
    trimmed = []
    for part in models:
        delta = part.values - base.values
        floor = part.facts.get((part.name, part.model, density), partial(_threshold, part, base, density))
        trimmed.append(np.where(np.abs(delta) >= floor, delta, 0.0))
    return base.values + scale * _elected(trimmed, weights, normalize=True)


def dare(
    models: list[Part],
    base: Part,
    *,
    weights: list[float],
    density: float = 0.5,
    seed: int = 0,
    elect: bool = False,
) -> Values:
    """Drop and rescale: base + sum of w_k * (theta_k - base) * mask_k / density.

    What stays is drawn for every weight, from the seed, the tensor's name and the model's place alone.

    Args:
        density: probability that a weight's change stays, above 0 to 1 (the paper's 1 - p).
        elect: add only what has the sign of the weighted sum, as TIES does.
    Source: Yu et al. 2023 (arXiv:2311.03099).
    """
    dropped = []
    for part in models:
        stays = _uniform(seed, part) < density
        dropped.append(np.where(stays, (part.values - base.values) / density, 0.0))
    total = _elected(dropped, weights, normalize=False) if elect else _weighted(dropped, weights)
    return base.values + total


METHODS: dict[str, Callable[..., Values]] = {
    "mean": mean,
    "task": task,
    "slerp": slerp,
    "ties": ties,
    "dare": dare,
}


def needs_base(method: str) -> bool:
    return "base" in inspect.signature(METHODS[method]).parameters


def options_of(method: str) -> dict[str, inspect.Parameter]:
    """What a user sets of a method, by name."""
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def swept_options(method: str) -> list[str]:
    """Those that a sweep can vary: one number each, and more than the seed of a draw."""
    return [name for name, option in options_of(method).items() if option.annotation is float]


def schema_of(method: str, left_out: str = "") -> type[Config]:
    """The config of a method's options: its signature. `left_out` is one that is given elsewhere."""
    fields: dict[str, Any] = {
        name: (option.annotation, ... if option.default is option.empty else option.default)
        for name, option in options_of(method).items()
        if name != left_out
    }
    return create_model(method, __base__=Config, **fields)


def check_options(method: str, options: Mapping[str, Any], models: int) -> None:
    """Raises ValueError where a value, or the number of models, makes no sense for the method."""
    if method == "slerp" and models != 2:
        raise ValueError(f"slerp is of two models, not of {models}")
    weights = options.get("weights")
    if weights is not None and len(weights) != models:
        raise ValueError(f"weights: {len(weights)} for {models} models: give one to each")
    if weights is not None and not all(math.isfinite(weight) for weight in weights):
        raise ValueError(f"weights: {weights}: only finite numbers weigh")
    if weights is not None and options.get("normalize") and math.fsum(weights) == 0:
        raise ValueError(
            f"weights: {weights} sum to 0: nothing can be divided by that; set normalize to false"
        )
    if "t" in options and not 0 <= options["t"] <= 1:
        raise ValueError(f"t: {options['t']}: the place on the arc lies between 0 and 1")
    if "density" in options and not 0 < options["density"] <= 1:
        raise ValueError(f"density: {options['density']}: the share that stays lies above 0, up to 1")
    if "scale" in options and not math.isfinite(options["scale"]):
        raise ValueError(f"scale: {options['scale']}: only a finite number scales")


def _weighted(values: Sequence[Values], weights: Sequence[float]) -> Values:
    total = np.zeros_like(values[0])
    for each, weight in zip(values, weights, strict=True):
        total += weight * each
    return total


def _elected(deltas: Sequence[Values], weights: Sequence[float], normalize: bool) -> Values:
    """The weighted sum or mean of what has the sign of the weighted sum of all."""
    sign = np.sign(_weighted(deltas, weights))
    total, weight_of_all = np.zeros_like(sign), np.zeros_like(sign)
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = (np.sign(weight * delta) == sign) & (sign != 0)
        total += np.where(agrees, weight * delta, 0.0)
        weight_of_all += np.where(agrees, abs(weight), 0.0)
    if normalize:
        return np.divide(total, weight_of_all, out=total, where=weight_of_all > 0)
    return total


def _angle(first: Part, second: Part) -> float:
    """Between two tensors as vectors, radians; 0 where one of them is all zeros."""
    sums = whole([first, second], lambda a, b: (np.sum(a * b), np.sum(a * a), np.sum(b * b)))
    product, ours, theirs = (math.fsum(float(each[i]) for each in sums) for i in range(3))
    if ours == 0 or theirs == 0:
        return 0.0
    cosine = product / math.sqrt(ours) / math.sqrt(theirs)
    # Opposite vectors have no one arc between them: the line, then.
    return math.acos(max(-1.0, min(1.0, cosine))) if cosine > -1 + 1e-12 else 0.0


def _threshold(part: Part, base: Part, density: float) -> float:
    """The smallest magnitude that stays when `density` of the whole tensor's changes do.

    Found by counting: the order of non-negative float64 is that of their bits, so four passes over
    sixteen bits each name the wanted one, and no tensor is ever sorted or held.
    """
    keep = max(1, math.floor(density * part.total))
    prefix = 0
    for shift in (48, 32, 16, 0):

        def count(
            values: Values, under: Values, shift: int = shift, prefix: int = prefix
        ) -> NDArray[np.int64]:
            bits = np.abs(values - under).view(np.uint64)
            if shift < 48:
                bits = bits[bits >> np.uint64(shift + _DIGITS) == prefix]
            digits = (bits >> np.uint64(shift)) & np.uint64((1 << _DIGITS) - 1)
            return np.bincount(digits.astype(np.int64), minlength=1 << _DIGITS)

        counts = np.zeros(1 << _DIGITS, dtype=np.int64)
        for each in whole([part, base], count):
            counts += each
        at_least = np.cumsum(counts[::-1])[::-1]
        digit = int(np.flatnonzero(at_least >= keep)[-1])
        keep -= int(at_least[digit + 1]) if digit + 1 < len(at_least) else 0
        prefix = (prefix << _DIGITS) | digit
    return float(np.uint64(prefix).view(np.float64))


def _uniform(seed: int, part: Part) -> Values:
    """A number from 0 to 1 for every weight of the run, the same however the tensor is cut."""
    key = int(fingerprint_bytes(f"dare|{seed}|{part.name}|{part.model}".encode())[:32], 16)
    numbers = np.random.Philox(key=key)
    # A step of the counter yields four numbers.
    numbers.advance(part.start // 4)
    skipped = part.start % 4
    return np.random.Generator(numbers).random(skipped + len(part.values))[skipped:]
