"""What an initialization does to the size of signals and gradients, and the gains that keep it."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from stability.theory.quadrature import Array, Elementwise, expectation, nonnegative


def _check_fan(name: str, fan: int) -> None:
    if not 1 <= fan < math.inf:
        raise ValueError(f"{name}={fan!r}: must be at least 1")


def _check_variance(variance: float) -> None:
    if not 0 <= variance < math.inf:
        raise ValueError(f"variance={variance!r}: must be finite and at least 0")


def forward_gain(fan_in: int, variance: float, second_moment: float = 1.0) -> float:
    """Factor of the mean square per layer, fan_in * variance * E phi(z)^2 / E z^2.

    ``variance``: of a weight; ``second_moment``: E phi^2 / q, 1 for linear, 1/2 for ReLU
    (He et al. 2015, arXiv 1502.01852, eq. 7).  Raises ValueError if an argument is out of range.
    """
    _check_fan("fan_in", fan_in)
    _check_variance(variance)
    return fan_in * variance * float(nonnegative("second_moment", second_moment))


def backward_gain(fan_out: int, variance: float, derivative_moment: float = 1.0) -> float:
    """Factor of the gradient's mean square per layer, fan_out * variance * E phi'^2.

    ``derivative_moment``: E phi'^2, 1 for linear, 1/2 for ReLU (He et al. 2015, eq. 13).
    Raises ValueError if an argument is out of range.
    """
    _check_fan("fan_out", fan_out)
    _check_variance(variance)
    return fan_out * variance * float(nonnegative("derivative_moment", derivative_moment))


def orthogonal_forward_gain(fan_in: int, fan_out: int) -> float:
    """min(fan_in, fan_out) / fan_out: factor of the mean square under orthonormal rows or columns.

    In expectation over Haar weights.  Raises ValueError if a fan is below 1.
    """
    _check_fan("fan_in", fan_in)
    _check_fan("fan_out", fan_out)
    return min(fan_in, fan_out) / fan_out


def orthogonal_backward_gain(fan_in: int, fan_out: int) -> float:
    """min(fan_in, fan_out) / fan_in: factor of the gradient's mean square, as the forward one."""
    return orthogonal_forward_gain(fan_out, fan_in)


def truncated_normal_std(cut: float = 2.0) -> float:
    """Standard deviation of N(0, 1) conditioned on |z| <= cut.

    sqrt(P(3/2, cut^2/2) / P(1/2, cut^2/2)) with the regularized incomplete gamma function P;
    .8796 at 2, by which Keras and JAX divide and ``torch.nn.init.trunc_normal_`` does not.
    Raises ValueError if the cut is not positive.
    """
    if not cut > 0:
        raise ValueError(f"cut={cut!r}: must be above 0")
    half = cut * cut / 2
    return math.sqrt(float(special.gammainc(1.5, half)) / float(special.gammainc(0.5, half)))


def _positive_variance(q: ArrayLike) -> Array:
    variance = nonnegative("q", q)
    if not np.all(variance > 0):
        raise ValueError(f"q={q!r}: must be above 0")
    return variance


def forward_preserving_gain(
    phi: Elementwise, q: ArrayLike = 1.0, kinks: Sequence[float] = ()
) -> Array:
    """The sigma_w that keeps the variance q of preactivations: sqrt(q / E phi(sqrt(q) Z)^2).

    At q = 1: 1 / sqrt(E phi(Z)^2).  Raises ValueError if q is not finite and positive.
    """
    variance = _positive_variance(q)
    return np.sqrt(variance / expectation(lambda u: phi(u) ** 2, variance, kinks))


def backward_preserving_gain(
    dphi: Elementwise, q: ArrayLike = 1.0, kinks: Sequence[float] = ()
) -> Array:
    """The sigma_w that keeps gradients at preactivation variance q: 1 / sqrt(E phi'(sqrt(q) Z)^2).

    Never above the forward one for odd phi at q = 1, as E phi'^2 >= Var phi (the Gaussian Poincare
    inequality; Chernoff 1981).  Raises ValueError if q is not finite and positive.
    """
    return 1 / np.sqrt(expectation(lambda u: dphi(u) ** 2, _positive_variance(q), kinks))
