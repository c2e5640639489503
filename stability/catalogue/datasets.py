"""Datasets: small, real, and found on the disk of every installation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

HELD_OUT = 5
"""Every fifth sample, from the first, is for testing: the same for every run."""


@dataclass(frozen=True)
class Dataset:
    """A classification problem of N samples with d features.

    ``inputs``: (N, d), of mean 0 and variance 1 over all entries; ``labels``: (N,) int64, from 0 to
    ``classes - 1``; ``train`` and ``test``: int64 indices that part the samples.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    classes: int
    train: Tensor
    test: Tensor


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


DATASETS: dict[str, Callable[[], tuple[Array, Array]]] = {"digits": _digits}
"""Raw features (N, d) and labels (N,) by name.

``digits``: 1797 handwritten digits of 8x8 pixels with 17 grey levels, from 43 people (Alpaydin &
Kaynak 1998, UCI repository; the copy inside scikit-learn).
"""


def load(name: str, dtype: torch.dtype, device: str | torch.device = "cpu") -> Dataset:
    """The dataset ``name`` on ``device``, standardised in float64, then rounded to ``dtype``.

    Raises KeyError if there is no such dataset.
    """
    raw, labels = DATASETS[name]()
    values = np.asarray(raw, np.float64)
    values = (values - values.mean()) / values.std()
    index = torch.arange(len(values), device=device)
    return Dataset(
        name,
        torch.tensor(values, dtype=dtype, device=device),
        torch.tensor(np.asarray(labels, np.int64), device=device),
        int(labels.max()) + 1,
        index[index % HELD_OUT != 0],
        index[index % HELD_OUT == 0],
    )
