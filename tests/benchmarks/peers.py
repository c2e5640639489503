"""What one writes first: the naive peers that the kernels are timed beside."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU
}  # fmt: skip
INITS = ("normal", "xavier", "he")


def chapter_product(n: int, length: int, dtype: torch.dtype) -> list[float]:
    """The book's loop (D2L 5.4.1.2) with the norm of the product at every factor."""
    product = torch.normal(0.0, 1.0, size=(n, n), dtype=dtype)
    norms = [torch.linalg.norm(product)]
    for _ in range(length - 1):
        product = torch.normal(0.0, 1.0, size=(n, n), dtype=dtype) @ product
        norms.append(torch.linalg.norm(product))
    return [norm.item() for norm in norms]


def numpy_spectrum(n: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Lyapunov exponents by a QR decomposition after every factor."""
    q, logs = np.eye(n), np.zeros(n)
    for _ in range(length):
        q, r = np.linalg.qr(generator.standard_normal((n, n)) @ q)
        logs += np.log(np.abs(np.diag(r)))
    return logs / length


def hooked_net(
    width: int, depth: int, activation: str, init: str, batch: int
) -> tuple[list[tuple[float, float, float]], list[float], list[float]]:
    """One configuration with hooks: log2 rms of z and of h and the pairs' cosine by layer; log2 of
    the norms of the gradients by h and by W."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        if init == "normal":
            nn.init.normal_(linear.weight, std=0.01)
        elif init == "xavier":
            nn.init.xavier_normal_(linear.weight)
        else:
            nn.init.kaiming_normal_(linear.weight)
        layers += [linear, ACTIVATIONS[activation]()]
    net = nn.Sequential(*layers)
    signals: list[tuple[float, float, float]] = []
    gradients: list[float] = []

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        z, h = inputs[0].detach(), output.detach()
        cosine = torch.cosine_similarity(z[0::2], z[1::2], dim=-1).mean().item()
        signals.append((log2(z.square().mean().sqrt()), log2(h.square().mean().sqrt()), cosine))
        output.register_hook(lambda gradient: gradients.append(log2(gradient.norm())))

    for layer in layers[1::2]:
        layer.register_forward_hook(hook)
    top = torch.randn(batch, width)
    (net(torch.randn(batch, width)) * (top / top.norm())).sum().backward()
    weights = [log2(p.grad.norm()) for p in net.parameters() if p.grad is not None]
    return signals, gradients[::-1], weights


def log2(x: Tensor) -> float:
    """Of a number, -inf for 0."""
    value = x.item()
    return math.log2(value) if value > 0 else -math.inf


def jacobian_rows(nets: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Jacobians of networks, (S, N, N), by a loop over autograd's rows."""
    found = []
    for net, x in zip(nets, inputs, strict=True):
        point = x.clone().requires_grad_()
        output = net(point)
        rows = [torch.autograd.grad(y, point, retain_graph=True)[0] for y in output]
        found.append(torch.stack(rows))
    return torch.stack(found)
