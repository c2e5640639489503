"""Activations and their neighbours to 50 digits: values, derivatives, ranges, slopes, thresholds.

Written with mpmath and sharing no code with what is measured.  Numbers in, numbers out; an
activation is named as in the literature.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import mpmath
from mpmath import mp, mpf

DIGITS = 50
Real = Callable[[Any], Any]

_GELU_BETA = "1.702"
_LEAKY, _PRELU = "0.01", "0.25"


class Extremes(NamedTuple):
    """Infimum and supremum of a function over the line."""

    infimum: float
    supremum: float


class Kink(NamedTuple):
    """Where a derivative jumps, and its limits from the left and from the right."""

    x: float
    left: float
    right: float


def _leaky(slope: str) -> Real:
    return lambda x: x if x > 0 else mpf(slope) * x


def _swish(beta: str) -> Real:
    return lambda x: x / (1 + mp.exp(-mpf(beta) * x))


def _selu_constants() -> tuple[Any, Any]:
    """(alpha, lambda): the fixed point (0, 1) of mean and variance (Klambauer et al. 2017)."""
    alpha = -mp.sqrt(2 / mp.pi) / (mp.exp(mpf(1) / 2) * mp.erfc(1 / mp.sqrt(2)) - 1)
    below = mp.exp(2) * mp.erfc(mp.sqrt(2)) - 2 * mp.exp(mpf(1) / 2) * mp.erfc(1 / mp.sqrt(2)) + 1
    return alpha, mp.sqrt(2 / (1 + alpha**2 * below))


def _selu(x: Any) -> Any:
    alpha, scale = _selu_constants()
    return scale * (x if x > 0 else alpha * mp.expm1(x))


_FUNCTIONS: dict[str, Real] = {
    "linear": lambda x: x,
    "relu": _leaky("0"),
    "leaky_relu": _leaky(_LEAKY),
    "prelu": _leaky(_PRELU),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": lambda x: mp.tanh(x),
    "erf": lambda x: mp.erf(x),
    "gelu": lambda x: x * mp.ncdf(x),
    "silu": _swish("1"),
    "swish": _swish(_GELU_BETA),
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "selu": _selu,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "hardtanh": lambda x: min(max(x, mpf(-1)), mpf(1)),
    "sin": lambda x: mp.sin(x),
}
_KINKS = {
    "relu": (0,), "leaky_relu": (0,), "prelu": (0,), "elu": (0,), "selu": (0,), "softsign": (0,),
    "hardtanh": (-1, 1),
}  # fmt: skip
_STRAIGHT = ("linear", "relu", "leaky_relu", "prelu", "hardtanh")
_STRAIGHT_ABOVE = ("elu", "selu")
_FARTHEST = 400  # 10^-400 is 0 in float64
_BELLS = ("erf", "gelu")  # whose derivatives fall like a Gaussian
_JOINTS = ("elu", "softsign")  # pieces that meet with one slope: only the second derivative jumps
_TURNS = {"gelu": (-0.75, 1.4), "silu": (-1.3, 2.4), "swish": (-0.75, 1.4)}
"""Near the minimum of the function, and near the maximum of its slope."""
_BOUNDED = {
    "sigmoid": (0, 1), "tanh": (-1, 1), "erf": (-1, 1), "softsign": (-1, 1), "hardtanh": (-1, 1),
    "sin": (-1, 1), "relu": (0, mpmath.inf), "softplus": (0, mpmath.inf), "elu": (-1, mpmath.inf),
}  # fmt: skip


def names() -> tuple[str, ...]:
    """The activations that are known here."""
    return tuple(_FUNCTIONS)


def _known(name: str) -> Real:
    if name not in _FUNCTIONS:
        raise ValueError(f"name={name!r}: must be one of {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[name]


def _finite(x: float) -> Any:
    if not mpmath.isfinite(x):
        raise ValueError(f"x={x!r}: must be finite")
    return mpf(x)


def exact(name: str, x: float, order: int = 0) -> float:
    """The derivative of that order (0: the value) at x, correctly rounded to float64.

    At a joint of two pieces: the value, and the mean of the one-sided derivatives.
    Raises ValueError for an unknown name, an x that is not finite, or an order other than 0, 1, 2.
    """
    function, at = _known(name), _finite(x)
    if order not in (0, 1, 2):
        raise ValueError(f"order={order!r}: must be 0, 1 or 2")
    with mp.workdps(DIGITS):
        if order == 0:
            return float(function(at))
        if at in _KINKS.get(name, ()):
            sides = [mp.diff(function, at, order, direction=side) for side in (-1, 1)]
            return float(sum(sides) / 2)
        if order == 2 and (name in _STRAIGHT or (name in _STRAIGHT_ABOVE and at > 0)):
            return 0.0
        # Derivatives fall like e^(-x^2) or e^(-2 |x|): as many digits cancel.
        lost = (at * at if name in _BELLS else 2 * abs(at)) / mp.log(10)
        with mp.workdps(2 * DIGITS + int(min(lost, _FARTHEST))):
            return float(mp.diff(function, at, order))


@cache
def kinks(name: str) -> tuple[Kink, ...]:
    """Where the derivative jumps.  Raises ValueError for an unknown name."""
    function = _known(name)
    with mp.workdps(DIGITS):
        return tuple(
            Kink(
                float(x),
                float(mp.diff(function, mpf(x), direction=-1)),
                float(mp.diff(function, mpf(x), direction=1)),
            )
            for x in _KINKS.get(name, ())
            if name not in _JOINTS
        )


@cache
def value_range(name: str) -> Extremes:
    """Infimum and supremum of the activation.  Raises ValueError for an unknown name."""
    function = _known(name)
    if name in _BOUNDED:
        low, high = _BOUNDED[name]
        return Extremes(float(low), float(high))
    if name in _TURNS:
        with mp.workdps(DIGITS):
            turn = mp.findroot(lambda x: mp.diff(function, x), _TURNS[name][0])
            return Extremes(float(function(turn)), float("inf"))
    if name == "selu":
        with mp.workdps(DIGITS):
            alpha, scale = _selu_constants()
            return Extremes(float(-alpha * scale), float("inf"))
    return Extremes(float("-inf"), float("inf"))


@cache
def slope_range(name: str) -> Extremes:
    """Infimum and supremum of the derivative; the larger of their sizes is the Lipschitz constant.

    Raises ValueError for an unknown name.
    """
    function = _known(name)
    with mp.workdps(DIGITS):
        if name in _TURNS:
            # Their slope is 1/2 plus an odd function: the lowest is 1 less the highest.
            turn = mp.findroot(lambda x: mp.diff(function, x, 2), _TURNS[name][1])
            top = mp.diff(function, turn)
            return Extremes(float(1 - top), float(top))
        if name == "selu":
            alpha, scale = _selu_constants()
            return Extremes(0.0, float(alpha * scale))
        steepest = {
            "linear": (1, 1), "sin": (-1, 1), "leaky_relu": (mpf(_LEAKY), 1),
            "prelu": (mpf(_PRELU), 1), "sigmoid": (0, mpf(1) / 4),
            "erf": (0, 2 / mp.sqrt(mp.pi)),
        }.get(name, (0, 1))  # fmt: skip
        return Extremes(float(steepest[0]), float(steepest[1]))


def lipschitz(name: str) -> float:
    """The Lipschitz constant, sup |phi'|.  Raises ValueError for an unknown name."""
    low, high = slope_range(name)
    return max(abs(low), abs(high))


