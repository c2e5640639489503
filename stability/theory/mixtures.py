"""Preactivations of a network of finite width over several inputs: mixtures of N(0, q).

A value comes with a bound on its bias: twice the leading terms in 1 / width.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from stability.arguments import (
    finite,
    fraction,
    matrix,
    nonnegative,
    positives,
    whole,
    wholes,
)
from stability.theory.loss import random_loss
from stability.theory.meanfield import variance_map
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array
from stability.theory.saturation import share_beyond, sigmoid_cdf, tanh_cdf

LAWS = ("gaussian", "uniform", "orthogonal")
"""Of weights: independent entries of the first two kinds, or orthonormal rows or columns."""
_VALUES = {"sigmoid": sigmoid_cdf, "tanh": tanh_cdf}
_REACH = 10.0  # standard deviations of a Gaussian beyond which float64 sees nothing of it
_TINY = float(np.finfo(float).tiny)


class Field(NamedTuple):
    """A layer's preactivations for each of m inputs: N(0, q) up to terms of order 1 / width.

    ``shift``, ``spread``: mean and standard deviation of a network's own variance less q;
    ``excess``: the kurtosis that weights which are not Gaussian leave; all (m,), leading order.
    """

    q: Array
    shift: Array
    spread: Array
    excess: Array

    @property
    def wide(self) -> Array:
        """The s for which q +- s adds to g(q) what ``spread`` and ``excess`` do together, (m,)."""
        s: Array = np.sqrt(self.spread**2 + np.abs(self.excess) * self.q**2 / 3)
        return s

    def bias_of(self, g: Callable[[Array], Array]) -> Array:
        """Twice the leading term of what ``shift``, ``spread`` and ``excess`` add to g(q), (m,).

        A variance that is q +- s adds (g(q + s) + g(q - s)) / 2 - g(q); an excess kurtosis k does
        as s^2 = k q^2 / 3 does (both are the fourth Hermite term of the Edgeworth expansion).
        """
        wide, base = self.wide, g(self.q)
        curved = (g(self.q + wide) + g(np.maximum(self.q - wide, 0.0))) / 2 - base
        moved = g(np.maximum(self.q + self.shift, 0.0)) - base
        return 2 * (np.abs(curved) + np.abs(moved))

    def mean_of(self, g: Callable[[Array], Array]) -> "Known":
        """The mean of g(q) over the inputs, and of the bound on its bias, to 3 digits."""
        return Known(float(np.mean(g(self.q))), _readable(float(np.mean(self.bias_of(g)))))


class Known(NamedTuple):
    """A prediction and a bound on its bias."""

    value: float
    bias: float


class Moments(NamedTuple):
    """Of the activations of all inputs together."""

    mean: float
    std: float


class Quantiles(NamedTuple):
    """Values at some levels and bounds on their bias, each of the levels' shape."""

    values: Array
    biases: Array


def _readable(x: float) -> float:
    return float(f"{x:.3g}")


def fields(
    inputs: ArrayLike,
    fans: Sequence[tuple[int, int]],
    stds: Sequence[float],
    activation: Nonlinearity,
    law: str = "gaussian",
) -> list[Field]:
    """The law of every layer's preactivations, without biases; ``inputs``: (m, d).

    Mean field (Poole et al. 2016, eq. 3) and the delta method along the layers to first order in
    1 / width, as ``width_correction`` has it for one input: a layer's own spread is
    gain^4 Var phi^2 / fan_in.  ``fans``: (fan_in, fan_out) and ``stds``: of a weight, a layer;
    ``law``: one of ``LAWS``.
    Raises ValueError unless inputs are a finite matrix none of whose rows is 0, fans are whole and
    at least 1, stds as many, finite and positive, and the law is known.
    """
    x = matrix("inputs", inputs)
    norms = np.square(x).sum(axis=1)
    if not norms.all():
        raise ValueError("inputs: must have no row of zeros")
    shape = wholes("fans", fans, fewest=1).shape
    scales = positives("stds", np.asarray(stds, dtype=np.float64))
    if shape != (len(scales), 2):
        raise ValueError(f"stds={stds!r}: must be one for each of the {len(fans)} pairs of fans")
    if law not in LAWS:
        raise ValueError(f"law={law!r}: must be one of {', '.join(LAWS)}")
    zero = np.zeros_like(norms)
    peaked = np.square(x**2).sum(axis=1) / norms**2
    found = [Field(stds[0] ** 2 * norms, zero, zero, _excess(law, fans[0], peaked))]
    for fan, std in zip(fans[1:], stds[1:], strict=True):
        before = found[-1]
        gain = std * math.sqrt(fan[0])

        def following(q: Array, gain: float = gain) -> Array:
            return variance_map(q, activation, gain)

        q = following(before.q)
        fourth = activation.expectation(lambda u: activation.phi(u) ** 4, before.q)
        second = q / gain**2
        up = following(before.q + before.spread)
        down = following(np.maximum(before.q - before.spread, 0.0))
        wide = before.wide
        above, below = following(before.q + wide), following(np.maximum(before.q - wide, 0.0))
        shift = following(np.maximum(before.q + before.shift, 0.0)) - q + (above + below) / 2 - q
        own = gain**4 * np.maximum(fourth - second**2, 0.0) / fan[0]
        floor = np.maximum(second, _TINY) ** 2
        peaked = np.where(second > 1e-150, fourth / floor, 3.0) / fan[0]
        spread = np.sqrt(((up - down) / 2) ** 2 + own)
        found.append(Field(q, shift, spread, _excess(law, fan, peaked)))
    return found


