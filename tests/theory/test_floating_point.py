"""Formats against torch, bit by bit; losses and saturation against arithmetic in the format."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.theory import floating_point as fp

LAW = settings(deadline=None, max_examples=50)
NAMES = list(fp.FORMATS)
FLOAT32 = fp.FORMATS["float32"]
ALL = {**fp.FORMATS, **fp.FLOAT8}
SMALL = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
"""Those of which every number can be looked at."""


def compute(name: str) -> fp.Format:
    """What torch computes a format's transcendental functions in."""
    return fp.FORMATS["float64"] if name == "float64" else FLOAT32


def numbers(name: str) -> torch.Tensor:
    """Every bit pattern of a small format, as torch reads it."""
    bits = ALL[name].bits
    whole = torch.arange(1 << bits, dtype=torch.int32)
    signed = torch.where(whole < 1 << (bits - 1), whole, whole - (1 << bits))
    return signed.to(torch.int16 if bits == 16 else torch.int8).view(getattr(torch, name))


@pytest.mark.parametrize("name", ALL)
def test_formats_agree_with_torch(name: str) -> None:
    entry, info = ALL[name], torch.finfo(getattr(torch, name))
    assert entry.name == name
    assert entry.bits == info.bits
    assert entry.max == info.max
    assert entry.smallest_normal == info.smallest_normal
    assert entry.unit_roundoff == info.eps / 2
    kinds = {64: torch.int64, 32: torch.int32, 16: torch.int16, 8: torch.int8}
    one_bit = torch.tensor(1, dtype=kinds[entry.bits]).view(getattr(torch, name))
    assert entry.smallest_subnormal == one_bit.double().item()


@pytest.mark.parametrize(
    ("name", "most", "normal", "least", "eps"),
    [
        ("float64", 1.7976e308, 2.225e-308, 4.94e-324, 2.22e-16),
        ("float32", 3.4028e38, 1.1755e-38, 1.401e-45, 1.19e-7),
        ("float16", 65504, 6.104e-5, 5.960e-8, 9.77e-4),
        ("bfloat16", 3.3895e38, 1.1755e-38, 9.18e-41, 7.81e-3),
        ("float8_e4m3fn", 448, 2.0**-6, 2.0**-9, 0.125),
        ("float8_e5m2", 57344, 2.0**-14, 2.0**-16, 0.25),
    ],
)
def test_the_table_of_formats(
    name: str, most: float, normal: float, least: float, eps: float
) -> None:
    entry = ALL[name]
    found = (entry.max, entry.smallest_normal, entry.smallest_subnormal, 2 * entry.unit_roundoff)
    assert found == pytest.approx((most, normal, least, eps), rel=2e-3, abs=0)


@pytest.mark.parametrize("name", SMALL)
def test_every_number_and_every_rounding(name: str) -> None:
    """All bit patterns; all numbers, midpoints and their neighbours in float64."""
    entry, expected = ALL[name], numbers(name)
    values = fp.decode(np.arange(1 << entry.bits), entry)
    np.testing.assert_array_equal(values, expected.double().numpy())
    assert np.isnan(values).sum() == np.isnan(expected.double().numpy()).sum()
    grid = np.unique(values[np.isfinite(values)])
    assert (grid.max(), grid[grid > 0].min()) == (entry.max, entry.smallest_subnormal)
    np.testing.assert_array_equal(fp.round_to(grid, entry), grid)
    middle = (grid[1:] + grid[:-1]) / 2
    np.testing.assert_array_equal(fp.spacing(middle, entry), np.diff(grid))
    points = np.concatenate([middle, np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)])
    # torch rounds float64 to float16 by way of float32 on some machines: hand it float32 alone.
    single = points.astype(np.float32)
    rounded = torch.from_numpy(single).to(getattr(torch, name)).double().numpy()
    np.testing.assert_array_equal(fp.round_to(single.astype(np.float64), entry), rounded)
    # In exact arithmetic, float64 points: the nearer neighbour, or at the middle the even one.
    low, high = grid[:-1], grid[1:]
    np.testing.assert_array_equal(fp.round_to(np.nextafter(middle, -np.inf), entry), low)
    np.testing.assert_array_equal(fp.round_to(np.nextafter(middle, np.inf), entry), high)


