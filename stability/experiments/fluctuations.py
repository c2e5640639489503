"""At finite width the size of signal and gradient is a random number: its law in depth / width."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.claims import Claim
from stability.errors import check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.table import concat, mean_rows, rows, select
from stability.theory import finite_width

BLOCK = 40
"""Networks drawn and run at once."""
THRESHOLDS = (0.01, 1.0, 10.0)
"""Of the squared norm's ratio, whose shares are told."""
EDGES = np.arange(-8.0, 4.01, 0.5)
"""Of the histogram, in decades of the squared norm's ratio."""
COUNTS = 25.0
"""Least N p (1 - p) of a share that is judged: its law is near enough to the Gaussian."""
PASSES = ("forward", "backward")


class _Passes(NamedTuple):
    """ln of the squared norm's ratio per network, (N, depths, slopes): -inf where it is dead."""

    forward: Tensor
    backward: Tensor


@dataclass(frozen=True)
class Fluctuations(Experiment):
    """ln ||h^L||^2 / ||x||^2 over network draws, beside its exact law (Hanin & Nica 2020)."""

    title: ClassVar[str] = "Fluctuations at finite width"
    question: ClassVar[str] = (
        "How far do signal and gradient of one random network stray from the mean that the "
        "initialization keeps?"
    )

    width: list[int] = field(default_factory=lambda: [8])
    depth: list[int] = field(default_factory=lambda: [8])
    slope: list[float] = field(default_factory=lambda: [0.0])
    replicates: int = 80

    def __post_init__(self) -> None:
        for name in ("width", "depth", "slope"):
            check_each(f"experiment.{name}", getattr(self, name))
        for width in self.width:
            check_range("experiment.width", width, at_least=1)
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=1)
        for slope in self.slope:
            check_range("experiment.slope", slope, at_least=0, at_most=1)
        check_range("experiment.replicates", self.replicates, at_least=1)

    def memory(self) -> int:
        """Bytes of one block: weights of all layers in float64 and float32, states, signs."""
        width, depth = max(self.width), max(self.depth)
        states = (depth + 4) * BLOCK * width * len(self.slope)
        return 8 * (BLOCK * (depth + 1) * width**2 + states)

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by width, depth and slope; samples are networks."""
        frames: list[pd.DataFrame] = []
        work = [w**2 for w in self.width]
        for index, width in enumerate(self.width):
            blocks = []
            for start in range(0, self.replicates, BLOCK):
                count = min(BLOCK, self.replicates - start)
                blocks.append(self._measure(context, width, start // BLOCK, count))
                done = (start + count) / self.replicates
                context.progress((sum(work[:index]) + done * work[index]) / sum(work))
            passes = [torch.cat(parts).cpu().numpy() for parts in zip(*blocks, strict=True)]
            frames.extend(self._rows(width, dict(zip(PASSES, passes, strict=True))))
        return concat(frames)

    def _measure(self, context: Context, width: int, block: int, count: int) -> _Passes:
        """Run ``count`` networks of the block forward on one input and back from each depth."""
        device = context.device
        slopes = torch.tensor(self.slope, dtype=torch.float64, device=device)
        gains = torch.sqrt(2 / (1 + slopes**2) / width)
        weights: list[Tensor] = []
        slant: list[Tensor] = []
        h = torch.ones((count, width, len(slopes)), dtype=torch.float64, device=device)
        forward = []
        for layer in range(1, max(self.depth) + 1):
            source = context.generator("weights", width, block, layer)
            unit = torch.randn((BLOCK, width, width), generator=source, device=device)[:count]
            weights.append(unit.double())
            z = (weights[-1] @ h) * gains
            slant.append(torch.where(z > 0, 1.0, slopes.expand_as(z)))
            h = z * slant[-1]
            if layer in self.depth:
                forward.append(((h * h).sum(dim=1) / width).log())
        source = context.generator("gradient", width, block)
        top = torch.randn((BLOCK, width, 1), generator=source, device=device)[:count].double()
        top = top / torch.linalg.vector_norm(top, dim=1, keepdim=True)
        backward = []
        for depth in sorted(self.depth):
            g = top.expand_as(h)
            for layer in range(depth, 0, -1):
                g = (weights[layer - 1].mT @ (g * slant[layer - 1])) * gains
            backward.append((g * g).sum(dim=1).log())
        return _Passes(torch.stack(forward, dim=1), torch.stack(backward, dim=1))

    def _rows(self, width: int, passes: dict[str, Any]) -> Iterator[pd.DataFrame]:
        depths = sorted(self.depth)
        for (i, depth), (j, slope) in product(enumerate(depths), enumerate(self.slope)):
            for name, logs in passes.items():
                cell = {"width": width, "depth": depth, "slope": slope, "pass": name}
                yield from _cell_rows(logs[:, i, j], cell)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The law's mean, variance, median and tails, and the dead."""
        made = []
        alive = _judged(select(table, "log_mean"))
        if not alive.empty:
            made.append(
                claims.statistical(
                    "log_mean",
                    "Of networks that are alive, E ln(||h^L||^2 / ||x||^2) is L times psi(n/2) + "
                    "ln(2 sigma_w^2 / n) + E ln T, T the share slope^2 + (1 - slope^2) "
                    "Beta(K/2, (n-K)/2): exactly, at any depth and width, forward and backward.",
                    "Hanin & Nica 2020",
                    alive,
                    resolution=np.inf,
                )
            )
            spread = _judged(select(table, "log_variance"))
            count = spread["n_samples"].to_numpy(float)
            made.append(
                claims.statistical(
                    "log_variance",
                    "The variance of that logarithm is L (psi_1(n/2) + Var ln T), which tends to "
                    "5 L / n for ReLU: depth over width decides. Within 24 / sqrt(samples) "
                    "standard errors more, for the skewness of a squared Gaussian.",
                    "Hanin & Nica 2020",
                    spread,
                    resolution=np.inf,
                    bias=24 / np.sqrt(count) * spread["stderr"].to_numpy(float),
                )
            )
        shares = _countable(select(table, "share_below"))
        median = shares[shares["level"] == "median"]
        if not median.empty:
            cell = _square_cell(table)
            typical = select(table[table["pass"] == "forward"], "median", **cell).iloc[0]
            made.append(
                _share_claim(
                    "median",
                    "The mean of ||h^L||^2 / ||x||^2 stays 1, but the median falls, for ReLU like "
                    f"exp(-2.5 L / n): at width {cell['width']}, depth {cell['depth']} and slope "
                    f"{cell['slope']:g} to {typical['measured']:.3g} (predicted "
                    f"{typical['predicted']:.3g}). Everywhere half of the networks lie below it.",
                    median,
                    folk="He initialization keeps the norm of the signal.",
                )
            )
        tails = shares[shares["level"] != "median"]
        if not tails.empty:
            made.append(
                _share_claim(
                    "tails",
                    "The shares of networks whose squared norm has changed by less than a factor "
                    "0.01, 1 and 10 are those of the exact law.",
                    tails,
                )
            )
        dead = _countable(select(table, "dead_share", **{"pass": "forward"}))
        if not dead.empty:
            made.append(
                _share_claim(
                    "dead",
                    "A ReLU network maps a given input to 0 with probability 1 - (1 - 2^-n)^L.",
                    dead,
                )
            )
        return made

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """Mean, median and tail of the cell whose depth over width is nearest 1."""
        cell = _square_cell(table)
        part = table[(table["pass"] == "forward") & (table["width"] == cell["width"])]
        row = select(part, "median", **cell).iloc[0]
        low = select(part, "share_below", level="0.01", **cell).iloc[0]
        return (
            f"At width {cell['width']}, depth {cell['depth']} and slope {cell['slope']:g} a few "
            f"large networks keep the mean of the squared norm: its median falls to "
            f"{row['measured']:.3g} of the input's (predicted {row['predicted']:.3g}), and "
            f"{100 * low['measured']:.1f} % of the networks keep less than a hundredth (predicted "
            f"{100 * low['predicted']:.1f} %)."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The collapse of all cells on depth / width; the law of one cell."""
        return [_draw_collapse(table), _draw_law(table)]


def _cell_rows(logs: Any, cell: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """The rows of one cell and pass from the logarithms, (N,), -inf where dead."""
    width, depth, slope = cell["width"], cell["depth"], cell["slope"]
    count = logs.size
    law = finite_width.leaky_log_norm(width, slope)
    alive = logs[np.isfinite(logs)]
    survivors = alive.size
    beta = finite_width.log_normal_variance([width] * depth, slope)
    if alive.size > 1:
        squares = (alive - alive.mean()) ** 2 * alive.size / (alive.size - 1)
    else:
        alive, squares = np.append(alive, np.nan)[:1], np.array([np.nan])
    yield mean_rows("log_mean", alive, depth * law.mean, **cell, beta=beta)
    yield mean_rows("log_variance", squares, depth * law.variance, **cell, beta=beta)
    yield mean_rows("mean", np.exp(logs), 1.0, **cell, beta=beta)
    middle = float(finite_width.log_norm_quantiles(0.5, width, depth, slope))
    around = middle + 1e-3 * math.sqrt(depth * law.variance) * np.array([-1.0, 1.0])
    below, above = finite_width.log_norm_cdf(around, width, depth, slope)
    with np.errstate(invalid="ignore"):
        density = (above - below) / (around[1] - around[0])
    spread = math.exp(middle) * 0.5 / density / math.sqrt(count) if density > 0 else np.nan
    yield rows("median", float(np.exp(np.median(logs))), math.exp(middle), spread, count,
               **cell, beta=beta)  # fmt: skip
    levels = {"median": middle, **{f"{x:g}": math.log(x) for x in THRESHOLDS}}
    dead = finite_width.dead_probability(width, depth) if slope == 0 else 0.0
    for level, bound in levels.items():
        if math.isfinite(bound):
            p = float(finite_width.log_norm_cdf(bound, width, depth, slope))
            yield _share("share_below", float(np.mean(logs <= bound)), p, count, **cell,
                         level=level)  # fmt: skip
    if slope == 0:
        yield _share("dead_share", 1 - survivors / count, dead, count, **cell)
    decades = EDGES * math.log(10)
    heights = np.histogram(alive, decades)[0] / count
    masses = np.diff(finite_width.log_norm_cdf(decades, width, depth, slope))
    yield _share("decade_share", heights, np.clip(masses, 0, 1), count, **cell,
                 log10_ratio=(EDGES[1:] + EDGES[:-1]) / 2)  # fmt: skip


def _share(quantity: str, measured: Any, p: Any, count: int, **factors: Any) -> pd.DataFrame:
    """Rows of a share with the standard error that the predicted probability gives it."""
    stderr = np.sqrt(np.asarray(p) * (1 - np.asarray(p)) / count)
    return rows(quantity, measured, p, stderr, count, **factors)


def _judged(part: pd.DataFrame) -> pd.DataFrame:
    """The rows of two samples at least: one has no standard error."""
    return part[part["n_samples"] > 1]


def _countable(shares: pd.DataFrame) -> pd.DataFrame:
    """The shares with N p (1 - p) of at least ``COUNTS``."""
    p = shares["predicted"].to_numpy(float)
    return shares[shares["n_samples"].to_numpy(float) * p * (1 - p) >= COUNTS]


def _share_claim(name: str, statement: str, part: pd.DataFrame, folk: str = "") -> Claim:
    return claims.statistical(
        name,
        f"{statement} Within 4.5 / samples, for the binomial law's skewness and steps.",
        "Hanin & Nica 2020; Davies 1973",
        part,
        resolution=np.inf,
        bias=4.5 / part["n_samples"].to_numpy(float),
        folk=folk,
    )


def _square_cell(table: pd.DataFrame) -> dict[str, Any]:
    """The factors whose depth over width is nearest 1, at the smallest slope."""
    part = table[table["slope"] == table["slope"].min()]
    ratio = np.log(part["depth"].to_numpy(float) / part["width"].to_numpy(float))
    row = part.iloc[int(np.argmin(np.abs(ratio)))]
    return {name: row[name] for name in ("width", "depth", "slope")}


def _draw_collapse(table: pd.DataFrame) -> Figure:
    """Variance of the logarithm and median against beta, every cell a mark."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(2)
    spread = select(table, "log_variance")
    middle = select(table, "median", **{"pass": "forward"})
    middle = middle[(middle["measured"] > 0) & (middle["predicted"] > 0)]
    for index, slope in enumerate(dict.fromkeys(table["slope"])):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        for ax, part in ((axes[0, 0], spread), (axes[0, 1], middle)):
            mine = part[part["slope"] == slope]
            hollow = mine["pass"] == "backward"
            for chosen, face in ((mine[~hollow], color), (mine[hollow], "none")):
                ax.errorbar(
                    chosen["beta"], chosen["measured"], 2 * chosen["stderr"], fmt=marker,
                    color=color, markerfacecolor=face, elinewidth=1,
                    label=f"slope {slope:g}" if face == color else None,
                )  # fmt: skip
            order = mine.sort_values("beta")
            ax.plot(order["beta"], order["predicted"], "_", color=color, ms=14, zorder=1)
    line = np.geomspace(*_ends(spread["beta"]), 50)
    axes[0, 0].plot(line, line, color=PALETTE[7], zorder=0, label="wide: $\\beta$")
    axes[0, 0].set(
        xscale="log", yscale="log", xlabel="$\\beta = c(a)\\,L/n$",
        ylabel="variance of $\\ln(\\|h^L\\|^2/\\|x\\|^2)$",
    )  # fmt: skip
    line = np.linspace(0, 1.05 * float(spread["beta"].max()), 80)
    axes[0, 1].plot(line, np.exp(-line / 2), color=PALETTE[7], zorder=0)
    axes[0, 1].axhline(1, color=PALETTE[1], ls="--", lw=1.2)
    axes[0, 1].annotate("the mean: 1", (0.98, 1), xycoords=("axes fraction", "data"), ha="right",
                        va="bottom", fontsize=9)  # fmt: skip
    axes[0, 1].set(
        yscale="log", xlabel="$\\beta = c(a)\\,L/n$",
        ylabel="median of $\\|h^L\\|^2/\\|x\\|^2$",
    )  # fmt: skip
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=5)
    widest = spread.loc[spread["beta"].idxmax()]
    return Figure(
        "collapse",
        "All widths and depths fall on one curve of beta, 5 L / n for ReLU (slope 0) and 2 L / n "
        "for a linear network (slope 1). Filled: forward; hollow: backward; bars: two standard "
        "errors; dashes: the exact law of that width; grey line: its wide limit, variance beta and "
        "median exp(-beta / 2).",
        f"Variance of the log norm from beta {spread['beta'].min():.2g} to {widest['beta']:.2g}, "
        f"where it is {widest['measured']:.2f} (exact law {widest['predicted']:.2f}, wide limit "
        f"{widest['beta']:.2f}).",
        figure,
    )


