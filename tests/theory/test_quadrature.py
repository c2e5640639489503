"""The quadrature against closed forms and 50-digit integrals, over twelve decades of variance."""

import math
from typing import Any

import numpy as np
import pytest
from accuracy import Case
from exact import moments
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory.quadrature import Elementwise, expectation, expectation2, wave_expectation

LAW = settings(deadline=None, max_examples=25)
VARIANCES = (1e-8, 1e-3, 0.7, 40.0, 1e4)
CORRELATIONS = np.array([-1, -1 + 1e-9, -0.8, 0, 0.3, 0.9, 0.9999, 1 - 1e-8, 1 - 1e-14, 1])


def squared(f: Elementwise) -> Elementwise:
    return lambda u: f(u) ** 2


# What oscillates out to infinity has closed forms, and is beyond the rule at large variances.
NAMES = [name for name in ACTIVATIONS if name != "sin"]


@pytest.mark.parametrize("name", [name for name in NAMES if ACTIVATIONS[name].closed])
def test_the_rule_agrees_with_closed_forms(name: str) -> None:
    entry, q = ACTIVATIONS[name], np.geomspace(1e-8, 1e4, 40)
    for ours, exact in (
        (entry.phi, entry.second_moment(q)),
        (entry.dphi, entry.slope_moment(q)),
    ):
        values = expectation(squared(ours), q, entry.kinks)
        np.testing.assert_allclose(values, exact, rtol=1e-13)


def test_a_value_does_not_depend_on_its_company() -> None:
    q = np.geomspace(1e-8, 1e4, 57)
    for kinks in ((), (-1.0, 1.0)):
        alone = [expectation(np.tanh, v, kinks) for v in q]
        np.testing.assert_array_equal(alone, expectation(np.tanh, q, kinks))


def test_the_error_of_a_missing_kink_would_be_seen() -> None:
    clipped = ACTIVATIONS["hardtanh"]
    exact = math.erf(1 / math.sqrt(2 * 0.7))
    blind = float(expectation(squared(clipped.dphi), 0.7))
    assert float(expectation(squared(clipped.dphi), 0.7, clipped.kinks)) == pytest.approx(
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


@pytest.mark.parametrize("name", NAMES)
@LAW
@given(q=st.floats(1e-8, 1e4), c=st.floats(-1, 1))
def test_pairs_obey_their_limits(name: str, q: float, c: float) -> None:
    """E f f is E f^2 at c = 1 and (E f)^2 at c = 0, and within both Cauchy-Schwarz bounds."""
    entry = ACTIVATIONS[name]
    for f in (entry.phi, entry.dphi):
        square = float(expectation(squared(f), q, entry.kinks))
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


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_scale_is_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^frequency="):
        wave_expectation(np.cos, 1.0, bad)
    with pytest.raises(ValueError, match=r"^scale="):
        expectation(np.tanh, 1.0, scale=bad)
    with pytest.raises(ValueError, match=r"^scale="):
        expectation2(np.tanh, 1.0, 1.0, 0.5, scale=bad)


@LAW
@given(q=st.floats(1e-4, 1e3), scale=st.floats(1e-3, 1))
def test_narrow_features_are_resolved_at_their_scale(q: float, scale: float) -> None:
    narrow = float(expectation(lambda u: np.tanh(u / scale) ** 2, q, scale=scale))
    wide = float(expectation(lambda u: np.tanh(u) ** 2, q / scale**2))
    assert narrow == pytest.approx(wide, rel=1e-12)


def worst_single() -> float:
    worst = 0.0
    for name in ("tanh", "silu", "hardtanh", "softsign", "selu"):
        entry = ACTIVATIONS[name]
        for q in VARIANCES:
            value = float(expectation(squared(entry.phi), q, entry.kinks))
            worst = max(worst, abs(value / float(moments(name, q).second) - 1))
    return worst


def worst_wave() -> float:
    """E cos(u)^4 = 3/8 + exp(-2 q) / 2 + exp(-8 q) / 8."""
    q = np.geomspace(1e-8, 1e4, 60)
    exact = 3 / 8 + np.exp(-2 * q) / 2 + np.exp(-8 * q) / 8
    values = wave_expectation(lambda u: np.cos(u) ** 4, q, 4.0)
    blind = expectation(lambda u: np.cos(u) ** 4, q)
    assert np.max(np.abs(blind / exact - 1)) > 1e-3
    return float(np.max(np.abs(values / exact - 1)))


def worst_pair() -> float:
    """Against the arc-cosine and the arc-sine kernel, relative to c = 1."""
    worst = 0.0
    for name in ("relu", "erf", "gelu"):
        entry = ACTIVATIONS[name]
        for q in VARIANCES:
            value = expectation2(entry.phi, q, q, CORRELATIONS, entry.kinks)
            exact, size = entry.covariance(q, q, CORRELATIONS), entry.second_moment(q)
            worst = max(worst, float(np.max(np.abs(value - exact) / size)))
    return worst


ACCURACY = [
    Case("quadrature.expectation", "E phi(u)^2, u Gaussian", "Gauss-Legendre in asinh(z / a)",
         "q 1e-8 to 1e4, kinks or none", "50-digit integrals", 1e-13, worst_single),
    Case("quadrature.wave_expectation", "E cos(u)^4", "Poisson's summation formula",
         "q 1e-8 to 1e4", "closed form", 1e-14, worst_wave),
    Case("quadrature.expectation2", "E phi(u1) phi(u2), relative to c = 1",
         "Cho & Saul 2009, Williams 1997", "q 1e-8 to 1e4, every c", "closed forms", 1e-13,
         worst_pair),
]  # fmt: skip