def _excess(law: str, fan: tuple[int, int], peaked: Array) -> Array:
    """Excess kurtosis of sum_i w_i h_i, where ``peaked`` is sum h^4 / (sum h^2)^2.

    A uniform entry's is -6/5; a coordinate of a uniform direction in n dimensions has -6 / (n + 2).
    """
    each = {"gaussian": 0.0 * peaked, "uniform": -1.2 * peaked}
    return each.get(law, np.full_like(peaked, -6 / (max(fan) + 2)))


def saturated_share(field: Field, threshold: float) -> Known:
    """P(|x| > threshold), the mean over the inputs of ``saturation.share_beyond``.

    Raises ValueError if the threshold is negative or nan.
    """
    return field.mean_of(lambda q: share_beyond(threshold, q))


def activation_moments(field: Field, activation: Nonlinearity) -> Moments:
    """Mean and standard deviation of phi(x) over the mixture of N(0, q)."""
    mean = float(np.mean(activation.expectation(activation.phi, field.q)))
    square = float(np.mean(activation.second_moment(field.q)))
    return Moments(mean, math.sqrt(max(square - mean**2, 0.0)))


def _below(z: float, q: Array) -> Array:
    """P(x <= z) for x ~ N(0, q)."""
    share: Array = special.ndtr(z / np.sqrt(np.maximum(q, _TINY)))
    return share


def activation_quantiles(
    field: Field, activation: Nonlinearity, levels: Sequence[float], width: int, rounding: float
) -> Quantiles:
    """phi at the quantiles of the mixture of N(0, q), for phi that increases.

    The bias: twice the leading term of the share below the quantile, and, since a quantile is not
    linear in that share, what its own deviation (at most that of ``width`` independent units)
    adds; and ``rounding`` for a sum of ``width`` products.  Where so few units lie beyond the
    quantile that their number may be 0, the bound is 1, more than any claim can use.
    Raises ValueError unless levels lie in (0, 1), width is whole and at least 1, and rounding
    finite and at least 0.
    """
    for p in levels:
        fraction("levels", p)
    whole("width", width)
    nonnegative("rounding", rounding)
    unit = math.sqrt(float(field.q.max()))

    def place(p: float) -> float:
        level = min(max(p, 1e-9), 1 - 1e-9)

        def excess(y: float) -> float:
            return float(np.mean(_below(y * unit, field.q))) - level

        return unit * optimize.brentq(excess, -_REACH, _REACH, xtol=1e-14) if unit else 0.0

    def quantile(p: float) -> float:
        return float(activation.phi(np.array([place(p)]))[0])

    values, biases = [], []
    for p in levels:
        value, z = quantile(p), place(p)
        up, down = field.q + field.spread, np.maximum(field.q - field.spread, 0.0)
        swing = float(np.mean(np.abs(_below(z, up) - _below(z, down)))) / 2
        deviation = math.sqrt(p * (1 - p) / width + swing**2)
        bent = abs(quantile(p + deviation) + quantile(p - deviation) - 2 * value)
        moved = float(np.mean(field.bias_of(partial(_below, z))))
        along = max(abs(quantile(p + moved) - value), abs(quantile(p - moved) - value))
        values.append(value)
        few = deviation > min(p, 1 - p)
        biases.append(1.0 if few else _readable(bent + along + rounding))
    return Quantiles(np.array(values), np.array(biases))


def activation_density(field: Field, name: str, edges: ArrayLike) -> Array:
    """The density of sigmoid(x) or tanh(x), averaged over each of equal bins and the inputs.

    ``edges``: (bins + 1,).  Shape (bins,).
    Raises ValueError unless the name is sigmoid or tanh, and edges are finite and increase.
    """
    if name not in _VALUES:
        raise ValueError(f"name={name!r}: must be one of {', '.join(_VALUES)}")
    ends = finite("edges", edges)
    if ends.ndim != 1 or len(ends) < 2 or not np.all(np.diff(ends) > 0):
        raise ValueError(f"edges={edges!r}: must be two or more that increase")
    mass = [np.diff(_VALUES[name](ends, 0.0, max(float(q), _TINY))) for q in field.q]
    density: Array = np.mean(mass, axis=0) * (len(ends) - 1) / (ends[-1] - ends[0])
    return density


def expected_loss(field: Field, classes: int) -> Known:
    """The mean cross-entropy of random logits N(0, q), E ln sum e^z, and a bound on its bias.

    The label's own logit has mean 0.  ``loss.random_loss``, interpolated in q by a Chebyshev
    polynomial.  Raises ValueError if there are fewer than 2 classes.
    """
    kurtic = np.sqrt(np.abs(field.excess) / 3) * field.q
    high = float(np.max(field.q + field.shift + field.spread + kurtic))
    low = max(0.0, float(np.min(field.q - field.spread - kurtic)))
    low, high = 0.9 * low, 1.1 * high + 1e-6
    curve = np.polynomial.Chebyshev.interpolate(
        lambda q: random_loss(q, classes), 12, domain=[low, high]
    )
    return field.mean_of(lambda q: np.asarray(curve(np.clip(q, low, high))))
