"""What asymptotic laws neglect shrinks at the rate that they state."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import criticality, growth, initialization, jacobian, meanfield, products
from stability.theory import finite_width as fw
from stability.theory import rounding_errors as re
from stability.theory import width_correction as wc
from stability.theory.floating_point import FORMATS, Format
from stability.theory.quadrature import Array

ERF, RELU = ACTIVATIONS["erf"], ACTIVATIONS["relu"]
LAYERS = (500, 2000, 8000)


def steady(rest: list[float], within: float) -> None:
    """Errors over their order, at ever larger sizes, tend to a constant other than 0."""
    assert rest[-1] == pytest.approx(rest[-2], rel=within)
    # The rest of a logarithm's falls so slowly that steps hardly do.
    assert abs(rest[-1] - rest[-2]) <= 1.1 * abs(rest[-2] - rest[0])


def test_critical_variances_err_by_log_l_over_l() -> None:
    q = meanfield.variances(LAYERS[-1] + 1, 1.0, ERF, math.sqrt(math.pi) / 2)
    steady(
        [
            (q[layer] / float(criticality.critical_variance(layer, -2.0)) - 1)
            * layer / math.log(layer)
            for layer in LAYERS
        ],
        0.3,
    )  # fmt: skip


@pytest.mark.parametrize(("entry", "sigma_b"), [(ERF, 0.2), (RELU, 0.0)], ids=["erf", "relu"])
def test_critical_gaps_err_by_log_l_over_l(entry: Any, sigma_b: float) -> None:
    point = criticality.critical_point(entry, sigma_b)
    q = point.q or 1.0
    w2, b2 = point.sigma_w**2, sigma_b**2
    c, rest = 0.0, []
    for layer in range(1, LAYERS[-1] + 1):
        c = (w2 * float(entry.covariance(q, q, c)) + b2) / q
        if layer in LAYERS:
            law = float(criticality.critical_gap(layer, q, entry))
            rest.append(((1 - c) / law - 1) * layer / math.log(layer))
    steady(rest, 0.3)


@pytest.mark.parametrize(
    ("law", "slope"), [(fw.relu_log_norm, 0.0), (fw.linear_log_norm, 1.0)], ids=["relu", "linear"]
)
def test_log_normal_limits_err_by_1_over_n_squared(
    law: Callable[[int], fw.LogNorm], slope: float
) -> None:
    widths = (50, 200, 800)
    beta = [fw.log_normal_variance([n], slope) for n in widths]
    pairs = list(zip(widths, beta, strict=True))
    steady([n**2 * (law(n).variance - b) for n, b in pairs], 0.05)
    steady([n**2 * (law(n).mean + b / 2) for n, b in pairs], 0.05)


def half_length(n: int, form: Format) -> float:
    """The number of factors at which the median of ln ||P v|| is ln(max), between whole ones."""
    limit = math.log(form.max)
    guess = products.half_overflow(n, form)
    at = np.arange(max(1, math.floor(guess) - 4), math.ceil(guess) + 5)
    medians = [float(growth.growth_quantile(0.5, n, int(m))) for m in at]
    return float(np.interp(limit, medians, at))


@pytest.mark.parametrize("n", [2, 4, 8])
def test_half_overflow_errs_by_a_number_of_factors_that_does_not_grow(n: int) -> None:
    off = [
        half_length(n, FORMATS[name]) - products.half_overflow(n, FORMATS[name])
        for name in ("float16", "float32", "float64")
    ]
    # The median lies skewness / 6 above the mean: a constant over lambda_1.
    assert off[1] == pytest.approx(off[2], abs=0.02)
    assert abs(off[0] - off[2]) < 0.1


def test_the_floor_of_tanh_errs_by_1_over_n_squared() -> None:
    tanh = ACTIVATIONS["tanh"]
    widths = (100, 1000, 10_000)
    steady([n**2 * (initialization.default_floor(tanh, n) - 1 / (2 * n)) for n in widths], 0.02)


def test_first_orders_in_width_err_by_1_over_n_squared() -> None:
    """ReLU at He's scale, 6 layers: against the exact law at widths 50, 200, 800."""
    law = wc.activation_correction(6, 1.0, RELU, math.sqrt(2))
    widths = (50, 200, 800)
    steady([n**2 * (6 * fw.relu_log_norm(n).mean - law.mean[-1] / n) for n in widths], 0.05)
    steady([n**2 * (6 * fw.relu_log_norm(n).variance - law.variance[-1] / n) for n in widths], 0.05)