@pytest.mark.parametrize("name", SMALL)
def test_what_overflows(name: str) -> None:
    entry = ALL[name]
    limit = float(entry.overflow)
    below = math.nextafter(limit, 0)
    assert fp.round_to(below, entry) == entry.max
    if entry.infinite:
        assert fp.round_to([limit, -limit], entry).tolist() == [math.inf, -math.inf]
    else:
        top = torch.tensor([limit, -limit, 1e9]).to(getattr(torch, name)).tolist()
        assert fp.round_to([limit, -limit, 1e9], entry).tolist() == [448, -448, 448]
        assert top == [448, -448, 448]
    assert math.isnan(float(fp.round_to(math.nan, entry)))


@LAW
@given(x=st.floats(width=32, allow_nan=False), name=st.sampled_from(["float32", *SMALL]))
def test_rounding_is_torchs(x: float, name: str) -> None:
    expected = torch.tensor(x).to(getattr(torch, name)).double().item()
    assert float(fp.round_to(x, ALL[name])) == expected


@LAW
@given(x=st.floats(allow_nan=False))
def test_rounding_to_single_is_numpys_and_to_double_nothing(x: float) -> None:
    with np.errstate(over="ignore"):
        assert float(fp.round_to(x, FLOAT32)) == float(np.float32(x))
    assert float(fp.round_to(x, fp.FORMATS["float64"])) == x


@pytest.mark.parametrize(
    ("name", "kept", "flushed"),
    [("float16", 13, 8), ("bfloat16", 67, 64), ("float32", 75, 64), ("float8_e4m3fn", 5, 4)],
)
def test_a_quarter_to_a_power_is_0(name: str, kept: int, flushed: int) -> None:
    entry = ALL[name]
    assert fp.underflow_depth(0.25, entry) == kept
    assert fp.underflow_depth(0.25, entry, flush=True) == flushed
    if name in ("float16", "bfloat16", "float32"):
        x, depth = torch.tensor(1.0, dtype=getattr(torch, name)), 0
        while x.item():
            x, depth = x * 0.25, depth + 1
        assert depth == kept


@pytest.mark.parametrize("name", ALL)
@LAW
@given(gain=st.floats(0.01, 0.99), start=st.floats(0.01, 100.0))
def test_depths_against_rationals(name: str, gain: float, start: float) -> None:
    """The rounded magnitude is above 0 one layer before and 0 there; likewise for overflow."""
    entry = ALL[name]
    depth = int(fp.underflow_depth(gain, entry, start))
    half = Fraction(entry.smallest_subnormal) / 2
    assert Fraction(start) * Fraction(gain) ** depth <= half
    assert depth == 0 or Fraction(start) * Fraction(gain) ** (depth - 1) > half
    flushed = int(fp.underflow_depth(gain, entry, start, flush=True))
    assert flushed <= depth
    growth = 1 / gain
    depth = int(fp.overflow_depth(growth, entry, start))
    top = entry.overflow
    reached = Fraction(start) * Fraction(growth) ** depth
    assert reached >= top if entry.infinite else reached > top
    assert depth == 0 or Fraction(start) * Fraction(growth) ** (depth - 1) <= top


@pytest.mark.parametrize("name", ALL)
def test_powers_of_two_over_and_underflow_exactly(name: str) -> None:
    entry = ALL[name]
    assert fp.overflow_depth(2.0, entry) == entry.emax + 1
    assert fp.underflow_depth(0.5, entry) == entry.precision - entry.emin
    assert fp.underflow_depth(0.5, entry, flush=True) == 1 - entry.emin
    assert fp.underflow_depth(1.0, entry) == fp.overflow_depth(1.0, entry) == math.inf
    assert fp.underflow_depth(2.0, entry) == fp.overflow_depth(0.5, entry) == math.inf
    assert fp.underflow_depth(0.5, entry, entry.smallest_subnormal) == 1
    assert fp.underflow_depth(0.25, entry, entry.smallest_normal, flush=True) == 1


