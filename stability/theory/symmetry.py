"""Hidden units that start equal: the manifold on which they stay, and how they leave it.

The network is f(x) = sum_i v_i phi(w_i x) with n hidden units, D inputs and squared loss
sum_s (f(x_s) - y_s)^2 / (2 N).  While the units are equal it is one unit, counted n times.  Moved
apart by d_i with sum_i d_i = 0 they leave f as it is to first order, so that each d_i evolves by
itself, by the Hessian of r_s v phi(w x_s) summed over the samples.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stability.arguments import Array, finite, fraction, positive, whole, wholes
from stability.theory.floating_point import gamma
from stability.theory.nonlinearity import Nonlinearity


class Data(NamedTuple):
    """Inputs (N, D), targets (N,), the activation and the number n of hidden units."""

    inputs: Array
    targets: Array
    nonlinearity: Nonlinearity
    units: int


class Hessian(NamedTuple):
    """Of one unit's parameters (w, v), across the manifold.

    ``size``: the same from absolute summands, those of the residual included.
    """

    matrix: Array
    size: Array


class Rule(NamedTuple):
    """An optimizer: m <- first m + gain g, s <- second s + (1 - second) g^2.

    A step is -rate m without a second moment, else -rate m^ / (sqrt(s^) + eps), the hats being
    Adam's bias corrections (Kingma & Ba 2015, algorithm 1).
    """

    rate: float
    first: float = 0.0
    gain: float = 1.0
    second: float | None = None
    eps: float = 0.0


def rule(name: str, rate: float) -> Rule:
    """The rule of "sgd", "momentum" (0.9) or "adam" (0.9, 0.999, 1e-8).

    Raises ValueError for another name or a rate that is not finite and positive.
    """
    positive("rate", rate)
    if name == "sgd":
        return Rule(rate)
    if name == "momentum":
        return Rule(rate, 0.9)
    if name == "adam":
        return Rule(rate, 0.9, 0.1, 0.999, 1e-8)
    raise ValueError(f"name={name!r}: must be sgd, momentum or adam")


class _Sums(NamedTuple):
    """At one point of the manifold; ``noise``: the worst error of the gradient per gamma."""

    loss: float
    gradient: Array
    hessian: Hessian
    noise: Array


def _roundings(data: Data) -> int:
    """Roundings on the way to a summand of a gradient's sum over samples, and of that sum."""
    return sum(data.inputs.shape) + 12


def _check_data(data: Data) -> None:
    whole("data.units", data.units)
    finite("data.inputs", data.inputs)
    finite("data.targets", data.targets)


def _sums(data: Data, weights: Array, outgoing: float) -> _Sums:
    x, phi = data.inputs, data.nonlinearity
    z = x @ weights
    value, slope, bend = phi.phi(z), phi.dphi(z), phi.d2phi(z)
    error = data.units * outgoing * value - data.targets
    loss, residual = float(error @ error) / 2 / len(x), error / len(x)
    gradient = np.append(outgoing * (residual * slope) @ x, residual @ value)

    def hessian(r: Array, v: float, first: Array, second: Array, inputs: Array) -> Array:
        cross = (r * first) @ inputs
        corner = v * (inputs.T * (r * second)) @ inputs
        return np.block([[corner, cross[:, None]], [cross, np.zeros((1, 1))]])

    matrix = hessian(residual, outgoing, slope, bend, x)
    r, v, a = np.abs(residual), abs(outgoing), np.abs(x)
    summands = (data.units * v * np.abs(value) + np.abs(data.targets)) / len(x)
    size = hessian(summands, v, np.abs(slope), np.abs(bend), a)
    # A preactivation's error, D of the roundings, goes through the next derivative.
    inner = x.shape[1] * (a @ np.abs(weights)) / _roundings(data)
    outer = (len(x) + 10) / _roundings(data)
    noise = np.append(
        v * (r * (np.abs(bend) * inner + np.abs(slope) * outer)) @ a,
        r @ (np.abs(slope) * inner + np.abs(value) * outer),
    )
    return _Sums(loss, gradient, Hessian(matrix, size), 2 * noise)


