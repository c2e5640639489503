"""Fixed points of the mean-field maps: phases, depth scales and the edge of chaos.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2).  ``q``: variance of a preactivation;
``c``: correlation of the preactivations of two inputs.

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (arXiv 1611.01232).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from stability.theory.meanfield import correlation_map, variance_map
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array, nonnegative

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


def fixed_point(activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0) -> float:
    """The variance q* that iterating the variance map from q = 1 settles at.

    0.0 where it collapses, inf where it diverges.  Where q = 1 is itself fixed (to 1e-12) that is
    the answer: so for ReLU at sigma_w = sqrt(2), where every q is.  Searched on [0, 1e12]; the map
    is taken to increase with q.  Raises ValueError if an argument is negative or not finite.
    """
    excess = variance_map(_GRID, activation, sigma_w, sigma_b) - _GRID
    at_one = float(variance_map(1.0, activation, sigma_w, sigma_b)) - 1
    if abs(at_one) <= _FIXED:
        return 1.0
    if at_one > 0:
        above = np.flatnonzero((_GRID > 1) & (excess < -_FIXED * _GRID))
        if above.size == 0:
            return float("inf")
        low, high = max(float(_GRID[above[0] - 1]), 1.0), float(_GRID[above[0]])
    else:
        below = np.flatnonzero((_GRID < 1) & (excess > _FIXED * _GRID))
        if below.size == 0:
            return 0.0
        low, high = float(_GRID[below[-1]]), min(float(_GRID[below[-1] + 1]), 1.0)

    def gap(q: float) -> float:
        return float(variance_map(q, activation, sigma_w, sigma_b)) - q

    return float(brentq(gap, low, high, xtol=1e-300, rtol=1e-14))


def fixed_correlation(
    q: float, activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0
) -> float:
    """The stable fixed point c* in [0, 1] of the correlation map at its fixed variance ``q``.

    1.0 in the ordered phase (chi_1 <= 1), below 1 in the chaotic one (Poole et al. 2016);
    a c* within 1e-6 of 1 is not told from 1.  nan where q is 0 or infinite.
    """
    if q == 0 or q == float("inf"):
        return float("nan")

    def gap(c: float) -> float:
        return float(correlation_map(c, q, activation, sigma_w, sigma_b)) - c

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


def depth_scales(activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0) -> DepthScales:
    """The fixed point (q*, c*) and the depth scales xi_q, xi_c in layers.

    1 / xi_q = -ln(chi_1 + sigma_w^2 E phi'' phi) and 1 / xi_c = -ln(sigma_w^2 E phi'(u1) phi'(u2))
    (Schoenholz et al. 2017); chi_1 + sigma_w^2 E phi'' phi, the slope of the variance
    map, is computed as sigma_w^2 E u phi phi' / q (integration by parts: no second derivative).
    inf at criticality, nan where q* is 0 or infinite.
    """
    q = fixed_point(activation, sigma_w, sigma_b)
    if q == 0 or q == float("inf"):
        nan = float("nan")
        return DepthScales(q, nan, nan, nan)
    c = fixed_correlation(q, activation, sigma_w, sigma_b)
    stretch = sigma_w**2 * float(activation.growth(q))
    turn = sigma_w**2 * float(activation.slope_covariance(q, q, c))
    return DepthScales(q, c, _scale(stretch), _scale(turn))


def critical_line(q: ArrayLike, activation: Nonlinearity) -> tuple[Array, Array]:
    """(sigma_w, sigma_b), each of q's shape, with fixed point q and chi_1 = 1.

    sigma_w^2 = 1 / E phi'^2 and sigma_b^2 = q - sigma_w^2 E phi^2, nan where that is negative
    beyond rounding (the order-to-chaos line of Schoenholz et al. 2017).
    Raises ValueError if q is negative or not finite.
    """
    variance = nonnegative("q", q)
    w2 = 1 / activation.slope_moment(variance)
    b2 = variance - w2 * activation.second_moment(variance)
    b2 = np.where(np.abs(b2) <= _FIXED * variance, 0.0, b2)
    return np.sqrt(w2), np.sqrt(np.where(b2 < 0, np.nan, b2))
