"""pytest-benchmark's files are data: everything that is wrong with one is told in one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stability.bench import files
from stability.bench.files import machine_differences, read, read_side
from stability.errors import InputError


def test_a_file_is_read_with_its_rounds_in_order(write: Any) -> None:
    run = read(write("a.json", {"t.py::test_x[64-relu]": [3.0, 1.0, 2.0]}))
    timing = run.timings["t.py::test_x[64-relu]"]
    np.testing.assert_array_equal(timing.rounds, [3.0, 1.0, 2.0])
    assert (timing.median, timing.count, timing.timer) == (2.0, 3, "process_time")
    assert timing.params == {"n": 64, "kind": "relu"}
    assert run.commit == "abc"
    assert run.machine["cpu.brand_raw"] == "A"
    assert "cpu.hz_actual" not in run.machine


def test_a_file_without_rounds_has_its_median_and_spread(write: Any) -> None:
    path = write("a.json", {"t.py::test_x": [1.0]})
    content = json.loads(path.read_text())
    content["benchmarks"][0]["stats"] = {"median": 2.0, "iqr": 1.349, "rounds": 50}
    path.write_text(json.dumps(content))
    timing = read(path).timings["t.py::test_x"]
    assert (timing.median, timing.spread, timing.count) == (2.0, 1.0, 50)
    assert timing.rounds.size == 0


STAT = "benchmarks", 0, "stats"

BROKEN: list[tuple[tuple[Any, ...], Any, str]] = [
    (("benchmarks",), None, "not a file of pytest-benchmark's: the top has no 'benchmarks'"),
    (("machine_info",), None, "the top has no 'machine_info'"),
    (("benchmarks",), {}, "the top has no 'benchmarks'"),
    (("benchmarks",), [], "holds no benchmark"),
    (("benchmarks",), [3], "benchmarks[0] is no object"),
    (("benchmarks", 0, "fullname"), 3, "benchmarks[0] has no 'fullname'"),
    (("benchmarks", 0, "options"), None, "benchmarks[0] has no 'options'"),
    (STAT, None, "benchmarks[0] has no 'stats'"),
    ((*STAT, "data"), "x", "benchmarks[0] has no list 'data'"),
    ((*STAT, "data"), [1.0, math.nan], "test_x: a time of nan s"),
    ((*STAT, "data"), [1.0, math.inf], "test_x: a time of inf s"),
    ((*STAT, "data"), [1.0, -1.0], "test_x: a time of -1.0 s"),
    ((*STAT, "data"), [1.0, 0], "test_x: a time of 0 s, below the clock's step"),
    ((*STAT, "data"), [1.0, True], "test_x: a time of True s"),
    ((*STAT, "data"), [1.0, "2"], "test_x: a time of '2' s"),
    (STAT, {"median": "x"}, "test_x: a time of 'x' s"),
    (STAT, {"median": 1.0, "iqr": None}, "test_x: iqr=None is no number"),
    (STAT, {"median": 1.0, "iqr": 1, "rounds": 0}, "test_x: rounds=0 is no number of rounds"),
]


@pytest.mark.parametrize(("place", "value", "message"), BROKEN)
def test_what_is_wrong_with_a_file_is_named(
    write: Any, place: tuple[Any, ...], value: Any, message: str
) -> None:
    path = write("a.json", {"t.py::test_x": [1.0, 2.0]})
    content = json.loads(path.read_text())
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "the top is no object"),
        (b"3", "the top is no object"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_benchmark_that_stands_twice_is_refused(write: Any) -> None:
    path = write("a.json", {"t.py::test_x": [1.0, 2.0]})
    content = json.loads(path.read_text())
    content["benchmarks"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="test_x stands there twice"):
        read(path)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("MAX_BYTES", r"bytes; at most 1 are read"),
        ("MAX_BENCHMARKS", "2 benchmarks; at most 1 are read"),
        ("MAX_FILES", "2 files; at most 1 can be compared"),
    ],
)
def test_sizes_are_bounded(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, message: str
) -> None:
    for name in ("a.json", "b.json"):
        write(name, {"t.py::test_x": [1.0], "t.py::test_y": [1.0]})
    assert len(read_side(tmp_path)) == 2
    monkeypatch.setattr(files, limit, 1)
    with pytest.raises(InputError, match=message):
        read_side(tmp_path)


def test_a_folder_is_its_runs_in_the_order_of_time(write: Any, tmp_path: Path) -> None:
    write("side/a.json", {"x": [1.0]}, when="2026-01-02")
    write("side/b.json", {"x": [1.0]}, when="2026-01-01")
    assert [run.path.name for run in read_side(tmp_path / "side")] == ["b.json", "a.json"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*\.json in this folder"):
        read_side(tmp_path / "empty")
    with pytest.raises(InputError, match=r"can't be read: No such file"):
        read_side(tmp_path / "nowhere")


def test_machine_differences_are_named_and_unsteady_facts_are_not(write: Any) -> None:
    flags = [f"flag{i}" for i in range(40)]
    here = {"cpu": {"count": 2, "hz_actual": [1, 0], "flags": flags}, "node": "one"}
    there = {"cpu": {"count": 4, "hz_actual": [2, 0], "flags": [*flags, "avx"]}, "gpu": "H100"}
    base = read(write("a.json", {"x": [1.0]}, machine=here))
    new = read(write("b.json", {"x": [1.0]}, machine=there))
    assert machine_differences([base], [base]) == []
    assert machine_differences([base], [new]) == [
        "cpu.count: 2 → 4",
        "cpu.flags: lacks these → has avx",
        "gpu: absent → H100",
        "node: one → absent",
    ]
    assert machine_differences([base, new], [base])[0] == "cpu.count: 2 or 4 → 2"
