"""The machine's own limits, against which all other benchmarks are read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from measuring import Alone, torch_dtype
from torch import Tensor

ROUNDOFF = {"float64": 2**-53, "float32": 2**-24, "tf32": 2**-11, "bfloat16": 2**-8,
            "float16": 2**-11}  # fmt: skip
NORMALS = 2**16


def assert_product(a: Tensor, b: Tensor, c: Tensor, dtype: str) -> None:
    """``c`` is a b up to rounding: |c - a b| <= (n + 3) u |a| |b| (Higham 2002, eq. 3.13).

    Three roundings more than in the book: of both factors and of the result.
    """
    exact_a, exact_b = a.double(), b.double()
    allowed = (a.shape[-1] + 3) * ROUNDOFF[dtype] * (exact_a.abs() @ exact_b.abs())
    assert bool(((c.double() - exact_a @ exact_b).abs() <= allowed).all())


def square(n: int, dtype: str, device: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n, generator=generator).to(device, torch_dtype(dtype))


@pytest.mark.parametrize("n", [64, 256, 1024, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "tf32"])
def test_gemm(alone: Alone, n: int, dtype: str, device: str, threads: int) -> None:
    if device == "cpu" and dtype == "tf32":
        pytest.skip("TF32 is a format of NVIDIA's GPUs")
    if device == "cpu" and n > 1024:
        pytest.skip("a second a product and more: 1024 already reaches the CPU's limit")
    if device == "cpu" and dtype == "float16" and n > 256:
        pytest.skip("torch has no fast float16 product on CPU: seconds a product")
    if device == "cuda" and threads > 1:
        pytest.skip("a GPU's work doesn't depend on the threads of the CPU")
    multiply(alone, n, dtype, device, threads)


@pytest.mark.parametrize("n", [1024, 1025, 1026, 1028, 1032])
@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_alignment(alone: Alone, n: int, dtype: str, device: str) -> None:
    """Does a size that is no multiple of the vector's or tile's width cost time?"""
    if device == "cpu" and dtype == "tf32":
        pytest.skip("TF32 is a format of NVIDIA's GPUs")
    multiply(alone, n, dtype, device, 1)


def multiply(alone: Alone, n: int, dtype: str, device: str, threads: int) -> None:
    a, b = square(n, dtype, device, 0), square(n, dtype, device, 1)
    alone(
        lambda: a @ b,
        check=lambda c: assert_product(a, b, c, dtype),
        dtype=dtype,
        device=device,
        threads=threads,
        flop=2 * n**3,
        bytes_=3 * n * n * a.element_size(),
    )


@pytest.mark.parametrize("kind", ["PCG64", "SFC64", "Philox", "MT19937"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_normals(alone: Alone, benchmark: Any, dtype: str, kind: str) -> None:
    bits: Callable[[int], Any] = getattr(np.random, kind)
    generator = np.random.Generator(bits(0))
    out = np.empty(NORMALS, dtype=dtype)
    draw: Any = generator.standard_normal
    alone(lambda: draw(dtype=dtype, out=out), check=assert_normal, dtype=dtype, bytes_=out.nbytes)
    tell_rate(benchmark)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_normals(alone: Alone, benchmark: Any, dtype: str, device: str) -> None:
    generator = torch.Generator(device).manual_seed(0)
    out = torch.empty(NORMALS, dtype=torch_dtype(dtype), device=device)
    alone(
        lambda: out.normal_(generator=generator),
        check=lambda x: assert_normal(x.cpu().numpy()),
        dtype=dtype,
        device=device,
        bytes_=NORMALS * out.element_size(),
    )
    tell_rate(benchmark)


def tell_rate(benchmark: Any) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["numbers_per_s"] = NORMALS / benchmark.stats.stats.median


def assert_normal(x: Any) -> None:
    """Mean and mean square within 6 standard errors: a false alarm in 2.5e8 draws."""
    wide = np.asarray(x, dtype=np.float64)
    assert abs(wide.mean()) < 6 / np.sqrt(NORMALS)
    assert abs((wide**2).mean() - 1) < 6 * np.sqrt(2 / NORMALS)


@pytest.mark.parametrize("log2_n", [10, 15, 20, 24])
def test_triad(alone: Alone, log2_n: int, device: str, threads: int) -> None:
    """a = b + s c in float64: from the first cache out to the memory."""
    if device == "cuda" and threads > 1:
        pytest.skip("a GPU's work doesn't depend on the threads of the CPU")
    n = 2**log2_n
    b, c = (torch.full((n,), x, dtype=torch.float64, device=device) for x in (1.0, 2.0))
    a = torch.empty_like(b)

    def check(result: Tensor) -> None:
        assert bool((result == 7).all())

    alone(
        lambda: torch.add(b, c, alpha=3.0, out=a),
        check=check,
        dtype="float64",
        device=device,
        threads=threads,
        flop=2 * n,
        bytes_=24 * n,
    )


def test_call(alone: Alone, device: str) -> None:
    """What one small call costs, whatever it computes: dispatch, and on a GPU the launch."""
    x = torch.zeros(1, device=device)

    def check(result: Tensor) -> None:
        assert result.item() == 1.0

    alone(lambda: x + 1, check=check, dtype="float32", device=device)
