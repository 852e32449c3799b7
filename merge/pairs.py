"""The parents' tensors in pairs: same names, same shapes, one dtype of the result; what is no weight is equal."""

from collections.abc import Callable
from dataclasses import dataclass

from merge.checkpoint import FLOAT_BYTES, Entry, same_bytes
from merge.findings import Findings

_SAID_AT_ONCE = 3
"""Names of one kind of difference in a message; the rest is counted."""
_BUFFERS = ("inv_freq", "position_ids", "masked_bias", "running_mean", "running_var")
_QUANTISED_PARTS = (
    "qweight",
    "qzeros",
    "g_idx",
    "absmax",
    "quant_map",
    "weight_scale",
    "weight_scale_inv",
    "SCB",
)
_DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
DTYPES = {name: code for code, name in _DTYPE_NAMES.items()}


@dataclass(frozen=True)
class Pair:
    """One tensor of the result and where its two sources lie."""

    name: str
    reasoning: Entry
    chat: Entry
    dtype: str
    """Of the result, as safetensors names it."""
    more: tuple[Entry, ...] = ()
    """Of merges of more than two: the others, the base last where there is one."""

    @property
    def size(self) -> int:
        """Bytes of the result."""
        if not self.reasoning.is_float:
            return self.reasoning.size
        return self.reasoning.size // FLOAT_BYTES[self.reasoning.dtype] * FLOAT_BYTES[self.dtype]


def pair_tensors(
    first: dict[str, Entry], second: dict[str, Entry], dtype: str | None, found: Findings
) -> list[Pair]:
    """Every tensor that both have; what differs is reported to `found`.

    Args:
        dtype: of every float tensor of the result, as safetensors names it; None: the parents'.
    """
    _compare_names(first, second, found)
    shared = [name for name in first if name in second]
    shapes = [name for name in shared if first[name].shape != second[name].shape]
    _say_some(
        shapes,
        lambda name: (
            f"{name} is {list(first[name].shape)} in {found.ours} and {list(second[name].shape)} in {found.theirs}"
        ),
        "Shapes must agree: merge descendants of one model, with one vocabulary.",
        found,
    )
    pairs = [_pair(name, first[name], second[name], dtype, found) for name in shared if name not in shapes]
    mixed = [pair.name for pair in pairs if pair.dtype == ""]
    _say_some(
        mixed,
        lambda name: (
            f"{name} is {_dtype(first[name])} in {found.ours} and {_dtype(second[name])} in {found.theirs}"
        ),
        "Choose the result's: --dtype bfloat16 (or float32, ...), or a donor.",
        found,
    )
    return pairs


def _compare_names(first: dict[str, Entry], second: dict[str, Entry], found: Findings) -> None:
    for role, ours, theirs in ((found.ours, first, second), (found.theirs, second, first)):
        _say_some(
            [name for name in ours if name not in theirs],
            lambda name, role=role: f"{name} is only in {role}",  # type: ignore[misc]
            "Both parents need the same tensors: merge descendants of one model.",
            found,
        )


def _say_some(names: list[str], say: Callable[[str], str], remedy: str, found: Findings) -> None:
    if names:
        rest = f" (and {len(names) - _SAID_AT_ONCE} more)" if len(names) > _SAID_AT_ONCE else ""
        found.hard("; ".join(say(name) for name in names[:_SAID_AT_ONCE]) + rest, remedy)


def _pair(name: str, ours: Entry, theirs: Entry, dtype: str | None, found: Findings) -> Pair:
    """One tensor's pair; its dtype is "" where nobody has said what two different ones become."""
    if not (ours.is_float and theirs.is_float) or name.endswith(_QUANTISED_PARTS):
        _check_not_weights(name, ours, theirs, found)
        return Pair(name, ours, theirs, ours.dtype)
    if name.endswith(_BUFFERS) and not same_bytes(ours, theirs):
        found.hard(
            f"{name} is a buffer and differs between {found.ours} and {found.theirs}",
            "Buffers are computed, not trained: merge descendants of one model.",
        )
    if ours.dtype == theirs.dtype:
        return Pair(name, ours, theirs, dtype or ours.dtype)
    donors = {found.ours: ours.dtype, found.theirs: theirs.dtype, None: ""}.get(found.donor, "")
    return Pair(name, ours, theirs, dtype or donors)


def _check_not_weights(name: str, ours: Entry, theirs: Entry, found: Findings) -> None:
    """Integers are taken over where they are equal (a mask, a count); quantised weights never are."""
    packed = name.endswith(_QUANTISED_PARTS) or any(
        entry.dtype.startswith(("F8", "F4", "F6")) for entry in (ours, theirs)
    )
    if packed:
        found.hard(
            f"{name} ({ours.dtype}) is part of a quantised weight",
            "Name the checkpoint it was made from, or save it dequantised.",
        )
    elif not same_bytes(ours, theirs):
        found.hard(
            f"{name} is {ours.dtype} in {found.ours} and {theirs.dtype} in {found.theirs}, and its values differ",
            "Only float weights can be interpolated; integers must be equal.",
        )


def _dtype(entry: Entry) -> str:
    return _DTYPE_NAMES.get(entry.dtype, entry.dtype)
