"""Runs of weights as torch tensors, for what the compiled kernel does not do; imports torch."""

from math import prod

import numpy as np
import torch
from torch import Tensor

from merge.checkpoint import Entry
from merge.weights import Buffer, Files, read_values

_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}


def as_tensor(buffer: Buffer, dtype: str) -> Tensor:
    """The same memory as a flat tensor."""
    return torch.from_numpy(buffer).view(_DTYPES[dtype])


def read_run(files: Files, entry: Entry, start: int, count: int) -> Tensor:
    """Weights `start` to `start + count`, flat: in the stored dtype, or float64 where they are computed."""
    if not entry.is_plain:
        return torch.from_numpy(read_values(files, entry, start, count))
    width = entry.size // max(1, prod(entry.shape))
    return as_tensor(files.read(entry, start, np.empty(count * width, dtype=np.uint8)), entry.dtype)
