"""Every activation: four implementations that must agree, against mpmath and torch's autograd."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from stability.catalogue.activations import ACTIVATIONS

U = 2.0**-53
DECADES = 10.0 ** np.arange(-300, 301)
POINTS = np.unique(np.concatenate([-DECADES, [0.0, -0.0], DECADES, np.linspace(-50, 50, 2001)]))

LEAK = mpmath.mpf(0.01)
ALPHA = mpmath.mpf("1.6732632423543772848170429916717")
SCALE = mpmath.mpf("1.0507009873554804934193349852946")
ORACLES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else LEAK * x,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: SCALE * (x if x > 0 else ALPHA * mpmath.expm1(x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "hardtanh": lambda x: max(min(x, mpmath.mpf(1)), mpmath.mpf(-1)),
}
BETWEEN = [-36.7, -9.3, -2.6, -0.9, -0.3, -1e-9, 1e-9, 0.2, 0.8, 2.9, 7.1, 24.7, 36.9]
"""Points between the kinks."""

every = pytest.mark.parametrize("name", ACTIVATIONS)


def slope(name: str, z: torch.Tensor) -> np.ndarray[Any, Any]:
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ACTIVATIONS[name].forward(leaf).sum(), leaf)
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
    autograd = slope(name, torch.tensor(points))
    derivative = entry.derivative(torch.tensor(points)).numpy()
    np.testing.assert_allclose(derivative, autograd, rtol=0, atol=64 * U)
    np.testing.assert_allclose(entry.dphi(points), autograd, rtol=0, atol=64 * U)


@every
@pytest.mark.parametrize("x", BETWEEN)
def test_value_and_derivative_are_mpmaths(name: str, x: float) -> None:
    """A Gaussian tail's relative error is x^2 times that of x."""
    entry = ACTIVATIONS[name]
    with mpmath.workdps(60):
        value = float(ORACLES[name](mpmath.mpf(x)))
        derivative = float(mpmath.diff(ORACLES[name], mpmath.mpf(x), h=mpmath.mpf(10) ** -20))
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
    for function in (ACTIVATIONS[name].forward, ACTIVATIONS[name].derivative):
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
