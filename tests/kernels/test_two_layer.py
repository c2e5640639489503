"""The two-layer network against autograd, in fractions, and bit for bit unit by unit."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stability.kernels import two_layer
from stability.kernels.two_layer import Layers, Problem, ordered

N, D, H = 7, 3, 5
U = 2.0**-53


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(product: two_layer.Product = torch.mm) -> Problem:
    return Problem(draw(N, D, seed=1), draw(N, 1, seed=2), torch.tanh,
                   lambda z: 1 - torch.tanh(z) ** 2, product)  # fmt: skip


def layers() -> Layers:
    return Layers(draw(H, D, seed=3), draw(H, 1, seed=4))


@given(m=st.integers(1, 9), k=st.integers(1, 33), p=st.integers(1, 19))
@settings(max_examples=60, deadline=None)
def test_ordered_is_the_matrix_product(m: int, k: int, p: int) -> None:
    a, b = draw(m, k, seed=5), draw(k, p, seed=6)
    bound = 2 * k * U * (a.abs() @ b.abs())
    assert ((ordered(a, b) - a @ b).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(m=st.integers(1, 6), k=st.integers(1, 40), p=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_equal_columns_and_rows_give_equal_bits(
    dtype: torch.dtype, m: int, k: int, p: int, seed: int
) -> None:
    row = draw(1, k, seed=seed).to(dtype)
    column = draw(k, 1, seed=seed + 1).to(dtype)
    alone = ordered(row, column)
    for left in (row.expand(m, k), row.expand(m, k).contiguous(), row.T.expand(k, m).T):
        for right in (column.expand(k, p), column.expand(k, p).contiguous()):
            assert torch.equal(ordered(left, right), alone.expand(m, p))


def test_outputs_are_the_networks() -> None:
    mine = two_layer.outputs(layers(), problem())
    by_unit = sum(
        v * torch.tanh(problem().inputs @ w)
        for w, v in zip(layers().weights, layers().outgoing, strict=True)
    )
    torch.testing.assert_close(mine[:, 0], by_unit, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("product", [torch.mm, ordered])
@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_are_autograds(product: two_layer.Product, dropped: bool) -> None:
    keep: Any = (draw(N, H, seed=8) > 0).to(torch.float64) * 2 if dropped else 1
    w, v = (p.clone().requires_grad_() for p in layers())
    case = problem(product)
    hidden = torch.tanh(case.inputs @ w.T) * keep
    loss = ((hidden @ v - case.targets) ** 2).mean() / 2
    wanted = torch.autograd.grad(loss, (w, v))
    for mine, other in zip(two_layer.gradients(layers(), case, keep), wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-13, atol=1e-14)


def test_dropped_units_learn_nothing() -> None:
    keep = torch.ones(N, H, dtype=torch.float64)
    keep[:, 2] = 0
    into, out = two_layer.gradients(layers(), problem(), keep)
    assert (into[2] == 0).all()
    assert out[2] == 0
    assert (into[[0, 1, 3, 4]] != 0).all()


def test_fractions_train_exactly() -> None:
    """x = 2, y = 1, w = v = 1/2, linear: f = 1/2, gradients -1/2 and -1/2, then f = 9/8."""
    half = np.array([[Fraction(1, 2)]], dtype=object)
    two, one = (np.array([[Fraction(n)]], dtype=object) for n in (2, 1))
    case = Problem(two, one, lambda z: z, np.ones_like, np.matmul)
    seen = []
    ends = two_layer.train(
        Layers(half, half), case, lambda p, g, s: (p - Fraction(1, 2) * g, s), (), 1,
        lambda step, now: seen.append((step, two_layer.outputs(now, case)[0, 0])),
    )  # fmt: skip
    assert seen == [(0, Fraction(1, 2)), (1, Fraction(9, 8))]
    assert isinstance(ends.weights[0, 0], Fraction)


def test_every_step_has_its_own_masks_and_both_layers_their_own_state() -> None:
    calls: list[int] = []

    def keep() -> Tensor:
        calls.append(len(calls))
        return torch.full((N, H), float(len(calls)), dtype=torch.float64)

    def update(parameter: Tensor, gradient: Tensor, state: Any) -> tuple[Tensor, Any]:
        return parameter - 0.01 * gradient, [*state, gradient.shape]

    start: list[Any] = []
    moved = two_layer.train(layers(), problem(), update, start, 3, keep=keep)
    assert len(calls) == 3
    assert start == []
    assert not torch.equal(moved.weights, layers().weights)
    once = two_layer.gradients(layers(), problem(), torch.ones(N, H, dtype=torch.float64))
    one = two_layer.train(layers(), problem(), update, start, 1)
    assert torch.equal(one.weights, layers().weights - 0.01 * once.weights)


def test_no_step_returns_the_start() -> None:
    same = two_layer.train(layers(), problem(), lambda p, _g, s: (p, s), (), 0)
    assert torch.equal(same.weights, layers().weights)
