"""The manual passes against autograd and against arithmetic that cannot underflow."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from stability.catalogue.activations import ACTIVATIONS
from stability.kernels.signal import Cell, Gradients, Signals, Workspace, propagate

NAMES = list(ACTIVATIONS)
SAMPLES, WIDTH, DEPTH = 2, 7, 5
BATCHES = [4, 10]
"""Gram matrices serve below the width, outer products from there on."""
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
    ),
]


def cell(name: str, std: float, bias: float = 0.0, homogeneous: bool | None = None) -> Cell:
    entry = ACTIVATIONS[name]
    shared = entry.homogeneous if homogeneous is None else homogeneous
    return Cell(entry.forward, entry.derivative, std, bias, shared)


def draws(depth: int = DEPTH, batch: int = 4) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(SAMPLES, *shape, generator=g, dtype=torch.float64)

    x, top = normal(batch, WIDTH), normal(batch, WIDTH)
    weights = [normal(WIDTH, WIDTH) for _ in range(depth)]
    return x, weights, [normal(WIDTH) for _ in range(depth)], top


def passes(
    cells: Sequence[Cell], depths: Sequence[int] = (DEPTH,), batch: int = 4, **options: Any
) -> tuple[Signals, dict[int, Gradients]]:
    workspace, dtype = options.get("workspace"), options.get("dtype", torch.float64)
    device = options.get("device", "cpu")
    x, weights, biases, top = draws(max(depths), batch)
    return propagate(
        x.to(device, dtype),
        [w.to(device, dtype) for w in weights],
        [b.to(device, dtype) for b in biases],
        cells,
        dict.fromkeys(depths, top.to(device, dtype)),
        workspace,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_every_statistic_agrees_with_autograd(batch: int, bias: float, device: str) -> None:
    std = [0.2 + 0.05 * i for i in range(len(NAMES))]
    cells = [cell(name, std[c], bias * std[c]) for c, name in enumerate(NAMES)]
    signals, gradients = passes(cells, (1, 3, DEPTH), batch, device=device)
    x, weights, biases, top = draws(batch=batch)
    # Each layer rounds (WIDTH + 3) times; the activations' derivatives keep 13 digits.
    error = 1e-11
    for s in range(SAMPLES):
        for c, name in enumerate(NAMES):
            for depth, found in gradients.items():
                scaled = [(std[c] * w[s]).requires_grad_() for w in weights[:depth]]
                states = [x[s]]
                for layer, (w, b) in enumerate(zip(scaled, biases, strict=False)):
                    z = states[-1] @ w + bias * std[c] * b[s]
                    state = ACTIVATIONS[name].forward(z)
                    state.retain_grad()
                    states.append(state)
                    for rows, part in ((signals.log2_z, z), (signals.log2_h, state)):
                        rms = math.log2(part.detach().square().mean()) / 2
                        assert rows[layer, s, c].item() == pytest.approx(rms, abs=error)
                    cosine = torch.cosine_similarity(z[0::2], z[1::2], dim=-1).mean().item()
                    assert signals.cosine[layer, s, c].item() == pytest.approx(cosine, abs=error)
                (states[-1] * top[s]).sum().backward()
                for layer in range(depth):
                    for measured, grad in (
                        (found.log2_h, states[layer + 1].grad),
                        (found.log2_w, scaled[layer].grad),
                    ):
                        assert grad is not None
                        log = math.log2(grad.norm())
                        assert measured[layer, s, c].item() == pytest.approx(log, abs=error)


@pytest.mark.parametrize("homogeneous", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
def test_hundreds_of_lost_decades_are_a_number_beside_what_float32_stores(
    batch: int, homogeneous: bool
) -> None:
    """std 1e-9 a layer, linear: the log of each norm is exactly that of the same net at std 1."""
    depth = 30
    one, tiny = (
        passes([cell("linear", std, 0.0, homogeneous)], (depth,), batch) for std in (1.0, 1e-9)
    )
    layer = torch.arange(1, depth + 1).double()[:, None, None]
    step = math.log2(1e-9)
    # 30 layers of at most WIDTH + 3 roundings, and of logarithms near 1000.
    for name, times in (("log2_z", layer), ("log2_h", layer)):
        found = getattr(tiny[0], name) - getattr(one[0], name)
        assert torch.allclose(found, times * step, rtol=0, atol=1e-9)
    assert torch.allclose(tiny[0].cosine, one[0].cosine, rtol=0, atol=1e-9)
    ours, theirs = tiny[1][depth], one[1][depth]
    assert torch.allclose(ours.log2_h, theirs.log2_h + (depth - layer) * step, rtol=0, atol=1e-9)
    assert torch.allclose(ours.log2_w, theirs.log2_w + (depth - 1) * step, rtol=0, atol=1e-9)
    assert bool((ours.log2_h[0] < -800).all())
    assert bool((ours.plain_h[0] == -math.inf).all())
    torch.testing.assert_close(ours.plain_h[-1], ours.log2_h[-1], rtol=0, atol=1e-5)


def test_what_float32_stores_is_what_a_float32_norm_gives() -> None:
    """Down to where its squares, or itself, underflow, and up to where they overflow."""
    for std in (1e-9, 1e9):
        _, gradients = passes([cell("linear", std)], (8,))
        found = gradients[8]
        _, weights, _, top = draws(8)
        gradient = top
        for layer in range(8, 0, -1):
            norm = torch.linalg.vector_norm(gradient.float(), dim=(1, 2)).double().log2()
            measured = found.plain_h[layer - 1, :, 0]
            same = (measured == norm) | ((measured - norm).abs() < 1e-5)
            assert bool(same.all()), (std, layer, measured, norm)
            gradient = std * gradient @ weights[layer - 1].mT
        assert not torch.isfinite(found.plain_h).all()
        assert torch.isfinite(found.log2_h).all()


def test_float32_goes_as_far_as_float64_where_exponents_carry() -> None:
    cells = [cell("relu", std) for std in (1e-3, 0.1, 1e3)]
    single, double = (passes(cells, (40,), dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert double[0].log2_h.min() < -300
    assert double[0].log2_h.max() > 300
    for one, other in ((single[0], double[0]), (single[1][40], double[1][40])):
        for name in set(one._fields) - {"plain_h", "cosine"}:
            # 40 layers of sums of 28 squares, amplified where ReLUs leave few units.
            torch.testing.assert_close(
                getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-3
            )


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "linear"])
def test_cells_that_differ_in_scale_alone_share_a_run(name: str, batch: int) -> None:
    stds = [0.01, 0.3, 0.5, 2.0]
    together = passes([cell(name, std) for std in stds], (2, DEPTH), batch)
    for index, std in enumerate(stds):
        alone = passes([cell(name, std, 0.0, False)], (2, DEPTH), batch)
        pairs = [(together[0], alone[0]), *((together[1][d], alone[1][d]) for d in (2, DEPTH))]
        for one, other in pairs:
            for ours, theirs in zip(one, other, strict=True):
                atol = 1e-5 if ours is getattr(one, "plain_h", None) else 1e-12
                torch.testing.assert_close(ours[:, :, index], theirs[:, :, 0], rtol=0, atol=atol)


def test_a_biased_cell_beside_a_shared_run_and_any_order() -> None:
    mixed = [cell("relu", 0.5), cell("tanh", 0.4, 0.1), cell("relu", 2.0), cell("relu", 0.5, 0.2)]
    together = passes(mixed)
    for index, one in enumerate(mixed):
        alone = passes([one])
        for ours, theirs in zip(together[0], alone[0], strict=True):
            torch.testing.assert_close(ours[:, :, index], theirs[:, :, 0], rtol=0, atol=1e-12)
        for ours, theirs in zip(together[1][DEPTH][:2], alone[1][DEPTH][:2], strict=True):
            torch.testing.assert_close(ours[:, :, index], theirs[:, :, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
def test_depths_are_prefixes_and_memory_may_be_handed_on(batch: int) -> None:
    cells, workspace = [cell("tanh", 0.4), cell("relu", 0.5)], Workspace()
    whole = passes(cells, (3, DEPTH), batch, workspace=workspace)
    kept = [x.clone() for x in (*whole[0], *whole[1][3], *whole[1][DEPTH])]
    alone = passes(cells, (3,), batch, workspace=workspace)
    for before, after in zip(kept, (*whole[0], *whole[1][3], *whole[1][DEPTH]), strict=True):
        assert torch.equal(before, after)
    for ours, theirs in zip(whole[0], alone[0], strict=True):
        assert torch.equal(ours[:3], theirs)
    for ours, theirs in zip(whole[1][3], alone[1][3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_dead_nets_have_the_logarithm_minus_infinity() -> None:
    dead = Cell(torch.zeros_like, torch.zeros_like, 1.0)
    signals, gradients = passes([dead])
    assert bool((signals.log2_h == -math.inf).all())
    assert bool((gradients[DEPTH].log2_h[:-1] == -math.inf).all())
    assert bool((gradients[DEPTH].log2_w == -math.inf).all())
