"""What a perceptron must do, against enumeration, integration, simulation and longer formats."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from stability.theory import perceptron as theory
from stability.theory.floating_point import FORMATS, round_to

SINGLE = FORMATS["float32"]
HIGHAM = "Higham 2002, sec. 3.5"
RNG = np.random.default_rng(3)
X = RNG.standard_normal((30, 4)) + 0.5
Parameters = list[np.ndarray]


def loss_excess() -> float:
    """ln 2 + E ln cosh(d / 2), d ~ N(0, 2 q), for two classes behind one layer: by quadrature.

    How far the integral lies outside of [value - neglected, value], relative to ln 2.
    """
    worst = 0.0
    for q in (1e-6, 1e-2, 0.3, 1.0, 4.0, 25.0):
        found = theory.initial_loss([1.0], [(1, 2)], [math.sqrt(q)])
        scale = math.sqrt(2 * q)
        exact, _ = integrate.quad(
            lambda z, s=scale: np.logaddexp(0.0, s * z) * stats.norm.pdf(z), -15, 15, limit=300,
            epsabs=1e-13,
        )  # fmt: skip
        worst = max(worst, exact - found.value, found.value - found.neglected - exact)
    return worst / math.log(2)


def softmax_hessian(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the mean cross-entropy: the mean of (diag p - p p^T) kron x x^T, sample by sample."""
    inputs = np.column_stack([x, np.ones(len(x))])
    total = np.zeros((weights.size, weights.size))
    for row in inputs:
        p = special.softmax(row @ weights)
        total += np.kron(np.diag(p) - np.outer(p, p), np.outer(row, row))
    return total / len(x)


def smoothness_error() -> float:
    """Attained at equal weights of two classes."""
    top = np.linalg.eigvalsh(softmax_hessian(X, np.zeros((5, 2))))[-1]
    return float(abs(theory.softmax_smoothness(X) / top - 1))


def sharpness_error() -> float:
    """The largest quotient that maximization finds."""
    inputs = np.column_stack([X, np.ones(len(X))])

    def quotient(v: np.ndarray) -> float:
        return -float(np.mean((inputs @ v) ** 2) / (v @ v))

    found = optimize.minimize(quotient, np.ones(5), tol=1e-14)
    return float(abs(theory.least_squares_sharpness(X) / -found.fun - 1))


def loss_bound_error() -> float:
    """ln K + 2 rate steps max (|x|^2 + 1), written out."""
    found = theory.softmax_loss_bound([[3.0, 4.0], [0.0, 1.0]], 10, 0.5, 7)
    return abs(found / (math.log(10) + 2 * 0.5 * 7 * 26) - 1)


def best_by_enumeration(code: np.ndarray, labels: np.ndarray, intervals: int) -> float:
    """Every cut of the sorted values into intervals, each of the class that most of it has."""
    values = np.unique(code)
    best = 0
    for count in range(min(intervals, len(values))):
        for cuts in itertools.combinations(range(1, len(values)), count):
            edges = [0, *cuts, len(values)]
            right = 0
            for low, high in itertools.pairwise(edges):
                inside = np.isin(code, values[low:high])
                right += np.bincount(labels[inside]).max()
            best = max(best, right)
    return best / len(code)


def interval_error() -> float:
    worst = 0.0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        code, labels = rng.integers(0, 8, 13) / 2.0, rng.integers(0, 3, 13)
        for intervals in (1, 2, 3, 5, 40):
            found = theory.interval_accuracy(code, labels, intervals)
            worst = max(worst, abs(found - best_by_enumeration(code, labels, min(intervals, 8))))
    return worst


def sgd_step(
    x: np.ndarray, labels: np.ndarray, parameters: Parameters, rate: float, dtype: type
) -> Parameters:
    """One step in the format, by numpy alone."""
    x = x.astype(dtype)
    ours: Parameters = [p.astype(dtype) for p in parameters]
    w1, b1, w2, b2 = ours
    z = x @ w1 + b1
    h = np.maximum(z, 0)
    o = h @ w2 + b2
    e = np.exp(o - o.max(axis=1, keepdims=True))
    d2 = e / e.sum(axis=1, keepdims=True)
    d2[np.arange(len(x)), labels] -= 1
    d2 = d2 / dtype(len(x))
    d1 = (d2 @ w2.T) * (z > 0)
    gradients = (x.T @ d1, d1.sum(axis=0), h.T @ d2, d2.sum(axis=0))
    return [p - dtype(rate) * g for p, g in zip((w1, b1, w2, b2), gradients, strict=True)]