def transverse_hessian(data: Data, weights: ArrayLike, outgoing: float) -> Hessian:
    """[[v sum r phi'' x x^T, a], [a^T, 0]] with a = sum r phi' x, shape (D + 1, D + 1).

    r = (f - y) / N.  The zero in the corner makes its least eigenvalue negative wherever a is not
    0: equal units are a saddle as long as their incoming weights have a gradient, which is v a.
    Raises ValueError unless there are as many weights as inputs, numbers are finite, and units
    whole and at least 1.
    """
    _check_data(data)
    finite("outgoing", outgoing)
    w = finite("weights", weights)
    if w.shape != data.inputs.shape[1:]:
        raise ValueError(f"weights of shape {w.shape}: must be {data.inputs.shape[1:]}")
    return _sums(data, w, outgoing).hessian


class Drift(NamedTuple):
    """What happens to a difference between units, at each step asked for; shapes (steps,).

    ``growth``: how many times the difference is the first one, (1, ..., 1, 0) in (w, v), in the
    largest component.  ``rounding``: the most that rounding alone can make of no difference, in
    units of gamma_k(u) with k = ``roundings``: the local errors of every step, carried on by the
    linearised steps after it.  Both to first order in the difference.  ``loss``: of equal units.
    """

    growth: Array
    rounding: Array
    loss: Array
    roundings: int

    def bound(self, u: float) -> Array:
        """The largest difference that roundings to u make of equal units."""
        bound: Array = gamma(self.roundings, u) * self.rounding
        return bound


def drift(data: Data, start: float, optimizer: Rule, steps: ArrayLike) -> Drift:
    """Differences between units of a network whose parameters all start at ``start``.

    ``steps``: at which to tell them.  The rounding bound holds for any order of summation, fused
    or not (Higham 2002, sec. 3.1), as every unit's sums err by gamma_k of their absolute summands.
    Raises ValueError unless the steps are at least one, whole and at least 0, the data, start
    and optimizer finite, and units whole and at least 1.
    """
    _check_data(data)
    finite("start", start)
    finite("optimizer", [number for number in optimizer if number is not None])
    marks = wholes("steps", steps, 0).ravel()
    if not marks.size:
        raise ValueError(f"steps={steps!r}: must be at least one")
    with np.errstate(over="ignore", invalid="ignore"):
        maps, noises, loss = _linearised(data, start, optimizer, int(marks.max()))
        carried = _carried(maps, noises, marks)
    return Drift(*carried, loss[marks], _roundings(data))


def _linearised(
    data: Data, start: float, optimizer: Rule, total: int
) -> tuple[Array, Array, Array]:
    """Every step's map of a difference of (parameters, m, s), its own noise; losses, one more."""
    count = data.inputs.shape[1] + 1
    parameters, means, squares = (slice(i * count, (i + 1) * count) for i in range(3))
    maps, noises = np.zeros((total, 3 * count, 3 * count)), np.zeros((total, 3 * count))
    loss = np.zeros(total + 1)
    theta, m, s = np.full(count, start), np.zeros(count), np.zeros(count)
    gain, first, one = optimizer.gain, optimizer.first, np.eye(count)
    kept, taken = (optimizer.second, 1 - optimizer.second) if optimizer.second else (0.0, 0.0)
    own = 2 / _roundings(data)
    for step in range(total):
        loss[step], gradient, (hessian, _), noise = _sums(data, theta[:-1], theta[-1])
        mean, square = first * m + gain * gradient, kept * s + taken * gradient**2
        by_mean, by_square = _slopes(optimizer, mean, square, step + 1)
        through = by_mean * gain + by_square * taken * 2 * gradient
        move = by_mean * mean
        turn = maps[step]
        turn[parameters, parameters] = one + through[:, None] * hessian
        turn[parameters, means] = np.diag(by_mean * first)
        turn[parameters, squares] = np.diag(by_square * kept)
        turn[means, parameters] = gain * hessian
        turn[means, means] = first * one
        turn[squares, parameters] = (taken * 2 * gradient)[:, None] * hessian
        turn[squares, squares] = kept * one
        # Roundings of the optimizer's own: 3 of m's terms, 4 of s's, 10 of the move, 1 of the sum.
        on_mean = own * 3 * (np.abs(first * m) + np.abs(gain * gradient))
        on_square = own * 4 * square
        noises[step, parameters] = (
            np.abs(through) * noise
            + np.abs(by_mean) * on_mean
            + np.abs(by_square) * on_square
            + own * (np.abs(theta + move) + 10 * np.abs(move))
        )
        noises[step, means] = gain * noise + on_mean
        noises[step, squares] = taken * 2 * np.abs(gradient) * noise + on_square
        theta, m, s = theta + move, mean, square
    loss[total] = _sums(data, theta[:-1], theta[-1]).loss
    return maps, noises, loss


