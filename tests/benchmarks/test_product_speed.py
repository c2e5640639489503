"""Products of random matrices: growth at every factor, and the Lyapunov spectrum."""

import math

import numpy as np
import peers
import pytest
import torch
from measuring import Versus, torch_dtype
from torch import Tensor

from stability.catalogue.ensembles import ENSEMBLES
from stability.kernels.products import Growth, QRProduct, ScaledProduct

LENGTH, CHUNK = 100, 16
BLOCKS = {2: 4096, 4: 4096, 8: 1024, 16: 256, 64: 16, 256: 2}
"""Samples side by side: 2^14 to 2^17 entries, which the caches hold."""
draw = ENSEMBLES["gaussian"].draw


def growth(n: int, length: int, samples: int, dtype: torch.dtype, device: str) -> Tensor:
    """log2 of the norm and of the first column's, (2, length, samples)."""
    generator = torch.Generator(device).manual_seed(0)
    parts = []
    for factor in range(length):
        matrix = draw(samples, n, generator).to(dtype)
        if factor == 0:
            product = Growth(ScaledProduct(samples, n, matrix))
        product.update(matrix)
        if factor % CHUNK == CHUNK - 1 or factor == length - 1:
            parts.append(product.take())
    return torch.cat(parts, dim=1)


def assert_same_law(ours: Tensor, naive: list[list[float]]) -> None:
    """Means of the log norm after 10 factors, where no format overflows, in standard errors."""
    mine = ours[0, 9].cpu().numpy()
    theirs = np.log2([norms[9] for norms in naive])
    assert bool(torch.isfinite(ours).all())
    error = math.hypot(*(x.std() / math.sqrt(len(x)) for x in (mine, theirs)))
    assert abs(mine.mean() - theirs.mean()) <= 6 * error + 1e-2


@pytest.mark.parametrize("n", [16, 2, 4, 8, 64, 256])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_growth(versus: Versus, n: int, dtype: str, device: str) -> None:
    """The chapter's loop overflows float32 from n = 16 on; ours never."""
    samples, kind = BLOCKS[n], torch_dtype(dtype)
    length = LENGTH if n < 256 else 20
    versus(
        lambda: growth(n, length, samples, kind, device),
        lambda: [peers.chapter_product(n, length, kind) for _ in range(samples)],
        check=assert_same_law,
        dtype=dtype,
        device=device,
        flop=2 * n**3 * length * samples,
        rounds=9,
    )


def spectrum(n: int, length: int, samples: int, device: str) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    for factor in range(length):
        matrix = draw(samples, n, generator)
        if factor == 0:
            product = QRProduct(samples, n, matrix, triangle=False)
        product.update(matrix)
    return product.logs() / length


def assert_same_spectrum(ours: Tensor, naive: list[np.ndarray]) -> None:
    mine, theirs = ours.cpu().numpy(), np.array(naive)
    errors = np.hypot(*(x.std(axis=0) / math.sqrt(len(x)) for x in (mine, theirs)))
    assert (np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) <= 8 * errors + 0.02).all()


@pytest.mark.parametrize("n", [16, 4, 64, 256])
def test_spectrum(versus: Versus, n: int, device: str) -> None:
    """QR every fourth factor beside numpy's after every one."""
    samples, length = {4: 1024, 16: 256, 64: 16, 256: 2}[n], LENGTH if n < 256 else 20
    versus(
        lambda: spectrum(n, length, samples, device),
        lambda: [
            peers.numpy_spectrum(n, length, np.random.default_rng(seed)) for seed in range(samples)
        ],
        check=assert_same_spectrum if n < 256 else None,
        dtype="float64",
        device=device,
        # A product a factor, and a QR with its Q, 8/3 n^3, every fourth.
        flop=(2 + 2 / 3) * n**3 * length * samples,
        rounds=9,
    )
