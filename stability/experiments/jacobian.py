"""Singular values of a deep network's Jacobian at criticality, beside free probability."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.catalogue.activations import ACTIVATIONS
from stability.claims import Claim
from stability.errors import InputError, check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.jacobian import jacobians
from stability.table import concat, mean_rows, select
from stability.theory import jacobian, width_correction

WEIGHTS = ("gaussian", "orthogonal")
EXACT = ("linear", "relu", "leaky_relu", "prelu")
"""Piecewise linear with one kink at 0: their finite-width moments are known exactly."""
BINS = 24
"""Of the histogram up to 1.15 times the limiting law's end."""
BLOCK = 8
"""Networks drawn at once."""

ROUNDING = 1e-10
"""Of Gaussian moments, relative."""
MEANING = {
    1: ": the mean square of what a direction is multiplied by stays 1",
    2: ", and grows with depth: some directions explode while most vanish",
}
FOLK = "At the critical initialization the gradient is stable, whatever the direction."


class _Theory(NamedTuple):
    """What theory says of one activation at q."""

    sigma_w: float
    sigma_b: float
    squares: Any
    masses: Any
    mu: list[float]


@lru_cache(maxsize=64)
def _theory(activation: str, q: float) -> _Theory:
    """sigma_w^2 = 1 / E phi'^2 and the biases that keep q; raises InputError where none do."""
    entry = ACTIVATIONS[activation]
    slope, size = float(entry.slope_moment(q)), float(entry.second_moment(q))
    rest = q - size / slope if slope > 0 else -math.inf
    if rest < -ROUNDING * q:
        raise InputError(
            f"experiment.q={q!r}: {activation} has no critical initialization of that variance"
        )
    sigma_w, sigma_b = 1 / math.sqrt(slope), math.sqrt(rest) if rest > ROUNDING * q else 0.0
    squares, masses = jacobian.derivative_law(entry, q)
    mu = [float(masses @ squares**k) for k in (1, 2)]
    return _Theory(sigma_w, sigma_b, squares, masses, mu)


@lru_cache(maxsize=256)
def _histogram(activation: str, q: float, depth: int, weights: str) -> tuple[Any, Any]:
    """Edges of the bins in singular values and the limiting law's mean density in each."""
    at = _theory(activation, q)
    law = (at.squares, at.masses, depth, weights, at.sigma_w)
    edges: Any = np.linspace(0, 1.15 * math.sqrt(jacobian.limit_edge(*law).end), BINS + 1)
    return edges, jacobian.binned_density(edges, *law)


