"""Is it faster?  Ratios of medians with simultaneous intervals.

With several runs a side, the run is the unit: rounds of one process share its memory layout, its
clock and its neighbours, so that they say little about the next process.  Runs that were made in
turn are compared pair by pair.  With one run a side, there are only its rounds: a block bootstrap
respects their autocorrelation, but what changes from run to run isn't in the interval.

Every interval is Student's t for the logarithm of the ratio, at a level of (1 - level) / m in
each of m comparisons (Bonferroni): all of them hold together with a probability of ``level``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stability.bench.files import Run, Timing
from stability.errors import InputError

DRAWS = 999
ENOUGH = 2000
"""More rounds than this are first reduced to as many medians of consecutive ones."""


@dataclass(frozen=True)
class Comparison:
    """One benchmark: medians in seconds, their ratio new / base, and its interval."""

    name: str
    base: float
    new: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """faster, slower or indistinguishable."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "indistinguishable"


@dataclass(frozen=True)
class Result:
    """All comparisons, how they were made (``design``), and what couldn't be compared."""

    comparisons: list[Comparison]
    design: str
    level: float
    left_out: list[str]


def compare(base: Sequence[Run], new: Sequence[Run], level: float = 0.99) -> Result:
    """Compare what all runs of both sides have.  Raises InputError if nothing can be compared."""
    names = _common(base, new)
    single = len(base) == 1 and len(new) == 1
    if not single and min(len(base), len(new)) < 2:
        raise InputError(
            f"bench: {len(base)} runs against {len(new)}; give one a side, or at least 2 a side"
        )
    paired = not single and in_turn(base, new)
    design = "rounds" if single else "pairs of runs" if paired else "runs"
    tail = (1 - level) / (2 * len(names))
    comparisons = []
    for name in names:
        before = [run.timings[name] for run in base]
        after = [run.timings[name] for run in new]
        if single:
            mean, error, freedom = _difference(
                *(_bootstrapped(timing) for timing in (before[0], after[0]))
            )
        else:
            x, y = (np.log([timing.median for timing in side]) for side in (before, after))
            mean, error, freedom = (
                _moments(y - x) if paired else _difference(_moments(x), _moments(y))
            )
        reach = 0.0 if error == 0 else float(stats.t.isf(tail, freedom)) * error
        middle = [float(np.median([t.median for t in side])) for side in (before, after)]
        ends = _exp(mean - reach), _exp(mean + reach)
        comparisons.append(Comparison(name, middle[0], middle[1], _exp(mean), *ends))
    everything = {name for run in (*base, *new) for name in run.timings}
    return Result(comparisons, design, level, sorted(everything - set(names)))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _common(base: Sequence[Run], new: Sequence[Run]) -> list[str]:
    """The names that all runs have, in the order of the first."""
    runs = [*base, *new]
    names = [name for name in runs[0].timings if all(name in run.timings for run in runs)]
    if not names:
        raise InputError(f"{base[0].path} and {new[0].path}: no benchmark is in both")
    for name in names:
        timers = [{run.timings[name].timer for run in side} for side in (base, new)]
        if len(timers[0] | timers[1]) > 1:
            shown = " against ".join("/".join(sorted(side)) for side in timers)
            raise InputError(f"{name}: different units: {shown}")
    return names


def in_turn(base: Sequence[Run], new: Sequence[Run]) -> bool:
    """Whether the times of the files say that the runs were made in turn, pair by pair."""
    order = sorted([*((r.when, 0) for r in base), *((r.when, 1) for r in new)])
    times = [when for when, _ in order]
    sides = [side for _, side in order]
    return (
        len(base) == len(new)
        and all(times)
        and len(set(times)) == len(times)
        and all(sides[i] != sides[i + 1] for i in range(0, len(sides), 2))
    )


Moments = tuple[float, float, float]
"""A mean, its standard error, and the degrees of freedom of that."""


def _moments(x: NDArray[np.float64]) -> Moments:
    return float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x)), len(x) - 1.0


def _difference(x: Moments, y: Moments) -> Moments:
    """y - x, with the degrees of freedom of Welch (1947, Biometrika 34, 28)."""
    variances = x[1] ** 2, y[1] ** 2
    total = sum(variances)
    if total == 0:
        return y[0] - x[0], 0.0, 1.0
    parts = variances[0] ** 2 / x[2] + variances[1] ** 2 / y[2]
    return y[0] - x[0], math.sqrt(total), total**2 / parts if parts else 1.0


def _bootstrapped(timing: Timing) -> Moments:
    """log of the median of one run, and its error by a circular block bootstrap.

    Politis & Romano (1992): blocks of sqrt(n) consecutive rounds, n in all; as many degrees of
    freedom as blocks, less one.  Without the rounds, those of n independent normal ones.
    """
    n = timing.count
    if n < 2:
        raise InputError(f"{timing.name}: one round has no spread; measure more, or several runs")
    if len(timing.rounds) == 0:
        error = math.sqrt(math.pi / 2 / n) * timing.spread / timing.median
        return math.log(timing.median), error, n - 1.0
    rounds = np.log(timing.rounds)
    if n > ENOUGH:
        rounds = np.array([np.median(part) for part in np.array_split(rounds, ENOUGH)])
        n = ENOUGH
    length = math.isqrt(n)
    blocks = -(-n // length)
    starts = np.random.default_rng(0).integers(n, size=(DRAWS, blocks, 1))
    drawn = rounds[((starts + np.arange(length)) % n).reshape(DRAWS, -1)[:, :n]]
    return math.log(timing.median), float(np.median(drawn, axis=1).std()), max(blocks - 1.0, 1.0)