@pytest.mark.parametrize("name", [*SMALL, "float32"])
@LAW
@given(share=st.floats(0.0, 1.0, exclude_min=True), start=st.floats(0.1, 300.0))
def test_multiplying_again_and_again_comes_to_rest_at_the_stall(
    name: str, share: float, start: float
) -> None:
    entry = ALL[name]
    # Of 20 bits, so that the product is exact in float64 and rounded once.
    gain = math.ceil(share * min(1 - entry.unit_roundoff, 0.95) * 2**20) / 2**20
    rest = fp.stall(gain, entry)
    x, before = float(fp.round_to(start, entry)), math.inf
    while x != before:
        x, before = float(fp.round_to(gain * x, entry)), x
    assert x == rest
    assert gain > 0.5 or rest == 0


@pytest.mark.parametrize(
    ("std", "plain", "scaled"),
    [(1e-8, 0.99712, 0.00232), (1e-7, 0.23431, 2.3e-4), (1e-6, 0.02378, 2.3e-5)],
)
def test_gradients_that_underflow(std: float, plain: float, scaled: float) -> None:
    half = fp.FORMATS["float16"]
    assert float(fp.underflow_share(std, half)) == pytest.approx(plain, abs=5.01e-6)
    assert float(fp.underflow_share(std, half, 1024)) == pytest.approx(scaled, rel=0.02)
    drawn = np.random.default_rng(1).standard_normal(200_000) * std
    share = float((drawn.astype(np.float16) == 0).mean())
    # Five standard errors, for 6e-7 of false alarm.
    assert share == pytest.approx(plain, abs=5 * math.sqrt(plain * (1 - plain) / 200_000))


@pytest.mark.parametrize("name", ALL)
def test_shares_of_every_format(name: str) -> None:
    entry = ALL[name]
    std = entry.smallest_subnormal
    if name != "float64":
        drawn = np.random.default_rng(2).standard_normal(100_000) * std
        p = float(fp.underflow_share(std, entry))
        found = float((fp.round_to(drawn, entry) == 0).mean())
        assert found == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 100_000))
        assert p == pytest.approx(math.erf(0.5 / math.sqrt(2)), rel=1e-12)
    assert float(fp.underflow_share(0.0, entry)) == 1
    assert float(fp.overflow_share(0.0, entry)) == 0
    assert float(fp.overflow_share(entry.max, entry)) == pytest.approx(
        math.erfc(float(entry.overflow / Fraction(entry.max)) / math.sqrt(2)), rel=1e-12
    )
    shares = fp.underflow_share(np.array([0.0, std, 2 * std]), entry, 8.0)
    assert np.all(np.diff(shares) < 0)


@pytest.mark.parametrize(("name", "layers"), [("float16", 13), ("bfloat16", 67), ("float32", 75)])
def test_a_power_of_a_quarter_is_lost_where_arithmetic_loses_it(name: str, layers: int) -> None:
    entry = fp.FORMATS[name]
    assert float(fp.loss_depth(math.log10(0.25), 0.0, entry)) == layers
    smallest = Fraction(entry.smallest_subnormal)
    assert Fraction(1, 4) ** (layers - 1) >= smallest > Fraction(1, 4) ** layers


@pytest.mark.parametrize("name", NAMES)
@LAW
@given(power=st.integers(-40, 40).filter(bool), start=st.integers(-10, 10))
def test_loss_depth_of_powers_of_two_is_exact(name: str, power: int, start: int) -> None:
    entry = fp.FORMATS[name]
    lowest, highest = entry.emin - entry.precision + 1, entry.emax
    depth = 0
    while lowest <= start + power * depth <= highest:
        depth += 1
    decade = math.log10(2)
    assert float(fp.loss_depth(power * decade, start * decade, entry)) == depth


