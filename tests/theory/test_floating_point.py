"""Formats against torch and numpy, losses and saturation against arithmetic done in the format."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.theory import floating_point as fp

LAW = settings(deadline=None, max_examples=50)
NAMES = list(fp.FORMATS)
FLOAT32 = fp.FORMATS["float32"]


def compute(name: str) -> fp.Format:
    """What torch computes a format's transcendental functions in."""
    return fp.FORMATS["float64"] if name == "float64" else FLOAT32


@pytest.mark.parametrize("name", NAMES)
def test_formats_agree_with_torch(name: str) -> None:
    entry, info = fp.FORMATS[name], torch.finfo(getattr(torch, name))
    assert entry.name == name
    assert entry.max == info.max
    assert entry.smallest_normal == info.smallest_normal
    assert entry.unit_roundoff == info.eps / 2
    bits = torch.int64 if name == "float64" else torch.int32 if name == "float32" else torch.int16
    one_bit = torch.tensor(1, dtype=bits).view(getattr(torch, name))
    assert entry.smallest_subnormal == one_bit.item()


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


@pytest.mark.parametrize("name", NAMES)
def test_sigmoid_and_tanh_saturate_where_torch_says(name: str) -> None:
    entry, dtype = fp.FORMATS[name], getattr(torch, name)

    def one(f: object, x: float) -> bool:
        wide = torch.tensor(x, dtype=torch.float64).to(dtype)
        return bool(f(wide) == 1)  # type: ignore[operator]

    # The inputs on either side are a hundredth apart, in bfloat16 a grid step of 1/32.
    step = 1 / 16 if name == "bfloat16" else 0.02
    point = fp.sigmoid_saturation(entry, compute(name))
    assert one(torch.sigmoid, point + step)
    assert not one(torch.sigmoid, point - step)
    point = fp.tanh_saturation(entry)
    assert one(torch.tanh, point + 2 * step)
    assert not one(torch.tanh, point - 2 * step)


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
    assert fp.sigmoid_saturation(brain, FLOAT32) == pytest.approx(6.238, abs=1e-3)
    assert fp.tanh_saturation(half) == pytest.approx(4.505, abs=1e-3)
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
