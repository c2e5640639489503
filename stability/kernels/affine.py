"""Stacks of affine layers, and products of matrices in a given order.

Shape suffixes: R draws, M rows of a weight, N columns, B columns of the signal.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stability.kernels.products import round_to


def stack(
    weights: Sequence[Tensor], biases: Sequence[Tensor], start: Tensor, storage: torch.dtype
) -> list[Tensor]:
    """x and what each layer y <- W y + b makes of it, rounded to ``storage``; (R, N, B) each.

    ``weights``: (R, M, N); ``biases``: (R, M, B), or 1 for B.  Computed in the weights' dtype.
    """
    states = [start]
    for weight_RMN, bias_RMB in zip(weights, biases, strict=True):
        bias = bias_RMB.expand(-1, -1, start.shape[-1])
        states.append(round_to(torch.baddbmm(bias, weight_RMN, states[-1]), storage))
    return states


def multiply(matrices: Sequence[Tensor], order: Any) -> Tensor:
    """The product of the chain; ``order``: an index, or the pair of orders multiplied last."""
    if isinstance(order, int):
        return matrices[order]
    return multiply(matrices, order[0]).mm(multiply(matrices, order[1]))
