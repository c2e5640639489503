"""Activations and their Gaussian moments at 50 digits, written without the package's help."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import mpmath as mp
from mpmath.calculus.quadrature import GaussLegendre

DIGITS = 50
ALPHA = mp.mpf("1.6732632423543772848170429916717")
SCALE = mp.mpf("1.0507009873554804934193349852946")
LEAK, BETA = mp.mpf(0.01), mp.mpf(1.702)


def logistic(u: Any) -> Any:
    return 1 / (1 + mp.exp(-u))


def gauss(u: Any) -> Any:
    return mp.exp(-u * u / 2) / mp.sqrt(2 * mp.pi)


def _swish(beta: Any) -> tuple[Callable[[Any], Any], ...]:
    def slope(u: Any) -> Any:
        s = logistic(beta * u)
        return s + beta * u * s * (1 - s)

    def bend(u: Any) -> Any:
        s = logistic(beta * u)
        return beta * s * (1 - s) * (2 + beta * u * (1 - 2 * s))

    return lambda u: u * logistic(beta * u), slope, bend


def _leaky(a: Any) -> tuple[Callable[[Any], Any], ...]:
    return lambda u: u if u > 0 else a * u, lambda u: mp.mpf(1) if u > 0 else a, lambda _: mp.mpf(0)


def _sigmoid_bend(u: Any) -> Any:
    s = logistic(u)
    return s * (1 - s) * (1 - 2 * s)


Exact = Callable[[Any], Any]
EXACT: dict[str, tuple[Exact, ...]] = {
    "linear": _leaky(mp.mpf(1)),
    "relu": _leaky(mp.mpf(0)),
    "leaky_relu": _leaky(LEAK),
    "prelu": _leaky(mp.mpf(0.25)),
    "sigmoid": (logistic, lambda u: logistic(u) * logistic(-u), _sigmoid_bend),
    "tanh": (mp.tanh, lambda u: mp.sech(u) ** 2, lambda u: -2 * mp.tanh(u) * mp.sech(u) ** 2),
    "erf": (
        mp.erf,
        lambda u: 2 / mp.sqrt(mp.pi) * mp.exp(-u * u),
        lambda u: -4 * u / mp.sqrt(mp.pi) * mp.exp(-u * u),
    ),
    "gelu": (
        lambda u: u * mp.ncdf(u),
        lambda u: mp.ncdf(u) + u * gauss(u),
        lambda u: (2 - u * u) * gauss(u),
    ),
    "silu": _swish(mp.mpf(1)),
    "swish": _swish(BETA),
    "elu": (
        lambda u: u if u > 0 else mp.expm1(u),
        lambda u: mp.exp(min(u, mp.mpf(0))),
        lambda u: mp.exp(u) if u < 0 else mp.mpf(0),
    ),
    "selu": (
        lambda u: SCALE * (u if u > 0 else ALPHA * mp.expm1(u)),
        lambda u: SCALE * (mp.mpf(1) if u > 0 else ALPHA * mp.exp(u)),
        lambda u: SCALE * ALPHA * (mp.exp(u) if u < 0 else mp.mpf(0)),
    ),
    "softplus": (
        lambda u: mp.log1p(mp.exp(u)),
        logistic,
        lambda u: logistic(u) * logistic(-u),
    ),
    "softsign": (
        lambda u: u / (1 + abs(u)),
        lambda u: 1 / (1 + abs(u)) ** 2,
        lambda u: -2 * mp.sign(u) / (1 + abs(u)) ** 3,
    ),
    "hardtanh": (
        lambda u: min(max(u, mp.mpf(-1)), mp.mpf(1)),
        lambda u: mp.mpf(abs(u) < 1),
        lambda _: mp.mpf(0),
    ),
    "sin": (mp.sin, mp.cos, lambda u: -mp.sin(u)),
}


class Moments(NamedTuple):
    """V, D, V' and E phi phi'' at 50 digits."""

    second: Any
    slope: Any
    growth: Any
    curvature: Any


def moments(name: str, q: float, degree: int = 5) -> Moments:
    """Gauss-Legendre, 3 * 2^(degree - 1) nodes between breakpoints at every scale."""
    with mp.workdps(DIGITS):
        nodes = GaussLegendre(mp.mp).calc_nodes(degree, mp.mp.prec)
        v = mp.mpf(q)
        s = mp.sqrt(v)
        ends = {mp.mpf(0), *(mp.mpf(x) for x in (0.5, 1, 2, 4, 8, 16, 32, 64) if x < 15 * s)}
        points = sorted(ends | {x * s for x in (1, 2, 4, 6, 9, 12, 15)})
        phi, dphi, d2phi = EXACT[name]
        total = [mp.mpf(0)] * 4
        for low, high in pairwise(points):
            middle, half = (high + low) / 2, (high - low) / 2
            for x, w in nodes:
                place = middle + half * x
                weight = half * w * gauss(place / s) / s
                for u in (place, -place):
                    f, d, e = phi(u), dphi(u), d2phi(u)
                    for i, term in enumerate((f * f, d * d, u * f * d / v, f * e)):
                        total[i] += weight * term
        if name == "hardtanh":  # phi jumps by -1 at 1 and by 1 at -1
            total[3] -= 2 * gauss(1 / s) / s
        return Moments(*total)
