"""The machine's own limits: products of square matrices by dtype, size, threads and device."""

import pytest
import torch
from measuring import Alone, torch_dtype


@pytest.mark.parametrize("n", [64, 256])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gemm(alone: Alone, n: int, dtype: str) -> None:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(torch_dtype(dtype))
    alone(lambda: a @ a, dtype=dtype, flop=2 * n**3, bytes_=3 * n * n * a.element_size())
