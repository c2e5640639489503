"""Both programs against gradients by central differences, and against each other."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from stability.kernels.perceptron import Concise, Program, Scratch, relu

FEATURES, HIDDEN, CLASSES, BATCH = 5, 7, 3, 11
Make = Callable[[Sequence[Tensor], float], Program]
both = pytest.mark.parametrize("make", [Scratch, Concise])


def problem(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    shapes = [(FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
    parameters = [torch.randn(shape, generator=g, dtype=dtype) for shape in shapes]
    x = torch.randn((BATCH, FEATURES), generator=g, dtype=dtype)
    return parameters, x, torch.randint(CLASSES, (BATCH,), generator=g)


def loss(parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> float:
    """The mean cross-entropy, sample by sample, by the definition."""
    w1, b1, w2, b2 = parameters
    total = 0.0
    for row, label in zip(x, y, strict=True):
        hidden = (row @ w1 + b1).clamp(min=0)
        logits = hidden @ w2 + b2
        total -= float(torch.log(torch.exp(logits)[label] / torch.exp(logits).sum()))
    return total / len(x)


@both
def test_a_step_goes_down_the_central_differences(make: Make) -> None:
    """Step h = 1e-5 in float64: error h^2 |f'''| / 6 + u |f| / h, below 1e-8."""
    parameters, x, y = problem()
    program = make(parameters, 0.5)
    program.step(x, y)
    for at, parameter in enumerate(parameters):
        for index in ((0,) * parameter.ndim, (-1,) * parameter.ndim):
            nudged = [[p.clone() for p in parameters] for _ in range(2)]
            nudged[0][at][index] += 1e-5
            nudged[1][at][index] -= 1e-5
            slope = (loss(nudged[0], x, y) - loss(nudged[1], x, y)) / 2e-5
            moved = float(parameter[index] - program.parameters()[at][index])
            assert moved == pytest.approx(0.5 * slope, abs=1e-8)


@both
def test_logits_and_parameters_are_those_given(make: Make) -> None:
    parameters, x, _ = problem()
    before = [p.clone() for p in parameters]
    program = make(parameters, 0.1)
    w1, b1, w2, b2 = parameters
    expected = (x @ w1 + b1).clamp(min=0) @ w2 + b2
    torch.testing.assert_close(program.logits(x), expected, rtol=1e-13, atol=1e-13)
    assert all(torch.equal(a, b) for a, b in zip(program.parameters(), before, strict=True))
    assert not program.logits(x).requires_grad
    assert not any(p.requires_grad for p in program.parameters())


def test_the_two_programs_stay_equal_to_rounding() -> None:
    """50 steps of rounding, 2^-53 of weights of order one each, and at most fourfold growth."""
    parameters, x, y = problem()
    one, other = Scratch(parameters, 0.1), Concise(parameters, 0.1)
    for _ in range(50):
        one.step(x, y)
        other.step(x, y)
    for mine, theirs, start in zip(one.parameters(), other.parameters(), parameters, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)
        assert not torch.allclose(mine, start, rtol=1e-3)


@both
def test_the_parameters_given_stay_as_they_were(make: Make) -> None:
    parameters, x, y = problem(torch.float32)
    program = make(parameters, 0.1)
    program.step(x, y)
    fresh, _, _ = problem(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(parameters, fresh, strict=True))


@both
def test_large_logits_do_not_overflow(make: Make) -> None:
    parameters, x, y = problem(torch.float32)
    program = make([1e4 * p for p in parameters], 0.1)
    program.step(x, y)
    assert all(p.isfinite().all() for p in program.parameters())


def test_relu_keeps_nan() -> None:
    found = relu(torch.tensor([-1.0, 0.0, 2.0, torch.nan]))
    assert found[:3].tolist() == [0.0, 0.0, 2.0]
    assert found[3].isnan()
