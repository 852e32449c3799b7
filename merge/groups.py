"""Groups of modules, each of which may have an alpha of its own: attention, mlp, embeddings, other."""

from collections.abc import Mapping

GROUPS = ("attention", "mlp", "embeddings", "other")
"""Layers that mix tokens, layers that do not, token tables and heads, and what is left (norms)."""

Alpha = float | Mapping[str, float]
"""Share of the chat weights: one for all tensors, or one for every group."""

_PARTS = {
    "embeddings": ("embed", "wte", "wpe", "lm_head", "score", "embed_out"),
    "attention": ("attn", "attention", "mixer", "mamba", "conv1d", "ssm"),
    "mlp": ("mlp", "feed_forward", "ffn", "experts", "moe", "router", "gate"),
}


def group_of(name: str) -> str:
    """The group of a tensor by the parts of its name; a norm is `other`, whatever it lies in."""
    parts = name.lower().split(".")
    if any("norm" in part or part.startswith("ln_") for part in parts):
        return "other"
    for group, known in _PARTS.items():
        if any(part == word or word in part for part in parts for word in known):
            return group
    return "other"


def alpha_of(alpha: Alpha, name: str) -> float:
    return alpha if isinstance(alpha, float | int) else alpha[group_of(name)]


def told(alpha: Alpha) -> str:
    """0.3, or attention=0.3,mlp=0.5,... in the order of `GROUPS`."""
    if isinstance(alpha, float | int):
        return f"{alpha:g}"
    return ",".join(f"{group}={alpha[group]:g}" for group in GROUPS)


def parse_alpha(text: str) -> Alpha:
    """What `told` writes, read back.

    Raises:
        ValueError: not a number from 0 to 1, a group that is unknown, or one left out.
    """
    if "=" not in text:
        return _share(text)
    found = {}
    for part in text.split(","):
        group, _, value = part.partition("=")
        if group not in GROUPS:
            raise ValueError(f"{group!r} is no group of modules: there are {', '.join(GROUPS)}")
        found[group] = _share(value)
    missing = [group for group in GROUPS if group not in found]
    if missing:
        raise ValueError(f"{missing[0]} has no alpha: give one to each of {', '.join(GROUPS)}")
    return found


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"invalid float value: {text!r}") from None
    if not 0 <= value <= 1:
        raise ValueError(f"{value}: the share of the chat weights lies between 0 and 1")
    return value
