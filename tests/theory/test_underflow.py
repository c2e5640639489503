"""Underflow against torch's own arithmetic, rationals, mpmath and simulation of the laws."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import floating_point as fp
from stability.theory import underflow
from stability.theory.floating_point import FORMATS

NARROW = ["float32", "float16", "bfloat16"]


def multiply(p: float, name: str) -> float:
    """By torch, in the format."""
    dtype = getattr(torch, name)
    factor, x, steps = torch.tensor(p, dtype=dtype), torch.ones((), dtype=dtype), 0
    while True:
        following = x * factor
        if following == x:
            return float(steps) if x == 0 else math.inf
        x, steps = following, steps + 1


@settings(max_examples=60, deadline=None)
@given(p=st.floats(1e-3, 0.97), name=st.sampled_from(NARROW))
def test_products_are_0_where_torch_has_them_0(p: float, name: str) -> None:
    assert underflow.product_depth(p, FORMATS[name]) == multiply(p, name)


@pytest.mark.parametrize("name", FORMATS)
def test_powers_of_two_agree_with_the_closed_forms(name: str) -> None:
    entry = FORMATS[name]
    for p in (0.5, 0.25, 2.0**-5):
        for flush in (False, True):
            exact = fp.underflow_depth(p, entry, flush=flush)
            assert underflow.product_depth(p, entry, flush=flush) == exact
    assert underflow.product_depth(0.75, entry) == math.inf
    assert underflow.product_depth(0.75, entry, flush=True) < math.inf


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_the_mean_number_of_uniform_factors(name: str) -> None:
    """The chain itself, products of exact uniforms rounded to the format by round_to."""
    entry, draws = FORMATS[name], 20_000
    rng = np.random.default_rng(4)
    for flush in (False, True):
        x, steps = np.ones(draws), np.zeros(draws)
        while (x > 0).any():
            steps += x > 0
            x = fp.round_to(x * rng.random(draws), entry)
            if flush:
                x[x < entry.smallest_normal] = 0
        told = underflow.uniform_product_depth(entry, flush=flush)
        # Five standard errors, for 6e-7 of false alarm, and u a factor.
        room = 5 * steps.std() / math.sqrt(draws) + told * entry.unit_roundoff
        assert abs(steps.mean() - told) < room
        counts = np.arange(0, 140, 5)
        share = (steps[:, None] <= counts).mean(axis=0)
        law = underflow.uniform_product_share(counts, entry, flush=flush)
        # The last steps' own spread is not Poisson's.
        assert np.abs(share - law).max() < (0.025 if not flush else 0.015)


def test_the_share_starts_at_0_and_ends_at_1() -> None:
    law = underflow.uniform_product_share([0, 1, 5000], FORMATS["float64"])
    assert law[0] == 0
    assert law[2] == 1
    assert np.ndim(underflow.uniform_product_share(3, FORMATS["float16"])) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60),
    st.sampled_from(["float64", "float32"]),
)
def test_sums_of_logarithms_stay_below_their_bound(numbers: list[float], name: str) -> None:
    x = torch.tensor(numbers, dtype=getattr(torch, name))
    total = -float(x.double().log().sum())
    error = underflow.log_product_error(float(x.log().sum()), x.double().tolist())
    bound = underflow.log_sum_bound(len(numbers), total, FORMATS[name].unit_roundoff)
    assert abs(error) <= bound * (1 + 1e-9) + 1e-300


def test_a_wide_accumulator_saves_half_formats() -> None:
    u, wide = FORMATS["bfloat16"].unit_roundoff, FORMATS["float32"].unit_roundoff
    assert underflow.log_sum_bound(1000, 1.0, u) == math.inf
    assert underflow.log_sum_bound(1000, 1.0, u, wide) == pytest.approx(3 * u, rel=0.02)


def test_the_iterated_sigmoid() -> None:
    x = 0.0
    for _ in range(60):
        x = 1 / (1 + math.exp(-x))
    assert underflow.iterated_sigmoid().x == pytest.approx(x, rel=1e-15)
    assert underflow.iterated_sigmoid().slope == pytest.approx(0.224704, abs=5e-7)


@given(st.integers(1, 2000))
@settings(max_examples=20, deadline=None)
def test_the_largest_of_more_is_larger(n: int) -> None:
    assert underflow.largest_gaussian(n) < underflow.largest_gaussian(n + 1)
    assert underflow.largest_gaussian(n) < math.sqrt(2 * math.log(2 * n)) + 1e-9 or n == 1


def test_the_vanishing_depth_of_a_steady_rate() -> None:
    entry, width = FORMATS["float32"], 64
    rate = math.log(0.25)
    norms = rate * np.arange(3)
    largest = underflow.largest_gaussian(width) / 8
    told = underflow.vanishing_depth(norms, width, entry)
    assert told == pytest.approx(0.5 + math.log(entry.smallest_subnormal / largest) / rate)
    long = underflow.vanishing_depth(rate * np.arange(200), width, entry)
    assert told == pytest.approx(long, rel=1e-12)
    assert underflow.vanishing_depth([-200.0, -300.0], width, entry) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: underflow.product_depth(1.0, FORMATS["float16"]), "p=1.0"),
        (lambda: underflow.product_depth(math.nan, FORMATS["float16"]), "p=nan"),
        (lambda: underflow.product_depth(1 - 1e-6, FORMATS["float16"]), "is 0 or 1 in float16"),
        (lambda: underflow.product_depth(1e-9, FORMATS["float16"]), "is 0 or 1 in float16"),
        (lambda: underflow.uniform_product_share(-1, FORMATS["float16"]), "count=-1"),
        (lambda: underflow.log_product_error(0.0, []), "numbers"),
        (lambda: underflow.log_product_error(0.0, [1.0, 0.0]), "numbers"),
        (lambda: underflow.log_sum_bound(0, 1.0, 0.1), "n=0"),
        (lambda: underflow.log_sum_bound(1, -1.0, 0.1), "total=-1.0"),
        (lambda: underflow.log_sum_bound(1, 1.0, 1.0), "u=1.0"),
        (lambda: underflow.largest_gaussian(0), "n=0"),
        (lambda: underflow.vanishing_depth([0.0], 4, FORMATS["float16"]), "log_norms"),
        (lambda: underflow.vanishing_depth([0.0, 0.0], 4, FORMATS["float16"]), "log_norms"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def depth_error() -> float:
    """Rationals rounded by round_to, which shares no code; float64 by Python's own."""
    wrong = 0.0
    for name, entry in FORMATS.items():
        for p in (0.02, 0.3, 0.45, 0.5):
            factor = float(fp.round_to(p, entry))
            x, steps = 1.0, 0
            while x:
                # Exact in float64 for 24 bits and fewer.
                x = float(fp.round_to(x * factor, entry)) if name != "float64" else x * factor
                steps += 1
            wrong += underflow.product_depth(p, entry) != steps
    return wrong


