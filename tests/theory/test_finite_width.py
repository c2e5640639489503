"""Finite-width laws against 30-digit mixtures, exact enumeration and a simulated network."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.theory import finite_width as fw

LAW = settings(deadline=None, max_examples=30)


def exact_relu(width: int) -> tuple[float, float]:
    """Mean and variance of ln(2 chi^2_K / n), K ~ Binomial(n, 1/2) given K >= 1."""
    with mp.workdps(30):
        total = mp.mpf(2) ** width - 1
        first = second = mp.mpf(0)
        for k in range(1, width + 1):
            mass = mp.binomial(width, k) / total
            level = mp.digamma(mp.mpf(k) / 2) + mp.log(mp.mpf(4) / width)
            first += mass * level
            second += mass * (mp.psi(1, mp.mpf(k) / 2) + level**2)
        return float(first), float(second - first**2)


@pytest.mark.parametrize("width", [1, 2, 7, 64, 257])
def test_relu_against_mpmath(width: int) -> None:
    mean, variance = exact_relu(width)
    measured = fw.relu_log_norm(width)
    assert measured.mean == pytest.approx(mean, rel=1e-11, abs=1e-12)
    assert measured.variance == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize(
    ("width", "relu_mean", "relu_variance", "mean", "variance"),
    [
        (16, -0.176397, 0.419593, -0.063800, 0.133137),
        (32, -0.082540, 0.177498, -0.031575, 0.064494),
        (64, -0.040109, 0.082997, -0.015706, 0.031743),
        (128, -0.019786, 0.040234, -0.007833, 0.015748),
        (256, -0.009829, 0.019819, -0.003911, 0.007843),
    ],
)
def test_the_table_of_increments(
    width: int, relu_mean: float, relu_variance: float, mean: float, variance: float
) -> None:
    assert fw.relu_log_norm(width) == pytest.approx((relu_mean, relu_variance), abs=6e-7)
    assert fw.linear_log_norm(width) == pytest.approx((mean, variance), abs=6e-7)


@pytest.mark.parametrize("depth", [4])
def test_a_simulated_relu_network_obeys_the_law(depth: int) -> None:
    # 4 standard errors on a mean and on a variance: false alarm below 2e-4 for the fixed seed.
    rng, width, draws = np.random.default_rng(0), 12, 20_000
    h = np.zeros((draws, width))
    h[:, 0] = math.sqrt(width)
    for _ in range(depth):
        weights = rng.standard_normal((draws, width, width)) * math.sqrt(2 / width)
        h = np.maximum(np.einsum("di,dij->dj", h, weights), 0)
    log_size = np.log((h**2).mean(axis=1)[(h != 0).any(axis=1)])
    law = fw.relu_log_norm(width)
    error = math.sqrt(log_size.var() / log_size.size)
    assert log_size.mean() == pytest.approx(depth * law.mean, abs=4 * error)
    spread = np.mean((log_size - log_size.mean()) ** 4) / log_size.var() ** 2
    error = log_size.var() * math.sqrt((spread - 1) / log_size.size)
    assert log_size.var() == pytest.approx(depth * law.variance, abs=4 * error)


@LAW
@given(width=st.integers(1, 2000), sigma_w=st.floats(0.1, 10))
def test_the_gain_shifts_the_mean_alone(width: int, sigma_w: float) -> None:
    for law, critical in ((fw.relu_log_norm, math.sqrt(2)), (fw.linear_log_norm, 1.0)):
        base, moved = law(width), law(width, sigma_w)
        assert moved.mean - base.mean == pytest.approx(2 * math.log(sigma_w / critical), abs=1e-11)
        assert moved.variance == base.variance
        assert base.mean < 0  # Jensen: the mean square itself is kept


def test_large_widths_approach_the_log_normal_limit() -> None:
    # The corrections are of relative order 1 / n.
    for width in (10**3, 10**5):
        for law, slope in ((fw.relu_log_norm, 0.0), (fw.linear_log_norm, 1.0)):
            beta, exact = fw.log_normal_variance([width], slope), law(width)
            assert exact.variance == pytest.approx(beta, rel=10 / width)
            assert exact.mean == pytest.approx(-beta / 2, rel=10 / width)


def test_log_normal_coefficients() -> None:
    assert fw.log_normal_coefficient() == 5
    assert fw.log_normal_coefficient(1.0) == 2
    assert fw.log_normal_coefficient(-1.0) == 2
    assert fw.log_normal_coefficient(0.1) == pytest.approx(4.882, abs=5e-4)
    assert fw.log_normal_coefficient(0.25) == pytest.approx(4.336, abs=5e-4)
    assert fw.log_normal_coefficient(1e-320) == 5
    assert fw.log_normal_coefficient(1e300) == 5
    assert fw.log_normal_variance([10, 20, 20]) == pytest.approx(1.0, rel=1e-15)
    assert fw.log_normal_variance([]) == 0


@LAW
@given(slope=st.floats(-20, 20))
def test_the_coefficient_is_the_relative_variance_of_one_unit(slope: float) -> None:
    # E z_+^2 = 1/2 and E z_+^4 = 3/2, from each side.
    second, fourth = (1 + slope**2) / 2, 3 * (1 + slope**4) / 2
    expected = fourth / second**2 - 1
    assert fw.log_normal_coefficient(slope) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2)])
def test_dead_networks_by_enumeration(width: int, depth: int) -> None:
    dead = total = 0
    for signs in itertools.product((0, 1), repeat=width * depth):
        layers = [signs[i : i + width] for i in range(0, width * depth, width)]
        dead += any(not any(layer) for layer in layers)
        total += 1
    assert fw.dead_probability(width, depth) == pytest.approx(float(Fraction(dead, total)))


def test_published_dead_probabilities_and_limits() -> None:
    for width, depth, value in ((2, 5, 0.7627), (3, 10, 0.7369), (5, 50, 0.7956), (6, 30, 0.3765)):
        assert fw.dead_probability(width, depth) == pytest.approx(value, abs=5e-5)
    assert fw.dead_probability(100, 10) == pytest.approx(10 * 2.0**-100, rel=1e-12)
    assert fw.dead_probability(1, 0) == fw.dead_probability(9, 0) == 0


@pytest.mark.parametrize("bad", [0, -3, math.nan])
def test_bad_widths_are_named(bad: int) -> None:
    for function in (fw.relu_log_norm, fw.linear_log_norm, lambda n: fw.dead_probability(n, 1)):
        with pytest.raises(ValueError, match=r"^width="):
            function(bad)
    with pytest.raises(ValueError, match=r"^width="):
        fw.log_normal_variance([4, bad])
    with pytest.raises(ValueError, match=r"^depth="):
        fw.dead_probability(4, min(bad, -1))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_gains_and_slopes_are_named(bad: float) -> None:
    for law in (fw.relu_log_norm, fw.linear_log_norm):
        with pytest.raises(ValueError, match=r"^sigma_w="):
            law(4, bad)
    if not math.isfinite(bad):
        with pytest.raises(ValueError, match=r"^slope="):
            fw.log_normal_coefficient(bad)
