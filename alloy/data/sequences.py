"""Examples of several stores as the sequences that a trainer reads: from the disk, when it asks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloy.data.packing import Bins
from alloy.data.store import Store

Indices = NDArray[np.int64]


class Examples:
    """The examples of several stores under one numbering, store after store.

    Attributes:
        firsts: the number of each store's first example, and the end; shape (stores + 1,).
        lengths, losses: tokens of each example, and how many carry loss; shape (examples,).
        rows: a number of its own for every row of every store; shape (examples,).
        hashes: of the row's words; shape (examples,).
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = list(stores)
        self.firsts = np.cumsum([0, *(len(store) for store in stores)])
        self.lengths = _joined([store.lengths for store in stores])
        self.losses = _joined([store.losses for store in stores])
        self.hashes = _joined([store.hashes for store in stores], np.uint64)
        ends = np.cumsum([0, *(int(store.rows[-1]) + 1 if len(store) else 0 for store in stores)])
        self.rows = _joined([store.rows + end for store, end in zip(stores, ends[:-1], strict=True)])

    def locate(self, number: int) -> tuple[int, int]:
        """The store of an example, and its number there."""
        store = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return store, int(number - self.firsts[store])

    def read(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """An example's tokens, and 1 where one carries loss."""
        index, local = self.locate(number)
        store = self.stores[index]
        span = slice(store.starts[local], store.starts[local + 1])
        return store.tokens[span], store.mask[span]

    def firsts_of_equals(self, later: Sequence[bool]) -> NDArray[np.bool_]:
        """Which examples come from the first row that says what it says; shape (examples,).

        Args:
            later: for each store, whether its rows count as standing behind those of the others.
        """
        behind = np.repeat(np.asarray(later, dtype=bool), np.diff(self.firsts))
        order = np.argsort(behind, kind="stable")
        _, first, same = np.unique(self.hashes[order], return_index=True, return_inverse=True)
        usable = np.ones(len(order), dtype=bool)
        if len(order):
            # One row may have several examples: all of the first row's stay.
            usable[order] = self.rows[order] == self.rows[order[first]][same]
        return usable


def _joined(parts: Sequence[NDArray[Any]], dtype: Any = np.int64) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts], dtype=dtype)


class Sequences:
    """Sequence number to tokens, as a transform of a `datasets.Dataset`.

    Pickled (for a worker, or to be hashed) it is the stores' folders and the numbers, not the tokens.
    """

    def __init__(self, examples: Examples, chosen: Indices, bins: Bins, isolated: bool) -> None:
        self.examples, self.chosen, self.bins, self.isolated = examples, chosen, bins, isolated

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"input_ids": [], "labels": [], "seq_lengths": []}
        for number in batch["sequence"]:
            tokens, masks = zip(*(self.examples.read(i) for i in self.chosen[self.bins[number]]), strict=True)
            ids = np.concatenate(tokens).astype(np.int64)
            lengths = [len(part) for part in tokens]
            labels = np.where(np.concatenate(masks), ids, -100)
            # The first token of a document would be predicted from the document before it.
            labels[np.cumsum([0, *lengths[:-1]])] = -100
            found["input_ids"].append(ids)
            found["labels"].append(labels)
            found["seq_lengths"].append(lengths if self.isolated else [len(ids)])
        return found

    def __getstate__(self) -> dict[str, Any]:
        folders = [store.folder for store in self.examples.stores]
        return {"folders": folders, "chosen": self.chosen, "bins": self.bins, "isolated": self.isolated}

    def __setstate__(self, state: dict[str, Any]) -> None:
        examples = Examples([Store(folder) for folder in state["folders"]])
        self.__init__(examples, state["chosen"], state["bins"], state["isolated"])  # type: ignore[misc]
