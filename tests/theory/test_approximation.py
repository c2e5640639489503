"""Approximation: splines against closed forms and mpmath, sums of sigmoids against themselves."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from scipy import special

from stability.theory import approximation as theory
from stability.theory.approximation import TARGETS, Target

SINE, WAVE, ROOT = TARGETS["sine"], TARGETS["wave"], TARGETS["root"]
SQUARE = Target(np.square)


def uniform(n: int) -> Any:
    return np.arange(n + 1) / n


def derivative(name: str, order: int, x: float) -> Any:
    functions = {
        "sine": lambda t: mp.sin(2 * mp.pi * t), "wave": lambda t: mp.exp(mp.cos(2 * mp.pi * t)),
    }  # fmt: skip
    return mp.diff(functions[name], x, order)


@pytest.mark.parametrize("name", ["sine", "wave"])
def test_the_derivatives_of_the_targets(name: str) -> None:
    target = TARGETS[name]
    assert target.second is not None
    assert target.third is not None
    with mp.workdps(30):
        for x in (0.0, 0.11, 0.5, 0.83):
            at = np.array([x])
            assert target.second(at)[0] == pytest.approx(float(derivative(name, 2, x)), abs=1e-10)
            assert target.third(at)[0] == pytest.approx(float(derivative(name, 3, x)), abs=1e-9)
        fourth = max(abs(float(derivative(name, 4, x / 40))) for x in range(40))
    assert target.fourth == pytest.approx(fourth, rel=1e-2)
    assert target.fourth >= fourth * (1 - 1e-12)


def test_a_parabola_on_any_knots() -> None:
    """x^2: h^2 / 4 at the middle, h^5 / 30 in square; by cells a sixth of it."""
    knots = np.array([0.0, 0.2, 0.5, 1.0])
    h = np.diff(knots)
    found = theory.interpolation_error(SQUARE, knots)
    assert found.rms == pytest.approx(math.sqrt(np.sum(h**5) / 30), rel=1e-13)
    assert found.largest == pytest.approx(h.max() ** 2 / 4, rel=1e-13)
    assert theory.cellwise_error(SQUARE, knots) == pytest.approx(
        math.sqrt(np.sum(h**5) / 180), rel=1e-12
    )
    # On uniform knots the best spline is the interpolant less h^2 / 6, also at the ends.
    assert theory.projection_error(SQUARE, uniform(7)) == pytest.approx(
        math.sqrt(1 / 180) / 49, rel=1e-11
    )


def test_published_values_of_the_sine() -> None:
    rates = theory.spline_rates(SINE)
    assert rates.interpolation.constant == pytest.approx(2.548321, abs=1e-6)
    assert rates.projection.constant == pytest.approx(1.040348, abs=1e-6)
    assert rates.largest.constant == pytest.approx(math.pi**2 / 2, rel=1e-14)
    for n, largest, rms, best in ((64, 4.9279, 2.54778, 1.04153), (128, 4.93307, 2.54818, 1.04066)):
        found = theory.interpolation_error(SINE, uniform(n))
        assert found.largest * n * n == pytest.approx(largest, abs=6e-5)
        assert found.rms * n * n == pytest.approx(rms, abs=1e-5)
        assert theory.projection_error(SINE, uniform(n)) * n * n == pytest.approx(best, abs=3e-5)


@pytest.mark.parametrize("name", ["sine", "wave"])
def test_the_next_terms_leave_a_rest_of_higher_order(name: str) -> None:
    target = TARGETS[name]
    rates = theory.spline_rates(target)
    rests = []
    for n in (16, 32, 64):
        found = theory.interpolation_error(target, uniform(n))
        best = theory.projection_error(target, uniform(n))
        rests.append([
            value * n * n / rate.constant - 1 - rate.following / n**2
            for value, rate in ((found.rms, rates.interpolation), (best, rates.projection))
        ])  # fmt: skip
        gap = found.largest * n * n / rates.largest.constant - 1
        assert rates.largest.following / n**2 <= gap <= 0
    ratios = np.array(rests[:-1]) / np.array(rests[1:])
    # n^-4; the free ends of least squares leave n^-3 where f''' is not 0 there.
    assert np.all((ratios[:, 0] > 15) & (ratios[:, 0] < 17)), ratios
    assert np.all((ratios[:, 1] > 7) & (ratios[:, 1] < 17)), ratios


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [SINE, WAVE, ROOT], ids=["sine", "wave", "root"])
def test_the_projection_lies_between(target: Target, seed: int) -> None:
    inner = np.sort(np.random.default_rng(seed).random(11))
    knots = np.concatenate([[0.0], inner, [1.0]])
    best = theory.projection_error(target, knots)
    assert theory.cellwise_error(target, knots) < best
    assert best < theory.interpolation_error(target, knots).rms


def test_free_knots_beat_uniform_ones() -> None:
    for target in (SINE, WAVE):
        n = 200
        uniform_best = theory.projection_error(target, uniform(n + 1))
        assert 0.6 < theory.free_knot_error(target, n) / uniform_best < 0.9
    # Of constant curvature, uniform knots are the best: 1/sqrt(720) f''.
    flat = Target(np.square, lambda x: np.full_like(x, 2.0), np.zeros_like, 0.0)
    assert theory.free_knot_error(flat, 9) == pytest.approx(2 / math.sqrt(720) / 100, rel=1e-12)


def by_hand(n: int, steepness: float) -> float:
    beyond = math.ceil(45 / steepness) + 1
    at = np.arange(-beyond, n + beyond + 1)
    steps = SINE.value((at + 0.5) / n) - SINE.value((at - 0.5) / n)
    x = (np.arange(128 * n) + 0.5) / (128 * n)
    start = SINE.value(np.array([(at[0] - 0.5) / n]))[0]
    y = start + special.expit(n * steepness * (x[:, None] - at / n)) @ steps
    return float(np.sqrt(np.mean((y - SINE.value(x)) ** 2)))


def test_sums_of_sigmoids_have_two_rates() -> None:
    steep = [theory.staircase_error(n, 1e4) for n in (1000, 2000)]
    assert steep[0] * 1000 == pytest.approx(math.pi / math.sqrt(6), rel=1e-2)
    assert steep[0] / steep[1] == pytest.approx(2, rel=1e-2)
    soft = [theory.staircase_error(n, 2.0) for n in (200, 400)]
    constant = 4 * math.pi**2 / math.sqrt(2) * (1 / 24 + math.pi**2 / 24)
    assert soft[0] * 200**2 == pytest.approx(constant, rel=3e-2)
    assert soft[0] / soft[1] == pytest.approx(4, rel=3e-2)


def test_random_cosines_are_free_of_the_dimension() -> None:
    found = [theory.cosine_average_error(d, 1 / d) for d in (1, 10, 100, 10**6)]
    assert max(found) < 0.5
    assert found[-1] == pytest.approx((1 - math.exp(-1)) ** 2 / 2, rel=1e-5)
    assert theory.cosine_average_error(10, 0.09) == pytest.approx(0.169, abs=0.002)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.interpolation_error(SINE, [0.0]), "knots"),
        (lambda: theory.projection_error(SINE, [0.0, 1.0, 0.5]), "knots"),
        (lambda: theory.cellwise_error(SINE, [0.0, math.nan]), "knots"),
        (lambda: theory.spline_rates(ROOT), "target"),
        (lambda: theory.free_knot_error(ROOT, 3), "target"),
        (lambda: theory.free_knot_error(SINE, 0), "units=0"),
        (lambda: theory.root_largest(0), "n=0"),
        (lambda: theory.staircase_error(2, 1.0), "n=2"),
        (lambda: theory.staircase_error(9, math.inf), "steepness=inf"),
        (lambda: theory.cosine_average_error(0, 1.0), "dimension=0"),
        (lambda: theory.cosine_average_error(3, 0.0), "variance=0.0"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def cell_square(function: Callable[[Any], Any], low: Any, high: Any, line: Any) -> Any:
    return mp.quad(lambda x: (function(x) - line(x)) ** 2, [low, high])


def interpolation_worst() -> float:
    """Cell by cell in 25 digits, the root's singular end included."""
    worst = mp.mpf(0)
    with mp.workdps(25):
        cases: list[tuple[Target, Any]] = [
            (SINE, lambda x: mp.sin(2 * mp.pi * x)), (ROOT, mp.sqrt),
            (WAVE, lambda x: mp.exp(mp.cos(2 * mp.pi * x))),
        ]  # fmt: skip
        for target, function in cases:
            total, knots = mp.mpf(0), [mp.mpf(0), mp.mpf("0.125"), mp.mpf("0.5"), mp.mpf(1)]
            for low, high in pairwise(knots):
                slope = (function(high) - function(low)) / (high - low)
                start = function(low)
                total += cell_square(
                    function, low, high, lambda x, a=low, s=slope, y=start: y + s * (x - a)
                )
            found = theory.interpolation_error(target, [float(k) for k in knots]).rms
            worst = max(worst, abs(found / mp.sqrt(total) - 1))
    return float(worst)


