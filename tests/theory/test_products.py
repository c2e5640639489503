"""Statistical tests: seeds are fixed, and each bound is 5 standard errors (5.7e-7 a row)."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from stability.theory import products as theory
from stability.theory.products import LogLaw

orders = st.integers(1, 60)


@pytest.mark.parametrize(("n", "complex"), [(2, False), (5, False), (5, True)])
def test_the_exponents_are_expectations_of_logarithms_of_chi_squares(n: int, complex: bool) -> None:
    beta = 2 if complex else 1
    for k, value in enumerate(theory.lyapunov_spectrum(n, 1.5, complex), start=1):
        law = stats.chi2(beta * (n - k + 1))
        exact = law.expect(lambda x: math.log(x / beta) / 2, lb=0, epsabs=1e-11)
        assert value == pytest.approx(math.log(1.5) + exact, abs=1e-8)


def test_the_variance_is_that_of_the_logarithm_of_a_chi() -> None:
    for k, value in enumerate(theory.lyapunov_variance(7), start=1):
        assert value == pytest.approx(float(mpmath.psi(1, mpmath.mpf(8 - k) / 2)) / 4, rel=1e-13)


@given(orders)
@settings(deadline=None, max_examples=20)
def test_the_smallest_exponent_is_the_same_for_every_order(n: int) -> None:
    # psi(1/2) = -gamma - 2 ln 2.
    exact = (-np.euler_gamma - math.log(2)) / 2
    assert theory.lyapunov_spectrum(n)[-1] == pytest.approx(exact, rel=1e-13)


@given(orders, st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_critical_scale_stops_the_growth(n: int, complex: bool) -> None:
    scale = theory.critical_sigma(n, complex)
    law = theory.vector_growth(n, 1000, scale, complex)
    assert abs(law.mean) < 1e-11


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize(("n", "factors"), [(2, 1), (3, 5), (6, 2)])
def test_participation_solves_the_recursion_of_the_second_moments(
    n: int, factors: int, complex: bool
) -> None:
    twist = 1 if complex else 2
    a, b = n * n, n
    for _ in range(factors):
        a, b = n * n * a + twist * n * b, n * a + (n * n + (twist - 1) * n) * b
    assert theory.participation(n, factors, complex) == pytest.approx(a / b, rel=1e-13)


@pytest.mark.parametrize("complex", [False, True])
def test_the_norm_starts_exactly_and_ends_in_the_limit_of_rank_one(complex: bool) -> None:
    start = theory.frobenius_norm(9, 0, 2.0, complex)
    assert start.mean == pytest.approx(math.log(9) / 2, rel=1e-13)
    assert start.std == pytest.approx(0, abs=1e-6)
    end = theory.frobenius_norm(9, 3000, 0.7, complex)
    assert end == pytest.approx(theory.largest_singular_value(9, 3000, 0.7, complex), rel=1e-9)


def products(n: int, factors: int, samples: int, complex: bool = False) -> np.ndarray:
    rng = np.random.default_rng(3)

    def draw() -> np.ndarray:
        real = rng.normal(size=(samples, n, n))
        return (real + 1j * rng.normal(size=real.shape)) / math.sqrt(2) if complex else real

    product = draw()
    for _ in range(factors - 1):
        product = draw() @ product
    return product


@pytest.mark.parametrize("complex", [False, True])
def test_the_vector_law_is_exact_after_three_factors(complex: bool) -> None:
    logs = np.log(np.linalg.norm(products(3, 3, 20_000, complex)[:, :, 0], axis=1))
    law = theory.vector_growth(3, 3, 1.0, complex)
    assert abs(logs.mean() - law.mean) < 5 * law.std / math.sqrt(20_000)
    # The kurtosis of a sum of three ln chi^2_3 adds less than 1 to the normal 2 under the root.
    assert abs(logs.std() - law.std) < 5 * law.std * math.sqrt(3 / 4 / 20_000)


@pytest.mark.parametrize("complex", [False, True])
def test_the_ends_of_the_spectrum_in_the_limit(complex: bool) -> None:
    n, factors, samples = 3, 24, 4000
    sizes = np.linalg.svd(products(n, factors, samples, complex), compute_uv=False)
    assert theory.is_separated(n, factors, complex, decay=2.0)
    top = np.log(sizes[:, 0])
    law = theory.largest_singular_value(n, factors, 1.0, complex)
    assert abs(top.mean() - law.mean) < 5 * law.std / math.sqrt(samples) + 0.02
    assert law.std == pytest.approx(top.std(), rel=5 / math.sqrt(2 * samples) + 0.02)
    # Beyond 1e15 an SVD can't be trusted; these are about e^24.
    condition = top - np.log(sizes[:, -1])
    error = condition.std() / math.sqrt(samples)
    predicted = theory.log_condition(n, factors, complex)
    assert abs(condition.mean() - predicted) < 5 * error + 0.05


@pytest.mark.parametrize(("n", "factors"), [(4, 1), (4, 60), (16, 10)])
def test_the_largest_entry(n: int, factors: int) -> None:
    logs = np.log(np.abs(products(n, factors, 4000)).max(axis=(1, 2)))
    law = theory.largest_entry(n, factors)
    # 0.1 is the stated error of the interpolation.
    assert abs(logs.mean() - law.mean) < 5 * logs.std() / math.sqrt(4000) + 0.1


def test_the_law_of_the_largest_of_normals() -> None:
    count = 5

    def integrand(z: float) -> float:
        density = 2 * stats.norm.pdf(z) * count * (2 * stats.norm.cdf(z) - 1) ** (count - 1)
        return float(math.log(z) * density)

    exact = integrate.quad(integrand, 0, 9)[0]
    assert theory.largest_normal(count).mean == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(("drift", "limit"), [(0.0, 12.0), (0.3, 35.0), (-0.1, 6.0), (0.02, 15.0)])
def test_crossing_is_that_of_a_random_walk(drift: float, limit: float) -> None:
    factors, samples = 100, 20_000
    steps = np.random.default_rng(1).normal(drift, 1.0, (samples, factors))
    share = (np.cumsum(steps, axis=1) > limit).any(axis=1).mean()
    law = LogLaw(factors * drift, math.sqrt(factors))
    predicted = theory.crossing_probability(law, factors, drift, limit)
    assert abs(share - predicted) < 5 * math.sqrt(0.25 / samples)


def test_crossing_without_spread_is_certain_or_impossible() -> None:
    assert theory.crossing_probability(LogLaw(10.0, 0.0), 10, 1.0, 9.5) == 1
    assert theory.crossing_probability(LogLaw(10.0, 0.0), 10, 1.0, 10.5) == 0
    with pytest.raises(ValueError, match="factors=0"):
        theory.crossing_probability(LogLaw(0.0, 1.0), 0, 0.0, 1.0)


def test_where_an_svd_breaks_down() -> None:
    spectrum = theory.lyapunov_spectrum(4)
    lost = theory.svd_breakdown(4, 2.0**-52)
    assert math.exp(-lost * (spectrum[0] - spectrum[-1])) == pytest.approx(2.0**-52)
    assert theory.svd_breakdown(1, 0.1) == math.inf
    with pytest.raises(ValueError, match="eps=1"):
        theory.svd_breakdown(4, 1)


@pytest.mark.parametrize("excess", [-1.2, 3.0])
def test_the_kurtosis_shift_is_of_second_order_in_one_over_n(excess: float) -> None:
    # Var(||W v||^2) = n (2 + excess E sum v^4), and E ln(1 + x) = -E x^2 / 2 + ...
    n = 40
    variance = excess * 3 / (n + 2) / n
    assert theory.kurtosis_shift(n, excess) == pytest.approx(-variance / 4, rel=1e-12)


@pytest.mark.parametrize("complex", [False, True])
def test_the_sampler_has_the_law_of_a_qr_iteration(complex: bool) -> None:
    n, factors, samples = 4, 3, 2000
    rng = np.random.default_rng(0)
    logs, frame = np.zeros((samples, n)), np.eye(n)[None]
    for _ in range(factors):
        real = rng.normal(size=(samples, n, n))
        factor = (real + 1j * rng.normal(size=real.shape)) / math.sqrt(2) if complex else real
        frame, triangle = np.linalg.qr(factor @ frame)
        logs += np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2)))
    drawn = theory.sample_log_diagonals(n, factors, samples, rng, complex)
    for k in range(n):
        assert stats.ks_2samp(logs[:, k], drawn[:, k]).pvalue > 1e-6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.lyapunov_spectrum(0), "n=0"),
        (lambda: theory.lyapunov_spectrum(3, 0.0), "sigma=0.0"),
        (lambda: theory.vector_growth(3, -1), "factors=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        call()
