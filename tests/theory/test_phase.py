"""Fixed points, phases and depth scales against closed forms, orbits and published tables."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from exact import moments
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS, swish
from stability.theory import meanfield as mf
from stability.theory import phase as ph
from stability.theory.criticality import half_stable_point
from stability.theory.nonlinearity import Nonlinearity

LAW = settings(deadline=None, max_examples=25)
TANH, RELU, ERF, LINEAR = (ACTIVATIONS[name] for name in ("tanh", "relu", "erf", "linear"))
every = pytest.mark.parametrize("name", ACTIVATIONS)

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


SIGMOID_SLOPES = [
    (1.0, -0.62699, 6e-6),
    (1 / math.sqrt(3), -0.84953, 2e-4),
    (2.0, math.log10(0.17158) / 2, 2e-5),
    (4.0, math.log10(0.39888) / 2, 1e-5),
]


@pytest.mark.parametrize(("sigma_w", "decades", "tolerance"), SIGMOID_SLOPES)
def test_how_fast_gradients_vanish_in_sigmoid_layers(
    sigma_w: float, decades: float, tolerance: float
) -> None:
    """torch's default, gain 1 / sqrt(3), has a bias of variance 1 / (3 n), left out here."""
    found = float(ph.gradient_decades(ACTIVATIONS["sigmoid"], sigma_w))
    assert found == pytest.approx(decades, abs=tolerance)


def orbit(entry: Nonlinearity, w: Any, b: Any, steps: int) -> tuple[Any, Any]:
    """Where q = 1 is after so many layers, and whether it has settled."""
    q = np.ones(np.shape(w))
    with np.errstate(over="ignore"):
        for _ in range(steps):
            before, q = q, np.minimum(mf.variance_map(q, entry, w, b), 1e30)
    return q, np.abs(q - before) <= 1e-14 * q


@every
def test_the_fixed_point_is_where_the_orbit_of_1_settles(name: str) -> None:
    entry, rng = ACTIVATIONS[name], np.random.default_rng(5)
    w, b = rng.uniform(0.3, 3, 40), rng.uniform(0, 1.5, 40) * rng.integers(0, 2, 40)
    found = ph.fixed_point(entry, w, b)
    last, settled = orbit(entry, w, b, 200)
    finite = settled & (last < 1e29) & (last > 1e-20)
    np.testing.assert_allclose(found[finite], last[finite], rtol=1e-11)
    assert np.isinf(found[last >= 1e29]).all()
    assert (found[last < 1e-20] == 0).all()
    assert finite.sum() >= (0 if name == "linear" else 8)


def test_several_stable_fixed_points() -> None:
    """GELU and SiLU beside their half-stable points, where up to three lie within a decade."""
    for name, near in (("gelu", 1e-3), ("silu", 1e-3), ("swish", 1e-3)):
        entry = ACTIVATIONS[name]
        point = half_stable_point(entry)
        shift, turn = np.meshgrid(np.linspace(-near, near, 9), np.linspace(-near, near, 9))
        w, b = point.sigma_w * (1 + shift), point.sigma_b * (1 + turn)
        found = ph.fixed_point(entry, w, b)
        if entry.closed:
            last, settled = orbit(entry, w, b, 40_000)
            done = settled & (last < 1e29)
            assert done.sum() > 40
            np.testing.assert_allclose(found[done], last[done], rtol=1e-8)
        finite = np.isfinite(found)
        np.testing.assert_allclose(
            mf.variance_map(found[finite], entry, w[finite], b[finite]), found[finite], rtol=1e-14
        )
        # The map does not come nearer to the diagonal on the way from 1.
        for q, gain, bias in zip(found.ravel(), w.ravel(), b.ravel(), strict=True):
            end = min(q, 1e3)
            path = np.geomspace(1, end * (0.99 if end > 1 else 1.01), 300)
            excess = mf.variance_map(path, entry, gain, bias) - path
            assert (np.sign(excess) == np.sign(end - 1)).all()


