"""Numbers of the literature and of earlier simulations that no other file holds, by table."""

import math

import numpy as np
import pytest

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import criticality, growth, jacobian, normalization, phase, products
from stability.theory import finite_width as fw
from stability.theory import floating_point as fp
from stability.theory.floating_point import FORMATS

LN10 = math.log(10)


def test_the_largest_singular_value_after_100_factors() -> None:
    """2e4 products: mean 56.978, deviation 3.884; at 10 factors, not of rank one, 6.65 and 1.02."""
    law = growth.norm_growth(4, 100)
    assert law.mean == pytest.approx(56.990, abs=5e-4)
    assert law.std == pytest.approx(3.880, abs=5e-4)
    early = growth.norm_growth(4, 10)
    assert early.mean == pytest.approx(6.77, abs=5e-3)
    assert early.std == pytest.approx(0.73, abs=5e-3)


def test_the_books_runs_are_ordinary() -> None:
    """log10 of the Frobenius norm in two printed runs: 23.763 and 23.729, both one in four."""
    law = growth.norm_growth(4, 101)
    for printed, share in ((23.763, 0.24), (23.729, 0.23)):
        assert float(growth.norm_cdf(printed * LN10, 4, 101)) == pytest.approx(share, abs=0.01)
        assert (printed * LN10 - law.mean) / law.std == pytest.approx(-0.735, abs=0.015)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("float32", {140: 0.016, 150: 0.180, 155: 0.381, 160: 0.596, 165: 0.786, 170: 0.904,
                     180: 0.989}),
        ("float16", {15: 0.053, 17: 0.255, 18: 0.397, 19: 0.540, 20: 0.675, 22: 0.864, 25: 0.974}),
    ],
)  # fmt: skip
def test_overflow_of_products_of_4_x_4(name: str, published: dict[int, float]) -> None:
    """A normal law fitted to simulations, .01 wide of them."""
    found = growth.overflow_share(4, max(published), FORMATS[name])
    for factors, share in published.items():
        assert found.predicted[factors - 1] == pytest.approx(share, abs=0.01)
        assert found.lower[factors - 1] < share < found.upper[factors - 1]


@pytest.mark.parametrize(
    ("n", "name", "before", "after"),
    [(64, "float32", 42, 44), (100, "float32", 38, 40), (64, "float16", 5, 7),
     (256, "float16", 3, 6)],
)  # fmt: skip
def test_wide_products_overflow_within_two_factors(
    n: int, name: str, before: int, after: int
) -> None:
    found = growth.overflow_share(n, after, FORMATS[name])
    assert found.upper[before - 1] < 0.1
    assert found.lower[after - 1] > 0.95


def test_the_condition_of_one_matrix() -> None:
    """Edelman 1988: ln n + 1.537, complex 0.982."""
    assert products.single_log_condition(1) == pytest.approx(1.537, abs=5e-4)
    assert products.single_log_condition(1, complex=True) == pytest.approx(0.982, abs=5e-4)
    assert products.single_log_condition(64) == pytest.approx(5.696, abs=5e-4)
    assert products.single_log_condition(128) == pytest.approx(6.389, abs=5e-4)


@pytest.mark.parametrize(
    ("width", "depth", "share"),
    [(2, 5, 0.7627), (3, 10, 0.7369), (4, 20, 0.7249), (5, 50, 0.7956), (6, 30, 0.3765)],
)
def test_dead_networks(width: int, depth: int, share: float) -> None:
    assert fw.dead_probability(width, depth) == pytest.approx(share, abs=5e-5)


def test_saturation_points_of_formats() -> None:
    single, double = FORMATS["float32"], FORMATS["float64"]
    assert fp.sigmoid_saturation(double) == pytest.approx(36.74, abs=5e-3)
    assert fp.sigmoid_saturation(single) == pytest.approx(16.636, abs=5e-4)
    half, brain = FORMATS["float16"], FORMATS["bfloat16"]
    assert fp.sigmoid_saturation(half, single) == pytest.approx(8.318, abs=5e-4)
    assert fp.sigmoid_saturation(brain, single) == pytest.approx(6.238, abs=2e-3)
    tanh = [fp.tanh_saturation(FORMATS[name]) for name in ("float64", "float32", "float16",
                                                           "bfloat16")]  # fmt: skip
    assert tanh == pytest.approx([19.06, 9.01, 4.505, 3.466], abs=2e-3)
    assert fp.exp_overflow(single) == pytest.approx(88.725, abs=5e-3)
    assert fp.exp_overflow(half) == pytest.approx(11.09, abs=5e-3)


def test_the_chaotic_phase_of_poole() -> None:
    at = phase.depth_scales(ACTIVATIONS["tanh"], 4.0, 0.3)
    assert float(at.q) == pytest.approx(12.604, abs=5e-4)
    assert float(at.c) == pytest.approx(0.0297, abs=5e-5)
    assert float(at.xi_c) == pytest.approx(3.639, abs=5e-4)
    assert criticality.critical_point(ACTIVATIONS["tanh"], 0.05**0.5).sigma_w == pytest.approx(
        1.327010, abs=5e-7
    )
    half_stable = criticality.half_stable_point(ACTIVATIONS["gelu"])
    assert half_stable.q == pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-12)


def test_shaped_relu() -> None:
    found = criticality.shaped_correlation([0.0, 0.5], 0.5)
    assert found == pytest.approx([0.06366, 0.52180], abs=5e-6)
    slopes = {10: 0.0, 20: 0.18138, 50: 0.43052, 100: 0.57044, 200: 0.67960}
    for depth, slope in slopes.items():
        assert criticality.shaping_slope(depth) == pytest.approx(slope, abs=5e-6)


def test_the_tanh_residual_coefficient() -> None:
    assert normalization.tanh_residual_exponent(1, 1.0) == pytest.approx(1.06385, abs=5e-6)


@pytest.mark.parametrize(
    ("sigma_b", "weights", "published"),
    [
        (0.01, "orthogonal", {10: 0.115, 30: 0.344}),
        (0.1, "orthogonal", {10: 1.525, 30: 4.576}),
        (0.3, "orthogonal", {10: 4.55, 30: 13.66}),
        (0.1, "gaussian", {10: 11.5, 30: 34.6}),
    ],
)
def test_the_spread_of_tanhs_jacobian(
    sigma_b: float, weights: str, published: dict[int, float]
) -> None:
    """On the critical line (Pennington et al. 2017): L (mu_2 / mu_1^2 - 1 - s_1)."""
    point = criticality.critical_point(ACTIVATIONS["tanh"], sigma_b)
    squares, masses = jacobian.derivative_law(ACTIVATIONS["tanh"], point.q)
    mu = [float(masses @ squares**k) for k in (1, 2)]
    for depth, spread in published.items():
        found = jacobian.relative_variance(depth, mu, weights)
        assert found == pytest.approx(spread, rel=5e-3)


def test_the_edges_of_fuss_catalan_laws() -> None:
    ends = [jacobian.fuss_catalan_edge(depth).end for depth in (1, 2, 3, 5, 8)]
    assert ends == pytest.approx([4, 6.75, 9.481, 14.930, 23.092], abs=1e-3)
    finite = [
        jacobian.finite_moments(n, depth, [1.0, 1.0]).of_squares
        for n, depth in ((50, 5), (100, 4), (100, 8))
    ]
    assert finite == pytest.approx([6.3246, 5.1030, 9.386], abs=5e-4)
    assert np.isclose(jacobian.finite_moments(10**9, 5, [1.0, 1.0]).of_squares, 6)