def log_sigmoid(x: float) -> float:
    """ln(1 / (1 + e^-x)), correctly rounded.  Raises ValueError if x is not finite."""
    at = _finite(x)
    with mp.workdps(DIGITS):
        return float(-mp.log1p(mp.exp(-at)))


def log_sum_exp(x: float) -> float:
    """ln(e^x + 1 + e^-x), correctly rounded: the log-sum-exp of (x, 0, -x).

    Raises ValueError if x is not finite.
    """
    at = abs(_finite(x))
    with mp.workdps(DIGITS):
        return float(at + mp.log1p(mp.exp(-at) + mp.exp(-2 * at)))


def softmax(x: float) -> float:
    """e^x / (e^x + 1 + e^-x), correctly rounded: the first softmax of (x, 0, -x).

    Raises ValueError if x is not finite.
    """
    at = _finite(x)
    with mp.workdps(DIGITS):
        return float(1 / (1 + mp.exp(-at) + mp.exp(-2 * at)))


def log_softmax(x: float) -> float:
    """ln softmax(x) = -ln(1 + e^-x + e^-2x), correctly rounded.

    Raises ValueError if x is not finite.
    """
    at = _finite(x)
    with mp.workdps(DIGITS):
        return float(-mp.log1p(mp.exp(-at) + mp.exp(-2 * at)))