def _ends(values: pd.Series) -> tuple[float, float]:
    return 0.8 * float(values.min()), 1.25 * float(values.max())


def _draw_law(table: pd.DataFrame) -> Figure:
    """The histogram of the cell whose depth over width is nearest 1, mean and median marked."""
    from stability.plotting import PALETTE, canvas

    shares, cell = select(table, "decade_share"), _square_cell(table)
    figure, axes = canvas(height=3.2)
    ax = axes[0, 0]
    for index, (name, style) in enumerate(zip(PASSES, ("o", "s"), strict=True)):
        part = select(shares, "decade_share", **cell, **{"pass": name})
        x = part["log10_ratio"].to_numpy(float) + (0.04 if index else -0.04)
        ax.errorbar(
            x, part["measured"], 2 * part["stderr"], fmt=style, color=PALETTE[index],
            label=f"measured, {name}", elinewidth=1,
        )  # fmt: skip
    ax.stairs(part["predicted"], EDGES, color=PALETTE[0], label="exact law")
    middle = select(table, "median", **cell, **{"pass": "forward"}).iloc[0]
    ax.axvline(0, color=PALETTE[1], ls="--", label="mean 1")
    if middle["predicted"] > 0:
        at = math.log10(middle["predicted"])
        ax.axvline(at, color=PALETTE[2], label=f"median {middle['predicted']:.3g}")
    ax.set(
        xlabel="$\\log_{10}(\\|h^L\\|^2 / \\|x\\|^2)$, decades",
        ylabel="share of networks in half a decade",
    )  # fmt: skip
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=5)
    return Figure(
        "law",
        f"The squared norm after {cell['depth']} layers of {cell['width']} units, slope "
        f"{cell['slope']:g}, over network draws: the mean is kept by a few large ones, the "
        "typical network lies far below. Bars: two standard errors.",
        f"Histogram of log10 of the squared norm's ratio; predicted median "
        f"{middle['predicted']:.3g}, measured {middle['measured']:.3g}; mean 1.",
        figure,
    )
