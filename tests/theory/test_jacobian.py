"""Jacobian spectra against exact rationals, mpmath, known densities and simulated products."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stability.theory import jacobian as ja
from stability.theory.nonlinearity import Nonlinearity

Array = NDArray[np.float64]
LAW = settings(deadline=None, max_examples=30)
RELU = (np.array([0.0, 1.0]), np.array([0.5, 0.5]))
LINEAR = (np.array([1.0]), np.array([1.0]))
TANH = Nonlinearity(
    phi=np.tanh,
    dphi=lambda z: 1 / np.cosh(z) ** 2,
    d2phi=lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2,
)
ROOT2 = math.sqrt(2)


def raney(depth: int, k: int) -> Fraction:
    return Fraction(math.comb(depth * k + k, k), depth * k + 1)


def integral(law: tuple[Array, Array], depth: int, weights: str, gain: float, power: int) -> float:
    """The integral of x^power over the density, in u with x = end (1 - (1 - u)^2)^(2 L + 2)."""
    end = ja.limit_edge(*law, depth, weights, gain).end
    x, w = np.polynomial.legendre.leggauss(120)
    u, k = (x + 1) / 2, 2 * depth + 2
    s = 1 - (1 - u) ** 2
    jacobian = end * k * s ** (k - 1) * 2 * (1 - u) / 2
    density = ja.limit_density(end * s**k, *law, depth, weights, gain)
    return float((w * jacobian * density * (end * s**k) ** power).sum())


def test_the_published_moments_and_edges() -> None:
    assert [round(ja.fuss_catalan(L, 2)) for L in (1, 2, 3, 5)] == [2, 3, 4, 6]
    assert [round(ja.fuss_catalan(L, 3)) for L in (1, 2, 3, 5)] == [5, 12, 22, 51]
    for depth, end in ((1, 4), (2, 6.75), (3, 9.481), (5, 14.930), (8, 23.092)):
        assert ja.fuss_catalan_edge(depth).end == pytest.approx(end, abs=5e-4)
    for width, depth, value in ((50, 5, 6.3246), (100, 4, 5.1030), (100, 8, 9.386)):
        moments = ja.finite_moments(width, depth, [1, 1])
        assert moments.of_squares == pytest.approx(value, abs=5e-4)


def test_glorots_mean_singular_values() -> None:
    assert ja.fuss_catalan(1, 0.5) == pytest.approx(8 / (3 * math.pi), rel=1e-14)
    assert ja.fuss_catalan(1, 0.5) == pytest.approx(0.84883, abs=5e-6)
    # U(-1/sqrt(n), 1/sqrt(n)) has the variance 1 / (3 n).
    assert ja.fuss_catalan(1, 0.5) / math.sqrt(3) == pytest.approx(0.49007, abs=5e-6)


def test_penningtons_variances() -> None:
    for depth in (1, 4, 8, 16):
        assert ja.relative_variance(depth, [0.5, 0.5]) == 2 * depth
        assert ja.relative_variance(depth, [0.5, 0.5], "orthogonal") == depth
        assert ja.relative_variance(depth, [1, 1]) == depth
        assert ja.relative_variance(depth, [1, 1], "orthogonal") == 0


@pytest.mark.parametrize(("sigma_b", "per_layer"), [(0.01, 0.01147), (0.1, 0.1525), (0.3, 0.4553)])
def test_tanh_with_orthogonal_weights(sigma_b: float, per_layer: float) -> None:
    """Along the critical line; the published ones are 1.525 and 4.55 at ten layers."""
    low, high = 1e-6, 5.0
    for _ in range(80):
        q = math.sqrt(low * high)
        squares, masses = ja.derivative_law(TANH, q)
        bias = q - TANH.expectation(lambda u: np.tanh(u) ** 2, q) / (masses @ squares)
        low, high = (q, high) if bias < sigma_b**2 else (low, q)
    mu = [float(masses @ squares**k) for k in (1, 2)]
    assert ja.relative_variance(1, mu, "orthogonal") == pytest.approx(per_layer, rel=2e-3)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("depth", [1, 3, 12])
def test_the_series_has_the_variance_and_the_gain(depth: int, weights: str) -> None:
    mu = [0.46, 0.34, 0.28, 0.24]
    moments = ja.limit_moments(depth, mu, weights, 1.3)
    assert moments[0] == pytest.approx((0.46 * 1.3**2) ** depth, rel=1e-13)
    variance = ja.relative_variance(depth, mu, weights)
    assert moments[1] / moments[0] ** 2 - 1 == pytest.approx(variance, rel=1e-11)
    plain = ja.limit_moments(depth, mu, weights)
    scale = 1.3 ** (2 * depth * np.arange(1, 5))
    assert moments == pytest.approx(plain * scale, rel=1e-11)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_the_finite_moments_tend_to_the_limit_like_one_over_n(weights: str) -> None:
    mu = [0.46, 0.34]
    limit = ja.limit_moments(4, mu, weights)[1]
    errors = [ja.finite_moments(n, 4, mu, weights).of_squares / limit - 1 for n in (1000, 2000)]
    assert abs(errors[0]) < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def simulated(width: int, depth: int, weights: str, draws: int) -> Array:
    """J J^T of ReLU networks at He's scale whose D_l come from the signal itself."""
    rng = np.random.default_rng(3)
    h, product = np.ones((draws, width, 1)), np.eye(width)
    for _ in range(depth):
        w = rng.standard_normal((draws, width, width)) / math.sqrt(width)
        if weights == "orthogonal":
            q, r = np.linalg.qr(w)
            w = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
        z = w @ h
        h = np.maximum(z, 0)
        product = ROOT2 * (z > 0) * (w @ product)
    return product @ product.transpose(0, 2, 1)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("width", "depth"), [(3, 2), (7, 3)])
