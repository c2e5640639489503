"""First order in 1 / width of the logarithms that mean-field theory predicts, any activation.

Square layers of n units, independent entries of weights N(0, sigma_w^2 / n) and biases
N(0, sigma_b^2), one input, depth fixed as n grows.

Forward: given the layer below, the preactivations are independent N(0, k^l), so that
k^(l+1) = sigma_b^2 + sigma_w^2 mean phi(sqrt(k^l) Z_i)^2 is a Markov chain, exactly at any width;
the delta method gives E k^l - q^l and Var k^l to first order (Roberts, Yaida & Hanin 2022,
arXiv 2106.10165, ch. 4: their recursions of the four-point vertex and of the metric's correction).

Backward: given z^l, W^l = (z - b) h^T / ||h||^2 + W' (1 - h h^T / ||h||^2) with W' independent,
so that, exactly at any width, ||g^(l-1)||^2 is B^2 / ||h||^2 + (sigma_w^2 chi^2_(n-1) / n)
||phi'(z) g||^2 with B = (z - b) . (phi'(z) g).  Its first order needs E B^2, carried from layer to
layer.  The gradient at the top is independent of the network, its direction uniform.

What is proven is the coefficient of 1 / n at a fixed depth; the remainder is O(1 / n^2) with a
factor that grows with depth, and is not bounded here.
"""

import math
from typing import NamedTuple

import numpy as np

from stability.arguments import nonnegative, positive, whole
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array, Elementwise

_SMALLEST = 1e-290  # of a variance whose moments keep their digits


class LogCorrection(NamedTuple):
    """n (E ln X - ln X at infinite width) and n Var ln X, a number a layer."""

    mean: Array
    variance: Array


class _Layers(NamedTuple):
    """Gaussian averages at the mean-field variances q^1..q^L, each (L,), all relative."""

    q: Array
    v: Array  # V = E phi^2
    share: Array  # of q that weights give: sigma_w^2 V below / q
    rise: Array  # q V' / V
    bend: Array  # q^2 V'' / V
    noise: Array  # Var phi^2 / V^2
    drift: Array  # n (E k - q) / q
    spread: Array  # n Var k / q^2


def _moment(f: Elementwise, q: float, activation: Nonlinearity) -> tuple[float, float, float]:
    """F = E f(sqrt(q) Z), q F' / F and q^2 F'' / F, by Hermite polynomials: f may jump."""
    sd = math.sqrt(q)
    plain = float(activation.expectation(f, q))
    second = float(activation.expectation(lambda u: f(u) * (u / sd) ** 2, q))
    fourth = float(activation.expectation(lambda u: f(u) * (u / sd) ** 4, q))
    rise, bend = (second - plain) / 2, (fourth - 6 * second + 3 * plain) / 4
    return plain, rise / plain, bend / plain


def _relative_variance(f: Elementwise, q: float, activation: Nonlinearity) -> float:
    """Var f / (E f)^2 for f >= 0."""
    mean = float(activation.expectation(f, q))
    return float(activation.expectation(lambda u: (f(u) / mean) ** 2, q)) - 1


class _Slopes(NamedTuple):
    """Averages of one layer under the weight phi'^2, and that weight's own."""

    mu1: float  # E phi'^2
    rise: float  # of ln mu1 by ln q
    bend: float  # q^2 mu1'' / mu1 - rise^2
    excess: float  # Var phi'^2 / mu1^2
    ratio: float  # of phi^2 / V
    angle: float  # of z^2 / q


def _slopes(q: float, v: float, activation: Nonlinearity) -> _Slopes:
    def weight(u: Array) -> Array:
        return activation.dphi(u) ** 2

    sd, size = math.sqrt(q), math.sqrt(v)
    mu1, rise, bend = _moment(weight, q, activation)
    both = activation.expectation(lambda u: weight(u) * (activation.phi(u) / size) ** 2, q)
    stretch = activation.expectation(lambda u: weight(u) * (u / sd) ** 2, q)
    excess = _relative_variance(weight, q, activation)
    return _Slopes(mu1, rise, bend - rise**2, excess, float(both) / mu1, float(stretch) / mu1)


