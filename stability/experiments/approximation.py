"""One hidden layer approximates a function as it widens: at which rate, and who attains it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.arguments import Array
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import approximation as kernel
from stability.table import concat, mean_rows, rows, select
from stability.theory import approximation as theory
from stability.theory.floating_point import FORMATS, gamma

TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": lambda x: torch.sin(2 * math.pi * x),
    "wave": lambda x: torch.exp(torch.cos(2 * math.pi * x)),
    "root": torch.sqrt,
}
SMOOTH = ("sine", "wave")
U = FORMATS["float64"].unit_roundoff
NODES = 16
"""Of Gauss and Legendre in each cell."""
FINE = 64
"""Parts of a cell at whose ends the largest error is looked for."""
TRAINING_POINTS = 256
RATE = 0.02
"""Of Adam."""
INPUTS = 64
"""Of random cosines, for each draw; of mean square length 1 in every dimension."""


@dataclass(frozen=True)
class Approximation(Experiment):
    """ReLU networks constructed, fitted and trained; sums of sigmoids; averages of cosines."""

    title: ClassVar[str] = "Approximation"
    question: ClassVar[str] = (
        "How fast does one hidden layer approximate a function as it widens, and does training "
        "get there?"
    )

    n: list[int] = field(default_factory=lambda: [8, 16])
    target: list[str] = field(default_factory=lambda: ["sine"])
    steepness: list[float] = field(default_factory=lambda: [32.0])
    dimension: list[int] = field(default_factory=lambda: [3])
    replicates: int = 4
    averages: int = 128
    steps: int = 30

    def __post_init__(self) -> None:
        for name in ("n", "target", "steepness", "dimension"):
            check_each(f"experiment.{name}", getattr(self, name))
        for n in self.n:
            check_range("experiment.n", n, at_least=8)
        for name in self.target:
            check_choice("experiment.target", name, TARGETS)
        for steepness in self.steepness:
            check_range("experiment.steepness", steepness, at_least=0.5, at_most=32)
        for dimension in self.dimension:
            check_range("experiment.dimension", dimension, at_least=1)
        check_range("experiment.replicates", self.replicates, at_least=2)
        check_range("experiment.averages", self.averages, at_least=2)
        check_range("experiment.steps", self.steps, at_least=0)

    def memory(self) -> int:
        """The widest layer at all points of its cells, and of all networks that train."""
        n = max(self.n)
        ghosts = math.ceil(40 / min(self.steepness)) + 1
        hidden = 4 * n * n * FINE + n * FINE * (n + 2 * ghosts)
        trained = 6 * self.replicates * TRAINING_POINTS * n
        draws = (INPUTS + n) * 5 * max(self.dimension) + INPUTS * n + 8 * self.averages
        return 2**24 + 8 * (2 * hidden + trained + draws)

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: method, target, n, norm; steepness; dimension."""
        frames: list[pd.DataFrame] = []
        for done, n in enumerate(self.n, start=1):
            for target in self.target:
                frames += self._splines(context, target, n)
                frames.append(self._trained(context, target, n))
            for steepness in self.steepness:
                frames.append(_staircase(context, n, steepness))
            for dimension in self.dimension:
                frames.append(self._cosines(context, n, dimension))
            context.progress(done / len(self.n))
        return concat(frames)

    def _splines(self, context: Context, name: str, n: int) -> Iterator[pd.DataFrame]:
        """Uniform knots, interpolated and by least squares; random ones by least squares."""
        f, told = TARGETS[name], theory.TARGETS[name]
        where: dict[str, Any] = {"target": name, "n": n}
        knots = np.arange(n + 1) / n
        rates = theory.spline_rates(told) if name in SMOOTH else None
        exact = theory.interpolation_error(told, knots, FINE)
        place, weight = _nodes(context, knots)
        at = torch.tensor(knots, device=context.device)
        fit = kernel.interpolant(place, at, f(at))
        # Slopes are differences of values over 1 / n, changes of slope differences of these.
        room = 32 * n**2 * U * fit.size
        rms = _rms(fit.values_M - f(place), weight)
        yield _error_rows(rms, exact.rms, rates and rates.interpolation, room,
                          method="interpolation", norm="rms", **where)  # fmt: skip
        fine = _fine(context, n)
        high = float((kernel.interpolant(fine, at, f(at)).values_M - f(fine)).abs().max())
        yield _error_rows(high, exact.largest, rates and rates.largest, room,
                          method="interpolation", norm="largest", **where)  # fmt: skip
        best = kernel.least_squares(place, weight, at, f(place))
        rms = _rms(best.values_M - f(place), weight)
        yield _error_rows(rms, theory.projection_error(told, knots), rates and rates.projection,
                          _fitted(len(place), n, best.size), method="least squares", norm="rms",
                          **where)  # fmt: skip
        errors, outside = [], []
        for replicate in range(self.replicates):
            inner = np.sort(context.numpy("knots", n, replicate).random(n - 1))
            random = np.concatenate([[0.0], inner, [1.0]])
            place, weight = _nodes(context, random)
            at = torch.tensor(random, device=context.device)
            best = kernel.least_squares(place, weight, at, f(place))
            found = _rms(best.values_M - f(place), weight)
            low, high = (
                theory.cellwise_error(told, random), theory.interpolation_error(told, random).rms
            )  # fmt: skip
            errors.append(found)
            beyond = max(low - found, found - high, 0.0)
            outside.append(beyond / _fitted(len(place), n, best.size))
        yield mean_rows("error", errors, method="random features", norm="rms", **where)
        yield rows("outside_bracket", max(outside), 0.0, method="random features", **where)

    def _trained(self, context: Context, name: str, n: int) -> pd.DataFrame:
        """ReLU networks of n units, trained by Adam on all points."""
        f = TARGETS[name]
        draws = [context.numpy("network", n, r) for r in range(self.replicates)]
        unit = np.stack([draw.uniform(-1, 1, (3, n)) for draw in draws], axis=1)
        unit[2] /= math.sqrt(n)
        first, bias, last = torch.tensor(unit, device=context.device)
        steps = torch.arange(TRAINING_POINTS, dtype=torch.float64, device=context.device)
        x = (steps + 0.5) / TRAINING_POINTS
        values = kernel.train(x, f(x), first, bias, last, self.steps, RATE)
        errors = (values - f(x)).square().mean(dim=1).sqrt().numpy(force=True)
        told = theory.TARGETS[name]
        floor = theory.free_knot_error(told, n) if name in SMOOTH else math.nan
        return mean_rows("error", errors, method="trained", norm="rms", target=name, n=n,
                         floor=floor, least=errors.min())  # fmt: skip

    def _cosines(self, context: Context, n: int, dimension: int) -> pd.DataFrame:
        """n times the mean square error of averages of n random cosines, over draws."""
        found = []
        for draw in range(self.averages):
            source = context.numpy("cosines", n, dimension, draw)
            frequencies = source.standard_normal((n, dimension))
            inputs = source.standard_normal((INPUTS, dimension)) / math.sqrt(dimension)
            w, x = (torch.tensor(a, device=context.device) for a in (frequencies, inputs))
            exact = torch.exp(-x.square().sum(dim=1) / 2)
            gap = kernel.cosine_average(x, w) - exact
            found.append(n * float(gap.square().mean()))
        told = theory.cosine_average_error(dimension, 1 / dimension)
        return mean_rows("scaled_square", found, told, method="random cosines", n=n,
                         dimension=dimension)  # fmt: skip

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Exact errors, their rates and constants; brackets; what training leaves."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The errors of one target at the widest, and who attains the rate."""
        part = select(table, "error", norm="rms")
        part = part[(part["n"] == part["n"].max()) & (part["target"] == part["target"].iloc[0])]
        made = part.set_index("method")["measured"]
        n, target = part["n"].iloc[0], part["target"].iloc[0]
        cosines = select(table, "scaled_square")
        return (
            f"With {n} ReLU units the {target} is met to {made['interpolation']:.2g} rms by "
            f"construction, {made['least squares']:.2g} at best on the same knots, "
            f"{made['random features']:.2g} on random ones and {made['trained']:.2g} by training; "
            f"n random cosines err by {cosines['measured'].mean():.2g} / n in mean square, in "
            f"dimension {' and '.join(str(d) for d in dict.fromkeys(cosines['dimension']))} alike."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Errors by units, a panel a target; sigmoids by steepness and random cosines."""
        return [_draw_splines(table), _draw_others(table)]


def _nodes(context: Context, knots: Array) -> tuple[Tensor, Tensor]:
    """Gauss's points in the cells, x = left + h t^2, and their weights, (cells NODES,)."""
    t, w = np.polynomial.legendre.leggauss(NODES)
    t, w = (t + 1) / 2, w / 2
    h = np.diff(knots)[:, None]
    place = (knots[:-1, None] + h * t**2).ravel()
    weight = (h * (2 * t * w)).ravel()
    return torch.tensor(place, device=context.device), torch.tensor(weight, device=context.device)


def _fine(context: Context, n: int) -> Tensor:
    count = n * FINE
    return torch.arange(count + 1, dtype=torch.float64, device=context.device) / count


def _rms(gap: Tensor, weight: Tensor) -> float:
    return math.sqrt(float((weight * gap.square()).sum()))


def _fitted(points: int, n: int, size: float) -> float:
    """The loss of a least squares fit to rounding: its backward error."""
    return float(gamma(points * (n + 1), U)) * size


def _error_rows(
    measured: float, predicted: float, rate: theory.Rate | None, room: float, **where: Any
) -> pd.DataFrame:
    """An error with its rounding, its constant and next term; nan for those that have none."""
    constant, following = rate or (math.nan, math.nan)
    return rows("error", measured, predicted, **where, rounding=room, constant=constant,
                following=following)  # fmt: skip


def _staircase(context: Context, n: int, steepness: float) -> pd.DataFrame:
    """sin(2 pi x) as a sum of sigmoids at the knots, some beyond the ends."""
    ghosts = math.ceil(40 / steepness) + 1
    at = torch.arange(-ghosts, n + ghosts + 1, dtype=torch.float64, device=context.device)
    sine = TARGETS["sine"]
    steps = sine((at + 0.5) / n) - sine((at - 0.5) / n)
    fine = _fine(context, n)[:-1] + 0.5 / (n * FINE)
    start = float(sine((at[:1] - 0.5) / n))
    fit = kernel.staircase(fine, at / n, steps, start, n * steepness)
    rms = float((fit.values_M - sine(fine)).square().mean().sqrt())
    # Arguments of size n steepness carry an error of u of that.
    room = float(gamma(4 * n * (1 + steepness) + 2 * ghosts + 16, U)) * fit.size
    return rows("error", rms, theory.staircase_error(n, steepness), method="sigmoids", norm="rms",
                target="sine", n=n, steepness=steepness, rounding=room)  # fmt: skip


def _claims(table: pd.DataFrame) -> list[Claim]:
    errors = select(table, "error")
    exact = errors[errors["rounding"].notna()]
    splines = exact[exact["method"].isin(["interpolation", "least squares"])]
    sigmoids = exact[exact["method"] == "sigmoids"]
    cosines, n = select(table, "scaled_square"), int(sigmoids["n"].max())
    made = [
        claims.bounded(
            "splines",
            "A ReLU layer with a unit at each knot is the linear spline, interpolated or by least "
            "squares: its error is the spline's, to rounding.",
            "de Boor 2001, A Practical Guide to Splines", splines, allowed=splines["rounding"],
        ),
        claims.bounded(
            "sigmoids",
            "A sum of n sigmoids at uniform knots errs as 1 / n if they are so steep that they "
            "are steps, and as 1 / n^2 while they are about as wide as the distance of two knots. "
            f"For the sine, by slope at {n} sigmoids: {_by_slope(sigmoids, n)}.",
            "Poisson's summation formula, exact for the sine", sigmoids,
            allowed=sigmoids["rounding"],
            folk="The steeper its sigmoids, the better a wide layer approximates.",
        ),
        claims.bounded(
            "random_features",
            "The error of least squares on random knots is at least that of the best line in each "
            "cell apart and at most the interpolant's, for every draw. Measured: how far it lies "
            "outside, over the rounding error bound.", "A spline on the same knots",
            select(table, "outside_bracket"), allowed=1.0,
        ),
        claims.statistical(
            "random_cosines",
            "Some functions don't know the dimension d: the average of n random cosines meets "
            "exp(-|x|^2 / 2) with a mean square error of (1 - 2 (1 + 2 v)^(-d/2) + (1 + 4 v)"
            "^(-d/2)) / (2 n), below 1 / (2 n) in any d, for inputs N(0, v I), here v = 1 / d. "
            "Measured: n times that. Allowed beside sampling: 24 / sqrt(draws) standard errors, "
            "for the skewness of squares.",
            "Barron 1993; Maurey's argument, exact",
            cosines.sort_values("dimension", ascending=False),
            resolution=cosines["predicted"].to_numpy(float),
            bias=24 * (cosines["stderr"] / np.sqrt(cosines["n_samples"])).to_numpy(float),
            folk="The units that are needed always grow exponentially with the dimension.",
        ),
    ]  # fmt: skip
    smooth = exact[exact["constant"].notna()]
    if not smooth.empty:
        n2 = smooth["n"].to_numpy(float) ** 2
        constant, following = smooth["constant"], smooth["following"].abs()
        scaled = smooth.assign(measured=smooth["measured"] * n2, predicted=constant)
        twice = np.where(smooth["norm"] == "rms", 2.0, 1.0)
        made.append(
            claims.bounded(
                "constants",
                "n^2 times the rms error of a smooth function is sqrt(int f''^2 / 120) by "
                "interpolation and sqrt(int f''^2 / 720) by least squares; n^2 times the largest "
                "error of interpolation is max |f''| / 8. For the sine: 2.5483, 1.0403, pi^2 / 2. "
                "Allowed: twice the next term, of order n^-2, for the first two, a bound on it for "
                "the last, and rounding.",
                "Expansion in a cell; Blu & Unser 1999", scaled,
                allowed=twice * constant * following / n2 + n2 * smooth["rounding"],
            )
        )  # fmt: skip
    slopes = _slopes(exact)
    if not slopes.empty:
        made.append(
            claims.bounded(
                "slopes",
                "The error of a smooth function falls as n^-2, the largest error of the square "
                "root, whose slope at 0 is infinite, as n^-1/2 only. Measured: d ln error / d ln n "
                "between neighbouring n. Allowed: twice the next terms.",
                "de Boor 2001, ch. III; root: sqrt(h) / 4 exactly", slopes,
                allowed=slopes["room"],
            )
        )  # fmt: skip
    trained = errors[(errors["method"] == "trained") & errors["floor"].notna()]
    if not trained.empty:
        share = trained["floor"] / trained["least"]
        made.append(
            claims.bounded(
                "trained",
                "No trained network beats the best n + 1 linear pieces, whose rms error is (int "
                "|f''|^(2/5))^(5/2) / (sqrt(720) (n + 1)^2): those trained here by Adam err by "
                f"{_behind(trained):.3g} times that at the widest, on average. Measured: the best "
                "pieces' error over that of the best network.",
                "de Boor 2001, ch. XII, to leading order",
                trained.assign(measured=share, predicted=0.0), allowed=1.0,
            )
        )  # fmt: skip
    return made


def _by_slope(sigmoids: pd.DataFrame, n: int) -> str:
    part = sigmoids[sigmoids["n"] == n].sort_values("steepness")
    return ", ".join(f"{row.measured:.2g} at {row.steepness:g} n" for row in part.itertuples())


def _behind(trained: pd.DataFrame) -> float:
    widest = trained[trained["n"] == trained["n"].max()]
    return float((widest["measured"] / widest["floor"]).max())


def _slopes(exact: pd.DataFrame) -> pd.DataFrame:
    """d ln error / d ln n between neighbouring n, smooth in both norms, the root's largest."""
    found = []
    chosen = exact[exact["method"] != "sigmoids"]
    for (target, norm, _), part in chosen.groupby(["target", "norm", "method"], sort=False):
        if target not in SMOOTH and norm != "largest":
            continue
        for (_, low), (_, high) in pairwise(part.sort_values("n").iterrows()):
            ratio = math.log(high["n"] / low["n"])
            terms = (
                abs(row["following"]) / row["n"] ** 2 + row["rounding"] / row["predicted"]
                if target in SMOOTH
                else row["rounding"] / row["predicted"]
                for row in (low, high)
            )
            slope = math.log(high["measured"] / low["measured"]) / ratio
            expected = -2.0 if target in SMOOTH else -0.5
            found.append((slope, expected, 2 * sum(terms) / ratio))
    return pd.DataFrame(found, columns=["measured", "predicted", "room"])


STYLES = {"interpolation": ("o", 0), "least squares": ("s", 1), "random features": ("D", 2),
          "trained": ("^", 3)}  # fmt: skip


def _draw_splines(table: pd.DataFrame) -> Figure:
    """Rms error by units, a panel a target."""
    from stability.plotting import PALETTE, canvas

    errors = select(table, "error", norm="rms")
    errors = errors[errors["method"].isin(STYLES)]
    targets = list(dict.fromkeys(errors["target"]))
    figure, axes = canvas(len(targets), height=3.8, sharey=True)
    for ax, target in zip(axes.flat, targets, strict=True):
        for method, (marker, i) in STYLES.items():
            part = errors[(errors["target"] == target) & (errors["method"] == method)]
            part = part.sort_values("n")
            color = PALETTE[i]
            ax.plot(part["n"], part["predicted"], color=color)
            ax.plot(part["n"], part["measured"], marker, color=color, label=method)
            if method == "trained":
                ax.plot(part["n"], part["floor"], ":", color=color)
        ax.set(xscale="log", yscale="log", xlabel="ReLU units n", title=target)
        ax.minorticks_off()
        ax.set_xticks(sorted(set(errors["n"])))
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("rms error on [0, 1]")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    widest = errors[(errors["n"] == errors["n"].max()) & (errors["target"] == targets[0])]
    words = ", ".join(f"{row.method} {row.measured:.2g}" for row in widest.itertuples())
    return Figure(
        "splines",
        "Rms errors of ReLU networks by their number of units. Lines: exact errors of the "
        "splines that they are; dotted: the least error that as many pieces can have with knots "
        "placed freely, which this training does not find. sine: sin(2 pi x), wave: "
        "exp(cos(2 pi x)), root: sqrt(x).",
        f"At {widest['n'].iloc[0]} units, {targets[0]}: {words}.",
        figure,
    )


def _draw_others(table: pd.DataFrame) -> Figure:
    """Sums of sigmoids by steepness, averages of cosines by dimension."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, (both,) = canvas(2, height=3.6)
    left, right = both
    steps = select(table, "error", method="sigmoids")
    for i, (steepness, part) in enumerate(steps.groupby("steepness")):
        mine = part.sort_values("n")
        left.plot(mine["n"], mine["predicted"], color=PALETTE[i])
        left.plot(mine["n"], mine["measured"], MARKERS[i], color=PALETTE[i],
                  label=f"slope {steepness:g} n")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="sigmoids n", ylabel="rms error for the sine",
             title="sums of sigmoids")  # fmt: skip
    left.legend(fontsize=8)
    cosines = select(table, "scaled_square")
    for i, (dimension, part) in enumerate(cosines.groupby("dimension")):
        mine = part.sort_values("n")
        n = mine["n"].to_numpy(float)
        right.plot(n, mine["predicted"] / n, color=PALETTE[i])
        right.errorbar(n, mine["measured"] / n, 2 * mine["stderr"] / n, fmt=MARKERS[i],
                       color=PALETTE[i], label=f"dimension {dimension}")  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="random cosines n", ylabel="mean square error",
              title="averages of cosines")  # fmt: skip
    right.legend(fontsize=8)
    for ax in (left, right):
        ax.minorticks_off()
        ax.set_xticks(sorted(set(steps["n"])))
        ax.xaxis.set_major_formatter("{x:g}")
    widest = steps[steps["n"] == steps["n"].max()]
    words = ", ".join(f"{row.steepness:g} n: {row.measured:.2g}" for row in widest.itertuples())
    return Figure(
        "others",
        "Left: a sine as a sum of sigmoids; steep ones are steps and err as 1 / n, "
        "softer ones as 1 / n^2. Right: the mean square error of n random cosines for "
        "exp(-|x|^2 / 2) is exactly c / n. Lines: predicted; bars: two standard errors.",
        f"Rms errors at {widest['n'].iloc[0]} sigmoids by slope: {words}.",
        figure,
    )
