"""Critical lines and points against published tables; critical laws against the maps' own decay."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from exact import moments
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS, prelu, swish
from stability.theory import criticality as cr
from stability.theory import meanfield as mf
from stability.theory import phase as ph

LAW = settings(deadline=None, max_examples=25)
TANH, RELU, ERF, SIN = (ACTIVATIONS[name] for name in ("tanh", "relu", "erf", "sin"))

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


@pytest.mark.parametrize(
    ("name", "sigma_b", "sigma_w", "digits"),
    [
        *(("tanh", b, w, 1.5e-6) for b, w, _ in TANH_LINE),
        ("erf", 0.1, 1.055595, 6e-7),
        ("erf", 0.2, 1.152795, 6e-7),
        ("erf", 0.3, 1.233673, 6e-7),
        ("erf", 0.5, 1.371330, 6e-7),
        ("erf", 1.0, 1.648751, 6e-7),
        ("softsign", 0.1, 1.51287, 6e-6),
        ("softsign", 0.2, 1.72963, 6e-6),
        ("elu", 0.2, 1.22925, 6e-6),
        ("elu", 0.5, 1.30611, 6e-6),
    ],
)
def test_critical_points_by_bias(name: str, sigma_b: float, sigma_w: float, digits: float) -> None:
    point = cr.critical_point(ACTIVATIONS[name], sigma_b)
    assert point.sigma_w == pytest.approx(sigma_w, abs=digits)
    assert float(mf.chi(point.q, ACTIVATIONS[name], point.sigma_w)) == pytest.approx(1, rel=1e-13)
    again = mf.variance_map(point.q, ACTIVATIONS[name], point.sigma_w, sigma_b)
    assert float(again) == pytest.approx(point.q, rel=1e-11)


def test_critical_points_without_bias() -> None:
    """The sigmoid's self-consistent gain is 10.149, at q* = 45.6; tanh's and ReLU's at q = 0."""
    sigmoid = cr.critical_point(ACTIVATIONS["sigmoid"])
    assert sigmoid.sigma_w == pytest.approx(10.149, abs=5e-4)
    assert sigmoid.q == pytest.approx(45.6, abs=0.05)
    assert cr.critical_point(TANH) == (0.0, 1.0, 0.0)
    assert cr.critical_point(ERF).sigma_w == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-15)
    relu = cr.critical_point(RELU)
    assert relu.q == relu.sigma_b == 0
    assert relu.sigma_w == pytest.approx(math.sqrt(2), rel=1e-15)
    assert cr.critical_point(SIN) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"^sigma_b=0.1: "):
        cr.critical_point(RELU, 0.1)


@pytest.mark.parametrize(
    ("name", "w2", "b2", "q"),
    [
        ("silu", 1.988005, 0.555143, 14.320174),
        ("gelu", 1.983058, 0.172922, (3 + math.sqrt(17)) / 2),
        ("swish", 1.988005, 0.555143 / 1.702**2, 14.320174 / 1.702**2),
    ],
)
def test_the_half_stable_points(name: str, w2: float, b2: float, q: float) -> None:
    """Roberts, Yaida & Hanin 2022 quote 1.988, 0.555, 14.32 and 1.983, 0.173, 3.56."""
    entry = ACTIVATIONS[name]
    point = cr.half_stable_point(entry)
    assert point.q == pytest.approx(q, rel=5e-8)
    assert point.sigma_w**2 == pytest.approx(w2, abs=6e-7)
    assert point.sigma_b**2 == pytest.approx(b2, abs=6e-7)
    for slope in (mf.chi(point.q, entry, point.sigma_w), point.sigma_w**2 * entry.growth(point.q)):
        assert float(slope) == pytest.approx(1, abs=1e-13)


@LAW
@given(beta=st.floats(0.05, 20))
def test_half_stable_points_of_swish_obey_its_scale_law(beta: float) -> None:
    one, other = cr.half_stable_point(swish(1.0)), cr.half_stable_point(swish(beta))
    assert other.q * beta**2 == pytest.approx(one.q, rel=1e-9)
    assert other.sigma_w == pytest.approx(one.sigma_w, rel=1e-12)
    assert other.sigma_b * beta == pytest.approx(one.sigma_b, rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "relu", "linear", "hardtanh", "sin", "softplus"])