def _layers(
    depth: int, q1: float, activation: Nonlinearity, sigma_w: float, sigma_b: float
) -> _Layers:
    whole("depth", depth)
    positive("q1", q1)
    positive("sigma_w", sigma_w)
    offset = float(nonnegative("sigma_b", sigma_b)) ** 2
    rows = []
    q, share, drift, spread = float(q1), 1 - offset / q1, 0.0, 0.0
    for layer in range(1, depth + 1):
        if not _SMALLEST < q < 1 / _SMALLEST:
            raise ValueError(f"q1={q1!r}: the variance of layer {layer} is out of range, {q!r}")
        v, rise, bend = _moment(lambda u: activation.phi(u) ** 2, q, activation)
        noise = _relative_variance(lambda u: activation.phi(u) ** 2, q, activation)
        rows.append((q, v, share, rise, bend, noise, drift, spread))
        q = sigma_w**2 * v + offset
        share = sigma_w**2 * v / q
        drift = share * (rise * drift + bend * spread / 2)
        spread = share**2 * (rise**2 * spread + noise)
    return _Layers(*np.array(rows).T)


def preactivation_correction(
    depth: int, q1: float, activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0
) -> LogCorrection:
    """Of ln(||z^l||^2 / n) for l = 1..depth: -5/2 (l - 1) - 1 and 5 (l - 1) + 2 for ReLU at He's.

    ``q1``: variance of the first preactivations, which is given.  Each k^l's own and that of the
    chi^2_n of z given k^l.  Raises ValueError if an argument is out of range.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    return LogCorrection(at.drift - at.spread / 2 - 1, at.spread + 2)


def activation_correction(
    depth: int, q1: float, activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0
) -> LogCorrection:
    """Of ln(||h^l||^2 / n) for l = 1..depth: -5/2 l and 5 l for ReLU at He's scale.

    Raises ValueError if an argument is out of range.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    variance = at.rise**2 * at.spread + at.noise
    return LogCorrection(at.rise * at.drift + at.bend * at.spread / 2 - variance / 2, variance)


def gradient_correction(
    depth: int, q1: float, activation: Nonlinearity, sigma_w: float, sigma_b: float = 0.0
) -> LogCorrection:
    """Of ln(||dL/dh^l||^2 / ||dL/dh^L||^2) for l = 0..depth: -5/2 (L - l), 5 (L - l) for ReLU.

    Above the mean-field value sum_(m>l) ln chi_1(q^m); h^0 is the input, of mean square
    (q1 - sigma_b^2) / sigma_w^2.  Raises ValueError as its siblings, and unless q1 > sigma_b^2.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    if not q1 > sigma_b**2:
        raise ValueError(f"q1={q1!r}: must be above sigma_b^2")
    mean, variance = np.zeros(depth + 1), np.zeros(depth + 1)
    total = own = response = 0.0
    # E B^2 of the layer above over ||g||^2 and V here; nothing lies above the top.
    carried = math.nan
    for m in range(depth - 1, -1, -1):
        here = _slopes(float(at.q[m]), float(at.v[m]), activation)
        angle = here.angle
        # -1 for the mean of chi^2_(n-1) / n, -1 and the rest for half the variances in ln.
        step = -2 - 1.5 * here.excess
        if m < depth - 1:
            # g has the share B^2 / ||h||^2 along h and n - 1 equal ones across.
            angle += (carried - 1) * at.rise[m] ** 2 * at.v[m] / (here.mu1 * at.q[m])
            step += (1 - here.ratio) * (1 - carried)
            share = at.share[m + 1]
            own += 2 * response * share * (here.ratio - 1) + (response * share) ** 2 * at.noise[m]
            response *= share * at.rise[m]
        # z - b is the share of z that is not the bias's, and noise independent of z.
        carried = at.share[m] * angle + 1 - at.share[m]
        total += step + carried + here.rise * at.drift[m] + here.bend * at.spread[m] / 2
        own += 2 + 3 * here.excess
        response += here.rise
        mean[m] = total
        variance[m] = own + response**2 * at.spread[m]
    return LogCorrection(mean, variance)


class Ratio(NamedTuple):
    """A mean square relative to its value at infinite width, and the square of its 1 / n terms."""

    value: float
    neglected: float


def gradient_ratio(
    depth: int,
    q1: float,
    activation: Nonlinearity,
    sigma_w: float,
    width: int,
    sigma_b: float = 0.0,
) -> Ratio:
    """E ||dL/dh^0||^2 over its mean-field value: 1 + (mean + variance / 2) / n of the logarithm.

    To first order ln E X = E ln X + Var ln X / 2, of ``gradient_correction`` through all layers.
    Raises ValueError as that does, and if the width is not whole and at least 1.
    """
    whole("width", width)
    law = gradient_correction(depth, q1, activation, sigma_w, sigma_b)
    shift = float(law.mean[0] + law.variance[0] / 2) / width
    terms = float(abs(law.mean[0]) + law.variance[0] / 2) / width
    return Ratio(1 + shift, terms**2)
