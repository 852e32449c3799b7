from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alloy.data.collate import PackedCollator, positions
from alloy.data.config import DataConfig, ReasoningOffConfig, SourceConfig
from alloy.data.packing import best_fit, next_fit
from alloy.data.prepare import prepare, rows_of
from alloy.errors import InputError
from alloy.template import encode_conversation

LENGTHS = st.lists(st.integers(1, 50), max_size=80)


@given(LENGTHS, st.integers(50, 120), st.sampled_from([best_fit, next_fit]))
def test_every_example_once_and_no_bin_too_full(lengths: list[int], capacity: int, fit: Any) -> None:
    bins = fit(lengths, capacity)
    assert sorted(index for chosen in bins for index in chosen) == list(range(len(lengths)))
    assert all(chosen and sum(lengths[i] for i in chosen) <= capacity for chosen in bins)


@given(LENGTHS, st.integers(50, 120))
def test_best_fit_opens_a_bin_only_where_none_has_room(lengths: list[int], capacity: int) -> None:
    bins = best_fit(lengths, capacity)
    # Decreasing: a bin's first example found no room in any earlier bin as it stood then, which held
    # only examples at least as long.
    for number, chosen in enumerate(bins):
        first = lengths[chosen[0]]
        for earlier in bins[:number]:
            at_least_as_long = sum(lengths[i] for i in earlier if (-lengths[i], i) < (-first, chosen[0]))
            assert at_least_as_long + first > capacity
    # Any two bins but the last would otherwise have been one: no more than twice the optimum, and
    # for best-fit-decreasing at most 11/9 of it and one more.
    lower = -(-sum(lengths) // capacity)
    assert len(bins) <= max(1, 2 * lower) or not lengths


def test_best_fit_takes_the_tightest_bin() -> None:
    # 7 opens bin 0 (3 left), 5 bin 1 (5 left), 4 fits bin 1 alone, 3 fits bin 0 exactly, 1 fits bin 1.
    assert best_fit([5, 7, 3, 4, 1], 10) == [[1, 2], [0, 3, 4]]


def test_best_fit_fills_sequences_of_short_examples() -> None:
    lengths = [20 + (7 * n) % 41 for n in range(1000)]
    bins = best_fit(lengths, 192)
    assert sum(lengths) / (len(bins) * 192) > 0.97
    assert len(next_fit(lengths, 192)) > len(bins)


def test_next_fit_keeps_the_order() -> None:
    assert next_fit([4, 4, 4, 1], 9) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("fit", [best_fit, next_fit])
def test_an_example_longer_than_a_sequence(fit: Any) -> None:
    with pytest.raises(ValueError, match="an example of 11 tokens does not fit into 10"):
        fit([3, 11], 10)


def test_positions_restart_at_every_document_and_at_the_padding() -> None:
    assert positions([3, 2], 7).tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert positions([3, 2], 5).tolist() == [0, 1, 2, 0, 1]


# Preparing.


def sources(**rows: int) -> list[SourceConfig]:
    return [SourceConfig(environment=name, rows=count) for name, count in rows.items()]


def test_nothing_is_lost_between_rows_and_sequences(tiny_tokenizer: Any) -> None:
    config = DataConfig(sources=sources(math=30, chat=10), reasoning_off=ReasoningOffConfig(share=0.3))
    expected = sorted(
        (tuple(e.input_ids), tuple(e.completion_mask))
        for row in rows_of(config, tiny_tokenizer, 0)
        for e in encode_conversation(tiny_tokenizer, row.messages, row.tools, row.thinking)
    )
    prepared = prepare(config, tiny_tokenizer, 400, 0)
    found = []
    for row in prepared.dataset:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"]) <= 400
        start = 0
        for length in row["seq_lengths"]:
            ids, labels = row["input_ids"][start : start + length], row["labels"][start : start + length]
            assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
            found.append((tuple(ids), tuple(int(label != -100) for label in labels)))
            start += length
    assert sorted(found) == expected
    counts = prepared.counts
    assert (counts["rows"], counts["examples"], counts["too_long"]) == (40, 40, 0)
    assert counts["tokens"] == sum(len(ids) for ids, _ in expected)
    assert counts["loss_tokens"] == sum(sum(mask) for _, mask in expected)
    assert counts["fill"] == pytest.approx(counts["tokens"] / (400 * counts["sequences"]))
    assert counts["thinking_off"] == sum(not row.thinking for row in rows_of(config, tiny_tokenizer, 0)) > 0


def test_the_same_seed_prepares_the_same_dataset(tiny_tokenizer: Any) -> None:
    config = DataConfig(sources=sources(math=20))
    first, again, other = (prepare(config, tiny_tokenizer, 300, seed).dataset.to_list() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_packing_modes(tiny_tokenizer: Any) -> None:
    alone = prepare(DataConfig(sources=sources(math=12), packing="none"), tiny_tokenizer, 400, 0).dataset
    assert len(alone) == 12
    assert all(row["seq_lengths"] == [len(row["input_ids"])] for row in alone)
    joined = prepare(
        DataConfig(sources=sources(math=12), packing="concatenate"), tiny_tokenizer, 400, 0
    ).dataset
    assert len(joined) < 12
    # One document: what stands earlier in the sequence is seen.
    assert all(row["seq_lengths"] == [len(row["input_ids"])] for row in joined)


def test_an_example_too_long_is_refused_or_dropped_and_never_cut(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "' + "b " * 200 + '"}\n'
    )
    with pytest.raises(InputError) as caught:
        prepare(DataConfig(sources=[SourceConfig(path=path)]), tiny_tokenizer, 64, 0)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "a sequence holds 64. Raise train.max_sequence_tokens" in str(caught.value)
    prepared = prepare(DataConfig(sources=[SourceConfig(path=path)], too_long="drop"), tiny_tokenizer, 64, 0)
    assert (prepared.counts["examples"], prepared.counts["too_long"]) == (1, 1)
    with pytest.raises(InputError, match="no example is left"):
        prepare(DataConfig(sources=[SourceConfig(path=path)], too_long="drop"), tiny_tokenizer, 3, 0)


# What the model makes of a packed batch.


def test_packed_documents_see_what_they_see_alone(tiny_tokenizer: Any, tiny_model: Any) -> None:
    config = DataConfig(sources=sources(math=6, recall=2, chat=4))
    rows = prepare(config, tiny_tokenizer, 400, 0).dataset.to_list()
    assert any(len(row["seq_lengths"]) > 1 for row in rows)
    assert len({len(row["input_ids"]) for row in rows}) > 1, "the batch needs padding to show its effect"
    batch = PackedCollator(tiny_tokenizer.pad_token_id)(rows)
    assert "attention_mask" not in batch
    with torch.no_grad():
        packed = tiny_model(**batch, use_cache=False)
    loss, tokens = 0.0, 0
    for index, row in enumerate(rows):
        start = 0
        for length in row["seq_lengths"]:
            ids = torch.tensor([row["input_ids"][start : start + length]])
            labels = torch.tensor(row["labels"][start : start + length])
            with torch.no_grad():
                alone = tiny_model(input_ids=ids).logits[0]
            torch.testing.assert_close(
                packed.logits[index, start : start + length], alone, atol=1e-5, rtol=1e-5
            )
            targets = labels[1:]
            logprobs = alone[:-1].double().log_softmax(-1)
            kept = targets != -100
            loss -= logprobs[kept, targets[kept]].sum().item()
            tokens += int(kept.sum())
            start += length
    assert packed.loss.item() == pytest.approx(loss / tokens, abs=1e-5)


def test_without_isolation_the_logits_differ(tiny_tokenizer: Any, tiny_model: Any) -> None:
    # The test above could not fail if documents never mattered to each other.
    rows = prepare(DataConfig(sources=sources(math=6)), tiny_tokenizer, 400, 0).dataset.to_list()
    rows = [row for row in rows if len(row["seq_lengths"]) > 1][:1]
    isolated = PackedCollator(0)(rows)
    joined = PackedCollator(0)([{**rows[0], "seq_lengths": [len(rows[0]["input_ids"])]}])
    with torch.no_grad():
        logits = [tiny_model(**batch, use_cache=False).logits for batch in (isolated, joined)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
