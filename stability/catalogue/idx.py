"""Images and labels in the IDX format of MNIST and its kin, read from a folder of four files.

A file is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
32-bit integer, then the values (LeCun, Cortes & Burges 1998); plain, or compressed with gzip.
"""

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from stability.errors import InputError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
UNSIGNED_BYTES = 0x08
TYPES = {
    0x09: "signed bytes", 0x0B: "16-bit integers", 0x0C: "32-bit integers",
    0x0D: "32-bit floats", 0x0E: "64-bit floats",
}  # fmt: skip
_GZIP = b"\x1f\x8b"
_CHUNK = 2**20


@dataclass(frozen=True)
class Images:
    """A classification problem as it lies on disk: images (N, height, width), labels (N,)."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes

    @property
    def digest(self) -> str:
        """SHA-256 of shapes and values: the same for the same content, compressed or plain."""
        total = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            total.update(f"{array.shape}\0".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()


def read_folder(folder: Path) -> Images:
    """The four files of ``folder``, each plain or with the ending .gz.

    Raises InputError, naming the file, if one is missing or damaged or they contradict each other.
    """
    if not folder.is_dir():
        raise InputError("no such folder")
    paths = [_find(folder, name) for name in FILES]
    arrays = [read(path, 3 if "images" in path.name else 1) for path in paths]
    for at in (0, 2):
        if len(arrays[at]) != len(arrays[at + 1]):
            raise InputError(
                f"{paths[at].name} has {len(arrays[at])} images, but {paths[at + 1].name} has "
                f"{len(arrays[at + 1])} labels"
            )
    sizes = [array.shape[1:] for array in arrays[::2]]
    if sizes[0] != sizes[1]:
        raise InputError(f"{paths[2].name} has images of {sizes[1]}, {paths[0].name} of {sizes[0]}")
    if arrays[0].min() == arrays[0].max():
        raise InputError(f"{paths[0].name}: all pixels are equal")
    if arrays[1].max() == 0:
        raise InputError(f"{paths[1].name}: all labels are 0, must be of two classes or more")
    if arrays[3].max() > arrays[1].max():
        raise InputError(f"{paths[3].name}: label {arrays[3].max()} is not in {paths[1].name}")
    return Images(*arrays)


def read(path: Path, dimensions: int) -> Bytes:
    """The array of unsigned bytes in the IDX file ``path``, plain or gzip.  Raises InputError."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            return _parse(gzip.GzipFile(fileobj=raw) if packed else raw, path.name, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name}: damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path.name}: can't be read: {error.strerror or error}") from None


def _find(folder: Path, name: str) -> Path:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not found:
        raise InputError(f"has no file {name} or {name}.gz")
    if len(found) > 1:
        raise InputError(f"has both {name} and {name}.gz: must have one")
    return found[0]


def _parse(file: IO[bytes] | gzip.GzipFile, name: str, dimensions: int) -> Bytes:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise InputError(f"{name}: not an IDX file: starts with {head.hex() or 'nothing'}, must "
                         f"start with 0000{UNSIGNED_BYTES:02x}{dimensions:02x}")  # fmt: skip
    code, count = head[2], head[3]
    if code != UNSIGNED_BYTES:
        kind = TYPES.get(code, "unknown")
        raise InputError(f"{name}: type code 0x{code:02x} ({kind}): must be 0x08, unsigned bytes")
    if count != dimensions:
        raise InputError(f"{name}: has {count} dimensions, must have {dimensions}")
    sizes = file.read(4 * count)
    if len(sizes) < 4 * count:
        raise InputError(f"{name}: ends within its header")
    shape = struct.unpack(f">{count}I", sizes)
    if 0 in shape:
        raise InputError(f"{name}: announces the shape {shape}: must not be empty")
    # In pieces: neither a header that lies nor a small file that unpacks without end fills memory.
    announced, values = math.prod(shape), bytearray()
    while len(values) <= announced:
        piece = file.read(min(_CHUNK, announced + 1 - len(values)))
        if not piece:
            break
        values += piece
    if len(values) < announced:
        raise InputError(f"{name}: has {len(values)} values, its header announces {announced}")
    if len(values) > announced:
        raise InputError(f"{name}: goes on after the {announced} values that its header announces")
    return np.frombuffer(bytes(values), np.uint8).reshape(shape)
