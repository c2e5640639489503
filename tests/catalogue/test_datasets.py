"""The datasets are what their sources say, standardised, and split once and for all."""

import subprocess
import sys

import pytest
import torch

from stability.catalogue.datasets import DATASETS, load

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


def test_importing_the_catalogue_does_not_import_scikit_learn() -> None:
    code = "import sys, stability.catalogue.datasets; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
