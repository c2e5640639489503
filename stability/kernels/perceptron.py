"""The perceptron of one hidden ReLU layer, from scratch and concise, one SGD step at a time.

Parameters are W1 (D, H), b1 (H,), W2 (H, K), b2 (K,).  Shape suffixes: B batch rows, D features,
H hidden units, K classes.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Program(Protocol):
    """A perceptron in training."""

    def logits(self, x_BD: Tensor) -> Tensor:
        """(B, K), without gradients."""

    def step(self, x_BD: Tensor, y_B: Tensor) -> None:
        """One step of plain SGD on the mean cross-entropy of a batch."""

    def parameters(self) -> list[Tensor]:
        """W1, b1, W2, b2, without gradients; they change with the next step."""


def relu(x: Tensor) -> Tensor:
    """max(x, 0); nan stays nan."""
    return torch.maximum(x, torch.zeros_like(x))


class Scratch:
    """From raw tensors: forward, backward and update written out."""

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        self._rate = rate
        self._parameters = [p.clone() for p in parameters]

    def logits(self, x_BD: Tensor) -> Tensor:
        """(B, K), without gradients."""
        w1, b1, w2, b2 = self._parameters
        return relu(x_BD @ w1 + b1) @ w2 + b2

    def step(self, x_BD: Tensor, y_B: Tensor) -> None:
        """One step of plain SGD on the mean cross-entropy of a batch."""
        w1, b1, w2, b2 = self._parameters
        z_BH = x_BD @ w1 + b1
        h_BH = relu(z_BH)
        o_BK = h_BH @ w2 + b2
        e_BK = torch.exp(o_BK - o_BK.amax(dim=1, keepdim=True))
        delta_BK = e_BK / e_BK.sum(dim=1, keepdim=True)
        delta_BK[torch.arange(len(y_B), device=y_B.device), y_B] -= 1
        delta_BK /= len(y_B)
        delta_BH = (delta_BK @ w2.T) * (z_BH > 0)
        gradients = (x_BD.T @ delta_BH, delta_BH.sum(0), h_BH.T @ delta_BK, delta_BK.sum(0))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter -= self._rate * gradient

    def parameters(self) -> list[Tensor]:
        """W1, b1, W2, b2."""
        return self._parameters


class Concise:
    """From torch.nn and torch.optim; keeps its weights transposed, (fan_out, fan_in)."""

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        w1, b1, w2, b2 = parameters
        first, last = (
            nn.utils.skip_init(nn.Linear, *w.shape, dtype=w.dtype, device=w.device)
            for w in (w1, w2)
        )
        self._net = nn.Sequential(first, nn.ReLU(), last)
        with torch.no_grad():
            for mine, given in zip(self._net.parameters(), (w1.T, b1, w2.T, b2), strict=True):
                mine.copy_(given)
        self._loss = nn.CrossEntropyLoss()
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=rate)

    def logits(self, x_BD: Tensor) -> Tensor:
        """(B, K), without gradients."""
        with torch.no_grad():
            found: Tensor = self._net(x_BD)
            return found

    def step(self, x_BD: Tensor, y_B: Tensor) -> None:
        """One step of plain SGD on the mean cross-entropy of a batch."""
        loss = self._loss(self._net(x_BD), y_B)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def parameters(self) -> list[Tensor]:
        """W1, b1, W2, b2."""
        w1, b1, w2, b2 = (p.detach() for p in self._net.parameters())
        return [w1.T, b1, w2.T, b2]
