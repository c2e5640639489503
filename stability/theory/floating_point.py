"""Binary floating-point formats: their range and precision, and what is lost in them."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from stability.arguments import Array, finite, fraction, nonnegative, numbers, positive

_ROUNDING = 1e-12  # of a ratio of two logarithms: powers of two may meet a limit exactly


@dataclass(frozen=True)
class Format:
    """A binary format (IEEE 754-2019, sec. 3.3): precision p in bits, exponents emin to emax.

    ``infinite``: whether the largest exponent field is kept for infinities and nans; otherwise it
    holds numbers, its last mantissa is the nan and what overflows saturates (OCP 8-bit Floating
    Point Specification 1.0, table 1: e4m3fn).
    """

    name: str
    precision: int
    emin: int
    emax: int
    infinite: bool = True

    @property
    def bits(self) -> int:
        """Of one number: sign, exponent and p - 1 of the mantissa."""
        return (1 - self.emin).bit_length() + self.precision + 1

    @property
    def max(self) -> float:
        """The largest finite number: (2 - 2^(1-p)) 2^emax, one step less without infinities."""
        missing = math.ldexp(1, 1 - self.precision) * (1 if self.infinite else 2)
        return math.ldexp(2 - missing, self.emax)

    @property
    def overflow(self) -> Fraction:
        """max and half a step: the least magnitude that rounds to infinity; more than it saturates.

        With infinities it is the odd side of a tie that rounds up, without them the even one.
        """
        step = Fraction(2) ** (self.emax - self.precision + 1)
        return Fraction(self.max) + step / 2

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
"""Those of arithmetic."""

FLOAT8 = {
    entry.name: entry
    for entry in (
        Format("float8_e4m3fn", 4, -6, 8, infinite=False),
        Format("float8_e5m2", 3, -14, 15),
    )
}
"""Those of storage alone: values are widened before they are computed with."""


def decode(bits: ArrayLike, format: Format) -> Array:
    """The numbers that the bit patterns 0 ... 2^bits - 1 of ``format`` stand for, of their shape.

    (-1)^s 2^(e - bias) 1.m, and (-1)^s 2^emin 0.m at e = 0 (IEEE 754-2019, sec. 3.4).
    Raises ValueError if a pattern is no whole number or out of range.
    """
    given = np.asarray(bits)
    if given.dtype.kind not in "iu" or np.any(given < 0):
        raise ValueError(f"bits={bits!r}: must be whole numbers, at least 0")
    pattern = given.astype(np.uint64)
    fraction = format.precision - 1
    if format.bits < 64 and np.any(pattern >> np.uint64(format.bits)):
        raise ValueError(f"bits={bits!r}: must have at most {format.bits} bits")
    sign = np.where(pattern >> np.uint64(format.bits - 1), -1.0, 1.0)
    mantissa = (pattern & np.uint64((1 << fraction) - 1)).astype(np.float64)
    top = (1 << (format.bits - format.precision)) - 1
    field = ((pattern >> np.uint64(fraction)) & np.uint64(top)).astype(np.int64)
    normal = np.where(field > 0, 1.0, 0.0)
    size = np.ldexp(mantissa, -fraction) + normal
    value = sign * np.ldexp(size, np.maximum(field, 1) - 1 + format.emin)
    last = field == top
    if format.infinite:
        value = np.where(last, np.where(mantissa == 0, sign * np.inf, np.nan), value)
    else:
        value = np.where(last & (mantissa == (1 << fraction) - 1), np.nan, value)
    return value[()]


def spacing(x: ArrayLike, format: Format) -> Array:
    """The unit in the last place at x: 2^(max(floor log2 |x|, emin) - p + 1), of x's shape.

    Raises ValueError if x is not finite.
    """
    values = finite("x", x)
    return np.ldexp(1.0, _quantum(values, format))[()]


def _quantum(values: Array, format: Format) -> NDArray[np.int64]:
    _, exponent = np.frexp(values)
    low = np.where(values == 0, format.emin, exponent - 1)
    return np.maximum(low, format.emin).astype(np.int64) - format.precision + 1


def round_to(x: ArrayLike, format: Format) -> Array:
    """x rounded to the nearest number of ``format``, ties to even, as float64 of x's shape.

    What overflows becomes infinite, or saturates where there are no infinities; nans pass.
    """
    values = np.asarray(x, dtype=np.float64)
    within = np.where(np.isfinite(values), values, 0.0)
    scale = _quantum(within, format)
    with np.errstate(over="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(within, -scale)), scale)
    rounded = np.where(np.isfinite(values), rounded, values)
    limit = np.inf if format.infinite else format.max
    return np.where(np.abs(rounded) > format.max, np.copysign(limit, rounded), rounded)[()]


def _first_beyond(start: float, gain: float, limit: Fraction, *, met: bool) -> float:
    """The least l >= 0 with start gain^l beyond ``limit``, or at it if ``met``; inf for never."""
    positive("start", start)
    positive("gain", gain)
    if gain == 1:
        return math.inf
    upwards = gain > 1

    def beyond(layer: int) -> bool:
        size: Fraction = Fraction(start) * Fraction(gain) ** layer
        return met if size == limit else (size > limit) == upwards

    room = math.log2(limit.numerator) - math.log2(limit.denominator) - math.log2(start)
    steps = room / math.log2(gain)
    near = round(steps)
    if steps < 0.5:
        return float(next(layer for layer in (0, 1, 2) if beyond(layer)))
    if abs(steps - near) <= 1e-9 * near:
        return float(near if beyond(near) else near + 1)
    return float(math.ceil(steps))


def underflow_depth(
    gain: float, format: Format, start: float = 1.0, *, flush: bool = False
) -> float:
    """The first depth l at which the magnitude start gain^l, rounded to nearest, is 0.

    At or below half the smallest subnormal, a tie; with ``flush``, hardware without subnormals,
    where the rounded value is below the smallest normal.  inf at gains of 1 and more.  Multiplying
    in the format itself agrees at powers of two; at gains above 1/2 it may stall, see ``stall``.
    Raises ValueError if gain or start is not finite and positive.
    """
    if not gain < 1:
        _first_beyond(start, gain, Fraction(1), met=True)
        return math.inf
    smallest = Fraction(2) ** (format.emin - format.precision + 1)
    limit = Fraction(2) ** format.emin - smallest / 2 if flush else smallest / 2
    return _first_beyond(start, gain, limit, met=not flush)


def overflow_depth(gain: float, format: Format, start: float = 1.0) -> float:
    """The first depth l at which start gain^l, rounded to nearest, is not a number of ``format``.

    From ``Format.overflow`` on; inf at gains of 1 and less.
    Raises ValueError if gain or start is not finite and positive.
    """
    if not gain > 1:
        _first_beyond(start, gain, Fraction(1), met=True)
        return math.inf
    return _first_beyond(start, gain, format.overflow, met=format.infinite)


def stall(gain: float, format: Format) -> float:
    """Where repeated multiplication by ``gain`` in the format comes to rest above 0, else 0.

    k smallest subnormals stay k where k (1 - gain) < 1/2, or = 1/2 with k even: none up to a gain
    of 1/2, where signals do vanish.  From any start above that.
    Raises ValueError unless 0 < gain <= 1 - u: nearer to 1, normal numbers stay too.
    """
    if not 0 < gain <= 1 - format.unit_roundoff:
        raise ValueError(f"gain={gain!r}: must lie in (0, 1 - {format.unit_roundoff:g}]")
    most = 1 / (2 * (1 - Fraction(gain)))
    k = math.floor(most)
    if most == k and k % 2:
        k -= 1
    return k * format.smallest_subnormal


def underflow_share(std: ArrayLike, format: Format, loss_scale: float = 1.0) -> Array:
    """Share of gradients g ~ N(0, std^2) that are stored as 0: erf(eta / (2 sqrt(2) scale std)).

    eta: the smallest subnormal; half of it rounds to 0 (Micikevicius et al. 2018, arXiv 1710.03740,
    who scale the loss by ``loss_scale`` against it).  1 at std = 0.
    Raises ValueError if std is negative or not finite, or the scale not finite and positive.
    """
    # Half of float64's smallest is no float64.
    return _erf_ratio(format.smallest_subnormal, 2 * _scaled(std, loss_scale), special.erf)


def overflow_share(std: ArrayLike, format: Format, loss_scale: float = 1.0) -> Array:
    """Share of gradients g ~ N(0, std^2) that overflow: erfc(limit / (sqrt(2) scale std)).

    The other end of a loss scale's range; limit is ``Format.overflow``.  Raises as its sibling.
    """
    top = format.overflow
    # float64's own limit is no float64: a half of both is one.
    return _erf_ratio(float(top / 2), _scaled(std, loss_scale) / 2, special.erfc)


def _scaled(std: ArrayLike, loss_scale: float) -> Array:
    positive("loss_scale", loss_scale)
    return nonnegative("std", std) * loss_scale


def _erf_ratio(limit: float, size: Array, function: np.ufunc) -> Array:
    ratio = np.full(size.shape, np.inf)
    np.divide(limit, size, out=ratio, where=size > 0)
    share: Array = function(ratio / math.sqrt(2))
    return share[()]


def loss_depth(decades_per_layer: ArrayLike, start_decades: ArrayLike, format: Format) -> Array:
    """The first depth l = 0, 1, ... at which a magnitude 10^(start + l decades) is lost.

    Lost: below the smallest subnormal or above the largest finite number of ``format``.  inf if
    that never happens.  Broadcasts its first two arguments.  Raises ValueError if one is nan.
    """
    rate, start = np.broadcast_arrays(
        numbers("decades_per_layer", decades_per_layer), numbers("start_decades", start_decades)
    )
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
    fraction("u", u)
    return nonnegative("n", n)


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
    nonnegative("confidence", confidence)
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
    ln(2^(p + 1) - 1), since numbers just below 1 are spaced by u: the smaller of the two.
    """
    bits = (compute or format).precision
    return min(bits * math.log(2), math.log(2 ** (format.precision + 1) - 1))


def sigmoid_underflow(format: Format, compute: Format | None = None) -> float:
    """The x from which 1 / (1 + exp(x)) is exactly 0: exp(x) overflows, or 0 is nearest."""
    to_zero = math.log(2 ** (format.precision - format.emin) - 1)
    return min(exp_overflow(compute or format), to_zero)


def tanh_saturation(format: Format) -> float:
    """The input ln(2^(p + 2) - 1) / 2 from which tanh is exactly 1: 2 / (exp(2 x) + 1) = u / 2."""
    return math.log(2 ** (format.precision + 2) - 1) / 2
