"""Ensembles of random square matrices: how a batch of independent factors is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SEEDS_LAST = 8
"""Up to this order the samples of an entry lie next to each other in memory: small products run
several times faster so."""


@dataclass(frozen=True)
class Ensemble:
    """A law of n x n matrices.

    ``draw(samples, n, generator)``: (samples, n, n), float32 or complex64, on the generator's
    device.  Entries are independent with mean 0 and E|g|^2 = 1, save ``orthogonal``, whose
    matrices keep lengths.  ``excess``: the entries' excess kurtosis E g^4 - 3, None where the law
    is invariant under rotations and needs none.  ``singular``: the determinant is 0 with a
    positive probability.
    """

    name: str
    draw: Callable[[int, int, torch.Generator], Tensor]
    complex: bool = False
    excess: float | None = None
    singular: bool = False


def _empty(samples: int, n: int, like: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Room for independent entries, (samples, n, n), laid out as products of order n want it."""
    shape = (samples, n, n) if n > SEEDS_LAST else (n, n, samples)
    return torch.empty(shape, dtype=dtype, device=like.device)


def _square(entries: Tensor, n: int) -> Tensor:
    """What was drawn into ``_empty`` as (samples, n, n)."""
    return entries if n > SEEDS_LAST else entries.permute(2, 0, 1)


def _gaussian(samples: int, n: int, generator: torch.Generator) -> Tensor:
    entries = _empty(samples, n, generator, torch.float32)
    return _square(entries.normal_(generator=generator), n)


def _uniform(samples: int, n: int, generator: torch.Generator) -> Tensor:
    entries = _empty(samples, n, generator, torch.float32)
    return _square(2 * entries.uniform_(generator=generator) - 1, n) * 3**0.5


def _rademacher(samples: int, n: int, generator: torch.Generator) -> Tensor:
    entries = _empty(samples, n, generator, torch.float32)
    return _square(2 * entries.random_(2, generator=generator) - 1, n)


def _orthogonal(samples: int, n: int, generator: torch.Generator) -> Tensor:
    """Haar: Q of a Gaussian's QR with the signs of R's diagonal (Mezzadri 2007, eq. 5.12)."""
    gaussian = _gaussian(samples, n, generator).to(torch.float64)
    q, r = torch.linalg.qr(gaussian)
    signs = torch.sgn(torch.diagonal(r, dim1=-2, dim2=-1))
    haar: Tensor = q * signs.unsqueeze(-2)
    return haar.to(torch.float32)


def _complex_gaussian(samples: int, n: int, generator: torch.Generator) -> Tensor:
    entries = _empty(samples, n, generator, torch.complex64)
    return _square(entries.normal_(generator=generator), n)


_ENTRIES = (
    Ensemble("gaussian", _gaussian),
    Ensemble("uniform", _uniform, excess=-1.2),
    Ensemble("rademacher", _rademacher, excess=-2.0, singular=True),
    Ensemble("orthogonal", _orthogonal),
    Ensemble("complex_gaussian", _complex_gaussian, complex=True),
)

ENSEMBLES = {entry.name: entry for entry in _ENTRIES}