def problem(seed: int, scale: float, batch: int = 64) -> tuple[np.ndarray, np.ndarray, Parameters]:
    rng = np.random.default_rng(seed)
    shapes = ((17, 31), (31,), (31, 7), (7,))
    parameters = [(scale * rng.standard_normal(s)).astype(np.float32) for s in shapes]
    x = rng.standard_normal((batch, 17)).astype(np.float32).astype(np.float64)
    return x, rng.integers(0, 7, batch), [p.astype(np.float64) for p in parameters]


def step_ratio(seed: int, scale: float, rate: float) -> float:
    """The error of a float32 step over its bound; the exact one in 80 bits."""
    x, labels, parameters = problem(seed, scale)
    exact = sgd_step(x, labels, parameters, rate, np.longdouble)
    found = sgd_step(x, labels, parameters, rate, np.float32)
    error = math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(found, exact, strict=True)))
    bound = theory.step_rounding(x, labels, parameters, rate, SINGLE.unit_roundoff)
    return error / bound


def step_excess() -> float:
    cases = itertools.product(range(4), (0.01, 0.3, 3.0), (1e-3, 0.1, 10.0))
    return max(0.0, max(step_ratio(*case) for case in cases) - 1)


def storage_error() -> float:
    """Against the measured error of rounding 10^6 numbers; its own spread is 5e-4."""
    values = np.random.default_rng(0).standard_normal(10**6)
    error = float(np.linalg.norm(round_to(values, SINGLE) - values))
    return abs(theory.storage_rounding(values, SINGLE) / error - 1)


ACCURACY = [
    Case("perceptron.initial_loss", "loss of a network as drawn, an interval", "derived",
         "two classes, variance 1e-6 to 25", "quadrature: outside by", 1e-12, loss_excess),
    Case("perceptron.softmax_smoothness", "bound on softmax regression's Hessian", "Boehning 1992",
         "30 samples, 4 features", "the Hessian where it is attained", 1e-13, smoothness_error),
    Case("perceptron.least_squares_sharpness", "largest eigenvalue of least squares",
         "X^T X / N", "30 samples, 4 features", "maximization", 1e-8, sharpness_error),
    Case("perceptron.softmax_loss_bound", "largest loss of softmax regression", "derived",
         "2 samples", "written out", 1e-15, loss_bound_error),
    Case("perceptron.interval_accuracy", "best accuracy of intervals of a number", "derived",
         "13 samples, 3 classes, with ties", "enumeration", 1e-15, interval_error),
    Case("perceptron.step_rounding", "bound on an SGD step's rounding error", HIGHAM,
         "fp32, weights 0.01 to 3, rates 1e-3 to 10", "80-bit arithmetic: above by", 0.0,
         step_excess),
    Case("perceptron.storage_rounding", "rms error of storing weights", "uniform within a spacing",
         "fp32, 10^6 normal numbers", "rounding them", 3e-3, storage_error),
]  # fmt: skip


def test_the_step_bound_is_near_enough_to_catch_a_wrong_rate() -> None:
    """It exceeds the error by a few hundred: it sums 64 to 31 terms of every sign as if of one."""
    ratios = [step_ratio(seed, 0.3, 0.1) for seed in range(8)]
    assert min(ratios) > 1 / 1000
    x, labels, parameters = problem(0, 0.3)
    exact = sgd_step(x, labels, parameters, 0.1, np.longdouble)
    wrong = sgd_step(x, labels, parameters, 0.101, np.longdouble)
    off = math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(exact, wrong, strict=True)))
    assert off > theory.step_rounding(x, labels, parameters, 0.1, SINGLE.unit_roundoff)


@pytest.mark.parametrize("lost", [math.inf, -math.inf, math.nan])
def test_what_has_overflowed_has_no_rounding(lost: float) -> None:
    assert math.isnan(theory.storage_rounding([1.0, lost], SINGLE))


