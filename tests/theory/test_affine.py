"""Stacks of affine layers against rationals, mpmath, brute force and published examples."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given
from hypothesis import strategies as st

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import affine
from stability.theory.floating_point import FORMATS, round_to

SINGLE, HALF = FORMATS["float32"].unit_roundoff, FORMATS["bfloat16"].unit_roundoff
SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=7)


def stack(depth: int, n: int, columns: int) -> tuple[list[Any], list[Any], Any]:
    rng = np.random.default_rng(depth + n)

    def single(*shape: int) -> Any:
        """Float64 numbers that float32 has."""
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    weights = [single(n, n) / 2 for _ in range(depth)]
    return weights, [single(n) for _ in range(depth)], single(n, columns)


def forward(weights: list[Any], biases: list[Any], x: Any, name: str) -> list[Any]:
    """In float32, outputs rounded to the format."""
    states = [x]
    for weight, bias in zip(weights, biases, strict=True):
        narrow = [a.astype(np.float32) for a in (weight, states[-1], bias[:, None])]
        y = narrow[0] @ narrow[1] + narrow[2]
        states.append(round_to(y.astype(np.float64), FORMATS[name]))
    return states


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
@pytest.mark.parametrize(("depth", "n"), [(1, 3), (4, 5), (9, 6)])
def test_the_error_of_a_stack_stays_below_its_bound(name: str, depth: int, n: int) -> None:
    """Against exact rational arithmetic on the same numbers."""
    weights, biases, x = stack(depth, n, 2)
    states = forward(weights, biases, x, name)
    narrow = name == "bfloat16"
    u = FORMATS[name].unit_roundoff
    bound = affine.stack_bound(weights, biases, states, u, SINGLE if narrow else None)
    exact = [[Fraction(float(v)) for v in row] for row in x]
    for weight, bias in zip(weights, biases, strict=True):
        exact = [
            [
                sum((Fraction(float(w)) * exact[j][c] for j, w in enumerate(row)), Fraction())
                + Fraction(float(bias[i]))
                for c in range(2)
            ]
            for i, row in enumerate(weight)
        ]
    error = np.array(
        [[float(Fraction(float(states[-1][i, c])) - exact[i][c]) for c in range(2)]
         for i in range(n)]
    )  # fmt: skip
    share = np.linalg.norm(error, axis=0) / bound
    assert np.all(share <= 1)
    assert np.all(share > 1e-4)


def test_a_larger_error_breaks_the_bound() -> None:
    weights, biases, x = stack(3, 5, 1)
    states = forward(weights, biases, x, "bfloat16")
    single = affine.stack_bound(weights, biases, states, SINGLE)[0]
    assert affine.stack_bound(weights, biases, states, HALF, SINGLE)[0] > single
    exact = x
    for weight, bias in zip(weights, biases, strict=True):
        exact = weight @ exact + bias[:, None]
    assert np.linalg.norm(states[-1] - exact) > single


def test_stored_stacks_without_biases_are_those_of_benford() -> None:
    plain = [affine.stored_stack_error(depth, 1.0, 0.0) for depth in (1, 7, 30)]
    assert plain == pytest.approx([plain[0]] * 3, rel=1e-14)
    assert affine.stored_stack_error(4000, 1.0, 1.0) == pytest.approx(
        1 / (8 * math.log(2)), rel=4e-3
    )


def test_known_affine_parts() -> None:
    relu = affine.best_affine(ACTIVATIONS["relu"], 4.0)
    variance = 4 * (0.5 - 1 / (2 * math.pi))
    assert relu.slope == pytest.approx(0.5, rel=1e-13)
    assert relu.mean == pytest.approx(2 / math.sqrt(2 * math.pi), rel=1e-13)
    assert relu.variance == pytest.approx(variance, rel=1e-13)
    assert relu.share == pytest.approx(1 - 1 / variance, rel=1e-12)
    assert relu.leverage == pytest.approx(3, rel=1e-12)
    linear = affine.best_affine(ACTIVATIONS["linear"], 2.0)
    assert linear.share == 0
    assert math.isnan(linear.leverage)
    assert affine.best_affine(ACTIVATIONS["tanh"], 1e-4).share < 1e-8


def brute(sizes: tuple[int, ...]) -> int:
    """The least cost over all orders, each product an outermost split."""

    @cache
    def least(first: int, last: int) -> int:
        if last == first + 1:
            return 0
        return min(
            least(first, cut) + least(cut, last) + 2 * sizes[first] * sizes[cut] * sizes[last]
            for cut in range(first + 1, last)
        )

    return least(0, len(sizes) - 1)


@given(SIZES)
def test_the_best_order_is_the_best_and_costs_what_it_says(sizes: list[int]) -> None:
    best = affine.best_order(sizes)
    assert best.flops == affine.chain_flops(sizes, best.order) == brute(tuple(sizes))
    for plan in (affine.matrix_first(sizes), affine.vector_first(sizes)):
        assert plan.flops == affine.chain_flops(sizes, plan.order) >= best.flops


def test_the_textbook_chain() -> None:
    """Cormen et al., sec. 14.2: 15125 multiplications, ((A1 (A2 A3)) ((A4 A5) A6))."""
    plan = affine.best_order([30, 35, 15, 5, 10, 20, 25])
    assert plan == (((0, (1, 2)), ((3, 4), 5)), 2 * 15125)
    assert affine.matrix_first([2, 3, 4, 1]) == (((0, 1), 2), 2 * (2 * 3 * 4 + 2 * 4))
    assert affine.vector_first([2, 3, 4, 1]) == ((0, (1, 2)), 2 * (3 * 4 + 2 * 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine.stack_bound([np.eye(2)], [], [np.eye(2)] * 2, SINGLE), "1 weights, 0"),
        (lambda: affine.stack_bound([], [], [np.eye(2)], SINGLE), "0 weights"),
        (lambda: affine.stored_stack_error(0, 1.0, 0.0), "depth=0"),
        (lambda: affine.stored_stack_error(1, 0.0, 0.0), "start=0.0"),
        (lambda: affine.stored_stack_error(1, 1.0, -1.0), "bias=-1.0"),
        (lambda: affine.best_affine(ACTIVATIONS["relu"], 0.0), "q=0.0"),
        (lambda: affine.best_affine(ACTIVATIONS["relu"], math.inf), "q=inf"),
        (lambda: affine.best_order([3]), "sizes="),
        (lambda: affine.matrix_first([3, 0]), "sizes="),
        (lambda: affine.vector_first([]), "sizes="),
        (lambda: affine.chain_flops([2, 2, 2], (1, 0)), "order="),
        (lambda: affine.chain_flops([2, 2, 2], 0), "order="),
        (lambda: affine.chain_flops([2, 2], (0, 1)), "order="),
        (lambda: affine.best_order([3, 2.5, 1]), "sizes="),  # type: ignore[list-item]
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def bound_error() -> float:
    """The bound's own sum, layer by layer, with norms from singular values in mpmath."""
    weights, biases, x = stack(4, 3, 2)
    states = forward(weights, biases, x, "bfloat16")
    told = affine.stack_bound(weights, biases, states, HALF, SINGLE)
    with mp.workdps(30):
        u = mp.mpf(SINGLE)
        factor = 4 * u / (1 - 4 * u)
        stored = mp.mpf(HALF) / (1 - mp.mpf(HALF))
        worst = mp.mpf(0)
        for column in range(2):
            total = mp.mpf(0)
            for layer in range(4):
                tail = mp.eye(3)
                for after in range(layer + 1, 4):
                    tail = mp.matrix(weights[after].tolist()) * tail
                local = [
                    factor
                    * (sum(abs(mp.mpf(float(weights[layer][i, j])) * states[layer][j, column])
                           for j in range(3)) + abs(mp.mpf(float(biases[layer][i]))))
                    + stored * abs(mp.mpf(float(states[layer + 1][i, column])))
                    for i in range(3)
                ]  # fmt: skip
                total += mp.svd_r(tail, compute_uv=False)[0] * mp.norm(mp.matrix(local))
            worst = max(worst, abs(told[column] / total - 1))
        return float(worst)


