"""Moments of every activation of the catalogue against 50-digit integrals and brute force."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from exact import ALPHA, EXACT, SCALE, gauss, moments
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS, prelu, swish
from stability.theory import closed_forms
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import expectation2

LAW = settings(deadline=None, max_examples=25)
VARIANCES = (1e-8, 1e-3, 0.7, 40.0, 1e4)
CORRELATIONS = (-1.0, -0.8, 0.0, 0.3, 0.9, 0.9999)
CLOSED = [name for name, entry in ACTIVATIONS.items() if entry.closed]

every = pytest.mark.parametrize("name", ACTIVATIONS)


def test_the_oracle_is_right_to_40_digits() -> None:
    """Williams 1997, and the sine's characteristic function at variances it resolves."""
    with mp.workdps(50):
        for q in VARIANCES:
            v, found = mp.mpf(q), moments("erf", q)
            assert abs(found.second / (2 / mp.pi * mp.asin(2 * v / (1 + 2 * v))) - 1) < 1e-40
            assert abs(found.slope / (4 / mp.pi / mp.sqrt(1 + 4 * v)) - 1) < 1e-40
            assert abs(found.growth - found.slope - found.curvature) < 1e-38 * found.slope
        for q in VARIANCES[:3]:
            assert abs(moments("sin", q).second / (-mp.expm1(-2 * mp.mpf(q)) / 2) - 1) < 1e-40


def sine_moments(q: float) -> tuple[Any, ...]:
    with mp.workdps(50):
        near = mp.exp(-2 * mp.mpf(q))
        return (1 - near) / 2, (1 + near) / 2, near, (near - 1) / 2


def worst_moments(name: str) -> float:
    """The largest relative error of V, D, V' and, relative to D, of E phi phi''."""
    entry, worst = ACTIVATIONS[name], 0.0
    for q in VARIANCES:
        exact = sine_moments(q) if name == "sin" else moments(name, q)
        ours = (entry.second_moment, entry.slope_moment, entry.growth, entry.curvature)
        for i, (function, truth) in enumerate(zip(ours, exact, strict=True)):
            size = max(abs(truth), abs(exact[1])) if i == 3 else abs(truth)
            if size > 1e-300:
                worst = max(worst, abs(float((mp.mpf(float(function(q))) - truth) / size)))
    return worst


@every
def test_moments_agree_with_50_digits(name: str) -> None:
    assert worst_moments(name) < 1e-13


def test_a_thousandth_of_a_slope_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = swish(1.001)
    monkeypatch.setitem(ACTIVATIONS, "silu", wrong)
    assert worst_moments("silu") > 1e-5


def brute(f: Callable[[Any], Any], q: float, c: float) -> float:
    """E f(u1) f(u2) by panels a fraction of the features wide, for smooth f."""
    s = math.sqrt(q)
    x, w = np.polynomial.legendre.leggauss(12)
    panels = math.ceil(20 * max(1.0, 1.5 * s))
    edges = np.linspace(-10, 10, panels + 1)
    half = (edges[1] - edges[0]) / 2
    z = (edges[:-1, None] + half * (1 + x)).ravel()
    weight = np.tile(w, panels) * half * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    rest = math.sqrt((1 - c) * (1 + c))
    total = 0.0
    for z1, w1 in zip(np.array_split(z, 60), np.array_split(weight, 60), strict=True):
        given = f(s * (c * z1[:, None] + rest * z)) @ weight
        total += float(np.sum(w1 * f(s * z1) * given))
    return total


def clipped_given(m: Any, sd: Any) -> Any:
    """E hardtanh(m + sd Z)."""

    def part(x: Any) -> Any:
        return (m - x) * mp.ncdf((m - x) / sd) + sd * gauss((m - x) / sd)

    return -1 + part(mp.mpf(-1)) - part(mp.mpf(1))


def elu_given(m: Any, sd: Any) -> Any:
    """E elu(m + sd Z)."""
    below = mp.exp(m + sd**2 / 2) * mp.ncdf(-(m + sd**2) / sd) - mp.ncdf(-m / sd)
    return m * mp.ncdf(m / sd) + sd * gauss(m / sd) + below


def selu_given(m: Any, sd: Any) -> Any:
    below = mp.exp(m + sd**2 / 2) * mp.ncdf(-(m + sd**2) / sd) - mp.ncdf(-m / sd)
    return SCALE * (m * mp.ncdf(m / sd) + sd * gauss(m / sd) + ALPHA * below)


