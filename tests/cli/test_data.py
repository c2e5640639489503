"""A dataset that can't be had is told in one line with exit code 2, and leaves no file."""

from pathlib import Path

import pytest
from idx_files import FILES, arrays, write
from running import Run


def test_a_damaged_file(stability: Run, tmp_path: Path) -> None:
    write(tmp_path / "mine", arrays())
    path = tmp_path / "mine" / FILES[0]
    path.write_bytes(path.read_bytes()[:-1])
    done = stability("experiment=mlp", "experiment.data=idx", "experiment.folder=mine")
    assert done.returncode == 2
    assert done.stderr == (
        "stability: experiment.folder='mine': train-images-idx3-ubyte: has 599 values, its header "
        "announces 600\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_download_that_fails(
    stability: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    done = stability("experiment=mlp", "experiment.data=fashion_mnist")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("stability: experiment.data=fashion_mnist: http://fashion-mnist.")
    assert "can't be downloaded to /proc/nowhere" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
