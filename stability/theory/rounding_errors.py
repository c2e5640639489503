"""How rounding errors add up: products of matrices, sums, updates, finite differences.

Bounds hold for every rounding; laws marked "rms" are for roundings that are independent and
uniform within their interval, of numbers whose mantissas are log-uniform (Benford's law).
``u``: unit roundoff, half of eps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from stability.arguments import finite, fraction, nonnegative, positive, positives, whole
from stability.theory.floating_point import Array, Format, gamma, gamma_probabilistic, spacing

ROUNDING_RMS = math.sqrt(1 / (8 * math.log(2)))
"""Rms relative error of one rounding in units of u: sqrt(E 1 / (3 m^2)), m log-uniform on [1, 2).

3 / (8 ln 2) is the mean of 1 / m^2, and 1 / 3 the variance of a uniform error within +-u.
"""


def chain_factor(n: ArrayLike, length: int, u: float, confidence: float | None = None) -> Array:
    """c with |fl(A_1 ... A_L) - A_1 ... A_L| <= c |A_1| ... |A_L| entrywise, A_i of n x n.

    Multiplied one by one.  Without ``confidence``: gamma_(n (L - 1)), for every rounding and every
    order of summation (Higham 2002, sec. 3.5, lemma 3.3).  With it: (1 + gammatilde_n)^(L-1) - 1,
    up to ``chain_failure`` (Higham & Mary 2019, SIAM J. Sci. Comput. 41, sec. 3): sqrt(n) u in the
    place of n u.  A matrix product is the chain of length 2.
    Raises ValueError if length < 1, n or confidence is negative, or u is not in (0, 1).
    """
    whole("length", length, 1)
    if confidence is None:
        return gamma(np.asarray(n, dtype=np.float64) * (length - 1), u)
    one = gamma_probabilistic(n, u, confidence)
    with np.errstate(over="ignore"):
        factor: Array = np.expm1((length - 1) * np.log1p(one))
    return factor


def chain_failure(n: int, length: int, u: float, confidence: float) -> float:
    """Probability at most which any entry of the chain violates its probabilistic bound.

    2 (L - 1) n^3 exp(-confidence^2 (1 - u)^2 / 2), no more than 1: each of the (L - 1) n^2 inner
    products has n terms, each bounded but with the probability of Higham & Mary 2019, theorem 2.4.
    Raises ValueError if an argument is out of range.
    """
    whole("n", n, 1)
    whole("length", length, 1)
    gamma_probabilistic(n, u, confidence)
    logarithm = math.log(2 * max(length - 1, 1e-300) * n**3) - (confidence * (1 - u)) ** 2 / 2
    return math.exp(min(logarithm, 0.0))


def chain_bound(matrices: Sequence[Array], u: float, confidence: float | None = None) -> Array:
    """Entrywise bound on the error of A_1 A_2 ... A_L computed one by one: factor |A_1| ... |A_L|.

    ``matrices``: shapes (n_0, n_1), (n_1, n_2), ...; ``factor`` is ``chain_factor`` at the largest
    inner dimension.  Its Frobenius norm bounds the normwise error.  It exceeds the error by about
    |A_1| ... |A_L| / |A_1 ... A_L|: for Gaussian matrices (2 sqrt(n) / pi)^(L - 1), for
    non-negative ones 1.
    Raises ValueError if the shapes don't chain or there is no matrix.
    """
    if not matrices:
        raise ValueError("matrices=[]: must have at least one")
    inner = [a.shape[1] for a in matrices[:-1]]
    if inner != [a.shape[0] for a in matrices[1:]]:
        shapes = [a.shape for a in matrices]
        raise ValueError(f"matrices of shapes {shapes}: must chain")
    product = np.abs(matrices[0])
    for a in matrices[1:]:
        product = product @ np.abs(a)
    bound: Array = chain_factor(max(inner, default=0), len(matrices), u, confidence) * product
    return bound


def stored_chain_error(length: ArrayLike, u: float) -> Array:
    """Rms relative error of L isometries of which outputs alone are rounded: .4246 sqrt(L) u.

    ||y^ - y|| / ||y||, where sums are accumulated in a wider format than outputs are stored in.
    Raises ValueError if length is negative or u is not positive.
    """
    fraction("u", u)
    return ROUNDING_RMS * np.sqrt(nonnegative("length", length)) * u


class Addends(NamedTuple):
    """Moments of independent, identically distributed addends."""

    mean: float
    variance: float
    absolute: float


UNIFORM = Addends(0.5, 1 / 12, 0.5)
"""On [0, 1]."""
NORMAL = Addends(0.0, 1.0, math.sqrt(2 / math.pi))


def sequential_sum_error(n: ArrayLike, addends: Addends, u: float) -> Array:
    """Rms of |s^ - s| / sum |x_i| for n addends summed in order, of n's shape.

    Each partial sum s_k is rounded, the first is not: rms^2 = kappa^2 u^2 sum_(k=2)^n E s_k^2 with
    kappa = ``ROUNDING_RMS``.  .245 sqrt(n) u for uniform addends on [0, 1], .376 u for normal ones
    at any n, to leading order.  Raises ValueError if n < 1 or u is not in (0, 1).
    """
    count = np.asarray(n, dtype=np.float64)
    if not np.all(np.isfinite(count) & (count >= 1)):
        raise ValueError(f"n={n!r}: must be finite and at least 1")
    fraction("u", u)
    squares = count * (count + 1) * (2 * count + 1) / 6 - 1
    total = addends.mean**2 * squares + addends.variance * (count * (count + 1) / 2 - 1)
    error: Array = ROUNDING_RMS * u * np.sqrt(total) / (count * addends.absolute)
    return error[()]


_OCTAVES = 60  # below the largest: 4^-60 of its squared error


def rounding_error(mean: ArrayLike, std: ArrayLike) -> Array:
    """Rms error, in units of u, of rounding a number s ~ N(mean, std^2), broadcast.

    sqrt(E 4^floor(log2 |s|) / 3): errors are uniform within half a step of the octave that s lies
    in.  Relative to the rms of s it moves with log2 of it about ``ROUNDING_RMS``, by 1 % for
    mean 0 and by up to 12 % where std is small.  Raises ValueError if mean is not finite or std is
    not positive.
    """
    centre, spread = np.broadcast_arrays(finite("mean", mean), positives("std", std))
    _, top = np.frexp(np.abs(centre) + 10 * spread)
    exponents = top[..., None] - np.arange(1, _OCTAVES)
    low = np.ldexp(1.0, exponents)
    middle, size = centre[..., None], spread[..., None]
    share = np.zeros_like(low)
    for side in (middle, -middle):
        share += special.ndtr((2 * low - side) / size) - special.ndtr((low - side) / size)
    error: Array = np.sqrt((low**2 * share).sum(axis=-1) / 3)
    return error[()]


def sum_error(n: int, addends: Addends, u: float) -> float:
    """Rms of s^ - s over that of s, n addends summed in order: as ``sequential_sum_error`` by step.

    u times the root of the sum over k = 2..n of ``rounding_error`` of s_k squared, s_k being
    normal, which it is in the limit.  Neglects O(1 / n).  Raises ValueError if n < 2 or u is not in
    (0, 1).
    """
    whole("n", n, 2)
    fraction("u", u)
    k = np.arange(2, n + 1, dtype=np.float64)
    each = rounding_error(k * addends.mean, np.sqrt(k * addends.variance))
    size = math.sqrt((n * addends.mean) ** 2 + n * addends.variance)
    return u * math.sqrt(float(each @ each)) / size


def dot_error(n: int, u: float, *, wide: bool) -> float:
    """Rms error of the inner product of two standard normal vectors of n numbers, over its rms.

    ``wide``: sums are accumulated in a wider format and rounded once, to ``rounding_error`` of
    N(0, n) at any n, some .42 u; else every product and partial sum is, and it grows like
    sqrt(n / 2) times that.  Neglects O(1 / n).  Raises ValueError if n < 2 or u is not in (0, 1).
    """
    whole("n", n, 2)
    fraction("u", u)
    size = math.sqrt(n)
    if wide:
        return u * float(rounding_error(0.0, size)) / size
    return math.hypot(sum_error(n, NORMAL, u), ROUNDING_RMS * u)


def stagnation(format: Format, largest: float = 1.0) -> float:
    """The sum 2^(p + e) that positive addends of at most ``largest`` no longer change.

    2^e: the least power of two at or above ``largest``.  There half a step is 2^e, and a tie goes
    to the even side: 2048 for ones in float16, 256 in bfloat16, 2^24 in float32; inf where that
    exceeds the format.  Raises ValueError if ``largest`` is not finite and positive.
    """
    positive("largest", largest)
    mantissa, exponent = math.frexp(largest)
    power = exponent - 1 if mantissa == 0.5 else exponent
    total = format.precision + power
    return math.ldexp(1, total) if total <= format.emax else math.inf


def lost_update(weight: float, format: Format) -> tuple[float, float]:
    """Half the steps to the neighbours of |weight| towards 0 and away from it.

    An update smaller than that leaves the weight as it is; one equal to it only where the last bit
    of the weight is 0.  1e-3 is lost on a weight of 1 in bfloat16, 2.4e-4 in float16.
    Raises ValueError if the weight is 0, not finite, or no number of the format.
    """
    size = abs(weight)
    if not 0 < size <= format.max or math.fmod(size, float(spacing(size, format))):
        raise ValueError(f"weight={weight!r}: must be a number of {format.name} other than 0")
    above = float(spacing(size, format))
    power = math.frexp(size)[0] == 0.5
    below = above / 2 if power and size > format.smallest_normal else above
    return below / 2, above / 2


class BestStep(NamedTuple):
    """The step of a difference quotient with the least error, and that error."""

    step: float
    error: float


def difference_error(h: ArrayLike, order: int, truncation: float, rounding: float) -> Array:
    """truncation h^order + rounding / h: the error of a difference quotient of step h.

    (f(x+h) - f(x-h)) / (2h): order 2, truncation |f'''| / 6, rounding: the error of f, about u |f|.
    One-sided: order 1, |f''| / 2, twice the error.  Raises ValueError unless all are positive.
    """
    step = positives("h", h)
    _check_quotient(order, truncation, rounding)
    return truncation * step**order + rounding / step


def best_difference(order: int, truncation: float, rounding: float) -> BestStep:
    """The minimum of ``difference_error``: h^(order+1) = rounding / (order truncation).

    There the two errors are as 1 to order.  Central differences reach u^(2/3), one-sided ones
    u^(1/2).  Raises ValueError unless all are positive.
    """
    _check_quotient(order, truncation, rounding)
    step = (rounding / (order * truncation)) ** (1 / (order + 1))
    return BestStep(step, (1 + 1 / order) * rounding / step)


def _check_quotient(order: int, truncation: float, rounding: float) -> None:
    whole("order", order, 1)
    positive("truncation", truncation)
    positive("rounding", rounding)
