"""Mean-field maps against closed forms and published recursions."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from exact import moments
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import meanfield as mf

LAW = settings(deadline=None, max_examples=25)
NAMES = list(ACTIVATIONS)
TANH, RELU, ERF, LINEAR = (ACTIVATIONS[name] for name in ("tanh", "relu", "erf", "linear"))


def arc_cosine(c: Any) -> Any:
    return (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / np.pi


@pytest.mark.parametrize("q", [1e-8, 0.3, 7.0, 1e4])
def test_the_maps_of_erf_in_closed_form(q: float) -> None:
    # Williams 1997: E erf(u1) erf(u2) = (2 / pi) asin(2 q c / (1 + 2 q)).
    w, b, c = 1.7, 0.4 * math.sqrt(q), np.array([-1, -0.3, 0.0, 0.8, 1])
    following = w * w * 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q)) + b * b
    assert float(mf.variance_map(q, ERF, w, b)) == pytest.approx(following[-1], rel=1e-11)
    np.testing.assert_allclose(
        mf.covariance_map(q, q * c, ERF, w, b), following, rtol=0, atol=1e-10 * following[-1]
    )
    np.testing.assert_allclose(
        mf.correlation_map(c, q, ERF, w, b), following / following[-1], rtol=0, atol=1e-10
    )
    slope = w * w * 4 / np.pi / math.sqrt(1 + 4 * q)
    assert float(mf.chi(q, ERF, w)) == pytest.approx(slope, rel=1e-11)


def test_the_correlations_of_he_networks_follow_the_arc_cosine_recursion() -> None:
    depth, c, expected = 100, 0.0, []
    for _ in range(depth):
        expected.append(c)
        c = float(arc_cosine(c))
    measured = mf.correlations(depth, 3.0, 0.0, RELU, math.sqrt(2))
    assert measured.shape == (depth,)
    np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-8)
    for layer, value in ((1, 0.318310), (2, 0.493731), (10, 0.871536), (50, 0.987862)):
        assert measured[layer] == pytest.approx(value, abs=1e-6)


def test_correlations_track_the_variance() -> None:
    q1, c1, w, b = 5.0, 0.2, 1.5, 0.3
    q, covariance = q1, q1 * c1
    values = mf.correlations(6, q1, c1, ERF, w, b)
    for value in values:
        assert value == pytest.approx(covariance / q, abs=1e-10)
        scale = 1 + 2 * q
        covariance = w * w * 2 / math.pi * math.asin(2 * covariance / scale) + b * b
        q = w * w * 2 / math.pi * math.asin(2 * q / scale) + b * b


def test_variances_of_linear_relu_and_critical_tanh() -> None:
    grown = mf.variances(700, 1.0, RELU, math.sqrt(8))
    with np.errstate(over="ignore"):
        expected = 4.0 ** np.arange(700)
    np.testing.assert_allclose(grown[:500], expected[:500], rtol=1e-9)
    np.testing.assert_array_equal(np.isinf(grown[520:]), True)
    shrunk = mf.variances(20, 0.3, LINEAR, 0.01, 0.2)
    assert shrunk[0] == 0.3
    assert shrunk[-1] == pytest.approx(0.04 / (1 - 1e-4), rel=1e-12)
    tanh = mf.variances(1001, 1.0, TANH, 1.0)
    # q ~ 1 / (2 l) with a correction of order ln(l) / l.
    assert 2000 * tanh[1000] == pytest.approx(1, abs=math.log(1000) / 1000)
    assert mf.variances(1, 0.0, TANH, 1.0).tolist() == [0.0]


def test_the_correlation_of_a_signal_that_is_gone_is_nan() -> None:
    assert np.isnan(mf.correlation_map(0.5, 0.0, TANH, 1.0))
    assert np.isnan(mf.correlation_map([0.5, 1.0], 1.0, TANH, 0.0)).all()
    exploding = mf.correlations(60, 1.0, 0.5, LINEAR, 1e3)
    assert exploding[50] == pytest.approx(0.5, abs=1e-9)
    assert np.isnan(exploding[-1])


@pytest.mark.parametrize("name", NAMES)
@LAW
@given(q=st.floats(1e-6, 1e3), c=st.floats(-1, 1), w=st.floats(0.1, 5), b=st.floats(0, 2))
def test_correlations_are_correlations_and_1_is_fixed(
    name: str, q: float, c: float, w: float, b: float
) -> None:
    entry = ACTIVATIONS[name]
    values = mf.correlation_map([c, 1.0], q, entry, w, b)
    assert abs(values[0]) <= 1
    assert values[1] == pytest.approx(1, abs=1e-10)


@LAW
@given(q=st.floats(1e-8, 1e4), r=st.floats(1e-8, 1e4), w=st.floats(0.1, 5))
def test_relu_is_homogeneous(q: float, r: float, w: float) -> None:
    first, second = mf.variance_map([q, r], RELU, w)
    assert first / second == pytest.approx(q / r, rel=1e-11)
    assert first == pytest.approx(w * w * q / 2, rel=1e-11)


def test_bad_depths_and_correlations_are_named() -> None:
    with pytest.raises(ValueError, match=r"^depth="):
        mf.variances(0, 1.0, TANH, 1.0)
    for bad in (1.5, math.nan):
        with pytest.raises(ValueError, match=r"^c1="):
            mf.correlations(3, 1.0, bad, TANH, 1.0)
        with pytest.raises(ValueError, match=r"^covariance="):
            mf.covariance_map(1.0, bad, TANH, 1.0)
        with pytest.raises(ValueError, match=r"^c="):
            mf.correlation_map(bad, 1.0, TANH, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_chi_is_the_slope_of_the_correlation_map_at_1(name: str) -> None:
    """One-sided, over h = 1e-4: off by C'' h / 2, and by 2 kappa sqrt(h) / 3 where phi' jumps."""
    entry, q, w, h = ACTIVATIONS[name], 0.8, 1.3, 1e-4
    following = float(mf.variance_map(q, entry, w))
    moved = float(mf.correlation_map(1 - h, q, entry, w))
    slope = (1 - moved) / h * following / q
    chi = float(mf.chi(q, entry, w))
    if entry.kinks:
        jumps = sum(
            jump**2 * math.exp(-kink * kink / (2 * q)) / math.sqrt(2 * math.pi * q)
            for kink, jump in zip(entry.kinks, entry.jumps(), strict=True)
        )
        neglected = 2 / 3 * w * w * math.sqrt(q / math.pi) * jumps * math.sqrt(h)
        assert chi - slope == pytest.approx(neglected, abs=20 * h)
    else:
        bend = w * w * q * float(entry.expectation(lambda u: entry.d2phi(u) ** 2, q))
        assert chi - slope == pytest.approx(bend * h / 2, abs=30 * h**1.5 + 1e-6)


