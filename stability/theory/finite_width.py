"""Exact laws of the signal's size in random networks of finite width.

For Gaussian weights without biases and phi(z) = z (z > 0), slope z (z < 0), the layers' factors of
the mean square ||h||^2 / n are independent whatever the input: (sigma_w^2 / n) (A + slope^2 B) with
A ~ chi^2_K, B ~ chi^2_(n - K), K ~ Binomial(n, 1/2) units on the positive side and n the layer's
own width (Hanin & Nica 2020, Commun. Math. Phys. 376, arXiv 1812.05994, for ReLU).

A + B ~ chi^2_n is independent of the share A / (A + B), which is Beta(K / 2, (n - K) / 2).  So the
factor is sigma_w^2 chi^2_n / n times a share in [slope^2, 1]; its law is all that needs numbers.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import brentq

from stability.arguments import Array, finite, numbers, positive, whole

Complex = NDArray[np.complex128]

_NEGLIGIBLE = 1e-18  # of a probability: what the laws below leave out
_LOGITS = 80.0  # the share of the smallest Beta's mass beyond is exp(-40)


class LogNorm(NamedTuple):
    """Mean and variance of one layer's increment of ln(||h||^2 / n)."""

    mean: float
    variance: float


class _Shares(NamedTuple):
    """Law of the logarithm of the share, given that one unit is alive: values and their masses."""

    log: Array
    mass: Array


class _Inversion(NamedTuple):
    """Frequencies t and exp(-i t center) E exp(i t X) / t: X is ln(||h^L||^2 / ||x||^2), alive."""

    center: float
    reach: float
    t: Array
    over_t: Complex


def keeping_gain(slope: float = 0.0) -> float:
    """The sigma_w that keeps the mean square, sqrt(2 / (1 + slope^2)): He et al. 2015, eq. 15.

    Raises ValueError if the slope is not finite.
    """
    finite("slope", slope)
    return math.sqrt(2) / math.hypot(1.0, slope)


def linear_log_norm(width: int, sigma_w: float = 1.0) -> LogNorm:
    """A linear layer's: mean psi(n/2) + ln(2 sigma_w^2 / n), variance psi_1(n/2).

    Weights of variance sigma_w^2 / fan_in, by default LeCun's.
    Raises ValueError if width < 1 or sigma_w is not positive.
    """
    whole("width", width)
    positive("sigma_w", sigma_w)
    mean = float(special.digamma(width / 2)) + math.log(2 / width) + 2 * math.log(sigma_w)
    return LogNorm(mean, float(special.polygamma(1, width / 2)))


@lru_cache(maxsize=256)
def relu_log_norm(width: int, sigma_w: float = math.sqrt(2)) -> LogNorm:
    """A ReLU layer's, given that at least one unit is active: the mixture over Binomial(n, 1/2).

    Mean E[psi(K/2)] + ln(2 sigma_w^2 / n), variance E[psi_1(K/2)] + Var[psi(K/2)], K >= 1.
    Weights of variance sigma_w^2 / fan_in, by default He's.
    Raises ValueError if width < 1 or sigma_w is not positive.
    """
    whole("width", width)
    positive("sigma_w", sigma_w)
    active = np.arange(1, width + 1, dtype=np.float64)
    mass = np.exp(_log_binomial(active, width))
    mass /= mass.sum()
    level = special.digamma(active / 2)
    mean = float(mass @ level)
    variance = float(mass @ (special.polygamma(1, active / 2) + (level - mean) ** 2))
    return LogNorm(mean + math.log(2 / width) + 2 * math.log(sigma_w), variance)


def leaky_log_norm(width: int, slope: float, sigma_w: float | None = None) -> LogNorm:
    """A leaky ReLU layer's, exact: psi(n/2) + ln(2 sigma_w^2 / n) + E ln T, psi_1(n/2) + Var ln T.

    T: the share slope^2 + (1 - slope^2) Beta(K/2, (n - K)/2), K ~ Binomial(n, 1/2), integrated by
    the trapezoidal rule in the Beta's logit, where the integrand is analytic: absolute error below
    1e-13.  Weights of variance sigma_w^2 / fan_in, by default what keeps the mean square.
    At slope 0 and 1 the ReLU's and the linear layer's.
    Raises ValueError if width < 1, the slope is not finite or sigma_w is not positive.
    """
    linear = linear_log_norm(width, keeping_gain(slope) if sigma_w is None else sigma_w)
    shares = _shares(width, slope)
    mean = float(shares.mass @ shares.log)
    spread = float(shares.mass @ (shares.log - mean) ** 2)
    return LogNorm(linear.mean + mean, linear.variance + spread)


