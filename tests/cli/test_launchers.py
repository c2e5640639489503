"""Every launcher gives the same tables, and tells what became of each job."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import Run

from stability.store import TABLE

SCRIPT = Path(__file__).with_name("slurm.sh")
NEEDS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd")
LAUNCHERS = [
    pytest.param("joblib", marks=pytest.mark.joblib),
    pytest.param("slurm", marks=pytest.mark.slurm),
    pytest.param("ray", marks=pytest.mark.ray),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A SLURM cluster of two virtual nodes, for the commands of this module."""
    lacking = [name for name in NEEDS if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"a private SLURM cluster needs root and {', '.join(lacking or NEEDS)}")
    # Not pytest's folder, which no other user may enter: munged runs as one.
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        try:
            subprocess.run([SCRIPT, "start", folder, "2"], check=True, timeout=120)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
                yield
        finally:
            subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)


@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("hydra/launcher=joblib", "joblib"),
        ("hydra/launcher=slurm", "slurm"),
        ("hydra/launcher=ray", "ray"),
        ("hydra/sweeper=optuna", "optuna"),
    ],
)
def test_a_plugin_that_lacks_names_its_extra(tmp_path: Path, choice: str, extra: str) -> None:
    """A package of the plugins' name in front hides them all."""
    (tmp_path / "none" / "hydra_plugins").mkdir(parents=True)
    (tmp_path / "none" / "hydra_plugins" / "__init__.py").touch()
    path = [str(tmp_path / "none"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "stability", "-m", choice, "seed=0,1",
         *(["objective=x"] if extra == "optuna" else [])],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True, text=True,
    )  # fmt: skip
    line = f"stability: hydra: {extra} isn't installed; pip install 'stability[{extra}]'\n"
    assert (done.returncode, done.stderr) == (2, line)
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The overrides that choose a launcher, once it can run here."""
    name = str(request.param)
    plugin = {"slurm": "submitit"}.get(name, name)
    if find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"needs pip install 'stability[{name}]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    if name == "slurm":
        request.getfixturevalue("slurm")
    options = {
        "joblib": ["hydra.launcher.n_jobs=2"],
        "slurm": ["hydra.launcher.mem_gb=1", "hydra.launcher.partition=main"],
        "ray": ["hydra.launcher.ray.init.num_cpus=2"],
    }
    return [f"hydra/launcher={name}", *options[name]]


def test_the_same_job_gives_the_same_table_to_the_bit(
    stability: Run, tmp_path: Path, launcher: list[str]
) -> None:
    words = ("-m", "experiment=gradient_flow", "experiment.depth=4", "experiment.width=8,16",
             "experiment.replicates=2", "experiment.batch=4", "seed=0,1")  # fmt: skip
    alone = stability(*words, "runs=alone")
    assert alone.returncode == 0, alone.stderr
    done = stability(*words, *launcher)
    assert done.returncode == 0, done.stderr
    assert "4 jobs: 0 reused, 4 to run" in done.stdout
    tables = sorted(tmp_path.glob(f"alone/gradient_flow/*/{TABLE}"))
    assert len(tables) == 4
    for table in tables:
        other = tmp_path / "runs" / "gradient_flow" / table.parent.name / TABLE
        assert table.read_bytes() == other.read_bytes()


def test_a_killed_job_and_a_slow_one_cost_no_other(toy: Run, launcher: list[str]) -> None:
    words = ("-m", "experiment.kind=kill,plain", "experiment.seconds=0,60", "time_limit=8")
    done = toy(*words, *launcher)
    assert done.returncode == 1, done.stderr
    assert "4 jobs: 1 done, 3 failed" in done.stdout
    assert done.stdout.count("its process was killed") == 2
    assert done.stdout.count("TimeLimitError: longer than time_limit=8 s") == 1