def relu_given(m: Any, sd: Any) -> Any:
    return m * mp.ncdf(m / sd) + sd * gauss(m / sd)


def gelu_given(m: Any, sd: Any) -> Any:
    root = mp.sqrt(1 + sd**2)
    return m * mp.ncdf(m / root) + sd**2 / root * gauss(m / root)


def erf_given(m: Any, sd: Any) -> Any:
    return mp.erf(m / mp.sqrt(1 + 2 * sd**2))


def sine_given(m: Any, sd: Any) -> Any:
    return mp.sin(m) * mp.exp(-(sd**2) / 2)


GIVEN: dict[str, Callable[[Any, Any], Any]] = {
    "relu": relu_given,
    "erf": erf_given,
    "gelu": gelu_given,
    "sin": sine_given,
    "elu": elu_given,
    "selu": selu_given,
    "hardtanh": clipped_given,
}
"""E phi(u2) for u2 ~ N(m, sd^2): with it the second integral remains."""


def halfway(name: str, q: float, c: float) -> float:
    """E phi(u1) E[phi(u2) | u1] at 30 digits."""
    phi, given = EXACT[name][0], GIVEN[name]
    with mp.workdps(30):
        s, rho = mp.sqrt(mp.mpf(q)), mp.mpf(c)
        sd = s * mp.sqrt(1 - rho**2)
        inner = [mp.mpf(x) for x in (1, 3, 9) if x < 9 * s]
        near = [abs(x * sd) for x in (1, 6) if abs(x * sd) < 9 * s]
        points = sorted({mp.mpf(0), *inner, *near, *(x * s for x in (1, 2, 4, 7, 10))})
        return float(
            mp.quad(
                lambda u: sum(phi(v) * given(rho * v, sd) for v in (u, -u)) * gauss(u / s) / s,
                points,
                method="gauss-legendre",
                maxdegree=6,
            )
        )


def worst_pairs(names: tuple[str, ...], cases: list[tuple[float, float]]) -> float:
    """The largest error of E phi(u1) phi(u2), relative to E phi^2."""
    worst = 0.0
    for name in names:
        entry = ACTIVATIONS[name]
        for q, c in cases:
            truth = halfway(name, q, c) if name in GIVEN else brute(entry.phi, q, c)
            error = float(entry.covariance(q, q, c)) - truth
            worst = max(worst, abs(error) / float(entry.second_moment(q)))
    return worst


@pytest.mark.parametrize("name", GIVEN)
def test_covariances_agree_with_one_dimensional_integrals(name: str) -> None:
    top = 40.0 if name != "sin" else 4.0
    cases = [(1e-6, 0.3), (0.7, -0.8), (2.0, 0.99), (top, 0.5)]
    assert worst_pairs((name,), cases) < 1e-12


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "swish", "softplus"])
def test_covariances_and_slopes_agree_with_brute_force(name: str) -> None:
    assert worst_pairs((name,), [(0.5, 0.3), (9.0, -0.7)]) < 1e-12
    entry = ACTIVATIONS[name]
    slope = brute(entry.dphi, 9.0, 0.6)
    assert float(entry.slope_covariance(9.0, 9.0, 0.6)) == pytest.approx(slope, rel=1e-12)


def unequal(entry: Nonlinearity, q1: float, q2: float, c: float) -> tuple[float, float]:
    """Both pair moments by the general quadrature, without closed forms."""
    return (
        float(expectation2(entry.phi, q1, q2, c, entry.kinks, entry.scale)),
        float(expectation2(entry.dphi, q1, q2, c, entry.kinks, entry.scale)),
    )


def worst_closed(entry: Nonlinearity, variances: tuple[float, ...]) -> float:
    worst = 0.0
    for q1 in variances:
        for q2 in variances:
            for c in CORRELATIONS:
                value, slope = unequal(entry, q1, q2, c)
                size = np.sqrt(entry.second_moment(q1) * entry.second_moment(q2))
                steep = np.sqrt(entry.slope_moment(q1) * entry.slope_moment(q2))
                worst = max(
                    worst,
                    abs(float(entry.covariance(q1, q2, c)) - value) / float(size),
                    abs(float(entry.slope_covariance(q1, q2, c)) - slope) / float(steep),
                )
    return worst


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_agree_with_the_quadrature_at_unequal_variances(name: str) -> None:
    variances = (1e-4, 0.7, 4.0) if name == "sin" else (1e-6, 0.7, 90.0)
    assert worst_closed(ACTIVATIONS[name], variances) < 1e-10


