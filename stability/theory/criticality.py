"""The edge of chaos, chi_1 = 1: its named points, how slowly signals settle there, shaping.

``q``: variance of a preactivation at its fixed point; ``layer``: number of layers passed.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from stability.arguments import (
    correlation,
    finite,
    fraction,
    nonnegative,
    positive,
    positives,
    whole,
)
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.phase import critical_line
from stability.theory.quadrature import Array

_ROUNDING = 1e-12  # of a bias variance, relative to q
_GRID = np.concatenate([[0.0], np.logspace(-8, 8, 321)])


class CriticalPoint(NamedTuple):
    """A point of the critical line: chi_1 = 1 at the fixed variance q."""

    q: float
    sigma_w: float
    sigma_b: float


def _bias(q: ArrayLike, activation: Nonlinearity) -> Array:
    """The sigma_b^2 with which q is fixed where chi_1 = 1, negative where there is none."""
    q = np.asarray(q, dtype=np.float64)
    b2 = q - activation.second_moment(q) / activation.slope_moment(q)
    return np.where(np.abs(b2) <= _ROUNDING * q, 0.0, b2)


def critical_point(activation: Nonlinearity, sigma_b: float = 0.0) -> CriticalPoint:
    """The point of the critical line at this sigma_b, of the least q.

    q = 0 for tanh and ReLU without bias (for ReLU every q would do); 45.6 for the sigmoid, whose
    chi_1 reaches 1 at sigma_w = 10.149.
    Raises ValueError if sigma_b is negative or the line has no such point with q up to 1e8.
    """
    b2 = float(nonnegative("sigma_b", sigma_b)) ** 2
    gaps = _bias(_GRID, activation) - b2
    if gaps[0] == 0:
        q = 0.0
    else:
        turns = np.flatnonzero(np.sign(gaps[:-1]) != np.sign(gaps[1:]))
        if not turns.size:
            raise ValueError(f"sigma_b={sigma_b!r}: chi_1 = 1 nowhere with this bias")
        low, high = _GRID[turns[0]], _GRID[turns[0] + 1]
        q = float(
            brentq(
                lambda v: float(_bias(v, activation)) - b2,
                low,
                high,
                xtol=1e-300,
                rtol=1e-14,
            )
        )
    return CriticalPoint(q, float(activation.slope_moment(q)) ** -0.5, float(sigma_b))


def half_stable_point(activation: Nonlinearity) -> CriticalPoint:
    """Where both maps' slopes are 1: chi_1 = 1 and E phi phi'' = 0 at a variance q > 0.

    There a variance settles from one side and leaves on the other.  SiLU and GELU have one, the
    latter at q = (3 + sqrt(17)) / 2 (Roberts, Yaida & Hanin 2022, arXiv 2106.10165, sec. 5.3.4).
    Raises ValueError if E phi phi'' keeps its sign, or no bias makes q fixed.
    """
    bends = np.sign(activation.curvature(_GRID[1:]))
    turns = np.flatnonzero(bends[:-1] * bends[1:] < 0)
    if not turns.size:
        raise ValueError("activation: E phi phi'' keeps its sign")
    low, high = _GRID[turns[0] + 1], _GRID[turns[0] + 2]
    q = float(brentq(lambda v: float(activation.curvature(v)), low, high, rtol=1e-14))
    w, b = (float(sigma) for sigma in critical_line(q, activation))
    if math.isnan(b):
        raise ValueError("activation: where E phi phi'' = 0, no bias makes the variance fixed")
    return CriticalPoint(q, w, b)


def critical_variance(layer: ArrayLike, bend: float) -> Array:
    """-1 / (bend layer): how the variance of an odd activation vanishes at sigma_w = 1 / phi'(0).

    ``bend``: phi'''(0) / phi'(0), -2 for tanh (hence 1 / (2 l)) and for erf, -1 for sin; there
    q' = q + bend q^2 + O(q^3), without bias, and the neglected share is O(log(l) / l).
    Raises ValueError unless layer > 0 and bend < 0.
    """
    if not -math.inf < bend < 0:
        raise ValueError(f"bend={bend!r}: must be finite and below 0")
    return -1 / (bend * positives("layer", layer))


def critical_gap(layer: ArrayLike, q: float, activation: Nonlinearity) -> Array:
    """How 1 - c vanishes on the critical line at variance ``q``, to leading order in 1 / layer.

    Smooth activations: beta / l with beta = 2 E phi'^2 / (q E phi''^2) (Hayou et al. 2019, arXiv
    1902.06853).  With jumps J of phi' at kinks k, 1 - c' = 1 - c - kappa (1 - c)^(3/2), hence
    4 / (kappa l)^2, where kappa = (2/3) sqrt(q / pi) sum J^2 p(k) / E phi'^2 and p is the density
    of N(0, q): 9 pi^2 / (2 l^2) for ReLU.  The neglected share is O(log(l) / l).
    Raises ValueError unless layer and q are positive, or if the activation is linear.
    """
    layers = positives("layer", layer)
    positive("q", q)
    slope = float(activation.slope_moment(q))
    jumps = sum(
        jump**2 * math.exp(-kink * kink / (2 * q)) / math.sqrt(2 * math.pi * q)
        for kink, jump in zip(activation.kinks, activation.jumps(), strict=True)
    )
    if jumps:
        kappa = 2 / 3 * math.sqrt(q / math.pi) * jumps / slope
        return 4 / (kappa * layers) ** 2
    bend = float(activation.expectation(lambda u: activation.d2phi(u) ** 2, q))
    if not bend:
        raise ValueError("activation: a linear one keeps correlations on its critical line")
    return 2 * slope / (q * bend * layers)


def shaped_correlation(c: ArrayLike, slope: float) -> Array:
    """The correlation map of sqrt(2 / (1 + a^2)) leaky_a, a = ``slope``, at any variance.

    c + (1-a)^2 / (pi (1+a^2)) (sqrt(1-c^2) - c arccos c) (Zhang et al. 2022, arXiv 2203.08120);
    ReLU at 0, the identity at 1.  Raises ValueError if |c| > 1 or the slope is not finite.
    """
    x = correlation("c", c)
    finite("slope", slope)
    share = (1 - slope) ** 2 / (math.pi * (1 + slope**2))
    return x + share * (np.sqrt((1 - x) * (1 + x)) - x * np.arccos(x))


def shaping_slope(depth: int, target: float = 0.9) -> float:
    """The slope in [0, 1] with which ``depth`` shaped layers take a correlation of 0 to ``target``.

    The condition C^L(0) = target of tailored activations (Zhang et al. 2022, arXiv 2203.08120);
    0 where ReLU itself stays below.  Raises ValueError unless depth >= 1 and 0 < target < 1.
    """
    whole("depth", depth)
    fraction("target", target)

    def excess(slope: float) -> float:
        c: Array = np.zeros(())
        for _ in range(depth):
            c = np.minimum(shaped_correlation(c, slope), 1.0)
        return float(c) - target

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 1.0, xtol=1e-13, rtol=1e-13))
