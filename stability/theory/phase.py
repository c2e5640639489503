"""Fixed points of the mean-field maps: phases, depth scales and the edge of chaos.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2).  ``q``: variance of a preactivation;
``c``: correlation of the preactivations of two inputs.  sigma_w and sigma_b broadcast, and a
ValueError is raised if one is negative or not finite.

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (arXiv 1611.01232).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stability.arguments import nonnegative
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array

_FIXED = 1e-12  # relative change of q that may be rounding
_FINE = 8  # parts of a cell of the grid, 12 % wide, that are looked at near criticality
_GRID = np.concatenate([[0.0], np.logspace(-12, 12, 480 * _FINE + 1)])
_ONE = 240 * _FINE + 1  # where the grid is 1
_FLAT = 0.1  # slope of sigma_w^2 V(q) - q up to which a cell may hold several fixed points
_FAR = 1e100  # where phi' has its limits
_STEPS = 100  # at most, of root finders that take 3 to 20
_ORBIT = 5000  # iterations of a variance map that is not monotone
_SETTLED = 1e-11  # relative step from which a secant step or Newton's leads to rounding
_NEAR = 1e-6  # a c* nearer to 1 is not told from 1

Integers = NDArray[np.intp]


class Phase(NamedTuple):
    """The fixed variance q*, and chi_1 there: below 1 ordered, above 1 chaotic."""

    q: Array
    chi: Array


class DepthScales(NamedTuple):
    """Fixed points of the maps and the depths, in layers, over which they are reached."""

    q: Array
    c: Array
    xi_q: Array
    xi_c: Array


@lru_cache(maxsize=32)
def _tables(activation: Nonlinearity) -> tuple[Array, Array]:
    """V and V' on the grid."""
    return activation.second_moment(_GRID), activation.growth(_GRID)


def _plane(sigma_w: ArrayLike, sigma_b: ArrayLike) -> tuple[Array, Array]:
    w, b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    w2, b2 = np.broadcast_arrays(w**2, b**2)
    return w2, b2


