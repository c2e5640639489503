"""Jacobians beside autograd's, row by row."""

import pytest
import torch

from stability.catalogue.activations import ACTIVATIONS
from stability.kernels.jacobian import jacobians

NETWORKS, WIDTH, DEPTH = 3, 5, 4
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_layers_jacobian_is_autograds(dtype: torch.dtype, device: str) -> None:
    g = torch.Generator().manual_seed(1)
    names = ["tanh", "relu", "linear"]
    gains, offsets = [0.9, 1.4, 0.5], [0.1, 0.0, 0.3]
    start = torch.randn(3, NETWORKS, WIDTH, generator=g, dtype=torch.float64)
    layers = [
        (
            torch.randn(NETWORKS, WIDTH, WIDTH, generator=g, dtype=torch.float64),
            torch.randn(NETWORKS, WIDTH, generator=g, dtype=torch.float64),
        )
        for _ in range(DEPTH)
    ]
    entries = [ACTIVATIONS[name] for name in names]
    found = jacobians(
        start.to(device, dtype),
        ((w.to(device, dtype), b.to(device, dtype)) for w, b in layers),
        gains,
        offsets,
        [(entry.forward, entry.derivative) for entry in entries],
    )
    depth = 0
    for depth, product in enumerate(found, 1):
        assert product.dtype == dtype
        for a in range(len(names)):
            for s in range(NETWORKS):

                def net(
                    h: torch.Tensor, a: int = a, s: int = s, depth: int = depth
                ) -> torch.Tensor:
                    for weight, bias in layers[:depth]:
                        z = gains[a] * weight[s] @ h + offsets[a] * bias[s]
                        h = entries[a].forward(z)
                    return h

                truth = torch.autograd.functional.jacobian(net, start[a, s])
                # WIDTH + 4 roundings a layer, of products of norms.
                bound = (WIDTH + 4) * depth * torch.finfo(dtype).eps
                for weight, _ in layers[:depth]:
                    bound *= float(gains[a] * torch.linalg.matrix_norm(weight[s]))
                torch.testing.assert_close(product[a, s].double().cpu(), truth, rtol=0, atol=bound)
    assert depth == DEPTH
