"""First order in 1 / width against exact laws at large width, mpmath and simulated networks."""

import math

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from stability.theory import finite_width, meanfield
from stability.theory import width_correction as wc
from stability.theory.nonlinearity import Nonlinearity

Array = NDArray[np.float64]
ROOT2 = math.sqrt(2)


def leaky(slope: float) -> Nonlinearity:
    return Nonlinearity(
        phi=lambda z: np.where(z > 0, z, slope * z),
        dphi=lambda z: np.where(z > 0, 1.0, slope),
        d2phi=np.zeros_like,
        kinks=(0.0,),
    )


TANH = Nonlinearity(
    phi=np.tanh,
    dphi=lambda z: 1 / np.cosh(z) ** 2,
    d2phi=lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2,
)
SIGMOID = Nonlinearity(
    phi=special.expit,
    dphi=lambda z: special.expit(z) * special.expit(-z),
    d2phi=lambda z: -special.expit(z) * special.expit(-z) * np.tanh(z / 2),
)
ERF = Nonlinearity(
    phi=special.erf,
    dphi=lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z),
    d2phi=lambda z: -4 * z / math.sqrt(math.pi) * np.exp(-z * z),
)
HARDTANH = Nonlinearity(
    phi=lambda z: np.clip(z, -1.0, 1.0),
    dphi=lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
    d2phi=np.zeros_like,
    kinks=(-1.0, 1.0),
)


