"""IDX files that these tests write: read as written, or refused in one line that names the file."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_files import FILES, arrays, idx, write

from stability.catalogue.idx import read, read_folder
from stability.errors import InputError


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_is_read_as_it_was_written(tmp_path: Path, packed: bool) -> None:
    contents = arrays()
    write(tmp_path, contents, packed=packed)
    images = read_folder(tmp_path)
    found = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    for ours, written in zip(found, contents, strict=True):
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, written)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    write(tmp_path / "plain", arrays())
    write(tmp_path / "packed", arrays(), packed=True)
    write(tmp_path / "other", arrays(seed=1))
    plain, packed, other = (
        read_folder(tmp_path / name).digest for name in ("plain", "packed", "other")
    )
    assert plain == packed != other
    changed = arrays()
    changed[3][-1] += 1
    changed[3][-1] %= 3
    write(tmp_path / "plain", changed)
    assert read_folder(tmp_path / "plain").digest != plain


def test_the_digest_sees_the_shape(tmp_path: Path) -> None:
    contents = arrays()
    write(tmp_path / "one", contents)
    turned = [array.reshape(-1, 5, 3) if array.ndim == 3 else array for array in contents]
    write(tmp_path / "other", turned)
    assert read_folder(tmp_path / "one").digest != read_folder(tmp_path / "other").digest


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 100),
    packed=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_any_array_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], seed: int, packed: bool
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    np.testing.assert_array_equal(read(path, len(shape)), array)


IMAGES = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
DAMAGED = {
    "empty": (b"", "not an IDX file: starts with nothing, must start with 00000803"),
    "short head": (IMAGES[:3], "not an IDX file: starts with 000008"),
    "wrong magic": (b"\x89PNG" + IMAGES, "not an IDX file: starts with 89504e47"),
    "text": (b"1,2,3\n", "not an IDX file: starts with 312c322c"),
    "floats": (idx(np.zeros((2, 3, 4)), 0x0D), "type code 0x0d (32-bit floats): must be 0x08"),
    "no type": (idx(np.zeros((2, 3, 4)), 0x77), "type code 0x77 (unknown): must be 0x08"),
    "labels": (idx(np.zeros(5)), "has 1 dimensions, must have 3"),
    "header": (IMAGES[:10], "ends within its header"),
    "nothing in it": (idx(np.zeros((0, 3, 4))), "shape (0, 3, 4): must not be empty"),
    "truncated": (IMAGES[:-5], "has 19 values, its header announces 24"),
    "trailing": (IMAGES + b"\0", "goes on after the 24 values that its header announces"),
    "lying": (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3), "has 0 values, its header"),
    "gzip truncated": (gzip.compress(IMAGES)[:-9], "damaged gzip file"),
    "gzip damaged": (gzip.compress(IMAGES)[:12] + b"xxxxxxx", "damaged gzip file"),
    "gzip checksum": (gzip.compress(IMAGES)[:-8] + b"\1\2\3\4\5\6\7\0", "damaged gzip file"),
    "gzip of nothing": (gzip.compress(b""), "not an IDX file: starts with nothing"),
    "gzip trailing": (gzip.compress(IMAGES + b"x" * 10**7), "goes on after the 24 values"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    content, message = DAMAGED[kind]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path, 3)
    assert str(caught.value).startswith("train-images-idx3-ubyte: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: can't be read: No such file"):
        read(tmp_path / "missing", 1)
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        read(tmp_path, 1)


def changed(at: int, array: np.ndarray) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / FILES[at]).write_bytes(idx(array))

    return change


def doubled(folder: Path) -> None:
    (folder / f"{FILES[2]}.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / FILES[3]).unlink(), "has no file t10k-labels-idx1-ubyte or t10k-labels"),
        (doubled, "has both t10k-images-idx3-ubyte and t10k-images-idx3-ubyte.gz: must have one"),
        (changed(1, np.arange(39) % 3), "has 40 images, but train-labels-idx1-ubyte has 39 labels"),
        (changed(3, np.arange(12) % 3), "has 11 images, but t10k-labels-idx1-ubyte has 12 labels"),
        (
            changed(2, np.ones((11, 5, 3))),
            "has images of (5, 3), train-images-idx3-ubyte of (3, 5)",
        ),
        (changed(0, np.ones((40, 3, 5))), "train-images-idx3-ubyte: all pixels are equal"),
        (changed(1, np.zeros(40)), "train-labels-idx1-ubyte: all labels are 0"),
        (changed(3, np.full(11, 7)), "label 7 is not in train-labels-idx1-ubyte"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    write(tmp_path, arrays())
    change(tmp_path)
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path)
    assert message in str(caught.value)