def projection_worst() -> float:
    """By numpy's least squares on truncated powers, at other nodes."""
    t, w = np.polynomial.legendre.leggauss(20)
    worst = 0.0
    for target, knots in ((SINE, uniform(6)), (WAVE, np.array([0.0, 0.1, 0.35, 0.7, 1.0]))):
        h = np.diff(knots)[:, None]
        x = (knots[:-1, None] + h * (t + 1) / 2).ravel()
        root = np.sqrt((h * w / 2).ravel())
        powers = np.maximum(x[:, None] - knots[:-1], 0.0)
        columns = np.concatenate([np.ones_like(x)[:, None], powers], axis=1) * root[:, None]
        goal = target.value(x) * root
        best, *_ = np.linalg.lstsq(columns, goal)
        exact = float(np.linalg.norm(columns @ best - goal))
        worst = max(worst, abs(theory.projection_error(target, knots) / exact - 1))
    return worst


def cellwise_worst() -> float:
    t, w = np.polynomial.legendre.leggauss(20)
    worst = 0.0
    for target in (SINE, WAVE):
        knots = np.array([0.0, 0.1, 0.35, 0.7, 1.0])
        total = 0.0
        for low, high in pairwise(knots):
            x, root = low + (high - low) * (t + 1) / 2, np.sqrt((high - low) * w / 2)
            columns = np.stack([root, root * x], axis=1)
            best, *_ = np.linalg.lstsq(columns, root * target.value(x))
            total += float(np.sum((columns @ best - root * target.value(x)) ** 2))
        worst = max(worst, abs(theory.cellwise_error(target, knots) / math.sqrt(total) - 1))
    return worst