@pytest.mark.parametrize(("slope", "c"), [(0.0, 5.0), (0.25, 4.33564), (1.0, 2.0)])
def test_piecewise_linear_networks_have_the_log_normal_limit(slope: float, c: float) -> None:
    act, gain, up = leaky(slope), finite_width.keeping_gain(slope), np.arange(1, 7)
    forward = wc.activation_correction(6, 1.7, act, gain)
    assert forward.mean == pytest.approx(-c / 2 * up, rel=1e-5)
    assert forward.variance == pytest.approx(c * up, rel=1e-5)
    before = wc.preactivation_correction(6, 1.7, act, gain)
    assert before.mean == pytest.approx(-c / 2 * (up - 1) - 1, rel=1e-5)
    assert before.variance == pytest.approx(c * (up - 1) + 2, rel=1e-5)
    back = wc.gradient_correction(6, 1.7, act, gain)
    above = np.arange(6, -1, -1)
    assert back.mean == pytest.approx(-c / 2 * above, rel=1e-5)
    assert back.variance == pytest.approx(c * above, rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(q=st.floats(0.05, 20), gain=st.floats(0.3, 3), slope=st.floats(0, 1))
def test_without_biases_scale_and_gain_of_a_homogeneous_network_are_free(
    q: float, gain: float, slope: float
) -> None:
    one = wc.gradient_correction(4, 1.0, leaky(slope), 1.0)
    other = wc.gradient_correction(4, q, leaky(slope), gain)
    assert other.mean == pytest.approx(one.mean, rel=1e-9, abs=1e-9)
    assert other.variance == pytest.approx(one.variance, rel=1e-9, abs=1e-9)


def simulated(
    act: Nonlinearity, sigma_w: float, sigma_b: float, n: int, depth: int, draws: int
) -> list[Array]:
    """ln of the last layer's squares, before and after phi, and of the input gradient's."""
    rng = np.random.default_rng(5)
    h = np.ones((draws, n, 1))
    matrices, states = [], []
    for _ in range(depth):
        matrices.append(rng.standard_normal((draws, n, n)) * sigma_w / math.sqrt(n))
        states.append(matrices[-1] @ h + sigma_b * rng.standard_normal((draws, n, 1)))
        h = act.phi(states[-1])
    g = rng.standard_normal((draws, n, 1))
    start = np.log((g**2).sum(axis=(1, 2)))
    for matrix, state in zip(matrices[::-1], states[::-1], strict=True):
        g = matrix.transpose(0, 2, 1) @ (act.dphi(state) * g)
    return [
        np.log((states[-1] ** 2).mean(axis=(1, 2))),
        np.log((h**2).mean(axis=(1, 2))),
        np.log((g**2).sum(axis=(1, 2))) - start,
    ]


@pytest.mark.parametrize(
    ("act", "sigma_w", "sigma_b"),
    [(TANH, 1.5, 0.2), (SIGMOID, 4.0, 0.5), (HARDTANH, 1.3, 0.1), (leaky(0.0), 1.4, 0.3)],
    ids=["tanh", "sigmoid", "hardtanh", "relu with biases"],
)
def test_simulated_networks(act: Nonlinearity, sigma_w: float, sigma_b: float) -> None:
    # 4.5 standard errors (false alarm below 1e-5 each of 24), and the next order, taken as
    # (1 + |coefficient|)^2 / n.
    n, depth, draws = 40, 4, 4000
    q1 = sigma_w**2 + sigma_b**2
    q = meanfield.variances(depth, q1, act, sigma_w, sigma_b)
    limits = [
        math.log(q[-1]),
        math.log(float(meanfield.variance_map(q[-1], act, 1.0))),
        float(np.log(meanfield.chi(q, act, sigma_w)).sum()),
    ]
    arguments = (depth, q1, act, sigma_w, sigma_b)
    laws = [
        (wc.preactivation_correction(*arguments), -1),
        (wc.activation_correction(*arguments), -1),
        (wc.gradient_correction(*arguments), 0),
    ]
    found = simulated(act, sigma_w, sigma_b, n, depth, draws)
    for logs, limit, (law, at) in zip(found, limits, laws, strict=True):
        mean, variance = law.mean[at], law.variance[at]
        error = n * logs.std() / math.sqrt(draws)
        assert n * (logs.mean() - limit) == pytest.approx(
            mean, abs=4.5 * error + (1 + abs(mean)) ** 2 / n
        )
        kurtosis = ((logs - logs.mean()) ** 4).mean() / logs.var() ** 2
        error = n * logs.var() * math.sqrt((kurtosis - 1) / draws)
        assert n * logs.var() == pytest.approx(variance, abs=4.5 * error + (1 + variance) ** 2 / n)


def test_bad_arguments_are_named() -> None:
    for function in (
        wc.preactivation_correction, wc.activation_correction, wc.gradient_correction,
    ):  # fmt: skip
        for arguments, name in (
            ((0, 1.0, TANH, 1.0), "depth"),
            ((3, 0.0, TANH, 1.0), "q1"),
            ((3, 1.0, TANH, math.nan), "sigma_w"),
            ((3, 1.0, TANH, 1.0, -1.0), "sigma_b"),
        ):
            with pytest.raises(ValueError, match=f"^{name}="):
                function(*arguments)
    with pytest.raises(ValueError, match=r"^q1=1\.0: must be above sigma_b\^2"):
        wc.gradient_correction(3, 1.0, TANH, 1.0, 1.0)


def erf_chain(depth: int, q1: float, sigma_w: float, sigma_b: float) -> list[list[mp.mpf]]:
    """(q, n (E k - q), n Var k) by layer in 30 digits; V(q) = (2 / pi) asin(2 q / (1 + 2 q))."""

    def size(q: mp.mpf) -> mp.mpf:
        return 2 / mp.pi * mp.asin(2 * q / (1 + 2 * q))

    w2, b2 = mp.mpf(sigma_w) ** 2, mp.mpf(sigma_b) ** 2
    q, drift, spread = mp.mpf(q1), mp.mpf(0), mp.mpf(0)
    rows = []
    for _ in range(depth):
        fourth = 2 * mp.quad(lambda z, q=q: mp.erf(mp.sqrt(q) * z) ** 4 * mp.npdf(z),
                             [0, 0.5, 1, 2, 4, 12])  # fmt: skip
        first, second = mp.diff(size, q), mp.diff(size, q, 2)
        rows.append([q, drift, spread, size(q), first, second, fourth - size(q) ** 2])
        drift = w2 * (first * drift + second * spread / 2)
        spread = w2**2 * (first**2 * spread + fourth - size(q) ** 2)
        q = w2 * size(q) + b2
    return rows


def worst_forward(after: bool) -> float:
    """erf in 30 digits; ReLU at He's scale."""
    worst = 0.0
    function = wc.activation_correction if after else wc.preactivation_correction
    for q1, sigma_w, sigma_b in ((1.3, 1.5, 0.2), (0.2, 0.8, 0.3)):
        with mp.workdps(30):
            rows = erf_chain(4, q1, sigma_w, sigma_b)
            true = []
            for q, drift, spread, v, v1, v2, noise in rows:
                if after:
                    variance = (v1**2 * spread + noise) / v**2
                    true.append(((v1 * drift + v2 * spread / 2) / v - variance / 2, variance))
                else:
                    variance = spread / q**2
                    true.append((drift / q - variance / 2 - 1, variance + 2))
        found = function(4, q1, ERF, sigma_w, sigma_b)
        for column, values in enumerate(found):
            expected = np.array([float(row[column]) for row in true])
            worst = max(worst, float(np.abs(values / expected - 1).max()))
    back = 0 if after else 1
    found = function(5, 2.0, leaky(0.0), ROOT2)
    expected = 5 * (np.arange(1, 6) - back) + 2 * back
    return max(worst, float(np.abs(found.variance / expected - 1).max()))


def worst_gradient() -> float:
    """The exact law of leaky networks, the same backward: its 1 / n from two large widths."""
    worst, depth = 0.0, 5
    for slope in (0.0, 0.25, 1.0):
        found = wc.gradient_correction(depth, 1.0, leaky(slope), finite_width.keeping_gain(slope))
        one, two = (finite_width.leaky_log_norm(n, slope) for n in (500, 1000))
        for values, small, large in zip(found, one, two, strict=True):
            limit = 2 * 1000 * large - 500 * small
            true = depth * limit - np.arange(depth) * limit
            worst = max(worst, float(np.abs(values[:-1] / true - 1).max()))
    return worst


def worst_ratio() -> float:
    """Leaky networks at the gain that keeps the mean square, whose mean is 1 at any width."""
    worst = 0.0
    for slope in (0.0, 0.25, 1.0):
        gain = finite_width.keeping_gain(slope)
        worst = max(worst, abs(wc.gradient_ratio(5, 1.0, leaky(slope), gain, 40).value - 1))
    return worst


_PDLT = "Roberts, Yaida & Hanin 2022, ch. 4"

ACCURACY = [
    Case("width_correction.preactivation_correction",
         "1 / n of mean and variance of ln mean z^2; neglects O(1 / n^2)", _PDLT,
         "erf and ReLU, depth 1 to 5", "30-digit derivatives of the closed form; exact values",
         1e-9, lambda: worst_forward(after=False)),
    Case("width_correction.activation_correction",
         "1 / n of mean and variance of ln mean h^2; neglects O(1 / n^2)", _PDLT,
         "erf and ReLU, depth 1 to 5", "30-digit derivatives of the closed form; exact values",
         1e-9, lambda: worst_forward(after=True)),
    Case("width_correction.gradient_correction",
         "1 / n of mean and variance of ln of the gradient; neglects O(1 / n^2)",
         "delta method along the layers", "leaky ReLU of slope 0, 1/4, 1, depth 5",
         "exact law, extrapolated from widths 500 and 1000", 1e-4, worst_gradient),
    Case("width_correction.gradient_ratio",
         "mean square of the gradient over its mean field; neglects O(1 / n^2)",
         "delta method along the layers", "leaky ReLU of slope 0, 1/4, 1, depth 5",
         "exactly 1 at any width", 1e-12, worst_ratio),
]  # fmt: skip