def test_the_initial_loss_of_deep_networks_by_simulation() -> None:
    """2000 networks of two hidden layers, 5 standard errors: false alarm 6e-7."""
    rng = np.random.default_rng(1)
    fans, stds = [(3, 6), (6, 5), (5, 4)], [0.4, 0.5, 0.3]
    x = rng.standard_normal((20, 3))
    labels = rng.integers(0, 4, 20)
    losses = []
    for _ in range(2000):
        h = x
        for at, (fan, std) in enumerate(zip(fans, stds, strict=True)):
            z = h @ (std * rng.standard_normal(fan))
            h = np.maximum(z, 0) if at < 2 else z
        losses.append(np.mean(special.logsumexp(h, axis=1) - h[np.arange(20), labels]))
    told = theory.initial_loss((x**2).sum(axis=1), fans, stds)
    error = 5 * np.std(losses) / math.sqrt(2000)
    assert told.value - told.neglected - error < np.mean(losses) < told.value + error
    assert told.neglected < 0.1 * (told.value - math.log(4))


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_no_hessian_of_softmax_regression_exceeds_the_bound(seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((5, 3)) * 3
    top = np.linalg.eigvalsh(softmax_hessian(X, weights))[-1]
    assert top <= theory.softmax_smoothness(X) * (1 + 1e-12)


@pytest.mark.parametrize("rate", [0.1, 3.0, 300.0])
def test_softmax_regression_stays_below_its_bound(rate: float) -> None:
    inputs, labels = np.column_stack([X, np.ones(30)]), RNG.integers(0, 3, 30)
    weights = np.zeros((5, 3))
    for step in range(25):
        logits = inputs @ weights
        loss = np.mean(special.logsumexp(logits, axis=1) - logits[np.arange(30), labels])
        assert loss <= theory.softmax_loss_bound(X, 3, rate, step) * (1 + 1e-12)
        p = special.softmax(logits, axis=1) - np.eye(3)[labels]
        weights = weights - rate * inputs.T @ p / 30


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_one_unit_never_beats_its_intervals(seed: int) -> None:
    """Random heads on a random code: the law that the bound rests on."""
    rng = np.random.default_rng(seed)
    code, labels = np.maximum(rng.standard_normal(60), 0), rng.integers(0, 4, 60)
    logits = code[:, None] * rng.standard_normal(4) + rng.standard_normal(4)
    share = np.mean(logits.argmax(axis=1) == labels)
    assert share <= theory.interval_accuracy(code, labels, 4) + 1e-12


def test_codes_that_are_nan_are_one_code_above_all_others() -> None:
    code, labels = [math.nan, math.inf, 1.0, math.nan], [0, 1, 1, 0]
    assert theory.interval_accuracy(code, labels, 2) == 1
    assert theory.interval_accuracy([math.nan] * 4, labels, 2) == 0.5


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_no_bound_is_left_of_parameters_that_are_not_finite(lost: float) -> None:
    x, labels, parameters = problem(0, 1.0)
    parameters[0][3, 4] = lost
    with np.errstate(all="ignore"):
        bound = theory.step_rounding(x, labels, parameters, 0.1, SINGLE.unit_roundoff)
    assert not math.isfinite(bound)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.initial_loss([1.0], [(1, 2)], []), "stds: 0 of them but 1 fans"),
        (lambda: theory.initial_loss([-1.0], [(1, 2)], [1.0]), "squared_norms"),
        (lambda: theory.initial_loss([], [(1, 2)], [1.0]), "squared_norms"),
        (lambda: theory.initial_loss([1.0], [(1, 2)], [-1.0]), "stds"),
        (lambda: theory.initial_loss([1.0], [], []), r"fans=\[\]"),
        (lambda: theory.initial_loss([1.0], [(1, 2, 3)], [1.0]), "fans="),  # type: ignore[list-item]
        (lambda: theory.initial_loss([1.0], [(1, 0)], [1.0]), "fans="),
        (lambda: theory.softmax_smoothness([1.0]), "inputs"),
        (lambda: theory.least_squares_sharpness([[math.nan]]), "inputs"),
        (lambda: theory.softmax_loss_bound([[1.0]], 1, 1.0, 1), "classes=1"),
        (lambda: theory.softmax_loss_bound([[1.0]], 2, 0.0, 1), "rate=0.0"),
        (lambda: theory.softmax_loss_bound([[1.0]], 2, 1.0, -1), "steps=-1"),
        (lambda: theory.interval_accuracy([1.0], [0, 1], 1), "labels of shape"),
        (lambda: theory.interval_accuracy([], [], 1), "code of shape"),
        (lambda: theory.interval_accuracy([1.0], [0], 0), "intervals=0"),
        (lambda: theory.step_rounding(X, [7] * len(X), problem(0, 1.0)[2], 0.1, 1e-8), "labels="),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