def test_maps_broadcast_over_grids() -> None:
    q, w, b = np.ogrid[0.1:2:3j, 0.5:2:4j, 0:1:2j]
    values = mf.variance_map(q, TANH, w, b)
    assert values.shape == (3, 4, 2)
    assert values[2, 1, 1] == mf.variance_map(q[2, 0, 0], TANH, w[0, 1, 0], b[0, 0, 1])
    assert mf.chi(q, TANH, w).shape == (3, 4, 1)
    assert mf.correlation_map(0.3, q, ERF, w, b).shape == (3, 4, 2)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("entry", [TANH, ERF], ids=["tanh", "erf"])
def test_bad_arguments_are_named(entry: Any, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^q="):
        mf.variance_map(bad, entry, 1.0)
    with pytest.raises(ValueError, match=r"^q="):
        mf.correlation_map(0.5, bad, entry, 1.0)
    with pytest.raises(ValueError, match=r"^sigma_w="):
        mf.variance_map(1.0, entry, bad)
    with pytest.raises(ValueError, match=r"^sigma_b="):
        mf.variance_map(1.0, entry, 1.0, bad)
    with pytest.raises(ValueError, match=r"^sigma_w="):
        mf.chi(1.0, entry, bad)
    with pytest.raises(ValueError, match=r"^q1="):
        mf.variances(3, bad, entry, 1.0)


def worst_maps() -> tuple[float, float]:
    """Of the variance map and chi_1, against 50-digit integrals."""
    variance, slope = 0.0, 0.0
    for name in ("tanh", "selu", "hardtanh", "softsign"):
        entry, w, b = ACTIVATIONS[name], 1.3, 0.2
        for q in (1e-8, 0.7, 1e4):
            exact = moments(name, q)
            following = float(exact.second) * w * w + b * b
            variance = max(variance, abs(float(mf.variance_map(q, entry, w, b)) / following - 1))
            truth = float(exact.slope) * w * w
            slope = max(slope, abs(float(mf.chi(q, entry, w)) / truth - 1))
    return variance, slope


def worst_covariance() -> tuple[float, float]:
    """Of the covariance map, relative to its value at c = 1, and of the correlation map: erf."""
    covariance, correlation = 0.0, 0.0
    for q in (1e-8, 0.3, 7.0, 1e4):
        for c in (-1.0, -0.3, 0.0, 0.8, 1 - 1e-9):
            w, b = 1.7, 0.4 * math.sqrt(q)
            with mp.workdps(30):
                v = mp.mpf(q)
                raw = [mp.asin(2 * v * x / (1 + 2 * v)) for x in (mp.mpf(c), mp.mpf(1))]
                top, length = (float(w * w * 2 / mp.pi * x + b * b) for x in raw)
            ours = float(mf.covariance_map(q, q * c, ERF, w, b))
            covariance = max(covariance, abs(ours - top) / length)
            ours = float(mf.correlation_map(c, q, ERF, w, b))
            correlation = max(correlation, abs(ours - top / length))
    return covariance, correlation


def worst_depth() -> tuple[float, float]:
    """Of 50 layers of erf, against the same recursion at 30 digits."""
    w, b, depth = 1.5, 0.3, 50
    q, c = mf.variances(depth, 5.0, ERF, w, b), mf.correlations(depth, 5.0, 0.2, ERF, w, b)
    lengths, angles = 0.0, 0.0
    with mp.workdps(30):
        v, s = mp.mpf(5), mp.mpf(1)
        for ours_q, ours_c in zip(q, c, strict=True):
            lengths = max(lengths, abs(float(ours_q / v - 1)))
            angles = max(angles, abs(float(ours_c - s / v)))
            size, gain = 1 + 2 * v, mp.mpf(w) ** 2 * 2 / mp.pi
            s = gain * mp.asin(2 * s / size) + mp.mpf(b) ** 2
            v = gain * mp.asin(2 * v / size) + mp.mpf(b) ** 2
    return lengths, angles


def erf_variance(q: Any, w: float) -> Any:
    """sigma_w^2 E erf^2, Williams 1997, in mpmath."""
    return mp.mpf(w) ** 2 * 2 / mp.pi * mp.asin(2 * q / (1 + 2 * q))


def behind_error() -> float:
    gains, worst = [0.7, 1.9, 1.2], 0.0
    found = mf.variance_behind([1e-6, 0.4, 30.0], ERF, gains)
    with mp.workdps(30):
        for q, ours in zip((1e-6, 0.4, 30.0), found, strict=True):
            v = mp.mpf(q)
            for w in gains:
                v = erf_variance(v, w)
            worst = max(worst, abs(float(ours / v - 1)))
    return worst


def downward_error() -> float:
    """The product of the factors above each layer, in rationals' place 30 digits."""
    factors = [0.3, 2.5, 1.1, 0.9]
    found = mf.log_gradients(np.log(factors))
    with mp.workdps(30):
        exact = [mp.log(mp.fprod(mp.mpf(f) for f in factors[at:])) for at in range(5)]
    assert found[-1] == exact[-1] == 0
    return max(abs(float(a / b - 1)) for a, b in zip(found[:-1], exact[:-1], strict=True))


def rate_error() -> float:
    """The root of the factors' product, of squares."""
    with mp.workdps(30):
        exact = mp.log(mp.root(mp.mpf(0.3) * 2.5 * 1.1, 6))
        return abs(float(mf.gradient_rate(np.log([0.3, 2.5, 1.1])) / exact - 1))


def weight_error() -> float:
    """erf: E phi'^2 = 4 / (pi sqrt(1 + 4 q)), layer by layer downwards."""
    q, w, n = [0.4, 1.0, 2.5], 1.3, 20
    found = mf.log10_weight_gradients(q, ERF, w, n)
    with mp.workdps(30):
        gradient, exact = mp.mpf(1), []
        for layer in (2, 1, 0):
            gradient *= 4 / mp.pi / mp.sqrt(1 + 4 * mp.mpf(q[layer]))
            below = erf_variance(mp.mpf(q[layer - 1]), 1.0) if layer else mp.mpf(1)
            exact.append(mp.log10(gradient * n * below))
            gradient *= mp.mpf(w) ** 2
    return max(abs(float(a / b - 1)) for a, b in zip(found, exact[::-1], strict=True))


_POOLE = "Poole et al. 2016, eq. {}"
ACCURACY = [
    Case("meanfield.variance_map", "next variance", _POOLE.format(3), "q 1e-8 to 1e4",
         "50-digit integrals", 1e-13, lambda: worst_maps()[0]),
    Case("meanfield.chi", "chi_1", "Schoenholz et al. 2017, eq. 5", "q 1e-8 to 1e4",
         "50-digit integrals", 1e-13, lambda: worst_maps()[1]),
    Case("meanfield.covariance_map", "next covariance, relative to c = 1", _POOLE.format(5),
         "q 1e-8 to 1e4, every c", "arc-sine kernel, mpmath", 1e-14,
         lambda: worst_covariance()[0]),
    Case("meanfield.correlation_map", "next correlation (absolute)", _POOLE.format(5),
         "q 1e-8 to 1e4, every c", "arc-sine kernel, mpmath", 1e-14,
         lambda: worst_covariance()[1]),
    Case("meanfield.variances", "variance layer by layer", _POOLE.format(3), "50 layers of erf",
         "the recursion in mpmath", 1e-13, lambda: worst_depth()[0]),
    Case("meanfield.correlations", "correlation layer by layer (absolute)", _POOLE.format(5),
         "50 layers of erf", "the recursion in mpmath", 1e-13, lambda: worst_depth()[1]),
    Case("meanfield.variance_behind", "variance behind layers of several gains", _POOLE.format(3),
         "three layers of erf, q 1e-6 to 30", "the recursion in mpmath", 1e-10, behind_error),
    Case("meanfield.log_gradients", "ln of gradients by layer", "Schoenholz et al. 2017, sec. 3",
         "five layers", "mpmath, products", 1e-14, downward_error),
    Case("meanfield.gradient_rate", "ln of a gradient's mean factor a layer",
         "Schoenholz et al. 2017, sec. 3", "three layers", "mpmath, a root", 1e-14, rate_error),
    Case("meanfield.log10_weight_gradients", "weight gradients by layer",
         "Glorot & Bengio 2010, eq. 6", "three layers of erf", "mpmath, layer by layer", 1e-10,
         weight_error),
]  # fmt: skip


def test_rows_of_logarithms_are_named() -> None:
    with pytest.raises(ValueError, match=r"^log_chi of shape \(1, 2\): must be a row"):
        mf.log_gradients([[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"^log_chi: must be at least one"):
        mf.gradient_rate([])
    with pytest.raises(ValueError, match=r"^q of shape \(\): must be a row"):
        mf.log10_weight_gradients(1.0, ERF, 1.0, 3)


def test_what_dies_above_is_dead_below() -> None:
    assert mf.log_gradients([0.5, -math.inf, 0.25]).tolist() == [-math.inf, -math.inf, 0.25, 0.0]
    assert mf.log_gradients([]).tolist() == [0.0]
