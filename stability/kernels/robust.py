"""Reductions that neither overflow, underflow nor cancel silently.

Every function keeps the device of its argument; logarithms and counts come in float64 and int64.
``dim`` is one dimension or several; it is reduced away.  Infinities and nans pass through.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Dims = int | tuple[int, ...]


def rescale(x: Tensor, dim: Dims) -> tuple[Tensor, Tensor]:
    """``x * 2^-e`` with the largest magnitude along ``dim`` in [1, 2), and e, float64, dims kept.

    The dtype stays.  Exact, but for entries that are smaller than the largest by more than the
    dtype's smallest normal number: they are rounded to a subnormal.  Where the largest is 0, inf
    or nan, e is 0 and x stays.
    """
    largest = x.abs().amax(dim, keepdim=True).to(torch.float64)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.frexp(torch.where(usable, largest, 1.0)).exponent.to(torch.float64) - 1
    # In two steps: 2^149, the inverse of the smallest float32, is no float32 itself.
    first = torch.floor(-exponent / 2)
    second = -exponent - first
    return x * torch.exp2(first).to(x.dtype) * torch.exp2(second).to(x.dtype), exponent


def log2_norm(x: Tensor, dim: Dims) -> Tensor:
    """log2 of the Euclidean norm along ``dim``, float64; -inf where all entries are 0.

    Relative error of the norm: (n / 2 + 3) u with n the number of entries and u = 2^-53, plus the
    rounding of the logarithm.
    """
    scaled, exponent = rescale(x.to(torch.float64), dim)
    squares = scaled.square().sum(dim, keepdim=True)
    result: Tensor = exponent + torch.log2(squares) / 2
    return result.squeeze(dim)


def log_mean(x: Tensor, dim: int) -> Tensor:
    """ln of the mean of non-negative ``x`` along ``dim``, float64; the sum cannot overflow."""
    scaled, exponent = rescale(x.to(torch.float64), dim)
    mean = torch.log(scaled.mean(dim, keepdim=True))
    return (mean + exponent * torch.log(torch.full_like(mean, 2.0))).squeeze(dim)


class LogMean(NamedTuple):
    """Mean and variance of ln x over the samples that have a logarithm, and the others' number.

    ``variance`` has the divisor ``counted - 1``.
    """

    mean: Tensor
    variance: Tensor
    counted: Tensor
    zeros: Tensor
    infinities: Tensor


def mean_log(x: Tensor, dim: int) -> LogMean:
    """The mean of ln x along ``dim`` over samples neither 0 nor inf, which are counted apart.

    A negative or nan sample makes the mean nan, and so does the lack of any sample; the variance
    is nan with fewer than two.
    """
    values = x.to(torch.float64)
    zero, infinite = values == 0, values == torch.inf
    kept = ~(zero | infinite)
    counted = kept.sum(dim)
    logarithms = torch.log(torch.where(kept, values, 1.0))
    mean = logarithms.sum(dim) / counted
    deviations = torch.where(kept, logarithms - mean.unsqueeze(dim), 0.0)
    squares = deviations.square().sum(dim)
    variance = torch.where(counted > 1, squares / (counted - 1), torch.nan)
    return LogMean(mean, variance, counted, zero.sum(dim), infinite.sum(dim))


def variance(x: Tensor, dim: Dims, dtype: torch.dtype = torch.float64) -> Tensor:
    """The variance along ``dim`` (divisor n) in two passes, computed in ``dtype``.

    mean(d^2) - mean(d)^2 with d = x - mean(x): the second term removes the rounding of the mean
    (Chan, Golub & LeVeque 1983, eq. 1.7).  Relative error at most (n + 4) u to first order, as long
    as the mean's own error is below the standard deviation.
    """
    values = x.to(dtype)
    deviations = values - values.mean(dim, keepdim=True)
    result: Tensor = deviations.square().mean(dim) - deviations.mean(dim).square()
    return result


def significant(total: Tensor, magnitude: Tensor, roundings: int) -> Tensor:
    """``total``, exactly 0 where it is within the rounding error of the sum that it comes from.

    ``magnitude``: the sum of the terms' absolute values; ``roundings``: how many a term has passed
    through, the sum's own included.  The bound is gamma_k = k u / (1 - k u) times the magnitude
    (Higham 2002, lemma 3.1).  Raises ValueError if k u >= 1.
    """
    product = roundings * torch.finfo(total.dtype).eps / 2
    if product >= 1:
        raise ValueError(f"roundings={roundings!r}: {total.dtype} has no digits left after so many")
    return torch.where(total.abs() <= product / (1 - product) * magnitude, 0.0, total)
