"""A network of one hidden layer, written so that the arithmetic is the caller's choice.

f(x) = sum_i v_i phi(w_i x): H hidden units, N samples, D inputs; shape suffixes accordingly.  All
is operators and one matrix product, so that tensors and arrays of ``fractions.Fraction`` go
through the same lines.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Values = Any
"""A tensor or a numpy array of numbers of any type."""
Product = Callable[[Values, Values], Values]


def ordered(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product (m, k) x (k, p), every entry summed by the same operations.

    All products come first, then sums over the k axis in a fixed tree (0 and half, 1 and half + 1,
    and so on, a missing one being 0).  Each addition acts elementwise on whole slices, so no entry
    can see another order than its neighbours, whatever the shape and however lanes are filled:
    equal columns of ``b`` give bitwise equal columns.
    """
    terms = a.T.unsqueeze(-1) * b.unsqueeze(-2)
    while len(terms) > 1:
        if len(terms) % 2:
            terms = torch.cat([terms, torch.zeros_like(terms[:1])])
        half = len(terms) // 2
        terms = terms[:half] + terms[half:]
    return terms[0]


class Layers(NamedTuple):
    """Weights into the hidden units, (H, D), and out of them, (H, 1)."""

    weights: Values
    outgoing: Values


class Problem(NamedTuple):
    """Inputs (N, D), targets (N, 1), the activation and its derivative, and the matrix product."""

    inputs: Values
    targets: Values
    activation: Callable[[Values], Values]
    derivative: Callable[[Values], Values]
    product: Product


def outputs(layers: Layers, problem: Problem) -> Values:
    """f(x) of every sample, (N, 1)."""
    hidden = problem.activation(problem.product(problem.inputs, layers.weights.T))
    return problem.product(hidden, layers.outgoing)


def gradients(layers: Layers, problem: Problem, keep_NH: Values = 1) -> Layers:
    """Of sum (f - y)^2 / (2 N), by hand; shapes as in ``layers``.

    ``keep_NH``: what dropout multiplies the hidden values by, 0 or 1 / (1 - p).
    """
    inputs_ND, product = problem.inputs, problem.product
    z_NH = product(inputs_ND, layers.weights.T)
    hidden_NH = problem.activation(z_NH) * keep_NH
    residual_N1 = (product(hidden_NH, layers.outgoing) - problem.targets) / len(inputs_ND)
    back_NH = residual_N1 * layers.outgoing.T * problem.derivative(z_NH) * keep_NH
    return Layers(product(back_NH.T, inputs_ND), product(hidden_NH.T, residual_N1))


def train(
    layers: Layers,
    problem: Problem,
    update: Callable[[Values, Values, Any], tuple[Values, Any]],
    start: Any,
    steps: int,
    observe: Callable[[int, Layers], None] | None = None,
    keep: Callable[[], Values] | None = None,
) -> Layers:
    """The layers after ``steps`` updates; ``observe`` sees them after 0, 1, ..., ``steps``.

    ``update(parameter, gradient, state)`` returns the new parameter and state; ``start``: the
    first state.  ``keep()``: dropout's factors (N, H) of the next step.  Nothing is changed in
    place.
    """
    states = [start, start]
    if observe is not None:
        observe(0, layers)
    for step in range(1, steps + 1):
        slopes = gradients(layers, problem, 1 if keep is None else keep())
        moved = []
        for at, (parameter, slope) in enumerate(zip(layers, slopes, strict=True)):
            new, states[at] = update(parameter, slope, states[at])
            moved.append(new)
        layers = Layers(*moved)
        if observe is not None:
            observe(step, layers)
    return layers
