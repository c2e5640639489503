"""The manual passes against autograd and against arithmetic that cannot underflow."""

import math

import pytest
import torch
from torch import Tensor

from stability.catalogue.activations import ACTIVATIONS
from stability.kernels import signal

NAMES = list(ACTIVATIONS)
WIDTH, BATCH, DEPTH = 7, 4, 5


def draws(depth: int = DEPTH) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return (
        normal(BATCH, WIDTH),
        [normal(WIDTH, WIDTH) for _ in range(depth)],
        [normal(WIDTH) for _ in range(depth)],
        normal(BATCH, WIDTH),
    )


def both(depth: int, std: list[float], names: list[str]) -> tuple[signal.Forward, signal.Backward]:
    x, weights, biases, top = draws()
    scale = torch.tensor(std, dtype=torch.float64)
    passed = signal.forward(
        x, weights, biases, scale, scale / 2, [ACTIVATIONS[n].forward for n in names]
    )
    back = signal.backward(
        passed, depth, top, weights, scale, [ACTIVATIONS[n].derivative for n in names]
    )
    return passed, back


@pytest.mark.parametrize("depth", [1, 3, DEPTH])
def test_every_gradient_agrees_with_autograd(depth: int) -> None:
    std = [0.2 + 0.05 * i for i in range(len(NAMES))]
    _, back = both(depth, std, NAMES)
    x, weights, biases, top = draws()
    for c, name in enumerate(NAMES):
        scaled = [(std[c] * w).requires_grad_() for w in weights[:depth]]
        states = [x]
        for w, b in zip(scaled, biases, strict=False):
            state = ACTIVATIONS[name].forward(states[-1] @ w + std[c] / 2 * b)
            state.retain_grad()
            states.append(state)
        (states[-1] * top).sum().backward()
        for layer in range(1, depth + 1):
            state_grad, weight_grad = states[layer].grad, scaled[layer - 1].grad
            assert state_grad is not None
            assert weight_grad is not None
            # Each layer rounds (WIDTH + 3) times; the activations' derivatives keep 13 digits.
            assert back.log2_h[layer - 1, c] == pytest.approx(
                math.log2(state_grad.norm()), abs=1e-11
            )
            assert back.log2_w[layer - 1, c] == pytest.approx(
                math.log2(weight_grad.norm()), abs=1e-11
            )


def test_forward_statistics_are_those_of_the_plain_network() -> None:
    passed, _ = both(DEPTH, [0.4], ["tanh"])
    x, weights, biases, _ = draws()
    state = x
    for layer in range(DEPTH):
        z = 0.4 * state @ weights[layer] + 0.2 * biases[layer]
        state = torch.tanh(z)
        assert passed.log2_z[layer, 0] == pytest.approx(math.log2(z.pow(2).mean()) / 2, abs=1e-12)
        rms = math.log2(state.pow(2).mean()) / 2
        assert passed.log2_h[layer, 0] == pytest.approx(rms, abs=1e-12)
        cosine = torch.cosine_similarity(z[0::2], z[1::2], dim=-1).mean()
        assert passed.cosine[layer, 0] == pytest.approx(float(cosine), abs=1e-12)


def test_hundreds_of_lost_decades_are_a_number_beside_what_float32_stores() -> None:
    """std 1e-9 a layer, linear: the log of each norm is exactly that of the same net at std 1."""
    depth = 50
    x, weights, biases, top = draws(depth)
    results = []
    for std in (1.0, 1e-9):
        scale, none = torch.tensor([std], dtype=torch.float64), torch.zeros(1).double()
        passed = signal.forward(x, weights, biases, scale, none, [lambda z: z])
        results.append(signal.backward(passed, depth, top, weights, scale, [torch.ones_like]))
    one, tiny = results
    shift = math.log2(1e-9) * torch.arange(depth - 1, -1, -1).double()
    # 50 layers of at most WIDTH + 3 roundings, and of logarithms near 1500.
    assert torch.allclose(tiny.log2_h[:, 0], one.log2_h[:, 0] + shift, rtol=0, atol=1e-9)
    assert tiny.log2_h[0, 0] < -1400
    assert tiny.plain_h[0, 0] == -math.inf
    assert float(tiny.plain_h[-1, 0]) == pytest.approx(float(tiny.log2_h[-1, 0]), abs=1e-5)


def test_configurations_do_not_disturb_each_other() -> None:
    _, alone = both(DEPTH, [0.3], ["tanh"])
    _, beside = both(DEPTH, [0.3, 100.0], ["tanh", "linear"])
    assert torch.allclose(alone.log2_h[:, 0], beside.log2_h[:, 0], rtol=0, atol=1e-12)