def log_norm_cdf(
    x: ArrayLike, width: int, depth: int, slope: float = 0.0, sigma_w: float | None = None
) -> Array:
    """P(ln(||h^L||^2 / ||x||^2) <= x) of ``depth`` layers of one width, elementwise over ``x``.

    Exact law: the characteristic function of one layer, E chi^2_n^(it) E T^(it), to the power of
    the depth, inverted by the midpoint rule on Gil-Pelaez' integral (Davies 1973, Biometrika 60,
    415); absolute error below 1e-11.  A ReLU network that is dead counts as minus infinity.
    ``slope`` 0: ReLU, 1: linear.  ``sigma_w``: by default what keeps the mean square.
    Raises ValueError if width or depth < 1, the slope is not finite, sigma_w is not positive or an
    x is nan.
    """
    law = _inversion(width, depth, slope, keeping_gain(slope) if sigma_w is None else sigma_w)
    dead = dead_probability(width, depth) if slope == 0 else 0.0
    values = numbers("x", x)
    away = values.reshape(-1, 1) - law.center
    waves = np.exp(-1j * np.clip(away, -law.reach, law.reach) * law.t)
    step = law.t[0] * 2
    alive = 0.5 - (waves * law.over_t).imag.sum(axis=-1) * step / math.pi
    alive = np.where(np.abs(away[:, 0]) > law.reach, away[:, 0] > 0, np.clip(alive, 0, 1))
    result: Array = (dead + (1 - dead) * alive).reshape(values.shape)[()]
    return result


def log_norm_quantiles(
    p: ArrayLike, width: int, depth: int, slope: float = 0.0, sigma_w: float | None = None
) -> Array:
    """The quantiles of ln(||h^L||^2 / ||x||^2) at ``p``: the inverse of ``log_norm_cdf``.

    Minus infinity where p is at most the probability that a ReLU network is dead.  The error of p
    is that of ``log_norm_cdf``.  Raises ValueError unless 0 < p < 1, and as that function does.
    """
    law = _inversion(width, depth, slope, keeping_gain(slope) if sigma_w is None else sigma_w)
    dead = dead_probability(width, depth) if slope == 0 else 0.0
    levels = np.asarray(p, dtype=np.float64)
    if not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"p={p!r}: must lie in (0, 1)")
    low, high = law.center - law.reach, law.center + law.reach

    def quantile(level: float) -> float:
        if level <= dead:
            return -math.inf

        def excess(x: float) -> float:
            return float(log_norm_cdf(x, width, depth, slope, sigma_w)) - level

        return float(brentq(excess, low, high, xtol=1e-13, rtol=1e-13))

    result: Array = np.reshape([quantile(float(x)) for x in levels.ravel()], levels.shape)[()]
    return result


def log_normal_coefficient(slope: float = 0.0) -> float:
    """c(a) = 6 (1 + a^4) / (1 + a^2)^2 - 1 for a leaky ReLU of slope a: 5 for ReLU, 2 if linear.

    The relative variance of one layer's factor times its width, E h^4 / (E h^2)^2 - 1 of one unit,
    where the gain keeps the mean square.  Raises ValueError if the slope is not finite.
    """
    finite("slope", slope)
    # The same for a and 1/a: kept to the one of them that cannot overflow.
    square = min(abs(slope), 1 / abs(slope)) ** 2 if slope else 0.0
    return 6 * (1 + square**2) / (1 + square) ** 2 - 1


def log_normal_variance(widths: Sequence[int], slope: float = 0.0) -> float:
    """beta = c(a) sum 1 / n_l: at large width ln(||h||^2 / n) ~ N(-beta / 2, beta).

    Hanin & Nica 2020, for a gain that keeps the mean square, over hidden ``widths``.
    Raises ValueError if a width is below 1.
    """
    for width in widths:
        whole("widths", width)
    return log_normal_coefficient(slope) * math.fsum(1 / width for width in widths)


def mean_fourth_power(widths: Sequence[int], slope: float = 0.0) -> float:
    """E (||h^L||^2 / n)^2 over its start, exact: prod (1 + c(a) / n_l) where the gain keeps E h^2.

    Hanin 2018 (arXiv 1801.03744): 1 + 5 / n a layer for ReLU under He's initialization.
    Raises ValueError if a width is below 1 or the slope is not finite.
    """
    for width in widths:
        whole("widths", width)
    coefficient = log_normal_coefficient(slope)
    return math.exp(math.fsum(math.log1p(coefficient / width) for width in widths))