def test_a_pair_of_fixed_points_within_a_cell_is_met_on_the_way_down() -> None:
    """gelu(k z) / k, whose half-stable variance is met from above, amid a cell of the grid."""
    gelu = ACTIVATIONS["gelu"]
    point = half_stable_point(gelu)
    k = math.sqrt(point.q / 10 ** (-16.5 / 20))
    steep = Nonlinearity(
        phi=lambda z: gelu.phi(k * z) / k,
        dphi=lambda z: gelu.dphi(k * z),
        d2phi=lambda z: k * gelu.d2phi(k * z),
        scale=1 / k,
    )
    b = point.sigma_b / k * (1 + np.array([-1e-4, 1e-6, 3e-6, 1e-5, 1e-4, 1e-3]))
    found = ph.fixed_point(steep, point.sigma_w, b) * k**2 / point.q
    assert found[0] < 0.9
    assert (found[1:] > 1).all()
    for q, bias in zip(found * point.q, b * k, strict=True):
        path = np.geomspace(k**2, q * 1.001, 2000)
        assert (mf.variance_map(path, gelu, point.sigma_w, bias) < path).all()
        again = float(mf.variance_map(q, gelu, point.sigma_w, bias))
        assert again == pytest.approx(q, rel=1e-13)


def test_two_stable_fixed_points_and_which_one_1_goes_to() -> None:
    """tanh^3(z / 4) without bias: 0 is stable, and a high variance if sigma_w is large enough."""

    def bend(z: Any) -> Any:
        t = np.tanh(z / 4)
        return 3 / 8 * t * (1 - 2 * t * t) * (1 - t * t)

    cube = Nonlinearity(
        phi=lambda z: np.tanh(z / 4) ** 3,
        dphi=lambda z: 3 / 4 * np.tanh(z / 4) ** 2 * (1 - np.tanh(z / 4) ** 2),
        d2phi=bend,
    )
    edge = 1 / math.sqrt(float(cube.second_moment(1.0)))
    low, high = ph.fixed_point(cube, [0.999 * edge, 1.001 * edge])
    assert low == 0.0
    assert high > 2
    assert high == pytest.approx(float(orbit(cube, 1.001 * edge, 0.0, 2000)[0]), rel=1e-12)
    # 1 itself is unstable there.
    assert edge**2 * float(cube.growth(1.0)) > 1.5


def hump() -> Nonlinearity:
    """phi = z exp(-z^2 / 2), V = q (1 + 2 q)^(-3/2)."""
    return Nonlinearity(
        phi=lambda z: z * np.exp(-z * z / 2),
        dphi=lambda z: (1 - z * z) * np.exp(-z * z / 2),
        d2phi=lambda z: (z**3 - 3 * z) * np.exp(-z * z / 2),
    )


def test_a_map_that_decreases_is_iterated() -> None:
    """Without bias q* = (w^(4/3) - 1) / 2, where the map's slope is 3 w^(-4/3) / 2 - 1 / 2."""
    w = np.array([1.2, 2.0, 4.0])
    np.testing.assert_allclose(ph.fixed_point(hump(), w), (w ** (4 / 3) - 1) / 2, rtol=1e-11)
    q = float(ph.fixed_point(hump(), 30.0, 0.5))
    assert 900 * q * (1 + 2 * q) ** -1.5 + 0.25 == pytest.approx(q, rel=1e-11)
    assert math.isnan(float(ph.fixed_point(hump(), 1.0)))  # still on its way to 0
    assert math.isnan(float(ph.phase_diagram(hump(), 1.0).chi))


