"""Mean-field theory of random deep networks: infinite width, Gaussian weights and biases.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2).  ``q``: variance of a preactivation;
``c``: correlation of the preactivations of two inputs.

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (arXiv 1611.01232).
"""

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import correlation, nonnegative, whole
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array


def variance_map(
    q: ArrayLike,
    activation: Nonlinearity,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
) -> Array:
    """Next layer's q: sigma_w^2 E phi(sqrt(q) Z)^2 + sigma_b^2 (Poole et al. 2016, eq. 3).

    Raises ValueError if an argument is negative or not finite.
    """
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    return w**2 * activation.second_moment(q) + b**2


def chi(q: ArrayLike, activation: Nonlinearity, sigma_w: ArrayLike) -> Array:
    """chi_1 = sigma_w^2 E phi'(sqrt(q) Z)^2 (Schoenholz et al. 2017).

    The factor per layer of a squared gradient norm, and the slope of the correlation map at c = 1.
    Raises ValueError if an argument is negative or not finite.
    """
    return nonnegative("sigma_w", sigma_w) ** 2 * activation.slope_moment(q)


def covariance_map(
    q: ArrayLike,
    covariance: ArrayLike,
    activation: Nonlinearity,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
) -> Array:
    """Next layer's covariance, sigma_w^2 E phi(u1) phi(u2) + sigma_b^2 (Poole et al. 2016, eq. 5).

    Both inputs have variance q.  Raises ValueError if \\|covariance\\| > q, or an argument is
    negative (covariance may be) or not finite.
    """
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    variance = nonnegative("q", q)
    shared = np.asarray(covariance, dtype=np.float64)
    if not np.all(np.abs(shared) <= variance):
        raise ValueError(f"covariance={covariance!r}: must lie in [-q, q]")
    c = np.clip(shared / np.where(variance > 0, variance, 1.0), -1.0, 1.0)
    return w**2 * activation.covariance(variance, variance, c) + b**2


def correlation_map(
    c: ArrayLike,
    q: ArrayLike,
    activation: Nonlinearity,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
) -> Array:
    """Next layer's correlation of two inputs of variance q and correlation c.

    covariance_map / variance_map (Poole et al. 2016, eq. 5, at equal lengths); nan where the next
    layer's variance is 0.  Raises ValueError if \\|c\\| > 1, or an argument is out of range.
    """
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    variance = variance_map(q, activation, w, b)
    covariance = w**2 * activation.covariance(q, q, c) + b**2
    ratio = np.divide(
        covariance,
        variance,
        out=np.full(np.broadcast(covariance, variance).shape, np.nan),
        where=np.asarray(variance) > 0,
    )
    clipped: Array = np.clip(ratio, -1.0, 1.0)
    return clipped


def variances(
    depth: int,
    q1: float,
    activation: Nonlinearity,
    sigma_w: float,
    sigma_b: float = 0.0,
) -> Array:
    """q^1 ... q^depth, shape (depth,), from the first layer's q1; inf from where q overflows.

    Raises ValueError if depth < 1, or an argument is negative or not finite.
    """
    whole("depth", depth)
    values = np.full(depth, np.inf)
    values[0] = nonnegative("q1", q1)
    with np.errstate(over="ignore"):
        for layer in range(1, depth):
            following = variance_map(values[layer - 1], activation, sigma_w, sigma_b)
            if not np.isfinite(following):
                break
            values[layer] = following
    return values


def correlations(
    depth: int,
    q1: float,
    c1: float,
    activation: Nonlinearity,
    sigma_w: float,
    sigma_b: float = 0.0,
) -> Array:
    """c^1 ... c^depth, shape (depth,), of two inputs whose first layer has variance q1 each.

    The variance changes along; nan from where it is 0 or overflows.
    Raises ValueError if depth < 1, \\|c1\\| > 1, or an argument is negative or not finite.
    """
    lengths = variances(depth, q1, activation, sigma_w, sigma_b)
    values = np.full(depth, np.nan)
    values[0] = correlation("c1", c1)
    for layer in range(1, depth):
        if not np.isfinite(lengths[layer]) or np.isnan(values[layer - 1]):
            break
        values[layer] = correlation_map(
            values[layer - 1], lengths[layer - 1], activation, sigma_w, sigma_b
        )
    return values
