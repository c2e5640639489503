"""Every initialization's scale and every law's draws, to their moments and symmetries."""

import math
from typing import get_args

import pytest
import torch
from scipy import stats

from stability.catalogue.initializations import INITIALIZATIONS, Law, draw_unit

LAWS: tuple[Law, ...] = get_args(Law)


def variance(name: str, fan_in: int, fan_out: int) -> float:
    """As the papers print them."""
    return {
        "normal": 1e-4,
        "xavier": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
        "orthogonal": 1 / max(fan_in, fan_out),
        "uniform_third": 1 / (3 * fan_in),
    }[name if name == "uniform_third" else name.removesuffix("_uniform")]


QUANTILE = float(stats.norm.isf(1e-7))
"""False alarm rate of a two-sided test at it: 2e-7, over at most 12 tests 2.4e-6."""


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", INITIALIZATIONS)
@pytest.mark.parametrize(("fan_in", "fan_out"), [(100, 400), (400, 100), (7, 7), (1, 3)])
def test_scale_is_the_papers(name: str, fan_in: int, fan_out: int) -> None:
    scheme = INITIALIZATIONS[name]
    assert scheme.name == name
    assert scheme.std(fan_in, fan_out) ** 2 == pytest.approx(
        variance(name, fan_in, fan_out), rel=1e-14
    )


@pytest.mark.parametrize("name", INITIALIZATIONS)
def test_law_is_what_the_name_says(name: str) -> None:
    law = INITIALIZATIONS[name].law
    assert law == ("orthogonal" if name == "orthogonal" else "uniform" if "uniform" in name
                   else "gaussian")  # fmt: skip


def test_uniform_third_is_the_heuristic_of_glorot_and_bengio() -> None:
    """U(+-1 / sqrt(n)), their eq. 1: the bound is sqrt(3) standard deviations."""
    bound = math.sqrt(3) * INITIALIZATIONS["uniform_third"].std(256, 10)
    assert bound == pytest.approx(1 / 16, rel=1e-14)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [(211, 307), (307, 211), (5, 1), (1, 5), (1, 1)])
def test_draws_are_float32_of_that_shape_and_mean_square_one(
    law: Law, shape: tuple[int, int]
) -> None:
    z = draw_unit(law, shape, generator())
    assert (z.dtype, tuple(z.shape)) == (torch.float32, shape)
    assert torch.equal(z, draw_unit(law, shape, generator()))
    assert not torch.equal(z, draw_unit(law, shape, generator(4))) or law == "orthogonal"
    size, square = z.numel(), z.to(torch.float64).square().mean().item()
    if law == "orthogonal":
        assert square == pytest.approx(1, rel=2**-22)
    else:
        fourth = {"gaussian": 3.0, "uniform": 9 / 5}[law]
        # Of 5 numbers the mean square is far from Gaussian: its own law allows up to 20.
        slack = QUANTILE * math.sqrt((fourth - 1) / size) if size > 100 else 20
        assert abs(square - 1) < slack


@pytest.mark.parametrize("law", LAWS)
def test_entries_have_mean_zero_and_the_laws_fourth_moment(law: Law) -> None:
    """A square orthogonal matrix' entry has E q^4 n^2 = 3 n / (n + 2)."""
    n = 64
    draws = torch.stack([draw_unit(law, (n, n), generator(s)) for s in range(40)])
    x = draws.to(torch.float64)
    fourth = {"gaussian": 3.0, "uniform": 9 / 5, "orthogonal": 3 * n / (n + 2)}[law]
    eighth = {"gaussian": 105.0, "uniform": 9.0, "orthogonal": 105.0}[law]
    assert abs(x.mean().item()) < QUANTILE / math.sqrt(x.numel())
    error = math.sqrt((eighth - fourth**2) / x.numel())
    assert abs(x.pow(4).mean().item() - fourth) < QUANTILE * error


def test_uniform_draws_fill_their_interval() -> None:
    z = draw_unit("uniform", (300, 300), generator()).abs()
    assert z.max() <= math.sqrt(3) * (1 + 2**-23)
    assert z.max() > math.sqrt(3) * (1 - QUANTILE**2 / z.numel())


@pytest.mark.parametrize("shape", [(13, 29), (29, 13), (17, 17)])
def test_orthogonal_draws_keep_lengths(shape: tuple[int, int]) -> None:
    """Rows or columns, whichever are fewer, are orthogonal, to the rounding of float32."""
    z = draw_unit("orthogonal", shape, generator()).to(torch.float64)
    short, long = min(shape), max(shape)
    gram = z @ z.T if shape[0] <= shape[1] else z.T @ z
    torch.testing.assert_close(gram / long, torch.eye(short, dtype=torch.float64), rtol=0,
                               atol=long * 2.0**-23)  # fmt: skip


def test_orthogonal_draws_are_haar() -> None:
    """QR alone leaves entry (0, 0) negative always: its mean over 400 draws is then far from 0."""
    corner = torch.stack(
        [draw_unit("orthogonal", (3, 3), generator(s))[0, 0] for s in range(400)]
    ).to(torch.float64)
    assert abs(corner.mean().item()) < QUANTILE / math.sqrt(400)
    raw = torch.linalg.qr(torch.randn(3, 3, generator=generator())).Q[0, 0]
    assert raw < 0
