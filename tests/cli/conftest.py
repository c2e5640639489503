"""The command line as a user meets it: a process of its own, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import Run

TOYS = Path(__file__).parents[1] / "toys"
PATH = os.pathsep.join(filter(None, [str(TOYS), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def stability(tmp_path: Path) -> Run:
    """Run ``python -m stability`` with these words in ``tmp_path``; toys can be imported."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stability", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def toy(stability: Run) -> Run:
    """The same for the toy experiment of tests/toys."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return stability("-cd", str(TOYS / "conf"), "experiment=toy", *words)

    return run