def _hermite(
    x: Array, left: Array, right: Array, values: tuple[Array, Array], slopes: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Value and slope at x of the cubic with these values and slopes at left and right."""
    h = right - left
    t = (x - left) / h
    rise = values[1] - values[0]
    a, b = h * slopes[0] - rise, rise - h * slopes[1]
    bend = (1 - t) * a + t * b
    value = values[0] + t * rise + t * (1 - t) * bend
    return value, (rise + (1 - 2 * t) * bend + t * (1 - t) * (b - a)) / h


def _polish(
    activation: Nonlinearity, w2: Array, b2: Array, cell: tuple[Integers, Integers]
) -> Array:
    """The root of w2 V(q) + b2 - q, positive at the first and negative at the second grid place.

    A secant iteration from the root of the cell's cubic, kept within the bracket.
    """
    moments, growths = _tables(activation)
    low, high = (_GRID[end] for end in cell)
    ends = low, high
    values = w2 * moments[cell[0]] + b2 - low, w2 * moments[cell[1]] + b2 - high
    slopes = w2 * growths[cell[0]] - 1, w2 * growths[cell[1]] - 1
    x = low + (high - low) * values[0] / (values[0] - values[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(4):
            value, slope = _hermite(x, *ends, values, slopes)
            x = np.clip(np.nan_to_num(x - value / slope, posinf=0.0, neginf=0.0), low, high)
    _, slope = _hermite(x, *ends, values, slopes)
    value = w2 * activation.second_moment(x) + b2 - x
    result: Array = x.copy()
    left = np.arange(x.size)
    for _ in range(_STEPS):
        low, high = np.where(value > 0, x, low), np.where(value > 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            following = x - value / slope
        inside = (following >= low) & (following <= high)
        following = np.where(inside, following, (low + high) / 2)
        result[left] = following
        going = ~(inside & (np.abs(following - x) <= _SETTLED * x)) & (following != x)
        if not going.any():
            break
        left, w2, b2, low, high = left[going], w2[going], b2[going], low[going], high[going]
        before, x, old = x[going], following[going], value[going]
        value = w2 * activation.second_moment(x) + b2 - x
        slope = (value - old) / (x - before)
    return result


def _first(activation: Nonlinearity, w2: Array, b2: Array, cell: Integers, sign: int) -> Integers:
    """The place of the cell's fine grid at which the map has first turned back, -1 for none."""
    moments, _ = _tables(activation)
    excess = sign * (w2[:, None] * moments[cell] + b2[:, None] - _GRID[cell])
    turned = excess < -_FIXED * _GRID[cell]
    return np.where(turned.any(axis=1), cell[turned.argmax(axis=1)], -1)


def _walk(activation: Nonlinearity, w2: Array, b2: Array, sign: int, result: Array) -> None:
    """Fill in the fixed points met first from q = 1, upwards (sign 1) or downwards (-1)."""
    moments, growths = _tables(activation)
    active = np.flatnonzero(sign * (w2 * moments[_ONE] + b2 - 1) > _FIXED)
    pairs, places, steps = [], [], []
    place = _ONE
    while active.size and 0 < place < _GRID.size - 1:
        end = max(place + sign * _FINE, 0)
        gain, shift = w2[active], b2[active]
        excess = sign * (gain * moments[end] + shift - _GRID[end])
        met = np.where(excess < -_FIXED * _GRID[end], end, -1)
        width = np.where(met >= 0, abs(end - place), 1)
        slopes = gain * growths[place] - 1, gain * growths[end] - 1
        flat = np.minimum(np.abs(slopes[0]), np.abs(slopes[1])) < _FLAT
        check = np.flatnonzero(np.where(met >= 0, flat, (slopes[0] < 0) & (slopes[1] > 0)))
        if check.size:
            cell = np.arange(place + sign, end + sign, sign)
            met[check] = _first(activation, gain[check], shift[check], cell, sign)
            width[check] = 1
        here = met >= 0
        pairs.append(active[here])
        places.append(met[here])
        steps.append(width[here])
        active, place = active[~here], end
    if pairs:
        found, far = np.concatenate(pairs), np.concatenate(places)
        near = far - sign * np.concatenate(steps)
        ends = (near, far) if sign > 0 else (far, near)
        result[found] = _polish(activation, w2[found], b2[found], ends)


def _orbit(activation: Nonlinearity, w2: Array, b2: Array) -> Array:
    """Where iterating from q = 1 settles, nan where it does not."""
    q = np.ones_like(w2)
    for _ in range(_ORBIT):
        q, before = w2 * activation.second_moment(q) + b2, q
        change = np.abs(q - before) > _FIXED * q
        if not change.any():
            break
    return np.where(change, np.nan, q)


def fixed_point(activation: Nonlinearity, sigma_w: ArrayLike, sigma_b: ArrayLike = 0.0) -> Array:
    """The variance q* that iterating the variance map from q = 1 settles at.

    Of the fixed points, the one met first from 1 in the direction in which the map moves 1; 0 where
    the signal collapses, inf where it diverges.  Where q = 1 is itself fixed (to 1e-12) that is the
    answer: so for ReLU at sigma_w = sqrt(2), where every q is.  Searched on [0, 1e12]; two fixed
    points less than 1.5 % apart may both be passed over, as may the map's touching the diagonal.
    A map that decreases somewhere (none of the catalogue's does) is iterated, nan if 5000 layers do
    not settle; it has no cycles, as sqrt(q) V(q) increases for every phi.
    """
    w2, b2 = _plane(sigma_w, sigma_b)
    shape, w2, b2 = w2.shape, w2.ravel(), b2.ravel()
    moments, growths = _tables(activation)
    if growths.min() < -_FIXED * growths.max():
        return _orbit(activation, w2, b2).reshape(shape)[()]
    start = w2 * moments[_ONE] + b2 - 1
    result = np.where(start > 0, np.inf, 0.0)
    for sign in (1, -1):
        _walk(activation, w2, b2, sign, result)
    return np.where(np.abs(start) <= _FIXED, 1.0, result).reshape(shape)[()]


def phase_diagram(activation: Nonlinearity, sigma_w: ArrayLike, sigma_b: ArrayLike = 0.0) -> Phase:
    """q* and chi_1 = sigma_w^2 E phi'(sqrt(q*) Z)^2: one value a pair of (sigma_w, sigma_b).

    Where q* = inf, chi_1 is its limit, sigma_w^2 (phi'(inf)^2 + phi'(-inf)^2) / 2.
    """
    w2, _ = _plane(sigma_w, sigma_b)
    q = fixed_point(activation, sigma_w, sigma_b)
    finite = np.isfinite(q)
    moment = activation.slope_moment(np.where(finite, q, 0.0))
    beyond = np.mean(activation.dphi(np.array([-_FAR, _FAR])) ** 2)
    chi = w2 * np.where(finite, moment, np.where(np.isnan(q), np.nan, beyond))
    return Phase(q, chi[()])


def gradient_decades(
    activation: Nonlinearity, sigma_w: ArrayLike, sigma_b: ArrayLike = 0.0
) -> Array:
    """log10(chi_1) / 2 at q*: decades by which a gradient's norm grows per layer backwards."""
    with np.errstate(divide="ignore"):
        decades: Array = np.log10(phase_diagram(activation, sigma_w, sigma_b).chi) / 2
    return decades


def fixed_correlation(
    q: ArrayLike, activation: Nonlinearity, sigma_w: ArrayLike, sigma_b: ArrayLike = 0.0
) -> Array:
    """The stable fixed point c* in [0, 1] of the correlation map at its fixed variance ``q``.

    1 in the ordered phase (chi_1 <= 1), below 1 in the chaotic one (Poole et al. 2016);
    a c* within 1e-6 of 1 is not told from 1.  nan where q is not finite and positive.
    Raises ValueError if q is negative.
    """
    w2, b2 = _plane(sigma_w, sigma_b)
    w2, b2, variance = np.broadcast_arrays(w2, b2, np.asarray(q, dtype=np.float64))
    if np.any(variance < 0):
        raise ValueError(f"q={q!r}: must be at least 0")
    shape, w2, b2, variance = variance.shape, w2.ravel(), b2.ravel(), variance.ravel()
    alive = np.isfinite(variance) & (variance > 0)
    c = np.where(alive, 1.0, np.nan)
    left = np.flatnonzero(alive)
    left = left[w2[left] * activation.slope_moment(variance[left]) > 1 + _NEAR]
    c[left] = 0.0
    # The map's Taylor coefficients are nonnegative, so that it is convex on [0, 1]: Newton's
    # iteration from 0 increases to the lesser of its fixed points.
    for _ in range(_STEPS):
        if not left.size:
            break
        v, x, gain = variance[left], c[left], w2[left]
        length = gain * activation.second_moment(v) + b2[left]
        excess = (gain * activation.covariance(v, v, x) + b2[left]) / length - x
        slope = gain * activation.slope_covariance(v, v, x) * v / length - 1
        step = np.maximum(-excess / slope, 0.0)
        c[left] = np.minimum(x + step, 1.0)
        left = left[(step > _SETTLED) & (c[left] < 1 - _NEAR)]
    return np.where(c > 1 - _NEAR, 1.0, c).reshape(shape)[()]


def _scale(rate: Array) -> Array:
    """-1 / ln(rate): 0 where rate is 0, inf where nothing decays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale: Array = np.where(rate < 1, -1 / np.log(rate), np.inf)
    return np.where(np.isnan(rate), np.nan, scale)[()]


def depth_scales(
    activation: Nonlinearity, sigma_w: ArrayLike, sigma_b: ArrayLike = 0.0
) -> DepthScales:
    """The fixed point (q*, c*) and the depth scales xi_q, xi_c in layers.

    1 / xi_q = -ln(chi_1 + sigma_w^2 E phi'' phi) and 1 / xi_c = -ln(sigma_w^2 E phi'(u1) phi'(u2))
    (Schoenholz et al. 2017, eqs. 9 and 14), the slopes of the variance and the correlation map.
    inf at criticality, nan where q* is 0 or infinite.
    """
    w2, _ = _plane(sigma_w, sigma_b)
    q = fixed_point(activation, sigma_w, sigma_b)
    c = fixed_correlation(q, activation, sigma_w, sigma_b)
    alive = ~np.isnan(c)
    v, x = np.where(alive, q, 1.0), np.where(alive, c, 1.0)
    stretch = w2 * activation.growth(v)
    turn = np.where(x == 1, w2 * activation.slope_moment(v), np.nan)
    apart = x < 1
    if np.any(apart):
        turn[apart] = w2[apart] * activation.slope_covariance(v[apart], v[apart], x[apart])
    gone = np.where(alive, 1.0, np.nan)
    return DepthScales(q, c, _scale(stretch * gone), _scale(turn * gone))


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
    return np.sqrt(w2), np.sqrt(np.where(b2 < 0, np.nan, b2))[()]
