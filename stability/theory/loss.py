"""The cross-entropy of networks that have learnt nothing: random logits, or output biases alone."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal

from stability.arguments import nonnegative, positive, whole
from stability.theory.quadrature import Array

_REACH = 9.0  # P(|Z| > 9) = 2e-19
_STEP = 0.1  # of the narrower of a Gaussian and exp(-e^s)
_LINEAR = 1e-4  # a variance up to which the first order has a relative error of 1e-9
_LARGEST = 1e6  # a variance from which the largest logit is nearly all


def random_loss(q: ArrayLike, classes: int) -> Array:
    """E ln sum_k exp(z_k) - z_y: the cross-entropy of independent logits z ~ N(0, q), of q's shape.

    ln S = integral of (exp(-e^s) - exp(-e^s S)) ds (Frullani), where the expectation factors into
    those of the classes, each a convolution in s; all by the trapezoidal rule, which converges
    geometrically.  ln(classes) at q = 0; up to 1e-4 that and q (1 - 1 / classes) / 2; above 1e6 the
    largest logit's mean, short of it by at most ln(classes), below 0.3 %.
    Raises ValueError if q is negative or not finite, or there are fewer than 2 classes.
    """
    variance = nonnegative("q", q)
    whole("classes", classes, 2)
    losses = np.array([_random_loss(float(value), classes) for value in variance.ravel()])
    result: Array = losses.reshape(variance.shape)[()]
    return result


def _random_loss(variance: float, classes: int) -> float:
    if variance <= _LINEAR:
        return math.log(classes) + variance * (1 - 1 / classes) / 2
    deviation = math.sqrt(variance)
    step = _STEP * min(deviation, 1.0)
    reach = math.ceil(_REACH * min(deviation, math.sqrt(_LARGEST)) / step)
    z = step * np.arange(-reach, reach + 1)
    mass = np.exp(-((z / min(deviation, math.sqrt(_LARGEST))) ** 2) / 2)
    mass /= mass.sum()
    if variance > _LARGEST:
        top = np.diff(np.cumsum(mass) ** classes, prepend=0.0) @ z
        return float(top) * deviation / math.sqrt(_LARGEST)
    low = math.floor((-40 - _REACH * deviation) / step)
    high = math.ceil((10 + _REACH * deviation) / step)
    s = step * np.arange(low - reach, high + reach + 1)
    single = np.exp(-np.exp(np.minimum(s, 10.0)))
    mean = np.clip(signal.fftconvolve(single, mass, mode="valid"), 0.0, 1.0)
    return float(step * np.sum(single[reach:-reach] - mean**classes))


def bias_loss(classes: int, rate: float, batch: int, steps: int) -> float:
    """The loss of a net that learns its output biases alone, from 0, for equally frequent classes.

    ln C and the noise of SGD: the biases' covariance tends to rate / (2 batch) on the C - 1
    directions where the loss curves by 1 / C (Mandt et al. 2017, arXiv 1704.04289), by
    1 - (1 - rate / C)^(2 steps) of it.  First order in rate / C; nan for rates of C and more, where
    descent itself overshoots.
    Raises ValueError if classes < 2, the rate is not positive, batch < 1 or steps < 0.
    """
    whole("classes", classes, 2)
    positive("rate", rate)
    whole("batch", batch)
    whole("steps", steps, 0)
    if rate >= classes:
        return math.nan
    settled = 1 - (1 - rate / classes) ** (2 * steps)
    return math.log(classes) + rate * (1 - 1 / classes) / (4 * batch) * settled
