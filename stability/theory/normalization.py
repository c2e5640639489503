"""Normalisation and residual connections at initialization: what they do to signal and gradient.

Stacks of L equal layers with independent Gaussian weights, in the limit of wide layers unless a
function says that it is exact at any width; growth factors are those of squared norms.
"""

import math
from typing import NamedTuple

import numpy as np

from stability.arguments import nonnegative, whole
from stability.theory.meanfield import chi
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array

_FAR = 12.0
"""Beyond which a normalised preactivation has a density below e^-72 of its peak's."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def batch_norm_growth(activation: Nonlinearity, batch: float = math.inf) -> float:
    """By which a squared gradient grows per layer phi(BatchNorm(W x)), whatever the weights' scale.

    In the limit of large batches E phi'(Z)^2 / Var phi(Z): above 1 unless phi is affine, since
    Var phi <= E phi'^2 (Poincare's inequality).  At a batch of B samples, with a and b two of the
    coordinates of a vector uniform on the sphere of radius sqrt(B) about 0, orthogonal to 1,

        (B-1) E phi'(a)^2 + E phi'(a) phi'(b) - E a^2 phi'(a)^2 + E a b phi'(a) phi'(b)
        -------------------------------------------------------------------------------
                          (B - 3) (E phi(a)^2 - E phi(a) phi(b))

    to a relative error of 1e-10 (1e-6 at batches below 8 of an activation with kinks).
    Neglects O(1 / width).  Yang et al. 2019, arXiv 1902.08129, sec. 3.
    Raises ValueError unless batch > 3.
    """
    if batch == math.inf:
        slope = float(activation.slope_moment(1.0))
        mean = float(activation.expectation(activation.phi, 1.0))
        return slope / (float(activation.second_moment(1.0)) - mean**2)
    _check_batch(batch)
    a, b, weight = _pairs(batch, activation.kinks)
    phi, dphi = activation.phi, activation.dphi

    def mean_of(f: Array) -> float:
        return float(np.sum(weight * f))

    here, there = dphi(a), dphi(b)
    # Every average is over the pair, so that what rounding does to the weights cancels.
    top = mean_of((batch - 1 - a * a) * here**2) + mean_of((1 + a * b) * here * there)
    return top / ((batch - 3) * mean_of(phi(a) * (phi(a) - phi(b))))


def _pairs(batch: float, kinks: tuple[float, ...]) -> tuple[Array, Array, Array]:
    """Nodes (outer, inner) of a and b and their weights, split where the integrand has kinks.

    a = sqrt(B - 1) cos(theta) of density sin(theta)^(B - 3), and b = rho a + sqrt(1 - rho^2)
    sqrt(B - 1) sin(theta) cos(eta), eta of density sin(eta)^(B - 4), rho = -1 / (B - 1).
    """
    radius, rho = math.sqrt(batch - 1), -1 / (batch - 1)
    across = math.sqrt(1 - rho**2)
    end = min(radius, _FAR)
    joints = sorted({0.0, *kinks})
    # Where a kink of b enters the range of eta, too.
    turns = [
        k * rho + side * across * math.sqrt(batch - 1 - k * k)
        for k in joints
        for side in (-1, 1)
        if abs(k) < radius
    ]
    edges = np.unique(np.clip([-end, *joints, *turns, end], -end, end))
    theta, outer = _spread(np.arccos(edges[::-1] / radius)[:, None])
    theta, outer = theta.ravel(), outer.ravel() * np.sin(theta.ravel()) ** (batch - 3)
    a, reach = radius * np.cos(theta), across * radius * np.sin(theta)
    limit = min(1.0, _FAR / radius)
    cuts = [np.clip((k - rho * a) / reach, -limit, limit) for k in reversed(joints)]
    inner_edges = np.arccos([np.full_like(a, limit), *cuts, np.full_like(a, -limit)])
    eta, inner = _spread(inner_edges)
    inner = inner * np.sin(eta) ** (batch - 4)
    a, outer = a[:, None], outer[:, None]
    weight = outer * inner
    return a, rho * a + reach[:, None] * np.cos(eta), weight / weight.sum()


def _spread(edges: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights between ascending ``edges`` (edges, rows): (rows, nodes)."""
    low, high = edges[:-1, :, None], edges[1:, :, None]
    nodes = (low + high) / 2 + (high - low) / 2 * _NODES
    weights = (high - low) / 2 * _WEIGHTS
    rows = edges.shape[1]
    return nodes.swapaxes(0, 1).reshape(rows, -1), weights.swapaxes(0, 1).reshape(rows, -1)


def batch_norm_linear_growth(batch: int) -> float:
    """(B - 2) / (B - 3), the growth without a nonlinearity, at any batch of B samples.

    Yang et al. 2019, arXiv 1902.08129, theorem 7.  Raises ValueError unless batch > 3.
    """
    _check_batch(batch)
    return (batch - 2) / (batch - 3)


def batch_norm_relu_growth(batch: int) -> float:
    """[J'(rho) + J(rho) + B - 2] / [(B - 3) (1 - J(rho))], rho = -1 / (B - 1), of ReLU.

    J(c) = [sqrt(1 - c^2) + (pi - arccos c) c] / pi; pi / (pi - 1) = 1.467 as B grows: a gradient
    explodes by 21 % a layer.  Yang et al. 2019, arXiv 1902.08129, theorem 8.
    Raises ValueError unless batch > 3.
    """
    _check_batch(batch)
    rho = -1 / (batch - 1)
    slope = (math.pi - math.acos(rho)) / math.pi
    arc = math.sqrt(1 - rho**2) / math.pi + slope * rho
    return (slope + arc + batch - 2) / ((batch - 3) * (1 - arc))