def test_the_normal_law_of_growth_errs_by_1_over_the_root_of_l() -> None:
    """The largest distance of the exact law from the normal one with its mean and deviation."""

    def distance(factors: int) -> float:
        law = growth.volume_growth(2, 1, factors)

        def gap(z: float) -> float:
            exact = float(growth.growth_cdf(law.mean + z * law.std, 2, factors))
            return -abs(exact - 0.5 * math.erfc(-z / math.sqrt(2)))

        return -float(optimize.minimize_scalar(gap, bounds=(-1.0, 1.0), method="bounded").fun)

    steady([distance(factors) * math.sqrt(factors) for factors in (16, 128, 1024)], 0.02)


def even_hermite(n: int, t: Array) -> Array:
    """The first n even Hermite functions, (n, N): an orthonormal basis of t^2k exp(-t^2 / 2)."""
    below, here = np.zeros_like(t), math.pi**-0.25 * np.exp(-t * t / 2)
    found = []
    for k in range(2 * n):
        if k % 2 == 0:
            found.append(here)
        below, here = here, math.sqrt(2 / (k + 1)) * t * here - math.sqrt(k / (k + 1)) * below
    return np.array(found)


def mean_largest_square(n: int) -> float:
    """E of the largest squared singular value of an even number n of N(0, 1 / n) rows, exactly.

    The density of the singular values t is prod_i exp(-t_i^2 / 2) |Delta(t^2)|, so that
    P(all < x) is a Pfaffian (de Bruijn 1955), by Simpson's rule.
    """
    high, block, blocks = 2 * math.sqrt(n) + 5, 16, 16 * math.isqrt(n) + 80
    t = np.linspace(0, high, block * blocks + 1)
    h = even_hermite(n, t)
    below = integrate.cumulative_simpson(h, x=t, axis=1, initial=0)
    weight = np.tile([2.0, 4.0], block // 2 + 1)[: block + 1] * (t[1] / 3)
    weight[[0, -1]] /= 2
    total, logs = np.zeros((n, n)), []
    for start in range(0, block * blocks, block):
        part = slice(start, start + block + 1)
        half = (below[:, part] * weight) @ h[:, part].T
        total += half - half.T
        logs.append(np.linalg.slogdet(total)[1] / 2)
    share = np.concatenate([[0.0], np.exp(np.minimum(np.array(logs) - logs[-1], 0.0))])
    return float(integrate.simpson((1 - share) * 2 * t[::block], x=t[::block])) / n


def test_the_largest_square_errs_by_1_over_n() -> None:
    """One Gaussian factor: by -2 / n, as the better centre is 4 (n - 1/2) (Ma 2012, Bernoulli 18).

    Extrapolated, as what is left of it halves from width to width.  At width 2 the mean is
    1 + pi / 4.
    """
    assert mean_largest_square(2) == pytest.approx(1 + math.pi / 4, rel=1e-5)
    edge = jacobian.fuss_catalan_edge(1)
    widths = (8, 32, 128)
    rest = [n * (mean_largest_square(n) - jacobian.largest_square(n, edge)[0]) for n in widths]
    steady(rest, 0.3)
    assert 2 * rest[-1] - rest[-2] == pytest.approx(-2, abs=0.1)


def product_sum_errors(most: int) -> Array:
    """Mean squared rounding error, in u^2, of the sum of k products of normal numbers, k to most.

    Given the one factors of squared length V the sum is N(0, V), and V is chi^2_k.
    """
    found = []
    for k in range(1, most + 1):
        spread = math.sqrt(2 / k) if k > 4 else 2.0
        v = k * np.exp(spread * np.linspace(-16 if k < 5 else -8, 6, 121))
        mass = stats.chi2.pdf(v, k) * v
        found.append(mass @ re.rounding_error(0.0, np.sqrt(v)) ** 2 / mass.sum())
    return np.array(found)


def test_rounding_laws_of_sums_of_products_err_by_1_over_n() -> None:
    """Sizes a factor 4 apart, at which the octaves lie alike: what they decide moves with n."""
    each, sizes = product_sum_errors(1024), (64, 256, 1024)
    addends = re.Addends(0.0, 1.0, 2 / math.pi)
    summed = [math.sqrt(each[1:n].sum() / n) for n in sizes]
    steady(
        [n * (re.sum_error(n, addends, 1e-8) / (1e-8 * e) - 1)
         for n, e in zip(sizes, summed, strict=True)], 0.1,
    )  # fmt: skip
    rounded = [math.sqrt(each[0] + each[1:n].sum() / n) for n in sizes]
    steady(
        [n * (re.dot_error(n, 1e-8, wide=False) / (1e-8 * e) - 1)
         for n, e in zip(sizes, rounded, strict=True)], 0.1,
    )  # fmt: skip
    once = [math.sqrt(each[n - 1] / n) for n in sizes]
    steady(
        [n * (re.dot_error(n, 1e-8, wide=True) / (1e-8 * e) - 1)
         for n, e in zip(sizes, once, strict=True)], 0.1,
    )  # fmt: skip
