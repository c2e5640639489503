"""Oracles: mpmath at 60 digits and exact fractions."""

import math
import random
from fractions import Fraction
from functools import reduce

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.kernels import robust

U = 2.0**-53
FORMATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
few = settings(max_examples=60, deadline=None)


def numbers(width: int = 64) -> st.SearchStrategy[float]:
    """Of any magnitude and sign, 0 and subnormals among them."""
    return st.floats(allow_nan=False, allow_infinity=False, width=64 if width == 64 else 32)


def lists(width: int = 64) -> st.SearchStrategy[list[float]]:
    return st.lists(numbers(width), min_size=1, max_size=13)


def exact_log2_norm(values: list[float]) -> mp.mpf:
    with mp.workdps(60):
        total = mp.fsum(mp.mpf(v) ** 2 for v in values)
        return mp.log(total, 2) / 2 if total else mp.mpf("-inf")


@few
@given(lists())
def test_log2_norm_over_all_magnitudes(values: list[float]) -> None:
    got = robust.log2_norm(torch.tensor(values, dtype=torch.float64), 0)
    want = float(exact_log2_norm(values))
    assert got.dtype == torch.float64
    if math.isinf(want):
        assert got.item() == want
    else:
        # (13 / 2 + 3) u / ln 2 of the norm, four roundings of a number below 2^11.
        assert abs(got.item() - want) <= 14 * U + 4 * U * max(abs(want), 1)


@few
@given(lists(32))
def test_log2_norm_of_float32_is_that_of_the_same_numbers(values: list[float]) -> None:
    want = float(exact_log2_norm(values))
    got = robust.log2_norm(torch.tensor(values, dtype=torch.float32), 0).item()
    assert got == want or abs(got - want) <= 14 * U + 4 * U * max(abs(want), 1)


@pytest.mark.parametrize("dtype", FORMATS)
def test_log2_norm_where_the_plain_norm_under_and_overflows(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    for entry in (limits.smallest_normal, limits.max):
        x = torch.full((5, 16), entry, dtype=dtype)
        got = robust.log2_norm(x, 1)
        assert got.shape == (5,)
        want = math.log2(entry) + 2
        assert torch.allclose(got, torch.tensor(want, dtype=torch.float64), rtol=8 * U, atol=0)
    naive = torch.linalg.vector_norm(torch.full((16,), limits.max, dtype=dtype))
    assert naive.isinf()


def test_log2_norm_along_several_dimensions() -> None:
    x = torch.arange(1.0, 31.0, dtype=torch.float64).reshape(2, 3, 5)
    want = torch.log2(x.square().sum((0, 2)).sqrt())
    assert torch.allclose(robust.log2_norm(x, (0, 2)), want, rtol=1e-14)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([0.0, 0.0], -math.inf),
        ([math.inf, 1.0], math.inf),
        ([-math.inf, 0.0], math.inf),
        ([math.nan, 1.0], math.nan),
        ([math.nan, math.inf], math.nan),
    ],
)
def test_log2_norm_passes_on_what_is_not_finite(values: list[float], want: float) -> None:
    got = robust.log2_norm(torch.tensor(values), 0).item()
    assert got == want or (math.isnan(got) and math.isnan(want))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@few
