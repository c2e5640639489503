"""Stacks of affine layers: what rounding does to them, in which order to multiply, what bends them.

``u``: unit roundoff, half of eps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stability.arguments import Array, fraction, nonnegative, positive, whole, wholes
from stability.theory.floating_point import gamma
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.rounding_errors import rounding_error

Order = int | tuple["Order", "Order"]
"""How a chain is multiplied: a factor's index, or the pair of orders that are multiplied last."""


def stack_bound(
    weights: Sequence[Array],
    biases: Sequence[Array],
    states: Sequence[Array],
    u: float,
    accumulator: float | None = None,
) -> Array:
    """Bound on ||y^ - y|| for y = W_L (... (W_1 x + b_1) ...) + b_L, of each column, (B,).

    ``weights``: (n_l, n_(l-1)); ``biases``: (n_l,) or zeros (n_l, B); ``states``: the computed
    columns x, y^_1, ..., y^_L, each (n_l, B).  Layer l adds an error d_l <= gamma_(n+1)
    (|W_l| |y^_(l-1)| + |b_l|), whatever the order of summation (Higham 2002, lemma 3.1); sums
    of unit roundoff ``accumulator`` that are stored with ``u`` add u / (1 - u) |y^_l|.  Since
    y^ - y = sum_l W_L ... W_(l+1) d_l exactly, the bound is sum_l ||W_L ... W_(l+1)||_2 ||d_l||:
    a running error bound (Higham 2002, sec. 3.3) without neglected terms, short of underflow.
    The product of the weights is the stack on the unit columns without biases.  Computed numbers
    that are not finite make the bound infinite or nan.
    Raises ValueError unless there is one bias and one state for each weight, and one state more,
    and the unit roundoffs lie in (0, 1).
    """
    if not len(weights) == len(biases) == len(states) - 1 > 0:
        counts = f"{len(weights)} weights, {len(biases)} biases, {len(states)} states"
        raise ValueError(f"weights: {counts}; must be L, L and L + 1")
    fraction("u", u)
    if accumulator is not None:
        fraction("accumulator", accumulator)
    tail = np.eye(len(weights[-1]))
    total = np.zeros(states[0].shape[1])
    for layer in range(len(weights) - 1, -1, -1):
        weight, bias = np.abs(weights[layer]), np.abs(biases[layer])
        bias = bias[:, None] if bias.ndim == 1 else bias
        summed = weight @ np.abs(states[layer]) + bias
        local = gamma(weight.shape[1] + 1, accumulator or u) * summed
        if accumulator is not None:
            local = local + u / (1 - u) * np.abs(states[layer + 1])
        # The largest eigenvalue of T T^T: a decomposition of T itself takes longer.
        reach = math.sqrt(np.linalg.eigvalsh(tail @ tail.T)[-1])
        total += reach * np.linalg.norm(local, axis=0)
        tail = tail @ weights[layer]
    return total


def stored_stack_error(depth: int, start: float, bias: float) -> float:
    """E |y^ - y|^2 / (u^2 sum_l E |y_l|^2) after L isometries y <- W y + b with rounded outputs.

    x ~ N(0, start^2) and b ~ N(0, bias^2), independent: y_l ~ N(0, start^2 + l bias^2) with Haar
    W_l, which keep the errors' size, so that those of all layers add: the mean square of
    ``rounding_error`` over that of the signals, about 1 / (8 ln 2).  Neglects O(u) and the sums'
    own errors.  Raises ValueError unless depth is whole and at least 1, start finite and positive,
    bias finite and not negative.
    """
    whole("depth", depth)
    nonnegative("bias", bias)
    positive("start", start)
    q = start**2 + np.arange(1, depth + 1) * bias**2
    return float(np.sum(rounding_error(0.0, np.sqrt(q)) ** 2) / np.sum(q))


class AffineFit(NamedTuple):
    """The best affine approximation c + a z of phi(z), z ~ N(0, q), in mean square.

    ``variance`` of phi(z), ``share`` of it that no affine map explains; ``leverage``:
    E r^2 z^2 / (q E r^2) of the residual r.
    """

    slope: float
    mean: float
    variance: float
    share: float
    leverage: float