def stored_error() -> float:
    """Layer by layer, each binade's integral of half a step squared over 3, by quadrature."""
    q = [0.25 + layer * 0.09 for layer in range(1, 6)]
    with mp.workdps(30):
        moments = mp.mpf(0)
        for value, k in itertools.product(q, range(-40, 6)):
            low, std = mp.mpf(2) ** k, mp.sqrt(value)
            mass = 2 * mp.quad(lambda y, s=std: mp.npdf(y, 0, s), [low, 2 * low])
            moments += mass * low**2 / 3
        return float(abs(affine.stored_stack_error(5, 0.5, 0.3) / (moments / sum(q)) - 1))


def affine_error() -> float:
    """Slope by E phi', residual and leverage by 30-digit quadrature."""
    with mp.workdps(30):
        worst = mp.mpf(0)
        for q in (0.01, 1.0, 9.0):
            s = mp.sqrt(q)
            cuts = [-14 * s, -4 * s, -s, 0, s, 4 * s, 14 * s]

            def mean(f: Callable[[Any], Any], s: Any = s, cuts: Any = cuts) -> Any:
                return mp.quad(lambda z: f(z) * mp.npdf(z, 0, s), cuts)

            slope = mean(lambda z: mp.sech(z) ** 2)

            def residual(z: Any, slope: Any = slope) -> Any:
                return mp.tanh(z) - slope * z

            rest = mean(lambda z: residual(z) ** 2)
            lever = mean(lambda z: (residual(z) * z) ** 2) / (q * rest)
            variance = mean(lambda z: mp.tanh(z) ** 2)
            found = affine.best_affine(ACTIVATIONS["tanh"], q)
            exact = (slope, variance, rest / variance, lever)
            told = (found.slope, found.variance, found.share, found.leverage)
            worst = max(worst, *(abs(a / b - 1) for a, b in zip(told, exact, strict=True)))
        return float(worst)


