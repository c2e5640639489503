"""Expectations of functions of Gaussians, to near machine precision at every variance.

Gauss-Hermite rules fail where mean-field theory needs them: at large variance a sigmoidal function
is a step on the scale of the Gaussian, and kinks cost all but two digits.  Here the line is cut at
the origin and at the kinks; on either side of a cut the substitution ``z = cut +- a sinh t``, with
``a`` the narrowest scale there, makes the integrand smooth in t, where Gauss-Legendre converges
geometrically.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import Array, correlation, nonnegative, positive

Elementwise = Callable[[Array], Array]

_REACH = 10.0  # P(|Z| > 10) = 1.5e-23
_PANEL = 6.0  # greatest length of a panel in t
_DENSITY, _ENDS = 10, 8  # nodes to a unit of t, and more to a panel: 1e-14 for what is tested
_NARROWEST = 1e-8  # of the pairs' scales: sqrt(2 (1 - c)) for the largest double c below 1
_BLOCK = 1 << 17  # numbers held at once: what a core's cache holds


@lru_cache(maxsize=64)
def _legendre(panels: int, nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1], ``nodes`` on each of ``panels`` equal parts."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (
        ((np.arange(panels)[:, None] + (x + 1) / 2) / panels).ravel(),
        np.tile(w / (2 * panels), panels),
    )


def _order(narrowest: float) -> tuple[int, int]:
    """Panels, and nodes to each, that the range takes where its scale is ``narrowest``."""
    span = math.asinh(_REACH / narrowest)
    panels = math.ceil(span / _PANEL)
    return panels, math.ceil(_DENSITY * span / panels) + _ENDS


def _octaves(narrowest: Array) -> Array:
    """The powers of 2 at or below the scales: values share a rule, whatever others there are."""
    return np.exp2(np.floor(np.log2(narrowest)))


def _rule(cuts: Array, scale: Array, order: tuple[int, int]) -> tuple[Array, Array]:
    """Nodes and weights, each (..., 2 K panels nodes), with sum w g(z) = E g(Z).

    ``cuts`` (..., K), ascending: where g may be rough; ``scale`` (...): the width of its features.
    """
    x, w = _legendre(*order)
    cuts = np.clip(cuts, -_REACH, _REACH)
    edge = np.full_like(cuts[..., :1], _REACH)
    middle = (cuts[..., 1:] + cuts[..., :-1]) / 2
    lengths = np.stack(
        [
            cuts - np.concatenate([-edge, middle], axis=-1),
            np.concatenate([middle, edge], axis=-1) - cuts,
        ],
        axis=-1,
    )
    a = scale[..., None, None, None]
    span = np.arcsinh(lengths[..., None] / a)
    t = span * x
    side = np.array([-1.0, 1.0])[:, None]
    z = cuts[..., None, None] + side * a * np.sinh(t)
    weight = span * w * a * np.cosh(t) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    flat = (*cuts.shape[:-1], -1)
    return z.reshape(flat), weight.reshape(flat)


def _cuts(kinks: Sequence[float]) -> Array:
    """The kinks and the origin, where functions of |z| are rough, ascending."""
    if not np.all(np.isfinite(kinks)):
        raise ValueError(f"kinks={kinks!r}: must be finite")
    return np.array(sorted({0.0, *kinks}))


def _at_scale(cuts: Array, mean: Array, deviation: Array) -> Array:
    """Where ``mean + deviation z`` meets the cuts: (..., K); far outside where it never does."""
    distance = cuts - mean[..., None]
    far = np.copysign(2 * _REACH, distance)
    safe = np.maximum(deviation[..., None], np.abs(distance) / (2 * _REACH))
    return np.where(distance == 0, 0.0, np.divide(distance, safe, out=far, where=safe > 0))


def expectation(
    f: Elementwise, q: ArrayLike, kinks: Sequence[float] = (), scale: float = 1.0
) -> Array:
    """E f(sqrt(q) Z) with Z ~ N(0, 1), elementwise over ``q``.

    ``f``: elementwise on float64 arrays, with features no narrower than ``scale`` apart from jumps
    of itself or its derivatives at ``kinks`` and at 0, growing at most like a power; its features
    lie about those points (for what oscillates out to
    infinity there is ``wave_expectation``).
    For the squares of the catalogue's activations and of their derivatives the relative error is
    below 1e-10 for q from 1e-8 to 1e4; at q = 0 the value is f(0), and what overflows is inf.
    Raises ValueError if q is negative or not finite, a kink not finite, or the scale not positive.
    """
    variances = nonnegative("q", q)
    positive("scale", scale)
    flat = np.sqrt(variances).reshape(-1)
    cuts = _cuts(kinks)
    result = np.empty_like(flat)
    octaves = _octaves(scale / np.maximum(flat, scale))
    for octave in np.unique(octaves):
        here = np.flatnonzero(octaves == octave)
        order = _order(octave)
        step = max(1, _BLOCK // (2 * cuts.size * math.prod(order)))
        for start in range(0, here.size, step):
            s = flat[here[start : start + step]]
            places = _at_scale(cuts, np.zeros_like(s), s) if cuts.size > 1 else cuts[None]
            z, weight = _rule(places, np.array([octave]), order)
            with np.errstate(over="ignore"):
                values = f(s[:, None] * z)
                result[here[start : start + step]] = np.einsum("...j,...j->...", values, weight)
    origin = flat == 0
    if origin.any():
        result[origin] = f(np.zeros(1))[0]
    return _shaped(result, variances.shape)


def wave_expectation(f: Elementwise, q: ArrayLike, frequency: float) -> Array:
    """E f(sqrt(q) Z), elementwise over ``q``, where f is made of waves: cos(k u), k <= frequency.

    The trapezoidal rule with step h, whose error for cos(k u) is exp(-(2 pi / h - k sqrt(q))^2 / 2)
    (Poisson's summation formula), here below 1e-16; frequency sqrt(q) + 9 nodes to every 2 pi.
    Raises ValueError if q is negative or not finite, or the frequency not positive.
    """
    variances = nonnegative("q", q)
    positive("frequency", frequency)
    flat = np.sqrt(variances).reshape(-1)
    result = np.empty_like(flat)
    octaves = np.exp2(np.ceil(np.log2(np.maximum(flat, 1))))
    for octave in np.unique(octaves):
        here = np.flatnonzero(octaves == octave)
        h = 2 * math.pi / (frequency * octave + 9)
        z = h * np.arange(-math.ceil(_REACH / h), math.ceil(_REACH / h) + 1)
        weight = h * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        step = max(1, _BLOCK // z.size)
        for start in range(0, here.size, step):
            part = here[start : start + step]
            result[part] = np.einsum("ij,j->i", f(flat[part, None] * z), weight)
    return _shaped(result, variances.shape)


def _shaped(flat: Array, shape: tuple[int, ...]) -> Array:
    """Of that shape, a numpy scalar where it is ()."""
    shaped: Any = flat.reshape(shape)
    result: Array = shaped[()]
    return result


def expectation2(
    f: Elementwise,
    q1: ArrayLike,
    q2: ArrayLike,
    c: ArrayLike,
    kinks: Sequence[float] = (),
    scale: float = 1.0,
) -> Array:
    """E f(u1) f(u2) for Gaussians of variances q1, q2 and correlation c, broadcast together.

    The integral over u1 runs outside, that over u2 given u1 inside, each cut at ``kinks``; the
    outer one also resolves the layer of width sqrt(1 - c^2) that a kink leaves at c near 1.
    The error is below 1e-10 sqrt(E f(u1)^2 E f(u2)^2) for q from 1e-8 to 1e4 and every c; beyond
    q = 1e16 scale^2 what f does within ``scale`` of its cuts is not resolved.
    Raises ValueError if q1 or q2 is negative, |c| > 1, or any is not finite.
    """
    first, second = nonnegative("q1", q1), nonnegative("q2", q2)
    positive("scale", scale)
    first, second, shared = np.broadcast_arrays(first, second, correlation("c", c))
    cuts = _cuts(kinks)
    columns = (np.sqrt(first).ravel(), np.sqrt(second).ravel(), shared.ravel())
    result = np.empty(first.size)
    rests = np.sqrt((1 - columns[2]) * (1 + columns[2]))
    scales = np.maximum(np.minimum(scale / np.maximum(columns[0], scale), rests), _NARROWEST)
    outside = _order(float(scales.min(initial=1.0)))
    spread = float((columns[1] * rests).max(initial=0.0)) / scale
    within = _order(1 / min(max(spread, 1.0), 1 / _NARROWEST))
    size = 4 * cuts.size * (cuts.size + 1) * math.prod(outside) * math.prod(within)
    step = max(1, _BLOCK // size)
    for start in range(0, first.size, step):
        part = slice(start, start + step)
        s1, s2, rho, rest = (column[part] for column in (*columns, rests))
        z1, outer = _rule(_at_scale(cuts, np.zeros_like(s1), s1), scales[part], outside)
        mean = (s2 * rho)[:, None] * z1
        deviation = np.broadcast_to((s2 * rest)[:, None], mean.shape)
        inside = _at_scale(cuts, mean, deviation)
        inside = np.sort(np.concatenate([inside, np.zeros_like(mean)[..., None]], axis=-1))
        z2, inner = _rule(inside, 1 / np.clip(deviation / scale, 1, 1 / _NARROWEST), within)
        with np.errstate(over="ignore"):
            given = np.sum(inner * f(mean[..., None] + deviation[..., None] * z2), axis=-1)
            result[part] = np.sum(outer * f(s1[:, None] * z1) * given, axis=-1)
    return _shaped(result, first.shape)
