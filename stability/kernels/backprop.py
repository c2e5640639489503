"""Multilayer perceptrons by hand: forward, backward, and second derivatives along a direction.

z^l = h^(l-1) W^l + b^l for l = 1..L, h^0 = x, h^l = phi(z^l) for l < L, o = z^L; J = loss + s with
s = decay / 2 sum |W^l|_F^2 (Zhang et al. 2023, Dive into Deep Learning, eq. 5.3.1-5.3.6).

Shapes: ... networks side by side, b batch rows, n^l units: h^l (..., b, n^l), W^l (..., n^(l-1),
n^l), b^l (..., 1, n^l); a network without biases has none.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]


class Loss(NamedTuple):
    """A loss of outputs o (..., b, k) and targets y (b, k), averaged over the batch.

    ``value``: (...); ``gradient``: dL/do; ``curvature(o, t)``: the second derivative times t.
    Values are analytic in o: a complex step may pass through them.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """-sum y ln softmax(o); the rows of y sum to 1.  Shifted by the largest output."""
    shifted = output - output.real.amax(-1, keepdim=True)
    each = shifted.exp().sum(-1).log() - (target * shifted).sum(-1)
    return each.sum(-1) / output.shape[-2]


def _softmax_curvature(output: Tensor, tangent: Tensor) -> Tensor:
    share = output.softmax(-1)
    mean = (share * tangent).sum(-1, keepdim=True)
    return share * (tangent - mean) / output.shape[-2]


SQUARED = Loss(
    lambda o, y: (o - y).square().sum((-2, -1)) / (2 * o.shape[-2]),
    lambda o, y: (o - y) / o.shape[-2],
    lambda o, t: t / o.shape[-2],
)
"""|o - y|^2 / 2."""
CROSS_ENTROPY = Loss(
    _cross_entropy, lambda o, y: (o.softmax(-1) - y) / o.shape[-2], _softmax_curvature
)
"""-sum y ln softmax(o)."""


class Parameters(NamedTuple):
    """Weights W^1..W^L and biases b^1..b^L, or no biases: of a network, a gradient, a direction."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor] = ()


class Network(NamedTuple):
    """Parameters, activation with its derivatives ``slope`` and ``bend``, loss, weight decay."""

    parameters: Parameters
    phi: Elementwise
    slope: Elementwise
    bend: Elementwise
    loss: Loss
    decay: float


class Forward(NamedTuple):
    """The intermediates h^0..h^(L-1) and z^1..z^L (the last is o), and the parts of J, (...)."""

    h: list[Tensor]
    z: list[Tensor]
    fit: Tensor
    penalty: Tensor

    @property
    def objective(self) -> Tensor:
        """J, (...)."""
        return self.fit + self.penalty


class Backward(NamedTuple):
    """dJ/dz^1..z^L (the last is dJ/do), dJ/dh^1..h^(L-1), and dJ by the parameters."""

    z: list[Tensor]
    h: list[Tensor]
    parameters: Parameters


def forward(network: Network, inputs: Tensor, target: Tensor) -> Forward:
    """Run the networks on ``inputs`` (..., b, n^0) with targets (b, n^L); eq. 5.3.1-5.3.6."""
    weights, biases = network.parameters
    h, z = [inputs], list[Tensor]()
    for layer, weight in enumerate(weights):
        if layer:
            h.append(network.phi(z[-1]))
        product = h[-1] @ weight
        z.append(product + biases[layer] if biases else product)
    squares = torch.stack([weight.square().sum((-2, -1)) for weight in weights])
    return Forward(h, z, network.loss.value(z[-1], target), network.decay / 2 * squares.sum(0))


def backward(network: Network, passed: Forward, target: Tensor) -> Backward:
    """Carry dJ/do back to every intermediate and parameter; eq. 5.3.8-5.3.14."""
    weights, biases = network.parameters
    z, h = [network.loss.gradient(passed.z[-1], target)], list[Tensor]()
    by_weight, by_bias = list[Tensor](), list[Tensor]()
    for layer in reversed(range(len(weights))):
        by_weight.append(passed.h[layer].mT @ z[-1] + network.decay * weights[layer])
        if biases:
            by_bias.append(z[-1].sum(-2, keepdim=True))
        if layer:
            h.append(z[-1] @ weights[layer].mT)
            z.append(h[-1] * network.slope(passed.z[layer - 1]))
    return Backward(z[::-1], h[::-1], Parameters(by_weight[::-1], by_bias[::-1]))


def hessian_vector(
    network: Network, passed: Forward, gradients: Backward, direction: Parameters
) -> Parameters:
    """The Hessian of J by the parameters times ``direction``: the derivative of both passes.

    Forward over reverse (Pearlmutter 1994, Neural Computation 6, 147): twice the matrix products
    of a gradient, and never the Hessian itself.
    """
    weights, biases = network.parameters
    h, z = [torch.zeros_like(passed.h[0])], list[Tensor]()
    for layer, turn in enumerate(direction.weights):
        tangent = passed.h[layer] @ turn
        if layer:
            h.append(network.slope(passed.z[layer - 1]) * z[-1])
            tangent = tangent + h[-1] @ weights[layer]
        z.append(tangent + direction.biases[layer] if biases else tangent)
    delta = network.loss.curvature(passed.z[-1], z[-1])
    by_weight, by_bias = list[Tensor](), list[Tensor]()
    for layer in reversed(range(len(weights))):
        by_weight.append(passed.h[layer].mT @ delta + network.decay * direction.weights[layer])
        if biases:
            by_bias.append(delta.sum(-2, keepdim=True))
        if layer:
            by_weight[-1] = by_weight[-1] + h[layer].mT @ gradients.z[layer]
            below = delta @ weights[layer].mT + gradients.z[layer] @ direction.weights[layer].mT
            state, bent = passed.z[layer - 1], gradients.h[layer - 1] * z[layer - 1]
            delta = below * network.slope(state) + network.bend(state) * bent
    return Parameters(by_weight[::-1], by_bias[::-1])
