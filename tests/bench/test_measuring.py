"""The benchmarks' own fixtures, run by pytest-benchmark in a process of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import measuring
import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

TEST = """
import time
import pytest

CALLS = []

def spend(word, seconds):
    CALLS.append(word)
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return word

@pytest.mark.parametrize("n", [1, 2])
def test_versus(versus, n):
    versus(lambda: spend("o", 0.006), lambda: spend("n", 0.018), dtype="float32", rounds=9,
           flop=1e6, bytes_=2e6, check=lambda ours, naive: CALLS.append(ours + naive))
    assert CALLS[:3] == ["o", "n", "on"]
    if len(CALLS) > 3:
        assert "".join(CALLS).endswith("on" * 9)
    CALLS.clear()

def test_alone(alone):
    assert alone(lambda: 3, dtype="float64", threads=2, rounds=3) == 3

def test_wrong(versus):
    def check(ours, naive):
        assert ours == naive
    versus(lambda: 1, lambda: 2, dtype="float32", check=check)
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    for name in ("conftest.py", "measuring.py"):
        shutil.copy(BENCHMARKS / name, tmp_path)
    (tmp_path / "test_own.py").write_text(TEST)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return call


def test_peers_are_timed_in_turn_and_limits_are_told(run: Any, tmp_path: Path) -> None:
    done = run("--benchmark-enable", "--benchmark-json=out.json")
    assert "1 failed, 3 passed" in done.stdout
    content = json.loads((tmp_path / "out.json").read_text())
    found = {entry["name"]: entry for entry in content["benchmarks"]}
    assert set(found) == {"test_versus[1]", "test_versus[2]", "test_alone"}
    entry = found["test_versus[1]"]
    extra = entry["extra_info"]
    assert entry["options"]["timer"] == "process_time"
    assert found["test_alone"]["options"]["timer"] == "perf_counter"
    assert "speedup" not in found["test_alone"]["extra_info"]
    median = np.median(entry["stats"]["data"])
    assert len(entry["stats"]["data"]) == 9
    assert median >= 0.006
    assert extra["peer_median"] >= 0.018
    assert extra["speedup_low"] <= extra["speedup"] <= extra["speedup_high"]
    assert extra["gflops"] == pytest.approx(1e6 / median / 1e9)
    limits = 1e6 / extra["peak_gflops"] / 1e9, 2e6 / extra["peak_gbytes_per_s"] / 1e9
    assert extra["share_of_limit"] == pytest.approx(max(limits) / median)
    assert extra["versions"]["torch"]
    assert content["machine_info"]["cores"] >= 1


def test_untimed_each_benchmark_runs_once(run: Any) -> None:
    assert "1 failed, 2 passed, 1 deselected" in run("--benchmark-disable").stdout


class Timed:
    """What the fixture of pytest-benchmark offers, with rounds of one second."""

    disabled = False

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[]))

    def pedantic(self, target: Any, teardown: Any, rounds: int, **_: Any) -> Any:
        for _round in range(rounds):
            target()
            teardown()
            self.stats.stats.data.append(1.0)
        return target()


def test_quick_leaves_out_the_peer_and_the_limits() -> None:
    benchmark, called = Timed(), list[str]()
    got = measuring.measure(
        benchmark, lambda: 3, lambda: called.append("peer"), dtype="float32", device="cpu",
        threads=1, rounds=3, flop=1.0, bytes_=1.0, check=lambda *_: None, quick=True,
    )  # fmt: skip
    assert got == 3
    assert called == ["peer"]
    assert not {"speedup", "peak_gflops", "flop"} & set(benchmark.extra_info)
    assert benchmark.extra_info["dtype"] == "float32"


class Event:
    """torch.cuda.Event on a device whose clock ticks once a record."""

    now = 0.0
    waited = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.now += 1
        self.at = Event.now

    def synchronize(self) -> None:
        Event.waited += 1

    def elapsed_time(self, later: "Event") -> float:
        return 1000 * (later.at - self.at)


def test_a_gpu_is_timed_by_events_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    timer = measuring.clock("cuda:1", 1)
    assert measuring.timed(lambda: Event.waited, timer) == 1.0
    assert Event.waited == 1


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    """21 values: ranks 6 and 16 hold the median with probability 0.973 (binomial tables)."""
    middle, low, high = measuring.median_interval(np.random.default_rng(0).permutation(21) + 1)
    assert (middle, low, high) == (11, 6, 16)
    assert np.isnan(measuring.median_interval([1.0, 2.0, 3.0])[1:]).all()


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype='float8': must be one of float64"):
        measuring.measure(None, int, None, dtype="float8")
