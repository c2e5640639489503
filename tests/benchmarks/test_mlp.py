"""One training step of the perceptron: from scratch beside the concise one, in float32.

``pytest tests/benchmarks/test_mlp.py --benchmark-enable`` times them, in groups of one size.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stability.experiments.mlp import PROGRAMS

RATE = 0.1


def problem(features: int, hidden: int, batch: int) -> tuple[list[Tensor], Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = ((features, hidden), (hidden,), (hidden, 10), (10,))
    parameters = [0.05 * torch.randn(shape, generator=g) for shape in shapes]
    x = torch.randn((batch, features), generator=g)
    return parameters, x, torch.randint(10, (batch,), generator=g)


def exact_step(parameters: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """The same step by autograd in float64."""
    w1, b1, w2, b2 = at = [p.double().requires_grad_() for p in parameters]
    loss = functional.cross_entropy(torch.relu(x.double() @ w1 + b1) @ w2 + b2, y)
    gradients = torch.autograd.grad(loss, at)
    return [p.detach() - RATE * g for p, g in zip(at, gradients, strict=True)]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("features", "hidden", "batch"), [(64, 16, 16), (64, 256, 256), (784, 256, 256)]
)
def test_step(benchmark: Any, program: str, features: int, hidden: int, batch: int) -> None:
    parameters, x, y = problem(features, hidden, batch)
    first = PROGRAMS[program](parameters, RATE)
    first.step(x, y)
    for ours, exact in zip(first.parameters(), exact_step(parameters, x, y), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-6)
    benchmark.group = f"{features}-{hidden}-10, batch {batch}"
    benchmark(PROGRAMS[program](parameters, RATE).step, x, y)
