"""Groups of tensors, each of which may have an alpha of its own.

attention, mlp, embeddings          layers that mix tokens, layers that do not, token tables and heads
layers.K-L                          everything in these layers, both ends in, counted from 0
layers.K-L.attention                or .mlp: that part of them
other                               whatever no other group names
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

OTHER = "other"
Alpha = float | Mapping[str, float]
"""Share of the chat weights: one for all tensors, or one for every group."""

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_GROUP = re.compile(r"(attention|mlp|embeddings)|layers\.(\d+)-(\d+)(?:\.(attention|mlp))?")
# Parts of a tensor's name, the first kind that has one of them; hybrids call every layer's body a mixer.
_KINDS = (
    ("embeddings", re.compile(r"embed|wte|wpe|lm_head|^score$")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|expert|moe|router|^gate$|^(up|down|gate)_proj$")),
    ("attention", re.compile(r"mixer|mamba|conv1d|ssm")),
)


def kind_of(name: str) -> str:
    """attention, mlp or embeddings by the parts of a tensor's name; `other` for a norm, whatever it lies in."""
    parts = name.lower().split(".")
    if any("norm" in part or part.startswith("ln_") for part in parts):
        return OTHER
    for kind, known in _KINDS:
        if any(known.search(part) for part in parts):
            return kind
    return OTHER


def check_group(group: str) -> None:
    """Raises ValueError for a text that is no group."""
    match = _GROUP.fullmatch(group)
    if group != OTHER and match is None:
        raise ValueError(
            f"{group!r} is no group of tensors: write attention, mlp, embeddings, layers.0-3, "
            "layers.0-3.attention, layers.0-3.mlp or other"
        )
    if match and match[2] and int(match[2]) > int(match[3]):
        raise ValueError(f"{group!r}: the first layer comes after the last")


def partition(names: Iterable[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Every tensor's name, by the one group that it belongs to.

    Raises:
        ValueError: a tensor in no group or in two, or a group without a tensor.
    """
    found: dict[str, list[str]] = {group: [] for group in groups}
    for name in names:
        naming = [group for group in groups if _names(group, name)] or [OTHER]
        if len(naming) > 1:
            raise ValueError(
                f"{naming[0]} and {naming[1]} both name {name}: a tensor belongs to one group; "
                "write layers.K-L.attention, or leave one out"
            )
        if naming[0] not in found:
            raise ValueError(f"{name} is in no group: add {OTHER}")
        found[naming[0]].append(name)
    empty = [group for group, members in found.items() if not members]
    if empty:
        raise ValueError(f"{empty[0]} names no tensor of these checkpoints: leave it out")
    return found


def _names(group: str, name: str) -> bool:
    match = _GROUP.fullmatch(group)
    if match is None:
        return False
    kind, first, last, part = match.groups()
    if kind:
        return kind_of(name) == kind
    layer = _LAYER.search(name)
    return layer is not None and int(first) <= int(layer[1]) <= int(last) and part in (None, kind_of(name))


def alphas_of(alpha: Alpha, names: Sequence[str]) -> dict[str, float]:
    """The alpha of every tensor.

    Raises:
        ValueError: an alpha outside [0, 1], or groups that do not fit to the tensors (`partition`).
    """
    if isinstance(alpha, float | int):
        return dict.fromkeys(names, share(alpha))
    groups = partition(names, list(alpha))
    return {name: share(alpha[group]) for group, members in groups.items() for name in members}


def told(alpha: Alpha) -> str:
    """0.3, or attention=0.3,other=0.5; `parse_alpha` reads it back."""
    if isinstance(alpha, float | int):
        return repr(alpha)
    return ",".join(f"{group}={value!r}" for group, value in alpha.items())


def parse_alpha(text: str) -> Alpha:
    """What `told` writes.

    Raises:
        ValueError: not a number from 0 to 1, or a group that is none or stands there twice.
    """
    if "=" not in text:
        return _parse_share(text)
    pairs = [part.partition("=") for part in text.split(",")]
    for group, count in Counter(group for group, _, _ in pairs).items():
        check_group(group)
        if count > 1:
            raise ValueError(f"{group} has two alphas: give it one")
    return {group: _parse_share(value) for group, _, value in pairs}


def share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{value}: the share of the chat weights lies between 0 and 1")
    return value


def _parse_share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"invalid float value: {text!r}") from None
    return share(value)
