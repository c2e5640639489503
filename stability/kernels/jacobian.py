"""Input-output Jacobians of deep square networks, layer by layer, without autograd.

Shape suffixes: A activations, S networks, N units.  z^l = g W^l h^{l-1} + o b^l and
h^l = phi(z^l), with a gain g and an offset o for each activation; all share the weights' draws.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from stability.kernels.gemm import matmul

Elementwise = Callable[[Tensor], Tensor]


def jacobians(
    start_ASN: Tensor,
    layers: Iterable[tuple[Tensor, Tensor]],
    gains: Sequence[float],
    offsets: Sequence[float],
    activations: Sequence[tuple[Elementwise, Elementwise]],
) -> Iterator[Tensor]:
    """J^l = dh^l / dh^0 for l = 1, 2, ..., each (A, S, N, N), of one dtype with the draws.

    ``start_ASN``: h^0; ``layers``: W^l (S, N, N) and b^l (S, N), consumed one by one;
    ``activations``: phi and phi'.  J^l = phi'(z^l) g W^l J^{l-1}.  What was yielded is overwritten
    two layers later.
    """
    state = start_ASN
    gain, offset = (state.new_tensor(x)[:, None, None] for x in (gains, offsets))
    product, work = (state.new_empty((*state.shape, state.shape[-1])) for _ in range(2))
    for index, (weight, bias) in enumerate(layers):
        z = torch.bmm(weight, state.permute(1, 2, 0)).permute(2, 0, 1)
        z = torch.addcmul(offset * bias, z, gain)
        state = torch.stack([phi(one) for one, (phi, _) in zip(z, activations, strict=True)])
        slopes = torch.stack([slope(one) for one, (_, slope) in zip(z, activations, strict=True)])
        product, work = work, product
        for one, before in zip(product, work, strict=True):
            if index:
                matmul(weight, before, out=one)
            else:
                one.copy_(weight)
        product *= (slopes * gain)[..., None]
        yield product
