"""Mixtures of Gaussians over inputs, and layers of finite width, against mpmath."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import mixtures

TANH = ACTIVATIONS["tanh"]
X = np.array([[0.5, -1.0, 2.0, 0.25], [1.0, 1.0, -0.5, 0.1]])
ENDS = [-12, -5, -2, 0, 2, 5, 12]


def relative(found: Any, exact: Any) -> float:
    return abs(float(found / exact - 1))


def gauss(f: Any, q: Any) -> Any:
    """E f(x), x ~ N(0, q)."""
    return mp.quad(lambda z: f(mp.sqrt(q) * z) * mp.npdf(z), ENDS)


def two() -> mixtures.Field:
    """Two inputs in an infinitely wide layer."""
    zero = np.zeros(2)
    return mixtures.Field(np.array([0.3, 2.0]), zero, zero, zero)


def tanh_map(q: Any, gain: Any) -> Any:
    return gain**2 * gauss(lambda u: mp.tanh(u) ** 2, q)


def fields_error() -> float:
    """Three layers of uniform weights and tanh, each average by 20-digit quadrature."""
    fans, stds = [(4, 6), (6, 5), (5, 3)], [0.6, 0.5, 0.9]
    found = mixtures.fields(X, fans, stds, TANH, "uniform")
    worst = 0.0
    with mp.workdps(20):
        for at, row in enumerate(X):
            squares = [mp.mpf(float(x)) ** 2 for x in row]
            q = mp.mpf(stds[0]) ** 2 * sum(squares)
            excess = mp.mpf(-6) / 5 * sum(s**2 for s in squares) / sum(squares) ** 2
            shift, spread = mp.mpf(0), mp.mpf(0)
            for place, field in enumerate(found):
                ours = (field.q, field.shift, field.spread, field.excess)
                for column, exact in zip(ours, (q, shift, spread, excess), strict=True):
                    if exact:
                        worst = max(worst, relative(float(column[at]), exact))
                    else:
                        assert column[at] == 0
                if place == 2:
                    break
                n = fans[place + 1][0]
                gain = mp.mpf(stds[place + 1]) * mp.sqrt(n)
                second, fourth = (gauss(lambda u, k=k: mp.tanh(u) ** k, q) for k in (2, 4))
                wide = mp.sqrt(spread**2 - excess * q**2 / 3)
                following = gain**2 * second
                moved = tanh_map(q + shift, gain) - following
                moved += (tanh_map(q + wide, gain) + tanh_map(q - wide, gain)) / 2 - following
                turned = (tanh_map(q + spread, gain) - tanh_map(q - spread, gain)) / 2
                spread = mp.sqrt(turned**2 + gain**4 * (fourth - second**2) / n)
                excess = mp.mpf(-6) / 5 * fourth / second**2 / n
                q, shift = following, moved
    return worst


def share_error() -> float:
    with mp.workdps(30):
        exact = sum(mp.erfc(mp.mpf(1.5) / mp.sqrt(2 * mp.mpf(q))) for q in (0.3, 2.0)) / 2
        return relative(mixtures.saturated_share(two(), 1.5).value, exact)


def moments_error() -> float:
    """SiLU, whose mean is not 0."""

    def silu(u: Any) -> Any:
        return u / (1 + mp.exp(-u))

    with mp.workdps(20):
        qs = [mp.mpf(q) for q in (0.3, 2.0)]
        mean = sum(gauss(silu, q) for q in qs) / 2
        square = sum(gauss(lambda u: silu(u) ** 2, q) for q in qs) / 2
        found = mixtures.activation_moments(two(), ACTIVATIONS["silu"])
        return max(relative(found.mean, mean), relative(found.std, mp.sqrt(square - mean**2)))


def quantiles_error() -> float:
    worst, levels = 0.0, (0.02, 0.25, 0.9)
    found = mixtures.activation_quantiles(two(), TANH, levels, 64, 0.0)
    with mp.workdps(20):
        for p, value in zip(levels, found.values, strict=True):

            def excess(x: Any, p: float = p) -> Any:
                return sum(mp.ncdf(x / mp.sqrt(mp.mpf(q))) for q in (0.3, 2.0)) / 2 - p

            x = mp.findroot(excess, (-4, 4), solver="anderson")
            worst = max(worst, relative(float(value), mp.tanh(x)))
    return worst


def density_error() -> float:
    worst, edges = 0.0, [-0.9, -0.3, 0.3, 0.9]
    found = mixtures.activation_density(two(), "tanh", edges)
    with mp.workdps(20):
        at = [
            sum(mp.ncdf(mp.atanh(mp.mpf(y)) / mp.sqrt(mp.mpf(q))) for q in (0.3, 2.0)) / 2
            for y in edges
        ]
        for low, high, value in zip(at, at[1:], found, strict=False):
            worst = max(worst, relative(float(value), (high - low) / mp.mpf(0.6)))
    return worst


def loss_error() -> float:
    """Two classes: E ln(1 + e^d), d ~ N(0, 2 q)."""
    with mp.workdps(20):
        exact = sum(gauss(lambda d: mp.log1p(mp.exp(d)), 2 * mp.mpf(q)) for q in (0.3, 2.0)) / 2
        return relative(mixtures.expected_loss(two(), 2).value, exact)


MIXED = "mean over inputs"
ACCURACY = [
    Case("mixtures.fields", "law of each layer's preactivations; neglects O(1 / n^2)",
         "Poole et al. 2016, eq. 3; the delta method", "two inputs, three tanh layers, uniform",
         "mpmath, quadrature", 1e-12, fields_error),
    Case("mixtures.saturated_share", "P(|x| > t)", MIXED, "q 0.3 and 2", "mpmath, erfc", 1e-14,
         share_error),
    Case("mixtures.activation_moments", "mean and deviation of phi", MIXED, "SiLU, q 0.3 and 2",
         "mpmath, quadrature", 1e-10, moments_error),
    Case("mixtures.activation_quantiles", "quantiles of phi", MIXED, "tanh, q 0.3 and 2",
         "mpmath, roots", 1e-11, quantiles_error),
    Case("mixtures.activation_density", "density of phi in bins", MIXED, "tanh, q 0.3 and 2",
         "mpmath", 1e-13, density_error),
    Case("mixtures.expected_loss", "loss of random logits", MIXED, "two classes, q 0.3 and 2",
         "mpmath, quadrature", 1e-9, loss_error),
]  # fmt: skip


def test_an_infinitely_wide_layer_has_no_bias() -> None:
    assert mixtures.saturated_share(two(), 1.5).bias == 0
    assert mixtures.expected_loss(two(), 10).bias == 0
    few = mixtures.activation_quantiles(two(), TANH, (0.02, 0.5), 4, 0.0).biases
    assert few[0] == 1
    assert few[1] == pytest.approx(0, abs=1e-9)


def test_kurtosis_and_spread_move_a_share_alike() -> None:
    """s^2 = k q^2 / 3, as both are the fourth Hermite term."""
    q, zero = np.array([2.0]), np.zeros(1)
    spread = mixtures.Field(q, zero, np.array([0.4]), zero)
    excess = mixtures.Field(q, zero, zero, np.array([-3 * 0.4**2 / 4]))
    one, other = (mixtures.saturated_share(field, 2.0).bias for field in (spread, excess))
    assert one == other > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0, 0.0]], [(2, 3)], [1.0], TANH), "inputs: must have no row of zeros"),
        ((X, [(4, 0)], [1.0], TANH), "fans="),
        ((X, [(4, 6)], [1.0, 1.0], TANH), "stds="),
        ((X, [(4, 6)], [0.0], TANH), "stds="),
        ((X, [(4, 6)], [1.0], TANH, "cauchy"), "law='cauchy'"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixtures.fields(*arguments)
    with pytest.raises(ValueError, match="edges="):
        mixtures.activation_density(two(), "tanh", [0.5, 0.5])
    with pytest.raises(ValueError, match="levels="):
        mixtures.activation_quantiles(two(), TANH, (math.nan,), 4, 0.0)
