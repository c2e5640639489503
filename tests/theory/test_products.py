"""Statistical tests: seeds are fixed, and each bound is 5 standard errors (5.7e-7 a row)."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stability.theory import growth
from stability.theory import products as theory
from stability.theory.floating_point import FORMATS

orders = st.integers(1, 60)
NEWMAN = "Newman 1986"

# n: lambda_1, its variance a factor, critical sigma, factors to half overflow in float16, 32, 64,
# and to the breakdown of an SVD in float32 and float64.
TABLE = {
    2: (0.057966, 0.411234, 0.943682, 191, 1531, 12245, 23.0, 52.0),
    3: (0.364819, 0.233701, 0.694323, 30.4, 243, 1946, 15.9, 36.0),
    4: (0.557966, 0.161234, 0.572372, 19.9, 159.0, 1272, 13.4, 30.2),
    8: (0.974632, 0.070956, 0.377331, 11.4, 91.0, 728, 9.9, 22.4),
    16: (1.354394, 0.033284, 0.258104, 8.2, 65.5, 524, 8.0, 18.1),
    64: (2.071588, 0.007936, 0.125986, 5.35, 42.8, 343, 5.9, 13.3),
    100: (2.297568, 0.005050, 0.100503, 4.83, 38.6, 309, 5.4, 12.3),
    256: (2.770633, 0.001961, 0.062622, 4.00, 32.0, 256, 4.7, 10.6),
    1024: (3.465247, 0.000489, 0.031265, 3.2, 25.6, 205, 3.9, 8.8),
}


def by_mpmath(n: int, k: int, complex: bool, order: int) -> float:
    """psi (order 0) or psi_1 (order 1) of the k-th chi's freedoms, as the exponents take them."""
    with mpmath.workdps(30):
        beta = 2 if complex else 1
        half = mpmath.mpf(beta * (n - k + 1)) / 2
        if order:
            return float(mpmath.psi(1, half) / 4)
        return float((mpmath.log(mpmath.mpf(2) / beta) + mpmath.psi(0, half)) / 2)


