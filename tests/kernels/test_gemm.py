"""Either library's products, and the rule that chooses."""

import numpy as np
import pytest
import torch

from stability.kernels import gemm


@pytest.fixture(params=["torch", "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setattr(gemm, "library", lambda: name)
    return name


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [63, 64, 101])
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_products_err_by_less_than_full_precision_allows(
    n: int, dtype: torch.dtype, scale: float
) -> None:
    """|c - a b| <= gamma_n |a| |b| (Higham 2002, eq. 3.13): TF32 or bfloat16 would break it."""
    g = torch.Generator().manual_seed(n)
    a, b = (scale * torch.randn(2, 3, n, n, generator=g, dtype=dtype) for _ in range(2))
    # The reference in float64 or, for that, in the long double of the machine.
    wide = np.longdouble
    unit = torch.finfo(dtype).eps / 2
    for right in (b, b.mT, a.mT):
        out = torch.empty_like(a)
        found = gemm.matmul(a, right, out=out)
        assert found.data_ptr() == out.data_ptr()
        assert torch.equal(found, gemm.matmul(a, right))
        exact = np.matmul(a.numpy().astype(wide), right.numpy().astype(wide))
        size = np.matmul(a.abs().numpy().astype(wide), right.abs().numpy().astype(wide))
        allowed = n * unit / (1 - n * unit) * size
        assert (np.abs(found.numpy() - exact) <= allowed).all()


@pytest.mark.usefixtures("library")
def test_overflow_shows_in_the_result_alone() -> None:
    big = torch.full((1, 64, 64), 1e30)
    assert bool((gemm.matmul(big, big) == torch.inf).all())
    assert bool(torch.isnan(gemm.matmul(big * big, 0 * big)).all())


@pytest.mark.usefixtures("library")
def test_what_numpy_is_not_asked_for_is_torchs() -> None:
    for dtype in (torch.complex64, torch.bfloat16):
        a = torch.ones(1, 64, 64, dtype=dtype)
        product = gemm.matmul(a, a)
        assert product.dtype == dtype
        assert bool((product == 64).all())


@pytest.mark.parametrize(
    ("vendor", "blas", "mkl", "chosen"),
    [
        ("AuthenticAMD", "scipy-openblas", True, "numpy"),
        ("GenuineIntel", "scipy-openblas", True, "torch"),
        ("AuthenticAMD", "mkl-dynamic-lp64-seq", True, "torch"),
        ("AuthenticAMD", "scipy-openblas", False, "torch"),
        ("", "", True, "torch"),
    ],
)
def test_numpy_multiplies_where_mkl_is_held_back(
    vendor: str, blas: str, mkl: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    config = {"Build Dependencies": {"blas": {"name": blas}}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)  # noqa: ARG005
    gemm.library.cache_clear()
    try:
        assert gemm.library() == chosen
    finally:
        gemm.library.cache_clear()
