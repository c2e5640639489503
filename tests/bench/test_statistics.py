"""Intervals against independent oracles; false alarms and power by simulation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from stability.bench.files import Run, Timing, read
from stability.bench.statistics import _bootstrapped, compare, in_turn
from stability.errors import InputError


def timing(name: str, rounds: Any, timer: str = "process_time") -> Timing:
    x = np.asarray(rounds, dtype=float)
    return Timing(name, timer, x, len(x), float(np.median(x)), 0.0, {}, {})


def side(medians: NDArray[np.float64], turn: int) -> list[Run]:
    """Runs of one round each, (runs, benchmarks); those of two sides were made in turn."""
    return [
        Run(Path(f"{turn}.json"), f"{2 * i + turn:06}", "c", {},
            {f"b{j}": timing(f"b{j}", [x]) for j, x in enumerate(row)})
        for i, row in enumerate(medians)
    ]  # fmt: skip


def test_paired_runs_have_student_s_interval() -> None:
    g = np.random.default_rng(0)
    base, new = np.exp(g.normal(size=(7, 3))), np.exp(g.normal(1.0, size=(7, 3)))
    result = compare(side(base, 0), side(new, 1), 0.9)
    assert result.design == "pairs of runs"
    for j, found in enumerate(result.comparisons):
        d = np.log(new[:, j] / base[:, j])
        wanted = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.1 / 3)
        assert found.low == pytest.approx(math.exp(wanted.low), rel=1e-12)
        assert found.high == pytest.approx(math.exp(wanted.high), rel=1e-12)
        assert found.ratio == pytest.approx(math.exp(d.mean()), rel=1e-12)
        assert found.base == np.median(base[:, j])


def test_runs_not_made_in_turn_have_welch_s_interval() -> None:
    g = np.random.default_rng(0)
    base, new = np.exp(g.normal(size=(7, 2))), np.exp(g.normal(1, 3, size=(5, 2)))
    result = compare(side(base, 0), side(new, 1), 0.9)
    assert result.design == "runs"
    for j, found in enumerate(result.comparisons):
        x, y = np.log(base[:, j]), np.log(new[:, j])
        wanted = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
        assert found.low == pytest.approx(math.exp(wanted.low), rel=1e-12)
        assert found.high == pytest.approx(math.exp(wanted.high), rel=1e-12)


def test_in_turn_looks_at_the_times() -> None:
    base, new = side(np.ones((3, 1)), 0), side(np.ones((3, 1)), 1)
    assert in_turn(base, new)
    assert in_turn(new, base)
    assert not in_turn(base, new[:2])
    later = [Run(r.path, f"9{r.when}", r.commit, r.machine, r.timings) for r in new]
    assert not in_turn(base, later)
    undated = [Run(r.path, "", r.commit, r.machine, r.timings) for r in new]
    assert not in_turn(undated, base)
    assert not in_turn(base, base)


def test_the_bootstrap_finds_the_error_of_a_median_of_independent_rounds() -> None:
    """sqrt(pi / 2 n) sd; over 40 runs the mean estimate is within 15 %."""
    g = np.random.default_rng(0)
    errors = [_bootstrapped(timing("b", np.exp(g.normal(0, 0.01, 400))))[1] for _ in range(40)]
    assert np.mean(errors) == pytest.approx(0.01 * math.sqrt(math.pi / 800), rel=0.15)


def test_the_bootstrap_sees_autocorrelation() -> None:
    """Rounds with correlation 0.9: blocks find at least twice the error of independent rounds."""
    g = np.random.default_rng(0)
    x = np.zeros(900)
    for i in range(1, len(x)):
        x[i] = 0.9 * x[i - 1] + g.normal(0, 0.01)
    ordered, shuffled = (_bootstrapped(timing("b", np.exp(v)))[1] for v in (x, g.permutation(x)))
    assert ordered > 2 * shuffled


def test_many_rounds_are_reduced_and_no_rounds_are_taken_as_independent() -> None:
    g = np.random.default_rng(0)
    many = timing("b", np.exp(g.normal(0, 0.01, 50_000)))
    assert _bootstrapped(many)[1] == pytest.approx(0.01 * math.sqrt(math.pi / 1e5), rel=0.3)
    bare = Timing("b", "t", np.array([]), 100, 2.0, 0.02, {}, {})
    mean, error, freedom = _bootstrapped(bare)
    assert (mean, freedom) == (math.log(2), 99.0)
    assert error == pytest.approx(math.sqrt(math.pi / 200) / 100)


@pytest.mark.parametrize("rounds", range(2, 12))
def test_a_few_rounds_have_an_error_too(rounds: int) -> None:
    mean, error, freedom = _bootstrapped(timing("b", np.linspace(1, 2, rounds)))
    assert mean == pytest.approx(math.log(1.5), abs=0.1)
    assert error > 0.02
    assert 1 <= freedom < rounds


def test_a_file_against_itself_is_indistinguishable_and_a_slower_one_is_slower(write: Any) -> None:
    g = np.random.default_rng(0)
    times = {f"b{j}": np.exp(g.normal(0, 0.02, 30)) for j in range(5)}
    a = read(write("a.json", {k: list(v) for k, v in times.items()}))
    b = read(write("b.json", {k: list(1.3 * v) for k, v in times.items()}))
    assert {c.verdict for c in compare([a], [a]).comparisons} == {"indistinguishable"}
    assert all(c.ratio == 1 for c in compare([a], [a]).comparisons)
    slower, faster = compare([a], [b]).comparisons, compare([b], [a]).comparisons
    assert {c.verdict for c in slower} == {"slower"}
    assert {c.verdict for c in faster} == {"faster"}
    assert all(c.ratio == pytest.approx(1.3) for c in slower)
    assert all(s.low == pytest.approx(1 / f.high) for s, f in zip(slower, faster, strict=True))


def noisy(g: np.random.Generator, runs: int, benchmarks: int) -> list[Run]:
    """Runs like those of a busy machine, in the order of time, all of equal code.

    A drift of 5 % that wanders over the runs, a layout of memory of 3 % of each process (Student
    t with 4 degrees of freedom), bursts of 30 % in one run of 20, and rounds with correlation 0.7.
    """
    drift = np.cumsum(g.normal(0, 0.01, runs))[:, None]
    layout = 0.03 * g.standard_t(4, (runs, benchmarks))
    burst = np.where(g.random((runs, 1)) < 0.05, 0.3 * g.random((runs, benchmarks)), 0)
    shape = (9, runs, benchmarks)
    rounds = g.normal(0, 0.01, shape)
    for i in range(1, len(rounds)):
        rounds[i] = 0.7 * rounds[i - 1] + math.sqrt(1 - 0.7**2) * rounds[i]
    return side(np.exp(drift + layout + burst + np.median(rounds, axis=0)), 0)


def in_pairs(runs: list[Run], g: np.random.Generator) -> tuple[list[Run], list[Run]]:
    sides: tuple[list[Run], list[Run]] = ([], [])
    for i in range(0, len(runs), 2):
        for chosen, run in zip(g.permutation(2), runs[i : i + 2], strict=True):
            sides[chosen].append(run)
    return sides


def test_equal_code_is_called_different_as_rarely_as_the_level_says() -> None:
    """300 comparisons of 10 pairs and 6 benchmarks at 0.9: 50 alarms or more have p < 4e-4."""
    g = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        result = compare(*in_pairs(noisy(g, 20, 6), g), level=0.9)
        assert result.design == "pairs of runs"
        alarms += any(c.verdict != "indistinguishable" for c in result.comparisons)
    assert stats.binom.sf(49, 300, 0.1) < 4e-4
    assert 0 < alarms < 50


def test_a_slowdown_of_a_fifth_is_found_and_its_size_is_in_the_interval() -> None:
    g = np.random.default_rng(1)
    found, within = 0, 0
    for _ in range(100):
        base, new = in_pairs(noisy(g, 20, 8), g)
        slow = [
            Run(r.path, r.when, r.commit, r.machine,
                {**r.timings, "b0": timing("b0", 1.2 * r.timings["b0"].rounds)})
            for r in new
        ]  # fmt: skip
        first = compare(base, slow).comparisons[0]
        found += first.verdict == "slower"
        within += first.low < 1.2 < first.high
    assert found >= 75
    assert within >= 95


def test_what_cannot_be_compared_is_refused(write: Any) -> None:
    a = read(write("a.json", {"x": [1.0, 2.0], "z": [1.0, 2.0]}))
    with pytest.raises(InputError, match="no benchmark is in both"):
        compare([a], [read(write("b.json", {"y": [1.0, 2.0]}))])
    with pytest.raises(InputError, match="x: different units: process_time against perf_counter"):
        compare([a], [read(write("b.json", {"x": [1.0, 2.0]}, timer="perf_counter"))])
    with pytest.raises(InputError, match="x: one round has no spread"):
        compare([a], [read(write("b.json", {"x": [1.0]}))])
    with pytest.raises(InputError, match="1 runs against 2"):
        compare([a], [a, a])
    assert compare([a], [read(write("b.json", {"x": [1.0, 2.0], "y": [1.0]}))]).left_out == [
        "y",
        "z",
    ]
