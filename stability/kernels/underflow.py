"""Products carried in a format until they are exactly 0.

Shape suffixes: R draws, N units.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stability.kernels.products import round_to

Draw = Callable[[int], Tensor]


def keeps_subnormals(like: Tensor) -> bool:
    """Whether half of the smallest normal number of its dtype is above 0 on its device."""
    tiny = torch.full_like(like, torch.finfo(like.dtype).smallest_normal)
    return bool((tiny / 2 > 0).all())


@contextmanager
def subnormals(flush: bool) -> Iterator[bool]:
    """Whether this thread's CPU arithmetic could be told to flush subnormals, or to keep them."""
    before = not keeps_subnormals(torch.ones(()))
    try:
        yield bool(torch.set_flush_denormal(flush))
    finally:
        torch.set_flush_denormal(before)


def repeated_product(factor: Tensor) -> tuple[float, float]:
    """1 multiplied by the 0-dimensional ``factor`` < 1 until nothing changes: steps to 0, and rest.

    The steps are inf if it comes to rest above 0.
    """
    x, steps = torch.ones_like(factor), 0
    while True:
        following = x * factor
        if following == x:
            return (math.inf, float(x)) if x > 0 else (float(steps), 0.0)
        x, steps = following, steps + 1


def first_zero(draw: Draw, like: Tensor) -> Tensor:
    """The number of factors ``draw(1)``, ``draw(2)``, ... (R,) whose product is 0, (R,) float64."""
    x = torch.ones_like(like)
    steps = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    count = 0
    while bool((alive := x > 0).any()):
        count += 1
        steps += alive
        x = x * draw(count)
    return steps


def iterated_sigmoid(depth: int, dtype: torch.dtype, device: str) -> float:
    """Layers from the top of x <- sigmoid(x) at which autograd's gradient is 0; inf for never."""
    states = [torch.zeros((), dtype=dtype, device=device, requires_grad=True)]
    for _ in range(depth):
        states.append(torch.sigmoid(states[-1]))
    gradients = torch.autograd.grad(states[-1], states)
    zero = [bool(g == 0) for g in reversed(gradients)]
    return float(zero.index(True)) if True in zero else math.inf


def vanishing(
    weights: Draw, depth: int, inputs_RN1: Tensor, top_RN1: Tensor, dtype: torch.dtype
) -> Tensor:
    """Layers from the top at which the gradient of a sigmoid network is 0; inf for never, (R,).

    ``weights(l)``: (R, N, N) of layer l = 1..depth.  All in the inputs' dtype, every result rounded
    to ``dtype``: states, slopes times gradients, and gradients.
    """
    states = [inputs_RN1]
    for layer in range(1, depth + 1):
        z = round_to(weights(layer).bmm(states[-1]), dtype)
        states.append(round_to(torch.sigmoid(z), dtype))
    gradient = top_RN1
    first = torch.full((len(top_RN1),), math.inf, dtype=torch.float64, device=top_RN1.device)
    for below in range(depth + 1):
        gone = (gradient == 0).all(dim=1).squeeze(1) & first.isinf()
        first = torch.where(gone, float(below), first)
        if below == depth or bool(first.isfinite().all()):
            break
        h = states[depth - below]
        slanted = round_to(gradient * (1 - h) * h, dtype)
        gradient = round_to(weights(depth - below).mT.bmm(slanted), dtype)
    return first