@pytest.mark.parametrize("name", CLOSED)
@LAW
@given(q1=st.floats(1e-8, 1e12), q2=st.floats(1e-8, 1e12), c=st.floats(-1, 1))
def test_closed_forms_obey_cauchy_and_schwarz(name: str, q1: float, q2: float, c: float) -> None:
    entry = ACTIVATIONS[name]
    size = math.sqrt(float(entry.second_moment(q1)) * float(entry.second_moment(q2)))
    assert abs(float(entry.covariance(q1, q2, c))) <= size * (1 + 1e-13)
    there, back = entry.covariance(q1, q2, c), entry.covariance(q2, q1, c)
    assert float(there) == pytest.approx(float(back), rel=1e-12, abs=1e-13 * size)


@every
@LAW
@given(q=st.floats(1e-8, 1e4), ratio=st.floats(1.01, 10))
def test_the_second_moment_increases_with_the_variance(name: str, q: float, ratio: float) -> None:
    entry = ACTIVATIONS[name]
    low, high = entry.second_moment([q, q * ratio])
    assert high >= low * (1 - 1e-13)
    assert float(entry.growth(q)) >= 0


@every
@LAW
@given(q=st.floats(1e-6, 1e4))
def test_the_gaussian_poincare_inequality(name: str, q: float) -> None:
    """Var phi <= q E phi'^2 (Chernoff 1981), equality for linear."""
    entry = ACTIVATIONS[name]
    mean = float(entry.covariance(q, q, 0.0))
    variance = float(entry.second_moment(q)) - mean
    bound = q * float(entry.slope_moment(q))
    assert variance <= bound * (1 + 1e-12) + 1e-13 * mean
    if name == "linear":
        assert variance == pytest.approx(bound, rel=1e-14)


@every
@LAW
@given(q=st.floats(1e-4, 1e3))
def test_the_growth_is_the_slope_of_the_second_moment(name: str, q: float) -> None:
    """Central difference over h q: off by (h q)^2 V''' / 6, and by rounding / h."""
    entry, h = ACTIVATIONS[name], 1e-4
    above, below = entry.second_moment([q * (1 + h), q * (1 - h)])
    size = float(entry.second_moment(q)) / q
    assert float(above - below) / (2 * h * q) == pytest.approx(
        float(entry.growth(q)), abs=1e-7 * size
    )
    parts = float(entry.slope_moment(q)) + float(entry.curvature(q))
    assert parts == pytest.approx(float(entry.growth(q)), abs=1e-12 * float(entry.slope_moment(q)))


@every
def test_limits_at_small_variances(name: str) -> None:
    """V -> phi(0)^2, D and V' to their values at 0: kinks there give the mean of both sides."""
    entry = ACTIVATIONS[name]
    start = entry.phi(np.zeros(1))[0] ** 2
    assert float(entry.second_moment(0.0)) == start
    for function in (entry.slope_moment, entry.growth):
        assert float(function(0.0)) == pytest.approx(float(function(1e-24)), rel=1e-11)


@every
def test_limits_at_large_variances(name: str) -> None:
    """V / q and D -> the mean of phi'^2 at both ends, V bounded where phi is."""
    entry = ACTIVATIONS[name]
    if name == "sin":
        assert float(entry.second_moment(1e30)) == 0.5
        return
    ends = entry.dphi(np.array([-1e100, 1e100]))
    limit = float(np.mean(ends**2))
    assert float(entry.slope_moment(1e30)) == pytest.approx(limit, abs=1e-14)
    assert float(entry.second_moment(1e30)) / 1e30 == pytest.approx(limit, abs=1e-14)
    if limit == 0:
        heights = entry.phi(np.array([-1e100, 1e100]))
        assert float(entry.second_moment(1e30)) == pytest.approx(np.mean(heights**2), rel=1e-12)


