"""What the exercises on multilayer perceptrons, symmetry and stability predict in closed form."""

import math

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import matrix, nonnegative, positive, whole
from stability.theory.quadrature import Array


def linear_pieces(width: int) -> int:
    """The linear pieces of a generic one-dimensional network with one ReLU layer: width + 1.

    Each unit bends the function once, at -b / w.  Raises ValueError if width < 1.
    """
    whole("width", width)
    return width + 1


def descent_contraction(hessian: ArrayLike, rate: float, steps: int, start: ArrayLike) -> float:
    """|(I - rate H)^steps d| / |d|: what gradient descent leaves of a difference of two starts.

    Exact for a quadratic loss of symmetric Hessian H, shape (d, d); ``start`` is d, shape (d,).
    Raises ValueError unless H is a finite matrix, rate > 0, steps >= 0 and d is not 0.
    """
    h, gap = matrix("hessian", hessian), np.asarray(start, dtype=np.float64)
    positive("rate", rate)
    whole("steps", steps, 0)
    norm = float(np.linalg.norm(gap))
    if not 0 < norm < math.inf:
        raise ValueError(f"start: must be finite and not 0, has norm {norm!r}")
    values, vectors = np.linalg.eigh(h)
    left = (1 - rate * values) ** steps * (vectors.T @ gap)
    return float(np.linalg.norm(left)) / norm


def constant_softmax_step(inputs: ArrayLike, labels: ArrayLike, classes: int, rate: float) -> Array:
    """The weights' change in one step of softmax regression from equal weights, shape (d, K).

    rate X^T (Y - 1/K) / N with one-hot labels Y: equal weights give every class the probability
    1/K, and the labels alone tell the classes apart.
    Raises ValueError unless the inputs are a finite matrix, labels lie in 0..K-1, classes >= 2 and
    the rate is positive.
    """
    x = matrix("inputs", inputs)
    whole("classes", classes, 2)
    positive("rate", rate)
    known = np.asarray(labels, dtype=np.float64)
    if not np.isin(known, np.arange(classes)).all():
        raise ValueError(f"labels={labels!r}: must be classes, 0 to {classes - 1}")
    one_hot = np.eye(classes)[known.astype(np.int64)]
    return rate * x.T @ (one_hot - 1 / classes) / len(x)


def strongly_convex_gap(first: float, second: float, convexity: float) -> float:
    """(|g_1| + |g_2|) / mu: how far apart two points of a mu-strongly convex function can be.

    Each is at most |g| / mu from the minimum, g its gradient (Nesterov 2004, theorem 2.1.10).
    Raises ValueError unless the norms are at least 0 and mu is positive.
    """
    nonnegative("first", first)
    nonnegative("second", second)
    positive("convexity", convexity)
    return (first + second) / convexity


def layerwise_ratio(rate: float, trust: float) -> float:
    """|change| / |weights| of every layer under layerwise adaptive rate scaling: rate * trust.

    The local rate is trust |w| / |gradient| (You et al. 2017, arXiv 1708.03888, eq. 6).
    Raises ValueError unless both are positive.
    """
    positive("rate", rate)
    positive("trust", trust)
    return rate * trust