def uniform_error() -> float:
    """The chain of mean times, k -> round(k U), solved state by state to 5000 subnormals."""
    times = [Fraction(2)]
    for k in range(2, 300):
        rest = 1 + sum(times, Fraction()) / k
        times.append(rest / (1 - Fraction(1, 2 * k)))
    # From 299 subnormals on: ln k, to (1/24) / k^2.
    entry = FORMATS["float32"]
    steps = float(times[-1]) + math.log(1 / entry.smallest_subnormal / 299)
    kept = abs(underflow.uniform_product_depth(entry) / steps - 1)
    flushed = 1 - math.log(entry.smallest_normal)
    return max(kept, abs(underflow.uniform_product_depth(entry, flush=True) / flushed - 1))


def share_error() -> float:
    with mp.workdps(30):
        entry = FORMATS["float16"]
        mean = underflow.uniform_product_depth(entry) - 1
        worst = 0.0
        for count in (5, 17, 30):
            exact = sum(mp.exp(-mean) * mp.mpf(mean) ** k / mp.factorial(k) for k in range(count))
            found = float(underflow.uniform_product_share(count, entry))
            worst = max(worst, abs(float(found / exact - 1)))
        return worst


def log_error() -> float:
    """60-digit logarithms summed one by one."""
    numbers = np.random.default_rng(6).random(200).tolist()
    with mp.workdps(60):
        exact = sum(mp.log(mp.mpf(x)) for x in numbers)
        return float(abs(underflow.log_product_error(-200.0, numbers) / (-200 - exact) - 1))


def sum_bound_error() -> float:
    with mp.workdps(30):
        u, wide = mp.mpf(2) ** -8, mp.mpf(2) ** -24
        plain = 3 * u / (1 - 3 * u)
        once = (1 + 2 * u) / (1 - 100 * wide) / (1 - u) - 1
        return float(max(
            abs(underflow.log_sum_bound(2, 5.0, 2.0**-8) / (5 * plain) - 1),
            abs(underflow.log_sum_bound(100, 5.0, 2.0**-8, 2.0**-24) / (5 * once) - 1),
        ))  # fmt: skip


