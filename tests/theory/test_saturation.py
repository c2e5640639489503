"""Saturated shares and activation densities against mpmath, tables and their own integrals."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import saturation as sat

LAW = settings(deadline=None, max_examples=40)

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[float], float], float]] = {
    "sigmoid": (sat.sigmoid_cdf, sat.sigmoid_pdf, lambda x: 1 / (1 + math.exp(-x)), 0.0),
    "tanh": (sat.tanh_cdf, sat.tanh_pdf, math.tanh, -1.0),
}


@LAW
@given(eps=st.floats(1e-12, 0.249))
def test_the_derivatives_equal_eps_at_the_thresholds(eps: float) -> None:
    with mp.workdps(30):
        x = mp.mpf(sat.sigmoid_threshold(eps))
        assert float(mp.sech(x / 2) ** 2 / 4) == pytest.approx(eps, rel=1e-12, abs=0)
        x = mp.mpf(sat.tanh_threshold(4 * eps))
        assert float(mp.sech(x) ** 2) == pytest.approx(4 * eps, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "softsign"])
@LAW
@given(eps=st.floats(1e-12, 0.2))
def test_the_catalogues_derivatives_meet_eps_there(name: str, eps: float) -> None:
    threshold = getattr(sat, f"{name}_threshold")
    x = threshold(eps)
    # The slope of ln phi' is at most 2 x: two roundings of x, and of the derivative.
    for side in (-x, x):
        slope = float(ACTIVATIONS[name].dphi(np.array([side]))[0])
        assert slope == pytest.approx(eps, rel=1e-14 * (1 + x * x), abs=0)
    assert threshold(eps / 2) > x


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "softsign", "hardtanh"])
@LAW
@given(q=st.floats(1e-3, 1e4))
def test_the_slopes_moment_lies_in_its_bracket(name: str, q: float) -> None:
    low, high = sat.slope_moment_bounds(name, q)
    exact = float(ACTIVATIONS[name].slope_moment(q))
    assert float(low) * (1 - 1e-10) <= exact <= float(high) * (1 + 1e-10)


def test_the_bracket_closes_at_large_variance() -> None:
    """A sigmoid at q = 256, saturated at .77, has 4e-3 of its linear gradient's square."""
    low, high = sat.slope_moment_bounds("sigmoid", 256.0)
    exact = float(ACTIVATIONS["sigmoid"].slope_moment(256.0))
    assert low < exact < high
    assert exact == pytest.approx(0.00415, abs=5e-6)
    assert float(low / high) == pytest.approx(1 - 1.28987 / 512, abs=1e-7)


def test_published_thresholds() -> None:
    assert sat.erf_threshold(2.0) == sat.softsign_threshold(1.0) == sat.softsign_threshold(7.0) == 0
    assert sat.sigmoid_threshold(0.01) == pytest.approx(4.58486, abs=1e-5)
    assert sat.tanh_threshold(0.05) == pytest.approx(2.17827, abs=1e-5)
    assert sat.sigmoid_threshold(0.25) == sat.sigmoid_threshold(3.0) == 0
    assert sat.tanh_threshold(1.0) == sat.tanh_threshold(2.0) == 0


@pytest.mark.parametrize(
    ("q", "sigmoid", "tanh", "above"),
    [
        (1, 4.5e-6, 0.02939, 0.00813),
        (4, 0.02188, 0.27609, 0.18573),
        (16, 0.25171, 0.58605, 0.50819),
        (64, 0.56657, 0.78540, 0.74077),
        (256, 0.77445, 0.89171, 0.86862),
    ],
)
def test_the_table_of_shares(q: float, sigmoid: float, tanh: float, above: float) -> None:
    assert float(sat.sigmoid_saturated(q, 0.01)) == pytest.approx(sigmoid, abs=6e-6)
    assert float(sat.tanh_saturated(q, 0.05)) == pytest.approx(tanh, abs=6e-6)
    assert float(sat.tanh_above(q, 0.99)) == pytest.approx(above, abs=6e-6)


@pytest.mark.parametrize("q", [1e-8, 0.03, 1.0, 1e4])
def test_small_shares_keep_their_digits(q: float) -> None:
    with mp.workdps(40):
        exact = float(mp.erfc(mp.mpf(sat.tanh_threshold(0.05)) / mp.sqrt(2 * mp.mpf(q))))
    assert float(sat.tanh_saturated(q, 0.05)) == pytest.approx(exact, rel=1e-12, abs=0)


@LAW
@given(threshold=st.floats(0, 30), q=st.floats(0, 1e4), more=st.floats(0, 1e4))
def test_shares_grow_with_the_variance(threshold: float, q: float, more: float) -> None:
    low, high = sat.share_beyond(threshold, [q, q + more])
    assert 0 <= low <= high <= 1


