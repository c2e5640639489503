"""What a multilayer perceptron must do before and while it trains: loss, cost, rounding, limits.

Fans are (fan_in, fan_out) a layer; hidden layers are ReLU, the last one linear.  ``u``: unit
roundoff.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import (
    Array,
    fraction,
    matrix,
    nonnegative,
    positive,
    whole,
    wholes,
)
from stability.theory.floating_point import Format, gamma, spacing

Fans = Sequence[tuple[int, int]]
ELEMENTARY = 4
"""Roundings that one exp, log or division counts as: libraries give them to 2 ulp."""


class InitialLoss(NamedTuple):
    """The expected cross-entropy at initialization, and what the formula neglects at most."""

    value: float
    neglected: float


def initial_loss(squared_norms: ArrayLike, fans: Fans, stds: Sequence[float]) -> InitialLoss:
    """E cross-entropy of a ReLU network as drawn: ln K + (1 - 1/K) E q / 2, at most E q^2 / 16 low.

    ``squared_norms``: |x|^2 of the inputs, whose mean is taken; weights N(0, std^2) a layer, biases
    0.  The logits are independent N(0, q) given the layer before, q = std_L^2 |h|^2, and exactly
    E |h^l|^2 = n std^2 / 2 |h^(l-1)|^2, E |h^l|^4 = (1 + 5/n) (n std^2 / 2)^2 |h^(l-1)|^4 (Hanin &
    Nica 2020).  With S = sum p_k^2, d/dq E ln sum exp = (1 - E S) / 2 and d/dq E S = E Laplacian(S)
    / 2 <= 1/4, as the Laplacian is 2 S + 6 S^2 - 8 sum p^3 <= 2 S (1 - S): so the loss lies
    between the value less the neglected part and the value itself.
    Raises ValueError unless there is an input and one std for each layer, none of these numbers
    negative or not finite, and fans are whole and at least 1.
    """
    norms = nonnegative("squared_norms", squared_norms)
    if not norms.size:
        raise ValueError(f"squared_norms={squared_norms!r}: must be at least one")
    if wholes("fans", fans, fewest=1).shape != (len(fans), 2):
        raise ValueError(f"fans={fans!r}: must be pairs")
    if len(fans) != len(stds):
        raise ValueError(f"stds: {len(stds)} of them but {len(fans)} fans: must be as many")
    scales = nonnegative("stds", np.asarray(stds, dtype=np.float64))
    widths = np.array([fan_out for _, fan_out in fans[:-1]], dtype=np.float64)
    gain = float(np.prod(widths * scales[:-1] ** 2 / 2) * scales[-1] ** 2)
    spread = float(np.prod(1 + 5 / widths))
    classes = fans[-1][1]
    first = float(norms.mean()) * gain
    second = float((norms**2).mean()) * gain**2 * spread
    return InitialLoss(math.log(classes) + (1 - 1 / classes) * first / 2, second / 16)


def softmax_smoothness(inputs: ArrayLike) -> float:
    """lambda_max(X^T X / N) / 2, X with a column of ones: bounds softmax regression's Hessian.

    Everywhere (Boehning 1992, Ann. Inst. Stat. Math. 44); so gradient descent of a rate up to 2
    over it never raises the loss (Nesterov 2004, lemma 1.2.3).  Attained at equal weights of two
    classes.  Raises ValueError unless the inputs are a finite matrix.
    """
    return least_squares_sharpness(inputs) / 2


def least_squares_sharpness(inputs: ArrayLike) -> float:
    """lambda_max(X^T X / N), X with a column of ones: of the loss |X W - Y|^2 / (2 N).

    Gradient descent converges at rates below 2 over it and explodes above, from almost all starts.
    Raises ValueError unless the inputs are a finite matrix.
    """
    x = matrix("inputs", inputs)
    x = np.column_stack([x, np.ones(len(x))])
    return float(np.linalg.eigvalsh(x.T @ x / len(x))[-1])


def softmax_loss_bound(inputs: ArrayLike, classes: int, rate: float, steps: int) -> float:
    """ln K + 2 rate steps max |x|^2: what softmax regression's loss can grow to from zero weights.

    x with an entry 1 for the bias.  The gradient is at most sqrt(2) max |x|, hence |W| grows by no
    more than rate times that a step, and ln sum exp(o) - o_y <= ln K + sqrt(2) |W| |x|.
    Raises ValueError unless the inputs are a finite matrix, rate is finite and positive, steps and
    classes are whole and at least 0 and 2.
    """
    positive("rate", rate)
    whole("steps", steps, 0)
    whole("classes", classes, 2)
    x = matrix("inputs", inputs)
    return math.log(classes) + 2 * rate * steps * float((1 + (x**2).sum(axis=1)).max())


def interval_accuracy(code: ArrayLike, labels: ArrayLike, intervals: int) -> float:
    """The best share of samples that a classifier of at most so many intervals of a number gets.

    ``code``, ``labels``: (N,); equal codes are told apart by none, and nans, of a network that has
    diverged, are equal and the largest.  Behind a layer of one unit all
    K logits are linear in its output, so each class is predicted on one interval: no network with
    such a layer beats K intervals of its own code.  By dynamic programming over the sorted code.
    Raises ValueError unless code and labels are as many, at least one, labels whole and at least 0,
    and intervals whole and at least 1.
    """
    values, classes = np.asarray(code, dtype=np.float64), wholes("labels", labels, 0)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"code of shape {values.shape}: must be a row of at least one")
    if values.shape != classes.shape:
        raise ValueError(f"labels of shape {classes.shape}: must be {values.shape} as the codes")
    whole("intervals", intervals)
    _, groups = np.unique(values, return_inverse=True)
    counts = np.zeros((int(groups.max()) + 1, int(classes.max()) + 1))
    np.add.at(counts, (groups, classes), 1)
    # best[m, k]: the most right so far with m + 1 intervals, the last of class k.
    best = np.full((intervals, counts.shape[1]), -np.inf)
    best[0] = 0.0
    for count in counts:
        before = best.max(axis=1, keepdims=True)
        best[1:] = np.maximum(best[1:], before[:-1])
        best += count
    return float(best.max()) / len(values)


def step_rounding(
    inputs: Array,
    labels: ArrayLike,
    parameters: Sequence[Array],
    rate: float,
    u: float,
) -> float:
    """Bound on the rounding error of one SGD step of a perceptron of one hidden layer (2-norm).

    ``parameters``: W1 (d, n), b1 (n,), W2 (n, K), b2 (K,); ``inputs``: (B, d).  For products summed
    in any order, each |error| <= gamma_n |A| |B| entrywise (Higham 2002, sec. 3.5), carried through
    the forward pass, the softmax, the backward pass and the update to first order in u; a unit
    whose sign is in doubt counts with its whole gradient.  exp, log and division within
    ``ELEMENTARY`` u.  Parameters that are not finite leave no bound: nan or infinity.
    Raises ValueError unless the inputs are a finite matrix, labels whole, at least 0 and below K,
    rate finite and positive, and u in (0, 1).
    """
    x, targets = matrix("inputs", inputs), wholes("labels", labels, 0)
    positive("rate", rate)
    fraction("u", u)
    w1, b1, w2, b2 = parameters
    batch, d = x.shape
    hidden, classes = w2.shape
    if targets.shape != (batch,) or np.any(targets >= classes):
        raise ValueError(f"labels={labels!r}: must be {batch}, each below {classes}")
    a0, a1, a2 = np.abs(x), np.abs(w1), np.abs(w2)

    def g(n: float) -> float:
        return float(gamma(n, u))

    z = x @ w1 + b1
    h = np.maximum(z, 0)
    e_z = g(d + 1) * (a0 @ a1 + np.abs(b1))
    o = h @ w2 + b2
    e_o = g(hidden + 1) * ((h + e_z) @ a2 + np.abs(b2)) + e_z @ a2
    low = o - o.max(axis=1, keepdims=True)
    p = np.exp(low)
    p /= p.sum(axis=1, keepdims=True)
    # p_k is e^(o_k) over a sum of such: its logarithm moves by twice the logits' error, and by the
    # roundings of o - max, of exp, of the sum and of the division (or of log and of o - ln sum).
    reach = np.abs(low).max(axis=1, keepdims=True) + math.log(classes)
    relative = np.expm1(2 * e_o.max(axis=1, keepdims=True) + u * 3 * reach)
    relative = relative + g(classes + 3 * ELEMENTARY)
    target = np.eye(classes)[targets]
    d2 = np.abs(p - target) / batch
    e_2 = p * relative / batch + g(3) * d2
    live, doubtful = z > -e_z, np.abs(z) <= e_z
    back = d2 @ a2.T
    d1 = back * live
    e_1 = (e_2 @ a2.T + g(classes) * back) * live + back * doubtful

    def product(left: Array, e_left: Array, right: Array, e_right: Array) -> tuple[Array, Array]:
        size = left.T @ right
        return size, left.T @ e_right + e_left.T @ (right + e_right) + g(batch) * size

    ones, none = np.ones((batch, 1)), np.zeros((batch, 1))
    found = (
        (w1, *product(a0, np.zeros_like(x), d1, e_1)),
        (b1, *product(ones, none, d1, e_1)),
        (w2, *product(h, e_z, d2, e_2)),
        (b2, *product(ones, none, d2, e_2)),
    )
    total = 0.0
    for old, size, error in found:
        step = rate * (error * (1 + g(3)) + g(3) * size)
        moved = step + u * (np.abs(old) + rate * (size + error))
        total += float((moved**2).sum())
    return math.sqrt(total)


def storage_rounding(values: ArrayLike, format: Format) -> float:
    """Rms 2-norm of the error of rounding numbers to the format: (sum spacing^2 / 12)^(1/2).

    For errors uniform within half a spacing, none of which is above sqrt(3) times its rms; .4246 u
    |values| if mantissas are log-uniform.  What an SGD step costs if only storing its result
    rounds.  nan where a value is infinite or nan: a network that has overflowed has no rounding.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        return math.nan
    steps = np.asarray(spacing(numbers, format))
    return math.sqrt(float((steps**2).sum()) / 12)