def test_loss_depth_of_vectors_and_at_its_limits() -> None:
    # Sigmoid at unit variance loses 0.62699 decades of gradient a layer.
    depths = fp.loss_depth([-0.62699, 0.0, 0.1, -0.1], 0.0, FLOAT32)
    assert depths.tolist() == [72, math.inf, 386, 449]
    assert float(fp.loss_depth(-0.62699, 0.0, fp.FORMATS["float16"])) == 12
    assert float(fp.loss_depth(1.0, -50.0, FLOAT32)) == 0
    assert float(fp.loss_depth(0.0, 39.0, FLOAT32)) == 0
    assert float(fp.loss_depth(0.0, -math.inf, FLOAT32)) == 0
    assert float(fp.loss_depth(-math.inf, 0.0, FLOAT32)) == 1
    assert fp.loss_depth(np.ones((2, 1)), np.zeros(3), FLOAT32).shape == (2, 3)


@LAW
@given(n=st.integers(0, 10**6), precision=st.sampled_from([24, 53]))
def test_gamma_is_the_compounded_rounding_bound(n: int, precision: int) -> None:
    u = Fraction(1, 2**precision)
    exact = n * u / (1 - n * u)
    assert float(fp.gamma(n, float(u))) == pytest.approx(float(exact), rel=1e-14)
    # Higham's lemma 3.1: (1 + u)^n - 1 <= gamma_n, compared where floats can tell.
    assert math.expm1(n * math.log1p(float(u))) <= float(fp.gamma(n, float(u))) * (1 + 1e-12)


def test_gamma_ends_where_n_u_reaches_1_and_the_probabilistic_bound_does_not() -> None:
    u = 2.0**-11
    assert np.isinf(fp.gamma([2048, 5000], u)).all()
    assert float(fp.gamma(2047, u)) == pytest.approx(2047)
    probable = fp.gamma_probabilistic([0, 1e4, 1e6], u)
    assert probable[0] == 0
    assert probable[1] == pytest.approx(math.exp(100 * u + 1e4 * u * u / (1 - u)) - 1, rel=1e-12)
    # For small n u the bounds are confidence sqrt(n) u against n u.
    small = 2.0**-53
    assert float(fp.gamma_probabilistic(100, small, 3.0) / fp.gamma(100, small)) == pytest.approx(
        0.3, rel=1e-12
    )


@pytest.mark.parametrize("name", SMALL)
def test_every_input_of_a_small_format_saturates_as_predicted(name: str) -> None:
    """Widened, computed in float32, rounded: 1 or 0 exactly on the predicted side, 4 u apart."""
    entry, x = ALL[name], numbers(name)
    x = x[torch.isfinite(x.double())].float()
    values = x.double().numpy()

    def stored(f: Any) -> Any:
        return f(x).to(getattr(torch, name)).double().numpy()

    # float32's own rounding moves a threshold by its u e^x, relative to one of the inputs' steps.
    slack = 1e-4 if entry.precision < 11 else 1e-3
    for found, point in (
        (stored(torch.sigmoid) == 1, fp.sigmoid_saturation(entry, FLOAT32)),
        (stored(torch.tanh) == 1, fp.tanh_saturation(entry)),
        (stored(lambda v: 1 / (1 + torch.exp(-v))) == 0, -fp.sigmoid_underflow(entry, FLOAT32)),
    ):
        side = np.sign(point)
        assert found[side * values > side * point + slack].all()
        assert not found[side * values < side * point - slack].any()


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_sigmoid_and_tanh_saturate_where_torch_says(name: str) -> None:
    entry, dtype = fp.FORMATS[name], getattr(torch, name)
    for f, point, step in (
        (torch.sigmoid, fp.sigmoid_saturation(entry), 0.02),
        (torch.tanh, fp.tanh_saturation(entry), 0.04),
    ):
        around = torch.tensor([point - step, point + step], dtype=torch.float64).to(dtype)
        assert (f(around) == 1).tolist() == [False, True]


