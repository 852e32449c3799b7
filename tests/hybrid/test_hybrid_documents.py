"""A hybrid's documents do not see each other, nor padding, in the reference path and under kernels."""

from typing import Any

import pytest
import torch
from transformers.models.nemotron_h import modeling_nemotron_h

from alloy.attention import NAME, keep_documents_apart
from alloy.data.collate import FlatCollator, PaddedCollator

LENGTHS = [[1, 5, 16], [17, 40, 3]]
"""Shorter than the convolution, a chunk, one more than a chunk, several chunks."""


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for lengths in LENGTHS:
        ids = torch.randint(20, 500, (sum(lengths),), generator=generator).tolist()
        found.append({"input_ids": ids, "labels": ids, "seq_lengths": lengths})
    return found


def documents() -> list[torch.Tensor]:
    return [part for row in rows() for part in torch.tensor(row["input_ids"]).split(row["seq_lengths"])]


def alone(model: Any) -> list[torch.Tensor]:
    """The logits of every document by itself, under the model's own attention."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    found = [model(input_ids=ids[None], use_cache=False).logits[0] for ids in documents()]
    model.set_attn_implementation(implementation)
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_is_alone(hybrid: Any, checkpointing: bool) -> None:
    assert isinstance(keep_documents_apart(hybrid, 0), FlatCollator)
    assert hybrid.config._attn_implementation == NAME
    hybrid.train()
    logits = alone(hybrid)
    losses = [
        torch.nn.functional.cross_entropy(found[:-1], ids[1:], reduction="sum")
        for found, ids in zip(logits, documents(), strict=True)
    ]
    loss = torch.stack(losses).sum() / sum(len(ids) - 1 for ids in documents())
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in hybrid.named_parameters() if p.grad is not None}
    hybrid.zero_grad()
    if checkpointing:
        hybrid.gradient_checkpointing_enable()
    batch = FlatCollator()(rows())
    # A document's first token follows from none.
    batch["labels"][0, batch["cu_seq_lens_q"][:-1].long()] = -100
    packed = hybrid(**batch, use_cache=False)
    torch.testing.assert_close(packed.logits[0], torch.cat(logits), atol=2e-4, rtol=1e-4)
    assert packed.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    packed.loss.backward()
    for name, parameter in hybrid.named_parameters():
        if name in wanted:
            scale = float(wanted[name].abs().max())
            assert float((parameter.grad - wanted[name]).abs().max()) < 1e-4 * scale + 1e-7, name


def test_without_it_documents_would_leak(hybrid: Any) -> None:
    """The test above could not fail if a state were not handed on."""
    wanted = torch.cat(alone(hybrid))
    hybrid.set_attn_implementation(NAME)
    with torch.no_grad():
        leaking = hybrid(**FlatCollator()(rows()), use_cache=False).logits[0]
    assert (leaking - wanted).abs().max() > 0.1 * wanted.abs().max()
    keep_documents_apart(hybrid, 0)
    with torch.no_grad():
        apart = hybrid(**FlatCollator()(rows()), use_cache=False).logits[0]
    assert (apart - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(hybrid: Any, side: str) -> None:
    """Neither the convolution nor the state takes anything from padded places."""
    wanted = alone(hybrid)
    width = max(len(ids) for ids in documents()) + 6
    ids, mask = torch.full((len(wanted), width), 7), torch.zeros(len(wanted), width, dtype=torch.long)
    for row, document in enumerate(documents()):
        place = slice(width - len(document), width) if side == "left" else slice(len(document))
        ids[row, place], mask[row, place] = document, 1
    with torch.no_grad():
        logits = hybrid(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for found, seen, own in zip(logits, mask.bool(), wanted, strict=True):
        torch.testing.assert_close(found[seen], own, atol=2e-4, rtol=1e-4)


def test_the_padded_collator_is_right_too(hybrid: Any) -> None:
    singles = [{"input_ids": ids.tolist(), "labels": ids.tolist()} for ids in documents()]
    batch = PaddedCollator(0)(singles)
    with torch.no_grad():
        logits = hybrid(**batch, use_cache=False).logits
    for found, own in zip(logits, alone(hybrid), strict=True):
        torch.testing.assert_close(found[: len(own)], own, atol=2e-4, rtol=1e-4)


def kernel(function: Any, tokens: int, shapes: list[tuple[int, ...]]) -> Any:
    """The reference with what kernels do with `seq_idx`; its states have their tokens in that dimension."""

    def computed(states: torch.Tensor, *given: Any, seq_idx: Any = None, **named: Any) -> torch.Tensor:
        shapes.append(tuple(states.shape))
        found: torch.Tensor
        if seq_idx is None:
            found = function(states, *given, **named)
            return found
        assert (seq_idx.dtype, seq_idx.shape) == (torch.int32, (1, states.shape[tokens]))
        lengths = seq_idx[0].unique_consecutive(return_counts=True)[1].tolist()

        def split(part: Any) -> list[Any]:
            if isinstance(part, torch.Tensor) and part.ndim > tokens and len(part) == 1:
                return list(part.split(lengths, dim=tokens))
            return [part] * len(lengths)

        documents = zip(*(split(part) for part in (states, *given)), strict=True)
        return torch.cat([function(*document, **named) for document in documents], dim=tokens)

    return computed


def test_kernels_that_know_where_a_document_begins_need_no_rows(
    hybrid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of mamba_ssm and causal_conv1d run on a GPU alone: the reference does here what they do."""
    wanted, shapes = torch.cat(alone(hybrid)), list[tuple[int, ...]]()
    for name, tokens in (("causal_conv1d_fn", 2), ("mamba2_chunk_scan", 1)):
        of_the_reference = getattr(modeling_nemotron_h, name)
        monkeypatch.setattr(modeling_nemotron_h, name, kernel(of_the_reference, tokens, shapes))
    assert isinstance(keep_documents_apart(hybrid, 0), FlatCollator)
    shapes.clear()
    with torch.no_grad():
        logits = hybrid(**FlatCollator()(rows()), use_cache=False).logits[0]
    torch.testing.assert_close(logits, wanted, atol=2e-4, rtol=1e-4)
    assert len(shapes) == 4
    assert {shape[0] for shape in shapes} == {1}
