"""What a sweep costs beside Hydra's own, in CPU time: ratios that a busy machine leaves alone.

Timed on demand only: pytest tests/benchmarks/test_sweep.py --benchmark-enable
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import Toy

import stability
from stability import claims, store
from stability.config import describe
from stability.experiment import Context

TOYS = Path(__file__).parents[1] / "toys"
APP = """
import hydra
from stability import config

@hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="config")
def app(composed):
    pass

app()
"""
LIMITS = {"job": 1.3, "cell": 1 / 20, "rerun": 5.0, "load": 5.0}
"""Wanted: our job and a cell of a fused grid beside Hydra's job; seconds of a finished sweep of 200
jobs and of loading 10,000 runs."""


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_enable"):
        pytest.skip("timed with --benchmark-enable only")


@pytest.fixture
def cost(tmp_path: Path) -> Callable[..., float]:
    """The CPU seconds of a Python program with these words on the toy experiment."""
    path = os.pathsep.join(filter(None, [str(TOYS), os.environ.get("PYTHONPATH")]))

    def run(program: list[str], *words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *program, "-cd", str(TOYS / "conf"), *words, "experiment=toy"],
            cwd=tmp_path, check=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def tell(benchmark: Any, **found: float) -> None:
    """Record and print what was found beside what is wanted."""
    for name, value in found.items():
        benchmark.extra_info[name] = value
        print(f"{name}: {value:.3g}" + (f" (wanted: {LIMITS[name]:g})" if name in LIMITS else ""))


OURS = ["-m", "stability"]
HYDRA = ["-c", APP]


def test_a_job_costs_little_more_than_hydras(cost: Callable[..., float], benchmark: Any) -> None:
    """By the difference of 50 jobs and 10, Hydra's in between; and a fused grid by the cell."""

    def ratios() -> dict[str, float]:
        ours, hydras = [], []
        for few, many in ((0, 10), (10, 50)):
            ours.append(cost(OURS, "-m", f"seed=range({few},{many})"))
            hydras.append(cost(HYDRA, "-m", f"seed=range({few},{many})"))
        job = (hydras[1] - hydras[0]) / 30
        grids = [cost(OURS, f"experiment.n=[{','.join(map(str, range(1, n + 1)))}]", "seed=7")
                 for n in (1, 401)]  # fmt: skip
        return {
            "hydra_ms": 1e3 * job,
            "job": (ours[1] - ours[0]) / 30 / job,
            "cell": (grids[1] - grids[0]) / 400 / job,
        }

    tell(benchmark, **benchmark.pedantic(ratios, rounds=1))


def test_a_finished_sweep_is_reused_at_once(cost: Callable[..., float], benchmark: Any) -> None:
    words = ("-m", "seed=range(0,200)")
    cost(OURS, *words)
    seconds = benchmark.pedantic(lambda: cost(OURS, *words), rounds=1)
    tell(benchmark, rerun=seconds)


def test_ten_thousand_runs_load(benchmark: Any, tmp_path: Path) -> None:
    measured = Toy().run(Context(0))
    verdicts = claims.to_frame(Toy.claims(measured))
    provenance = {"config": describe(Toy()), "seed": 0, "device": "cpu", "threads": 1}
    store.save(tmp_path / "toys" / "0", measured, verdicts, provenance)
    for copy in range(1, 10_000):
        folder = tmp_path / "toys" / str(copy)
        folder.mkdir()
        for name in (store.TABLE, store.CLAIMS, store.PROVENANCE):
            (folder / name).write_bytes((tmp_path / "toys" / "0" / name).read_bytes())

    def load() -> float:
        started = time.process_time()
        assert stability.load(tmp_path)["run"].nunique() == 10_000
        return time.process_time() - started

    seconds = benchmark.pedantic(load, rounds=1)
    tell(benchmark, load=seconds)
