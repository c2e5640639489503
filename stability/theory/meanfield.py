"""Mean-field theory of random deep networks: infinite width, Gaussian weights and biases.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2).  ``q``: variance of a preactivation;
``c``: correlation of the preactivations of two inputs.  ``phi``, ``dphi``: the activation and its
derivative, elementwise on float64 arrays; ``kinks``: where the derivative jumps.

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (arXiv 1611.01232).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from stability.theory.quadrature import (
    Array,
    Elementwise,
    expectation,
    expectation2,
    nonnegative,
)

_FIXED = 1e-12  # relative change of q that is rounding: the quadrature keeps 13 digits
_GRID = np.concatenate([[0.0], np.logspace(-12, 12, 481)])
_GAPS = np.logspace(0, -6, 25)  # 1 - c where a second fixed point is looked for
_GAIN = 1e-11  # how far the map must fall below the diagonal to be more than rounding


class DepthScales(NamedTuple):
    """Fixed points of the maps and the depths, in layers, over which they are reached."""

    q: float
    c: float
    xi_q: float
    xi_c: float


def variance_map(
    q: ArrayLike,
    phi: Elementwise,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
    kinks: Sequence[float] = (),
) -> Array:
    """Next layer's q: sigma_w^2 E phi(sqrt(q) Z)^2 + sigma_b^2 (Poole et al. 2016, eq. 3).

    Raises ValueError if an argument is negative or not finite.
    """
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    return w**2 * expectation(lambda u: phi(u) ** 2, q, kinks) + b**2


def chi(q: ArrayLike, dphi: Elementwise, sigma_w: ArrayLike, kinks: Sequence[float] = ()) -> Array:
    """chi_1 = sigma_w^2 E phi'(sqrt(q) Z)^2 (Schoenholz et al. 2017).

    The factor per layer of a squared gradient norm, and the slope of the correlation map at c = 1.
    Raises ValueError if an argument is negative or not finite.
    """
    return nonnegative("sigma_w", sigma_w) ** 2 * expectation(lambda u: dphi(u) ** 2, q, kinks)


def covariance_map(
    q: ArrayLike,
    covariance: ArrayLike,
    phi: Elementwise,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
    kinks: Sequence[float] = (),
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
    return w**2 * expectation2(phi, variance, variance, c, kinks) + b**2


def correlation_map(
    c: ArrayLike,
    q: ArrayLike,
    phi: Elementwise,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike = 0.0,
    kinks: Sequence[float] = (),
) -> Array:
    """Next layer's correlation of two inputs of variance q and correlation c.

    covariance_map / variance_map (Poole et al. 2016, eq. 5, at equal lengths); nan where the next
    layer's variance is 0.  Raises ValueError if \\|c\\| > 1, or an argument is out of range.
    """
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    covariance = w**2 * expectation2(phi, q, q, c, kinks) + b**2
    variance = variance_map(q, phi, w, b, kinks)
    ratio = np.divide(
        covariance,
        variance,
        out=np.full(np.broadcast(covariance, variance).shape, np.nan),
        where=np.asarray(variance) > 0,
    )
    clipped: Array = np.clip(ratio, -1.0, 1.0)
    return clipped


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"depth={depth!r}: must be at least 1")


def variances(
    depth: int,
    q1: float,
    phi: Elementwise,
    sigma_w: float,
    sigma_b: float = 0.0,
    kinks: Sequence[float] = (),
) -> Array:
    """q^1 ... q^depth, shape (depth,), from the first layer's q1; inf from where q overflows.

    Raises ValueError if depth < 1, or an argument is negative or not finite.
    """
    _check_depth(depth)
    values = np.full(depth, np.inf)
    values[0] = nonnegative("q1", q1)
    with np.errstate(over="ignore"):
        for layer in range(1, depth):
            following = variance_map(values[layer - 1], phi, sigma_w, sigma_b, kinks)
            if not np.isfinite(following):
                break
            values[layer] = following
    return values


def correlations(
    depth: int,
    q1: float,
    c1: float,
    phi: Elementwise,
    sigma_w: float,
    sigma_b: float = 0.0,
    kinks: Sequence[float] = (),
) -> Array:
    """c^1 ... c^depth, shape (depth,), of two inputs whose first layer has variance q1 each.

    The variance changes along; nan from where it is 0 or overflows.
    Raises ValueError if depth < 1, \\|c1\\| > 1, or an argument is negative or not finite.
    """
    lengths = variances(depth, q1, phi, sigma_w, sigma_b, kinks)
    if not abs(c1) <= 1:
        raise ValueError(f"c1={c1!r}: must lie in [-1, 1]")
    values = np.full(depth, np.nan)
    values[0] = c1
    for layer in range(1, depth):
        if not np.isfinite(lengths[layer]) or np.isnan(values[layer - 1]):
            break
        values[layer] = correlation_map(
            values[layer - 1], lengths[layer - 1], phi, sigma_w, sigma_b, kinks
        )
    return values


def fixed_point(
    phi: Elementwise, sigma_w: float, sigma_b: float = 0.0, kinks: Sequence[float] = ()
) -> float:
    """The variance q* that iterating the variance map from q = 1 settles at.

    0.0 where it collapses, inf where it diverges.  Where q = 1 is itself fixed (to 1e-12) that is
    the answer: so for ReLU at sigma_w = sqrt(2), where every q is.  Searched on [0, 1e12]; the map
    is taken to increase with q.  Raises ValueError if an argument is negative or not finite.
    """
    excess = variance_map(_GRID, phi, sigma_w, sigma_b, kinks) - _GRID
    at_one = float(variance_map(1.0, phi, sigma_w, sigma_b, kinks)) - 1
    if abs(at_one) <= _FIXED:
        return 1.0
    if at_one > 0:
        above = np.flatnonzero((_GRID > 1) & (excess <= 0))
        if above.size == 0:
            return float("inf")
        low, high = max(float(_GRID[above[0] - 1]), 1.0), float(_GRID[above[0]])
    else:
        below = np.flatnonzero((_GRID < 1) & (excess > 0))
        if below.size == 0:
            return 0.0
        low, high = float(_GRID[below[-1]]), min(float(_GRID[below[-1] + 1]), 1.0)

    def gap(q: float) -> float:
        return float(variance_map(q, phi, sigma_w, sigma_b, kinks)) - q

    return float(brentq(gap, low, high, xtol=1e-300, rtol=1e-14))


def fixed_correlation(
    q: float,
    phi: Elementwise,
    sigma_w: float,
    sigma_b: float = 0.0,
    kinks: Sequence[float] = (),
) -> float:
    """The stable fixed point c* in [0, 1] of the correlation map at its fixed variance ``q``.

    1.0 in the ordered phase (chi_1 <= 1), below 1 in the chaotic one (Poole et al. 2016);
    a c* within 1e-6 of 1 is not told from 1.  nan where q is 0 or infinite.
    """
    if q == 0 or q == float("inf"):
        return float("nan")

    def gap(c: float) -> float:
        return float(correlation_map(c, q, phi, sigma_w, sigma_b, kinks)) - c

    # The map's Taylor coefficients are nonnegative: it is convex on [0, 1] and meets the diagonal
    # below 1 at most once.
    low = 0.0
    if gap(low) <= _GAIN:
        return low if gap(0.5) < -_GAIN else 1.0
    for distance in _GAPS[1:]:
        high = float(1 - distance)
        if gap(high) < -_GAIN:
            return float(brentq(gap, low, high, xtol=1e-14, rtol=1e-14))
        low = high
    return 1.0


def _scale(rate: float) -> float:
    """-1 / ln(rate): 0 where rate is 0, inf where nothing decays."""
    if rate <= 0:
        return 0.0
    return float("inf") if rate >= 1 else -1 / float(np.log(rate))


def depth_scales(
    phi: Elementwise,
    dphi: Elementwise,
    sigma_w: float,
    sigma_b: float = 0.0,
    kinks: Sequence[float] = (),
) -> DepthScales:
    """The fixed point (q*, c*) and the depth scales xi_q, xi_c in layers.

    1 / xi_q = -ln(chi_1 + sigma_w^2 E phi'' phi) and 1 / xi_c = -ln(sigma_w^2 E phi'(u1) phi'(u2))
    (Schoenholz et al. 2017); chi_1 + sigma_w^2 E phi'' phi, the slope of the variance
    map, is computed as sigma_w^2 E u phi phi' / q (integration by parts: no second derivative).
    inf at criticality, nan where q* is 0 or infinite.
    """
    q = fixed_point(phi, sigma_w, sigma_b, kinks)
    if q == 0 or q == float("inf"):
        nan = float("nan")
        return DepthScales(q, nan, nan, nan)
    c = fixed_correlation(q, phi, sigma_w, sigma_b, kinks)
    stretch = sigma_w**2 * float(expectation(lambda u: u * phi(u) * dphi(u), q, kinks)) / q
    turn = sigma_w**2 * float(expectation2(dphi, q, q, c, kinks))
    return DepthScales(q, c, _scale(stretch), _scale(turn))


def critical_line(
    q: ArrayLike, phi: Elementwise, dphi: Elementwise, kinks: Sequence[float] = ()
) -> tuple[Array, Array]:
    """(sigma_w, sigma_b), each of q's shape, with fixed point q and chi_1 = 1.

    sigma_w^2 = 1 / E phi'^2 and sigma_b^2 = q - sigma_w^2 E phi^2, nan where that is negative
    beyond rounding (the order-to-chaos line of Schoenholz et al. 2017).
    Raises ValueError if q is negative or not finite.
    """
    variance = nonnegative("q", q)
    w2 = 1 / expectation(lambda u: dphi(u) ** 2, variance, kinks)
    b2 = variance - w2 * expectation(lambda u: phi(u) ** 2, variance, kinks)
    b2 = np.where(np.abs(b2) <= _FIXED * variance, 0.0, b2)
    return np.sqrt(w2), np.sqrt(np.where(b2 < 0, np.nan, b2))
