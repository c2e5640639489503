"""When products of many numbers below 1 become exactly 0, and what their logarithms keep."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, optimize, special, stats

from stability.arguments import Array, finite, fraction, nonnegative, positive, whole, wholes
from stability.theory import meanfield, width_correction
from stability.theory.floating_point import Format, gamma
from stability.theory.nonlinearity import Nonlinearity

_SINGLE_PRECISION = 24


def _ratio(value: float) -> tuple[int, int]:
    """The integers (m, e) with value = m 2^e."""
    numerator, denominator = value.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


def _round(m: int, e: int, precision: int, lowest: int) -> tuple[int, int]:
    """m 2^e rounded to nearest even: to ``precision`` bits, and to a multiple of 2^lowest."""
    shift = max(m.bit_length() - precision, lowest - e)
    if shift <= 0:
        return m, e
    kept, rest, half = m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1)
    return kept + (rest > half or (rest == half and kept & 1)), e + shift


def product_depth(p: float, format: Format, *, flush: bool = False) -> float:
    """After how many multiplications of 1 by p in ``format`` the product is exactly 0; inf: never.

    Every product is rounded, in integer arithmetic: exact, also where subnormal numbers lose
    digits, or come to rest (see ``floating_point.stall``).  p is rounded first.  With ``flush``,
    hardware without subnormals makes 0 of what is below the smallest normal number when rounded to
    the arithmetic's precision, that of float32 for narrower formats.
    Raises ValueError unless 0 < p < 1 after rounding.
    """
    fraction("p", p)
    lowest = format.emin - format.precision + 1
    factor, power = _round(*_ratio(p), format.precision, lowest)
    if not 0 < factor < 1 << -power:
        raise ValueError(f"p={p!r}: is 0 or 1 in {format.name}")
    wide = max(format.precision, _SINGLE_PRECISION)
    m, e, depth = 1, 0, 0
    while m:
        product, scale = m * factor, e + power
        if flush:
            product, scale = _round(product, scale, wide, scale)
            if product.bit_length() - 1 + scale < format.emin:
                return float(depth + 1)
        rounded, place = _round(product, scale, format.precision, lowest)
        depth += 1
        if rounded << max(place - e, 0) == m << max(e - place, 0):
            return math.inf
        m, e = rounded, place
    return float(depth)


def uniform_product_depth(format: Format, *, flush: bool = False) -> float:
    """Mean number of factors, uniform on (0, 1), after which their product in ``format`` is 0.

    -ln of the product is a sum of exponential variables, so that the number of factors above a
    limit is Poisson.  With ``flush``: 1 - ln(smallest normal).  Else the last steps count
    subnormals, k -> round(k U): their mean t_1 = 2, t_(k+1) = t_k + 1 / (k + 1/2) gives
    -ln(smallest subnormal) + gamma + 2 ln 2, Euler's gamma.  Neglects the roundings of normal
    numbers, at most u a factor, and O(2^-p).
    """
    if flush:
        return 1 - format.emin * math.log(2)
    steps = (format.precision - 1 - format.emin) * math.log(2)
    return steps + float(np.euler_gamma) + 2 * math.log(2)


def uniform_product_share(count: ArrayLike, format: Format, *, flush: bool = False) -> Array:
    """P(the product of ``count`` uniform factors is 0): P(N < count), N Poisson, of count's shape.

    Its mean is that of ``uniform_product_depth`` less 1; exact with ``flush``, without it to the
    spread of the last steps.  Raises ValueError unless counts are whole and at least 0.
    """
    number = wholes("count", count, 0)
    share: Array = stats.poisson.cdf(number - 1, uniform_product_depth(format, flush=flush) - 1)
    return share[()]


def _product(numbers: Sequence[float]) -> tuple[int, int]:
    """The integers (m, e) with m 2^e the product, multiplied as a tree."""
    pairs = [_ratio(float(number)) for number in numbers]
    while len(pairs) > 1:
        odd = [pairs[-1]] if len(pairs) % 2 else []
        halves = zip(pairs[:-1:2], pairs[1::2], strict=True)
        pairs = [(a[0] * b[0], a[1] + b[1]) for a, b in halves] + odd
    return pairs[0]


def log_product_error(estimate: float, numbers: Sequence[float]) -> float:
    """``estimate`` - ln(x_1 ... x_N), to full accuracy: the product is taken in integers.

    Infinite for an infinite estimate, a sum that has overflowed.
    Raises ValueError if the estimate is nan, and unless there is a number and all are finite and
    positive.
    """
    if math.isnan(estimate):
        raise ValueError(f"estimate={estimate!r}: must not be nan")
    if not len(numbers) or not all(0 < number < math.inf for number in numbers):
        raise ValueError("numbers: must be at least one, all finite and above 0")
    m, e = _product(numbers)
    with mpmath.workdps(60):
        mp: Any = mpmath.mp
        exact = mp.log(mp.mpf(m)) + e * mp.log(2)
        return float(mp.mpf(estimate) - exact)


def log_sum_bound(n: int, total: float, u: float, accumulator: float | None = None) -> float:
    """Bound on the error of sum_i ln x_i for x_i <= 1 in a format of unit roundoff u.

    ``total``: sum |ln x_i|.  A logarithm errs by one unit in the last place, 2 u; the sum, in any
    order, by gamma_(n - 1): gamma_(n + 1) of the total.  If sums are carried in a wider
    ``accumulator`` and rounded once: 3 u + gamma_n of it, and their products.
    Raises ValueError unless n is whole and at least 1, total finite and not negative, and each
    roundoff in (0, 1).
    """
    whole("n", n)
    nonnegative("total", total)
    fraction("u", u)
    if accumulator is None:
        return float(gamma(n + 1, u)) * total
    fraction("accumulator", accumulator)
    summed = math.expm1(
        math.log1p(2 * u)
        + math.log1p(float(gamma(n, accumulator)))
        + math.log1p(float(gamma(1, u)))
    )
    return summed * total


class Rest(NamedTuple):
    """Where x <- sigmoid(x) comes to rest, and its slope there."""

    x: float
    slope: float


def iterated_sigmoid() -> Rest:
    """x = sigmoid(x) = .659046 with slope x (1 - x) = .224704: what a chain of sigmoids settles at.

    1/4 is the slope at 0 alone, which no sigmoid's output is.
    """
    x = float(optimize.brentq(lambda x: float(special.expit(x)) - x, 0.5, 0.8, xtol=1e-15))
    return Rest(x, x * (1 - x))


def largest_gaussian(n: int) -> float:
    """E max |z_i| of n independent z_i ~ N(0, 1): integral of 1 - erf(x / sqrt 2)^n over x > 0.

    Raises ValueError unless n is whole and at least 1.
    """
    whole("n", n)

    def above(x: float) -> float:
        """1 - erf^n, without cancellation."""
        return -math.expm1(n * math.log1p(-float(special.erfc(x / math.sqrt(2))))) if x else 1.0

    middle = float(special.erfcinv(min(1 / n, 0.5)) * math.sqrt(2))
    low, _ = integrate.quad(above, 0.0, middle, epsabs=1e-13)
    high, _ = integrate.quad(above, middle, middle + 12, epsabs=1e-13)
    return float(low) + float(high)


def settled_log_norms(activation: Nonlinearity, sigma_w: float, width: int, layers: int) -> Array:
    """ln of a gradient's norm 0 ... layers below the top of a deep network, (layers + 1,).

    Without biases, at the variance that 2 ``layers`` steps of the variance map reach from
    sigma_w^2, where it should have settled.  ln(chi_1) / 2 a layer (Schoenholz et al. 2017) and
    ``width_correction.gradient_correction`` over twice the width; neglects O(1 / width^2).
    Raises ValueError unless sigma_w is finite and positive, and width and layers whole and at
    least 1.
    """
    positive("sigma_w", sigma_w)
    whole("width", width)
    whole("layers", layers)
    fixed = meanfield.variances(2 * layers, sigma_w**2, activation, sigma_w)[-1]
    rate = math.log(float(meanfield.chi(fixed, activation, sigma_w))) / 2
    law = width_correction.gradient_correction(layers, float(fixed), activation, sigma_w)
    norms: Array = rate * np.arange(layers + 1) + law.mean[::-1] / (2 * width)
    return norms


def vanishing_depth(log_norms: ArrayLike, width: int, format: Format) -> float:
    """Mean of the first layer at which a gradient of ``width`` Gaussian entries is stored as 0.

    ``log_norms``: ln of its norm after 0, 1, ... layers, extended at the last rate.  The largest of
    the entries is ``largest_gaussian`` rms; it is 0 from half a subnormal on, and at a quarter's
    slope two of them are lost in the layer before: one is their geometric mean.  Half a layer more,
    for counting in whole ones.  Within one layer: a factor 2 either way, and the counting.
    Raises ValueError unless there are two finite norms and the last is the smaller, and width is
    whole and at least 1.
    """
    whole("width", width)
    norms = finite("log_norms", log_norms)
    if norms.ndim != 1 or len(norms) < 2 or not norms[-1] < norms[-2]:
        raise ValueError("log_norms: must be at least two, the last below the one before")
    largest = math.log(largest_gaussian(width)) - math.log(width) / 2
    limit = math.log(format.smallest_subnormal) - largest
    if norms[-1] > limit:
        return len(norms) - 0.5 + float((limit - norms[-1]) / (norms[-1] - norms[-2]))
    first = int(np.argmax(norms <= limit))
    if first == 0:
        return 0.0
    return first - 0.5 + float((limit - norms[first - 1]) / (norms[first] - norms[first - 1]))
