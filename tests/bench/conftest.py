"""Files as pytest-benchmark writes them, made up."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

MACHINE = {"node": "one", "cpu": {"brand_raw": "A", "count": 2, "hz_actual": [1, 0]}}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write ``times`` (seconds of the rounds by name) as a file of pytest-benchmark's."""

    def call(
        name: str,
        times: Mapping[str, Sequence[float]],
        when: str = "2026-01-01T00:00:00",
        machine: Mapping[str, Any] = MACHINE,
        timer: str = "process_time",
        extra: Mapping[str, Any] | None = None,
    ) -> Path:
        benchmarks = [
            {
                "group": None,
                "name": key.rpartition("::")[2],
                "fullname": key,
                "params": params(key),
                "param": None,
                "extra_info": dict(extra or {}),
                "options": {"timer": timer},
                "stats": {"data": list(rounds), "rounds": len(rounds), "median": 1.0, "iqr": 0.1},
            }
            for key, rounds in times.items()
        ]
        content = {
            "machine_info": dict(machine),
            "commit_info": {"id": "abc", "dirty": False},
            "benchmarks": benchmarks,
            "datetime": when,
            "version": "5.0.0",
        }
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return call


def params(key: str) -> dict[str, Any] | None:
    """The parameters that a name like test_x[64-relu] carries."""
    _, bracket, words = key.rstrip("]").partition("[")
    size, _, kind = words.partition("-")
    if not bracket or not size.isdecimal():
        return None
    return {"n": int(size), "kind": kind}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest that a test starts is no worker of this one: pytest-benchmark would time nothing."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
