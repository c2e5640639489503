"""Checks of numbers handed to the theory: float64 arrays, or a ValueError that names them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[np.float64]]


def nonnegative(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` unless finite and at least 0."""
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(f"{name}={value!r}: must be finite and at least 0")
    return array


def correlation(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` unless in [-1, 1]."""
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.abs(array) <= 1):
        raise ValueError(f"{name}={value!r}: must lie in [-1, 1]")
    return array
