"""How many units saturate, and how activations are distributed, for Gaussian preactivations."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from stability.arguments import finite, nonnegative, numbers, positive
from stability.theory.quadrature import Array


class Bracket(NamedTuple):
    """A lower and an upper bound."""

    low: Array
    high: Array


_SLOPES = {
    "sigmoid": (1 / 6, math.pi**2 / 3 - 2),
    "tanh": (4 / 3, (math.pi**2 / 3 - 2) / 4),
    "erf": (2 * math.sqrt(2 / math.pi), 1 / 4),
    "softsign": (2 / 3, 1.0),
    "hardtanh": (2.0, 1 / 3),
}
"""The integral of phi'(x)^2 over the line, and the mean of x^2 under it."""


def sigmoid_threshold(eps: float) -> float:
    """The |x| beyond which sigmoid'(x) < eps: 2 arccosh(1 / (2 sqrt(eps))), 0 from eps = 1/4.

    From sigmoid'(x) = 1 / (4 cosh^2(x / 2)).  Raises ValueError if eps is not positive.
    """
    positive("eps", eps)
    return 2 * math.acosh(max(0.5 / math.sqrt(eps), 1.0))


def tanh_threshold(eps: float) -> float:
    """The |x| beyond which tanh'(x) < eps: arccosh(1 / sqrt(eps)), 0 from eps = 1.

    From tanh'(x) = 1 / cosh^2(x).  Raises ValueError if eps is not positive.
    """
    positive("eps", eps)
    return math.acosh(max(1 / math.sqrt(eps), 1.0))


def erf_threshold(eps: float) -> float:
    """The |x| beyond which erf'(x) < eps: sqrt(ln(2 / (sqrt(pi) eps))), 0 from eps = 2 / sqrt(pi).

    From erf'(x) = 2 exp(-x^2) / sqrt(pi).  Raises ValueError if eps is not positive.
    """
    positive("eps", eps)
    return math.sqrt(max(math.log(2 / math.sqrt(math.pi)) - math.log(eps), 0.0))


def softsign_threshold(eps: float) -> float:
    """The |x| beyond which softsign'(x) < eps: 1 / sqrt(eps) - 1, 0 from eps = 1.

    From softsign'(x) = (1 + |x|)^-2, which makes it the last to saturate (Glorot & Bengio 2010).
    Raises ValueError if eps is not positive.
    """
    positive("eps", eps)
    return max(1 / math.sqrt(eps) - 1, 0.0)


def sigmoid_slope(x: ArrayLike) -> Array:
    """s (1 - s) = e^-|x| / (1 + e^-|x|)^2, without cancellation, of x's shape.

    Raises ValueError if x is nan.
    """
    decay = np.exp(-np.abs(numbers("x", x)))
    slope: Array = decay / (1 + decay) ** 2
    return slope


def tanh_slope(x: ArrayLike) -> Array:
    """1 - tanh(x)^2 = 4 sigmoid'(2 x), of x's shape.  Raises ValueError if x is nan."""
    return 4 * sigmoid_slope(2 * numbers("x", x))


def share_beyond(threshold: float, q: ArrayLike) -> Array:
    """P(|x| > threshold) under N(0, q): erfc(threshold / sqrt(2 q)), of q's shape.

    1 at threshold 0, and 0 at q = 0 otherwise.
    Raises ValueError if an argument is negative or nan.
    """
    variance = nonnegative("q", q)
    if not threshold >= 0:
        raise ValueError(f"threshold={threshold!r}: must be at least 0")
    if threshold == 0:
        return np.ones_like(variance)
    ratio = np.full_like(variance, np.inf)
    np.divide(threshold, np.sqrt(2 * variance), out=ratio, where=variance > 0)
    share: Array = special.erfc(ratio)
    return share


def sigmoid_saturated(q: ArrayLike, eps: float) -> Array:
    """Share of units with sigmoid' < eps under N(0, q).  Raises ValueError as its parts do."""
    return share_beyond(sigmoid_threshold(eps), q)


