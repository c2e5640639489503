"""Gaussian moments of activations for which they are elementary.

``q1, q2, q``: variances; ``c``: correlation; ``s`` = c sqrt(q1 q2).  1 - c^2 is always formed as
(1 - c)(1 + c) and arcsines as arctangents, so that nothing cancels at c near 1 or large q.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stability.arguments import finite
from stability.theory.quadrature import Array, Elementwise

Pairwise = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class ClosedForms:
    """Moments of an activation that are known exactly, for q >= 0 and |c| <= 1, broadcasting.

    ``covariance(q1, q2, c)`` = E phi(u1) phi(u2) and ``slope_covariance(q1, q2, c)`` =
    E phi'(u1) phi'(u2) for Gaussians of variances q1, q2 and correlation c; ``growth(q)`` =
    d/dq E phi(u)^2; ``curvature(q)`` = E phi(u) phi''(u), phi'' with its delta functions.
    """

    covariance: Pairwise
    slope_covariance: Pairwise
    growth: Elementwise
    curvature: Elementwise


def _split(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
    """s = c sqrt(q1 q2) and sqrt(q1 q2 - s^2)."""
    size = np.sqrt(q1) * np.sqrt(q2)
    return c * size, size * np.sqrt((1 - c) * (1 + c))


def leaky(slope: float) -> ClosedForms:
    """z above 0, ``slope`` z below: the arc-cosine kernels of degree 1 and 0 (Cho & Saul 2009).

    ReLU at 0, linear at 1.  Raises ValueError if the slope is not finite.
    """
    finite("slope", slope)
    odd, even = slope, (1 - slope) ** 2 / (2 * np.pi)

    def covariance(q1: Array, q2: Array, c: Array) -> Array:
        arc = np.sqrt((1 - c) * (1 + c)) + c * (np.pi - np.arccos(c))
        return np.sqrt(q1) * np.sqrt(q2) * (even * arc + odd * c)

    def slope_covariance(q1: Array, q2: Array, c: Array) -> Array:
        flat = np.zeros(np.broadcast_shapes(np.shape(q1), np.shape(q2)))
        return even * (np.pi - np.arccos(c)) + odd + flat

    mean = (1 + slope**2) / 2
    return ClosedForms(
        covariance, slope_covariance, lambda q: np.full_like(q, mean), lambda q: np.zeros_like(q)
    )


def _erf_root(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
    """s and the root of the determinant of 1 + 2 Sigma."""
    s, rest = _split(q1, q2, c)
    return s, np.hypot(np.sqrt(1 + 2 * q1 + 2 * q2), 2 * rest)


def _erf_covariance(q1: Array, q2: Array, c: Array) -> Array:
    s, root = _erf_root(q1, q2, c)
    return 2 / np.pi * np.arctan2(2 * s, root)


def _erf_slope_covariance(q1: Array, q2: Array, c: Array) -> Array:
    return 4 / np.pi / _erf_root(q1, q2, c)[1]


ERF = ClosedForms(
    _erf_covariance,
    _erf_slope_covariance,
    lambda q: 4 / np.pi / ((1 + 2 * q) * np.sqrt(1 + 4 * q)),
    lambda q: -8 / np.pi * (q / (1 + 2 * q)) / np.sqrt(1 + 4 * q),
)
"""erf: the arc-sine kernel (Williams 1997)."""


def _sine_parts(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
    """exp(|s| - (q1 + q2) / 2) and exp(-2 |s|) - 1."""
    a, b = np.sqrt(q1), np.sqrt(q2)
    near = np.exp(-((a - b) ** 2) / 2 - a * b * (1 - np.abs(c)))
    return near, np.expm1(-2 * a * b * np.abs(c))


def _sine_covariance(q1: Array, q2: Array, c: Array) -> Array:
    near, less = _sine_parts(q1, q2, c)
    return -np.sign(c) * near * less / 2


def _sine_slope_covariance(q1: Array, q2: Array, c: Array) -> Array:
    near, less = _sine_parts(q1, q2, c)
    return near * (2 + less) / 2


SINE = ClosedForms(
    _sine_covariance,
    _sine_slope_covariance,
    lambda q: np.exp(-2 * q),
    lambda q: np.expm1(-2 * q) / 2,
)
"""sin: exp(-(q1 + q2) / 2) sinh(s), and cosh(s) for the slopes: characteristic functions."""


def _gelu_parts(q1: Array, q2: Array, c: Array) -> tuple[Array, ...]:
    """s, root of q1 q2 - s^2, root of det(1 + Sigma), P(u1 + Z1 > 0, u2 + Z2 > 0), slack."""
    s, rest = _split(q1, q2, c)
    root = np.hypot(np.sqrt(1 + q1 + q2), rest)
    share = 0.25 + np.arctan2(s, root) / (2 * np.pi)
    return s, rest, root, share, 1 / (1 + q1) + 1 / (1 + q2)


def _gelu_covariance(q1: Array, q2: Array, c: Array) -> Array:
    s, rest, root, share, slack = _gelu_parts(q1, q2, c)
    return s * share + (rest * (rest / root) + s * (s / root) * slack) / (2 * np.pi)


def _gelu_slope_covariance(q1: Array, q2: Array, c: Array) -> Array:
    s, rest, root, share, slack = _gelu_parts(q1, q2, c)
    crossed = 1 + q2 / (1 + q1) + q1 / (1 + q2)
    less = crossed / root / root + (rest / root) ** 2 * slack
    return share + s / (2 * np.pi * root) * (2 * slack - less)


def _gelu_growth(q: Array) -> Array:
    share = 0.25 + np.arctan2(q, np.sqrt(1 + 2 * q)) / (2 * np.pi)
    r = q / (1 + q)
    tail = (2 + 4 * q + q * q) / ((1 + q) * (1 + 2 * q))
    return share + r / np.sqrt(1 + 2 * q) * (0.5 + tail) / np.pi


def _gelu_curvature(q: Array) -> Array:
    scale = 2 * np.pi * (1 + q) ** 2 * np.sqrt(1 + 2 * q) * (1 + 2 * q)
    return q * (2 + 3 * q - q * q) / scale


GELU = ClosedForms(_gelu_covariance, _gelu_slope_covariance, _gelu_growth, _gelu_curvature)
"""z P(Z < z): by Stein's lemma (Tsuchida et al. 2021, arXiv 2002.08517); derivatives by Price's."""
