"""Datasets: one that every installation has, one that is downloaded once, and the user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.catalogue import fashion_mnist
from stability.catalogue.idx import Images, read_folder
from stability.errors import InputError

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


IMAGES = ("fashion_mnist", "idx")
"""Datasets of images with a split of their own: Fashion-MNIST, and four IDX files of a folder."""


def read_images(name: str, folder: str | None) -> Images:
    """The images of ``name``, one of ``IMAGES``; those of idx lie in ``folder``.

    Raises InputError if they can't be had.
    """
    if name == "fashion_mnist":
        return fashion_mnist.fetch()
    try:
        return read_folder(Path(str(folder)))
    except InputError as error:
        raise InputError(f"experiment.folder={folder!r}: {error}") from None


def from_images(
    name: str, images: Images, dtype: torch.dtype, device: str | torch.device = "cpu"
) -> Dataset:
    """Images as a dataset on ``device``, standardised as in ``load`` and split as they come."""
    parts = (images.train_images, images.test_images)
    counts = np.add.reduce([np.bincount(part.ravel(), minlength=256) for part in parts])
    levels = np.arange(256.0)
    mean = np.average(levels, weights=counts)
    std = np.sqrt(np.average((levels - mean) ** 2, weights=counts))
    level = torch.tensor((levels - mean) / std, dtype=dtype).numpy()
    inputs = np.concatenate([level[part].reshape(len(part), -1) for part in parts])
    labels = np.concatenate([images.train_labels, images.test_labels]).astype(np.int64)
    index = torch.arange(len(labels), device=device)
    split = len(images.train_labels)
    return Dataset(
        name,
        torch.from_numpy(inputs).to(device),
        torch.from_numpy(labels).to(device),
        int(labels.max()) + 1,
        index[:split],
        index[split:],
    )