def test_limits_and_shapes() -> None:
    assert sat.share_beyond(1.0, np.zeros((2, 3))).tolist() == [[0.0] * 3] * 2
    assert sat.sigmoid_saturated([0.0, 5.0], 0.25).tolist() == [1, 1]
    assert float(sat.share_beyond(math.inf, 1.0)) == 0
    assert float(sat.tanh_above(3.0, 0.0)) == 1


@pytest.mark.parametrize("name", CASES)
@LAW
@given(x=st.floats(-5, 5), mu=st.floats(-3, 3), q=st.floats(0.01, 100))
def test_the_cdf_is_that_of_the_preactivation(name: str, x: float, mu: float, q: float) -> None:
    cdf, _, squash, _ = CASES[name]
    # Inverting the squashing loses up to e^10 units of roundoff, over sqrt(q) >= 0.1.
    below = 0.5 * math.erfc((mu - x) / math.sqrt(2 * q))
    assert float(cdf(squash(x), mu, q)) == pytest.approx(below, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mu", "q"), [(0.0, 1.0), (0.7, 0.1), (-1.0, 30.0)])
def test_the_density_is_the_slope_of_the_cdf(name: str, mu: float, q: float) -> None:
    cdf, pdf, _, low = CASES[name]
    for y in low + (1 - low) * np.array([0.05, 0.4, 0.77, 0.96]):
        h = 1e-5
        slope = float(cdf(y + h, mu, q) - cdf(y - h, mu, q)) / (2 * h)
        assert float(pdf(y, mu, q)) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    inner = low + (1 - low) * np.array([0.1, 0.9])
    mass, _ = integrate.quad(lambda y: float(pdf(y, mu, q)), inner[0], inner[1], epsabs=1e-12)
    assert mass == pytest.approx(float(np.diff(cdf(inner, mu, q))[0]), abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_outside_the_range_and_at_its_ends(name: str) -> None:
    cdf, pdf, _, low = CASES[name]
    ends = np.array([low - 1, low, 1.0, 2.0])
    np.testing.assert_array_equal(cdf(ends, 0.3, 2.0), [0, 0, 1, 1])
    np.testing.assert_array_equal(pdf(ends, 0.3, 2.0), [0, 0, 0, 0])


def test_bad_arguments_are_named() -> None:
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^eps="):
            sat.sigmoid_saturated(1.0, bad)
        with pytest.raises(ValueError, match=r"^eps="):
            sat.tanh_saturated(1.0, bad)
        for cdf, pdf, _, _ in CASES.values():
            with pytest.raises(ValueError, match=r"^q="):
                cdf(0.5, 0.0, bad)
            with pytest.raises(ValueError, match=r"^q="):
                pdf(0.5, 0.0, bad)
    for bad in (0.0, -1.0, math.nan, math.inf):
        for threshold in (sat.erf_threshold, sat.softsign_threshold):
            with pytest.raises(ValueError, match=r"^eps="):
                threshold(bad)
        with pytest.raises(ValueError, match=r"^q="):
            sat.slope_moment_bounds("tanh", bad)
    with pytest.raises(ValueError, match=r"^name='relu'"):
        sat.slope_moment_bounds("relu", 1.0)
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"^q="):
            sat.share_beyond(1.0, bad)
        with pytest.raises(ValueError, match=r"^threshold="):
            sat.share_beyond(bad, 1.0)
    for bad in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"^a="):
            sat.tanh_above(1.0, bad)
    for cdf, pdf, _, _ in CASES.values():
        with pytest.raises(ValueError, match=r"^mu="):
            cdf(0.5, math.nan, 1.0)
        with pytest.raises(ValueError, match=r"^mu="):
            pdf(0.5, math.inf, 1.0)


EPS = (1e-12, 1e-5, 0.01, 0.2)
PLACES = [(0.02, 0.3, 2.0), (0.5, 0.0, 0.1), (0.9, -1.0, 30.0)]


def relative(found: Any, exact: Any) -> float:
    return abs(float((mp.mpf(float(found)) - exact) / exact))


def threshold_error(name: str, exact: Callable[[Any], Any]) -> float:
    with mp.workdps(40):
        return max(relative(getattr(sat, name)(eps), exact(mp.mpf(eps))) for eps in EPS)


def bell(eps: Any) -> Any:
    """Where sigmoid' = eps."""
    return 2 * mp.acosh(1 / (2 * mp.sqrt(eps)))


def share_error(function: Callable[[float, float], Any], edge: Callable[[Any], Any]) -> float:
    """Of P(|x| > edge(a)): erfc at 40 digits, down to 1e-30."""
    worst = 0.0
    with mp.workdps(40):
        for a, q in ((0.01, 0.5), (0.05, 1.0), (0.2, 20.0)):
            exact = mp.erfc(edge(mp.mpf(a)) / mp.sqrt(2 * mp.mpf(q)))
            worst = max(worst, relative(function(a, q), exact))
    return worst