def best_affine(activation: Nonlinearity, q: float) -> AffineFit:
    """The affine part of phi under N(0, q): slope E phi' = E z phi / q (Stein), mean E phi.

    Of W_2 phi(W_1 x) with orthogonal weights and x ~ N(0, q I) no affine map of x explains more:
    its units are independent and the residuals uncorrelated with x.  share = 1 - q slope^2 / Var.
    share and leverage are 0 and nan where phi itself is affine.  Relative error 1e-10.
    Raises ValueError unless q is finite and positive.
    """
    positive("q", q)
    mean = float(activation.expectation(activation.phi, q))
    slope = float(activation.expectation(lambda z: z * activation.phi(z), q)) / q

    def residual(z: Array) -> Array:
        return activation.phi(z) - mean - slope * z

    rest = float(activation.expectation(lambda z: residual(z) ** 2, q))
    lever = float(activation.expectation(lambda z: residual(z) ** 2 * z * z, q))
    variance = rest + q * slope**2
    if rest <= 1e-24 * variance:
        return AffineFit(slope, mean, variance, 0.0, math.nan)
    return AffineFit(slope, mean, variance, rest / variance, lever / (q * rest))


class Plan(NamedTuple):
    """An order of multiplication and its floating-point operations."""

    order: Order
    flops: int


def _sizes(sizes: Sequence[int]) -> list[int]:
    found: list[int] = wholes("sizes", sizes, fewest=2).tolist()
    return found


def chain_flops(sizes: Sequence[int], order: Order) -> int:
    """Operations of A_1 ... A_k in that order, A_i of sizes[i-1] x sizes[i]: 2 m k n a product.

    Raises ValueError unless the sizes are two or more whole numbers of at least 1, and the order is
    one of theirs.
    """
    n = _sizes(sizes)

    def walk(part: Order) -> tuple[int, int, int]:
        if isinstance(part, int) and 0 <= part < len(n) - 1:
            return part, part + 1, 0
        if not isinstance(part, tuple) or len(part) != 2:
            raise ValueError(f"order={order!r}: must be pairs of factors, 0 to {len(n) - 2}")
        (first, middle, one), (start, last, other) = walk(part[0]), walk(part[1])
        if middle != start:
            raise ValueError(f"order={order!r}: must multiply neighbours")
        return first, last, one + other + 2 * n[first] * n[middle] * n[last]

    first, last, flops = walk(order)
    if (first, last) != (0, len(n) - 1):
        raise ValueError(f"order={order!r}: must cover {len(n) - 1} factors")
    return flops


def matrix_first(sizes: Sequence[int]) -> Plan:
    """((A_1 A_2) A_3) ...: the stack's matrices first, its input last.  Raises as its parts."""
    order: Order = 0
    for factor in range(1, len(_sizes(sizes)) - 1):
        order = (order, factor)
    return Plan(order, chain_flops(sizes, order))


def vector_first(sizes: Sequence[int]) -> Plan:
    """A_1 (A_2 (A_3 ...)): layer by layer from the input.  Raises as its parts."""
    last = len(_sizes(sizes)) - 2
    order: Order = last
    for factor in range(last - 1, -1, -1):
        order = (factor, order)
    return Plan(order, chain_flops(sizes, order))


def collapse_cost(width: ArrayLike, depth: ArrayLike, batch: ArrayLike) -> Array:
    """Operations of W_L ... W_1 x, the matrices first, over those of layer by layer.

    (n (L - 1) + B) / (L B) for L square layers of ``width`` n and B columns: 1 at B = n.
    Raises ValueError unless the sizes are integers, at least 1.
    """
    sizes = {"width": width, "depth": depth, "batch": batch}
    n, layers, columns = (wholes(name, size).astype(np.float64) for name, size in sizes.items())
    ratio: Array = (n * (layers - 1) + columns) / (layers * columns)
    return ratio[()]


def best_order(sizes: Sequence[int]) -> Plan:
    """The order with the fewest operations, by dynamic programming over sub-chains.

    Cormen et al. 2022, Introduction to Algorithms, 4th ed., sec. 14.2; O(k^3).
    Raises as ``chain_flops``.
    """
    n = _sizes(sizes)
    plans: dict[tuple[int, int], Plan] = {(i, i + 1): Plan(i, 0) for i in range(len(n) - 1)}
    for length in range(2, len(n)):
        for first in range(len(n) - length):
            last = first + length
            plans[first, last] = min(
                (
                    Plan(
                        (plans[first, cut].order, plans[cut, last].order),
                        plans[first, cut].flops
                        + plans[cut, last].flops
                        + 2 * n[first] * n[cut] * n[last],
                    )
                    for cut in range(first + 1, last)
                ),
                key=lambda plan: plan.flops,
            )
    return plans[0, len(n) - 1]