@given(data=st.data())
def test_rescale_is_exact_and_puts_the_largest_in_one_two(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    values = data.draw(lists(64 if dtype == torch.float64 else 32))
    x = torch.tensor(values, dtype=dtype)
    scaled, exponent = robust.rescale(x, 0)
    assert scaled.dtype == dtype
    e = int(exponent.item())
    largest = scaled.abs().max().item()
    assert (largest == 0 and e == 0) if x.abs().max() == 0 else 1 <= largest < 2
    limits = torch.finfo(dtype)
    # What ends up subnormal keeps the spacing of the smallest of them, twice rounded.
    slack = Fraction(limits.smallest_normal) * Fraction(limits.eps)
    for value, got in zip(x.tolist(), scaled.tolist(), strict=True):
        want = Fraction(value) * Fraction(2) ** -e
        if abs(want) >= Fraction(limits.smallest_normal) or want == 0:
            assert Fraction(got) == want
        else:
            assert abs(Fraction(got) - want) <= slack


@pytest.mark.parametrize("dtype", FORMATS)
def test_rescale_at_every_power_of_two(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    low = int(math.log2(limits.smallest_normal * limits.eps))
    powers = torch.arange(low, math.floor(math.log2(limits.max)) + 1)
    x = torch.ldexp(torch.ones(len(powers), dtype=torch.float64), powers).to(dtype)
    x = x[torch.isfinite(x)]
    scaled, exponent = robust.rescale(x[:, None], 1)
    assert (scaled == 1).all()
    assert torch.equal(exponent[:, 0], powers[: len(x)].to(torch.float64))


def test_rescale_leaves_what_has_no_finite_largest() -> None:
    x = torch.tensor([[0.0, 0.0], [math.inf, 3.0], [5.0, 6.0]])
    scaled, exponent = robust.rescale(x, 1)
    assert torch.equal(exponent[:, 0], torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    assert torch.equal(scaled[:2], x[:2])
    assert torch.equal(scaled[2], torch.tensor([1.25, 1.5]))


positive = st.floats(min_value=5e-324, max_value=1.7e308)


@few
@given(st.lists(positive, min_size=1, max_size=13))
def test_mean_of_logs_and_log_of_mean(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    with mp.workdps(60):
        logs = [mp.log(mp.mpf(v)) for v in values]
        mean = mp.fsum(logs) / len(logs)
        want = float(mean), float(mp.log(mp.fsum(map(mp.mpf, values)) / len(values)))
        spread = mp.fsum((v - mean) ** 2 for v in logs)
    found = robust.mean_log(x, 0)
    # Logarithms are below 746 in magnitude: 14 additions and a division of such.
    assert abs(found.mean.item() - want[0]) <= 16 * 746 * U
    assert abs(robust.log_mean(x, 0).item() - want[1]) <= 16 * U + 4 * 746 * U
    if len(values) > 1:
        variance = float(spread / (len(values) - 1))
        assert found.variance.item() == pytest.approx(variance, rel=1e-12, abs=1e-12)
    else:
        assert found.variance.isnan()
    assert [int(count) for count in found[2:]] == [len(values), 0, 0]


def test_mean_of_logs_counts_what_has_none() -> None:
    inf = math.inf
    x = torch.tensor([[0.0, 1.0, math.e**2], [inf, 0.0, inf], [math.nan, 1.0, 0.0]]).double()
    found = robust.mean_log(x, 1)
    assert found.mean[0].item() == pytest.approx(1.0, rel=1e-6)
    assert found.variance[0].item() == pytest.approx(2.0, rel=1e-6)
    assert found.mean[1:].isnan().all()
    assert found.counted.tolist() == [2, 0, 2]
    assert found.zeros.tolist() == [1, 1, 1]
    assert found.infinities.tolist() == [0, 2, 0]
    assert robust.mean_log(torch.tensor([-1.0, 2.0]), 0).mean.isnan()


def test_log_of_mean_of_zeros_and_of_an_infinity() -> None:
    x = torch.tensor([[0.0, 0.0], [math.inf, 1.0], [2.0, 4.0]])
    got = robust.log_mean(x, 1).tolist()
    assert got[:2] == [-math.inf, math.inf]
    assert got[2] == pytest.approx(math.log(3), rel=4 * U)


def exact_variance(values: list[float]) -> float:
    exact = [Fraction(v) for v in values]
    mean = sum(exact, Fraction()) / len(exact)
    return float(sum(((v - mean) ** 2 for v in exact), Fraction()) / len(exact))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@few
@given(data=st.data())
def test_variance_in_two_passes(dtype: torch.dtype, data: st.DataObject) -> None:
    """The spread is at least 2^-10 of the centre: the mean's error, 13 u, is far below it."""
    centre = data.draw(st.sampled_from([0.0, 0.5, 1e3, 1e-5]))
    parts = data.draw(st.lists(st.integers(-1000, 1000), min_size=2, max_size=13, unique=True))
    unit = (centre or 1.0) * 2.0**-10
    x = torch.tensor([centre + unit * part for part in parts], dtype=dtype)
    want = exact_variance(x.tolist())
    got = robust.variance(x, 0, dtype)
    assert got.dtype == dtype
    # n + 4 roundings to first order, twice that for the second.
    assert got.item() == pytest.approx(want, rel=2 * 17 * torch.finfo(dtype).eps)


def test_variance_where_one_pass_has_no_digit_left() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 1e-4 * torch.randn(3, 1000, generator=generator)
    got = robust.variance(x, 1)
    assert got.dtype == torch.float64
    for row, value in zip(x, got.tolist(), strict=True):
        assert value == pytest.approx(exact_variance(row.tolist()), rel=1e-12)
        naive = (row.square().mean() - row.mean().square()).item()
        assert abs(naive / value - 1) > 0.3


def test_variance_of_half_precision_numbers_along_two_dimensions() -> None:
    x = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4)
    want = x.double().var((0, 2), correction=0)
    assert torch.allclose(robust.variance(x, (0, 2)), want, rtol=1e-14)


@few
@given(st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=7), st.randoms())
def test_a_sum_that_cancels_is_zero_in_any_order(parts: list[int], order: random.Random) -> None:
    terms = [sign * part / 3 for part in parts for sign in (1, -1)]
    order.shuffle(terms)
    x = torch.tensor(terms, dtype=torch.float32)
    assert sum(map(Fraction, x.tolist())) == 0
    total = reduce(torch.add, x.unbind(0))
    assert robust.significant(total, x.abs().double().sum(), len(terms)).item() == 0


@few
@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9))
def test_what_is_left_of_a_sum_has_the_right_sign(terms: list[float]) -> None:
    x = torch.tensor(terms, dtype=torch.float32)
    exact = sum(map(Fraction, terms))
    total = reduce(torch.add, x.unbind(0))
    kept = robust.significant(total, x.abs().double().sum(), len(terms)).item()
    assert kept in (0, total.item())
    assert kept * float(exact) >= 0
    if float(abs(exact)) > 1e-4 * math.fsum(map(abs, terms)):
        assert kept != 0


def test_significant_keeps_what_is_above_the_bound() -> None:
    u = 2.0**-24
    total = torch.tensor([3 * u, 5 * u, -5 * u, math.nan])
    kept = robust.significant(total, torch.ones(4), 4)
    assert kept[:3].tolist() == [0.0, 5 * u, -5 * u]
    assert kept[3].isnan()
    with pytest.raises(ValueError, match=r"roundings=512: torch\.bfloat16 has no digits left"):
        robust.significant(torch.ones(1, dtype=torch.bfloat16), torch.ones(1), 512)