@pytest.mark.parametrize("name", NAMES)
def test_sigmoid_and_exp_leave_the_range_where_arithmetic_does(name: str) -> None:
    entry = fp.FORMATS[name]
    dtype: Any = {"float64": np.float64, "float16": np.float16}.get(name, np.float32)
    wide: Any = np.float64 if name == "float64" else np.float32

    def sigmoid(x: float) -> float:
        with np.errstate(over="ignore", under="ignore"):
            return float(dtype(wide(1) / (wide(1) + np.exp(wide(x)))))

    point = fp.sigmoid_underflow(entry, compute(name))
    assert sigmoid(point + 0.01) == 0
    assert sigmoid(point - 0.01) > 0
    top = fp.exp_overflow(entry)
    assert math.exp(top - 1e-9) <= entry.max
    assert name == "float64" or math.exp(top + 1e-9) > entry.max


def test_the_published_points() -> None:
    half, brain = fp.FORMATS["float16"], fp.FORMATS["bfloat16"]
    assert fp.sigmoid_saturation(FLOAT32) == pytest.approx(16.6355, abs=1e-4)
    assert fp.sigmoid_saturation(half, FLOAT32) == pytest.approx(8.318, abs=1e-3)
    # ln 2^9 and, of the quotient itself, ln(2^9 - 1).
    assert fp.sigmoid_saturation(brain, FLOAT32) == pytest.approx(6.238, abs=2e-3)
    doubles = fp.FORMATS["float64"]
    assert fp.sigmoid_saturation(doubles) == pytest.approx(36.74, abs=5e-3)
    for entry, point in ((doubles, 19.06), (FLOAT32, 9.01), (half, 4.505), (brain, 3.466)):
        assert fp.tanh_saturation(entry) == pytest.approx(point, abs=2e-3)
    for entry, wide, point in ((doubles, doubles, 710), (FLOAT32, FLOAT32, 88.7)):
        assert fp.sigmoid_underflow(entry, wide) == pytest.approx(point, abs=0.3)
    assert fp.sigmoid_underflow(half, FLOAT32) == pytest.approx(17.5, abs=0.2)
    assert fp.sigmoid_underflow(brain, FLOAT32) == pytest.approx(89, abs=0.3)
    assert 88.72 < fp.exp_overflow(FLOAT32) < 88.73
    assert 11.08 < fp.exp_overflow(half) < 11.10


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"^decades_per_layer="):
        fp.loss_depth(math.nan, 0.0, FLOAT32)
    with pytest.raises(ValueError, match=r"^start_decades="):
        fp.loss_depth(0.0, math.nan, FLOAT32)
    for bound in (fp.gamma, fp.gamma_probabilistic):
        for n in (-1, math.nan, math.inf):
            with pytest.raises(ValueError, match=r"^n="):
                bound(n, 0.1)
        for u in (0.0, 1.0, math.nan):
            with pytest.raises(ValueError, match=r"^u="):
                bound(1, u)
    for confidence in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^confidence="):
            fp.gamma_probabilistic(1, 0.1, confidence)
    for bad in (0.0, -1.0, math.nan, math.inf):
        for depth in (fp.underflow_depth, fp.overflow_depth):
            with pytest.raises(ValueError, match=r"^gain="):
                depth(bad, FLOAT32)
            for gain in (0.5, 2.0):
                with pytest.raises(ValueError, match=r"^start="):
                    depth(gain, FLOAT32, bad)
        for share in (fp.underflow_share, fp.overflow_share):
            with pytest.raises(ValueError, match=r"^loss_scale="):
                share(1.0, FLOAT32, bad)
    for gain in (0.0, 1.0, 0.9999, math.nan):
        with pytest.raises(ValueError, match=r"^gain="):
            fp.stall(gain, fp.FORMATS["float16"])
    with pytest.raises(ValueError, match=r"^std="):
        fp.underflow_share(-1.0, FLOAT32)
    with pytest.raises(ValueError, match=r"^bits="):
        fp.decode([3, 256], fp.FLOAT8["float8_e5m2"])
    with pytest.raises(ValueError, match=r"^x="):
        fp.spacing([1.0, math.inf], FLOAT32)


def relative(pairs: Iterable[tuple[float, Any]]) -> float:
    """The largest relative error of pairs (found, exact)."""
    return max(abs(float((mp.mpf(found) - exact) / exact)) for found, exact in pairs)


def counted(pairs: Iterable[tuple[float, float]]) -> float:
    """The share of pairs (found, exact) that differ, nan alike."""
    wrong = [a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairs]
    return sum(wrong) / len(wrong)


