from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import nearest_even, wrongly_rounded

from merge.interpolate import CHUNK_WEIGHTS, interpolate, interpolate_into

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# A smallest exponent of the tests' weights that leaves each dtype's subnormals in.
SMALL = {torch.bfloat16: -130, torch.float16: -20, torch.float32: -145, torch.float64: -200}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(BITS[tensor.element_size()])


def pair(kind: str, dtype: torch.dtype, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(count, dtype=torch.float64, generator=rng)
    b = torch.randn(count, dtype=torch.float64, generator=rng)
    if kind == "wide":
        a, b = (t * 2.0 ** torch.randint(-12, 12, (count,), generator=rng) for t in (a, b))
    if kind == "tiny":
        a, b = a * 2.0 ** SMALL[dtype], b * 2.0 ** SMALL[dtype]
    a, b = a.to(dtype), b.to(dtype)
    if kind == "tuned":  # What training leaves: weights a few units apart, where 0.1 * 5 is a tie.
        b = (bits(a) + torch.randint(-15, 16, (count,), generator=rng).to(bits(a).dtype)).view(dtype)
        b = torch.where(b.isfinite(), b, a)
    return a, b


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["random", "wide", "tiny", "tuned"]),
    dtype=st.sampled_from(DTYPES),
    alpha=st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9])),
    seed=st.integers(0, 2**31),
)
def test_every_weight_is_the_exact_blend_rounded_once(
    kind: str, dtype: torch.dtype, alpha: float, seed: int
) -> None:
    a, b = pair(kind, dtype, 100, seed)
    assert wrongly_rounded(interpolate(a, b, alpha), a, b, alpha) == []


def test_ties_by_hand() -> None:
    # bfloat16 has 7 bits: at 1 the unit is 2^-7. 1 + 0.5 units is a tie and goes to the even 1;
    # 1 + 1.5 units is one and goes to the even 1 + 2 units.
    unit = 2.0**-7
    a = torch.tensor([1.0, 1 + unit], dtype=torch.bfloat16)
    b = torch.tensor([1 + unit, 1 + 2 * unit], dtype=torch.bfloat16)
    assert interpolate(a, b, 0.5).tolist() == [1.0, 1 + 2 * unit]
    # The float64 nearest to 0.1 lies above it, so five units at 0.1 are more than half a one: up.
    assert Fraction(0.1) > Fraction(1, 10)
    b = torch.tensor([1 + 5 * unit, 1 + unit], dtype=torch.bfloat16)
    assert interpolate(a, b, 0.1)[0].item() == 1 + unit
    # The one nearest to 0.3 lies below: down. float64 itself sees a tie here and goes to even, up.
    a, b = torch.tensor([1 + unit], dtype=torch.bfloat16), torch.tensor([1 + 6 * unit], dtype=torch.bfloat16)
    assert float((1 - 0.3) * a.double() + 0.3 * b.double()) == 1 + 2.5 * unit
    assert interpolate(a, b, 0.3).item() == 1 + 2 * unit


def test_weights_that_cancel_leave_what_is_left() -> None:
    # 0.7 * 3 - 0.3 * 7 is 0 in decimals, but the float64 nearest to 0.3 is not 3/10.
    a, b = torch.tensor([3.0], dtype=torch.bfloat16), torch.tensor([-7.0], dtype=torch.bfloat16)
    left = (1 - Fraction(0.3)) * 3 - Fraction(0.3) * 7
    assert left != 0
    assert interpolate(a, b, 0.3).item() == nearest_even(left, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_return_the_parent_bit_for_bit(dtype: torch.dtype, alpha: float) -> None:
    odd = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-42, 3.0]).to(dtype)
    other = torch.full_like(odd, float("nan"))
    parents = (odd, other) if alpha == 0 else (other, odd)
    assert torch.equal(bits(interpolate(*parents, alpha)), bits(odd))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_weights_stay_and_keep_the_sign_of_zero(dtype: torch.dtype) -> None:
    weights = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0])]).to(dtype)
    for alpha in (0.1, 1 / 3, 0.5, 0.999):
        assert torch.equal(bits(interpolate(weights, weights, alpha)), bits(weights))


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_nan_stay_what_they_are(dtype: torch.dtype) -> None:
    infinite = float("inf")
    a = torch.tensor([infinite, 1.0, infinite, float("nan")]).to(dtype)
    b = torch.tensor([1.0, -infinite, -infinite, 1.0]).to(dtype)
    result = interpolate(a, b, 0.3)
    assert result[:2].tolist() == [infinite, -infinite]
    assert result[2:].isnan().all()


def test_largest_values_do_not_overflow() -> None:
    for dtype in DTYPES[:3]:
        largest = torch.tensor([torch.finfo(dtype).max], dtype=dtype)
        assert torch.equal(interpolate(largest, largest, 0.3), largest)
    # Out of the exact part's range float64 is rounded as float64 rounds, and stays finite.
    largest = torch.tensor([torch.finfo(torch.float64).max], dtype=torch.float64)
    assert interpolate(largest, largest, 0.3).item() == pytest.approx(largest.item(), rel=1e-15)


@pytest.mark.parametrize("count", [0, 1, CHUNK_WEIGHTS - 1, CHUNK_WEIGHTS, 3 * CHUNK_WEIGHTS + 5])
def test_chunks_do_not_show(count: int) -> None:
    a, b = pair("tuned", torch.bfloat16, count, 1)
    whole = interpolate(a, b, 0.1)
    parts = [interpolate(a[i : i + 999], b[i : i + 999], 0.1) for i in range(0, count, 999)]
    assert torch.equal(whole, torch.cat([torch.empty(0, dtype=torch.bfloat16), *parts]))


def test_shapes_and_strides_are_free() -> None:
    a, b = torch.randn(6, 5).T, torch.randn(5, 6)
    assert torch.equal(interpolate(a, b, 0.25), interpolate(a.contiguous(), b, 0.25))
    assert interpolate(torch.tensor(1.0), torch.tensor(2.0), 0.5).shape == ()


def test_parents_of_two_dtypes_are_rounded_once() -> None:
    a, b = torch.randn(3000).bfloat16(), torch.randn(3000)
    for dtype in DTYPES:
        out = torch.empty(3000, dtype=dtype)
        interpolate_into(out, a, b, 0.3)
        assert wrongly_rounded(out, a, b, 0.3) == []
    # 1 + 2^-9 is below half a unit of bfloat16; with 2^-30 more, float32 would still see a plain 1.
    wide = torch.tensor([1 + 2.0**-8 + 2.0**-40], dtype=torch.float64)
    out = torch.empty(1, dtype=torch.bfloat16)
    interpolate_into(out, wide, wide, 0.0)
    assert out.item() == 1 + 2.0**-7


def test_what_cannot_be_blended_is_said() -> None:
    a = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 3\) and \(3, 2\)"):
        interpolate(a, a.reshape(3, 2), 0.5)
    with pytest.raises(ValueError, match=r"dtypes differ: torch.float32 and torch.bfloat16"):
        interpolate(a, a.bfloat16(), 0.5)
    with pytest.raises(ValueError, match=r"torch.int64 weights cannot be interpolated, only bfloat16"):
        interpolate(a.long(), a.long(), 0.5)
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"alpha = {alpha}: the share of the chat weights"):
            interpolate(a, a, alpha)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_torch_alone_would_round_a_third_of_bfloat16_wrong(alpha: float) -> None:
    # The oracle sees what this module is for.
    a, b = pair("random", torch.bfloat16, 2000, 3)
    plain = (1 - alpha) * a + alpha * b
    assert len(wrongly_rounded(plain, a, b, alpha)) > 500
