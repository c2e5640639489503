"""How well one hidden layer approximates a function of one variable, or of many, as it widens.

A ReLU layer with n units on n uniform cells of [0, 1] is a linear spline with n + 1 values.
Errors are root mean squares over [0, 1] unless they are called largest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from stability.arguments import Array, finite, positive, whole

Function = Callable[[Array], Array]

_NODES = 32  # of Gauss and Legendre in a cell
_TURN = 2 * math.pi


@dataclass(frozen=True)
class Target:
    """A function on [0, 1] and its second and third derivatives; None where they don't exist.

    ``fourth``: max |f''''|.  Smooth ones have period 1, and |f''| is largest where f''' = 0.
    """

    value: Function
    second: Function | None = None
    third: Function | None = None
    fourth: float = math.inf


def _wave(x: Array) -> tuple[Array, Array, Array]:
    """cos, sin and exp(cos) at 2 pi x."""
    c, s = np.cos(_TURN * x), np.sin(_TURN * x)
    return c, s, np.exp(c)


def _wave_second(x: Array) -> Array:
    c, s, e = _wave(x)
    return _TURN**2 * (s * s - c) * e


def _wave_third(x: Array) -> Array:
    c, s, e = _wave(x)
    return _TURN**3 * s * (3 * c + 1 - s * s) * e


TARGETS = {
    "sine": Target(
        lambda x: np.sin(_TURN * x),
        lambda x: -(_TURN**2) * np.sin(_TURN * x),
        lambda x: -(_TURN**3) * np.cos(_TURN * x),
        _TURN**4,
    ),
    # exp(cos 2 pi x): its fourth derivative is largest at 0, 4 e (2 pi)^4.
    "wave": Target(lambda x: _wave(x)[2], _wave_second, _wave_third, 4 * math.e * _TURN**4),
    "root": Target(np.sqrt),
}
"""By name: sin(2 pi x), exp(cos(2 pi x)), sqrt(x)."""


def _knots(knots: ArrayLike) -> Array:
    points = finite("knots", knots)
    if points.ndim != 1 or len(points) < 2 or not np.all(np.diff(points) > 0):
        raise ValueError("knots: must be at least two, ascending")
    return points


@lru_cache(maxsize=8)
def _legendre(nodes: int) -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, w / 2


def _nodes(points: Array) -> tuple[Array, Array, Array]:
    """Gauss's nodes in each cell, (n, k), their weights, and their place in the cell.

    With the substitution x = left + h t^2, which makes sqrt(x) smooth at 0 in the first cell.
    """
    t, w = _legendre(_NODES)
    h = np.diff(points)[:, None]
    place = np.broadcast_to(t * t, (len(h), len(t)))
    return points[:-1, None] + h * place, h * (2 * t * w), place


class SplineError(NamedTuple):
    """Root mean square and largest error of a spline."""

    rms: float
    largest: float


def interpolation_error(target: Target, knots: ArrayLike, points: int = 64) -> SplineError:
    """Of the piecewise linear interpolant on ascending ``knots``, from the first to the last.

    ``largest``: over ``points`` + 1 equally spaced points of each cell.  What a ReLU layer with a
    unit a cell computes: f(x_0) + sum_i c_i relu(x - x_i), c_i the change of slope.
    Raises ValueError unless there are two finite ascending knots, and ``points`` is whole and at
    least 1.
    """
    whole("points", points)
    x = _knots(knots)
    values = target.value(x)
    nodes, weights, place = _nodes(x)
    line = values[:-1, None] * (1 - place) + values[1:, None] * place
    square = np.sum(weights * (line - target.value(nodes)) ** 2) / (x[-1] - x[0])
    steps = np.arange(points + 1) / points
    fine = x[:-1, None] + np.diff(x)[:, None] * steps
    line = values[:-1, None] * (1 - steps) + values[1:, None] * steps
    return SplineError(math.sqrt(square), float(np.max(np.abs(line - target.value(fine)))))


def projection_error(target: Target, knots: ArrayLike) -> float:
    """Of the best continuous piecewise linear function on the knots: least squares.

    The normal equations of hat functions, tridiagonal (de Boor 2001, ch. XIV).
    Raises ValueError unless there are two finite ascending knots.
    """
    x = _knots(knots)
    h = np.diff(x)
    nodes, weights, place = _nodes(x)
    values = weights * target.value(nodes)
    right = np.zeros(len(x))
    right[:-1] += np.sum(values * (1 - place), axis=1)
    right[1:] += np.sum(values * place, axis=1)
    bands = np.zeros((2, len(x)))
    bands[0, 1:] = h / 6
    bands[1, :-1] += h / 3
    bands[1, 1:] += h / 3
    best = linalg.solveh_banded(bands, right)
    line = best[:-1, None] * (1 - place) + best[1:, None] * place
    square = np.sum(weights * (line - target.value(nodes)) ** 2) / (x[-1] - x[0])
    return math.sqrt(square)


def cellwise_error(target: Target, knots: ArrayLike) -> float:
    """Of the best function that is linear in each cell, continuous or not.

    No spline on these knots does better.
    Raises ValueError unless there are two finite ascending knots.
    """
    x = _knots(knots)
    nodes, weights, place = _nodes(x)
    values, h = target.value(nodes), np.diff(x)[:, None]
    mean = np.sum(weights * values, axis=1, keepdims=True) / h
    tilt = np.sum(weights * values * (2 * place - 1), axis=1, keepdims=True) * 3 / h
    rest = values - mean - tilt * (2 * place - 1)
    return math.sqrt(np.sum(weights * rest**2) / (x[-1] - x[0]))


class Rate(NamedTuple):
    """An error constant n^-2 of n uniform cells, and its next term, relative, of order n^-2."""

    constant: float
    following: float


class SplineRates(NamedTuple):
    """Of interpolation (rms and largest) and of least squares (rms)."""

    interpolation: Rate
    largest: Rate
    projection: Rate


def spline_rates(target: Target) -> SplineRates:
    """The leading errors of smooth targets of period 1 on n uniform cells.

    rms of interpolation sqrt(F2 / 120) n^-2 (1 - 11/504 F3 / F2 n^-2), of least squares
    sqrt(F2 / 720) n^-2 (1 + 5/42 F3 / F2 n^-2), F_k the integral of the k-th derivative's square,
    by expansion in a cell and of the error kernel 1 - sinc^4(w/2) / ((2 + cos w) / 3) (Blu & Unser
    1999).  Largest: max |f''| / 8 n^-2 from above, and at most 7/48 max |f''''| / max |f''| n^-2
    less, relative: the nearest cell's middle is half a cell away at most.
    Raises ValueError if the target has no second derivative.
    """
    if target.second is None or target.third is None:
        raise ValueError("target: must have a second and a third derivative")
    x = (np.arange(4096) + 0.5) / 4096
    second, third = target.second(x), target.third(x)
    square = float(np.mean(second**2))
    ratio = float(np.mean(third**2)) / square
    most = float(np.max(np.abs(target.second(np.arange(4096) / 4096))))
    return SplineRates(
        Rate(math.sqrt(square / 120), -11 / 504 * ratio),
        Rate(most / 8, -7 / 48 * target.fourth / most),
        Rate(math.sqrt(square / 720), 5 / 42 * ratio),
    )


def free_knot_error(target: Target, units: int) -> float:
    """The least rms of ``units`` + 1 linear pieces with free knots, as their number grows.

    (int |f''|^(2/5))^(5/2) / sqrt(720) / pieces^2: pieces of equal h^5 f''^2 (de Boor 2001, ch.
    XII); no ReLU layer with as many units does better.
    Raises ValueError unless the target has a second derivative, and units is whole and at least 1.
    """
    if target.second is None:
        raise ValueError("target: must have a second derivative")
    whole("units", units)
    x = (np.arange(1 << 16) + 0.5) / (1 << 16)
    share = float(np.mean(np.abs(target.second(x)) ** 0.4))
    return math.pow(share, 2.5) / math.sqrt(720) / (units + 1) ** 2


def root_largest(n: int) -> float:
    """Largest error of interpolating sqrt(x) on n uniform cells: sqrt(1 / n) / 4, in the first.

    At x = h / 4; the singular end, and no other, makes it n^(-1/2).
    Raises ValueError unless n is whole and at least 1.
    """
    whole("n", n)
    return 1 / (4 * math.sqrt(n))


def staircase_error(n: int, steepness: float) -> float:
    """Of sin(2 pi x) as a sum of sigmoids of slope k = n ``steepness`` at the knots i / n.

    sum_i (f(x_(i+1/2)) - f(x_(i-1/2))) sigmoid(k (x - x_i)): the staircase of the cells' middles,
    smoothed by the sigmoid's slope.  Exact: the staircase has the frequencies w_j = 2 pi (1 + j n)
    with amplitudes sinc(w_j h / 2), times (pi w_j / k) / sinh(pi w_j / k), the slope's transform.
    Steep: n^-1, pi / (sqrt(6) n) to leading order; at a fixed steepness the steps fade and n^-2 is
    left, (2 pi)^2 / sqrt(2) (1/24 + pi^2 / (6 steepness^2)) n^-2, above exponentially small steps.
    Raises ValueError unless n is whole and at least 3, and the steepness finite and positive.
    """
    whole("n", n, 3)
    positive("steepness", steepness)
    reach = min(math.ceil(4 * steepness) + 10, 10**6)
    j = np.arange(-reach, reach + 1)
    turns = 1 + j * n
    width = 2 * math.pi**2 * turns / (n * steepness)
    fade = np.where(np.abs(width) < 700, width / np.sinh(np.clip(width, -700, 700)), 0.0)
    amplitude = np.sinc(turns / n) * fade
    amplitude[reach] = 1 - amplitude[reach]
    return math.sqrt(float(np.sum(amplitude**2)) / 2)


def cosine_average_error(dimension: int, variance: float) -> float:
    """n times the mean square error of n random cosines for exp(-|x|^2 / 2), x ~ N(0, variance I).

    f(x) = E cos(w x), w ~ N(0, I); the mean over n draws errs by Var cos(w x) / n =
    (1 - e^(-|x|^2))^2 / (2 n): exactly 1/2 (1 - 2 (1 + 2 v)^(-d/2) + (1 + 4 v)^(-d/2)), at most 1/2
    in every dimension (Barron 1993; Maurey's argument).
    Raises ValueError unless dimension is whole and at least 1, and variance finite and positive.
    """
    whole("dimension", dimension)
    positive("variance", variance)
    half = -dimension / 2
    first = math.expm1(half * math.log1p(2 * variance))
    return (math.expm1(half * math.log1p(4 * variance)) - 2 * first) / 2
