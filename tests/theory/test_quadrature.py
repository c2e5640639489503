"""The quadrature against 30-digit integrals and closed forms, over twelve decades of variance."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory.quadrature import expectation, expectation2

LAW = settings(deadline=None, max_examples=25)
VARIANCES = (1e-8, 1e-3, 0.7, 40.0, 1e4)
CORRELATIONS = np.array([-1, -1 + 1e-9, -0.8, 0, 0.3, 0.9, 0.9999, 1 - 1e-8, 1 - 1e-14, 1])

ALPHA = mp.mpf("1.6732632423543772848170429916717")
SCALE = mp.mpf("1.0507009873554804934193349852946")
LEAK, BETA = mp.mpf(0.01), mp.mpf(1.702)


def logistic(u: Any) -> Any:
    return 1 / (1 + mp.exp(-u))


def gauss(u: Any) -> Any:
    return mp.exp(-u * u / 2) / mp.sqrt(2 * mp.pi)


Exact = Callable[[Any], Any]
EXACT: dict[str, tuple[Exact, Exact]] = {
    "linear": (lambda u: u, lambda _: mp.mpf(1)),
    "relu": (lambda u: max(u, mp.mpf(0)), lambda u: mp.mpf(u > 0)),
    "leaky_relu": (lambda u: u if u > 0 else LEAK * u, lambda u: mp.mpf(1) if u > 0 else LEAK),
    "prelu": (lambda u: u if u > 0 else u / 4, lambda u: mp.mpf(1) if u > 0 else mp.mpf(0.25)),
    "sigmoid": (logistic, lambda u: logistic(u) * logistic(-u)),
    "tanh": (mp.tanh, lambda u: mp.sech(u) ** 2),
    "erf": (mp.erf, lambda u: 2 / mp.sqrt(mp.pi) * mp.exp(-u * u)),
    "gelu": (lambda u: u * mp.ncdf(u), lambda u: mp.ncdf(u) + u * gauss(u)),
    "silu": (lambda u: u * logistic(u), lambda u: logistic(u) * (1 + u * logistic(-u))),
    "swish": (
        lambda u: u * logistic(BETA * u),
        lambda u: logistic(BETA * u) * (1 + BETA * u * logistic(-BETA * u)),
    ),
    "elu": (lambda u: u if u > 0 else mp.expm1(u), lambda u: mp.exp(min(u, mp.mpf(0)))),
    "selu": (
        lambda u: SCALE * (u if u > 0 else ALPHA * mp.expm1(u)),
        lambda u: SCALE * (mp.mpf(1) if u > 0 else ALPHA * mp.exp(u)),
    ),
    "softplus": (lambda u: mp.log1p(mp.exp(u)), logistic),
    "softsign": (lambda u: u / (1 + abs(u)), lambda u: 1 / (1 + abs(u)) ** 2),
    "hardtanh": (lambda u: min(max(u, mp.mpf(-1)), mp.mpf(1)), lambda u: mp.mpf(abs(u) < 1)),
}


def test_every_activation_that_does_not_oscillate_is_tested() -> None:
    assert set(EXACT) == set(ACTIVATIONS) - {"sin"}


def exact_square(f: Exact, q: float) -> float:
    """E f(sqrt(q) Z)^2 by adaptive Gauss-Legendre between breakpoints at every scale."""
    with mp.workdps(30):
        s = mp.sqrt(mp.mpf(q))
        inner = [mp.mpf(x) for x in (1, 4, 12, 36) if x < 12 * s]
        outer = [x * s for x in (1, 4, 8, 12)]
        points = sorted({mp.mpf(0), *inner, *outer})
        value, error = mp.quad(
            lambda u: (f(u) ** 2 + f(-u) ** 2) * gauss(u / s) / s,
            points,
            method="gauss-legendre",
            error=True,
            maxdegree=6,
        )
        assert error < 1e-13 * value
        return float(value)


@pytest.mark.parametrize("q", VARIANCES)
@pytest.mark.parametrize("name", EXACT)
def test_second_moments_agree_with_mpmath(name: str, q: float) -> None:
    entry = ACTIVATIONS[name]
    for ours, exact in zip((entry.phi, entry.dphi), EXACT[name], strict=True):
        value = float(expectation(lambda u, f=ours: f(u) ** 2, q, entry.kinks))  # type: ignore[misc]
        assert value == pytest.approx(exact_square(exact, q), rel=1e-10, abs=0)


def test_the_error_of_a_missing_kink_would_be_seen() -> None:
    clipped = ACTIVATIONS["hardtanh"]
    exact = math.erf(1 / math.sqrt(2 * 0.7))
    blind = float(expectation(lambda u: clipped.dphi(u) ** 2, 0.7))
    assert float(expectation(lambda u: clipped.dphi(u) ** 2, 0.7, clipped.kinks)) == pytest.approx(
        exact, rel=1e-13
    )
    assert abs(blind / exact - 1) > 1e-6


@pytest.mark.parametrize("q", [1e-300, 1e-8, 1.0, 1e4, 1e20, 1e200])
def test_closed_forms_far_beyond_the_stated_range(q: float) -> None:
    assert float(expectation(lambda u: np.maximum(u, 0) ** 2, q)) == pytest.approx(q / 2, rel=1e-12)
    bell = float(expectation(lambda u: np.exp(-u * u), q))
    assert bell == pytest.approx(1 / math.sqrt(1 + 2 * q), rel=1e-11)


def test_shape_zero_variance_and_blocks() -> None:
    q = np.linspace(0, 10, 24_000).reshape(3, 8000)
    values = expectation(np.cos, q)
    assert values.shape == q.shape
    assert values[0, 0] == 1.0
    np.testing.assert_allclose(values, np.exp(-q / 2), rtol=0, atol=1e-12)
    assert np.ndim(expectation(np.cos, 1.0)) == 0
    assert expectation(np.cos, []).shape == (0,)
    assert expectation2(np.cos, [], 1.0, 0.5).shape == (0,)


def arc_cosine(c: Any) -> Any:
    return (np.sqrt((1 - c) * (1 + c)) + c * (np.pi - np.arccos(c))) / (2 * np.pi)


@pytest.mark.parametrize("q2", VARIANCES)
@pytest.mark.parametrize("q1", [1e-8, 1.0, 1e4])
def test_pairs_against_arc_cosine_and_arc_sine(q1: float, q2: float) -> None:
    # Cho & Saul 2009 for ReLU and its step; Williams 1997 for erf.
    relu, erf, c = ACTIVATIONS["relu"], ACTIVATIONS["erf"], CORRELATIONS
    scale = math.sqrt(q1 * q2)
    np.testing.assert_allclose(
        expectation2(relu.phi, q1, q2, c, relu.kinks) / scale, arc_cosine(c), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(
        expectation2(relu.dphi, q1, q2, c, relu.kinks),
        (np.pi - np.arccos(c)) / (2 * np.pi),
        rtol=0,
        atol=1e-10,
    )

    def arc_sine(a: float, b: float, covariance: Any) -> Any:
        return 2 / np.pi * np.arcsin(2 * covariance / np.sqrt((1 + 2 * a) * (1 + 2 * b)))

    size = math.sqrt(arc_sine(q1, q1, q1) * arc_sine(q2, q2, q2))
    np.testing.assert_allclose(
        expectation2(erf.phi, q1, q2, c) / size,
        arc_sine(q1, q2, c * scale) / size,
        rtol=0,
        atol=1e-10,
    )
    # The determinant of I + 2 Sigma, for the product of two bell curves.
    determinant = (1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c * q1 * q2
    size = (1 + 4 * q1) ** -0.25 * (1 + 4 * q2) ** -0.25
    np.testing.assert_allclose(
        expectation2(lambda u: np.exp(-u * u), q1, q2, c) / size,
        1 / np.sqrt(determinant) / size,
        rtol=0,
        atol=1e-10 if q1 * q2 < 1e7 else 1e-7,  # the determinant cancels at |c| = 1
    )


@pytest.mark.parametrize("name", EXACT)
@LAW
@given(q=st.floats(1e-8, 1e4), c=st.floats(-1, 1))
def test_pairs_obey_their_limits(name: str, q: float, c: float) -> None:
    """E f f is E f^2 at c = 1 and (E f)^2 at c = 0, and within both Cauchy-Schwarz bounds."""
    entry = ACTIVATIONS[name]
    for f in (entry.phi, entry.dphi):
        square = float(expectation(lambda u, f=f: f(u) ** 2, q, entry.kinks))  # type: ignore[misc]
        mean = float(expectation(f, q, entry.kinks))
        one, none, some = expectation2(f, q, q, [1.0, 0.0, c], entry.kinks)
        assert one == pytest.approx(square, rel=1e-10)
        assert none == pytest.approx(mean**2, abs=1e-10 * square)
        assert abs(some) <= square * (1 + 1e-10)


@LAW
@given(q=st.floats(1e-6, 1e4), r=st.floats(1e-6, 1e4), c=st.floats(-1, 1))
def test_pairs_are_symmetric(q: float, r: float, c: float) -> None:
    softplus = ACTIVATIONS["softplus"].phi
    there, back = float(expectation2(softplus, q, r, c)), float(expectation2(softplus, r, q, c))
    assert there == pytest.approx(back, rel=1e-10)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), [1.0, -1e-9]])
def test_bad_arguments_are_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^q="):
        expectation(np.tanh, bad)
    with pytest.raises(ValueError, match=r"^q1="):
        expectation2(np.tanh, bad, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"^q2="):
        expectation2(np.tanh, 1.0, bad, 0.0)
    with pytest.raises(ValueError, match=r"^kinks="):
        expectation(np.tanh, 1.0, [float("nan")])


@pytest.mark.parametrize("bad", [1.0000001, -2.0, float("nan")])
def test_a_bad_correlation_is_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^c="):
        expectation2(np.tanh, 1.0, 1.0, bad)