def order_error() -> float:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(40):
        sizes = [int(n) for n in rng.integers(1, 30, rng.integers(2, 9))]
        wrong += affine.best_order(sizes).flops != brute(tuple(sizes))
    return float(wrong)


def plan_error() -> float:
    """Square stacks of L on B columns: 2 n^3 (L - 1) + 2 n^2 B, and 2 n^2 L B."""
    wrong = 0
    for n, depth, batch in ((3, 4, 1), (8, 2, 20)):
        sizes = [n] * (depth + 1) + [batch]
        wrong += affine.matrix_first(sizes).flops != 2 * n**3 * (depth - 1) + 2 * n**2 * batch
        wrong += affine.vector_first(sizes).flops != 2 * n**2 * depth * batch
    return float(wrong)


HIGHAM = "Higham 2002, sec. 3.3"


def cost_error() -> float:
    cells = [(n, depth, b) for n in (1, 5, 64) for depth in (1, 2, 9) for b in (1, 7, 300)]
    chains = [[n] * (depth + 1) + [b] for n, depth, b in cells]
    told = [affine.collapse_cost(*cell) for cell in cells]
    ratios = [affine.matrix_first(c).flops / affine.vector_first(c).flops for c in chains]
    return max(abs(float(a) / b - 1) for a, b in zip(told, ratios, strict=True))


@pytest.mark.parametrize("sizes", [(0, 2, 1), (4, [2, 0], 1), (4, 2, [1.5]), (4, math.inf, 1)])
def test_costs_of_nothing_are_refused(sizes: Any) -> None:
    with pytest.raises(ValueError, match="must be whole numbers, at least 1"):
        affine.collapse_cost(*sizes)


ACCURACY = [
    Case("affine.stack_bound", "error bound of a stack of affine layers", HIGHAM,
         "4 layers of 3 units, bf16 over fp32", "mpmath", 1e-12, bound_error),
    Case("affine.stored_stack_error", "squared error of stored isometries", "derived",
         "5 layers with biases", "mpmath, layer by layer", 1e-13, stored_error),
    Case("affine.best_affine", "best affine map of a Gaussian's activation", "Stein 1981",
         "tanh, q 0.01 to 9", "mpmath", 1e-10, affine_error),
    Case("affine.best_order", "least operations of a chain", "Cormen et al., sec. 14.2",
         "40 chains of up to 8 factors", "all orders", 0.0, order_error),
    Case("affine.chain_flops", "operations of a chain", "2 m k n a product",
         "square stacks", "closed forms", 0.0, plan_error),
    Case("affine.collapse_cost", "cost of a stack multiplied out", "2 m k n a product",
         "square stacks", "operations counted", 4e-16, cost_error),
    Case("affine.matrix_first", "operations, matrices first", "2 m k n a product",
         "square stacks", "closed forms", 0.0, plan_error),
    Case("affine.vector_first", "operations, layer by layer", "2 m k n a product",
         "square stacks", "closed forms", 0.0, plan_error),
]  # fmt: skip