def test_most_activations_have_no_half_stable_point(name: str) -> None:
    with pytest.raises(ValueError, match=r"^activation: "):
        cr.half_stable_point(ACTIVATIONS[name])


@pytest.mark.parametrize(("entry", "bend"), [(TANH, -2.0), (ERF, -2.0), (SIN, -1.0)])
def test_the_variance_vanishes_like_one_over_depth(entry: Any, bend: float) -> None:
    """2 l q_l of tanh is 1.044, 1.022, 1.0138, 1.0023 at l = 10, 50, 100, 1000."""
    gain = 1 / math.sqrt(float(entry.slope_moment(0.0)))
    q = mf.variances(1001, 1.0, entry, gain)
    ratio = q[[10, 50, 100, 1000]] / cr.critical_variance([10, 50, 100, 1000], bend)
    if entry is TANH:
        np.testing.assert_allclose(ratio, [1.044, 1.022, 1.0138, 1.0023], rtol=0, atol=6e-4)
    # The next term is O(log(l) / l).
    assert ratio[-1] == pytest.approx(1, abs=math.log(1000) / 1000)


def test_the_decay_of_tanh_on_its_critical_line() -> None:
    """beta = 7.0837 at sigma_b = 0.2; l (1 - c_l) is 7.374 ... 7.141 at l = 100 ... 2000."""
    point = cr.critical_point(TANH, 0.2)
    assert float(cr.critical_gap(1.0, point.q, TANH)) == pytest.approx(7.0837, abs=6e-5)
    c, gaps = 0.0, {}
    for layer in range(1, 2001):
        c = float(mf.correlation_map(c, point.q, TANH, point.sigma_w, point.sigma_b))
        gaps[layer] = layer * (1 - c)
    published = [(100, 7.374), (200, 7.331), (500, 7.235), (1000, 7.179), (2000, 7.141)]
    for layer, value in published:
        assert gaps[layer] == pytest.approx(value, abs=6e-4), layer


@pytest.mark.parametrize("name", ["relu", "prelu", "selu", "hardtanh", "tanh", "gelu", "softplus"])
def test_the_gap_solves_the_maps_own_expansion(name: str) -> None:
    """The map at 1 - h: chi h - kappa h^(3/2) or chi h - C'' h^2 / 2, read off at small h."""
    entry, q = ACTIVATIONS[name], 1.7
    gain = 1 / math.sqrt(float(entry.slope_moment(q)))
    jumps = bool(entry.kinks)
    h = 1e-5 if jumps else 1e-3
    length = float(entry.second_moment(q))
    fall = (length - float(entry.covariance(q, q, 1 - h))) * gain**2 / q
    if jumps:
        coefficient = (h - fall) / h**1.5
        law = 4 / coefficient**2
    else:
        coefficient = 2 * (h - fall) / h**2
        law = 2 / coefficient
    assert float(cr.critical_gap(1.0, q, entry)) == pytest.approx(law, rel=2e-2)


def test_he_networks_collapse_to_one_direction() -> None:
    """1 - c_l ~ 9 pi^2 / (2 l^2), reached slowly: 0.805 of it at 100 layers, 0.971 at 1000."""
    law = cr.critical_gap([100, 1000], 1.0, RELU)
    np.testing.assert_allclose(law, 4.5 * math.pi**2 / np.array([1e4, 1e6]), rtol=1e-14)
    c, found = 0.0, {}
    for layer in range(1, 1001):
        c = float(mf.correlation_map(c, 1.0, RELU, math.sqrt(2)))
        found[layer] = c
    quoted = [(1, 0.318310), (2, 0.493731), (5, 0.735946), (10, 0.871536), (20, 0.948428),
              (50, 0.987862), (100, 0.996423)]  # fmt: skip
    for layer, value in quoted:
        assert found[layer] == pytest.approx(value, abs=6e-7)
    assert (1 - found[100]) / float(law[0]) == pytest.approx(0.805, abs=6e-4)
    assert (1 - found[1000]) / float(law[1]) == pytest.approx(0.971, abs=6e-4)


