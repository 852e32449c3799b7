"""A data config to the sequences that SFT trains on: sources, rows, examples, blend, sequences."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from alloy.data.blend import Part, blend
from alloy.data.config import DataConfig, SourceConfig, blended_sources, has_shares
from alloy.data.examples import Leaf, open_store
from alloy.data.packing import Bins, best_fit, next_fit, one_each
from alloy.data.sequences import Examples, Sequences
from alloy.data.sources import place
from alloy.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Indices = NDArray[np.int64]
Layout = Callable[[Indices, int], Bins]
_LAYOUTS: dict[str, Layout] = {"best-fit": best_fit, "concatenate": next_fit, "none": one_each}


@dataclass(frozen=True)
class Prepared:
    """Sequences to train on, and what was counted on the way.

    Attributes:
        dataset: rows with `input_ids`, `labels` (-100 where no loss) and `seq_lengths` (of the documents
            that may not see each other), read from the disk when they are asked for.
        counts: of rows, examples, tokens and sequences.
        rejected: what was left out, each with its source, place and reason.
    """

    dataset: Dataset
    counts: dict[str, float]
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def write_rejected(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            for entry in self.rejected:
                stream.write(json.dumps(entry) + "\n")


def prepare(
    config: DataConfig,
    tokenizer: "PreTrainedTokenizerBase",
    max_sequence_tokens: int,
    seed: int,
    cache: Path | None = None,
) -> Prepared:
    """Read, check, transform, render, mask, blend and pack; the same sequences for the same seed.

    Args:
        cache: where tokenised sources are kept by fingerprint; `cache_folder()/data` when None.
    Raises:
        InputError: too many bad rows, an example longer than a sequence under `too_long: stop`, or
            nothing left to train on.
    """
    leaves = list(_leaves(config.sources))
    stores = [open_store(leaf, config, tokenizer, seed, cache) for leaf in leaves]
    examples = Examples(stores)
    rejected = [entry for store in stores for entry in store.rejected()]
    counts: dict[str, float] = {}
    for store in stores:
        for name, count in store.counts.items():
            if not name.startswith("column "):
                counts[name] = counts.get(name, 0) + count

    usable = np.ones(len(examples.lengths), dtype=bool)
    if config.checks.deduplicate:
        # A row that two sources have stays in the one that is to be taken whole.
        usable = examples.firsts_of_equals([not leaf.whole for leaf in leaves])
    again = np.unique(examples.rows[~usable], return_index=True)[1]
    counts["duplicates"] = len(again)
    rejected += [
        _left_out(examples, leaves, n, "said before in another row") for n in np.flatnonzero(~usable)[again]
    ]
    long = np.flatnonzero(usable & (examples.lengths > max_sequence_tokens))
    counts["too_long"] = len(long)
    if len(long) and config.too_long != "alone":
        told = [
            _left_out(
                examples, leaves, n, f"{examples.lengths[n]} tokens, a sequence holds {max_sequence_tokens}"
            )
            for n in long
        ]
        if config.too_long == "stop":
            raise InputError(
                f"{told[0]['where']}: {told[0]['reason']}"
                + (f"; {len(told) - 1} more examples are too long" if len(told) > 1 else "")
                + ". Raise train.max_sequence_tokens, or set data.too_long to reject or alone."
            )
        rejected += told
        usable[long] = False

    per_leaf = iter(
        first + np.flatnonzero(usable[first:end])
        for first, end in zip(examples.firsts[:-1], examples.firsts[1:], strict=True)
    )
    chosen = _choose(config.sources, per_leaf, examples.lengths, str(seed))
    if not len(chosen):
        raise InputError("data: no example is left to train on. Add sources or rows.")
    bins = lay_out(examples.lengths[chosen], _LAYOUTS[config.packing], max_sequence_tokens)
    tokens = int(examples.lengths[chosen].sum())
    counts |= {
        "examples": len(chosen),
        "sequences": len(bins),
        "tokens": tokens,
        "loss_tokens": int(examples.losses[chosen].sum()),
        "fill": tokens / (len(bins) * max_sequence_tokens),
    }
    order = np.random.default_rng([seed, len(bins)]).permutation(len(bins))
    sizes = np.add.reduceat(examples.lengths[chosen][bins.items], bins.starts[:-1])
    dataset = Dataset.from_dict({"sequence": order, "tokens": sizes[order]}).with_transform(
        Sequences(examples, chosen, bins, isolated=config.packing != "concatenate")
    )
    return Prepared(dataset, counts, rejected)


def _leaves(sources: Sequence[SourceConfig], rate: float = 1.0) -> Iterator[Leaf]:
    """The sources behind the blends, in the order in which `_choose` asks for them.

    Where a part of the rows is enough, only that part is read: chosen row by row, so that the rest
    costs nothing.
    """
    shared = has_shares(sources)
    for source in sources:
        own = 1.0 if shared else rate * min(1.0, source.epochs)
        if source.blend is not None:
            inner = blended_sources(source.blend)
            yield from _leaves(inner, 1.0 if has_shares(inner) else own)
        else:
            yield Leaf(source, own, whole=not shared)


def _choose(
    sources: Sequence[SourceConfig], per_leaf: Iterator[Indices], lengths: Indices, seed: str
) -> Indices:
    shared = has_shares(sources)
    parts = []
    for source in sources:
        inner = blended_sources(source.blend) if source.blend is not None else []
        examples = _choose(inner, per_leaf, lengths, f"{seed}/{source.name}") if inner else next(per_leaf)
        # Of less than one epoch without shares the rows were chosen before they were read.
        epochs = source.epochs if shared or has_shares(inner) else max(1.0, source.epochs)
        parts.append(Part(source.name, examples, epochs, source.share))
    return blend(parts, lengths, seed)


def lay_out(lengths: Indices, layout: Layout, capacity: int) -> Bins:
    """Sequences of the chosen examples; those that are too long come last, alone."""
    fitting = np.flatnonzero(lengths <= capacity)
    long = np.flatnonzero(lengths > capacity)
    bins = layout(lengths[fitting], capacity)
    ends = len(fitting) + np.arange(1, len(long) + 1)
    return Bins(np.concatenate([fitting[bins.items], long]), np.concatenate([bins.starts, ends]))


def _left_out(examples: Examples, leaves: list[Leaf], number: int, reason: str) -> dict[str, Any]:
    leaf, local = examples.locate(number)
    source = leaves[leaf].source
    where = place(source, int(examples.stores[leaf].rows[local]))
    return {"source": source.name, "where": where, "reason": reason}