def test_the_moments_of_relu_networks_are_exact(width: int, depth: int, weights: str) -> None:
    # 4.5 standard errors of 40000 draws: false alarm below 1e-5 for each of 12 numbers.
    matrices = simulated(width, depth, weights, 40_000)
    exact = ja.finite_moments(width, depth, [0.5, 0.5], weights, ROOT2)
    trace = np.trace(matrices, axis1=1, axis2=2) / width
    for samples, value in (
        (trace, 1.0),
        (trace**2, exact.of_trace),
        ((matrices**2).sum(axis=(1, 2)) / width, exact.of_squares),
    ):
        error = samples.std() / math.sqrt(samples.size)
        assert samples.mean() == pytest.approx(value, abs=4.5 * error)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_the_two_routes_to_the_density_agree(depth: int) -> None:
    end = ja.fuss_catalan_edge(depth).end
    x = np.concatenate([np.geomspace(1e-4, 0.01, 5), np.linspace(0.02, 0.999, 40)]) * end
    one, two = ja.fuss_catalan_density(x, depth), ja.limit_density(x, *LINEAR, depth)
    assert one == pytest.approx(two, rel=1e-9)
    assert ja.fuss_catalan_density(np.array([-1.0, 0.0, end * 1.001]), depth).tolist() == [0, 0, 0]
    assert ja.limit_density(end * 1.01, *LINEAR, depth) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("depth", [2, 3, 6])
def test_the_density_of_relu_has_its_moments(depth: int, weights: str) -> None:
    series = ja.limit_moments(depth, [0.5] * 3, weights, ROOT2)
    for power in (1, 2, 3):
        value = integral(RELU, depth, weights, ROOT2, power)
        assert value == pytest.approx(series[power - 1], rel=1e-7)
    # Half of the directions are lost: the last layer's dead units.
    assert integral(RELU, depth, weights, ROOT2, 0) == pytest.approx(0.5, abs=1e-3)


def test_the_density_of_tanh_has_its_moments() -> None:
    law = ja.derivative_law(TANH, 0.3)
    mu = [float(law[1] @ law[0] ** k) for k in (1, 2, 3)]
    for weights in ("gaussian", "orthogonal"):
        series = ja.limit_moments(3, mu, weights, 1.1)
        for power in (1, 2, 3):
            value = integral(law, 3, weights, 1.1, power)
            assert value == pytest.approx(series[power - 1], rel=1e-5)


def test_edges() -> None:
    for depth in (1, 2, 5):
        general, closed = ja.limit_edge(*LINEAR, depth), ja.fuss_catalan_edge(depth)
        assert general.end == pytest.approx(closed.end, rel=1e-12)
        assert general.slope == pytest.approx(closed.slope, rel=1e-8)
    assert ja.limit_edge(*LINEAR, 3, "orthogonal") == pytest.approx((1.0, 0.0), abs=1e-8)
    # Half the rows of a square Gaussian matrix: (1 + sqrt(1/2))^2 times He's 2.
    assert ja.limit_edge(*RELU, 1, "gaussian", ROOT2).end == pytest.approx(3 + 2 * ROOT2, rel=1e-12)