def rounding_pairs() -> Iterator[tuple[float, float]]:
    x = np.random.default_rng(4).standard_normal(2000).astype(np.float32) * 10.0 ** np.linspace(
        -9, 9, 2000
    )
    for name in SMALL:
        stored = torch.from_numpy(x.astype(np.float32)).to(getattr(torch, name)).double()
        found = fp.round_to(x.astype(np.float32), ALL[name])
        yield from zip(found.tolist(), stored.tolist(), strict=True)


def spacing_pairs() -> Iterator[tuple[float, float]]:
    for name in SMALL:
        values = numbers(name).double().numpy()
        grid = np.unique(values[np.isfinite(values)])
        found = fp.spacing((grid[1:] + grid[:-1]) / 2, ALL[name])
        yield from zip(found.tolist(), np.diff(grid).tolist(), strict=True)


def decode_pairs() -> Iterator[tuple[float, float]]:
    for name in SMALL:
        found = fp.decode(np.arange(1 << ALL[name].bits), ALL[name])
        yield from zip(found.tolist(), numbers(name).double().tolist(), strict=True)


def depth_pairs() -> Iterator[tuple[float, float]]:
    for entry in ALL.values():
        for gain in (0.25, 0.236, 0.7071):
            size, depth = Fraction(1), 0
            while size > Fraction(entry.smallest_subnormal) / 2:
                size, depth = size * Fraction(gain), depth + 1
            yield fp.underflow_depth(gain, entry), depth


def growth_pairs() -> Iterator[tuple[float, float]]:
    for entry in ALL.values():
        for gain in (2.0, 1.0999, 3.7):
            size, depth = Fraction(1), 0
            while size < entry.overflow:
                size, depth = size * Fraction(gain), depth + 1
            yield fp.overflow_depth(gain, entry), depth


def decades_pairs() -> Iterator[tuple[float, float]]:
    for entry in fp.FORMATS.values():
        for rate in (-0.62699, -1.5, 0.25):
            size, depth = mp.mpf(1), 0
            while entry.smallest_subnormal <= size <= entry.max:
                size, depth = size * mp.mpf(10) ** rate, depth + 1
            yield float(fp.loss_depth(rate, 0.0, entry)), depth


def stall_pairs() -> Iterator[tuple[float, float]]:
    for entry in ALL.values():
        for gain in (0.3, 0.51, 0.7, 0.85):
            k = Fraction(1000)
            for _ in range(200):
                k = Fraction(round(k * Fraction(gain)))  # Python's ties go to even, as here
            yield fp.stall(gain, entry), float(k) * entry.smallest_subnormal


def tails(name: str) -> float:
    function = mp.erf if name == "underflow_share" else mp.erfc
    pairs = []
    with mp.workdps(40):
        for entry in ALL.values():
            limit = entry.overflow
            edge = mp.mpf(limit.numerator) / limit.denominator
            if name == "underflow_share":
                edge = mp.mpf(entry.smallest_subnormal) / 2
            for ratio in (0.2, 1.0, 4.0):
                std = float(edge / ratio)
                if 0 < std < math.inf:
                    found = float(getattr(fp, name)(std, entry))
                    pairs.append((found, function(edge / std / mp.sqrt(2))))
        return relative(pairs)


def gamma_error() -> float:
    return relative(
        (float(fp.gamma(n, u)), mp.mpf(n) * u / (1 - mp.mpf(n) * u))
        for n in (1, 100, 10**6) for u in (2.0**-24, 2.0**-53)
    )  # fmt: skip


def probable_error() -> float:
    with mp.workdps(40):
        return relative(
            (float(fp.gamma_probabilistic(n, u, 3.0)),
             mp.expm1(3 * mp.sqrt(n) * u + mp.mpf(n) * u**2 / (1 - mp.mpf(u))))
            for n in (1, 100, 10**6) for u in (2.0**-24, 2.0**-53)
        )  # fmt: skip


