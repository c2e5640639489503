"""Seeds are fixed; the bounds of simulations are Massart's at a false-alarm rate of 1e-6 a row."""

import itertools
import math
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stability.theory import growth as theory
from stability.theory.floating_point import FORMATS

LN10 = math.log(10)
D2L = {0.005: 20.33, 0.025: 21.40, 0.25: 23.63, 0.5: 24.78, 0.75: 25.92, 0.975: 28.05, 0.995: 29.05}


def massart(samples: int, level: float = 1e-6) -> float:
    """The distance of an empirical distribution function that is exceeded with at most ``level``.

    Massart 1990, Ann. Probab. 18, 1269.
    """
    return math.sqrt(math.log(2 / level) / (2 * samples))


def meijer_cdf(x: float, n: int, factors: int) -> float:
    """P(ln ||P_L v|| <= x) as a Meijer G function, 30 digits: a product of Gamma(n/2) variables."""
    with mpmath.workdps(30):
        half = mpmath.mpf(n) / 2
        t = mpmath.exp(2 * mpmath.mpf(x)) / mpmath.mpf(2) ** factors
        value = mpmath.meijerg([[1], []], [[half] * factors, [0]], t)
        return float(value / mpmath.gamma(half) ** factors)


def _worst_moments() -> float:
    worst = 0.0
    for n, k, factors, complex in ((1, 1, 1, False), (4, 1, 101, False), (64, 64, 7, True)):
        with mpmath.workdps(30):
            beta = 2 if complex else 1
            halves = [mpmath.mpf(beta * (n - j)) / 2 for j in range(k)]
            mean = factors * sum(
                mpmath.log(1.5) + (mpmath.log(mpmath.mpf(2) / beta) + mpmath.psi(0, h)) / 2
                for h in halves
            )
            std = mpmath.sqrt(factors * sum(mpmath.psi(1, h) for h in halves) / 4)
        found = theory.volume_growth(n, k, factors, 1.5, complex)
        worst = max(worst, abs(found.mean / float(mean) - 1), abs(found.std / float(std) - 1))
    return worst


def _worst_cdf() -> float:
    """Absolute: the law of |det| of order two is exponential, the rest Meijer G functions."""
    x = np.linspace(-12, 3, 61)
    exact = -np.expm1(-np.exp(x))
    worst = float(np.abs(theory.growth_cdf(x, 2, 1, 2) - exact).max())
    for n, factors in ((1, 1), (2, 3), (4, 4), (7, 2)):
        law = theory.volume_growth(n, 1, factors)
        for z in (-4.0, -1.0, 0.3, 2.0):
            at = law.mean + z * law.std
            found = float(theory.growth_cdf(at, n, factors))
            worst = max(worst, abs(found - meijer_cdf(at, n, factors)))
    return worst


def _worst_pdf() -> float:
    x = np.linspace(-12, 3, 61)
    exact = np.exp(x - np.exp(x))
    return float(np.abs(theory.growth_pdf(x, 2, 1, 2) - exact).max())


def _worst_quantile() -> float:
    p = np.array([1e-9, 1e-3, 0.3, 0.5, 0.99, 1 - 1e-9])
    exact = np.log(-np.log1p(-p))
    found = theory.growth_quantile(p, 2, 1, 2)
    return float(np.abs(found - exact).max())


@cache
def simulated(n: int, factors: int, samples: int, complex: bool = False) -> np.ndarray:
    """ln of the first column's length, of the Frobenius norm and of the largest entry: (3, S)."""
    rng = np.random.default_rng(11)
    product, logs = np.eye(n), np.zeros(samples)
    for _ in range(factors):
        factor = rng.normal(size=(samples, n, n))
        if complex:
            factor = (factor + 1j * rng.normal(size=(samples, n, n))) / math.sqrt(2)
        product = factor @ product
        size = np.abs(product).max(axis=(1, 2))
        product, logs = product / size[:, None, None], logs + np.log(size)
    column = np.linalg.norm(product[:, :, 0], axis=1)
    return np.stack([np.log(column), np.log(np.linalg.norm(product, axis=(1, 2))), 0 * logs]) + logs


def distance(logs: np.ndarray, cdf: Any) -> float:
    return float(stats.ks_1samp(logs, cdf).statistic)


SAMPLES = 20_000
CASES = ((2, 60, False), (4, 150, False), (3, 60, True))


def _distance_norm() -> float:
    return max(
        distance(simulated(n, m, SAMPLES, c)[1], lambda x, a=(n, m, 1.0, c): theory.norm_cdf(x, *a))
        for n, m, c in CASES
    )


def _distance_entry() -> float:
    return max(
        distance(simulated(n, m, SAMPLES, c)[2], lambda x, a=(n, m): theory.entry_cdf(x, *a))
        for n, m, c in CASES
        if not c
    )


