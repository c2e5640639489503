"""Bytes kept and alive, on graphs small enough to count by hand."""

import gc

import pytest
import torch

from stability.kernels.memory import Kept, Live

N = 16
BYTES = 8 * N


def leaf(seed: float = 1.0) -> torch.Tensor:
    return torch.full((N,), seed, dtype=torch.float64, requires_grad=True)


def test_what_the_backward_pass_needs_is_kept_until_it_is_used() -> None:
    x = leaf()
    kept = Kept([x])
    with kept:
        y = torch.tanh(x).exp().sum()
        assert kept.bytes == 2 * BYTES
        y.backward()
    assert (kept.bytes, kept.peak) == (0, 2 * BYTES)


def test_views_and_repeats_count_once_and_known_tensors_never() -> None:
    x = leaf()
    kept = Kept([x])
    with kept:
        h = torch.exp(x)
        y = (h * h.view(4, 4).T.reshape(-1).view(N) + h.view(N) * x).sum()
        assert kept.bytes == 2 * BYTES  # h, and the copy that reshape made
    del y, h
    assert kept.bytes == 0


def test_nothing_is_kept_without_a_gradient() -> None:
    kept = Kept([])
    with kept, torch.no_grad():
        torch.tanh(leaf()).exp()
    assert kept.peak == 0


@pytest.mark.parametrize("steps", [1, 5])
def test_only_what_lives_together_adds_up(steps: int) -> None:
    x = torch.ones(N, dtype=torch.float64)
    live = Live([x])
    gc.disable()
    try:
        with live:
            h = x
            for _ in range(steps):
                h = torch.tanh(h.exp())
    finally:
        gc.enable()
    assert live.peak == (2 if steps == 1 else 3) * BYTES


def test_views_and_work_in_place_make_nothing() -> None:
    x = torch.ones(N, dtype=torch.float64)
    live = Live([x])
    with live:
        x.view(4, 4).T.add_(1.0)
    assert live.peak == 0
