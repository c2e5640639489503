"""Hessian-vector products against the Hessian that autograd forms entry by entry."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.functional import hessian

from stability.kernels.curvature import curvature

G = torch.Generator().manual_seed(0)
A, B = (torch.randn(shape, generator=G, dtype=torch.float64) for shape in ((3, 5), (5,)))
V = [torch.randn(p.shape, generator=G, dtype=torch.float64) for p in (A, B)]


def loss(p: Sequence[Tensor]) -> Tensor:
    return torch.tanh(p[0] @ p[1]).exp().sum() + p[1].pow(4).sum()


def test_gradient_and_product_are_those_of_the_whole_hessian() -> None:
    found = curvature(loss, [A, B])
    blocks = hessian(lambda a, b: loss([a, b]), (A, B))
    for at, ours in enumerate(found.product(V)):
        expected = sum(
            (blocks[at][k].flatten(-V[k].ndim) @ V[k].flatten() for k in range(2)),
            torch.zeros_like(V[at]),
        )
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    step = 1e-6
    ahead = loss([A + step * V[0], B + step * V[1]]) - loss([A - step * V[0], B - step * V[1]])
    slope = sum((g * v).sum() for g, v in zip(found.gradient, V, strict=True))
    torch.testing.assert_close(ahead / (2 * step), slope, rtol=1e-8, atol=1e-8)


def test_products_can_be_repeated_and_nothing_changes() -> None:
    before = [A.clone(), B.clone()]
    look = curvature(loss, [A, B])
    one, two = look.product(V), look.product(V)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a, b) for a, b in zip([A, B], before, strict=True))
    assert not any(t.requires_grad for t in (A, B, *look.gradient, *one))