@LAW
@given(q=st.floats(1e-4, 1e4), a=st.floats(-0.9, 0.9), layer=st.floats(1, 1e6))
def test_the_gap_of_the_relu_family_does_not_depend_on_q(q: float, a: float, layer: float) -> None:
    expected = 4.5 * math.pi**2 * ((1 + a * a) / (1 - a) ** 2) ** 2 / layer**2
    assert float(cr.critical_gap(layer, q, prelu(a))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("depth", "slope"), [(20, 0.18138), (50, 0.43052), (100, 0.57044),
                                              (200, 0.67960)])  # fmt: skip
def test_shaping_slopes(depth: int, slope: float) -> None:
    found = cr.shaping_slope(depth)
    assert found == pytest.approx(slope, abs=6e-6)
    c = 0.0
    for _ in range(depth):
        c = float(cr.shaped_correlation(c, found))
    assert c == pytest.approx(0.9, abs=1e-12)


def test_shallow_networks_need_no_shaping() -> None:
    assert cr.shaping_slope(10) == 0.0
    assert cr.shaping_slope(13) > 0


@LAW
@given(a=st.floats(-0.9, 1), c=st.floats(-1, 1), q=st.floats(1e-3, 1e3))
def test_the_shaped_map_is_that_of_leaky_relu(a: float, c: float, q: float) -> None:
    gain = math.sqrt(2 / (1 + a * a))
    mapped = float(mf.correlation_map(c, q, prelu(a), gain))
    assert float(cr.shaped_correlation(c, a)) == pytest.approx(mapped, abs=1e-14)


def test_bad_arguments_are_named() -> None:
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^layer="):
            cr.critical_variance(bad, -2.0)
        with pytest.raises(ValueError, match=r"^layer="):
            cr.critical_gap(bad, 1.0, TANH)
        with pytest.raises(ValueError, match=r"^q="):
            cr.critical_gap(1.0, bad, TANH)
        with pytest.raises(ValueError, match=r"^target="):
            cr.shaping_slope(5, bad)
    for bend in (0.0, 1.0, math.nan, -math.inf):
        with pytest.raises(ValueError, match=r"^bend="):
            cr.critical_variance(1.0, bend)
    with pytest.raises(ValueError, match=r"^activation: "):
        cr.critical_gap(1.0, 1.0, ACTIVATIONS["linear"])
    with pytest.raises(ValueError, match=r"^c="):
        cr.shaped_correlation(1.1, 0.5)
    with pytest.raises(ValueError, match=r"^slope="):
        cr.shaped_correlation(0.1, math.nan)
    with pytest.raises(ValueError, match=r"^depth="):
        cr.shaping_slope(0)
    with pytest.raises(ValueError, match=r"^sigma_b="):
        cr.critical_point(TANH, -0.1)


def worst_points() -> float:
    """erf: q - w^2 V = b^2 at w^2 = 1 / D, in closed form."""
    worst = 0.0
    with mp.workdps(30):
        for b in (0.01, 0.1, 0.5, 2.0):
            ours = cr.critical_point(ERF, b)

            def gap(v: Any, b: float = b) -> Any:
                arc = mp.asin(2 * v / (1 + 2 * v))
                return v - mp.sqrt(1 + 4 * v) / 2 * arc - mp.mpf(b) ** 2

            q = mp.findroot(gap, ours.q)
            w = mp.sqrt(mp.pi * mp.sqrt(1 + 4 * q) / 4)
            worst = max(worst, abs(float(ours.q / q - 1)), abs(float(ours.sigma_w / w - 1)))
    return worst