@LAW
@given(q=st.floats(1e-6, 1e3), beta=st.floats(0.01, 100), c=st.floats(-1, 1))
def test_swish_obeys_its_scale_law(q: float, beta: float, c: float) -> None:
    """swish_beta(z) = silu(beta z) / beta: V_beta(q) = V(beta^2 q) / beta^2, and D(beta^2 q)."""
    entry, silu, v = swish(beta), ACTIVATIONS["silu"], beta**2 * q
    second = float(silu.second_moment(v)) / beta**2
    assert float(entry.second_moment(q)) == pytest.approx(second, rel=1e-12)
    assert float(entry.slope_moment(q)) == pytest.approx(float(silu.slope_moment(v)), rel=1e-12)
    assert float(entry.curvature(q)) == pytest.approx(
        float(silu.curvature(v)), abs=1e-12 * float(silu.slope_moment(v))
    )
    assert float(entry.covariance(q, q, c)) == pytest.approx(
        float(silu.covariance(v, v, c)) / beta**2, abs=1e-10 * second
    )


@LAW
@given(q=st.floats(1e-8, 1e8), k=st.floats(1e-3, 1e3), a=st.floats(-2, 2), c=st.floats(-1, 1))
def test_the_relu_family_is_homogeneous(q: float, k: float, a: float, c: float) -> None:
    entry = prelu(a)
    size = float(entry.second_moment(q))
    assert size == pytest.approx(q * (1 + a * a) / 2, rel=1e-14)
    assert float(entry.covariance(k * q, k * q, c)) == pytest.approx(
        k * float(entry.covariance(q, q, c)), abs=1e-13 * k * size
    )
    assert float(entry.slope_covariance(k * q, q, c)) == float(entry.slope_covariance(q, q, c))


def test_waves_are_resolved_at_every_variance() -> None:
    sin, q = ACTIVATIONS["sin"], np.geomspace(1e-6, 1e4, 30)
    assert sin.expectation(sin.phi, q) == pytest.approx(np.zeros(30), abs=1e-15)
    fourth = sin.expectation(lambda u: sin.dphi(u) ** 4, q)
    np.testing.assert_allclose(fourth, 3 / 8 + np.exp(-2 * q) / 2 + np.exp(-8 * q) / 8, rtol=1e-14)


def test_jumps() -> None:
    assert ACTIVATIONS["hardtanh"].jumps() == (1.0, -1.0)
    assert prelu(0.25).jumps() == (0.75,)
    assert ACTIVATIONS["tanh"].jumps() == ()


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_bad_arguments_are_named(name: str) -> None:
    entry = ACTIVATIONS[name]
    for bad in (-1.0, math.nan, math.inf):
        for function in (entry.second_moment, entry.slope_moment, entry.growth, entry.curvature):
            with pytest.raises(ValueError, match=r"^q="):
                function(bad)
        for pair in (entry.covariance, entry.slope_covariance):
            with pytest.raises(ValueError, match=r"^q1="):
                pair(bad, 1.0, 0.5)
            with pytest.raises(ValueError, match=r"^q2="):
                pair(1.0, bad, 0.5)
            with pytest.raises(ValueError, match=r"^c="):
                pair(1.0, 1.0, 1 + abs(bad))


def worst_leaky() -> float:
    """Against E relu relu at 30 digits; c near 1 included."""
    worst = 0.0
    for a in (0.0, 0.01, 0.25, -1.0):
        for c in (-0.999, -0.4, 0.0, 0.6, 0.999999):
            with mp.workdps(30):
                m = mp.mpf(c)
                arc = (mp.sqrt(1 - m * m) + m * (mp.pi - mp.acos(m))) / (2 * mp.pi)
                truth = float((1 - mp.mpf(a)) ** 2 * arc + a * m)
                flat = float((1 - mp.mpf(a)) ** 2 * (mp.pi - mp.acos(m)) / (2 * mp.pi) + a)
            forms, one = closed_forms.leaky(a), np.array(3.0)
            size = (1 + a * a) / 2
            value = float(forms.covariance(one, one, np.array(c))) / 3
            slope = float(forms.slope_covariance(one, one, np.array(c)))
            worst = max(worst, abs(value - truth) / size, abs(slope - flat) / size)
    return worst


ACCURACY = [
    Case("closed_forms.leaky", "E phi phi and E phi' phi' of leaky ReLU, relative to c = 1",
         "Cho & Saul 2009, eqs. 3 to 6", "slope -1 to 0.25, |c| to 1 - 1e-6", "mpmath", 1e-14,
         worst_leaky),
]  # fmt: skip