def test_the_slope_is_that_of_the_density() -> None:
    for depth in (1, 3):
        edge = ja.limit_edge(*RELU, depth, "gaussian", ROOT2)
        step = 1e-5 * edge.end
        density = ja.limit_density(edge.end - step, *RELU, depth, "gaussian", ROOT2)
        assert density == pytest.approx(edge.slope / math.pi * math.sqrt(step), rel=1e-3)


def test_the_largest_singular_value_of_one_matrix() -> None:
    # Johnstone's centring differs by 2 / n in the mean; 5 standard errors of 2000 draws.
    rng, n = np.random.default_rng(0), 40
    top = np.linalg.norm(rng.standard_normal((2000, n, n)) / math.sqrt(n), 2, axis=(1, 2)) ** 2
    mean, std = ja.largest_square(n, ja.fuss_catalan_edge(1))
    assert top.mean() == pytest.approx(mean, abs=2 / n + 5 * std / math.sqrt(2000))
    assert top.std() == pytest.approx(std, rel=0.15)


@LAW
@given(depth=st.integers(1, 20), q=st.floats(0.01, 2), weights=st.sampled_from(["gaussian",
       "orthogonal"]))  # fmt: skip
def test_moments_grow_with_the_order_as_jensen_says(depth: int, q: float, weights: str) -> None:
    squares, masses = ja.derivative_law(TANH, q)
    mu = [float(masses @ squares**k) for k in (1, 2, 3)]
    one, two, three = ja.limit_moments(depth, mu, weights)
    assert two >= one**2 * (1 - 1e-12)
    assert three * one >= two**2 * (1 - 1e-9)


def test_bad_arguments_are_named() -> None:
    for call, name in (
        (lambda: ja.fuss_catalan(0, 1), "depth"),
        (lambda: ja.fuss_catalan(2, -0.4), "order"),
        (lambda: ja.fuss_catalan_edge(0), "depth"),
        (lambda: ja.fuss_catalan_density(1.0, 0), "depth"),
        (lambda: ja.finite_moments(0, 1, [1, 1]), "width"),
        (lambda: ja.finite_moments(3, 1, [1]), "mu"),
        (lambda: ja.finite_moments(3, 1, [1, math.nan]), "mu"),
        (lambda: ja.finite_moments(3, 1, [1, 1], "haar"), "weights"),
        (lambda: ja.finite_moments(3, 1, [1, 1], "gaussian", 0.0), "sigma_w"),
        (lambda: ja.relative_variance(0, [1, 1]), "depth"),
        (lambda: ja.limit_moments(0, [1, 1]), "depth"),
        (lambda: ja.limit_density(0.0, *LINEAR, 1), "x"),
        (lambda: ja.limit_density(1.0, [0.0], [1.0], 1), "squares"),
        (lambda: ja.limit_density(1.0, [1.0], [0.9], 1), "masses"),
        (lambda: ja.limit_edge([1.0], [1.0, 0.0], 1), "masses"),
        (lambda: ja.largest_square(0, ja.fuss_catalan_edge(1)), "width"),
        (lambda: ja.largest_square(9, ja.Edge(1.0, 0.0)), "edge"),
        (lambda: ja.derivative_law(TANH, 0.0), "q"),
    ):
        with pytest.raises(ValueError, match=f"^{name}="):
            call()


def relative(pairs: list[tuple[float, float]]) -> float:
    return max(abs(found - true) / abs(true) for found, true in pairs)


def worst_fuss_catalan() -> float:
    pairs = [(ja.fuss_catalan(d, k), float(raney(d, k))) for d in (1, 3, 20) for k in (1, 2, 6)]
    for depth, order in ((1, 0.5), (4, -0.1), (7, 2.5)):
        top = mp.gamma((depth + 1) * mp.mpf(order) + 1)
        true = top / mp.gamma(mp.mpf(order) + 1) / mp.gamma(depth * mp.mpf(order) + 2)
        pairs.append((ja.fuss_catalan(depth, order), float(true)))
    return relative(pairs)


def worst_edge() -> float:
    pairs = []
    for depth in (1, 2, 5, 30):
        end = Fraction((depth + 1) ** (depth + 1), depth**depth)
        pairs.append((ja.fuss_catalan_edge(depth).end, float(end)))
    return relative(pairs)


