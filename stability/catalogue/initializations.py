"""Weight initializations: the law of an entry and its variance.

Weights are ``std * Z`` with Z drawn once from a law of unit variance, so that all initializations
of one law share their draws (common random numbers) and differ in scale alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Law = Literal["gaussian", "uniform", "orthogonal"]


@dataclass(frozen=True)
class Initialization:
    """An initialization of a (fan_in, fan_out) weight matrix.

    ``std(fan_in, fan_out)``: the entries' standard deviation.  For the orthogonal law it is the
    root mean square of the entries of a matrix with orthonormal rows or columns.
    """

    name: str
    law: Law
    std: Callable[[int, int], float]


_ENTRIES = (
    Initialization("normal", "gaussian", lambda _i, _o: 0.01),
    Initialization("xavier", "gaussian", lambda i, o: math.sqrt(2 / (i + o))),
    Initialization("xavier_uniform", "uniform", lambda i, o: math.sqrt(2 / (i + o))),
    Initialization("he", "gaussian", lambda i, _o: math.sqrt(2 / i)),
    Initialization("he_uniform", "uniform", lambda i, _o: math.sqrt(2 / i)),
    Initialization("lecun", "gaussian", lambda i, _o: math.sqrt(1 / i)),
    Initialization("lecun_uniform", "uniform", lambda i, _o: math.sqrt(1 / i)),
    Initialization("orthogonal", "orthogonal", lambda i, o: math.sqrt(1 / max(i, o))),
    Initialization("uniform_third", "uniform", lambda i, _o: math.sqrt(1 / (3 * i))),
)

INITIALIZATIONS = {entry.name: entry for entry in _ENTRIES}


def draw_unit(law: Law, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A float32 (fan_in, fan_out) matrix Z of the law with E[Z_ij^2] = 1, on generator's device.

    The orthogonal matrix is Haar distributed: QR of a Gaussian with the signs of R's diagonal
    (Mezzadri 2007), computed in float64.
    """
    device = generator.device
    if law == "gaussian":
        return torch.randn(shape, generator=generator, device=device)
    if law == "uniform":
        return (2 * torch.rand(shape, generator=generator, device=device) - 1) * math.sqrt(3)
    long, short = max(shape), min(shape)
    gaussian = torch.randn((long, short), generator=generator, device=device, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * torch.sgn(torch.diagonal(r))
    q = q if shape[0] >= shape[1] else q.T
    unit: Tensor = q * math.sqrt(long)
    return unit.to(torch.float32)