@LAW
@given(q=st.floats(1e-3, 1e3), ratio=st.floats(1.01, 10))
def test_no_variance_map_cycles(q: float, ratio: float) -> None:
    """sqrt(q) V(q) increases for every phi, which a cycle q1 < q2 would contradict."""
    for entry in (hump(), *ACTIVATIONS.values()):
        low, high = entry.second_moment([q, q * ratio])
        assert math.sqrt(ratio) * high >= low


def test_the_plane_of_tanh() -> None:
    """400 x 400: every point fixed to rounding, and ordered as it must be."""
    w, b = np.linspace(0.5, 4, 400)[:, None], np.linspace(0.01, 2, 400)
    q, chi = ph.phase_diagram(TANH, w, b)
    assert q.shape == chi.shape == (400, 400)
    np.testing.assert_allclose(mf.variance_map(q, TANH, w, b), q, rtol=1e-14)
    np.testing.assert_array_equal(chi, mf.chi(q, TANH, w))
    assert (np.diff(q, axis=0) > 0).all()
    assert (np.diff(q, axis=1) > 0).all()
    assert (np.diff(chi, axis=0) > 0).all()
    assert (np.diff(chi, axis=1) < 0).all()
    # A point alone is the point in the plane, to the bit.
    assert ph.fixed_point(TANH, w[37, 0], b[215]) == q[37, 215]


@every
def test_every_activation_has_a_plane(name: str) -> None:
    entry = ACTIVATIONS[name]
    w, b = np.linspace(0.2, 3, 24)[:, None], np.linspace(0, 1, 9)
    q, chi = ph.phase_diagram(entry, w, b)
    inside = np.isfinite(q)
    gains, biases = np.broadcast_arrays(w, b)
    np.testing.assert_allclose(
        mf.variance_map(q[inside], entry, gains[inside], biases[inside]), q[inside], rtol=1e-13
    )
    np.testing.assert_allclose(chi[inside], mf.chi(q[inside], entry, gains[inside]), rtol=1e-14)
    ends = np.mean(entry.dphi(np.array([-1e50, 1e50])) ** 2) if name != "sin" else 0.0
    np.testing.assert_allclose(chi[~inside], (gains**2)[~inside] * ends, rtol=1e-14)
    assert (np.diff(q[:, 3][inside[:, 3]]) > 0).all()


def test_the_phases_of_the_relu_family() -> None:
    """Ordered below sigma_w^2 = 2 / (1 + a^2), where q* = b^2 / (1 - w^2 (1 + a^2) / 2)."""
    for name, a in (("relu", 0.0), ("leaky_relu", 0.01), ("prelu", 0.25), ("linear", 1.0)):
        entry = ACTIVATIONS[name]
        edge = math.sqrt(2 / (1 + a * a))
        w = edge * np.array([0.3, 0.9, 0.999, 1.001])
        q, chi = ph.phase_diagram(entry, w, 0.7)
        np.testing.assert_allclose(chi, (w / edge) ** 2, rtol=1e-14)
        np.testing.assert_allclose(q[:3], 0.49 / (1 - (w[:3] / edge) ** 2), rtol=1e-12)
        assert np.isinf(q[3])
        assert ph.phase_diagram(entry, edge).q == 1.0


@LAW
@given(beta=st.floats(0.1, 10), w=st.floats(0.5, 3), b=st.floats(0.05, 1))
def test_the_fixed_points_of_swish_obey_its_scale_law(beta: float, w: float, b: float) -> None:
    """beta^2 q* is SiLU's at bias beta b, where both orbits start on the same side of it."""
    silu = ACTIVATIONS["silu"]
    found = float(ph.fixed_point(swish(beta), w, b))
    if math.isfinite(found):
        scaled = beta**2 * found
        following = float(mf.variance_map(scaled, silu, w, beta * b))
        assert following == pytest.approx(scaled, rel=1e-12)


