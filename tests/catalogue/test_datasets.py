"""The datasets are what their sources say, standardised, and split once and for all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import arrays, write

from stability.catalogue.datasets import DATASETS, from_images, load, read_images
from stability.errors import InputError

every = pytest.mark.parametrize("name", DATASETS)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_are_standardised(name: str, dtype: torch.dtype) -> None:
    """Each entry is rounded by u of at most its magnitude, so that the moments move by 4 u."""
    data = load(name, dtype)
    x = data.inputs.to(torch.float64)
    u = torch.finfo(dtype).eps / 2
    assert data.inputs.dtype == dtype
    assert abs(x.mean().item()) < 4 * u
    assert abs(x.square().mean().item() - 1) < 8 * u


@every
def test_labels_are_classes(name: str) -> None:
    data = load(name, torch.float32)
    assert data.name == name
    assert data.labels.dtype == torch.int64
    assert data.labels.shape == (len(data.inputs),)
    assert set(data.labels.tolist()) == set(range(data.classes))


@every
def test_the_split_parts_the_samples_and_every_class(name: str) -> None:
    data = load(name, torch.float32)
    both = torch.cat([data.train, data.test])
    assert both.sort().values.equal(torch.arange(len(data.inputs)))
    assert len(data.test) == -(-len(data.inputs) // 5)
    for part in (data.train, data.test):
        assert set(data.labels[part].tolist()) == set(range(data.classes))
    again = load(name, torch.float64)
    assert again.train.equal(data.train)
    assert again.test.equal(data.test)


def test_digits_are_the_1797_of_the_uci_repository() -> None:
    data = load("digits", torch.float64)
    assert tuple(data.inputs.shape) == (1797, 64)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.labels.bincount().tolist() == counts
    assert data.inputs.unique().numel() == 17


def test_an_unknown_name_raises() -> None:
    with pytest.raises(KeyError, match="mnist"):
        load("mnist", torch.float32)


def test_importing_the_catalogue_imports_neither_scikit_learn_nor_pooch() -> None:
    code = (
        "import sys, stability.catalogue.datasets; "
        "sys.exit(bool({'sklearn', 'pooch', 'requests'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_standardised_and_keep_their_own_split(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    contents = arrays()
    write(tmp_path, contents)
    data = from_images("mine", read_images("idx", str(tmp_path)), dtype)
    pixels = np.concatenate([contents[0], contents[2]]).reshape(51, 15).astype(np.float64)
    expected = torch.tensor((pixels - pixels.mean()) / pixels.std())
    u = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(data.inputs.to(torch.float64), expected, rtol=8 * u, atol=8 * u)
    assert data.inputs.dtype == dtype
    assert data.labels.tolist() == [*contents[1].tolist(), *contents[3].tolist()]
    assert data.train.tolist() == list(range(40))
    assert data.test.tolist() == list(range(40, 51))
    assert (data.name, data.classes) == ("mine", 3)


def test_a_folder_without_the_files_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"experiment.folder='.*': has no file train-images"):
        read_images("idx", str(tmp_path))
