"""Every activation: four implementations that must agree, against mpmath and torch's autograd."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from stability.catalogue.activations import ACTIVATIONS, Activation, prelu, swish

U = 2.0**-53
DECADES = 10.0 ** np.arange(-300, 301)
POINTS = np.unique(np.concatenate([-DECADES, [0.0, -0.0], DECADES, np.linspace(-50, 50, 2001)]))

LEAK, BETA = mpmath.mpf(0.01), mpmath.mpf(1.702)
ALPHA = mpmath.mpf("1.6732632423543772848170429916717")
SCALE = mpmath.mpf("1.0507009873554804934193349852946")
ORACLES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else LEAK * x,
    "prelu": lambda x: x if x > 0 else x / 4,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "swish": lambda x: x / (1 + mpmath.exp(-BETA * x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: SCALE * (x if x > 0 else ALPHA * mpmath.expm1(x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "hardtanh": lambda x: max(min(x, mpmath.mpf(1)), mpmath.mpf(-1)),
    "sin": mpmath.sin,
}
BETWEEN = [-36.7, -9.3, -2.6, -0.9, -0.3, -1e-9, 1e-9, 0.2, 0.8, 2.9, 7.1, 24.7, 36.9]
"""Points between the kinks."""

every = pytest.mark.parametrize("name", ACTIVATIONS)


def slope(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> Any:
    leaf = z.clone().requires_grad_()
    out = function(leaf)
    if not out.requires_grad:
        return np.zeros(z.shape)
    (gradient,) = torch.autograd.grad(out.sum(), leaf, allow_unused=True, materialize_grads=True)
    return np.asarray(gradient.numpy())


def assert_within(
    values: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], bound: np.ndarray[Any, Any] | float
) -> None:
    excess = np.abs(values - truth) - bound
    bad = ~(excess <= 0)
    assert not bad.any(), f"{bad.sum()} of {bad.size}: {POINTS[bad][:5] if bad.size > 20 else bad}"


def test_every_entry_is_listed_by_its_name_and_has_an_oracle() -> None:
    assert {name: entry.name for name, entry in ACTIVATIONS.items()} == {n: n for n in ORACLES}


@every
def test_torch_and_numpy_values_agree_over_all_magnitudes(name: str) -> None:
    """8 roundings of the larger of value and argument, the latter where 1 + erf, say, cancels."""
    entry = ACTIVATIONS[name]
    value = entry.phi(POINTS)
    bound = 8 * U * np.maximum(np.abs(value), np.minimum(np.abs(POINTS), 40))
    assert_within(entry.forward(torch.tensor(POINTS)).numpy(), value, bound)


@every
def test_torch_and_numpy_derivatives_agree_over_all_magnitudes(name: str) -> None:
    """Slopes are of order 1: an absolute error of 32 u, the terms z phi'' u < 4 u included."""
    entry = ACTIVATIONS[name]
    derivative = entry.dphi(POINTS)
    assert np.isfinite(derivative).all()
    assert_within(entry.derivative(torch.tensor(POINTS)).numpy(), derivative, 32 * U)


@every
def test_the_derivative_is_autograds_kinks_included(name: str) -> None:
    """64 u: autograd's own s (1 + z (1 - s)) errs by u z until 1 - s is 0, at z = 37."""
    entry = ACTIVATIONS[name]
    points = np.concatenate([POINTS, entry.kinks])
    autograd = slope(entry.forward, torch.tensor(points))
    derivative = entry.derivative(torch.tensor(points)).numpy()
    np.testing.assert_allclose(derivative, autograd, rtol=0, atol=64 * U)
    np.testing.assert_allclose(entry.dphi(points), autograd, rtol=0, atol=64 * U)


@every
def test_torch_and_numpy_second_derivatives_agree_over_all_magnitudes(name: str) -> None:
    """Of order 1, with one more factor z in the silu family's: 64 u."""
    entry = ACTIVATIONS[name]
    second = entry.d2phi(POINTS)
    assert np.isfinite(second).all()
    assert_within(entry.second_derivative(torch.tensor(POINTS)).numpy(), second, 64 * U)


@every
def test_the_second_derivative_is_autograds_of_the_derivative(name: str) -> None:
    """Where |z| <= 50; 0 at every kink, and where only the second derivative jumps."""
    entry = ACTIVATIONS[name]
    points = np.concatenate([np.linspace(-50, 50, 2002), [1e-9, -1e-9]])
    autograd = slope(entry.derivative, torch.tensor(points))
    assert_within(entry.d2phi(points), autograd, 128 * U)
    kinks = np.array(entry.kinks)
    assert not entry.d2phi(kinks).any()
    assert not entry.second_derivative(torch.tensor(kinks)).any()
    if name in {"elu", "selu", "softsign"}:
        assert entry.d2phi(np.zeros(1))[0] == 0
        assert entry.second_derivative(torch.zeros(1)).item() == 0


