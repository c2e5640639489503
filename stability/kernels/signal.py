"""Forward and backward signal through a deep square network, without autograd.

Shapes: c configurations, b batch rows, n units, all of one width.  Configurations share the
weights' unit draws Z and differ in scale and activation: common random numbers.
z^l = h^{l-1} W^l + b^l with W^l = std Z^l, h^l = phi(z^l).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.kernels.robust import log2_norm, rescale

Draw = Callable[[int], Tensor]
"""The draw of layer l = 1, 2, ...: unit weights (c or 1, n, n) or unit biases (n,)."""


class Forward(NamedTuple):
    """The states z^1..z^L and h^0..h^L, each (c, b, n), with their statistics.

    ``log2_z``, ``log2_h``: log2 of the root mean square, (L, c); ``cosine``: mean cosine of the
    preactivations of rows 2i and 2i+1, (L, c).
    """

    z: list[Tensor]
    h: list[Tensor]
    log2_z: Tensor
    log2_h: Tensor
    cosine: Tensor


class Backward(NamedTuple):
    """log2 of the Frobenius norms of dL/dh^l and dL/dW^l for l = 1..L, each (L, c), float64.

    ``plain_h``: the same of dL/dh^l stored and reduced in float32, where it may be -inf or inf.
    """

    log2_h: Tensor
    log2_w: Tensor
    plain_h: Tensor


def forward(
    inputs: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    weight_std: Tensor,
    bias_std: Tensor,
    activations: Sequence[Callable[[Tensor], Tensor]],
) -> Forward:
    """Run the c networks on ``inputs`` (b, n), b even.

    ``weights``: Z^l as (c, n, n) or (n, n); ``biases``: (n,); ``weight_std``, ``bias_std``: (c,);
    ``activations``: one a configuration.
    """
    states = inputs.expand(len(activations), *inputs.shape)
    count = inputs.numel()
    half_count = 0.5 * torch.log2(torch.tensor(float(count), dtype=torch.float64))
    h, z = [states], []
    log2_z, log2_h, cosine = [], [], []
    for unit, bias in zip(weights, biases, strict=True):
        pre = (h[-1] @ unit) * weight_std[:, None, None] + bias_std[:, None, None] * bias
        post = torch.stack([phi(pre[i]) for i, phi in enumerate(activations)])
        z.append(pre)
        h.append(post)
        log2_z.append(log2_norm(pre, (-2, -1)) - half_count)
        log2_h.append(log2_norm(post, (-2, -1)) - half_count)
        scaled, _ = rescale(pre, -1)
        pairs = torch.nn.functional.cosine_similarity(scaled[:, 0::2], scaled[:, 1::2], dim=-1)
        cosine.append(pairs.mean(dim=-1).double())
    return Forward(z, h, torch.stack(log2_z), torch.stack(log2_h), torch.stack(cosine))


def backward(
    passed: Forward,
    depth: int,
    top: Tensor,
    weights: Sequence[Tensor],
    weight_std: Tensor,
    derivatives: Sequence[Callable[[Tensor], Tensor]],
) -> Backward:
    """Carry dL/dh^depth = ``top`` (b, n) back to the first layer, rescaled at every layer."""
    gradient = top.expand(len(derivatives), *top.shape)
    exponent = torch.zeros(len(derivatives), dtype=torch.float64, device=top.device)
    log2_h, log2_w, plain = [], [], []
    for layer in range(depth, 0, -1):
        log2_h.append(exponent + log2_norm(gradient, (-2, -1)))
        single = (gradient.double() * torch.exp2(exponent)[:, None, None]).float()
        plain.append(torch.linalg.vector_norm(single, dim=(-2, -1)).double().log2())
        slope = torch.stack([d(passed.z[layer - 1][i]) for i, d in enumerate(derivatives)])
        delta, step = rescale(gradient * slope, (-2, -1))
        exponent = exponent + step[:, 0, 0]
        below, shift = rescale(passed.h[layer - 1], (-2, -1))
        outer = (delta @ delta.mT) * (below @ below.mT)
        squared = outer.double().sum(dim=(-2, -1)).clamp(min=0)
        log2_w.append(exponent + shift[:, 0, 0] + squared.log2() / 2)
        gradient = (delta @ weights[layer - 1].mT) * weight_std[:, None, None]
    order = range(depth - 1, -1, -1)
    return Backward(*(torch.stack([rows[i] for i in order]) for rows in (log2_h, log2_w, plain)))