def thresholds(name: str) -> float:
    """Where the function is half a step of its result away from 1 or from 0, by its inverse."""
    pairs = []
    with mp.workdps(40):
        for entry in ALL.values():
            if name == "exp_overflow":
                pairs.append((fp.exp_overflow(entry), mp.log(mp.mpf(entry.max))))
                continue
            u, low = mp.mpf(entry.unit_roundoff), mp.mpf(entry.smallest_subnormal)
            if name == "tanh_saturation":
                pairs.append((fp.tanh_saturation(entry), mp.atanh(1 - u / 2)))
            elif entry.precision < 24:
                share = 1 - u / 2 if name == "sigmoid_saturation" else 1 - low / 2
                exact = mp.log(share / (1 - share))
                if name == "sigmoid_underflow":
                    exact = min(exact, mp.log(mp.mpf(FLOAT32.max)))
                pairs.append((getattr(fp, name)(entry, FLOAT32), exact))
        return relative(pairs)


IEEE = "IEEE 754-2019, sec. 3"
EVERY = "every number of fp16, bf16, fp8"
SIX = "six formats"
ACCURACY = [
    Case("floating_point.decode", "share of wrong numbers", IEEE, EVERY, "torch", 0.0,
         lambda: counted(decode_pairs())),
    Case("floating_point.spacing", "share of wrong spacings", IEEE, EVERY, "torch", 0.0,
         lambda: counted(spacing_pairs())),
    Case("floating_point.round_to", "share of wrong roundings", f"{IEEE}, 4.3.1",
         "fp16, bf16, fp8, 1e-9 to 1e9", "torch", 0.0, lambda: counted(rounding_pairs())),
    Case("floating_point.loss_depth", "share of wrong depths", "derived",
         "four formats, -1.5 to 0.25 decades", "mpmath, layer by layer", 0.0,
         lambda: counted(decades_pairs())),
    Case("floating_point.underflow_depth", "share of wrong depths", "derived",
         f"{SIX}, gains .236 to .707", "rationals, layer by layer", 0.0,
         lambda: counted(depth_pairs())),
    Case("floating_point.overflow_depth", "share of wrong depths", "derived",
         f"{SIX}, gains 1.1 to 3.7", "rationals, layer by layer", 0.0,
         lambda: counted(growth_pairs())),
    Case("floating_point.stall", "share of wrong subnormals", "derived",
         f"{SIX}, gains .3 to .85", "rationals, rounded step by step", 0.0,
         lambda: counted(stall_pairs())),
    Case("floating_point.underflow_share", "P(a Gaussian rounds to 0)", "Micikevicius et al. 2018",
         f"{SIX}, edges at 0.2 to 4 sigma", "mpmath", 1e-14, lambda: tails("underflow_share")),
    Case("floating_point.overflow_share", "P(a Gaussian overflows)", "derived",
         f"{SIX}, edges at 0.2 to 4 sigma", "mpmath", 1e-14, lambda: tails("overflow_share")),
    Case("floating_point.gamma", "gamma_n", "Higham 2002, lemma 3.1", "n u from 1e-16 to 0.06",
         "mpmath", 1e-15, gamma_error),
    Case("floating_point.gamma_probabilistic", "gammatilde_n", "Higham & Mary 2019, theorem 2.4",
         "n from 1 to 1e6, fp32 and fp64", "mpmath", 1e-15, probable_error),
    Case("floating_point.exp_overflow", "ln max", IEEE, SIX, "mpmath", 1e-15,
         lambda: thresholds("exp_overflow")),
    Case("floating_point.sigmoid_saturation", "input of sigmoid = 1", "derived",
         "fp16, bf16, fp8, computed in fp32", "mpmath, logit", 1e-15,
         lambda: thresholds("sigmoid_saturation")),
    Case("floating_point.sigmoid_underflow", "input of sigmoid = 0", "derived",
         "fp16, bf16, fp8, computed in fp32", "mpmath, logit", 1e-15,
         lambda: thresholds("sigmoid_underflow")),
    Case("floating_point.tanh_saturation", "input of tanh = 1", "derived", SIX, "mpmath, artanh",
         1e-15, lambda: thresholds("tanh_saturation")),
]  # fmt: skip
