"""Documents by FlashAttention's kernels: a slow stand-in for them here, the real operator's signature, the trial."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from alloy import attention
from alloy.attention import (
    NAME,
    VARLEN,
    attend_within_documents,
    keep_documents_apart,
    varlen_within_documents,
    varlen_works,
)
from alloy.data.collate import FlatCollator

Attend = Callable[..., tuple[Tensor, None]]

BORDERS = torch.tensor([0, 5, 6, 19], dtype=torch.int32)


def written_out(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, key_starts: Tensor, longest: int, _: int,
    *, scale: float | None, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """What PyTorch's documentation says of `varlen_attn`, position by position in float64."""
    assert query.dtype == key.dtype == value.dtype == torch.bfloat16
    assert starts is key_starts
    assert starts.dtype == torch.int32
    assert longest == int(starts.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    before, after = window_size
    assert after == 0
    each = query.shape[1] // key.shape[1]
    scale = query.shape[2] ** -0.5 if scale is None else scale
    rows = []
    for start, end in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        for position in range(start, end):
            first = start if before < 0 else max(start, position - before)
            heads = []
            for head in range(query.shape[1]):
                keys = key[first : position + 1, head // each].double()
                weights = (keys @ query[position, head].double() * scale).softmax(0)
                heads.append(weights @ value[first : position + 1, head // each].double())
            rows.append(torch.stack(heads))
    return torch.stack(rows).to(query.dtype)


def parts(heads: int = 4, keys: int = 2, size: int = 8, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, count, 19, size).to(dtype) for count in (heads, keys, keys)]


def attended(attend: Attend, given: list[Tensor], **named: Any) -> Tensor:
    found, weights = attend(torch.nn.Module(), *given, None, **named)
    assert weights is None
    return found


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stand-in; how often it was called."""
    calls: list[int] = []

    def counted(*given: Any, **named: Any) -> Tensor:
        calls.append(1)
        return written_out(*given, **named)

    monkeypatch.setattr(attention, "varlen_attn", counted)
    return calls


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("keys", [1, 2, 4])
def test_the_kernels_are_asked_for_what_documents_do(slow: list[int], keys: int, window: int | None) -> None:
    given = parts(keys=keys)
    asked = {"scaling": 0.3, "cu_seq_lens_q": BORDERS, "sliding_window": window}
    found = attended(varlen_within_documents, given, max_length_q=13, **asked)
    wanted = attended(attend_within_documents, given, **asked)
    assert slow == [1]
    assert found.shape == wanted.shape == (1, 19, 4, 8)
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)


def test_autocast_says_what_the_kernels_compute_in(slow: list[int]) -> None:
    given = parts(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attended(varlen_within_documents, given, cu_seq_lens_q=BORDERS, max_length_q=13)
    assert found.dtype == torch.bfloat16
    assert slow == [1]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (parts(dtype=torch.float32), {}),
        (parts(size=12), {}),
        (parts(size=264), {}),
        (parts(), {"cu_seq_lens_q": None}),
    ],
    ids=["float32", "odd heads", "wide heads", "one document"],
)
def test_what_the_kernels_do_not_take_goes_document_by_document(
    slow: list[int], given: list[Tensor], named: dict[str, Any]
) -> None:
    asked = {"cu_seq_lens_q": BORDERS} | named
    found = attended(varlen_within_documents, given, max_length_q=13, **asked)
    wanted = attended(attend_within_documents, given, **asked)
    assert not slow
    assert torch.equal(found, wanted)


def test_pytorch_s_operator_takes_what_it_is_given() -> None:
    """The kernels need a GPU; the operator's own schema, shapes and way back do not."""
    with FakeTensorMode():
        given = [
            torch.randn(1, heads, 24, 64, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
        ]
        borders = torch.tensor([0, 9, 24], dtype=torch.int32)
        found = attention._there_and_back(varlen_within_documents, given, borders)
    assert [tuple(part.shape) for part in found] == [
        (1, 24, 4, 64), (1, 4, 24, 64), (1, 2, 24, 64), (1, 2, 24, 64),
    ]  # fmt: skip


def test_a_device_without_the_kernels_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    varlen_works.cache_clear()
    assert not varlen_works("cpu")
    assert "FlashAttention's kernels do not run here (" in capsys.readouterr().out


def test_kernels_that_give_other_numbers_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    varlen_works.cache_clear()
    monkeypatch.setattr(attention, "varlen_attn", written_out)
    assert varlen_works("cpu")
    varlen_works.cache_clear()
    monkeypatch.setattr(attention, "varlen_attn", lambda *given, **named: written_out(*given, **named) * 1.1)
    assert not varlen_works("cpu")
    assert "give other numbers here" in capsys.readouterr().out
    varlen_works.cache_clear()


@pytest.mark.parametrize(
    ("bfloat16", "gpu", "taken"),
    [(True, True, VARLEN), (False, True, NAME), (True, False, NAME)],
)
def test_a_model_takes_the_kernels_on_a_gpu_in_half_precision(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, bfloat16: bool, gpu: bool, taken: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(attention, "own_device", lambda: "cpu")
    monkeypatch.setattr(attention, "varlen_works", lambda device: True)
    assert isinstance(keep_documents_apart(tiny_model, 0, bfloat16), FlatCollator)
    assert tiny_model.config._attn_implementation == taken


def test_a_whole_model_gives_the_same_logits_and_gradients(slow: list[int], tiny_model: Any) -> None:
    rows = [
        {"input_ids": list(range(20, 39)), "labels": list(range(20, 39)), "seq_lengths": BORDERS.diff().tolist()}
    ]  # fmt: skip
    found = []
    for name in (NAME, VARLEN):
        tiny_model.set_attn_implementation(name)
        tiny_model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = tiny_model(**FlatCollator()(rows), use_cache=False).loss
        loss.backward()
        weight = tiny_model.model.layers[0].self_attn.k_proj.weight.grad.clone()
        found.append((loss.item(), weight))
    assert slow == [1, 1]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
    torch.testing.assert_close(
        found[0][1], found[1][1], rtol=5e-2, atol=5e-2 * float(found[0][1].abs().max())
    )
