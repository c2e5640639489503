"""Every optimizer against torch.optim step by step, in exact fractions, and lane by lane."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stability.catalogue.optimizers import OPTIMIZERS, State, adam, momentum, sgd

U = 2.0**-53
STEPS = 60
TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "adam": torch.optim.Adam,
}


def gradients(shape: tuple[int, ...] = (3, 5)) -> list[Tensor]:
    """Of all magnitudes, tiny and exactly 0 ones included."""
    g = torch.Generator().manual_seed(2)
    found = []
    for step in range(STEPS):
        scale = 10.0 ** torch.randint(-12, 3, shape, generator=g).to(torch.float64)
        drawn = torch.randn(shape, generator=g, dtype=torch.float64) * scale
        drawn[0, step % shape[1]] = 0.0
        found.append(drawn)
    return found


def run(name: str, rate: float, **options: Any) -> list[Tensor]:
    optimizer = OPTIMIZERS[name](rate, **options)
    parameter: Any = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5)
    state: State = optimizer.start
    path = []
    for gradient in gradients():
        parameter, state = optimizer.step(parameter, gradient, state)
        path.append(parameter)
    return path


def reference(name: str, rate: float) -> list[Tensor]:
    parameter = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5).clone().requires_grad_()
    optimizer = TORCH[name]([parameter], lr=rate)
    path = []
    for gradient in gradients():
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rate", [0.1, 1e-3])
def test_every_step_is_torchs_to_rounding(name: str, rate: float) -> None:
    """Some 16 roundings a step of the parameter and of the update; errors of moments decay."""
    mine, torchs = run(name, rate), reference(name, rate)
    size = torch.stack(torchs).abs().amax(dim=0)
    travelled = torch.stack(torchs).diff(dim=0).abs().sum(dim=0)
    for step, (one, other) in enumerate(zip(mine, torchs, strict=True), 1):
        assert ((one - other).abs() <= 16 * step * U * (size + 10 * travelled)).all(), step


@pytest.mark.parametrize(
    ("name", "rate", "options"),
    [
        ("sgd", 0.1001, {}),
        ("momentum", 0.1, {"decay": 0.9001}),
        ("adam", 0.1, {"betas": (0.9, 0.9991)}),
        ("adam", 0.1, {"betas": (0.9001, 0.999)}),
        ("adam", 0.1, {"eps": 1e-7}),
    ],
)
def test_other_constants_are_noticed(name: str, rate: float, options: dict[str, Any]) -> None:
    gap = (run(name, rate, **options)[-1] - reference(name, 0.1)[-1]).abs().max()
    assert gap > 1e-6


@pytest.mark.parametrize("gradient", [1e-9, -3e-9, 1e-5, 2.0, 0.0])
def test_adams_first_step_is_the_sign_of_all_but_tiny_gradients(gradient: float) -> None:
    start = torch.zeros(1, dtype=torch.float64)
    optimizer = adam(0.01)
    moved, _ = optimizer.step(start, torch.tensor([gradient], dtype=torch.float64), optimizer.start)
    told = -0.01 * gradient / (abs(gradient) + 1e-8)
    assert moved.item() == pytest.approx(told, rel=1e-12, abs=0.0)


def test_fractions_go_through_the_same_lines() -> None:
    """Momentum by hand: m_1 = g, m_2 = 3/2 g; Adam's first step: 1/4 g / (|g| + eps)."""
    start = np.array([Fraction(1), Fraction(2, 3)])
    gradient = np.array([Fraction(1, 7), Fraction(-2)])
    optimizer = momentum(Fraction(1, 3), Fraction(1, 2))
    once, state = optimizer.step(start, gradient, optimizer.start)
    twice, _ = optimizer.step(once, gradient, state)
    assert list(twice) == list(start - Fraction(5, 6) * gradient)
    half, tiny = Fraction(1, 2), Fraction(1, 10**8)

    def root(squares: Any) -> Any:
        return np.array([Fraction(math.isqrt(q.numerator), math.isqrt(q.denominator))
                         for q in squares])  # fmt: skip

    exact = adam(Fraction(1, 4), (half, half), tiny, root)
    moved, _ = exact.step(start, gradient, exact.start)
    assert list(moved) == [
        w - g / (abs(g) + tiny) / 4 for w, g in zip(start, gradient, strict=True)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_elements_stay_equal_in_every_lane(name: str, dtype: torch.dtype) -> None:
    """Of any number of elements: vector lanes and remainders round alike, with no fused step."""
    for size in (1, 3, 7, 16, 33, 100, 257):
        optimizer = OPTIMIZERS[name](0.1)
        state, alone = optimizer.start, optimizer.start
        many: Any = torch.full((size,), 0.3, dtype=dtype)
        one: Any = torch.full((1,), 0.3, dtype=dtype)
        for step in range(20):
            gradient = math.sin(step + 1) * 0.37
            many, state = optimizer.step(many, torch.full_like(many, gradient), state)
            one, alone = optimizer.step(one, torch.full_like(one, gradient), alone)
        assert (many == one).all(), size


def test_the_arguments_stay_as_they_were() -> None:
    start, gradient = torch.ones(3), torch.ones(3)
    for optimizer in (sgd(0.1), momentum(0.1), adam(0.1)):
        _, state = optimizer.step(start, gradient, optimizer.start)
        kept = [torch.as_tensor(part).clone() for part in state]
        optimizer.step(start, 2 * gradient, state)
        assert all(torch.equal(torch.as_tensor(a), b) for a, b in zip(state, kept, strict=True))
    assert torch.equal(start, torch.ones(3))
    assert torch.equal(gradient, torch.ones(3))
