"""Binary floating-point formats: their range and precision, and what is lost in them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-12  # of a ratio of two logarithms: powers of two may meet a limit exactly


@dataclass(frozen=True)
class Format:
    """A binary format (IEEE 754-2019, sec. 3.3): precision p in bits, exponents emin to emax."""

    name: str
    precision: int
    emin: int
    emax: int

    @property
    def max(self) -> float:
        """The largest finite number, (2 - 2^(1-p)) 2^emax."""
        return math.ldexp(2 - math.ldexp(1, 1 - self.precision), self.emax)

    @property
    def smallest_normal(self) -> float:
        """The smallest number of full precision, 2^emin."""
        return math.ldexp(1, self.emin)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number, 2^(emin - p + 1)."""
        return math.ldexp(1, self.emin - self.precision + 1)

    @property
    def unit_roundoff(self) -> float:
        """The largest relative error of rounding to nearest, u = 2^-p (half of eps)."""
        return math.ldexp(1, -self.precision)


FORMATS = {
    entry.name: entry
    for entry in (
        Format("float64", 53, -1022, 1023),
        Format("float32", 24, -126, 127),
        Format("float16", 11, -14, 15),
        Format("bfloat16", 8, -126, 127),
    )
}


def loss_depth(decades_per_layer: ArrayLike, start_decades: ArrayLike, format: Format) -> Array:
    """The first depth l = 0, 1, ... at which a magnitude 10^(start + l decades) is lost.

    Lost: below the smallest subnormal or above the largest finite number of ``format``.  inf if
    that never happens.  Broadcasts its first two arguments.  Raises ValueError if one is nan.
    """
    rate, start = np.broadcast_arrays(
        np.asarray(decades_per_layer, dtype=np.float64),
        np.asarray(start_decades, dtype=np.float64),
    )
    if np.isnan(rate).any():
        raise ValueError(f"decades_per_layer={decades_per_layer!r}: must not be nan")
    if np.isnan(start).any():
        raise ValueError(f"start_decades={start_decades!r}: must not be nan")
    low, high = math.log10(format.smallest_subnormal), math.log10(format.max)
    room = np.where(rate > 0, high - start, start - low)
    steps = np.divide(room, np.abs(rate), out=np.full(rate.shape, np.inf), where=rate != 0)
    whole = np.rint(steps)
    met = np.isclose(steps, whole, rtol=_ROUNDING, atol=0)
    # The smallest subnormal is kept; the logarithm of float64's max is that of a power of two that
    # is not.
    steps = np.where(met, np.where(rate > 0, whole - 1, whole), np.floor(steps))
    return np.where((start < low) | (start > high), 0.0, steps + 1)


def _check_count(n: ArrayLike, u: float) -> Array:
    count = np.asarray(n, dtype=np.float64)
    if not np.all(np.isfinite(count) & (count >= 0)):
        raise ValueError(f"n={n!r}: must be finite and at least 0")
    if not 0 < u < 1:
        raise ValueError(f"u={u!r}: must lie in (0, 1)")
    return count


def gamma(n: ArrayLike, u: float) -> Array:
    """gamma_n = n u / (1 - n u), the worst relative error of n roundings; inf once n u >= 1.

    Higham 2002, Accuracy and Stability of Numerical Algorithms, lemma 3.1.
    Raises ValueError if n is negative or u is not in (0, 1).
    """
    product = _check_count(n, u) * u
    bound: Array = np.full(product.shape, np.inf)
    np.divide(product, 1 - product, out=bound, where=product < 1)
    return bound


def gamma_probabilistic(n: ArrayLike, u: float, confidence: float = 1.0) -> Array:
    """exp(confidence sqrt(n) u + n u^2 / (1 - u)) - 1, for independent roundings of mean zero.

    Exceeded with probability at most 2 exp(-confidence^2 (1 - u)^2 / 2): Higham & Mary 2019,
    SIAM J. Sci. Comput. 41, theorem 2.4.
    Raises ValueError if n or confidence is negative or u is not in (0, 1).
    """
    count = _check_count(n, u)
    if not 0 <= confidence < math.inf:
        raise ValueError(f"confidence={confidence!r}: must be finite and at least 0")
    with np.errstate(over="ignore"):
        bound: Array = np.expm1(confidence * np.sqrt(count) * u + count * u**2 / (1 - u))
    return bound


def exp_overflow(format: Format) -> float:
    """The input ln(max) above which exp overflows."""
    return math.log(format.max)


def sigmoid_saturation(format: Format, compute: Format | None = None) -> float:
    """The input from which 1 / (1 + exp(-x)) is exactly 1, and the gradient s (1 - s) exactly 0.

    Evaluated in ``compute`` (by default ``format``; half formats are computed in float32) and
    rounded to ``format``.  The sum 1 + exp(-x) rounds to 1 from p_compute ln 2, the quotient from
    (p + 1) ln 2, since numbers just below 1 are spaced by u: the smaller of the two.
    """
    bits = (compute or format).precision
    return min(bits, format.precision + 1) * math.log(2)


def sigmoid_underflow(format: Format, compute: Format | None = None) -> float:
    """The x from which 1 / (1 + exp(x)) is exactly 0: exp(x) overflows, or 0 is nearest."""
    to_zero = (format.precision - format.emin) * math.log(2)
    return min(exp_overflow(compute or format), to_zero)


def tanh_saturation(format: Format) -> float:
    """The input from which tanh is exactly 1: 2 exp(-2 x) = u / 2, so x = (p + 2) ln(2) / 2."""
    return (format.precision + 2) * math.log(2) / 2