@every
@pytest.mark.parametrize("x", BETWEEN)
def test_value_and_derivatives_are_mpmaths(name: str, x: float) -> None:
    """A Gaussian tail's relative error is x^2 times that of x."""
    entry = ACTIVATIONS[name]
    with mpmath.workdps(60):
        value = float(ORACLES[name](mpmath.mpf(x)))
        derivative = float(mpmath.diff(ORACLES[name], mpmath.mpf(x), h=mpmath.mpf(10) ** -20))
        second = float(mpmath.diff(ORACLES[name], mpmath.mpf(x), 2, h=mpmath.mpf(10) ** -15))
    assert entry.d2phi(np.array([x]))[0] == pytest.approx(second, rel=(80 + x * x) * U, abs=8 * U)
    assert entry.phi(np.array([x]))[0] == pytest.approx(value, rel=(80 + x * x) * U, abs=0)
    assert entry.dphi(np.array([x]))[0] == pytest.approx(
        derivative, rel=(80 + x * x) * U, abs=4 * U
    )


@every
def test_the_derivative_jumps_at_the_kinks_and_nowhere_else(name: str) -> None:
    entry = ACTIVATIONS[name]
    candidates = np.arange(-5, 6) / 1.0
    jump = np.abs(entry.dphi(candidates + 1e-9) - entry.dphi(candidates - 1e-9))
    assert set(candidates[jump > 1e-3]) == set(entry.kinks)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(name: str, dtype: torch.dtype) -> None:
    z = torch.linspace(-30, 30, 42, dtype=dtype).reshape(2, 3, 7)
    entry = ACTIVATIONS[name]
    for function in (entry.forward, entry.derivative, entry.second_derivative):
        out = function(z)
        assert out.dtype == dtype
        assert out.shape == z.shape
        assert out.isfinite().all()


def test_the_leak_is_that_of_float64() -> None:
    leak = ACTIVATIONS["leaky_relu"].derivative(torch.tensor([-1.0], dtype=torch.float64))
    assert leak.item() == 0.01


@pytest.mark.parametrize("z", [20.5, 25.0, 30.0])
def test_softplus_is_not_cut_off_early(z: float) -> None:
    value = ACTIVATIONS["softplus"].forward(torch.tensor([z], dtype=torch.float64)).item()
    assert value - z == pytest.approx(np.exp(-z), abs=4 * U * z)
    assert value > z


def test_a_wrong_derivative_is_noticed() -> None:
    entry = ACTIVATIONS["tanh"]
    wrong = entry.derivative(torch.tensor(POINTS)).numpy() * (1 + 1e-12)
    with pytest.raises(AssertionError):
        assert_within(wrong, entry.dphi(POINTS), 32 * U)


def assert_same(left: Activation, right: Activation) -> None:
    z = torch.tensor(POINTS)
    for name in ("phi", "dphi", "d2phi"):
        np.testing.assert_array_equal(getattr(left, name)(POINTS), getattr(right, name)(POINTS))
    for name in ("derivative", "second_derivative"):
        assert torch.equal(getattr(left, name)(z), getattr(right, name)(z))
    assert (left.kinks, left.scale) == (right.kinks, right.scale)
    # torch's own SiLU divides by 1 + exp(-z): 4 roundings.
    one, other = left.forward(z).numpy(), right.forward(z).numpy()
    np.testing.assert_allclose(one, other, rtol=4 * U, atol=0)


def test_the_families_hold_their_members() -> None:
    assert_same(swish(1.0), ACTIVATIONS["silu"])
    assert_same(swish(1.702), ACTIVATIONS["swish"])
    assert_same(prelu(0.25), ACTIVATIONS["prelu"])
    assert_same(prelu(0.01), ACTIVATIONS["leaky_relu"])
    np.testing.assert_array_equal(prelu(0.0).phi(POINTS), ACTIVATIONS["relu"].phi(POINTS))
    np.testing.assert_array_equal(prelu(1.0).phi(POINTS), POINTS)


@pytest.mark.parametrize("beta", [0.01, 0.5, 3.0, 100.0])
def test_swish_is_silu_rescaled(beta: float) -> None:
    silu, entry, z = ACTIVATIONS["silu"], swish(beta), np.linspace(-9, 9, 401)
    np.testing.assert_allclose(entry.phi(z), silu.phi(beta * z) / beta, rtol=8 * U, atol=0)
    np.testing.assert_allclose(entry.dphi(z), silu.dphi(beta * z), rtol=0, atol=8 * U)
    np.testing.assert_allclose(
        entry.d2phi(z), beta * silu.d2phi(beta * z), rtol=0, atol=8 * beta * U
    )


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_parameters_are_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^beta="):
        swish(bad)
    if not np.isfinite(bad):
        with pytest.raises(ValueError, match=r"^slope="):
            prelu(bad)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_homogeneous_is_what_lets_a_scale_through(name: str) -> None:
    entry = ACTIVATIONS[name]
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    through = torch.equal(entry.forward(4 * z), 4 * entry.forward(z))
    assert through == entry.homogeneous