def _worst_norm() -> float:
    worst = 0.0
    for n, factors, complex in CASES:
        logs = simulated(n, factors, SAMPLES, complex)[1]
        law = theory.norm_growth(n, factors, complex=complex)
        worst = max(worst, abs(logs.mean() - law.mean) / law.std, abs(logs.std() / law.std - 1))
    return worst


def walks(n: int, factors: int, samples: int, sigma: float = 1.0) -> np.ndarray:
    """Running log lengths, (samples, factors), by chi variables."""
    rng = np.random.default_rng(12)
    steps = np.log(rng.chisquare(n, (samples, factors))) / 2 + math.log(sigma)
    return np.cumsum(steps, axis=1)


PASSAGES = ((4, 30, 12.0, 1.0), (2, 50, 4.0, 0.943682), (16, 20, 3.0, 0.258104), (1, 15, 2.0, 1.0))


def _distance_passage() -> float:
    """Largest distance from simulated first passages, upwards and downwards."""
    worst = 0.0
    for n, factors, limit, sigma in PASSAGES:
        path = walks(n, factors, SAMPLES, sigma)
        for sign in (1, -1):
            share = (sign * path > limit).cumsum(axis=1).astype(bool).mean(axis=0)
            found = theory.passage_probability(
                n, factors, sign * limit, sigma, below=sign < 0
            )  # fmt: skip
            worst = max(worst, float(np.abs(share - found).max()))
    return worst


def _worst_passage() -> float:
    """After two factors against mpmath's double integral: 1 - P(both steps short of the limit)."""
    worst = 0.0
    for n, limit in ((4, 1.5), (2, 0.7)):
        with mpmath.workdps(20):
            half = mpmath.mpf(n) / 2

            def density(s: Any, half: Any = half) -> Any:
                x = mpmath.exp(2 * s) / 2
                return 2 * x**half * mpmath.exp(-x) / mpmath.gamma(half)

            def stays(s: Any, half: Any = half, limit: float = limit) -> Any:
                x = mpmath.exp(2 * (limit - s)) / 2
                return density(s) * mpmath.gammainc(half, 0, x, regularized=True)

            exact = 1 - float(mpmath.quad(stays, [-30, -10, -3, 0, limit]))
        worst = max(worst, abs(float(theory.passage_probability(n, 2, limit)[1]) - exact))
    return worst


def _worst_format() -> float:
    """The two probabilities of a format against the passage of its limits, one simulated."""
    path = walks(4, 40, SAMPLES)
    share = (path > math.log(65504)).cumsum(axis=1).astype(bool).mean(axis=0)
    over = np.abs(theory.overflow_probability(4, 40, FORMATS["float16"]) - share).max()
    path = walks(4, 40, SAMPLES, 0.3)
    share = (path < -25 * math.log(2)).cumsum(axis=1).astype(bool).mean(axis=0)
    under = np.abs(theory.underflow_probability(4, 40, FORMATS["float16"], 0.3) - share).max()
    return float(max(over, under))


def _outside_share() -> float:
    """By how much simulated products leave the brackets: none is rounded, so 0 but for sampling."""
    worst = 0.0
    for n, factors, sigma in ((4, 30, 1.0), (2, 60, 1.0), (4, 30, 0.25)):
        rng = np.random.default_rng(5)
        product = np.broadcast_to(np.eye(n), (SAMPLES, n, n)).copy()
        seen = np.zeros((2, SAMPLES), bool)
        form = FORMATS["float16"]
        laws = (
            theory.overflow_share(n, factors, form, sigma),
            theory.underflow_share(n, factors, form, sigma),
        )
        for factor in range(factors):
            product = sigma * rng.normal(size=product.shape) @ product
            top = np.abs(product).max(axis=(1, 2))
            seen |= np.stack([top > form.max, top < form.smallest_normal])
            for share, law in zip(seen.mean(axis=1), laws, strict=True):
                below, above = law.lower[factor] - share, share - law.upper[factor]
                worst = max(worst, float(below), float(above))
    return worst


def _outside_rank_one() -> float:
    """By how much the norm's simulated mean is off beyond the bound, in nats; 2e4 samples."""
    worst = 0.0
    for n, factors, complex in ((2, 3, False), (2, 10, False), (4, 20, False), (4, 20, True)):
        logs = simulated(n, factors, SAMPLES, complex)[1]
        off = abs(logs.mean() - theory.norm_growth(n, factors, complex=complex).mean)
        bound = theory.rank_one_error(n, factors, 1, complex)
        worst = max(worst, off - bound)
    return worst


