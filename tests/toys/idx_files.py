"""Writes IDX files, independently of the reader."""

import gzip
import struct
from pathlib import Path

import numpy as np

FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]  # fmt: skip


def idx(array: np.ndarray, code: int = 8) -> bytes:
    """An IDX file of ``array``'s bytes."""
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def arrays(seed: int = 0, train: int = 40, test: int = 11) -> list[np.ndarray]:
    """Images of 3 x 5 pixels with a trace of their label, and labels of 3 classes; in order."""
    rng = np.random.default_rng(seed)
    found = []
    for count in (train, test):
        labels = np.arange(count) % 3
        images = rng.integers(0, 200, (count, 3, 5))
        images[:, 0, 0] = 100 * labels
        found += [images.astype(np.uint8), labels.astype(np.uint8)]
    return found


def write(folder: Path, contents: list[np.ndarray], *, packed: bool = False) -> None:
    """The four files of ``contents`` in ``folder``, plain or gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, contents, strict=True):
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
        else:
            (folder / name).write_bytes(idx(array))
