"""Signal and gradient through a grid of nets in one pass beside a hooked net a configuration."""

import math
from collections.abc import Sequence
from typing import Any

import peers
import pytest
import torch
from measuring import Versus

from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS
from stability.kernels.signal import Cell, Gradients, Signals, Workspace, propagate

BATCH = 64
CASES = [(16, (200,), 8), (64, (10, 50, 100), 10), (256, (10, 50, 100), 2)]
GRID = [(activation, init) for activation in peers.ACTIVATIONS for init in peers.INITS]
Found = tuple[Signals, dict[int, Gradients]]


def fused(
    width: int, depths: Sequence[int], samples: int, device: str, workspace: Workspace
) -> Found:
    g = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(samples, *shape, generator=g, device=device)

    cells = []
    for activation, init in GRID:
        entry, std = ACTIVATIONS[activation], INITIALIZATIONS[init].std(width, width)
        cells.append(Cell(entry.forward, entry.derivative, std, 0.0, entry.homogeneous))
    weights = [normal(width, width) for _ in range(max(depths))]
    top = normal(BATCH, width)
    top /= torch.linalg.vector_norm(top, dim=(1, 2), keepdim=True)
    none = [torch.zeros(samples, width, device=device)] * max(depths)
    tops = dict.fromkeys(depths, top)
    return propagate(normal(BATCH, width), weights, none, cells, tops, workspace)


def hooked(width: int, depths: Sequence[int], samples: int) -> dict[tuple[Any, ...], Any]:
    return {
        (depth, index, sample): peers.hooked_net(width, depth, activation, init, BATCH)
        for depth in depths
        for index, (activation, init) in enumerate(GRID)
        for sample in range(samples)
    }


def assert_same_statistics(ours: Found, naive: dict[tuple[Any, ...], Any]) -> None:
    """The first layer's forward and the last one's backward statistics, which hardly fluctuate."""
    signals, gradients = ours
    for (depth, cell, sample), (forward, by_h, by_w) in naive.items():
        assert len(forward) == len(by_h) == len(by_w) == depth
        assert abs(signals.log2_z[0, sample, cell].item() - forward[0][0]) < 0.5
        assert abs(signals.log2_h[0, sample, cell].item() - forward[0][1]) < 0.5
        found = gradients[depth]
        assert abs(found.log2_h[-1, sample, cell].item()) < 1e-5
        assert abs(by_h[-1]) < 1e-5
        if math.isfinite(by_w[0]) and depth <= 10:
            assert abs(found.log2_w[0, sample, cell].item() - by_w[0]) < 3


def minimal_flop(width: int, depths: Sequence[int], samples: int) -> float:
    """2 B n^2 (deepest + sum of depths) and the weight gradients' norms by Gram matrices, where
    smaller; for every configuration."""
    product, gram = 2 * BATCH * width**2, 2 * BATCH**2 * width
    each = product * (max(depths) + sum(depths)) + min(product, gram) * sum(depths)
    return float(len(GRID) * samples * each)


@pytest.mark.parametrize(("width", "depths", "samples"), CASES)
def test_reference_grid(
    versus: Versus, width: int, depths: tuple[int, ...], samples: int, device: str
) -> None:
    """Both draw their weights; the fused pass draws them once for all configurations."""
    workspace = Workspace()
    versus(
        lambda: fused(width, depths, samples, device, workspace),
        lambda: hooked(width, depths, samples),
        check=assert_same_statistics,
        dtype="float32",
        device=device,
        flop=minimal_flop(width, depths, samples),
        rounds=9,
    )