def _distance_sampler() -> float:
    worst = 0.0
    for n, factors, complex in ((4, 3, False), (3, 8, True)):
        drawn = theory.sample_growth(n, factors, SAMPLES, np.random.default_rng(2), 0.7, complex)
        for k in range(1, n + 1):
            args = (n, factors, k, 0.7, complex)
            worst = max(
                worst, distance(drawn[:, k - 1], lambda x, a=args: theory.growth_cdf(x, *a))
            )
    return worst


EXACT = "Newman 1986; exact at any L"
RANK_ONE = "Haar singular vectors; neglects less than `rank_one_error`"
RENEWAL = "renewal equation (Feller 1971, XII)"
ACCURACY = [
    Case("growth.volume_growth", "mean and deviation of ln volume", EXACT,
         "n <= 64, k <= n, real and complex", "mpmath psi", 1e-13, _worst_moments),
    Case("growth.growth_cdf", "law of ln volume (absolute)", "Davies 1973; exact at any L",
         "n <= 7, L <= 4, |z| <= 4", "exponential law; Meijer G, mpmath", 2e-13, _worst_cdf),
    Case("growth.growth_pdf", "density of ln volume (absolute)", "Davies 1973; exact at any L",
         "|det|, n = 2", "exponential law", 1e-12, _worst_pdf),
    Case("growth.growth_quantile", "quantiles of ln volume (absolute)", "inverse of the law",
         "1e-9 <= p <= 1 - 1e-9", "exponential law", 1e-5, _worst_quantile),
    Case("growth.rank_one_error", "bound of what rank one neglects (nats beyond it)",
         "Chernoff bound of R_2 / R_1", "n = 2, 4; L = 3, 10, 20", "2e4 simulated products",
         0.03, _outside_rank_one),
    Case("growth.norm_growth", "mean and deviation of ln norm (in deviations)", RANK_ONE,
         "n = 2, 3, 4; L = 60, 150", "2e4 simulated products", 5 / math.sqrt(SAMPLES), _worst_norm),
    Case("growth.norm_cdf", "law of ln norm (Kolmogorov's distance)", RANK_ONE,
         "n = 2, 3, 4; L = 60, 150", "2e4 simulated products", massart(SAMPLES), _distance_norm),
    Case("growth.entry_cdf", "law of ln of the largest entry (Kolmogorov's distance)", RANK_ONE,
         "n = 2, 4; L = 60, 150", "2e4 simulated products", massart(SAMPLES), _distance_entry),
    Case("growth.entry_quantile", "quantiles of ln of the largest entry (of p)", RANK_ONE,
         "n = 4, L = 101", "its law", 1e-11,
         lambda: float(np.abs(theory.entry_cdf(theory.entry_quantile(list(D2L), 4, 101), 4, 101)
                              - np.array(list(D2L))).max())),
    Case("growth.passage_probability", "first passage (absolute)", RENEWAL, "L = 2",
         "mpmath integral", 1e-10, _worst_passage),
    Case("growth.passage_probability", "first passage (largest distance)", RENEWAL,
         "n <= 16, L <= 50, up and down", "2e4 simulated walks", massart(SAMPLES),
         _distance_passage),
    Case("growth.overflow_probability", "signal past the largest number (distance)", RENEWAL,
         "n = 4, float16, L <= 40", "2e4 simulated walks", massart(SAMPLES), _worst_format),
    Case("growth.underflow_probability", "signal rounded to 0 (distance)", RENEWAL,
         "n = 4, float16, L <= 40", "2e4 simulated walks", massart(SAMPLES), _worst_format),
    Case("growth.overflow_share", "bounds of overflow of a product (outside them)",
         f"{RENEWAL}; union bound", "n = 2, 4; float16", "2e4 simulated products", massart(SAMPLES),
         _outside_share),
    Case("growth.underflow_share", "bounds of underflow of a product (outside them)",
         f"{RENEWAL}; union bound", "n = 4; float16", "2e4 simulated products", massart(SAMPLES),
         _outside_share),
    Case("growth.sample_growth", "Bartlett's sampler (Kolmogorov's distance)", "Bartlett 1933",
         "n = 3, 4, real and complex", "the exact law, 2e4 draws", massart(SAMPLES),
         _distance_sampler),
]  # fmt: skip


def test_the_book_s_example() -> None:
    quantiles = theory.entry_quantile(list(D2L), 4, 101) / LN10
    np.testing.assert_allclose(quantiles, list(D2L.values()), atol=0.005)
    law = theory.norm_growth(4, 101)
    assert law.mean / LN10 == pytest.approx(24.993, abs=5e-4)
    assert law.std / LN10 == pytest.approx(1.694, abs=5e-4)
    low, high = theory.entry_cdf([20 * LN10, 24 * LN10], 4, 101)
    assert high - low == pytest.approx(0.320, abs=5e-4)