def worst_half_stable() -> float:
    """GELU's q in closed form; SiLU's by the 50-digit slope of its curvature over a small step."""
    exact = (3 + math.sqrt(17)) / 2
    worst = abs(cr.half_stable_point(ACTIVATIONS["gelu"]).q / exact - 1)
    q = cr.half_stable_point(ACTIVATIONS["silu"]).q
    here, there = moments("silu", q).curvature, moments("silu", q * 1.001).curvature
    return max(worst, abs(float(here / (there - here) * mp.mpf("0.001"))))


def worst_variance_law() -> float:
    """erf without bias: q' = asin(2 q / (1 + 2 q)) / 2, a million layers."""
    q, layers = 1.0, 1_000_000
    for _ in range(layers):
        q = math.asin(2 * q / (1 + 2 * q)) / 2
    return abs(float(cr.critical_variance(layers, -2.0)) / q - 1)


def worst_gap_law() -> float:
    """ReLU: 100 000 layers of the arc-cosine map, its gap from a series that does not cancel."""
    gap, layers = 1.0, 100_000
    for _ in range(layers):
        angle = 2 * math.asin(math.sqrt(gap / 2))
        if angle > 0.1:
            gap = 1 - (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
        else:
            cubic = angle**3 / 3 - angle**5 / 30 + angle**7 / 840
            gap -= cubic / math.pi
    return abs(float(cr.critical_gap(layers, 1.0, RELU)) / gap - 1)


def worst_shaped() -> float:
    worst = 0.0
    with mp.workdps(30):
        for a in (0.0, 0.3, 0.9):
            for c in (-0.9, 0.0, 0.5, 1 - 1e-9):
                m, s = mp.mpf(c), mp.mpf(a)
                share = (1 - s) ** 2 / (mp.pi * (1 + s**2))
                truth = m + share * (mp.sqrt(1 - m * m) - m * mp.acos(m))
                worst = max(worst, abs(float(cr.shaped_correlation(c, a)) - float(truth)))
    return worst


def worst_shaping() -> float:
    """The slope that 20-digit bisection finds."""
    worst = 0.0
    with mp.workdps(20):
        for depth in (20, 60):

            def excess(s: Any, depth: int = depth) -> Any:
                c = mp.mpf(0)
                for _ in range(depth):
                    share = (1 - s) ** 2 / (mp.pi * (1 + s**2))
                    c = c + share * (mp.sqrt(1 - c * c) - c * mp.acos(c))
                return c - mp.mpf("0.9")

            truth = mp.findroot(excess, (mp.mpf("0.1"), mp.mpf("0.6")), solver="anderson")
            worst = max(worst, abs(float(cr.shaping_slope(depth) / truth - 1)))
    return worst


_PDLT = "Roberts, Yaida & Hanin 2022, sec. 5.3"
ACCURACY = [
    Case("criticality.critical_point", "q and sigma_w where chi_1 = 1 at a bias",
         "Schoenholz et al. 2017", "erf, sigma_b 0.01 to 2", "closed form, mpmath", 1e-11,
         worst_points),
    Case("criticality.half_stable_point", "q where both maps have slope 1", _PDLT,
         "GELU and SiLU", "(3 + sqrt 17) / 2; 50-digit integrals", 1e-12, worst_half_stable),
    Case("criticality.critical_variance", "q after l layers at criticality, neglects O(log l / l)",
         _PDLT, "erf, a million layers", "the recursion itself", 2e-5, worst_variance_law),
    Case("criticality.critical_gap", "1 - c after l layers at criticality, neglects O(log l / l)",
         "Hayou et al. 2019", "ReLU, 1e5 layers", "the recursion itself", 1e-3, worst_gap_law),
    Case("criticality.shaped_correlation", "correlation map of shaped ReLU (absolute)",
         "Zhang et al. 2022", "slope 0 to 0.9, every c", "mpmath", 1e-15, worst_shaped),
    Case("criticality.shaping_slope", "slope with C^L(0) = 0.9", "Zhang et al. 2022",
         "20 and 60 layers", "mpmath", 1e-12, worst_shaping),
]  # fmt: skip
