import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import wrongly_rounded

from merge.compiled import blend, shares_of
from merge.interpolate import interpolate


def blended(a: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
    shares = shares_of(alpha)
    assert shares is not None
    out = np.empty(a.shape, dtype=np.uint16)
    blend(out, *(t.view(torch.uint16).numpy() for t in (a, b)), shares)
    return torch.from_numpy(out).view(torch.bfloat16)


def parents(kind: str, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    if kind == "any bits":
        a, b = (torch.randint(-(2**15), 2**15, (count,), generator=rng).to(torch.int16) for _ in range(2))
        return tuple(
            torch.where(t.view(torch.bfloat16).isfinite(), t, 0).view(torch.bfloat16) for t in (a, b)
        )  # type: ignore[return-value]
    a = torch.randn(count, generator=rng).bfloat16()
    if kind == "tuned":  # A few units apart, where 0.1 * 5 is a tie.
        steps = torch.randint(-15, 16, (count,), generator=rng).to(torch.int16)
        return a, (a.view(torch.int16) + steps).view(torch.bfloat16)
    if kind == "cancelling":  # 0.7 * 3k against 0.3 * 7k
        whole = torch.randint(1, 32, (count,), generator=rng).float()
        return (3 * whole).bfloat16(), (-7 * whole).bfloat16()
    if kind == "far apart":  # 0.75 * a is often a tie, and b, however small, decides the side.
        powers = torch.randint(-120, 1, (count,), generator=rng)
        return a, torch.ldexp(torch.randn(count, generator=rng), powers).bfloat16()
    if kind == "tiny":
        return a * 2.0**-130, torch.randn(count, generator=rng).bfloat16() * 2.0**-130
    return a, torch.randn(count, generator=rng).bfloat16()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["random", "any bits", "tuned", "cancelling", "far apart", "tiny"]),
    alpha=st.one_of(
        st.floats(2.0**-10, 1, exclude_max=True), st.sampled_from([0.1, 0.25, 0.3, 0.5, 1 / 3, 1 - 2.0**-53])
    ),
    count=st.sampled_from([1, 100, 2049]),
    seed=st.integers(0, 2**31),
)
def test_every_weight_is_the_exact_blend_rounded_once(kind: str, alpha: float, count: int, seed: int) -> None:
    a, b = parents(kind, count, seed)
    assert wrongly_rounded(blended(a, b, alpha), a, b, alpha) == []


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_infinities_no_numbers_and_the_sign_of_zero_as_torch_has_them(alpha: float) -> None:
    odd = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 1.0]).bfloat16()
    a, b = (t.reshape(-1) for t in torch.meshgrid(odd, odd, indexing="ij"))
    ours, theirs = blended(a, b, alpha), interpolate(a, b, alpha)
    assert torch.equal(ours.isnan(), theirs.isnan())
    sound = ~ours.isnan()
    assert torch.equal(ours.view(torch.int16)[sound], theirs.view(torch.int16)[sound])


def test_the_ends_and_alphas_of_too_many_bits_are_left_to_others() -> None:
    assert [shares_of(alpha) for alpha in (0.0, 1.0, 2.0**-11)] == [None] * 3


def test_lengths_that_differ_are_refused() -> None:
    shares = shares_of(0.5)
    assert shares is not None
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\), \(3,\) and \(2,\)"):
        blend(*(np.zeros(n, dtype=np.uint16) for n in (2, 3, 2)), shares)
