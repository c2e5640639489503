"""Mean-field theory of random deep networks: infinite width, Gaussian weights and biases.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2).  ``q``: variance of a preactivation;
``c``: correlation of the preactivations of two inputs.

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (arXiv 1611.01232).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import correlation, nonnegative, positive, positives, whole
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array

LARGEST = 1e12
"""A variance beyond which an activation's moments have reached their limit."""


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


def variance_behind(q1: ArrayLike, activation: Nonlinearity, gains: Sequence[float]) -> Array:
    """q behind further layers of sigma_w = ``gains`` without biases, from q1 and of its shape.

    The variance map (Poole et al. 2016, eq. 3) layer by layer; a q above 1e12 counts as that.
    Raises ValueError if q1 is negative or not finite, or a gain not finite and positive.
    """
    q = nonnegative("q1", q1)
    for gain in positives("gains", np.asarray(gains, dtype=np.float64)):
        q = variance_map(np.minimum(q, LARGEST), activation, gain)
    return np.asarray(q)


def log_gradients(log_chi: ArrayLike) -> Array:
    """Logarithms of |dL/dh^l|^2 / |dL/dh^L|^2 for l = 1..L, shape (L,): sums over the layers above.

    ``log_chi``: of chi_1, (L - 1,), to any base: at layers 2..L for gradients of h, at 1..L-1 for
    those of z (Schoenholz et al. 2017, sec. 3).  Infinities and nans pass to the layers below.
    Raises ValueError unless it is a row.
    """
    steps = np.asarray(log_chi, dtype=np.float64)
    if steps.ndim != 1:
        raise ValueError(f"log_chi of shape {steps.shape}: must be a row")
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])


def gradient_rate(log_chi: ArrayLike) -> float:
    """Logarithm of a gradient norm's mean factor a layer: half the mean of those of chi_1.

    Of any base; infinities and nans pass.  Raises ValueError unless there is one layer or more.
    """
    steps = np.asarray(log_chi, dtype=np.float64)
    if not steps.size:
        raise ValueError("log_chi: must be at least one")
    return float(steps.mean() / 2)


def log10_weight_gradients(
    q: ArrayLike, activation: Nonlinearity, sigma_w: float, width: int
) -> Array:
    """log10 of |dL/dW^l|^2 / |dL/dh^L|^2 for l = 1..L of variances ``q``, (L,), of q's shape.

    |dL/dW^l|^2 = |dL/dz^l|^2 |h^(l-1)|^2 (Glorot & Bengio 2010, eq. 6), where |dL/dz^l|^2 is
    E phi'^2 |dL/dh^l|^2 and |h^(l-1)|^2 = n E phi^2 a layer below, n for the input.
    Raises ValueError unless q is a row, finite and not negative, sigma_w finite and positive, and
    the width whole and at least 1.
    """
    variance = nonnegative("q", q)
    if variance.ndim != 1:
        raise ValueError(f"q of shape {variance.shape}: must be a row")
    positive("sigma_w", sigma_w)
    whole("width", width)
    below = np.concatenate([[1.0], activation.second_moment(variance)[:-1]])
    with np.errstate(divide="ignore"):
        steps = np.log10(chi(variance, activation, sigma_w))
        signal = np.log10(width * below)
    gradients: Array = log_gradients(steps[1:]) + steps - 2 * math.log10(sigma_w) + signal
    return gradients
