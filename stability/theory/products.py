"""Products of random matrices: exponents, condition, and where arithmetic gives out.

P_L = W_L ... W_1 with independent n x n factors W = sigma G; G has independent standard Gaussian
entries, real (beta = 1) or complex with E|g|^2 = 1 (beta = 2).  Logarithms are natural.  How long
vectors, volumes and norms are at finite L: ``growth``.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from stability.arguments import finite, fraction, positive, whole, wholes
from stability.theory.floating_point import Format
from stability.theory.quadrature import Array


def _check(n: int, sigma: float = 1.0) -> None:
    whole("n", n)
    positive("sigma", sigma)


def lyapunov_spectrum(n: int, sigma: float = 1.0, complex: bool = False) -> Array:
    """lambda_k = ln sigma + [ln(2 / beta) + psi(beta (n - k + 1) / 2)] / 2 for k = 1..n.

    Newman 1986, Commun. Math. Phys. 103, 121; complex: Forrester 2013, J. Stat. Phys. 151, 796.
    Also the exact mean at any L of ln R_kk per factor in the QR iteration, where R_kk^2 is
    sigma^2 chi^2_(beta (n - k + 1)) / beta (Bartlett's decomposition).
    Raises ValueError if n < 1 or sigma is not positive.
    """
    _check(n, sigma)
    beta = 2 if complex else 1
    digamma = special.digamma(beta * np.arange(n, 0, -1) / 2)
    spectrum: Array = math.log(sigma) + (math.log(2 / beta) + digamma) / 2
    return spectrum


def lyapunov_variance(n: int, complex: bool = False) -> Array:
    """psi_1(beta (n - k + 1) / 2) / 4, the variance of ln R_kk per factor, exact at any L.

    Raises ValueError if n < 1.
    """
    _check(n)
    variance: Array = special.polygamma(1, (2 if complex else 1) * np.arange(n, 0, -1) / 2) / 4
    return variance


def critical_sigma(n: int, complex: bool = False) -> float:
    """exp(-lambda_1): the scale at which the typical norm neither grows nor decays.

    Raises ValueError if n < 1.
    """
    return math.exp(-lyapunov_spectrum(n, 1.0, complex)[0])


def mean_square_growth(n: int, sigma: float = 1.0) -> float:
    """n sigma^2, by which a factor multiplies E||P v||^2: 1 at sigma = 1 / sqrt(n).

    The typical ||P v||^2 is multiplied by e^(2 lambda_1), less, and shrinks there.
    Raises ValueError if n < 1 or sigma is not positive.
    """
    _check(n, sigma)
    return n * sigma**2


def half_overflow(n: int, format: Format, sigma: float = 1.0) -> float:
    """ln(max) / lambda_1: the factors after which half of all ||P v|| of real factors overflow.

    inf where lambda_1 <= 0.  Of first order in large L; ``growth.overflow_probability`` is exact.
    Raises ValueError if n < 1 or sigma is not positive.
    """
    rate = float(lyapunov_spectrum(n, sigma)[0])
    return math.log(format.max) / rate if rate > 0 else math.inf


def log_condition(n: int, factors: int, complex: bool = False) -> float:
    """E ln(sigma_max / sigma_min) as L grows: L (lambda_1 - lambda_n) + psi(b n / 2) - psi(b / 2).

    The inverse's vector growth is exact too, 1 / ||W^-1 v||^2 being sigma^2 chi^2_beta / beta; as
    in ``growth.norm_growth`` each end adds half of the last difference, and
    ``growth.rank_one_error`` of the first and the last pair bounds what is neglected.
    Raises ValueError if n < 1 or factors < 1.
    """
    whole("factors", factors)
    spectrum = lyapunov_spectrum(n, 1.0, complex)
    half = 1.0 if complex else 0.5
    ends = float(special.digamma(half * n) - special.digamma(half))
    return float(factors * (spectrum[0] - spectrum[-1])) + ends


def smallest_exponent(n: int, factors: ArrayLike, complex: bool = False) -> Array:
    """E ln(sigma_min) / L: lambda_n - [psi(b n / 2) - psi(b / 2)] / (2 L), of ``factors``' shape.

    The lower end of ``log_condition``, with what that neglects.
    Raises ValueError if n < 1 or factors are not whole and at least 1.
    """
    exponent = float(lyapunov_spectrum(n, 1.0, complex)[-1])
    half = 1.0 if complex else 0.5
    below = float(special.digamma(half * n) - special.digamma(half)) / 2
    result: Array = exponent - below / wholes("factors", factors)
    return result


def single_log_condition(n: int, complex: bool = False) -> float:
    """E ln(sigma_max / sigma_min) of one matrix as n grows: ln n + c.

    n sigma_min^2 has the density e^(-x/2 - sqrt x) (1 + sqrt x) / (2 sqrt x), complex e^-x, and
    sigma_max is 2 sqrt n: c = ln 2 - E ln x / 2, 1.537 and 0.982.  Neglects O(1 / sqrt n).
    Edelman 1988, SIAM J. Matrix Anal. Appl. 9, 543.  Raises ValueError if n < 1.
    """
    _check(n)
    if complex:
        return math.log(n) + math.log(2) + np.euler_gamma / 2
    return math.log(n) + math.log(2) - _mean_log_smallest() / 2


def _mean_log_smallest() -> float:
    """E ln x of the density above: y = sqrt x has the density (1 + y) e^(-y^2 / 2 - y)."""
    x, w = np.polynomial.legendre.leggauss(400)
    t = 22.0 * x - 19.0  # y = e^t from e^-41 to e^3
    y = np.exp(t)
    log_density = np.log1p(y) - y**2 / 2 - y + t
    return float(22.0 * (w @ (2 * t * np.exp(log_density))))


def all_real_probability(n: int) -> float:
    """2^(-n (n - 1) / 4): the probability that all eigenvalues of one real matrix are real.

    Edelman 1997, J. Multivariate Anal. 60, 203.  Raises ValueError if n < 1.
    """
    _check(n)
    return float(2.0 ** (-n * (n - 1) / 4))


ALL_REAL_OF_TWO = math.pi / 4
"""The probability that the product of two real 2 x 2 matrices has real eigenvalues.

Lakshminarayan 2013, J. Phys. A 46, 152003.
"""


def svd_breakdown(n: int, eps: float, complex: bool = False) -> float:
    """ln(1 / eps) / (lambda_1 - lambda_n): the factors after which rounding hides sigma_min.

    A backward stable SVD errs by about eps sigma_max; inf at n = 1.  Raises ValueError unless
    n >= 1 and 0 < eps < 1.
    """
    fraction("eps", eps)
    spectrum = lyapunov_spectrum(n, 1.0, complex)
    gap = float(spectrum[0] - spectrum[-1])
    return math.log(1 / eps) / gap if gap > 0 else math.inf


def kurtosis_shift(n: int, excess: float, fourth: float | None = None) -> float:
    """E ln ||W v|| of independent entries of excess kurtosis ``excess`` less that of Gaussian ones.

    -excess sum v_i^4 / 4n, the term of second order of E ln ||W v||^2 / 2.  ``fourth``: the sum, 1
    for a unit vector e_1; 3 / (n + 2), its mean over the sphere, gives the shift of lambda_1.
    Heuristic: of first order in 1 / n^2, no theorem.
    Raises ValueError if n < 1, or ``excess`` or ``fourth`` is not finite.
    """
    _check(n)
    finite("excess", excess)
    finite("fourth", 0.0 if fourth is None else fourth)
    return -excess * (3 / (n + 2) if fourth is None else fourth) / (4 * n)