def _slopes(optimizer: Rule, mean: Array, square: Array, step: int) -> tuple[Array, Array]:
    """Derivatives of a parameter's move by its moments after ``step`` steps; move = first * m."""
    if optimizer.second is None:
        return np.full_like(mean, -optimizer.rate), np.zeros_like(mean)
    rate = optimizer.rate / (1 - optimizer.first**step)
    unbiased = 1 - optimizer.second**step
    root = np.sqrt(square / unbiased)
    by_mean = -rate / (root + optimizer.eps)
    inner = 2 * unbiased * np.where(root > 0, root, np.inf)
    return by_mean, -by_mean * mean / (root + optimizer.eps) / inner


def _carried(maps: Array, noises: Array, marks: NDArray[np.int64]) -> tuple[Array, Array]:
    """Growth of the first difference, and of all noises together, at every mark.

    The rows of the products maps[t - 1] ... maps[s] that end in parameters, for all marks t at
    once, s going down.
    """
    count = noises.shape[1] // 3
    ends = np.broadcast_to(np.eye(3 * count)[:count], (marks.size, count, 3 * count)).copy()
    rounding = np.zeros((marks.size, count))
    for step in range(len(maps) - 1, -1, -1):
        later = marks > step
        rounding[later] += np.abs(ends[later]) @ noises[step]
        ends[later] = ends[later] @ maps[step]
    first = np.append(np.ones(count - 1), np.zeros(2 * count + 1))
    return np.abs(ends @ first).max(axis=1), rounding.max(axis=1)


def adam_first_step(gradient: ArrayLike, rate: float, eps: float = 1e-8) -> Array:
    """-rate g / (|g| + eps), of g's shape: the size of a gradient hardly matters, noise included.

    Half the rate at |g| = eps.
    Raises ValueError unless the gradient is finite, and rate and eps are finite and positive.
    """
    positive("rate", rate)
    positive("eps", eps)
    g = finite("gradient", gradient)
    step: Array = -rate * (g / (np.abs(g) + eps))
    return step


def constant_head_gradient(
    inputs: ArrayLike, slopes: ArrayLike, constant: float, classes: int, u: float
) -> float:
    """The largest gradient of hidden weights that is rounding alone, where every one is exactly 0.

    Softmax cross-entropy under an output layer of equal weights c: sum_k (p_k - y_k) c = 0.  The
    K probabilities are 1 / K to gamma_(K + 8), and their sum with the label errs by gamma_K of 2;
    backpropagated through ``slopes`` |phi'| of shape (N,) and ``inputs`` (N, D), summed over N.
    Raises ValueError unless classes is whole and at least 2, there is a slope for each input,
    numbers are finite, and u lies in (0, 1).
    """
    x, slope = np.abs(finite("inputs", inputs)), np.abs(finite("slopes", slopes))
    finite("constant", constant)
    whole("classes", classes, 2)
    fraction("u", u)
    if slope.shape != x.shape[:1]:
        raise ValueError(f"slopes of shape {slope.shape}: must be {x.shape[:1]}")
    count = 2 * classes + len(x) + 16
    return float((2 * gamma(count, u) * abs(constant) * (slope @ x) / len(x)).max())


def output_difference(units: int, inputs: int, u: float, transformed: int = 0) -> float:
    """How far rounding moves an output under an exact symmetry, over sum_i |v_i| sum_j |w_ij x_j|.

    2 gamma_(n + D + 3 + ``transformed``) for an activation with phi(0) = 0 and |phi'| <= 1 that
    rounds at most three times: of two sums of n terms each errs by half of that.  ``transformed``:
    roundings of the transformed weights themselves.
    Raises ValueError unless the numbers are whole, units and inputs at least 1 and transformed at
    least 0, and u lies in (0, 1).
    """
    whole("units", units)
    whole("inputs", inputs)
    whole("transformed", transformed, 0)
    return 2 * float(gamma(units + inputs + 3 + transformed, u))


def equivalent_networks(units: int) -> int:
    """n! 2^n: networks with the same function, by permuted units and, phi being odd, by signs.

    All there are, for tanh and generic weights (Sussmann 1992; Chen, Lu & Hecht-Nielsen 1993).
    Raises ValueError unless units is whole and at least 0.
    """
    whole("units", units, 0)
    return math.factorial(units) << units
