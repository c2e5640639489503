"""Training of many small classifiers of one shape side by side by plain SGD.

Shape suffixes: C nets, B batch rows, N samples, K classes.  A net that diverges stays nan or inf
by itself: no operation mixes nets.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Forward = Callable[[Tensor], Tensor]
Observe = Callable[[int, list[Tensor], list[Tensor]], None]


def preactivations(
    weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Forward, inputs: Tensor
) -> list[Tensor]:
    """z^1 ... z^L, each (C, B, fan_out), of all nets on the same inputs (B, d); z^L: the logits.

    ``weights``: (C, fan_in, fan_out) a layer; ``biases``: (C, fan_out) a layer.
    """
    signal = inputs.expand(len(weights[0]), *inputs.shape)
    found: list[Tensor] = []
    for weight, bias in zip(weights, biases, strict=True):
        if found:
            signal = activation(found[-1])
        found.append(torch.baddbmm(bias.unsqueeze(1), signal, weight))
    return found


def cross_entropy(logits_CBK: Tensor, labels_B: Tensor) -> Tensor:
    """The mean cross-entropy -ln softmax(logits)[label] of each net in nats, (C,)."""
    nets, batch, classes = logits_CBK.shape
    targets = labels_B.expand(nets, batch).reshape(-1)
    each = functional.cross_entropy(logits_CBK.reshape(-1, classes), targets, reduction="none")
    return each.view(nets, batch).mean(dim=1)


def train(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: Forward,
    inputs: Tensor,
    labels: Tensor,
    batches: Tensor | Sequence[Tensor],
    learning_rate: float,
    observe: Observe | None = None,
) -> Tensor:
    """Cross-entropy of every net on every batch before its step, (C, steps), weights' dtype.

    ``weights``: (C, fan_in, fan_out) a layer; ``biases``: (C, fan_out) a layer; the last layer is
    linear; ``activation``: elementwise, differentiable.  ``inputs``: (N, d), ``labels``: (N,)
    int64; ``batches``: (steps, B) int64, or a sequence of (B,) of any lengths: the samples of each
    step, the same for all nets.  A step is w <- w - learning_rate * gradient of the net's mean over
    the batch (Robbins & Monro 1951).

    ``observe(step, weights, biases)`` is called steps + 1 times with what ``step`` updates have
    made of the parameters, without gradients; they change after the call, so copy what you keep.
    The arguments themselves are not modified.  A net that diverges has losses inf or nan.
    Raises ValueError unless there is one bias for each weight.
    """
    if len(weights) != len(biases):
        raise ValueError(f"{len(weights)} weights but {len(biases)} biases: must be as many")
    layers = len(weights)
    parameters = [p.detach().clone().requires_grad_() for p in (*weights, *biases)]
    ours, shifts = parameters[:layers], parameters[layers:]

    def show(step: int) -> None:
        if observe is not None:
            with torch.no_grad():
                observe(step, [p.detach() for p in ours], [p.detach() for p in shifts])

    losses = weights[0].new_empty((len(weights[0]), len(batches)))
    for step, batch in enumerate(batches):
        show(step)
        logits = preactivations(ours, shifts, activation, inputs[batch])[-1]
        loss = cross_entropy(logits, labels[batch])
        losses[:, step] = loss.detach()
        # The gradient of the sum holds each net's own: no net's loss depends on another's weights.
        gradients = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=learning_rate)
    show(len(batches))
    return losses
