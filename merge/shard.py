"""The layout of the result: which tensors lie in which safetensors file, in what order.

A file is eight bytes of header length, a JSON header, and the tensors' bytes one after another.
"""

import json
from dataclasses import dataclass
from math import prod

from merge.checkpoint import FLOAT_BYTES
from merge.pairs import Pair


@dataclass(frozen=True)
class Shard:
    """One file of the result."""

    name: str
    pairs: list[Pair]

    @property
    def header(self) -> bytes:
        offsets, fields = 0, {}
        for pair in self.pairs:
            shape = list(pair.reasoning.shape)
            fields[pair.name] = {
                "dtype": pair.dtype,
                "shape": shape,
                "data_offsets": [offsets, offsets + pair.size],
            }
            offsets += pair.size
        text = json.dumps({"__metadata__": {"format": "pt"}, **fields}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        return len(self.header) + sum(pair.size for pair in self.pairs)


def into_shards(pairs: list[Pair], max_bytes: int) -> list[Shard]:
    """Tensors in the first parent's order; inside a file the widest first, so that each stays aligned."""
    groups: list[list[Pair]] = [[]]
    filled = 0
    for pair in pairs:
        if groups[-1] and filled + pair.size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(pair)
        filled += pair.size
    ordered = [sorted(group, key=lambda pair: -_width(pair)) for group in groups]
    if len(ordered) == 1:
        return [Shard("model.safetensors", ordered[0])]
    count = len(ordered)
    return [Shard(f"model-{k:05}-of-{count:05}.safetensors", group) for k, group in enumerate(ordered, 1)]


def _width(pair: Pair) -> int:
    return pair.size // max(1, prod(pair.reasoning.shape)) or FLOAT_BYTES.get(pair.dtype, 1)
