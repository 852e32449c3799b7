"""A data config to the dataset that SFT trains on: rows, tokens, sequences."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import Dataset

from alloy.data.config import DataConfig
from alloy.data.packing import best_fit, next_fit
from alloy.data.sources import Row, read_rows
from alloy.data.transforms import strip_reasoning, truncate_thinking
from alloy.errors import InputError
from alloy.template import Encoded, encode_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """Sequences to train on, and what was counted on the way.

    `dataset` has `input_ids`, `labels` (-100 where no loss) and `seq_lengths` (of the documents that
    may not see each other).
    """

    dataset: Dataset
    counts: dict[str, float]


def rows_of(config: DataConfig, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Iterator[Row]:
    """The blend's rows after the transforms, source by source."""
    for source in config.sources:
        rows: Iterator[Row] = read_rows(source, seed)
        if config.reasoning_off is not None:
            rows = strip_reasoning(rows, config.reasoning_off, seed)
        if config.truncate is not None:
            rows = truncate_thinking(
                rows,
                config.truncate,
                seed,
                encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
                decode=lambda ids: tokenizer.decode(ids),
            )
        yield from rows


def prepare(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", max_sequence_tokens: int, seed: int
) -> Prepared:
    """Read, transform, render, mask and pack; the same dataset for the same seed.

    Raises:
        InputError: a bad row, or an example longer than a sequence under `too_long: refuse`.
    """
    examples: list[Encoded] = []
    counts = {"rows": 0, "examples": 0, "too_long": 0, "thinking_off": 0}
    for row in rows_of(config, tokenizer, seed):
        counts["rows"] += 1
        counts["thinking_off"] += not row.thinking
        for encoded in encode_conversation(tokenizer, row.messages, row.tools, None if row.thinking else False):
            if len(encoded) <= max_sequence_tokens:
                examples.append(encoded)
                continue
            counts["too_long"] += 1
            if config.too_long == "refuse":
                raise InputError(
                    f"{row.where}: {len(encoded)} tokens, a sequence holds {max_sequence_tokens}. Raise "
                    "train.max_sequence_tokens, or set data.too_long=drop."
                )
    if not examples:
        raise InputError("data: no example is left to train on. Add sources or rows.")
    counts["examples"] = len(examples)
    random.Random(f"{seed}/order").shuffle(examples)
    bins = _lay_out(examples, config, max_sequence_tokens)
    random.Random(f"{seed}/bins").shuffle(bins)
    dataset = Dataset.from_dict(
        {
            "input_ids": [[i for e in chosen for i in e.input_ids] for chosen in bins],
            "labels": [[label for e in chosen for label in _labels(e)] for chosen in bins],
            "seq_lengths": [_documents(chosen, config) for chosen in bins],
        }
    )
    tokens = sum(len(e) for e in examples)
    return Prepared(
        dataset,
        {
            **counts,
            "sequences": len(bins),
            "tokens": tokens,
            "loss_tokens": sum(sum(e.completion_mask) for e in examples),
            "fill": tokens / (len(bins) * max_sequence_tokens),
        },
    )


def _lay_out(examples: list[Encoded], config: DataConfig, capacity: int) -> list[list[Encoded]]:
    if config.packing == "none":
        return [[example] for example in examples]
    fit = best_fit if config.packing == "best-fit" else next_fit
    return [[examples[i] for i in chosen] for chosen in fit([len(e) for e in examples], capacity)]


def _labels(example: Encoded) -> list[int]:
    labels = [i if bit else -100 for i, bit in zip(example.input_ids, example.completion_mask, strict=True)]
    # The first token of a document would be predicted from the document before it.
    labels[0] = -100
    return labels


def _documents(chosen: list[Encoded], config: DataConfig) -> list[int]:
    lengths = [len(example) for example in chosen]
    return [sum(lengths)] if config.packing == "concatenate" else lengths
