"""Losses of networks that have learnt nothing against mpmath, known means and SGD by hand."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from stability.theory import loss


def softplus(variance: float) -> float:
    """ln(e^a + e^b) = a + ln(1 + e^(b - a)), b - a ~ N(0, 2 variance), at 30 digits."""
    with mp.workdps(30):
        deviation = mp.sqrt(2 * mp.mpf(variance))

        def integrand(z: Any) -> Any:
            return mp.log1p(mp.exp(deviation * z)) * mp.npdf(z)

        return float(mp.quad(integrand, [-12, -6, -3, -1, 0, 1, 3, 6, 12]))


@settings(deadline=None, max_examples=15)
@given(q=st.floats(1e-3, 50.0))
def test_two_classes_have_the_mean_softplus(q: float) -> None:
    assert float(loss.random_loss(q, 2)) == pytest.approx(softplus(q), rel=1e-10)


@pytest.mark.parametrize("q", [1e4, 0.99e6, 1.01e6, 1e8, 1e30])
def test_large_variances_leave_the_largest_logit(q: float) -> None:
    largest, _ = integrate.quad(
        lambda z: z * 10 * stats.norm.pdf(z) * stats.norm.cdf(z) ** 9, -12, 12
    )
    found = float(loss.random_loss(q, 10))
    assert found == pytest.approx(math.sqrt(q) * largest, rel=3e-3)
    if q < 1e6:
        assert 0 < found - math.sqrt(q) * largest < 0.5


def test_small_variances_join_to_first_order() -> None:
    """At 1e-4 the neglected term is of the order of q^2 = 1e-8."""
    below, above = loss.random_loss([0.9999e-4, 1.0001e-4], 10)
    assert float(loss.random_loss(0.0, 10)) == math.log(10)
    assert 0 < above - below < 2e-8
    assert loss.random_loss(np.zeros((2, 3)), 7).shape == (2, 3)


@settings(deadline=None, max_examples=15)
@given(q=st.floats(0, 100), classes=st.integers(2, 50))
def test_noise_in_logits_only_costs(q: float, classes: int) -> None:
    """Jensen: at least ln C, and at most ln(C e^(q / 2))."""
    found = float(loss.random_loss(q, classes)) - math.log(classes)
    assert -1e-9 <= found <= q / 2 + 1e-9


def descended(classes: int, rate: float, batch: int, steps: int, draws: int) -> tuple[float, float]:
    """The mean loss of output biases after SGD on labels alone, and its standard error."""
    rng = np.random.default_rng(8)
    biases = np.zeros((draws, classes))
    for _ in range(steps):
        labels = rng.multinomial(batch, np.full(classes, 1 / classes), size=draws) / batch
        share = np.exp(biases)
        biases -= rate * (share / share.sum(axis=1, keepdims=True) - labels)
    values = np.log(np.exp(biases).sum(axis=1)) - biases.mean(axis=1)
    return float(values.mean()), float(values.std() / math.sqrt(draws))


@pytest.mark.parametrize(
    ("classes", "rate", "batch", "steps"), [(10, 0.1, 16, 100), (4, 0.2, 8, 9)]
)
def test_biases_alone_reach_the_noise_of_their_descent(
    classes: int, rate: float, batch: int, steps: int
) -> None:
    """4.5 standard errors, and the next order, rate / C of the excess over ln C."""
    found, error = descended(classes, rate, batch, steps, 4000)
    law = loss.bias_loss(classes, rate, batch, steps)
    excess = law - math.log(classes)
    assert excess > 10 * error
    assert abs(found - law) < 4.5 * error + rate * excess


def test_the_ends_of_biases_loss() -> None:
    assert loss.bias_loss(10, 0.1, 16, 0) == math.log(10)
    assert math.isnan(loss.bias_loss(10, 10.0, 16, 5))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: loss.random_loss(-1.0, 3), "q"),
        (lambda: loss.random_loss(math.inf, 3), "q"),
        (lambda: loss.random_loss(1.0, 1), "classes"),
        (lambda: loss.bias_loss(1, 0.1, 4, 3), "classes"),
        (lambda: loss.bias_loss(3, 0.0, 4, 3), "rate"),
        (lambda: loss.bias_loss(3, 0.1, 0, 3), "batch"),
        (lambda: loss.bias_loss(3, 0.1, 4, -1), "steps"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


def softplus_error() -> float:
    return max(
        abs(float(loss.random_loss(q, 2)) / softplus(q) - 1) for q in (1e-4, 2e-4, 0.01, 1.0, 100.0)
    )


def bias_error() -> float:
    """The covariance of linear descent, step by step, with the loss to second order."""
    classes, rate, batch, steps = 10, 0.1, 16, 40
    spread, pull = 0.0, 1 - rate / classes
    for _ in range(steps):
        spread = pull**2 * spread + rate**2 / (batch * classes)
    exact = math.log(classes) + (classes - 1) * spread / (2 * classes)
    # rate / (2 batch) is 1 / (1 - pull^2) to first order in rate / C.
    return abs(loss.bias_loss(classes, rate, batch, steps) / exact - 1)


ACCURACY = [
    Case("loss.random_loss", "cross-entropy of random logits", "Frullani's integral",
         "2 classes, q 1e-4 to 100", "mpmath", 2e-9, softplus_error),
    Case("loss.bias_loss", "loss of output biases alone; neglects O(rate / C) of the excess",
         "Mandt et al. 2017", "10 classes, rate 0.1", "covariance step by step", 1e-5, bias_error),
]  # fmt: skip
