"""Products of batches of matrices by the faster of the two BLAS libraries that are there.

torch's MKL keeps AMD processors to AVX2, half of what their AVX-512 units do; numpy's OpenBLAS does
not.  Both accumulate in the operands' own precision, errors stay below n u |A| |B| (Higham 2002,
eq. 3.13), and which one runs depends on the machine and the sizes alone, never on a clock.
"""

import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ORDER = 64
"""The smallest inner dimension that is worth the way to numpy."""


@cache
def library() -> str:
    """``numpy`` on AMD processors where torch has MKL and numpy OpenBLAS, otherwise ``torch``."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("name", "")
    amd = torch.backends.mkl.is_available() and _vendor() == "AuthenticAMD"
    return "numpy" if amd and "openblas" in blas else "torch"


def _vendor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "AuthenticAMD" if "AuthenticAMD" in platform.processor() else ""
    return next((line.split(":")[1].strip() for line in lines if "vendor_id" in line), "")


def matmul(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """left @ right of (..., m, k) and (..., k, n) with the same batch axes, into ``out`` if given.

    Without autograd.
    """
    plain = left.device.type == "cpu" and left.dtype in (torch.float32, torch.float64)
    if not plain or left.shape[-1] < ORDER or library() == "torch":
        product: Tensor = torch.matmul(left, right, out=out)
        return product
    if out is None:
        out = left.new_empty((*left.shape[:-1], right.shape[-1]))
    # As torch's, overflow shows in the result alone.
    with np.errstate(all="ignore"):
        np.matmul(left.numpy(), right.numpy(), out=out.numpy())
    return out