def worst_density() -> float:
    x = np.geomspace(1e-6, 3.9999, 30)
    true = np.sqrt((4 - x) / x) / (2 * math.pi)
    worst = float(np.abs(ja.fuss_catalan_density(x, 1) / true - 1).max())
    # L = 2 in radicals: Penson & Zyczkowski 2011.
    x = np.geomspace(1e-6, 6.7, 30)
    root = 27 + 3 * np.sqrt(81 - 12 * x)
    two = 2 ** (1 / 3) * np.sqrt(3) / (12 * math.pi)
    two = two * (2 ** (1 / 3) * root ** (2 / 3) - 6 * np.cbrt(x)) / (x ** (2 / 3) * np.cbrt(root))
    return max(worst, float(np.abs(ja.fuss_catalan_density(x, 2) / two - 1).max()))


def exact_moments(n: int, depth: int, weights: str) -> Fraction:
    """m_2 of a product of linear factors in rationals: the linear recursion, or the identity."""
    if weights == "orthogonal":
        return Fraction(1)
    x = y = Fraction(1)
    for _ in range(depth):
        x, y = y + (1 + Fraction(1, n)) * x, y + 2 * x / n**2
    return x


def worst_finite() -> float:
    pairs = []
    for weights in ("gaussian", "orthogonal"):
        for n, depth in ((1, 3), (2, 5), (50, 5), (1000, 20)):
            found = ja.finite_moments(n, depth, [1, 1], weights).of_squares
            pairs.append((found, float(exact_moments(n, depth, weights))))
    # One ReLU layer of one unit: s^2 is 2 z^2 or 0, E s^4 = 6 with Gaussian, 2 with +-1 weights.
    pairs.append((ja.finite_moments(1, 1, [0.5, 0.5], "gaussian", ROOT2).of_squares, 6.0))
    pairs.append((ja.finite_moments(1, 1, [0.5, 0.5], "orthogonal", ROOT2).of_squares, 2.0))
    return relative(pairs)


def worst_variance() -> float:
    pairs = []
    for weights in ("gaussian", "orthogonal"):
        for depth in (1, 4, 16):
            mu = [0.46, 0.34]
            limit = ja.limit_moments(depth, mu, weights)
            found = ja.relative_variance(depth, mu, weights)
            pairs.append((found, float(limit[1] / limit[0] ** 2 - 1)))
    return relative(pairs)


def worst_series() -> float:
    """Linear: Fuss-Catalan numbers; ReLU and Gaussian at L = 1: Marchenko-Pastur of ratio 1/2."""
    pairs = []
    for depth in (1, 3, 10):
        found = ja.limit_moments(depth, [1.0] * 8)
        pairs += [(float(found[k - 1]), float(raney(depth, k))) for k in range(1, 9)]
    narayana = [
        sum(Fraction(math.comb(k, j) * math.comb(k, j - 1), k) * Fraction(1, 2) ** j
            for j in range(1, k + 1))
        for k in range(1, 7)
    ]  # fmt: skip
    found = ja.limit_moments(1, [0.5] * 6)
    pairs += [(float(a), float(b)) for a, b in zip(found, narayana, strict=True)]
    return relative(pairs)


def worst_general_density() -> float:
    """ReLU and Gaussian at L = 1: Marchenko-Pastur of half the rows, times 2."""
    low, high = 3 - 2 * ROOT2, 3 + 2 * ROOT2
    x = low + (high - low) * np.linspace(0.01, 0.99, 30)
    true = np.sqrt((high - x) * (x - low)) / (4 * math.pi * x)
    found = ja.limit_density(x, *RELU, 1, "gaussian", ROOT2)
    # ReLU and orthogonal at L = 2: a product of two projections, the arcsine law on (0, 4).
    y = np.linspace(0.05, 3.95, 30)
    arcsine = 1 / (2 * math.pi * np.sqrt(y * (4 - y)))
    other = ja.limit_density(y, *RELU, 2, "orthogonal", ROOT2)
    return float(max(np.abs(found / true - 1).max(), np.abs(other / arcsine - 1).max()))


def worst_general_edge() -> float:
    pairs = [(ja.limit_edge(*RELU, 1, "gaussian", ROOT2).end, 3 + 2 * ROOT2)]
    for depth in (1, 2, 9):
        end = Fraction((depth + 1) ** (depth + 1), depth**depth)
        pairs.append((ja.limit_edge(*LINEAR, depth).end, float(end)))
    return relative(pairs)


def worst_law() -> float:
    pairs = []
    for q in (0.01, 1.0, 4.0):
        squares, masses = ja.derivative_law(TANH, q)
        for k in (1, 2):
            with mp.workdps(30):

                def integrand(z: mp.mpf, q: float = q, k: int = k) -> mp.mpf:
                    return mp.sech(mp.sqrt(q) * z) ** (4 * k) * mp.npdf(z)

                true = float(2 * mp.quad(integrand, [0, 1, 3, 6, 12]))
            pairs.append((float(masses @ squares**k), true))
    return relative(pairs)