def _check_batch(batch: float) -> None:
    if not 3 < batch < math.inf:
        raise ValueError(f"batch={batch!r}: must be finite and above 3")


def residual_growth(depth: int, alpha: float) -> float:
    """(1 + alpha^2)^L, by which E||x||^2 and E||gradient||^2 grow through x + alpha f(x).

    f keeps both in the mean, as W_2 relu(W_1 x) does with He's and LeCun's variances: then exact at
    any width, W_2 being symmetric and independent.  1 / sqrt(L) keeps it below e
    (Hanin & Rolnick 2018, arXiv 1803.01719; Zhang et al. 2019, arXiv 1901.09321).
    Raises ValueError if depth < 1 or alpha is negative or not finite.
    """
    whole("depth", depth)
    return float(np.power(1 + nonnegative("alpha", alpha) ** 2, depth))


class LogGrowth(NamedTuple):
    """Mean and variance of the logarithm of a growth factor; ``shift``: of the mean, by width."""

    mean: float
    variance: float
    shift: float


def residual_log_growth(depth: int, alpha: float, width: int) -> LogGrowth:
    """L ln(1 + alpha^2) - v / 2 and v: ln of the squared norm's growth through x + alpha f(x).

    f = W_2 relu(W_1 x) of He's and LeCun's variances, all layers ``width`` wide.  A block's factor
    is, exactly and whatever x, 1 + 2 alpha sqrt(s / n) g_1 + alpha^2 s |g|^2 / n with s = 2 chi^2_K
    / n, K ~ Binomial(n, 1/2), and g standard normal, so that n times its variance is 4 alpha^2 +
    7 alpha^4 + O(1 / n), and v = L (4 alpha^2 + 7 alpha^4) / (n (1 + alpha^2)^2).
    Neglects O(L / n^2).  Raises ValueError if depth or width is below 1 or alpha is negative.
    """
    whole("depth", depth)
    whole("width", width)
    total = depth * math.log(residual_growth(1, alpha))
    square = float(alpha) ** 2
    variance = depth * square * (4 + 7 * square) / (width * (1 + square) ** 2)
    return LogGrowth(total - variance / 2, variance, -variance / 2)


def plain_residual(
    depth: int, activation: Nonlinearity, sigma_w: float, q0: float = 1.0
) -> tuple[Array, Array]:
    """Of x + phi(W x): q_l of the stream, l = 0..L, and the growth of a squared gradient, L to l.

    q_(l+1) = q_l + E phi^2, and the gradient's factor is 1 + sigma_w^2 E phi'^2, both at variance
    sigma_w^2 q_l, for odd phi.  Shapes (L + 1,).  Neglects O(1 / width).
    Yang & Schoenholz 2017, arXiv 1712.08969, theorems 1 and 2.
    Raises ValueError if depth < 1 or an argument is negative or not finite.
    """
    whole("depth", depth)
    scale = float(nonnegative("sigma_w", sigma_w)) ** 2
    stream = np.empty(depth + 1)
    stream[0] = nonnegative("q0", q0)
    for layer in range(depth):
        moment = float(activation.second_moment(scale * stream[layer]))
        stream[layer + 1] = stream[layer] + moment
    factors = 1 + chi(scale * stream[:-1], activation, sigma_w)
    return stream, np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def tanh_residual_exponent(depth: int, sigma_w: float) -> float:
    """4/3 sqrt(2 / pi) sigma_w sqrt(L), ln of the gradient's growth through x + tanh(W x).

    Slower than exponential: the stream's growth saturates ever more units.  The leading term of
    ``plain_residual``; neglects O(ln L).  Yang & Schoenholz 2017, arXiv 1712.08969, theorem 2.
    Raises ValueError if depth < 1 or sigma_w is negative or not finite.
    """
    whole("depth", depth)
    return 4 / 3 * math.sqrt(2 / math.pi * depth) * float(nonnegative("sigma_w", sigma_w))


def pre_norm_stream(depth: int, branch: float = 1.0) -> float:
    """1 + L v: q of the stream through x + f(LayerNorm(x)), v the branch's variance.

    Exact at any width for branches with a symmetric last weight.  Xiong et al. 2020,
    arXiv 2002.04745, lemma 2.  Raises ValueError if depth < 1 or branch is negative or not finite.
    """
    whole("depth", depth)
    return float(1 + depth * nonnegative("branch", branch))


def pre_norm_gradient(depth: int, branch: float = 1.0) -> float:
    """The growth of a squared gradient through L blocks x + f(LayerNorm(x)): 1 + L v.

    prod over l of 1 + v / (1 + l v), for f that passes gradients by v: linear in L where no
    LayerNorm makes it 2^L.  Neglects O(ln L / width).  Xiong et al. 2020, arXiv 2002.04745.
    Raises ValueError if depth < 1 or branch is negative or not finite.
    """
    return pre_norm_stream(depth, branch)


def last_branch_gradient(depth: int, branch: float = 1.0, *, pre_norm: bool) -> float:
    """The squared gradient at the last block's branch, relative to that at the network's output.

    The output is normalised.  Post-norm, LayerNorm(x + f(x)): 1 / (1 + v) at any depth.  Pre-norm
    with a last LayerNorm: 1 / (1 + L v).  Neglects O(1 / width).  Xiong et al. 2020,
    arXiv 2002.04745, theorem 1.
    Raises ValueError if depth < 1 or branch is negative or not finite.
    """
    grown = pre_norm_stream(depth, branch)
    return 1 / (grown if pre_norm else float(1 + nonnegative("branch", branch)))
