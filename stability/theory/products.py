"""Products of random matrices: exponents, norms, entries and where arithmetic gives out.

P_L = W_L ... W_1 with independent n x n factors W = sigma G; G has independent standard Gaussian
entries, real (beta = 1) or complex with E|g|^2 = 1 (beta = 2).  Logarithms are natural.

Two tools carry everything.  The direction of P v is independent of its length, hence
||P v||^2 / ||v||^2 is a product of L independent sigma^2 chi^2_(beta n) / beta, at any L.  And the
singular vectors are Haar distributed and independent of the singular values.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]

_PASSAGES = ((3.0, 1.2), (6.0, 0.42))
_SIEGMUND = 1.4603545088095868 / math.sqrt(2 * math.pi)  # -zeta(1/2) / sqrt(2 pi)


class LogLaw(NamedTuple):
    """Mean and standard deviation of the logarithm of a size."""

    mean: float
    std: float


def _check(n: int, factors: int, sigma: float) -> None:
    if not n >= 1:
        raise ValueError(f"n={n!r}: must be at least 1")
    if not factors >= 0:
        raise ValueError(f"factors={factors!r}: must be at least 0")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma!r}: must be finite and above 0")


def _beta(complex: bool) -> int:
    return 2 if complex else 1


def lyapunov_spectrum(n: int, sigma: float = 1.0, complex: bool = False) -> Array:
    """lambda_k = ln sigma + [ln(2 / beta) + psi(beta (n - k + 1) / 2)] / 2 for k = 1..n.

    Newman 1986, Commun. Math. Phys. 103, 121; complex: Forrester 2013, J. Stat. Phys. 151, 796.
    Also the exact mean at any L of ln R_kk per factor in the QR iteration, where R_kk^2 is
    sigma^2 chi^2_(beta (n - k + 1)) / beta (Bartlett's decomposition).
    Raises ValueError if n < 1 or sigma is not positive.
    """
    _check(n, 0, sigma)
    freedom = _beta(complex) * np.arange(n, 0, -1)
    spectrum: Array = (
        math.log(sigma) + (math.log(2 / _beta(complex)) + special.digamma(freedom / 2)) / 2
    )
    return spectrum


def lyapunov_variance(n: int, complex: bool = False) -> Array:
    """psi_1(beta (n - k + 1) / 2) / 4, the variance of ln R_kk per factor, exact at any L."""
    _check(n, 0, 1.0)
    variance: Array = special.polygamma(1, _beta(complex) * np.arange(n, 0, -1) / 2) / 4
    return variance


def critical_sigma(n: int, complex: bool = False) -> float:
    """exp(-lambda_1): the scale at which the typical norm neither grows nor decays."""
    return math.exp(-lyapunov_spectrum(n, 1.0, complex)[0])


def vector_growth(n: int, factors: int, sigma: float = 1.0, complex: bool = False) -> LogLaw:
    """Mean L lambda_1 and deviation of ln(||P_L v|| / ||v||), exact at any L for any fixed v.

    Raises ValueError if n < 1, factors < 0 or sigma is not positive.
    """
    _check(n, factors, sigma)
    mean = factors * float(lyapunov_spectrum(n, sigma, complex)[0])
    return LogLaw(mean, math.sqrt(factors * float(lyapunov_variance(n, complex)[0])))


def largest_singular_value(
    n: int, factors: int, sigma: float = 1.0, complex: bool = False
) -> LogLaw:
    """ln sigma_max as L (lambda_1 - lambda_2) grows, where P_L has rank one in effect.

    There ||P v|| = sigma_max |<v_1, v>| with v_1 Haar and independent, so that the mean is
    L lambda_1 + [psi(beta n / 2) - psi(beta / 2)] / 2 and the variance
    [L psi_1(beta n / 2) - psi_1(beta / 2) + psi_1(beta n / 2)] / 4 (0 where that is negative).
    """
    return _frobenius(n, factors, sigma, complex, LogLaw(1.0, 1.0))


def participation(n: int, factors: float, complex: bool = False) -> float:
    """E[||P||_F^4] / E[tr (P P*)^2], exact: n for the identity, falling to 1 as L grows.

    The two moments a, b obey a' = n^2 a + (2 / beta) n b, b' = n a + (n^2 + (2 / beta - 1) n) b,
    from the second moments E tr(S W)^2, E tr(S W S W) of a Wishart matrix W of n degrees of freedom
    (Letac & Massam 2004, Scand. J. Stat. 31, 295).  Solved in closed form, so that ``factors`` may
    be any number.
    """
    _check(n, 0, 1.0)
    twist = 2 / _beta(complex)
    # In units of n^2: eigenvalues 1 + twist / n for (1, 1) and 1 - 1 / n for (twist, -1).
    ratio = (1 - 1 / n) / (1 + twist / n)
    top = (n + twist) / (1 + twist)
    rest = (n - 1) / (1 + twist) * ratio**factors
    return float((top + twist * rest) / (top - rest)) if n > 1 else 1.0


def effective_rank(n: int, factors: int, complex: bool = False) -> LogLaw:
    """Numbers of singular values that share ||P||_F^2: as its log mean, and its variance, see it.

    ``participation`` weights products by ||P||_F^4 and so decays by the rate 3 / n a factor, where
    (sigma_2 / sigma_1)^2 of a typical one decays by 2 (lambda_1 - lambda_2) = 1 / n and its
    fluctuation by half of that.  Hence it is read at L / (s - (s - 1) exp(-c L / n)), s = 3 or 6:
    at L for L << n, at L / s for L >> n.  c = 6 / 5 and 21 / 50 are fitted to simulations of
    n = 16 and 64.
    """
    _check(n, factors, 1.0)
    ranks = [
        participation(n, factors / (s - (s - 1) * math.exp(-c * factors / n)), complex)
        for s, c in _PASSAGES
    ]
    return LogLaw(*ranks)


def frobenius_norm(n: int, factors: int, sigma: float = 1.0, complex: bool = False) -> LogLaw:
    """ln ||P_L||_F, interpolated between its exact limits by the effective rank r.

    If r singular values are equal and the others 0, then ||P v||^2 / ||P||_F^2 is independent of
    ||P||_F and is Beta(beta r / 2, beta (n - r) / 2) / r: subtracting its cumulants from the exact
    ones of ln ||P v||^2 leaves
    E ln ||P||_F^2 = 2 L lambda_1 + ln r - psi(beta r / 2) + psi(beta n / 2).
    Exact at L = 0 (r = n) and for L (lambda_1 - lambda_2) >> 1 (r = 1); an approximation between.
    Raises ValueError if n < 1, factors < 0 or sigma is not positive.
    """
    return _frobenius(n, factors, sigma, complex, effective_rank(n, factors, complex))


def _frobenius(n: int, factors: int, sigma: float, complex: bool, rank: LogLaw) -> LogLaw:
    vector = vector_growth(n, factors, sigma, complex)
    half = _beta(complex) / 2
    share = math.log(rank.mean) - special.digamma(half * rank.mean) + special.digamma(half * n)
    spread = special.polygamma(1, half * rank.std) - special.polygamma(1, half * n)
    variance = vector.std**2 - float(spread) / 4
    return LogLaw(vector.mean + float(share) / 2, math.sqrt(max(variance, 0.0)))


@lru_cache(maxsize=256)
def largest_normal(count: int) -> LogLaw:
    """ln max |g_i| of ``count`` independent standard Gaussians, by quadrature."""
    share = (np.arange(20_000) + 0.5) / 20_000
    logs = np.log(stats.norm.isf(-np.expm1(np.log(share) / count) / 2))
    return LogLaw(float(logs.mean()), float(logs.std()))


def largest_entry(n: int, factors: int, sigma: float = 1.0) -> LogLaw:
    """ln max |entry| of P_L (real): the Frobenius norm's law and that of the entries' direction.

    In effect of rank one, P = sigma_max u v^T with Haar u, v, and max |u_i| is that of n Gaussians
    over their norm, which is independent of it: exact in that limit.  At L = 1 the n^2 entries
    are independent Gaussians.  Between: the mean of both, weight (1 - 1 / L) r^(-1/3) for the
    former, a heuristic with an error of up to 0.1 at n = 64.
    """
    norm = frobenius_norm(n, factors, sigma)
    weight = (1 - 1 / max(factors, 1)) / np.cbrt(effective_rank(n, factors).mean)
    ends = []
    for copies, count in ((2, n), (1, n * n)):
        top = largest_normal(count)
        radius = (math.log(2) + special.digamma(count / 2)) / 2
        variance = top.std**2 - float(special.polygamma(1, count / 2)) / 4
        ends.append((copies * (top.mean - float(radius)), copies * max(variance, 0.0)))
    mean, variance = (weight * one + (1 - weight) * many for one, many in zip(*ends, strict=True))
    return LogLaw(norm.mean + mean, math.hypot(norm.std, math.sqrt(variance)))


def log_condition(n: int, factors: int, complex: bool = False) -> float:
    """E ln(sigma_max / sigma_min) as L grows: L (lambda_1 - lambda_n) + psi(b n / 2) - psi(b / 2).

    The inverse's vector growth is exact too, 1 / ||W^-1 v||^2 being sigma^2 chi^2_beta / beta; as
    in ``largest_singular_value`` each end adds half of the last difference.
    """
    spectrum = lyapunov_spectrum(n, 1.0, complex)
    half = _beta(complex) / 2
    ends = special.digamma(half * n) - special.digamma(half)
    return float(factors * (spectrum[0] - spectrum[-1]) + ends)


def is_separated(n: int, factors: int, complex: bool = False, decay: float = 5.0) -> bool:
    """Whether L (lambda_k - lambda_(k+1)) >= ``decay`` at both ends: the large-L laws hold there.

    Neighbouring singular values then are e^-decay apart.  At n = 1 always.
    """
    if n == 1:
        return True
    spectrum = lyapunov_spectrum(n, 1.0, complex)
    return bool(factors * min(spectrum[0] - spectrum[1], spectrum[-2] - spectrum[-1]) >= decay)


def crossing_probability(law: LogLaw, factors: int, drift: float, log_limit: float) -> float:
    """P(ln X has been above ``log_limit`` after one of 1..L factors), X of ``law`` after L.

    Brownian motion from law.mean - L drift with ``drift`` a factor, of deviation law.std at L: the
    first-passage law (inverse Gaussian), the limit raised by 0.5826 of one factor's deviation since
    the walk is seen at integers only (Siegmund 1985, ch. X).  For the fall below a limit negate
    all three.  Raises ValueError if factors < 1.
    """
    if not factors >= 1:
        raise ValueError(f"factors={factors!r}: must be at least 1")
    if law.std == 0:
        start = law.mean - factors * drift
        return float(max(law.mean, start + drift) > log_limit)
    room = log_limit - law.mean
    above = float(special.ndtr(-room / law.std))
    step = law.std / math.sqrt(factors)
    barrier = room + drift * factors + _SIEGMUND * step
    if barrier <= 0:
        return above
    # The paths that came back.  Their endpoints mirror those beyond the barrier.
    mirrored = -(barrier + drift * factors) / law.std
    returned = 2 * drift * barrier / step**2 + float(special.log_ndtr(mirrored))
    beyond = special.ndtr(-(barrier - drift * factors) / law.std)
    return min(1.0, max(above, float(beyond) + math.exp(min(returned, 0.0))))


def svd_breakdown(n: int, eps: float, complex: bool = False) -> float:
    """ln(1 / eps) / (lambda_1 - lambda_n): the factors after which rounding hides sigma_min.

    A backward stable SVD errs by about eps sigma_max; inf at n = 1.  Raises ValueError unless
    0 < eps < 1.
    """
    if not 0 < eps < 1:
        raise ValueError(f"eps={eps!r}: must lie in (0, 1)")
    spectrum = lyapunov_spectrum(n, 1.0, complex)
    gap = float(spectrum[0] - spectrum[-1])
    return math.log(1 / eps) / gap if gap > 0 else math.inf


def kurtosis_shift(n: int, excess: float) -> float:
    """lambda_1 of independent entries of excess kurtosis ``excess`` less that of Gaussian ones.

    -(3 / 4) excess / (n (n + 2)): the second-order term of E ln ||W v||^2 / 2 for v uniform on the
    sphere, where E sum v_i^4 = 3 / (n + 2).  Heuristic: of first order in 1 / n^2, no theorem.
    """
    _check(n, 0, 1.0)
    return -0.75 * excess / (n * (n + 2))


def sample_log_diagonals(
    n: int, factors: int, samples: int, rng: np.random.Generator, complex: bool = False
) -> Array:
    """Sums over the factors of ln R_kk, drawn without a matrix: (samples, n), exact in law.

    R_kk^2 ~ chi^2_(beta (n - k + 1)) / beta, all independent (Bartlett's decomposition).
    """
    beta = _beta(complex)
    total = np.zeros((samples, n))
    for _ in range(factors):
        total += np.log(rng.chisquare(beta * np.arange(n, 0, -1), (samples, n)) / beta) / 2
    return total