@dataclass(frozen=True)
class Jacobian(Experiment):
    """J = D_L W_L ... D_1 W_1 where gradients neither grow nor shrink (Pennington et al. 2017)."""

    title: ClassVar[str] = "Jacobian singular values"
    question: ClassVar[str] = (
        "Where the mean gradient is stable, how unequal are the directions of a deep network's "
        "input, and do orthogonal weights even them out?"
    )

    activation: list[str] = field(default_factory=lambda: ["relu"])
    weights: list[str] = field(default_factory=lambda: ["gaussian"])
    depth: list[int] = field(default_factory=lambda: [2])
    width: list[int] = field(default_factory=lambda: [12])
    q: float = 0.1
    replicates: int = 12

    def __post_init__(self) -> None:
        for name in ("activation", "weights", "depth", "width"):
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for name in self.weights:
            check_choice("experiment.weights", name, WEIGHTS)
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=1)
        for width in self.width:
            check_range("experiment.width", width, at_least=1)
        check_range("experiment.q", self.q, above=0)
        check_range("experiment.replicates", self.replicates, at_least=1)
        for name in self.activation:
            _theory(name, self.q)

    def memory(self) -> int:
        """Bytes of one block: Jacobians of all activations and depths, and work for one product."""
        states = len(self.activation) * (2 * len(self.depth) + 3) + 3
        return 8 * states * BLOCK * max(self.width) ** 2 + 64 * max(self.depth)

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by activation, weights, depth and width; samples are networks."""
        frames: list[pd.DataFrame] = []
        jobs = list(product(self.width, self.weights))
        work = np.cumsum([0, *(width**3 for width, _ in jobs)]) / sum(w**3 for w, _ in jobs)
        for index, (width, weights) in enumerate(jobs):
            blocks = []
            for start in range(0, self.replicates, BLOCK):
                count = min(BLOCK, self.replicates - start)
                blocks.append(self._measure(context, width, weights, start // BLOCK, count))
                done = (start + count) / self.replicates
                context.progress(float(work[index] + done * (work[index + 1] - work[index])))
            squares = torch.cat(blocks, dim=2).cpu().numpy()
            for (i, depth), (j, name) in product(
                enumerate(sorted(self.depth)), enumerate(self.activation)
            ):
                cell = {"activation": name, "weights": weights, "depth": depth, "width": width}
                frames.extend(_cell_rows(squares[i, j], cell, self.q))
        return concat(frames)

    def _measure(
        self, context: Context, width: int, weights: str, block: int, count: int
    ) -> Tensor:
        """Squared singular values, ascending, (depths, activations, count, width)."""
        settings = [_theory(name, self.q) for name in self.activation]
        entries = [ACTIVATIONS[name] for name in self.activation]
        gains, offsets = [s.sigma_w for s in settings], [s.sigma_b for s in settings]
        start = torch.tensor(
            [math.sqrt(max(0.0, self.q - s.sigma_b**2)) / s.sigma_w for s in settings],
            dtype=torch.float64, device=context.device,
        )  # fmt: skip
        found = jacobians(
            start[:, None, None].expand(-1, count, width),
            self._layers(context, width, weights, block, count),
            gains,
            offsets,
            [(entry.forward, entry.derivative) for entry in entries],
        )
        return torch.stack(
            [
                torch.linalg.svdvals(product_).flip(-1) ** 2
                for layer, product_ in enumerate(found, 1)
                if layer in self.depth
            ]
        )

    def _layers(
        self, context: Context, width: int, weights: str, block: int, count: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Unit weights and biases of a block's networks, layer by layer."""
        for layer in range(1, max(self.depth) + 1):
            source = context.generator("weights", weights, width, block, layer)
            unit = _draw(weights, width, source)[:count]
            source = context.generator("bias", width, block, layer)
            bias = torch.randn((BLOCK, width), generator=source, device=context.device)[:count]
            yield unit, bias.double()

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The exact moments, the limits, the largest singular value, isometry."""
        made = []
        for quantity, order in (("first_moment", 1), ("second_moment", 2)):
            rows = select(table, quantity)
            rows = rows[rows["activation"].isin(EXACT) & ~_isometric(rows)]
            if _judged(rows).empty:
                continue
            made.append(
                claims.statistical(
                    f"exact_{quantity}",
                    f"E tr (J J^T)^{order} / n of piecewise linear networks is that of independent "
                    f"derivatives, exactly at any width{MEANING[order]}. An allowance for the "
                    "sample's skewness, taken as a log-normal law's.",
                    "Hanin & Nica 2020; Pennington et al. 2017",
                    _judged(rows),
                    resolution=np.inf,
                    bias=_skewness(_judged(rows)),
                    folk=FOLK if order == 2 else "",
                )
            )
        smooth = select(table, "first_moment")
        smooth = _judged(smooth[~smooth["activation"].isin(EXACT)])
        smooth = smooth[smooth["weights"] == "gaussian"]
        if not smooth.empty:
            made.append(
                claims.statistical(
                    "first_moment",
                    "E tr J J^T / n of other activations with Gaussian weights is 1 and its first "
                    "order in 1 / n, within the square of that order's terms and the same "
                    "allowance.",
                    "width_correction: the delta method along the layers",
                    smooth,
                    resolution=np.inf,
                    bias=smooth["neglected"].to_numpy(float) + _skewness(smooth),
                )
            )
        for quantity, name, statement in (
            ("relative_variance", "variance",
             "The variance of the squared singular values over their squared mean tends to "
             "L (mu_2 / mu_1^2 - 1 - s_1), s_1 = -1 for Gaussian, 0 for orthogonal weights"),
            ("mean_singular_value", "mean_singular_value",
             "The mean singular value of a product of L Gaussian matrices tends to "
             "C(L/2 + 1/2, 1/2) / (L/2 + 1), 8 / (3 pi) for one"),
        ):  # fmt: skip
            rows, bias = extrapolated(_judged(select(table, quantity)))
            if not rows.empty:
                made.append(
                    claims.statistical(
                        name,
                        f"{statement}: extrapolated in 1 / n from the two largest widths, within "
                        "2 change^2 / limit for the next order, change being that between them.",
                        "Pennington et al. 2017; Penson & Zyczkowski 2011",
                        rows,
                        resolution=np.inf,
                        bias=bias,
                    )
                )
        top = _judged(select(table, "largest_square", activation="linear", weights="gaussian"))
        if not top.empty:
            share = top["depth"].to_numpy(float) / top["width"].to_numpy(float)
            made.append(
                claims.statistical(
                    "edge",
                    "The largest squared singular value of a linear Gaussian network has the mean "
                    "(L+1)^(L+1) / L^L - 1.2065 (n c)^(-2/3), within L / n of it for the next "
                    "order, which is known at L = 1 alone: 1 / (2 n).",
                    "Tracy & Widom 1996; Johnstone 2001; Liu, Wang & Zhang 2016",
                    top,
                    resolution=np.inf,
                    bias=share * top["predicted"].to_numpy(float),
                )
            )
        rigid = select(table, "distance_from_isometry")
        if not rigid.empty:
            size = rigid["depth"].to_numpy(float) * rigid["width"].to_numpy(float)
            made.append(
                claims.bounded(
                    "isometry",
                    "Orthogonal weights without nonlinearity keep every length: all squared "
                    "singular values are 1 up to rounding, 32 L n units of it.",
                    "Saxe et al. 2014",
                    rigid,
                    allowed=32 * size * 2.0**-53,
                )
            )
        return made

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The deepest and widest networks' relative variances."""
        rows = select(table, "relative_variance")
        rows = rows[rows["depth"] == rows["depth"].max()]
        rows = rows[rows["width"] == rows["width"].max()]
        words = "; ".join(
            f"{row.activation} with {row.weights} weights {row.measured:.3g} (limit "
            f"{row.predicted:.3g})"
            for row in rows.sort_values("measured").itertuples()
        )
        return (
            f"After {rows['depth'].iloc[0]} layers of {rows['width'].iloc[0]} units the squared "
            f"singular values vary around their mean by a relative variance of: {words}."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The variance by depth; the spectra of the deepest networks."""
        return [_draw_variance(table), _draw_spectra(table)]


def _isometric(rows: pd.DataFrame) -> Any:
    return (rows["activation"] == "linear") & (rows["weights"] == "orthogonal")


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of two samples at least: one has no standard error."""
    return rows[rows["n_samples"] > 1]


def _skewness(rows: pd.DataFrame) -> Any:
    """How far a mean's t statistic errs for the sample's skewness, in the units of measured.

    gamma (2 t^2 + 1) / (6 sqrt(N)) standard errors (Hall 1992, The Bootstrap and Edgeworth
    Expansion) at t = 5; gamma = (v + 3) sqrt(v) for a log-normal law of relative
    variance v.
    """
    count, error = rows["n_samples"].to_numpy(float), rows["stderr"].to_numpy(float)
    relative = np.sqrt(count) * error / rows["measured"].to_numpy(float)
    return (relative**2 + 3) * relative * 51 / 6 / np.sqrt(count) * error


def _draw(weights: str, width: int, source: torch.Generator) -> Tensor:
    """(BLOCK, width, width) in float64: rows of mean square 1 / width."""
    unit = torch.randn(
        (BLOCK, width, width), generator=source, device=source.device, dtype=torch.float64
    )
    if weights == "gaussian":
        return unit / math.sqrt(width)
    q, r = torch.linalg.qr(unit)
    haar: Tensor = q * torch.sgn(torch.diagonal(r, dim1=-2, dim2=-1))[:, None, :]
    return haar


def _cell_rows(squares: Any, cell: dict[str, Any], q: float) -> Iterator[pd.DataFrame]:
    """The rows of one cell from the squared singular values (N, n), ascending.

    For smooth activations the second moment is predicted with independent derivatives, and the
    largest square with Tracy and Widom's shift: neither is proven, nor judged.
    """
    name, weights, depth, width = (cell[k] for k in ("activation", "weights", "depth", "width"))
    at = _theory(name, q)
    exact = jacobian.finite_moments(width, depth, at.mu, weights, at.sigma_w)
    first, neglected = 1.0, 0.0
    if name not in EXACT:
        order = width_correction.gradient_ratio(
            depth, q, ACTIVATIONS[name], at.sigma_w, width, at.sigma_b
        )
        first, neglected = order.value if weights == "gaussian" else np.nan, order.neglected
    m1, m2 = squares.mean(axis=1), (squares**2).mean(axis=1)
    yield mean_rows("first_moment", m1, first, **cell, neglected=neglected)
    yield mean_rows("second_moment", m2, exact.of_squares, **cell)
    spread = jacobian.relative_variance(depth, at.mu, weights)
    with np.errstate(invalid="ignore"):
        yield mean_rows("relative_variance", m2 / m1**2 - 1, spread, **cell)
    if name == "linear" and weights == "gaussian":
        middle = jacobian.fuss_catalan(depth, 0.5)
        yield mean_rows("mean_singular_value", np.sqrt(squares).mean(axis=1), middle, **cell)
    law = (at.squares, at.masses, depth, weights, at.sigma_w)
    edge = jacobian.limit_edge(*law)
    top = jacobian.largest_square(width, edge)[0] if edge.slope > 0 else edge.end
    yield mean_rows("largest_square", squares[:, -1], top, **cell)
    if name == "linear" and weights == "orthogonal":
        yield mean_rows("distance_from_isometry", np.abs(squares - 1).max(axis=1), 0.0, **cell)
    edges, density = _histogram(name, q, depth, weights)
    counts = np.stack([np.histogram(np.sqrt(x), edges)[0] for x in squares])
    heights = counts / (width * np.diff(edges))
    yield mean_rows("singular_value_density", heights, density, **cell,
                    singular_value=(edges[1:] + edges[:-1]) / 2)  # fmt: skip


def extrapolated(rows: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    """The rows at 1 / n = 0 on the line through the two largest widths, and the next order's bound.

    Empty with one width.  If the logarithm is linear in 1 / n, the line errs by change^2 /
    (2 limit) at a ratio of widths of 2.
    """
    widths = sorted(set(rows["width"]))[-2:]
    if len(widths) < 2:
        return rows.iloc[:0], 0.0
    keys = ["activation", "weights", "depth"]
    low, high = (rows[rows["width"] == width].set_index(keys) for width in widths)
    share = widths[0] / (widths[1] - widths[0])
    made = high.assign(
        measured=high["measured"] + share * (high["measured"] - low["measured"]),
        stderr=np.hypot((1 + share) * high["stderr"], share * low["stderr"]),
    )
    kept = (made["predicted"] > 1e-6) & np.isfinite(made["stderr"])
    change = (high["measured"] - low["measured"])[kept]
    made = made[kept]
    return made.reset_index(), (2 * change**2 / made["predicted"]).to_numpy(float)


def _draw_variance(table: pd.DataFrame) -> Figure:
    """Relative variance of the squared singular values against depth, a panel a law of weights."""
    from stability.plotting import MARKERS, PALETTE, canvas

    rows = select(table, "relative_variance")
    rows = rows[rows["width"] == rows["width"].max()]
    laws = list(dict.fromkeys(rows["weights"]))
    figure, axes = canvas(len(laws), sharey=True)
    for ax, law in zip(axes.flat, laws, strict=True):
        for index, name in enumerate(dict.fromkeys(rows["activation"])):
            part = select(rows, "relative_variance", weights=law, activation=name)
            if not (part["predicted"] > 0).all():
                continue
            color = PALETTE[index % len(PALETTE)]
            ax.plot(part["depth"], part["predicted"], color=color)
            ax.errorbar(
                part["depth"], part["measured"], 2 * part["stderr"], color=color, elinewidth=1,
                fmt=MARKERS[index % len(MARKERS)], label=name,
            )  # fmt: skip
        ax.set(title=f"{law} weights", xscale="log", yscale="log", xlabel="depth $L$ (layers)")
    axes[0, 0].set_ylabel("variance / mean$^2$ of $s^2$")
    handles = {
        label: handle
        for ax in axes.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=6)
    words = "; ".join(
        f"{row.activation}, {row.weights}, L {row.depth}: {row.measured:.3g} ({row.predicted:.3g})"
        for row in rows[rows["depth"] == rows["depth"].max()].itertuples()
    )
    return Figure(
        "variance",
        f"How unequal the directions are, width {rows['width'].iloc[0]}: the variance of the "
        "squared singular values grows in proportion to depth, by 2 a layer for ReLU with "
        "Gaussian weights, by 1 with orthogonal ones. Tanh at small q is nearly linear: with "
        "Gaussian weights it lies on the linear network, with orthogonal ones, which leave a "
        "linear network none at all, it stays low. Lines: the limit of infinite width; bars: two "
        "standard errors.",
        f"Relative variance of the squared singular values, measured (limit): {words}.",
        figure,
    )


def _draw_spectra(table: pd.DataFrame) -> Figure:
    """Histograms of the singular values of the widest and deepest networks and their limits."""
    from stability.plotting import PALETTE, canvas

    rows = select(table, "singular_value_density")
    rows = rows[rows["width"] == rows["width"].max()]
    rows = rows[(rows["depth"] == rows["depth"].max()) & rows["predicted"].notna()]
    laws = list(dict.fromkeys(rows["weights"]))
    names = list(dict.fromkeys(rows["activation"]))
    columns = max(1, min(3, len(names)))
    figure, axes = canvas(columns, max(1, -(-len(names) // columns)), height=3.0)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        for index, law in enumerate(laws):
            part = select(rows, "singular_value_density", weights=law, activation=name)
            part = part[part["singular_value"] > part["singular_value"].min()]
            color = PALETTE[index]
            ax.plot(part["singular_value"], part["predicted"], color=color)
            ax.errorbar(
                part["singular_value"], part["measured"], 2 * part["stderr"], color=color,
                fmt="os"[index], ms=3.5, elinewidth=1, label=f"{law} weights",
            )  # fmt: skip
        ax.set(title=name, xlabel="singular value $s$")
    axes[0, 0].set_ylabel("density")
    if names:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    top = select(table, "largest_square")
    top = top[(top["depth"] == top["depth"].max()) & (top["width"] == top["width"].max())]
    words = "; ".join(
        f"{row.activation}, {row.weights}: {row.measured:.3g} ({row.predicted:.3g})"
        for row in top.itertuples()
    )
    return Figure(
        "spectra",
        f"Singular values of the Jacobian of {top['depth'].iloc[0]} layers of "
        f"{top['width'].iloc[0]} units; the bin at 0 is left out. Marks: mean over networks with "
        "two standard errors; lines: the limiting density of free probability.",
        f"Densities of singular values; largest squared one, measured (predicted): {words}.",
        figure,
    )