def law_error(name: str) -> float:
    """Of the cdf or the density at y, by that of x = phi^-1(y)."""
    worst = 0.0
    with mp.workdps(40):
        for share, mu, q in PLACES:
            kind = name.split("_")[0]
            y = share if kind == "sigmoid" else 2 * share - 1 + 0.01
            at = mp.mpf(y)
            x = mp.log(at / (1 - at)) if kind == "sigmoid" else mp.atanh(at)
            slope = at * (1 - at) if kind == "sigmoid" else 1 - at * at
            law = mp.ncdf if name.endswith("cdf") else mp.npdf
            exact = law(x, mu, mp.sqrt(q)) / (1 if name.endswith("cdf") else slope)
            worst = max(worst, relative(getattr(sat, name)(y, mu, q), exact))
    return worst


def bracket_error() -> float:
    """The bounds' relative distance from E tanh'^2, by mpmath, at q = 1e4: m / (2 q) at most."""
    with mp.workdps(30):
        q = mp.mpf(10) ** 4
        ends = [-60, -5, 0, 5, 60]
        density = mp.quad(lambda x: mp.sech(x) ** 4 * mp.exp(-x * x / (2 * q)), ends)
        exact = density / mp.sqrt(2 * mp.pi * q)
        return max(relative(bound, exact) for bound in sat.slope_moment_bounds("tanh", 1e4))


def slope_error(name: str) -> float:
    """Differences of the function at 320 digits."""
    oracle = mp.tanh if name == "tanh" else lambda x: 1 / (1 + mp.exp(-x))
    worst, function = 0.0, getattr(sat, f"{name}_slope")
    with mp.workdps(320):
        for x in (-300.0, -8.0, -1.5, 0.0, 1e-9, 0.3, 8.0, 36.0):
            exact = mp.diff(oracle, mp.mpf(x), h=mp.mpf(10) ** -100)
            worst = max(worst, relative(function(x), exact))
    return worst


SOURCE, LOGIT = "derived", "Aitchison & Shen 1980"
ACCURACY = [
    Case("saturation.sigmoid_threshold", "|x| of sigmoid' = eps", SOURCE, "eps 1e-12 to 0.2",
         "mpmath", 1e-14,
         lambda: threshold_error("sigmoid_threshold", bell)),
    Case("saturation.tanh_threshold", "|x| of tanh' = eps", SOURCE, "eps 1e-12 to 0.2",
         "mpmath", 1e-14,
         lambda: threshold_error("tanh_threshold", lambda e: mp.acosh(1 / mp.sqrt(e)))),
    Case("saturation.erf_threshold", "|x| of erf' = eps", SOURCE, "eps 1e-12 to 0.2",
         "mpmath", 1e-14,
         lambda: threshold_error("erf_threshold",
                                 lambda e: mp.sqrt(mp.log(2 / mp.sqrt(mp.pi) / e)))),
    Case("saturation.softsign_threshold", "|x| of softsign' = eps", SOURCE, "eps 1e-12 to 0.2",
         "mpmath", 1e-14,
         lambda: threshold_error("softsign_threshold", lambda e: 1 / mp.sqrt(e) - 1)),
    *(Case(f"saturation.{name}_slope", "derivative of the function", SOURCE, "x -300 to 36",
           "mpmath, differences", 3e-15, partial(slope_error, name))
      for name in ("sigmoid", "tanh")),
    Case("saturation.share_beyond", "P(|x| > t)", SOURCE, "down to 1e-45", "mpmath, erfc", 1e-13,
         lambda: share_error(lambda a, q: sat.share_beyond(a**-0.5, q),
                             lambda a: mp.mpf(float(a) ** -0.5))),
    Case("saturation.sigmoid_saturated", "P(sigmoid' < eps)", SOURCE, "q 0.5 to 20",
         "mpmath, erfc", 1e-13,
         lambda: share_error(lambda a, q: sat.sigmoid_saturated(q, a),
                             bell)),
    Case("saturation.tanh_saturated", "P(tanh' < eps)", SOURCE, "q 0.5 to 20", "mpmath, erfc",
         1e-13, lambda: share_error(lambda a, q: sat.tanh_saturated(q, a),
                                    lambda e: mp.acosh(1 / mp.sqrt(e)))),
    Case("saturation.tanh_above", "P(|tanh| > a)", SOURCE, "q 0.5 to 20", "mpmath, erfc", 1e-13,
         lambda: share_error(lambda a, q: sat.tanh_above(q, 1 - a), lambda a: mp.atanh(1 - a))),
    Case("saturation.slope_moment_bounds", "E phi'^2 at large q", SOURCE,
         "tanh, q = 1e4; neglects m / (2 q) = 1.6e-5", "mpmath, quadrature", 2e-5, bracket_error),
    *(Case(f"saturation.{name}", "law of an activation's value", LOGIT, "q 0.1 to 30",
           "mpmath, through the inverse", 1e-13, partial(law_error, name))
      for name in ("sigmoid_cdf", "sigmoid_pdf", "tanh_cdf", "tanh_pdf")),
]  # fmt: skip