def rates_worst() -> float:
    """Against errors at 64 to 256 cells, extrapolated in n^-2."""
    worst = 0.0
    for target in (SINE, WAVE):
        rates = theory.spline_rates(target)
        knots = [uniform(n) for n in (128, 256)]
        for rate, errors in (
            (rates.interpolation, [theory.interpolation_error(target, k).rms for k in knots]),
            (rates.projection, [theory.projection_error(target, k) for k in knots]),
        ):
            a, b = errors[0] * 128**2, errors[1] * 256**2
            worst = max(worst, abs((4 * b - a) / 3 / rate.constant - 1))
    return worst


def free_worst() -> float:
    with mp.workdps(20):
        worst = mp.mpf(0)
        share = mp.quad(lambda x: abs(mp.sin(2 * mp.pi * x)) ** mp.mpf("0.4"), [0, 0.5, 1])
        exact = (4 * mp.pi**2) * share ** mp.mpf("2.5") / mp.sqrt(720) / 81
        worst = max(worst, abs(theory.free_knot_error(SINE, 8) / exact - 1))
        return float(worst)


def root_worst() -> float:
    """The largest on a fine grid of the first cells."""
    errors = []
    for n in (4, 9, 100):
        found = theory.interpolation_error(ROOT, uniform(n)).largest
        errors.append(abs(theory.root_largest(n) / found - 1))
    return max(errors)


def staircase_worst() -> float:
    cases = [(4, 1.0), (9, 4.0), (16, 20.0), (40, 2.0)]
    return max(abs(theory.staircase_error(n, b) / by_hand(n, b) - 1) for n, b in cases)


def cosine_worst() -> float:
    """Chi-square integrals of (1 - e^-r)^2 / 2."""
    worst = mp.mpf(0)
    with mp.workdps(30):
        for d, v in ((1, 0.5), (10, 0.09), (100, 1e-4)):
            half = mp.mpf(d) / 2

            def density(s: Any, half: Any = half) -> Any:
                return s ** (half - 1) * mp.exp(-s / 2) / (2**half * mp.gamma(half))

            def gap(r: Any, v: float = v, density: Any = density) -> Any:
                # r^2 = s takes away the singularity at 0 in one dimension.
                return (1 - mp.exp(-v * r * r)) ** 2 / 2 * density(r * r) * 2 * r

            exact = mp.quad(gap, [0, 1, 3, 6, 9, 12, 16, 24])
            worst = max(worst, abs(theory.cosine_average_error(d, v) / exact - 1))
    return float(worst)


BOOR = "de Boor 2001"
ACCURACY = [
    Case("approximation.interpolation_error", "rms error of a linear spline", BOOR,
         "3 targets, 3 unequal cells", "mpmath", 1e-12, interpolation_worst),
    Case("approximation.projection_error", "least rms error on given knots", BOOR,
         "2 targets, 4 and 6 cells", "least squares on truncated powers", 1e-11, projection_worst),
    Case("approximation.cellwise_error", "least rms error of pieces", BOOR,
         "2 targets, 4 cells", "least squares in each cell", 1e-11, cellwise_worst),
    Case("approximation.spline_rates", "constants of n^-2; neglects O(n^-2)",
         f"{BOOR}; Blu & Unser 1999", "sine and wave", "errors at 128 and 256 cells, extrapolated",
         1e-6, rates_worst),
    Case("approximation.free_knot_error", "least rms with free knots; leading order", BOOR,
         "sine", "mpmath", 1e-5, free_worst),
    Case("approximation.root_largest", "largest error of a root's interpolant", "derived",
         "4 to 100 cells", "the spline itself", 1e-12, root_worst),
    Case("approximation.staircase_error", "rms error of a sum of sigmoids",
         "Poisson's summation formula", "n 4 to 40, slopes 1 to 20 n", "the sum itself", 1e-11,
         staircase_worst),
    Case("approximation.cosine_average_error", "n times the square of random cosines",
         "Barron 1993", "d 1 to 100", "chi-square integrals in mpmath", 1e-12, cosine_worst),
]  # fmt: skip
