"""Checks of numbers handed to the theory: float64 arrays, or a ValueError that names them."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def whole(name: str, value: float, least: int = 1) -> None:
    """ValueError naming ``name`` unless ``value`` is a whole number of at least ``least``."""
    if not (least <= value < math.inf and value == int(value)):
        raise ValueError(f"{name}={value!r}: must be a whole number, at least {least}")


def wholes(name: str, value: ArrayLike, least: int = 1, *, fewest: int = 0) -> NDArray[np.int64]:
    """``value`` as int64; ValueError naming ``name`` unless whole numbers of at least ``least``.

    ``fewest``: how many there must be, along the first axis.
    """
    array = np.asarray(value, dtype=np.float64)
    if fewest and len(array) < fewest:
        raise ValueError(f"{name}={value!r}: must be {fewest} or more")
    if not np.all((array >= least) & (array < 2**63) & (array == np.floor(array))):
        raise ValueError(f"{name}={value!r}: must be whole numbers, at least {least}")
    return np.asarray(value).astype(np.int64)


def positive(name: str, value: float) -> None:
    """ValueError naming ``name`` unless ``value`` is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: must be finite and above 0")


def positives(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` unless finite and above 0."""
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(f"{name}={value!r}: must be finite and above 0")
    return array


def fraction(name: str, value: float) -> None:
    """ValueError naming ``name`` unless ``value`` lies in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name}={value!r}: must lie in (0, 1)")


def finite(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` unless finite."""
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}={value!r}: must be finite")
    return array


def matrix(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; ValueError naming ``name`` unless a finite matrix of some entries."""
    array = finite(name, value)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name}: must be a matrix, has shape {array.shape}")
    return array


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
