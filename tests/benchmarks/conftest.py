"""Fixtures of the benchmarks: ``versus`` (beside a naive peer) and ``alone``.

They are timed on demand only: ``make bench``, or ``pytest tests/benchmarks --benchmark-enable``.
Ordinary pytest runs the first parameters of each once, untimed, as a test of its results: put the
smallest size first.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Threads of OpenMP that wait by spinning make a busy machine 40 times slower.  Before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from measuring import Alone, Versus, measure, versions

import stability

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="benchmarks: no peers, no limits of the machine"
    )


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("quick", default=False))


@pytest.fixture
def versus(benchmark: Any, quick: bool) -> Versus:
    def call(ours: Callable[[], Any], naive: Callable[[], Any], **options: Any) -> Any:
        return measure(benchmark, ours, naive, quick=quick, **options)

    return call


@pytest.fixture
def alone(benchmark: Any, quick: bool) -> Alone:
    def call(ours: Callable[[], Any], **options: Any) -> Any:
        return measure(benchmark, ours, None, quick=quick, **options)

    return call


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return name


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    """1, and all cores of the machine; on one core the second is skipped."""
    cores = len(os.sched_getaffinity(0))
    if request.param == 1:
        return 1
    if cores == 1:
        pytest.skip("one core only")
    return cores


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without timing, keep of each benchmark its first parameters alone."""
    if config.getoption("benchmark_enable") or config.getoption("benchmark_only"):
        return
    seen: set[tuple[Path, str]] = set()
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        name = (item.path, getattr(item, "originalname", item.name))
        again = item.path.is_relative_to(HERE) and name in seen
        again = again and "benchmark" in getattr(item, "fixturenames", ())
        (dropped if again else kept).append(item)
        seen.add(name)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["cores"] = len(os.sched_getaffinity(0))
    machine_info["versions"] = versions()
    machine_info["environment"] = {
        key: os.environ[key]
        for key in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_CORETYPE", "MKL_CBWR")
        if key in os.environ
    }
    if torch.cuda.is_available():
        machine_info["gpu"] = torch.cuda.get_device_name()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    output_json["package"] = str(Path(stability.__file__).parent)
