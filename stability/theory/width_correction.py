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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array, Elementwise, nonnegative


class LogCorrection(NamedTuple):
    """n (E ln X - ln X at infinite width) and n Var ln X, a number a layer."""

    mean: Array
    variance: Array


@dataclass(frozen=True)
class _Layers:
    """Gaussian averages at the mean-field variances q^1..q^L, each (L,)."""

    q: Array
    v: Array
    """E phi^2, and by q its first (v1) and second (v2) derivatives."""
    v1: Array
    v2: Array
    noise: Array
    """Var phi^2."""
    drift: Array
    """n (E k - q), spread: n Var k."""
    spread: Array


def _moment(
    f: Elementwise, q: Array | float, activation: Nonlinearity
) -> tuple[Array, Array, Array]:
    """E f(sqrt(q) Z) and its first two derivatives by q, by Hermite polynomials: f may jump."""
    plain = activation.expectation(f, q)
    second = activation.expectation(lambda u: f(u) * u**2, q) / q
    fourth = activation.expectation(lambda u: f(u) * u**4, q) / q**2
    return plain, (second - plain) / (2 * q), (fourth - 6 * second + 3 * plain) / (4 * q**2)


def _layers(
    depth: int, q1: float, activation: Nonlinearity, sigma_w: float, sigma_b: float
) -> _Layers:
    if not depth >= 1:
        raise ValueError(f"depth={depth!r}: must be at least 1")
    for name, value in (("q1", q1), ("sigma_w", sigma_w)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r}: must be finite and above 0")
    shift = float(nonnegative("sigma_b", sigma_b)) ** 2
    rows = []
    q, drift, spread = float(q1), 0.0, 0.0
    for _ in range(depth):
        v, v1, v2 = (float(x) for x in _moment(lambda u: activation.phi(u) ** 2, q, activation))
        noise = float(activation.expectation(lambda u: activation.phi(u) ** 4, q)) - v**2
        rows.append((q, v, v1, v2, noise, drift, spread))
        q = sigma_w**2 * v + shift
        drift = sigma_w**2 * (v1 * drift + v2 * spread / 2)
        spread = sigma_w**4 * (v1**2 * spread + noise)
    return _Layers(*np.array(rows).T)


def preactivation_correction(
    depth: int,
    q1: float,
    activation: Nonlinearity,
    sigma_w: float,
    sigma_b: float = 0.0,
) -> LogCorrection:
    """Of ln(||z^l||^2 / n) for l = 1..depth: -5/2 (l - 1) - 1 and 5 (l - 1) + 2 for ReLU at He's.

    ``q1``: variance of the first preactivations, which is given.  Each k^l's own and that of the
    chi^2_n of z given k^l.  Raises ValueError if an argument is out of range.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    relative = at.spread / at.q**2
    return LogCorrection(at.drift / at.q - relative / 2 - 1, relative + 2)


def activation_correction(
    depth: int,
    q1: float,
    activation: Nonlinearity,
    sigma_w: float,
    sigma_b: float = 0.0,
) -> LogCorrection:
    """Of ln(||h^l||^2 / n) for l = 1..depth: -5/2 l and 5 l for ReLU at He's scale.

    Raises ValueError if an argument is out of range.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    variance = (at.v1**2 * at.spread + at.noise) / at.v**2
    mean = (at.v1 * at.drift + at.v2 * at.spread / 2) / at.v - variance / 2
    return LogCorrection(mean, variance)


def gradient_correction(
    depth: int,
    q1: float,
    activation: Nonlinearity,
    sigma_w: float,
    sigma_b: float = 0.0,
) -> LogCorrection:
    """Of ln(||dL/dh^l||^2 / ||dL/dh^L||^2) for l = 0..depth: -5/2 (L - l), 5 (L - l) for ReLU.

    Above the mean-field value sum_(m>l) ln chi_1(q^m); h^0 is the input, of mean square
    (q1 - sigma_b^2) / sigma_w^2.  Raises ValueError as its siblings, and unless q1 > sigma_b^2.
    """
    at = _layers(depth, q1, activation, sigma_w, sigma_b)
    if not q1 > sigma_b**2:
        raise ValueError(f"q1={q1!r}: must be above sigma_b^2")
    mu1, mu1_1, mu1_2 = _moment(lambda u: activation.dphi(u) ** 2, at.q, activation)
    mu2 = activation.expectation(lambda u: activation.dphi(u) ** 4, at.q)
    both = activation.expectation(lambda u: (activation.phi(u) * activation.dphi(u)) ** 2, at.q)
    turn = activation.expectation(lambda u: u * activation.phi(u) * activation.dphi(u), at.q)
    stretch = activation.expectation(lambda u: (u * activation.dphi(u)) ** 2, at.q)
    chi = sigma_w**2 * mu1
    slope, bend = mu1_1 / mu1, mu1_2 / mu1 - (mu1_1 / mu1) ** 2
    below = np.append((q1 - sigma_b**2) / sigma_w**2, at.v[:-1])
    mean, variance = np.zeros(depth + 1), np.zeros(depth + 1)
    total = own = response = 0.0
    # E B^2 of the layer above over ||g||^2 here; nothing lies above the top, where g is isotropic.
    carried = math.nan
    for m in range(depth - 1, -1, -1):
        top = m == depth - 1
        share = sigma_w**2 * below[m] / at.q[m]
        ratio = both[m] / (mu1[m] * at.v[m])
        angle = stretch[m]
        # -1 for the mean of chi^2_(n-1) / n, -1 and the rest for half the variances in ln.
        step = -2.0 - 1.5 * (mu2[m] / mu1[m] ** 2 - 1)
        if not top:
            # g has the share B^2 / ||h||^2 along h and n - 1 equal ones across.
            angle += carried * (turn[m] / at.v[m]) ** 2 - turn[m] ** 2 / at.v[m]
            step += (1 - ratio) * (1 - carried / at.v[m])
        # z - b is the share of z that is not the bias's, and noise independent of z.
        moved = share**2 * angle + share * (1 - share) * at.q[m] * mu1[m]
        carried = moved / chi[m]
        step += carried / below[m]
        total += step + slope[m] * at.drift[m] + bend[m] * at.spread[m] / 2
        common = sigma_w**2 * (both[m] / mu1[m] - at.v[m])
        own += (
            2
            + 3 * (mu2[m] / mu1[m] ** 2 - 1)
            + 2 * response * common
            + response**2 * sigma_w**4 * at.noise[m]
        )
        response = slope[m] + sigma_w**2 * at.v1[m] * response
        mean[m] = total
        variance[m] = own + response**2 * at.spread[m]
    return LogCorrection(mean, variance)