def worst_tracy_widom() -> float:
    """Against Johnstone's centring and scale at large n, which differ by O(1 / n)."""
    n = 10**6
    center = (math.sqrt(n - 1) + math.sqrt(n)) ** 2
    scale = (math.sqrt(n - 1) + math.sqrt(n)) * (1 / math.sqrt(n - 1) + 1 / math.sqrt(n)) ** (1 / 3)
    mean, std = ja.largest_square(n, ja.fuss_catalan_edge(1))
    true_mean, true_std = -1.2065335745820, math.sqrt(1.607781034581)
    return relative([(mean, (center + true_mean * scale) / n), (std, true_std * scale / n)])


def worst_bins() -> float:
    """Masses of the quarter circle, s in (0, 2), in ten equal bins; the rule errs at its end."""
    edges = np.linspace(0, 2, 11)
    below = (edges * np.sqrt(4 - edges**2) / 2 + 2 * np.arcsin(edges / 2)) / math.pi
    found = ja.binned_density(edges, *LINEAR, 1)
    return float(np.abs(found * 0.2 / np.diff(below) - 1).max())


_PENNINGTON = "Pennington et al. 2017"

ACCURACY = [
    Case("jacobian.fuss_catalan", "moments of linear Gaussian Jacobians at infinite width",
         "Penson & Zyczkowski 2011", "depth 1 to 20, order -0.1 to 6", "rationals, mpmath gamma",
         1e-12, worst_fuss_catalan),
    Case("jacobian.fuss_catalan_edge", "end of that law", "Penson & Zyczkowski 2011",
         "depth 1 to 30", "rational arithmetic", 1e-12, worst_edge),
    Case("jacobian.fuss_catalan_density", "density of that law", "Forrester & Liu 2015",
         "depth 1 and 2, x from 1e-6", "Marchenko-Pastur; radicals at depth 2", 1e-8,
         worst_density),
    Case("jacobian.finite_moments", "E tr (J J^T)^2 / n at finite width",
         "second moments of Wishart and Haar matrices", "width 1 to 1000, depth 1 to 20",
         "rational arithmetic", 1e-12, worst_finite),
    Case("jacobian.relative_variance", "variance of the squared singular values; neglects O(L / n)",
         "Pennington et al. 2017", "depth 1 to 16", "S-transform as a series", 1e-12,
         worst_variance),
    Case("jacobian.limit_moments", "moments at infinite width", _PENNINGTON,
         "orders to 8, depth 1 to 10", "Fuss-Catalan and Narayana numbers", 1e-9, worst_series),
    Case("jacobian.limit_density", "density at infinite width", _PENNINGTON,
         "ReLU, within 1 % of the ends", "Marchenko-Pastur, arcsine law", 1e-9,
         worst_general_density),
    Case("jacobian.binned_density", "mean density of singular values in bins", _PENNINGTON,
         "linear, depth 1, ten bins", "quarter circle", 1e-2, worst_bins),
    Case("jacobian.limit_edge", "upper end of the law", _PENNINGTON,
         "ReLU at depth 1, linear to depth 9", "closed forms", 1e-12, worst_general_edge),
    Case("jacobian.derivative_law", "moments of phi'(z)^2", "Gauss-Legendre rule",
         "tanh, q 0.01 to 4", "30-digit quadrature", 1e-12, worst_law),
    Case("jacobian.largest_square", "mean and deviation of the largest; neglects O(L / n)",
         "Johnstone 2001", "width 1e6, depth 1", "Johnstone's centring and scale", 1e-5,
         worst_tracy_widom),
]  # fmt: skip


def test_bins_hold_the_mass_of_the_law_and_nothing_of_an_atom() -> None:
    """Of ReLU's, with half the mass at 0; the midpoint rule errs by h^(3/2) at each end."""
    end = math.sqrt(ja.limit_edge(*RELU, 1, "gaussian", ROOT2).end)
    edges = np.linspace(0, 1.1 * end, 201)
    mass = ja.binned_density(edges, *RELU, 1, "gaussian", ROOT2) @ np.diff(edges)
    assert mass == pytest.approx(0.5, abs=2e-4)
    assert np.isnan(ja.binned_density([0.0, 1.0, 2.0], *LINEAR, 3, "orthogonal")).all()
    for wrong in ([1.0], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0]):
        with pytest.raises(ValueError, match=r"^edges="):
            ja.binned_density(wrong, *LINEAR, 1)