def rest_error() -> float:
    with mp.workdps(30):
        x = mp.findroot(lambda x: 1 / (1 + mp.exp(-x)) - x, 0.66)
        found = underflow.iterated_sigmoid()
        return float(max(abs(found.x / x - 1), abs(found.slope / (x * (1 - x)) - 1)))


def largest_error() -> float:
    with mp.workdps(20):
        pairs: list[tuple[int, Any]] = [(1, mp.sqrt(2 / mp.pi)), (2, 2 / mp.sqrt(mp.pi))]
        for n in (64, 1000):
            exact = mp.quad(lambda x, n=n: 1 - mp.erf(x / mp.sqrt(2)) ** n, [0, 2, 3, 4, 6, 14])
            pairs.append((n, exact))
        return float(max(abs(underflow.largest_gaussian(n) / exact - 1) for n, exact in pairs))


def vanishing_error() -> float:
    """Layer by layer, until the largest entry is one subnormal."""
    entry, width = FORMATS["float16"], 32
    rate = mp.log(mp.mpf("0.3"))
    size = mp.mpf(underflow.largest_gaussian(width)) / mp.sqrt(width)
    exact = mp.log(mp.mpf(entry.smallest_subnormal) / size) / rate + 0.5
    found = underflow.vanishing_depth(float(rate) * np.arange(40), width, entry)
    return abs(float(found / exact - 1))


def settled_error() -> float:
    """The rate by mpmath; and a linear network, whose every layer has the exact mean's 1 / n."""
    sigmoid, linear = ACTIVATIONS["sigmoid"], ACTIVATIONS["linear"]
    found = underflow.settled_log_norms(sigmoid, 1.0, 10**12, 24)
    with mp.workdps(20):

        def gauss(power: int, q: Any) -> Any:
            def integrand(z: Any) -> Any:
                s = 1 / (1 + mp.exp(-mp.sqrt(q) * z))
                return s**2 * (1 - s) ** power * mp.npdf(z)

            return mp.quad(integrand, [-12, -4, 0, 4, 12])

        q = mp.findroot(lambda v: gauss(0, v) - v, 0.29)
        rate = mp.log(gauss(2, q)) / 2
        worst = abs(float(found[-1] / (24 * rate) - 1))
    linear_norms = underflow.settled_log_norms(linear, 1.0, 50, 6)
    exact = -np.arange(7) / 50 / 2
    return max(worst, float(np.abs(linear_norms[1:] / exact[1:] - 1).max()))


ACCURACY = [
    Case("underflow.product_depth", "factors until p^k is 0", "IEEE 754-2019",
         "four formats, p 0.02 to 0.5", "rounding after each product", 0.0, depth_error),
    Case("underflow.uniform_product_depth", "mean number of uniform factors until 0", "derived",
         "fp32", "the chain of subnormals in rationals", 1e-7, uniform_error),
    Case("underflow.uniform_product_share", "share of products that are 0", "Poisson's law",
         "fp16", "mpmath", 1e-12, share_error),
    Case("underflow.log_product_error", "error of a sum of logarithms", "definition",
         "200 factors", "mpmath", 1e-14, log_error),
    Case("underflow.log_sum_bound", "its bound", "Higham 2002, lemma 3.1", "2 and 100 factors",
         "mpmath", 1e-13, sum_bound_error),
    Case("underflow.iterated_sigmoid", "rest of x <- sigmoid(x) and slope", "x = sigmoid(x)",
         "the fixed point", "mpmath", 1e-14, rest_error),
    Case("underflow.largest_gaussian", "mean of the largest of n", "order statistics",
         "n 1 to 1000", "closed forms, mpmath", 1e-10, largest_error),
    Case("underflow.settled_log_norms", "gradient norms below the top; neglects O(1 / n^2)",
         "Schoenholz et al. 2017; the delta method", "sigmoid, 24 layers; linear, width 50",
         "mpmath, root of a quadrature; exact 1 / n", 1e-9, settled_error),
    Case("underflow.vanishing_depth", "layers until a gradient is 0", "derived",
         "fp16, a steady rate", "mpmath", 1e-12, vanishing_error),
]  # fmt: skip
