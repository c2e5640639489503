"""Checks of numbers handed to the theory: float64 arrays, or a ValueError that names them."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[np.float64]]


def whole(name: str, value: float, least: int = 1) -> None:
    """ValueError naming ``name`` unless ``value`` is a whole number of at least ``least``."""
    if not (least <= value < math.inf and value == int(value)):
        raise ValueError(f"{name}={value!r}: must be a whole number, at least {least}")


def positive(name: str, value: float) -> None:
    """ValueError naming ``name`` unless ``value`` is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: must be finite and above 0")


def finite(name: str, value: float) -> None:
    """ValueError naming ``name`` unless ``value`` is finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: must be finite")


def numbers(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` if any is nan."""
    array = np.asarray(value, dtype=np.float64)
    if np.isnan(array).any():
        raise ValueError(f"{name}={value!r}: must not be nan")
    return array


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