def tanh_saturated(q: ArrayLike, eps: float) -> Array:
    """Share of units with tanh' < eps under N(0, q).  Raises ValueError as its parts do."""
    return share_beyond(tanh_threshold(eps), q)


def tanh_above(q: ArrayLike, a: float) -> Array:
    """Share of units with |tanh| > a under N(0, q).  Raises ValueError unless 0 <= a < 1."""
    if not 0 <= a < 1:
        raise ValueError(f"a={a!r}: must be at least 0 and below 1")
    return share_beyond(math.atanh(a), q)


def slope_moment_bounds(name: str, q: ArrayLike) -> Bracket:
    """What saturation leaves of a gradient's square: bounds of E phi'(x)^2, x ~ N(0, q).

    At large q only the density at 0 counts: a / sqrt(2 pi q) from above, and from below that times
    1 - m / (2 q), with a the integral of phi'^2 over the line and m the mean of x^2 under it
    (1 - t <= exp(-t) <= 1).  a = 1/6 for sigmoid, 4/3 for tanh.  Each of q's shape.
    Raises ValueError if the activation does not saturate on both sides, or q is not positive.
    """
    if name not in _SLOPES:
        raise ValueError(f"name={name!r}: must be one of {', '.join(_SLOPES)}")
    variance = nonnegative("q", q)
    if not np.all(variance > 0):
        raise ValueError(f"q={q!r}: must be above 0")
    area, square = _SLOPES[name]
    high = area / np.sqrt(2 * np.pi * variance)
    return Bracket(high * np.maximum(1 - square / (2 * variance), 0.0), high)


def _standardized(x: Array, mu: float, q: float) -> Array:
    positive("q", q)
    finite("mu", mu)
    return (x - mu) / math.sqrt(q)


def _density(z: Array, q: float) -> Array:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi * q)


def sigmoid_cdf(y: ArrayLike, mu: float, q: float) -> Array:
    """P(sigmoid(x) <= y), x ~ N(mu, q): ndtr((logit(y) - mu) / sqrt(q)); 0 and 1 outside [0, 1].

    The logit-normal law (Aitchison & Shen 1980).
    Raises ValueError if q is not positive, mu not finite or y nan.
    """
    inside = np.clip(numbers("y", y), 0, 1)
    share: Array = special.ndtr(_standardized(special.logit(inside), mu, q))
    return share


def sigmoid_pdf(y: ArrayLike, mu: float, q: float) -> Array:
    """The density of sigmoid(x), x ~ N(mu, q): N(logit(y); mu, q) / (y (1 - y)); 0 outside (0, 1).

    Raises ValueError if q is not positive, mu not finite or y nan.
    """
    values = numbers("y", y)
    inside = (values > 0) & (values < 1)
    safe = np.where(inside, values, 0.5)
    density = _density(_standardized(special.logit(safe), mu, q), q) / (safe * (1 - safe))
    return np.where(inside, density, 0.0)


def tanh_cdf(y: ArrayLike, mu: float, q: float) -> Array:
    """P(tanh(x) <= y), x ~ N(mu, q): ndtr((artanh(y) - mu) / sqrt(q)); 0 and 1 outside [-1, 1].

    Raises ValueError if q is not positive, mu not finite or y nan.
    """
    return sigmoid_cdf((numbers("y", y) + 1) / 2, 2 * mu, 4 * q)


def tanh_pdf(y: ArrayLike, mu: float, q: float) -> Array:
    """The density of tanh(x), x ~ N(mu, q): N(artanh(y); mu, q) / (1 - y^2); 0 outside (-1, 1).

    Raises ValueError if q is not positive, mu not finite or y nan.
    """
    return sigmoid_pdf((numbers("y", y) + 1) / 2, 2 * mu, 4 * q) / 2
