"""Jacobians of 20 layers of tanh beside a loop over autograd's rows, of the same networks."""

from collections import deque

import peers
import pytest
import torch
from measuring import Versus
from torch import Tensor, nn

from stability.catalogue.activations import ACTIVATIONS
from stability.kernels.jacobian import jacobians

DEPTH = 20


@pytest.mark.parametrize(("n", "samples"), [(16, 16), (64, 8), (256, 2)])
def test_jacobian(versus: Versus, n: int, samples: int, device: str) -> None:
    nets = [
        nn.Sequential(
            *(part for _ in range(DEPTH) for part in (nn.Linear(n, n, bias=False), nn.Tanh()))
        ).to(device)
        for _ in range(samples)
    ]
    layers = [
        (
            torch.stack([net.get_parameter(f"{2 * layer}.weight").detach() for net in nets]),
            torch.zeros(samples, n, device=device),
        )
        for layer in range(DEPTH)
    ]
    x = torch.randn(samples, n, device=device, generator=torch.Generator(device).manual_seed(0))
    tanh = ACTIVATIONS["tanh"]

    def ours() -> Tensor:
        pair = (tanh.forward, tanh.derivative)
        found = deque(jacobians(x[None], layers, [1.0], [0.0], [pair]), maxlen=1)
        return found[0][0]

    def close(one: Tensor, other: Tensor) -> None:
        # 20 layers of n + 4 roundings; the gradients' size is below 1.
        torch.testing.assert_close(one, other, rtol=0, atol=DEPTH * (n + 4) * 2.0**-24)

    versus(
        ours,
        lambda: peers.jacobian_rows(nets, x),
        check=close,
        dtype="float32",
        device=device,
        flop=2 * n**3 * (DEPTH - 1) * samples,
        rounds=9,
    )