def test_overflow_of_a_signal_by_length() -> None:
    found = theory.overflow_probability(4, 180, FORMATS["float32"])
    # 5000 products in float32 arithmetic had .0168, .182, .613 at 140, 150, 160 factors; a column
    # passes a little later than the largest entry.
    published = {140: 0.016, 150: 0.180, 160: 0.596, 170: 0.904, 180: 0.989}
    for factors, product in published.items():
        assert product - 0.05 < found[factors - 1] < product
        law = theory.overflow_share(4, factors, FORMATS["float32"])
        assert law.lower[-1] < product < law.upper[-1]
        assert law.predicted[-1] == pytest.approx(product, abs=0.04)
    wide = theory.overflow_share(64, 44, FORMATS["float32"])
    assert wide.upper[41] < 0.1
    assert wide.predicted[43] > 0.7
    assert theory.overflow_share(64, 46, FORMATS["float32"]).lower[-1] > 1 - 1e-6


@given(st.integers(1, 12), st.integers(1, 40), st.floats(-2, 2))
@settings(deadline=None, max_examples=30)
def test_a_scale_shifts_the_law(n: int, factors: int, log_sigma: float) -> None:
    x = theory.volume_growth(n, 1, factors).mean
    sigma = math.exp(log_sigma)
    moved = theory.growth_cdf(x + factors * log_sigma, n, factors, sigma=sigma)
    assert float(moved) == pytest.approx(float(theory.growth_cdf(x, n, factors)), abs=1e-12)


@given(st.integers(1, 30), st.integers(1, 200))
@settings(deadline=None, max_examples=30)
def test_the_law_rises_from_0_to_1(n: int, factors: int) -> None:
    law = theory.volume_growth(n, 1, factors)
    values = theory.growth_cdf(law.mean + law.std * np.linspace(-60, 20, 300), n, factors)
    assert (np.diff(values) >= -1e-12).all()
    assert values[0] < 1e-12
    assert values[-1] > 1 - 1e-12


@given(st.integers(1, 10), st.floats(0.2, 8))
@settings(deadline=None, max_examples=20)
def test_passage_only_grows_and_is_at_least_being_beyond(n: int, limit: float) -> None:
    found = theory.passage_probability(n, 25, limit)
    assert (np.diff(found) >= -1e-12).all()
    beyond = [1 - float(theory.growth_cdf(limit, n, m)) for m in range(1, 26)]
    assert (found >= np.array(beyond) - 1e-10).all()


def test_the_normal_limit_of_many_factors() -> None:
    n, factors = 8, 20_000
    law = theory.volume_growth(n, 1, factors)
    z = np.array([-2.0, 0.0, 1.0])
    found = theory.growth_cdf(law.mean + z * law.std, n, factors)
    # Berry-Esseen's order: the skewness of ln chi over sqrt(L).
    np.testing.assert_allclose(found, stats.norm.cdf(z), atol=1 / math.sqrt(factors))


def test_the_neglected_term_falls_exponentially() -> None:
    errors = [theory.rank_one_error(4, factors) for factors in (100, 200, 400)]
    rates = [math.log(a / b) for a, b in itertools.pairwise(errors)]
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.05)


def test_a_limit_below_the_start_is_passed_at_once() -> None:
    assert (theory.passage_probability(3, 4, -1.0) == 1).all()
    assert (theory.passage_probability(3, 4, 1.0, below=True) == 1).all()
    assert (theory.passage_probability(3, 4, 1e6) == 0).all()


def test_bad_arguments_are_named() -> None:
    bad: Any
    for bad in (0, -2, math.nan):
        with pytest.raises(ValueError, match=r"^n="):
            theory.volume_growth(bad, 1, 3)
        with pytest.raises(ValueError, match=r"^n="):
            theory.passage_probability(bad, 3, 1.0)
        for law in (theory.norm_growth, theory.norm_cdf, theory.sample_growth):
            arguments: tuple[Any, ...] = {
                "norm_growth": (3, bad),
                "norm_cdf": (0.0, 3, bad),
                "sample_growth": (3, bad, 5, np.random.default_rng(0)),
            }[law.__name__]
            with pytest.raises(ValueError, match=r"^factors="):
                law(*arguments)
        with pytest.raises(ValueError, match=r"^samples="):
            theory.sample_growth(3, 4, bad, np.random.default_rng(0))
    for k in (0, 4):
        with pytest.raises(ValueError, match=r"^k="):
            theory.growth_cdf(0.0, 3, 2, k)
    with pytest.raises(ValueError, match=r"^k="):
        theory.rank_one_error(3, 10, 3)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^sigma="):
            theory.overflow_probability(3, 2, FORMATS["float16"], sigma)
    for p in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"^p="):
            theory.entry_quantile(p, 3, 20)
    with pytest.raises(ValueError, match=r"^log_limit="):
        theory.passage_probability(3, 2, math.nan)
