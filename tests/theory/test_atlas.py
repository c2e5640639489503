"""The atlas in mpmath against closed forms, the catalogue's numpy formulas and published digits."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from accuracy import Case
from scipy import special

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import atlas

POINTS = [-60.0, -8.5, -2.25, -1.0, -1e-8, 1e-8, 0.3, 1.0, 4.5, 37.0]


def relative(measured: float, exact: float) -> float:
    """|measured - exact| in units of the larger of exact's size and 1e-280."""
    return 0.0 if measured == exact else abs(measured - exact) / max(abs(exact), 1e-280)


def worst_exact() -> float:
    errors = [0.0]
    for name, entry in ACTIVATIONS.items():
        for order, function in enumerate((entry.phi, entry.dphi, entry.d2phi)):
            for x in POINTS:
                if x in (-1.0, 1.0) and name == "hardtanh":
                    continue
                errors.append(relative(float(function(np.array(x))), atlas.exact(name, x, order)))
    return max(errors)


def against(found: Callable[[float], float], oracle: Callable[[float], float]) -> float:
    return max(relative(oracle(x), found(x)) for x in POINTS)


def worst_slopes() -> float:
    """Against the published digits of the maxima, and closed forms."""
    known = {
        "sigmoid": 0.25, "tanh": 1.0, "erf": 2 / math.sqrt(math.pi), "silu": 1.099839320128867,
        "gelu": 0.5 * math.erfc(-1.0) + math.exp(-1.0) / math.sqrt(math.pi),
        "selu": 1.7580993408473766, "softplus": 1.0, "linear": 1.0, "hardtanh": 1.0,
    }  # fmt: skip
    return max(abs(atlas.lipschitz(name) / value - 1) for name, value in known.items())


def worst_range() -> float:
    known = {"silu": -0.278464542761074, "gelu": -0.169971207479904, "elu": -1.0, "sigmoid": 0.0,
             "selu": -1.7580993408473766}  # fmt: skip
    return max(relative(atlas.value_range(name).infimum, low) for name, low in known.items())


ACCURACY = [
    Case("atlas.exact", "value and two derivatives of an activation", "definitions",
         "every activation, -60 <= x <= 37", "the catalogue's numpy formulas", 3e-13, worst_exact),
    Case("atlas.lipschitz", "steepest slope", "roots of phi''", "9 activations",
         "closed forms and published digits", 1e-14, worst_slopes),
    Case("atlas.slope_range", "infimum and supremum of the slope", "roots of phi''",
         "gelu, silu, swish", "odd symmetry of the slope about 1/2", 1e-14,
         lambda: max(abs(sum(atlas.slope_range(name)) - 1) for name in ("gelu", "silu", "swish"))),
    Case("atlas.value_range", "infimum and supremum", "roots of phi'", "5 activations",
         "published digits", 1e-14, worst_range),
    Case("atlas.kinks", "where the slope jumps, and its sides", "definitions", "selu",
         "published alpha and lambda", 1e-15,
         lambda: abs(atlas.kinks("selu")[0].left / 1.7580993408473766 - 1)),
    Case("atlas.names", "the activations of the atlas", "definitions", "all",
         "the catalogue", 0.0, lambda: float(set(atlas.names()) != set(ACTIVATIONS))),
    Case("atlas.log_sigmoid", "ln sigmoid", "definition", "-60 <= x <= 37",
         "scipy.special.log_expit", 1e-15,
         lambda: against(atlas.log_sigmoid, lambda x: float(special.log_expit(x)))),
    Case("atlas.log_sum_exp", "ln(e^x + 1 + e^-x)", "definition", "-60 <= x <= 37",
         "scipy.special.logsumexp", 1e-15,
         lambda: against(atlas.log_sum_exp, lambda x: float(special.logsumexp([x, 0.0, -x])))),
    Case("atlas.softmax", "first softmax of (x, 0, -x)", "definition", "-60 <= x <= 37",
         "scipy.special.softmax", 1e-14,
         lambda: against(atlas.softmax, lambda x: float(special.softmax([x, 0.0, -x])[0]))),
    Case("atlas.log_softmax", "its logarithm", "definition", "x <= 4.5",
         "scipy.special.log_softmax, absolute", 1e-15,
         lambda: max(
             abs(atlas.log_softmax(x) - float(special.log_softmax([x, 0.0, -x])[0]))
             / max(1.0, abs(x)) for x in POINTS)),
]  # fmt: skip


def test_published_digits() -> None:
    assert atlas.exact("sigmoid", 4.0, 1) == pytest.approx(0.0176627, abs=5e-8)
    assert atlas.exact("sigmoid", 8.0, 1) == pytest.approx(3.352377e-4, abs=5e-11)
    assert atlas.exact("tanh", 2.0, 1) == pytest.approx(0.0706508, abs=5e-8)
    assert atlas.slope_range("silu").infimum == pytest.approx(-0.099839320129, abs=5e-13)
    assert atlas.slope_range("gelu").supremum == pytest.approx(1.128904145185, abs=5e-13)


def test_the_sides_of_a_kink_average_where_no_derivative_exists() -> None:
    assert atlas.exact("relu", 0.0, 1) == 0.5
    assert [tuple(kink) for kink in atlas.kinks("hardtanh")] == [(-1, 0, 1), (1, 1, 0)]
    assert atlas.kinks("elu") == atlas.kinks("tanh") == ()


def test_far_tails_keep_their_digits() -> None:
    assert atlas.exact("erf", 20.0, 1) == pytest.approx(2.1610374743867984e-174, rel=1e-12)
    assert atlas.exact("tanh", 300.0, 1) == pytest.approx(4 * math.exp(-600.0), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: atlas.exact("tahn", 1.0), "name='tahn'"),
        (lambda: atlas.exact("tanh", math.nan), "x=nan"),
        (lambda: atlas.exact("tanh", math.inf), "x=inf"),
        (lambda: atlas.exact("tanh", 1.0, 3), "order=3"),
        (lambda: atlas.kinks("no"), "name='no'"),
        (lambda: atlas.value_range("no"), "name='no'"),
        (lambda: atlas.lipschitz("no"), "name='no'"),
        (lambda: atlas.log_sigmoid(math.nan), "x=nan"),
        (lambda: atlas.log_sum_exp(math.inf), "x=inf"),
        (lambda: atlas.softmax(math.nan), "x=nan"),
        (lambda: atlas.log_softmax(math.nan), "x=nan"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
