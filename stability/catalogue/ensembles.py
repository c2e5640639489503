"""Ensembles of random square matrices: how a batch of independent factors is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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


def _gaussian(samples: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randn((samples, n, n), generator=generator, device=generator.device)


def _uniform(samples: int, n: int, generator: torch.Generator) -> Tensor:
    unit = torch.rand((samples, n, n), generator=generator, device=generator.device)
    return (2 * unit - 1) * 3**0.5


def _rademacher(samples: int, n: int, generator: torch.Generator) -> Tensor:
    bits = torch.randint(2, (samples, n, n), generator=generator, device=generator.device)
    return 2.0 * bits.to(torch.float32) - 1.0


def _orthogonal(samples: int, n: int, generator: torch.Generator) -> Tensor:
    """Haar: Q of a Gaussian's QR with the signs of R's diagonal (Mezzadri 2007, eq. 5.12)."""
    gaussian = _gaussian(samples, n, generator).to(torch.float64)
    q, r = torch.linalg.qr(gaussian)
    signs = torch.sgn(torch.diagonal(r, dim1=-2, dim2=-1))
    haar: Tensor = q * signs.unsqueeze(-2)
    return haar.to(torch.float32)


def _complex_gaussian(samples: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(
        (samples, n, n), generator=generator, device=generator.device, dtype=torch.complex64
    )


_ENTRIES = (
    Ensemble("gaussian", _gaussian),
    Ensemble("uniform", _uniform, excess=-1.2),
    Ensemble("rademacher", _rademacher, excess=-2.0, singular=True),
    Ensemble("orthogonal", _orthogonal),
    Ensemble("complex_gaussian", _complex_gaussian, complex=True),
)

ENSEMBLES = {entry.name: entry for entry in _ENTRIES}
