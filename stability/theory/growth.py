"""The exact law of the logarithmic growth of vectors and volumes under Gaussian products.

P_L = W_L ... W_1 with independent n x n factors W = sigma G; G has independent standard Gaussian
entries, real (beta = 1) or complex with E|g|^2 = 1 (beta = 2).  A factor stretches the volume that
k fixed vectors span by the product of k independent sigma chi_d / sqrt(beta), d = beta n,
beta (n - 1), ..., whatever came before (Newman 1986, Commun. Math. Phys. 103, 121; Bartlett's
decomposition).  So the log growth is a random walk whose steps are sums of log chi variables:
its moments, its law at any length, and the law of its first passage are exact.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import brentq

from stability.arguments import numbers, positive, whole
from stability.theory.floating_point import Format
from stability.theory.quadrature import Array

RANK_ONE = 0.05
"""Laws of the norm and of the entries are used where ``rank_one_error`` is at most this."""

_NEGLIGIBLE = 38.0  # e^-38 is 3e-17 of a probability
_DEVIATIONS = 9.0  # of the light upper tail: beyond lies 1e-19
_CLOSE = 1e-9  # bounds of a probability that need no estimate between them
_NODES = 16  # of Gauss and Legendre to a panel of two steps' deviations


class LogLaw(NamedTuple):
    """Mean and standard deviation of the logarithm of a size."""

    mean: float
    std: float


class Bracket(NamedTuple):
    """A probability after each factor, (L,), between two rigorous bounds."""

    lower: Array
    predicted: Array
    upper: Array


class _Inversion(NamedTuple):
    center: float
    reach: float
    t: Array
    weighted: Array


def _freedoms(n: int, k: int, complex: bool) -> Array:
    whole("n", n)
    whole("k", k)
    if k > n:
        raise ValueError(f"k={k!r}: must lie in [1, n]")
    freedoms: Array = np.arange(n, n - k, -1, dtype=np.float64) * (2.0 if complex else 1.0)
    return freedoms


def _shift(sigma: float, complex: bool) -> float:
    positive("sigma", sigma)
    return math.log(sigma) + (0.0 if complex else math.log(2) / 2)


def volume_growth(
    n: int, k: int, factors: int, sigma: float = 1.0, complex: bool = False
) -> LogLaw:
    """Mean and deviation of ln(volume) of k vectors after L factors, exact at any L.

    L sum_j [ln sigma + (ln(2 / beta) + psi(d_j / 2)) / 2] and L sum_j psi_1(d_j / 2) / 4 for
    d_j = beta (n - j + 1), j = 1..k: a vector's length for k = 1, |det P_L| for k = n.
    Raises ValueError unless 1 <= k <= n, factors >= 1 and sigma is positive.
    """
    half = _freedoms(n, k, complex) / 2
    whole("factors", factors)
    mean = k * _shift(sigma, complex) + float(special.digamma(half).sum()) / 2
    variance = float(special.polygamma(1, half).sum()) / 4
    return LogLaw(factors * mean, math.sqrt(factors * variance))


def _log_characteristic(t: Array, half: Array, factors: int) -> Array:
    """ln E exp(i t Y) of Y = sum of factors * len(half) independent ln chi - (its scale's part)."""
    values = special.loggamma(half + 0.5j * t[:, None]) - special.gammaln(half)
    summed: Array = factors * values.sum(axis=1)
    return summed


@lru_cache(maxsize=512)
def _volume(n: int, k: int, factors: int, sigma: float, complex: bool) -> _Inversion:
    half = _freedoms(n, k, complex) / 2
    law = volume_growth(n, k, factors, sigma, complex)
    offset = factors * k * _shift(sigma, complex)

    def log_characteristic(t: Array) -> Array:
        return _log_characteristic(t, half, factors) + 1j * t * offset

    return _invert(log_characteristic, law, 2 * float(half.min()))


def _invert(
    log_characteristic: Callable[[Array], Array], law: LogLaw, lower_rate: float
) -> _Inversion:
    """Nodes and weights of Gil-Pelaez' integral by the midpoint rule (Davies 1973).

    The rule's error is the mass further than ``reach`` from the center: e^-38 by the light upper
    tail's deviations and the lower one's exponential rate; the sum ends where |E exp(i t Y)| is
    below e^-38.
    """
    reach = 1.5 * _DEVIATIONS * law.std + _NEGLIGIBLE / lower_rate
    step = math.pi / reach
    far = step
    while float(log_characteristic(np.array([far])).real[0]) > -_NEGLIGIBLE:
        far *= 2
    t: Array = np.float64(step) * (np.arange(math.ceil(far / step)) + 0.5)
    return _Inversion(law.mean, reach, t, np.exp(log_characteristic(t) - 1j * t * law.mean))


def _cdf(law: _Inversion, x: ArrayLike) -> Array:
    values = numbers("x", x)
    away = values.reshape(-1, 1) - law.center
    waves = law.weighted / law.t * np.exp(-1j * np.clip(away, -law.reach, law.reach) * law.t)
    inside = 0.5 - waves.imag.sum(axis=1) * (law.t[0] * 2) / math.pi
    found = np.where(np.abs(away[:, 0]) > law.reach, away[:, 0] > 0, np.clip(inside, 0.0, 1.0))
    result: Array = found.reshape(values.shape)[()]
    return result


def _quantile(law: _Inversion, p: ArrayLike) -> Array:
    probabilities = np.asarray(p, dtype=np.float64)
    if not np.all((probabilities >= 1e-12) & (probabilities <= 1 - 1e-12)):
        raise ValueError(f"p={p!r}: must lie in [1e-12, 1 - 1e-12]")

    def excess(x: float, target: float) -> float:
        return float(_cdf(law, x)) - target

    low, high = law.center - law.reach, law.center + law.reach
    found = [
        brentq(excess, low, high, args=(target,), xtol=1e-13, rtol=1e-14)
        for target in probabilities.ravel()
    ]
    result: Array = np.array(found).reshape(probabilities.shape)[()]
    return result


def growth_cdf(
    x: ArrayLike, n: int, factors: int, k: int = 1, sigma: float = 1.0, complex: bool = False
) -> Array:
    """P(ln volume of k vectors after L factors <= x), elementwise over ``x``.

    The characteristic function, a product of Gamma functions, inverted by the midpoint rule on
    Gil-Pelaez' integral (Davies 1973, Biometrika 60, 415): absolute error below 1e-13.
    Raises ValueError unless 1 <= k <= n, factors >= 1 and sigma is positive.
    """
    return _cdf(_volume(n, k, factors, float(sigma), complex), x)


def growth_pdf(
    x: ArrayLike, n: int, factors: int, k: int = 1, sigma: float = 1.0, complex: bool = False
) -> Array:
    """The density of the log growth at x, elementwise; as ``growth_cdf``, error below 1e-12."""
    law = _volume(n, k, factors, float(sigma), complex)
    values = numbers("x", x)
    away = values.reshape(-1, 1) - law.center
    waves = law.weighted * np.exp(-1j * np.clip(away, -law.reach, law.reach) * law.t)
    inside = waves.real.sum(axis=1) * (law.t[0] * 2) / math.pi
    found = np.where(np.abs(away[:, 0]) > law.reach, 0.0, np.maximum(inside, 0.0))
    result: Array = found.reshape(values.shape)[()]
    return result


def growth_quantile(
    p: ArrayLike, n: int, factors: int, k: int = 1, sigma: float = 1.0, complex: bool = False
) -> Array:
    """The x with ``growth_cdf(x) = p``, elementwise over 1e-12 <= p <= 1 - 1e-12.

    Raises ValueError if a p lies outside, or as ``growth_cdf``.
    """
    return _quantile(_volume(n, k, factors, float(sigma), complex), p)


# ---- the norm and the largest entry, once the product has rank one in effect ----------------


def norm_growth(n: int, factors: int, sigma: float = 1.0, complex: bool = False) -> LogLaw:
    """Mean and deviation of ln ||P_L|| where P_L has rank one in effect.

    ``rank_one_error`` bounds what that neglects in the mean.  There
    ||P v|| = ||P|| |<v_1, v>| with v_1 Haar and independent, so that the cumulants of
    ln |<v_1, v>|, half those of ln Beta(beta / 2, beta (n - 1) / 2), are subtracted from the exact
    ones of ln ||P v||.  The spectral and the Frobenius norm then are the same.
    Raises ValueError unless n >= 1, factors >= 1 and sigma is positive.
    """
    vector = volume_growth(n, 1, factors, sigma, complex)
    half = 1.0 if complex else 0.5
    share = float(special.digamma(half * n) - special.digamma(half)) / 2
    spread = float(special.polygamma(1, half) - special.polygamma(1, half * n)) / 4
    return LogLaw(vector.mean + share, math.sqrt(max(vector.std**2 - spread, 0.0)))


def rank_one_error(n: int, factors: int, k: int = 1, complex: bool = False) -> float:
    """A bound of E ln(1 + R_(k+1) / R_k): what neglecting sigma_(k+1) / sigma_k costs a mean ln.

    ln(1 + x) <= x^s / s for 0 < s <= 1, and E (R_(k+1) / R_k)^s is a product of Gamma functions to
    the power L; the least over s.  At n = 2, k = 1 it bounds the error of ``norm_growth``, since
    R_2 / R_1 = r / (v_1^2 + r^2 v_2^2) >= r and E ln(1 + r^2 v_2^2 / v_1^2) / 2 = ln(1 + r) for
    r = sigma_2 / sigma_1; at larger n that rests on simulation.
    Raises ValueError unless 1 <= k < n and factors >= 1.
    """
    whole("n", n, 2)
    whole("k", k)
    if k >= n:
        raise ValueError(f"k={k!r}: must lie in [1, n - 1]")
    whole("factors", factors)
    upper, lower = _freedoms(n, k + 1, complex)[-2:] / 2
    s = np.linspace(0.01, 1.0, 100)
    moments = special.gammaln(lower + s / 2) - special.gammaln(lower)
    moments += special.gammaln(upper - s / 2) - special.gammaln(upper)
    return float(np.exp(factors * moments - np.log(s)).min())


@lru_cache(maxsize=64)
def _norm(n: int, factors: int, sigma: float, complex: bool, entry: bool) -> _Inversion:
    law = norm_growth(n, factors, sigma, complex)
    half: Array = (1.0 if complex else 0.5) * np.array([1.0, float(n)])
    first = _freedoms(n, 1, complex) / 2
    offset = factors * _shift(sigma, complex)

    def log_characteristic(t: Array) -> Array:
        one, all_ = (_log_characteristic(t, half[at : at + 1], 1) for at in (0, 1))
        found = _log_characteristic(t, first, factors) + 1j * t * offset + all_ - one
        return found + 2 * _log_largest_component(t, n) if entry else found

    if entry:
        mean, variance = _largest_component(n)
        law = LogLaw(law.mean + 2 * mean, math.hypot(law.std, math.sqrt(2 * variance)))
    return _invert(log_characteristic, law, float(first[0]))


@lru_cache(maxsize=64)
def _component_grid(n: int) -> tuple[Array, Array]:
    """Nodes y and weights of E f(ln max |g_i|), g of n standard Gaussians: (600,) each."""
    x, w = np.polynomial.legendre.leggauss(600)
    low, high = -_NEGLIGIBLE / n - 1.0, math.log(12.0)
    y = low + (high - low) * (x + 1) / 2
    m = np.exp(y)
    log_density = math.log(2 * n / math.sqrt(2 * math.pi)) - m**2 / 2 + y
    log_density += (n - 1) * np.log(special.erf(m / math.sqrt(2)))
    return y, w * (high - low) / 2 * np.exp(log_density)


def _log_largest_component(t: Array, n: int) -> Array:
    """ln E exp(i t ln max |u_i|), u uniform on the sphere: max |g| = ||g|| max |u|, independent."""
    y, weight = _component_grid(n)
    largest = np.exp(1j * t[:, None] * y) @ weight
    radius = _log_characteristic(t, np.array([n / 2]), 1) + 1j * t * math.log(2) / 2
    found: Array = np.log(largest) - radius
    return found


@lru_cache(maxsize=64)
def _largest_component(n: int) -> tuple[float, float]:
    """Mean and variance of ln max |u_i|, u uniform on the sphere of dimension n."""
    y, weight = _component_grid(n)
    mean = float(weight @ y)
    variance = float(weight @ (y - mean) ** 2) - float(special.polygamma(1, n / 2)) / 4
    return mean - (math.log(2) + float(special.digamma(n / 2))) / 2, max(variance, 0.0)


def norm_cdf(
    x: ArrayLike, n: int, factors: int, sigma: float = 1.0, complex: bool = False
) -> Array:
    """P(ln ||P_L|| <= x), elementwise, where P_L has rank one in effect, see ``norm_growth``.

    Raises ValueError as ``norm_growth``.
    """
    return _cdf(_norm(n, factors, float(sigma), complex, False), x)


def entry_cdf(x: ArrayLike, n: int, factors: int, sigma: float = 1.0) -> Array:
    """P(ln max |entry| of P_L <= x) of real factors, elementwise, see ``norm_growth``.

    There P = ||P|| u v^T with independent Haar u and v: three independent logarithms.
    Raises ValueError as ``norm_growth``.
    """
    return _cdf(_norm(n, factors, float(sigma), False, True), x)


def entry_quantile(p: ArrayLike, n: int, factors: int, sigma: float = 1.0) -> Array:
    """The x with ``entry_cdf(x) = p``, elementwise.  Raises ValueError as it, or for p outside."""
    return _quantile(_norm(n, factors, float(sigma), False, True), p)


# ---- passage ---------------------------------------------------------------------------------


def passage_probability(
    n: int,
    factors: int,
    log_limit: float,
    sigma: float = 1.0,
    complex: bool = False,
    *,
    below: bool = False,
) -> Array:
    """P(ln(||P_l v|| / ||v||) has passed ``log_limit`` by factor l) for l = 1..L, shape (L,).

    Upward, or downward with ``below``; 1 if the start, 0, is not before the limit.  The growth is
    a random walk with independent steps
    ln(sigma chi_(beta n) / sqrt(beta)): the density of the paths that have not passed obeys
    g_(l+1)(s) = integral of g_l(u) f(s - u) over u not beyond the limit, solved by Gauss-Legendre
    panels two deviations of a step wide (Nystroem); absolute error below 1e-10.
    Raises ValueError unless n and factors are at least 1, sigma is positive and the limit a number.
    """
    freedom = float(_freedoms(n, 1, complex)[0])
    whole("factors", factors)
    numbers("log_limit", log_limit)
    one = volume_growth(n, 1, 1, sigma, complex)
    sign = -1.0 if below else 1.0
    shift, limit, drift = _shift(sigma, complex), sign * log_limit, sign * one.mean

    def density(y: Array) -> Array:
        """Of a step towards the limit."""
        x = np.clip(sign * y - shift, -700.0, 300.0)
        return np.exp(math.log(2) + freedom * x - np.exp(2 * x) - special.gammaln(freedom / 2))

    def beyond(y: Array) -> Array:
        """P(a step towards the limit is longer than y)."""
        square = np.exp(2 * np.clip(sign * y - shift, -700.0, 300.0))
        tail = special.gammainc if below else special.gammaincc
        share: Array = np.float64(1.0) * tail(freedom / 2, square)
        return share

    passed = np.zeros(factors)
    if limit <= 0:
        return np.ones(factors)
    slack = _NEGLIGIBLE / freedom if below else 0.0
    ahead = np.arange(1, factors + 1)
    reach = ahead * drift + _DEVIATIONS * one.std * np.sqrt(ahead) + slack
    near = np.flatnonzero(reach > limit)
    if not near.size:
        return passed
    first = int(near[0])
    depths = np.arange(first + 1, factors + 1)
    # Below ``low`` no path is, or none comes back from there in the factors that are left.
    lowest = depths * drift - _DEVIATIONS * one.std * np.sqrt(depths)
    low = float(lowest.min()) - (0.0 if below else _NEGLIGIBLE / freedom)
    low = min(max(low, limit - float(reach.max())), limit - one.std)
    panels = max(2, math.ceil((limit - low) / (2 * one.std)))
    x, w = np.polynomial.legendre.leggauss(_NODES)
    width = (limit - low) / panels
    s = (low + width * (np.arange(panels)[:, None] + (x + 1) / 2)).ravel()
    weight = np.tile(w * width / 2, panels)
    kernel = density(s[:, None] - s) * weight
    exits = beyond(limit - s) * weight
    if first == 0:
        paths, total = density(s), float(beyond(np.array(limit)))
    else:
        paths = growth_pdf(sign * s, n, first + 1, 1, sigma, complex)
        law = float(growth_cdf(sign * limit, n, first + 1, 1, sigma, complex))
        total = law if below else 1 - law
    passed[first] = total
    for place in range(first + 1, factors):
        total += float(exits @ paths)
        passed[place] = total
        paths = kernel @ paths
    return np.clip(passed, 0.0, 1.0)


def overflow_probability(
    n: int, factors: int, format: Format, sigma: float = 1.0, complex: bool = False
) -> Array:
    """P(||P_l v|| of a unit v has exceeded the largest number of ``format`` by l), l = 1..L.

    Raises ValueError as ``passage_probability``.
    """
    return passage_probability(n, factors, math.log(format.max), sigma, complex)


def underflow_probability(
    n: int, factors: int, format: Format, sigma: float = 1.0, complex: bool = False
) -> Array:
    """P(||P_l v|| of a unit v has fallen below half the smallest number of ``format`` by l).

    For l = 1..L; then every entry has rounded to 0.  Raises ValueError as ``passage_probability``.
    """
    limit = math.log(format.smallest_subnormal) - math.log(2)
    return passage_probability(n, factors, limit, sigma, complex, below=True)


def overflow_share(n: int, factors: int, format: Format, sigma: float = 1.0) -> Bracket:
    """P(an entry of the real product has exceeded the range of ``format`` by l), l = 1..L.

    An entry is at most as long as its column, and some entry of the first column at least
    1 / sqrt(n) of its length: between the passage of one column above sqrt(n) times the limit, or
    its largest entry's being above the limit at a time (``_column_share``), and n times the passage
    above the limit.  Rounding is neglected.
    Raises ValueError as ``passage_probability``.
    """
    whole("n", n)
    limit = math.log(format.max)
    lower = passage_probability(n, factors, limit + math.log(n) / 2, sigma)
    upper = np.minimum(n * passage_probability(n, factors, limit, sigma), 1.0)
    for place in np.flatnonzero(upper - lower > _CLOSE):
        lower[place] = max(lower[place], _column_share(limit, n, int(place) + 1, sigma))
    lower = np.minimum(np.maximum.accumulate(lower), upper)
    return _bracket(n, lower, upper, lambda at: 1 - float(entry_cdf(limit, n, at, sigma)))


def underflow_share(n: int, factors: int, format: Format, sigma: float = 1.0) -> Bracket:
    """P(all entries of the real product have been subnormal at once by l), l = 1..L.

    Then each column has been shorter than sqrt(n) times the smallest normal number; and they are
    surely so where no column is longer than that number.
    Raises ValueError as ``passage_probability``.
    """
    whole("n", n)
    limit = math.log(format.smallest_normal)
    upper = passage_probability(n, factors, limit + math.log(n) / 2, sigma, below=True)
    longer = np.array([
        1.0 if most == 0 else 1 - float(growth_cdf(limit, n, at, 1, sigma))
        for at, most in enumerate(upper, start=1)
    ])  # fmt: skip
    lower = np.minimum(np.maximum.accumulate(np.maximum(1 - n * longer, 0.0)), upper)
    return _bracket(n, lower, upper, lambda at: float(entry_cdf(limit, n, at, sigma)))


def _column_share(limit: float, n: int, factors: int, sigma: float) -> float:
    """P(ln max |entry| of P_L e_1 > limit), exact: given P_(L-1) its entries are independent."""
    y, weight = _component_grid(n)
    room = limit - math.log(sigma) - y
    short = room > 0 if factors == 1 else growth_cdf(room, n, factors - 1, 1, sigma)
    return float(weight @ (1 - short))


def _bracket(n: int, lower: Array, upper: Array, largest_entry: Callable[[int], float]) -> Bracket:
    """An estimate between the bounds: the law at l of rank one, else their middle.

    Rank one is taken where ``rank_one_error`` is below 1: from n = 4 on simulated shares are within
    0.02 of it there, at n = 2, where products return into the range, 0.05 above.
    """
    predicted = (lower + upper) / 2
    for place in np.flatnonzero(upper - lower > _CLOSE):
        at = int(place) + 1
        if n == 1 or rank_one_error(n, at) < 1:
            predicted[place] = min(max(largest_entry(at), lower[place]), upper[place])
    return Bracket(lower, predicted, upper)


def sample_growth(
    n: int,
    factors: int,
    samples: int,
    rng: np.random.Generator,
    sigma: float = 1.0,
    complex: bool = False,
) -> Array:
    """Log growths of the nested volumes of 1..n vectors after L factors: (samples, n).

    Drawn without a matrix, exact in law: sums of ln of independent chi variables, O(L n) a sample
    where a product takes O(L n^3).
    Raises ValueError unless n, factors and samples are at least 1 and sigma is positive.
    """
    freedoms = _freedoms(n, n, complex)
    whole("factors", factors)
    whole("samples", samples)
    total = np.full((samples, n), factors * _shift(sigma, complex))
    for _ in range(factors):
        total += np.log(rng.standard_gamma(freedoms / 2, (samples, n))) / 2
    return np.cumsum(total, axis=1)
