"""Exact laws of the signal's size in random networks of finite width.

For Gaussian weights without biases the layers' factors of the mean square ||h||^2 / n are
independent whatever the input: (sigma_w^2 / n) chi^2_n for linear layers, and for ReLU layers
(sigma_w^2 / n) chi^2_K with K ~ Binomial(n, 1/2) active units, where n is the layer's own width
(Hanin & Nica 2020, Commun. Math. Phys. 376, arXiv 1812.05994).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


class LogNorm(NamedTuple):
    """Mean and variance of one layer's increment of ln(||h||^2 / n)."""

    mean: float
    variance: float


def _check_width(width: int) -> None:
    if not width >= 1:
        raise ValueError(f"width={width!r}: must be at least 1")


def _check_sigma(sigma_w: float) -> None:
    if not 0 < sigma_w < math.inf:
        raise ValueError(f"sigma_w={sigma_w!r}: must be finite and above 0")


def linear_log_norm(width: int, sigma_w: float = 1.0) -> LogNorm:
    """A linear layer's: mean psi(n/2) + ln(2 sigma_w^2 / n), variance psi_1(n/2).

    Weights of variance sigma_w^2 / fan_in, by default LeCun's.
    Raises ValueError if width < 1 or sigma_w is not positive.
    """
    _check_width(width)
    _check_sigma(sigma_w)
    mean = float(special.digamma(width / 2)) + math.log(2 / width) + 2 * math.log(sigma_w)
    return LogNorm(mean, float(special.polygamma(1, width / 2)))


@lru_cache(maxsize=256)
def relu_log_norm(width: int, sigma_w: float = math.sqrt(2)) -> LogNorm:
    """A ReLU layer's, given that at least one unit is active: the mixture over Binomial(n, 1/2).

    Mean E[psi(K/2)] + ln(2 sigma_w^2 / n), variance E[psi_1(K/2)] + Var[psi(K/2)], K >= 1.
    Weights of variance sigma_w^2 / fan_in, by default He's.
    Raises ValueError if width < 1 or sigma_w is not positive.
    """
    _check_width(width)
    _check_sigma(sigma_w)
    active = np.arange(1, width + 1, dtype=np.float64)
    log_mass = -special.betaln(active + 1, width - active + 1) - width * math.log(2)
    mass = np.exp(log_mass)
    mass /= mass.sum()
    level = special.digamma(active / 2)
    mean = float(mass @ level)
    variance = float(mass @ (special.polygamma(1, active / 2) + (level - mean) ** 2))
    return LogNorm(mean + math.log(2 / width) + 2 * math.log(sigma_w), variance)


def log_normal_coefficient(slope: float = 0.0) -> float:
    """c(a) = 6 (1 + a^4) / (1 + a^2)^2 - 1 for a leaky ReLU of slope a: 5 for ReLU, 2 if linear.

    The relative variance of one layer's factor times its width, E h^4 / (E h^2)^2 - 1 of one unit,
    where the gain keeps the mean square.  Raises ValueError if the slope is not finite.
    """
    if not math.isfinite(slope):
        raise ValueError(f"slope={slope!r}: must be finite")
    # The same for a and 1/a: kept to the one of them that cannot overflow.
    square = min(abs(slope), 1 / abs(slope)) ** 2 if slope else 0.0
    return 6 * (1 + square**2) / (1 + square) ** 2 - 1


def log_normal_variance(widths: Sequence[int], slope: float = 0.0) -> float:
    """beta = c(a) sum 1 / n_l: at large width ln(||h||^2 / n) ~ N(-beta / 2, beta).

    Hanin & Nica 2020, for a gain that keeps the mean square, over hidden ``widths``.
    Raises ValueError if a width is below 1.
    """
    for width in widths:
        _check_width(width)
    return log_normal_coefficient(slope) * math.fsum(1 / width for width in widths)


def dead_probability(width: int, depth: int) -> float:
    """1 - (1 - 2^-n)^L: a ReLU network without biases maps a given input to exactly 0.

    In each of L layers of width n all units are inactive with probability 2^-n, independently
    (cf. Lu et al. 2019, arXiv 1903.06733, who bound the case of all inputs).
    Raises ValueError if width < 1 or depth < 0.
    """
    _check_width(width)
    if not depth >= 0:
        raise ValueError(f"depth={depth!r}: must be at least 0")
    if width == 1 and depth == 0:
        return 0.0
    return -math.expm1(depth * math.log1p(-math.ldexp(1, -width)))