def dead_probability(width: int, depth: int) -> float:
    """1 - (1 - 2^-n)^L: a ReLU network without biases maps a given input to exactly 0.

    In each of L layers of width n all units are inactive with probability 2^-n, independently
    (cf. Lu et al. 2019, arXiv 1903.06733, who bound the case of all inputs).
    Raises ValueError if width < 1 or depth < 0.
    """
    whole("width", width)
    whole("depth", depth, 0)
    if width == 1 and depth == 0:
        return 0.0
    return -math.expm1(depth * math.log1p(-math.ldexp(1, -width)))


def _log_binomial(count: Array, width: int) -> Array:
    """ln P(K = count), K ~ Binomial(width, 1/2)."""
    log_mass: Array = (
        -special.betaln(count + 1, width - count + 1) - math.log(width + 1) - width * math.log(2)
    )
    return log_mass


def _logit_density(v: Array, width: int) -> Array:
    """Density of the logit of Beta(K/2, (n - K)/2), 0 < K < n: its mass is 1 - 2^(1 - n)."""
    count = np.arange(1, width, dtype=np.float64)
    log_mass = _log_binomial(count, width)
    kept = log_mass > math.log(_NEGLIGIBLE / width)
    a, log_mass = count[kept] / 2, log_mass[kept]
    b = width / 2 - a
    up, down = special.log_expit(v), special.log_expit(-v)
    density = np.zeros_like(v)
    for start in range(0, v.size, 1024):
        part = slice(start, start + 1024)
        log_beta = np.multiply.outer(up[part], a) + np.multiply.outer(down[part], b)
        density[part] = np.exp(log_beta - special.betaln(a, b) + log_mass).sum(axis=-1)
    return density


@lru_cache(maxsize=64)
def _shares(width: int, slope: float) -> _Shares:
    """The share A + slope^2 B over A + B; for slope 0 given that A is not 0."""
    whole("width", width)
    finite("slope", slope)
    flip = 2 * math.log(abs(slope)) if abs(slope) > 1 else 0.0
    square = min(abs(slope), 1 / abs(slope)) ** 2 if slope else 0.0
    if square == 1:
        return _Shares(np.zeros(1), np.ones(1))
    steps = np.geomspace(1e-3, _LOGITS, 80)
    heavy = np.flatnonzero(_logit_density(steps, width) > _NEGLIGIBLE)
    span = steps[min(heavy[-1] + 1, steps.size - 1)] if heavy.size else 1.0
    spacing = min(0.125, 0.5 / math.sqrt(width))
    count = math.ceil(span / spacing)
    v = spacing * np.arange(-count, count + 1)
    logs = np.log(square + (1 - square) * special.expit(v))
    mass = spacing * _logit_density(v, width)
    alone = math.ldexp(1.0, -width)
    logs, mass = np.append(logs, 0.0), np.append(mass, alone)
    if square > 0:
        logs, mass = np.append(logs, math.log(square)), np.append(mass, alone)
    return _Shares(logs + flip, mass / mass.sum())


@lru_cache(maxsize=64)
def _inversion(width: int, depth: int, slope: float, sigma_w: float) -> _Inversion:
    """The characteristic function at the midpoints t that the law's spread asks for.

    Spaced by half a turn over twice the reach, beyond which Chernoff's bound leaves 1e-18 on each
    side; up to where the function itself has fallen below 1e-18.
    """
    whole("depth", depth)
    law = leaky_log_norm(width, slope, sigma_w)
    shares = _shares(width, slope)
    shift = math.log(2 / width) + 2 * math.log(sigma_w)

    def log_moment(power: Complex) -> Complex:
        """ln E X^power of one layer, complex powers of real part above -1/2."""
        gamma = special.loggamma(width / 2 + power) - special.loggamma(width / 2)
        share = np.exp(np.multiply.outer(power, shares.log)) @ shares.mass
        total: Complex = gamma + power * shift + np.log(share)
        return total

    center = depth * law.mean
    powers = np.concatenate([-np.geomspace(1e-3, 0.49, 25), np.geomspace(1e-3, 20.0, 60)])
    bounds = (
        depth * log_moment(powers.astype(np.complex128)).real
        - powers * center
        - math.log(_NEGLIGIBLE)
    ) / (np.abs(powers))
    reach = float(max(bounds[powers < 0].min(), bounds[powers > 0].min()))
    step = math.pi / reach
    t: list[Array] = []
    values: list[Complex] = []
    start = 0
    while not values or np.abs(values[-1][-1]) > _NEGLIGIBLE:
        block = np.asarray(step * (np.arange(start, start + 256) + 0.5), dtype=np.float64)
        power = block.astype(np.complex128) * 1j
        values.append(np.exp(depth * log_moment(power) - power * center))
        t.append(block)
        start += 256
    nodes = np.concatenate(t)
    return _Inversion(center, reach, nodes, np.concatenate(values) / nodes)
