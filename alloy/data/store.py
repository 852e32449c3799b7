"""Tokenised examples on disk, memory-mapped: millions of them cost the memory of their lengths.

A store is a folder of flat arrays. It is written under a temporary name and renamed when it is
complete, so that a folder with the right name is whole.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARRAYS = {
    "tokens": np.uint32,  # of all examples, one after the other
    "mask": np.uint8,  # 1 where a token carries loss
    "lengths": np.int32,  # tokens of each example
    "losses": np.int32,  # of those, the ones that carry loss
    "rows": np.int64,  # the number of the row that an example came from
    "hashes": np.uint64,  # of that row's words
}


@dataclass
class Portion:
    """The examples of some rows, on their way to a store; arrays by the names of the store's files."""

    arrays: dict[str, NDArray[Any]]
    rejected: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class Store:
    """Examples that were tokenised, in the order of their rows.

    Attributes:
        lengths, losses: tokens of each example, and how many carry loss; shape (examples,).
        rows, hashes: the row of each example, and its words' hash; shape (examples,).
        starts: where each example begins in `tokens`, and the end; shape (examples + 1,).
        counts: of rows: read, rejected, contaminated, thinking off and so on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        told = json.loads((folder / "store.json").read_text())
        self.counts: dict[str, int] = told["counts"]
        arrays = {name: self._array(name, dtype) for name, dtype in _ARRAYS.items()}
        self.tokens, self.mask = arrays["tokens"], arrays["mask"]
        self.lengths, self.losses = arrays["lengths"], arrays["losses"]
        self.rows, self.hashes = arrays["rows"], arrays["hashes"]
        self.starts = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        np.cumsum(self.lengths, out=self.starts[1:])

    def __len__(self) -> int:
        return len(self.lengths)

    def rejected(self) -> list[dict[str, Any]]:
        """What was left out, each with where it stands and why."""
        return [json.loads(line) for line in (self.folder / "rejected.jsonl").read_text().splitlines()]

    def _array(self, name: str, dtype: Any) -> NDArray[Any]:
        path = self.folder / f"{name}.bin"
        # An empty file cannot be mapped.
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


def write_store(folder: Path, fill: Callable[[Callable[[Portion], None]], None]) -> Store:
    """Write a store; `fill` is given the function that appends a portion.

    Nothing is left behind under the store's name when `fill` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    counts: dict[str, int] = {}
    try:
        streams = {name: (building / f"{name}.bin").open("wb") for name in _ARRAYS}
        with (building / "rejected.jsonl").open("w", encoding="utf-8") as rejected:

            def append(portion: Portion) -> None:
                for name, dtype in _ARRAYS.items():
                    portion.arrays[name].astype(dtype, copy=False).tofile(streams[name])
                for entry in portion.rejected:
                    rejected.write(json.dumps(entry, ensure_ascii=True) + "\n")
                for name, count in portion.counts.items():
                    counts[name] = counts.get(name, 0) + count

            try:
                fill(append)
            finally:
                for stream in streams.values():
                    stream.close()
        (building / "store.json").write_text(json.dumps({"counts": counts}))
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return Store(folder)