@LAW
@given(w=st.floats(1.05, 5), b=st.floats(0, 2))
def test_c_star_is_a_stable_fixed_point(w: float, b: float) -> None:
    for entry in (TANH, ERF, ACTIVATIONS["hardtanh"]):
        q, chi = ph.phase_diagram(entry, w, b)
        c = float(ph.fixed_correlation(q, entry, w, b))
        assert 0 <= c <= 1
        assert float(mf.correlation_map(c, q, entry, w, b)) == pytest.approx(c, abs=1e-9)
        slope = w * w * float(entry.slope_covariance(q, q, c))
        assert slope <= 1 + 1e-9
        assert (c < 1) == (chi > 1 + 1e-6)


def test_depth_scales_broadcast() -> None:
    w = np.array([[0.5, 1.3], [2.5, 4.0]])
    scales = ph.depth_scales(TANH, w, [0.0, 0.3])
    for field in scales:
        assert field.shape == (2, 2)
    assert np.isnan(scales.c[0, 0])
    assert np.isnan(scales.xi_q[0, 0])
    alone = ph.depth_scales(TANH, 4.0, 0.3)
    for ours, one in zip(scales, alone, strict=True):
        assert float(ours[1, 1]) == pytest.approx(float(one), rel=1e-9)


def test_depth_scales_are_the_rates_at_which_maps_settle() -> None:
    """Ratios of successive deviations over 6 layers, once they are small."""
    w, b = 2.5, 0.3
    q, c, xi_q, xi_c = (float(x) for x in ph.depth_scales(TANH, w, b))
    lengths = mf.variances(8, q * (1 + 1e-5), TANH, w, b) - q
    assert lengths[6] / lengths[0] == pytest.approx(math.exp(-6 / xi_q), rel=1e-4)
    angles = mf.correlations(8, q, c + 1e-5, TANH, w, b) - c
    assert angles[6] / angles[0] == pytest.approx(math.exp(-6 / xi_c), rel=1e-4)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_arguments_are_named(bad: float) -> None:
    for function in (ph.fixed_point, ph.phase_diagram, ph.gradient_decades, ph.depth_scales):
        call: Callable[..., Any] = function
        with pytest.raises(ValueError, match=r"^sigma_w="):
            call(TANH, bad)
        with pytest.raises(ValueError, match=r"^sigma_b="):
            call(TANH, 1.0, bad)
    with pytest.raises(ValueError, match=r"^q="):
        ph.critical_line(bad, TANH)
    with pytest.raises(ValueError, match=r"^q="):
        ph.fixed_correlation(-1.0, TANH, 1.0)


def erf_fixed(w: float, b: float) -> tuple[Any, Any]:
    """q* and c* of erf at 40 digits, by Newton's iteration on the arc-sine recursion."""
    gain, bias = mp.mpf(w) ** 2 * 2 / mp.pi, mp.mpf(b) ** 2
    q = mp.findroot(
        lambda v: gain * mp.asin(2 * v / (1 + 2 * v)) + bias - v, float(ph.fixed_point(ERF, w, b))
    )
    if mp.mpf(w) ** 2 * 4 / mp.pi / mp.sqrt(1 + 4 * q) <= 1:
        return q, mp.mpf(1)
    c = mp.findroot(
        lambda x: (gain * mp.asin(2 * q * x / (1 + 2 * q)) + bias) / q - x, (mp.mpf(0), mp.mpf(0.5))
    )
    return q, c


PLANE = [(0.5, 0.01), (0.9, 0.3), (1.5, 0.0), (1.5, 0.1), (2.0, 0.5), (4.0, 0.05), (20.0, 1.0)]


