"""What asymptotic laws neglect shrinks at the rate that they state."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import criticality, growth, initialization, meanfield, products
from stability.theory import finite_width as fw
from stability.theory import width_correction as wc
from stability.theory.floating_point import FORMATS, Format

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