def _worst(order: int) -> float:
    worst = 0.0
    for n in (1, 2, 7, 64, 1024):
        for complex in (False, True):
            law = theory.lyapunov_variance if order else theory.lyapunov_spectrum
            found = law(n, complex=complex)
            for k in {1, (n + 1) // 2, n}:
                exact = by_mpmath(n, k, complex, order)
                worst = max(worst, abs(found[k - 1] - exact) / max(abs(exact), 1e-3))
    return worst


def _worst_critical() -> float:
    return max(
        abs(theory.critical_sigma(n) / math.exp(-by_mpmath(n, 1, False, 0)) - 1)
        for n in (1, 2, 16, 1024)
    )


def _worst_constants() -> float:
    """Edelman's constants by mpmath's quadrature of the density of n sigma_min^2."""
    with mpmath.workdps(30):

        def density(x: Any) -> Any:
            root = mpmath.sqrt(x)
            return mpmath.log(x) * (1 + root) / (2 * root) * mpmath.exp(-x / 2 - root)

        mean = mpmath.quad(density, [0, 1e-12, 1e-8, 1e-4, 0.01, 1, 10, 100, 400])
        real = float(mpmath.log(2) - mean / 2)
        imaginary = float(mpmath.log(2) + mpmath.euler / 2)
    found = theory.single_log_condition(1), theory.single_log_condition(1, complex=True)
    return max(abs(found[0] / real - 1), abs(found[1] / imaginary - 1))


def _outside_condition() -> float:
    sizes = np.linalg.svd(products(3, 24, 4000), compute_uv=False)
    mean = np.log(sizes[:, 0] / sizes[:, -1]).mean()
    neglected = growth.rank_one_error(3, 24, 1) + growth.rank_one_error(3, 24, 2)
    return max(0.0, float(abs(mean - theory.log_condition(3, 24))) - neglected)


def _outside_smallest() -> float:
    sizes = np.linalg.svd(products(3, 24, 4000), compute_uv=False)
    logs = np.log(sizes[:, -1]) / 24
    room = growth.rank_one_error(3, 24, 2) / 24 + 5 * float(logs.std()) / math.sqrt(4000)
    return max(0.0, abs(float(logs.mean()) - float(theory.smallest_exponent(3, 24))) - room)


def _worst_table() -> float:
    """Of the derived columns, in units of the last digit that the table prints."""
    worst = 0.0
    for n, (_, _, _, *rest) in TABLE.items():
        found = [theory.half_overflow(n, FORMATS[f"float{bits}"]) for bits in (16, 32, 64)]
        found += [theory.svd_breakdown(n, 2 * FORMATS[f"float{b}"].unit_roundoff) for b in (32, 64)]
        worst = max(worst, *(abs(a / b - 1) for a, b in zip(found, rest, strict=True)))
    return worst


ACCURACY = [
    Case("products.lyapunov_spectrum", "Lyapunov exponents", f"{NEWMAN}; Forrester 2013",
         "n <= 1024, real and complex", "mpmath psi", 1e-12, lambda: _worst(0)),
    Case("products.lyapunov_variance", "variance of ln R_kk a factor", "Bartlett 1933",
         "n <= 1024, real and complex", "mpmath psi_1", 1e-13, lambda: _worst(1)),
    Case("products.critical_sigma", "scale of no typical growth", NEWMAN, "n <= 1024",
         "mpmath psi", 1e-14, _worst_critical),
    Case("products.half_overflow", "factors to half overflow", f"{NEWMAN}, first order in 1/L",
         "n <= 1024, 3 formats", "table of 3 digits", 2e-2, _worst_table),
    Case("products.svd_breakdown", "factors to the loss of sigma_min", "Golub & Van Loan, 8.6",
         "n <= 1024, 2 formats", "table of 2 digits", 2e-2, _worst_table),
    Case("products.smallest_exponent", "E ln sigma_min a factor", "derived, see the docstring",
         "n = 3, 24 factors", "simulation, 4000 products: outside by", 0.0, _outside_smallest),
    Case("products.kurtosis_shift", "shift of lambda_1 by kurtosis (relative)",
         "second order in 1/n, heuristic", "signs, e_1, n = 200", "ln(n) / 2, exact", 1e-2,
         lambda: abs(theory.kurtosis_shift(200, -2.0, 1.0)
                     / (math.log(200) / 2 - growth.volume_growth(200, 1, 1).mean) - 1)),
    Case("products.log_condition", "E ln kappa of a product (nats beyond what it neglects)",
         "Haar singular vectors, both ends", "n = 3, L = 24", "4e3 simulated products", 0.3,
         _outside_condition),
    Case("products.mean_square_growth", "growth of E||P v||^2", "E chi^2_n = n", "n = 3",
         "n sigma^2 by E e^(2 ln R)", 1e-12,
         lambda: abs(math.exp(2 * float(mpmath.log(2) / 2) + float(mpmath.loggamma(2.5)
                     - mpmath.loggamma(1.5))) * 0.49 / theory.mean_square_growth(3, 0.7) - 1)),
    Case("products.all_real_probability", "P(all eigenvalues real)", "Edelman 1997",
         "n = 2, 3, 4", "values printed by Edelman, 4 digits", 2e-4,
         lambda: max(abs(theory.all_real_probability(n) / p - 1)
                     for n, p in ((2, 0.7071), (3, 0.3536), (4, 0.125)))),
    Case("products.single_log_condition", "E ln kappa of one matrix", "Edelman 1988, O(1/sqrt n)",
         "the constants", "mpmath quadrature", 1e-10, _worst_constants),
]  # fmt: skip


@pytest.mark.parametrize("n", TABLE)
def test_the_table_of_exponents(n: int) -> None:
    first, variance, critical, *_ = TABLE[n]
    assert theory.lyapunov_spectrum(n)[0] == pytest.approx(first, abs=5e-7)
    assert theory.lyapunov_variance(n)[0] == pytest.approx(variance, abs=5e-7)
    assert theory.critical_sigma(n) == pytest.approx(critical, abs=5e-7)
    assert theory.lyapunov_spectrum(n)[-1] == pytest.approx(-0.635181, abs=5e-7)


def test_published_spectra_of_order_four() -> None:
    real = [0.557966, 0.364819, 0.057966, -0.635181]
    np.testing.assert_allclose(theory.lyapunov_spectrum(4), real, atol=5e-7)
    complex = [0.6281, 0.4614, 0.2114, -0.2886]
    np.testing.assert_allclose(theory.lyapunov_spectrum(4, complex=True), complex, atol=5e-5)
    spread = [0.0710, 0.0987, 0.1612, 0.4112]
    np.testing.assert_allclose(theory.lyapunov_variance(4, complex=True), spread, atol=5e-5)


@pytest.mark.parametrize(("n", "complex"), [(2, False), (5, False), (5, True)])
def test_the_exponents_are_expectations_of_logarithms_of_chi_squares(n: int, complex: bool) -> None:
    beta = 2 if complex else 1
    for k, value in enumerate(theory.lyapunov_spectrum(n, 1.5, complex), start=1):
        law = stats.chi2(beta * (n - k + 1))
        exact = law.expect(lambda x: math.log(x / beta) / 2, lb=0, epsabs=1e-11)
        assert value == pytest.approx(math.log(1.5) + exact, abs=1e-8)


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
    assert abs(growth.volume_growth(n, 1, 1000, scale, complex).mean) < 1e-11


def test_the_typical_vector_shrinks_where_its_mean_square_stays() -> None:
    for n in (2, 10, 100, 1000):
        scale = 1 / math.sqrt(n)
        assert theory.mean_square_growth(n, scale) == pytest.approx(1)
        rate = theory.lyapunov_spectrum(n, scale)[0]
        # psi(x) - ln x = -1 / 2x - 1 / 12x^2 + ..., x = n / 2.
        assert rate == pytest.approx(-1 / (2 * n) - 1 / (6 * n**2), abs=1 / n**4)


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
def test_the_condition_once_the_ends_are_apart(complex: bool) -> None:
    n, factors, samples = 3, 24, 4000
    sizes = np.linalg.svd(products(n, factors, samples, complex), compute_uv=False)
    # Beyond 1e15 an SVD can't be trusted; these are about e^24.
    condition = np.log(sizes[:, 0] / sizes[:, -1])
    error = condition.std() / math.sqrt(samples)
    neglected = sum(growth.rank_one_error(n, factors, k, complex) for k in (1, n - 1))
    predicted = theory.log_condition(n, factors, complex)
    assert abs(condition.mean() - predicted) < 5 * error + neglected
    assert neglected < 0.4


@pytest.mark.parametrize(("complex", "shortfall"), [(False, 0.06), (True, 0.03)])
def test_the_condition_of_one_matrix(complex: bool, shortfall: float) -> None:
    for n, samples in ((32, 2000), (128, 400)):
        sizes = np.linalg.svd(products(n, 1, samples, complex), compute_uv=False)
        logs = np.log(sizes[:, 0] / sizes[:, -1])
        error = logs.std() / math.sqrt(samples)
        gap = theory.single_log_condition(n, complex) - logs.mean()
        # The largest singular value is 2 sqrt n less O(n^(-1/6)): of relative order n^(-2/3).
        assert -5 * error < gap < 5 * error + shortfall * (n / 128) ** (-2 / 3)


@pytest.mark.parametrize(("n", "exact"), [(1, 1.0), (2, 0.7071), (3, 0.3536), (4, 0.1250)])
def test_real_eigenvalues(n: int, exact: float) -> None:
    assert theory.all_real_probability(n) == pytest.approx(exact, abs=5e-5)
    samples = 20_000
    found = np.linalg.eigvals(products(n, 1, samples))
    share = float((np.abs(found.imag) == 0).all(axis=1).mean())
    assert abs(share - exact) <= 5 * math.sqrt(exact * (1 - exact) / samples) + 5e-5


def test_real_eigenvalues_of_two_factors() -> None:
    samples = 20_000
    found = np.linalg.eigvals(products(2, 2, samples))
    share = float((found.imag == 0).all(axis=1).mean())
    exact = theory.ALL_REAL_OF_TWO
    assert abs(share - exact) < 5 * math.sqrt(exact * (1 - exact) / samples)


def test_where_an_svd_breaks_down() -> None:
    spectrum = theory.lyapunov_spectrum(4)
    lost = theory.svd_breakdown(4, 2.0**-52)
    assert math.exp(-lost * (spectrum[0] - spectrum[-1])) == pytest.approx(2.0**-52)
    assert theory.svd_breakdown(1, 0.1) == math.inf
    with pytest.raises(ValueError, match="eps=1"):
        theory.svd_breakdown(4, 1)


def test_what_does_not_grow_never_overflows() -> None:
    assert theory.half_overflow(4, FORMATS["float32"], 0.5) == math.inf


@pytest.mark.parametrize("excess", [-1.2, 3.0])
def test_the_kurtosis_shift_is_of_second_order_in_one_over_n(excess: float) -> None:
    # Var(||W v||^2) = n (2 + excess E sum v^4), and E ln(1 + x) = -E x^2 / 2 + ...
    n = 40
    variance = excess * 3 / (n + 2) / n
    assert theory.kurtosis_shift(n, excess) == pytest.approx(-variance / 4, rel=1e-12)


def test_the_kurtosis_shift_of_signs_along_an_axis() -> None:
    # All entries of W e_1 are 1 in size: ln ||W e_1|| = ln(n) / 2 exactly, its excess is -2.
    for n in (50, 200):
        gaussian = growth.volume_growth(n, 1, 1).mean
        shift = math.log(n) / 2 - gaussian
        # The next term, of third and fourth cumulants, is of relative order 1 / n.
        assert theory.kurtosis_shift(n, -2.0, 1.0) == pytest.approx(shift, rel=2 / n)


def test_what_makes_no_sense_is_refused() -> None:
    for n in (0, -1, math.nan):
        bad: Any = n
        for law in (
            theory.lyapunov_spectrum, theory.lyapunov_variance, theory.critical_sigma,
            theory.mean_square_growth, theory.single_log_condition, theory.all_real_probability,
        ):  # fmt: skip
            with pytest.raises(ValueError, match=r"^n="):
                law(bad)
        with pytest.raises(ValueError, match=r"^n="):
            theory.kurtosis_shift(bad, 1.0)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^sigma="):
            theory.lyapunov_spectrum(3, sigma)
