"""Saturated shares and activation densities against mpmath, tables and their own integrals."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

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


def test_published_thresholds() -> None:
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
    ends = np.array([low - 1, low, 1.0, 2.0, math.nan])
    np.testing.assert_array_equal(cdf(ends, 0.3, 2.0), [0, 0, 1, 1, math.nan])
    np.testing.assert_array_equal(pdf(ends, 0.3, 2.0), [0, 0, 0, 0, math.nan])


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
