"""pytest-benchmark's JSON files, read as data: sizes bounded, every value checked."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stability.errors import InputError

MAX_BYTES = 2**28
MAX_FILES = 1000
MAX_BENCHMARKS = 10_000

_UNSTEADY = {"hz_actual", "hz_actual_friendly", "cpuinfo_version", "cpuinfo_version_string"}
"""Facts of a machine that change from run to run, or that say nothing about it."""


@dataclass(frozen=True)
class Timing:
    """One benchmark in one run.

    ``rounds``: seconds of a call in each round, in the order of time; empty in a file without
    them.  ``median`` and ``spread`` (half of the interquartile range, over 0.6745): seconds.
    ``timer``: the clock's name.
    """

    name: str
    timer: str
    rounds: NDArray[np.float64]
    count: int
    median: float
    spread: float
    params: dict[str, str | int | float | bool | None]
    extra: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One file: the machine as flat facts, when and of what commit it is, and its timings."""

    path: Path
    when: str
    commit: str
    machine: dict[str, str]
    timings: dict[str, Timing]


def read_side(path: Path) -> list[Run]:
    """The runs that ``path`` stands for: a file, or a folder of them in the order of time.

    Raises InputError.
    """
    if not path.is_dir():
        return [read(path)]
    paths = sorted(path.glob("*.json"))
    if not paths:
        raise InputError(f"{path}: no *.json in this folder")
    if len(paths) > MAX_FILES:
        raise InputError(f"{path}: {len(paths)} files; at most {MAX_FILES} can be compared")
    return sorted((read(file) for file in paths), key=lambda run: run.when)


def read(path: Path) -> Run:
    """Read one file of pytest-benchmark's.  Raises InputError, which names what is wrong."""
    try:
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON: {_line(error)}") from None
    try:
        return _run(path, content)
    except _ShapeError as error:
        raise InputError(f"{path}: not a file of pytest-benchmark's: {error}") from None


class _ShapeError(Exception):
    """Where the content differs from pytest-benchmark's, and how."""


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _run(path: Path, content: Any) -> Run:
    if not isinstance(content, dict):
        raise _ShapeError("the top is no object")
    benchmarks = _get(content, "benchmarks", list, "the top")
    if len(benchmarks) > MAX_BENCHMARKS:
        raise _ShapeError(f"{len(benchmarks)} benchmarks; at most {MAX_BENCHMARKS} are read")
    timings: dict[str, Timing] = {}
    for index, entry in enumerate(benchmarks):
        timing = _timing(entry, f"benchmarks[{index}]")
        if timing.name in timings:
            raise _ShapeError(f"{timing.name} stands there twice")
        timings[timing.name] = timing
    if not timings:
        raise InputError(f"{path}: holds no benchmark")
    commit = content.get("commit_info")
    commit = commit if isinstance(commit, dict) else {}
    name = str(commit.get("id") or "unknown")[:12] + ("+changes" if commit.get("dirty") else "")
    facts = _flat(_get(content, "machine_info", dict, "the top"))
    return Run(path, str(content.get("datetime", "")), name, dict(facts), timings)


def _get(holder: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = holder.get(key)
    if not isinstance(value, kind):
        raise _ShapeError(f"{where} has no {key!r}")
    return value


def _timing(entry: Any, where: str) -> Timing:
    if not isinstance(entry, dict):
        raise _ShapeError(f"{where} is no object")
    name = _get(entry, "fullname", str, where)
    stats = _get(entry, "stats", dict, where)
    options = _get(entry, "options", dict, where)
    extra, params = entry.get("extra_info"), entry.get("params")
    data = stats.get("data") or []
    if not isinstance(data, list):
        raise _ShapeError(f"{where} has no list 'data'")
    rounds = np.array([_seconds(value, name) for value in data])
    median = float(np.median(rounds)) if data else _seconds(stats.get("median"), name)
    iqr = stats.get("iqr")
    if data:
        iqr = float(np.subtract(*np.percentile(rounds, [75, 25])))
    elif not _is_number(iqr):
        raise _ShapeError(f"{name}: iqr={iqr!r} is no number")
    count = len(data) or stats.get("rounds")
    if not isinstance(count, int) or count < 1:
        raise _ShapeError(f"{name}: rounds={count!r} is no number of rounds")
    return Timing(
        name=name,
        timer=str(options.get("timer", "unknown")),
        rounds=rounds,
        count=count,
        median=median,
        spread=float(iqr) / 1.349,
        params={
            str(key): value
            for key, value in (params if isinstance(params, dict) else {}).items()
            if value is None or isinstance(value, (str, int, float, bool))
        },
        extra=extra if isinstance(extra, dict) else {},
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(value: Any, name: str) -> float:
    if not _is_number(value) or value < 0:
        raise _ShapeError(f"{name}: a time of {value!r} s")
    if value == 0:
        raise _ShapeError(f"{name}: a time of 0 s, below the clock's step")
    return float(value)


def _flat(holder: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested objects as (dotted key, text); lists are joined."""
    for key, value in sorted(holder.items()):
        if key in _UNSTEADY:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", " ".join(map(str, value))
        else:
            yield f"{prefix}{key}", str(value)


def machine_differences(base: Sequence[Run], new: Sequence[Run]) -> list[str]:
    """One line for each fact that isn't the same in all runs of both sides."""
    sides = [[run.machine for run in side] for side in (base, new)]
    keys = sorted({key for side in sides for facts in side for key in facts})
    lines = []
    for key in keys:
        before, after = (
            list(dict.fromkeys(facts.get(key, "absent") for facts in side)) for side in sides
        )
        if before != after or len(before) > 1:
            lines.append(f"{key}: {_told(before, after)} → {_told(after, before)}")
    return lines


def _told(values: Sequence[str], others: Sequence[str]) -> str:
    """The values; of a long list of words, only those that the other side lacks."""
    words = []
    for value in values:
        if len(value) > 100 and others:
            lacking = sorted(set(value.split()) - set(others[0].split()))
            value = f"has {' '.join(lacking)}" if lacking else "lacks these"
        words.append(value if len(value) <= 100 else f"{value[:97]}...")
    return " or ".join(words[:3])