def worst_erf() -> tuple[float, float, float]:
    """Of q*, of c* (absolute) and of both depth scales."""
    fixed, angle, scale = 0.0, 0.0, 0.0
    with mp.workdps(40):
        for w, b in PLANE:
            q, c = erf_fixed(w, b)
            ours = ph.depth_scales(ERF, w, b)
            gain = mp.mpf(w) ** 2 * 4 / mp.pi
            xi_q = -1 / mp.log(gain / ((1 + 2 * q) * mp.sqrt(1 + 4 * q)))
            xi_c = -1 / mp.log(gain / mp.sqrt((1 + 2 * q) ** 2 - 4 * q * q * c * c))
            fixed = max(fixed, abs(float(ours.q / q - 1)))
            angle = max(angle, abs(float(ours.c - c)))
            scale = max(
                scale, *(abs(float(o / t - 1)) for o, t in ((ours.xi_q, xi_q), (ours.xi_c, xi_c)))
            )
    return fixed, angle, scale


def worst_plane() -> float:
    """Of chi_1 and q* over a plane: 50-digit residuals over the distance of the slope from 1."""
    worst = 0.0
    for name in ("tanh", "sigmoid", "selu"):
        entry = ACTIVATIONS[name]
        for w, b in ((0.8, 0.3), (1.1, 0.2)):
            q, chi = ph.phase_diagram(entry, w, b)
            exact = moments(name, float(q))
            gain, bias = mp.mpf(w) ** 2, mp.mpf(b) ** 2
            residual = (gain * exact.second + bias) / mp.mpf(float(q)) - 1
            worst = max(
                worst,
                abs(float(residual / (1 - gain * exact.growth))),
                abs(float(mp.mpf(float(chi)) / (gain * exact.slope) - 1)),
            )
    return worst


def worst_decades() -> float:
    with mp.workdps(40):
        return max(
            abs(
                float(ph.gradient_decades(ERF, w, b))
                - float(
                    mp.log10(mp.mpf(w) ** 2 * 4 / mp.pi / mp.sqrt(1 + 4 * erf_fixed(w, b)[0])) / 2
                )
            )
            for w, b in PLANE
        )


def worst_line() -> float:
    q = np.geomspace(0.1, 1e4, 9)
    w, b = ph.critical_line(q, ERF)
    worst = 0.0
    with mp.workdps(30):
        for v, ours_w, ours_b in zip(q, w, b, strict=True):
            x = mp.mpf(v)
            gain = mp.pi * mp.sqrt(1 + 4 * x) / 4
            bias = x - gain * 2 / mp.pi * mp.asin(2 * x / (1 + 2 * x))
            worst = max(
                worst,
                abs(float(ours_w / mp.sqrt(gain) - 1)),
                abs(float(ours_b / mp.sqrt(bias) - 1)),
            )
    return worst


_PLANE = "sigma_w 0.5 to 20, both phases"
ACCURACY = [
    Case("phase.fixed_point", "q*, the variance that q = 1 settles at", "Poole et al. 2016, eq. 3",
         _PLANE, "arc-sine recursion, mpmath", 1e-13, lambda: worst_erf()[0]),
    Case("phase.fixed_correlation", "c* (absolute)", "Poole et al. 2016, eq. 5", _PLANE,
         "arc-sine recursion, mpmath", 1e-12, lambda: worst_erf()[1]),
    Case("phase.depth_scales", "xi_q and xi_c", "Schoenholz et al. 2017, eqs. 9 and 14", _PLANE,
         "arc-sine recursion, mpmath", 1e-12, lambda: worst_erf()[2]),
    Case("phase.phase_diagram", "q* and chi_1", "Schoenholz et al. 2017, eq. 5",
         "tanh, sigmoid and SELU", "50-digit integrals", 1e-13, worst_plane),
    Case("phase.gradient_decades", "log10(chi_1) / 2 at q* (absolute)",
         "Schoenholz et al. 2017, eq. 5", _PLANE, "arc-sine recursion, mpmath", 1e-13,
         worst_decades),
    Case("phase.critical_line", "sigma_w and sigma_b where chi_1 = 1",
         "Schoenholz et al. 2017, fig. 1", "erf, q 0.1 to 1e4", "closed form, mpmath", 1e-12,
         worst_line),
]  # fmt: skip
