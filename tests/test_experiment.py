from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.experiment import Context, stream


def test_streams_are_named_by_value() -> None:
    assert stream(0, "w", 64, 0.5) == stream(0, "w", np.int64(64), np.float64(0.5))
    names: list[tuple[Any, ...]] = [
        (0, "w", 64),
        (1, "w", 64),
        (0, "w", 65),
        (0, "v", 64),
        (0, "w", 64.0),
        (0, "w", "64"),
        (0, "w6", 4),
        (0, "w", 6, 4),
        (0, "w", True),
        (0, "w", 1),
    ]
    assert len({stream(seed, *key) for seed, *key in names}) == len(names)


def test_streams_are_the_same_in_every_process() -> None:
    # sha256sum of "(0, 'w', 64)", its first eight bytes as a little-endian integer, halved.
    assert stream(0, "w", 64) == 1719617344994154923


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 1000), st.floats(allow_nan=False))
def test_a_generator_repeats_its_draws(seed: int, width: int, sigma: float) -> None:
    one, two = (Context(seed).generator("w", width, sigma) for _ in range(2))
    assert torch.equal(torch.randn(5, generator=one), torch.randn(5, generator=two))
    a, b = (Context(seed).numpy("w", width, sigma).random(5) for _ in range(2))
    assert (a == b).all()


def test_neighbouring_streams_are_uncorrelated() -> None:
    """400 pairs of 1000 draws: |mean correlation| below 5 / sqrt(400 * 1000), P = 6e-7."""
    draws = torch.stack(
        [
            torch.randn(1000, generator=Context(s).generator("w", k))
            for s in (0, 1)
            for k in range(201)
        ]
    )
    products = (draws[1:] * draws[:-1]).mean(dim=1)
    assert abs(products.mean().item()) < 5 / (401 * 1000) ** 0.5


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(RuntimeError):
        Context(0, "nonsense").generator("w")
