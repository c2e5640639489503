"""Mean-field maps against closed forms, published fixed points and simulation-free limits."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import meanfield as mf
from stability.theory import phase as ph

LAW = settings(deadline=None, max_examples=25)
NAMES = list(ACTIVATIONS)
TANH, RELU, ERF, LINEAR = (ACTIVATIONS[name] for name in ("tanh", "relu", "erf", "linear"))
ODD = [ACTIVATIONS[name] for name in ("linear", "tanh", "erf", "softsign", "hardtanh")]

# sigma_b, sigma_w, q* with chi_1 = 1, from an independent adaptive quadrature.
TANH_LINE = [
    (0.01, 1.042126, 0.045709),
    (0.1, 1.193401, 0.273301),
    (0.15, 1.252168, 0.391643),
    (0.2, 1.304146, 0.512079),
    (math.sqrt(0.05), math.sqrt(1.760955), 0.570048),
    (0.3, 1.395584, 0.763475),
    (0.4, 1.476242, 1.031630),
    (0.5, 1.549674, 1.317939),
    (0.6, 1.617789, 1.623034),
    (1.0, 1.855589, 3.036396),
]
# sigma_w^2, q*, chi_1, c*, xi_c, xi_q for tanh at sigma_b^2 = 0.05.
TANH_SCALES = [
    (1.0, 0.19359, 0.75903, 1.0, 3.627, 1.748),
    (1.3, 0.31532, 0.88016, 1.0, 7.834, 1.785),
    (1.5, 0.41804, 0.93864, 1.0, 15.79, 1.683),
    (1.7, 0.53308, 0.98674, 1.0, 74.92, 1.558),
    (1.8, 0.59413, 1.00822, 0.95041, 125.8, 1.498),
    (2.0, 0.72176, 1.04767, 0.74408, 25.21, 1.388),
    (2.5, 1.06396, 1.13352, 0.44680, 11.80, 1.180),
    (3.0, 1.42801, 1.20893, 0.29932, 9.051, 1.041),
    (4.0, 2.19549, 1.34240, 0.16506, 6.980, 0.873),
]


def arc_cosine(c: Any) -> Any:
    return (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / np.pi


@pytest.mark.parametrize(("sigma_b", "sigma_w", "q"), TANH_LINE)
def test_the_critical_line_of_tanh(sigma_b: float, sigma_w: float, q: float) -> None:
    w, b = ph.critical_line(q, TANH)
    # Both slopes along the line are of order 1; q is given to 1e-6, of a value down to 0.05.
    assert float(w) == pytest.approx(sigma_w, abs=1.5e-6)
    assert float(b) == pytest.approx(sigma_b, abs=1.5e-6)
    assert ph.fixed_point(TANH, float(w), float(b)) == pytest.approx(q, rel=1e-6)
    assert float(mf.chi(q, TANH, w)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "sigma_b", "sigma_w"),
    [
        ("erf", 0.1, 1.055595),
        ("erf", 0.5, 1.371330),
        ("erf", 1.0, 1.648751),
        ("softsign", 0.1, 1.51287),
        ("softsign", 0.2, 1.72963),
        ("elu", 0.2, 1.22925),
        ("elu", 0.5, 1.30611),
    ],
)
def test_critical_points_of_others(name: str, sigma_b: float, sigma_w: float) -> None:
    entry = ACTIVATIONS[name]
    q = ph.fixed_point(entry, sigma_w, sigma_b)
    assert float(mf.chi(q, entry, sigma_w)) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize(
    ("name", "w2", "b2", "q"),
    [
        ("silu", 1.988005, 0.555143, 14.320174),
        ("gelu", 1.983058, 0.172922, (3 + math.sqrt(17)) / 2),
    ],
)
def test_the_half_stable_points(name: str, w2: float, b2: float, q: float) -> None:
    # Roberts, Yaida & Hanin 2022, sec. 5.3.
    entry = ACTIVATIONS[name]
    w, b = ph.critical_line(q, entry)
    assert float(w) ** 2 == pytest.approx(w2, abs=1e-6)
    assert float(b) ** 2 == pytest.approx(b2, abs=1e-6)


def test_the_critical_line_of_relu_is_a_point_and_of_tanh_at_0_is_1() -> None:
    w, b = ph.critical_line([1e-8, 1.0, 1e4], RELU)
    np.testing.assert_allclose(w, math.sqrt(2), rtol=1e-13)
    np.testing.assert_array_equal(b, 0)
    assert tuple(map(float, ph.critical_line(0.0, TANH))) == (1.0, 0.0)


def test_the_critical_line_is_nan_where_no_bias_is_small_enough() -> None:
    gelu = ACTIVATIONS["gelu"]
    w, b = ph.critical_line(1.0, gelu)
    expected = 1 - 0.425221 / 0.455851
    assert float(w) ** -2 == pytest.approx(0.455851, abs=1e-6)
    assert float(b) ** 2 == pytest.approx(expected, abs=4e-6)
    # At q -> 0 sigmoid needs sigma_w^2 = 16, and 16 / 4 is more than q.
    sigmoid = ACTIVATIONS["sigmoid"]
    w, b = ph.critical_line([1e-6, 45.6], sigmoid)
    assert w[0] == pytest.approx(4, rel=1e-5)
    assert np.isnan(b[0])
    # Its critical gain without bias is 10.149, at q = 45.6.
    assert w[1] == pytest.approx(10.149, abs=5e-3)


@pytest.mark.parametrize("row", TANH_SCALES)
def test_fixed_points_and_depth_scales_of_tanh(row: tuple[float, ...]) -> None:
    w2, q, chi, c, xi_c, xi_q = row
    sigma_w, sigma_b = math.sqrt(w2), math.sqrt(0.05)
    scales = ph.depth_scales(TANH, sigma_w, sigma_b)
    assert scales.q == pytest.approx(q, abs=6e-6)
    assert float(mf.chi(scales.q, TANH, sigma_w)) == pytest.approx(chi, abs=6e-6)
    assert scales.c == pytest.approx(c, abs=6e-6)
    assert scales.xi_c == pytest.approx(xi_c, rel=5e-4)
    assert scales.xi_q == pytest.approx(xi_q, rel=5e-4)


@pytest.mark.parametrize(
    ("sigma_w", "q", "chi", "c"),
    [(1.3, 0.60705, 0.93981, 1.0), (2.5, 4.07912, 1.58522, 0.1221), (4.0, 12.604, 2.36726, 0.0297)],
)
def test_the_phases_of_poole_2016(sigma_w: float, q: float, chi: float, c: float) -> None:
    scales = ph.depth_scales(TANH, sigma_w, 0.3)
    assert scales.q == pytest.approx(q, rel=4e-5)
    assert float(mf.chi(scales.q, TANH, sigma_w)) == pytest.approx(chi, abs=6e-6)
    assert scales.c == pytest.approx(c, abs=6e-5)


def test_fixed_points_of_sigmoid_and_selu() -> None:
    sigmoid, selu = ACTIVATIONS["sigmoid"], ACTIVATIONS["selu"]
    q = ph.fixed_point(sigmoid, 1.0)
    assert q == pytest.approx(0.264687, abs=1e-6)
    assert float(mf.chi(q, sigmoid, 1.0)) == pytest.approx(0.0557207, abs=1e-7)
    assert ph.fixed_point(selu, 1.0) == pytest.approx(1.0, abs=1e-12)
    low = ph.fixed_point(selu, 0.75)
    assert math.sqrt(low) / 0.75 == pytest.approx(0.20236, abs=1e-5)
    assert ph.fixed_point(TANH, 5 / 3) == pytest.approx(1.17848, abs=1e-5)


def test_collapse_divergence_and_indifference() -> None:
    assert ph.fixed_point(TANH, 1.0) == 0.0
    assert ph.fixed_point(TANH, 0.5) == 0.0
    assert ph.fixed_point(RELU, 1.41) == 0.0
    assert ph.fixed_point(RELU, 1.42) == math.inf
    assert ph.fixed_point(RELU, math.sqrt(2)) == 1.0
    assert ph.fixed_point(RELU, math.sqrt(2), 1e-3) == math.inf
    # q* = b^2 / (1 - w^2) for linear layers, over all magnitudes.
    for b in (1e-9, 1e-3, 1.0, 1e4):
        assert ph.fixed_point(LINEAR, 0.6, b) == pytest.approx(b * b / 0.64, rel=1e-11)
    # Just above criticality q* = (w^2 - 1) / 2 to first order.
    assert ph.fixed_point(TANH, 1 + 1e-6) == pytest.approx(1e-6, rel=1e-4)


def test_depth_scales_without_a_fixed_point_are_nan() -> None:
    for sigma_w, q in ((0.5, 0.0), (2.0, math.inf)):
        scales = ph.depth_scales(RELU, sigma_w)
        assert scales.q == q
        assert all(map(math.isnan, scales[1:]))


def test_depth_scales_of_linear_layers() -> None:
    # Both deviations shrink by w^2 a layer.
    scales = ph.depth_scales(LINEAR, 0.6, 0.5)
    assert scales.c == 1.0
    assert scales.xi_q == pytest.approx(-1 / math.log(0.36), rel=1e-12)
    assert scales.xi_c == pytest.approx(-1 / math.log(0.36), rel=1e-12)


def test_an_odd_activation_without_bias_decorrelates_to_0() -> None:
    assert ph.fixed_correlation(ph.fixed_point(TANH, 2.0), TANH, 2.0) == 0.0
    relu = ph.fixed_correlation(1.0, RELU, math.sqrt(2))
    assert relu == 1.0
    assert ph.fixed_correlation(1.0, LINEAR, 1.0) == 1.0


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


@pytest.mark.parametrize("name", NAMES)
@LAW
@given(q=st.floats(1e-8, 1e3), ratio=st.floats(1.01, 10))
def test_the_variance_map_of_a_monotone_activation_increases(
    name: str, q: float, ratio: float
) -> None:
    entry = ACTIVATIONS[name]
    low, high = mf.variance_map([q, q * ratio], entry, 1.0)
    # Sigmoid and softplus are flat to first order about q = 0.
    assert high >= low * (1 - 1e-13)


@pytest.mark.parametrize("entry", ODD, ids=lambda entry: entry.name)
@LAW
@given(q=st.floats(1e-6, 1e4))
def test_the_gaussian_poincare_inequality(entry: Any, q: float) -> None:
    # Chernoff 1981: Var phi <= q E phi'^2, so chi_1 >= 1 where the forward gain keeps q.
    variance = float(mf.variance_map(q, entry, 1.0))
    assert variance <= q * float(mf.chi(q, entry, 1.0)) * (1 + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_chi_is_the_slope_of_the_correlation_map_at_1(name: str) -> None:
    # One-sided difference over h: off by h C'' / 2, or sqrt(h) where a kink makes C'' diverge.
    entry, q, w, h = ACTIVATIONS[name], 0.8, 1.3, 1e-5
    following = float(mf.variance_map(q, entry, w))
    moved = float(mf.correlation_map(1 - h, q, entry, w))
    slope = (1 - moved) / h * following / q
    chi = float(mf.chi(q, entry, w))
    assert slope == pytest.approx(chi, rel=5e-3 if entry.kinks else 1e-4)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_arguments_are_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^q="):
        mf.variance_map(bad, TANH, 1.0)
    with pytest.raises(ValueError, match=r"^sigma_w="):
        mf.variance_map(1.0, TANH, bad)
    with pytest.raises(ValueError, match=r"^sigma_b="):
        ph.fixed_point(TANH, 1.0, bad)
    with pytest.raises(ValueError, match=r"^sigma_w="):
        mf.chi(1.0, TANH, bad)
    with pytest.raises(ValueError, match=r"^q1="):
        mf.variances(3, bad, TANH, 1.0)
    with pytest.raises(ValueError, match=r"^q="):
        ph.critical_line(bad, TANH)


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
