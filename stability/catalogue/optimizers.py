"""Optimizers: how a parameter moves by its gradient.

Each is written with the operators of arithmetic and a square root alone, element by element, so
that tensors, numpy arrays and arrays of ``fractions.Fraction`` go through the same lines, and
every element sees the same correctly rounded operations in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Values = Any
"""A tensor or an array of any shape and of any number type."""
State = tuple[Any, ...]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its rates.

    ``step(parameter, gradient, state)``: the new parameter, of its shape, and the new state; pure.
    ``start``: the state before the first step of every parameter.
    """

    step: Callable[[Values, Values, State], tuple[Values, State]]
    start: State = ()


def sgd(rate: Any) -> Optimizer:
    """w - rate g (Robbins & Monro 1951)."""

    def step(parameter: Values, gradient: Values, state: State) -> tuple[Values, State]:
        return parameter - rate * gradient, state

    return Optimizer(step)


def momentum(rate: Any, decay: Any = 0.9) -> Optimizer:
    """w - rate m with m <- decay m + g (Polyak 1964; no dampening, as in PyTorch)."""

    def step(parameter: Values, gradient: Values, state: State) -> tuple[Values, State]:
        moment = decay * state[0] + gradient
        return parameter - rate * moment, (moment,)

    return Optimizer(step, (0,))


def adam(
    rate: Any,
    betas: tuple[Any, Any] = (0.9, 0.999),
    eps: Any = 1e-8,
    root: Callable[[Values], Values] = torch.sqrt,
) -> Optimizer:
    """w - rate m / (sqrt(v) + eps) with bias-corrected moments (Kingma & Ba 2015, algorithm 1).

    ``root``: the square root, for values that aren't tensors.
    """
    first, second = betas

    def step(parameter: Values, gradient: Values, state: State) -> tuple[Values, State]:
        mean, square, count = state
        count += 1
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * (gradient * gradient)
        scale = root(square / (1 - second**count)) + eps
        return parameter - rate / (1 - first**count) * mean / scale, (mean, square, count)

    return Optimizer(step, (0, 0, 0))


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": sgd, "momentum": momentum, "adam": adam}
"""Makers of optimizers by name; the first argument is the learning rate."""
