"""Gradients and Hessian-vector products of a scalar function of several tensors, by autograd."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Sequence[Tensor]], Tensor]


class Curvature(NamedTuple):
    """The gradient at a point, and the function that multiplies a direction by the Hessian."""

    gradient: list[Tensor]
    product: Callable[[Sequence[Tensor]], list[Tensor]]


def curvature(loss: Loss, at: Sequence[Tensor]) -> Curvature:
    """First and second derivatives of ``loss`` at the tensors ``at``, which stay as they are.

    A product costs about as much as a gradient (Pearlmutter 1994); no Hessian is formed.  Kinks
    have no curvature: at a ReLU network it is that of the linear pieces.
    """
    point = [tensor.detach().clone().requires_grad_() for tensor in at]
    gradient = torch.autograd.grad(loss(point), point, create_graph=True)

    def product(direction: Sequence[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(gradient, point, list(direction), retain_graph=True))

    return Curvature([g.detach() for g in gradient], product)
