"""Gradients through depth vanish or explode at the rate that mean-field theory predicts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch

from stability import claims
from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS, draw_unit
from stability.claims import Claim
from stability.errors import InputError, check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.signal import Cell, Gradients, Signals, Workspace, propagate
from stability.table import concat, mean_rows, select
from stability.theory import meanfield, width_correction
from stability.theory.finite_width import relu_log_norm
from stability.theory.floating_point import FORMATS, loss_depth

DTYPES = {"float64": torch.float64, "float32": torch.float32}
LOSSY = ("float32", "float16", "bfloat16")
COSINE = 0.5
"""Between the two inputs of a pair."""
WIDTH_BIAS = 3.5
"""Allowance for |E ln|g|^2 - mean field| in units of depth / width, where no first order in
1 / width is derived: weight gradients, and weights that are not Gaussian.  Not a bound: 2.5 is
ReLU's at He's scale, 1 is for the next order; deep in the chaotic phase tanh's is 4.8."""


STABLE = 3.0
"""Decades of change over the whole depth that still count as stable: float16 keeps four above its
smallest normal number for a gradient of order one."""
STATE = 2**18
"""Numbers in a state of all configurations of a width beside which another draw may run."""


class _Pass(NamedTuple):
    """What ``propagate`` found of the configurations of one law of weights."""

    cells: list[int]
    signals: Signals
    gradients: dict[int, Gradients]


def _cell(activation: str, init: str, sigma_w: float, sigma_b: float, width: int) -> Cell:
    entry, std = ACTIVATIONS[activation], sigma_w * INITIALIZATIONS[init].std(width, width)
    return Cell(entry.forward, entry.derivative, std, sigma_b, entry.homogeneous)


def _samples(chunks: list[torch.Tensor], cell: int) -> np.ndarray[Any, Any]:
    """One configuration of (layers, S, C) chunks as (samples, layers)."""
    return torch.cat(chunks, dim=1)[:, :, cell].T.cpu().numpy()


@dataclass(frozen=True)
class GradientFlow(Experiment):
    """Second moments, similarity and gradients by layer, beside mean field (Schoenholz 2017)."""

    title: ClassVar[str] = "Gradient flow"
    question: ClassVar[str] = (
        "At which rate do gradients vanish or explode through depth, and when is a format's range "
        "used up?"
    )

    depth: list[int] = field(default_factory=lambda: [6])
    width: list[int] = field(default_factory=lambda: [24])
    activation: list[str] = field(default_factory=lambda: ["tanh"])
    init: list[str] = field(default_factory=lambda: ["xavier"])
    sigma_w: list[float] = field(default_factory=lambda: [1.0])
    sigma_b: list[float] = field(default_factory=lambda: [0.0])
    batch: int = 8
    replicates: int = 4
    dtype: str = "float64"

    def __post_init__(self) -> None:
        for name in ("depth", "width", "activation", "init", "sigma_w", "sigma_b"):
            check_each(f"experiment.{name}", getattr(self, name))
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=1)
        for width in self.width:
            check_range("experiment.width", width, at_least=1)
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for name in self.init:
            check_choice("experiment.init", name, INITIALIZATIONS)
        for sigma in self.sigma_w:
            check_range("experiment.sigma_w", sigma, above=0)
        for sigma in self.sigma_b:
            check_range("experiment.sigma_b", sigma, at_least=0)
        check_range("experiment.batch", self.batch, at_least=2)
        if self.batch % 2:
            raise InputError(f"experiment.batch={self.batch!r}: must be even, inputs come in pairs")
        check_range("experiment.replicates", self.replicates, at_least=1)
        check_choice("experiment.dtype", self.dtype, DTYPES)

    def memory(self) -> int:
        """Bytes of the network draws of one chunk: slopes, states, gradients and weights."""
        cells, depth = len(self._cells()), max(self.depth)
        sizes = []
        for width in self.width:
            together = self._together(width)
            state = together * cells * self.batch * width
            gradients = 3 * len(self.depth) * state
            weights = len(self.init) * depth * together * width * width
            sizes.append(2 * (depth + 2) * state + gradients + weights + 8 * state)
        return 2**27 + 8 * max(sizes)

    def _cells(self) -> list[tuple[str, str, float, float]]:
        return list(product(self.activation, self.init, self.sigma_w, self.sigma_b))

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by layer and by configuration; samples are network draws."""
        frames: list[pd.DataFrame] = []
        workspace = Workspace()
        for index, width in enumerate(self.width):
            passes, size = [], self._together(width)
            for start in range(0, self.replicates, size):
                chunk = range(start, min(start + size, self.replicates))
                passes.append(self._measure(context, width, chunk, workspace))
                context.progress((index + chunk.stop / self.replicates) / len(self.width))
            frames.extend(self._rows(width, passes))
        return concat(frames)

    def _together(self, width: int) -> int:
        """Network draws that run side by side: as many as keep one state of all cells in cache."""
        return min(self.replicates, max(1, STATE // (len(self._cells()) * self.batch * width)))

    def _measure(
        self, context: Context, width: int, chunk: range, workspace: Workspace
    ) -> list[_Pass]:
        """Some network draws: every configuration of this width, every depth; one pass a law."""
        cells, dtype = self._cells(), DTYPES[self.dtype]
        laws = [INITIALIZATIONS[init].law for _, init, _, _ in cells]
        inputs = torch.stack([self._inputs(context, width, one) for one in chunk]).to(dtype)
        tops = torch.stack([self._top(context, width, one) for one in chunk]).to(dtype)
        layers = range(1, max(self.depth) + 1)
        biases = [
            torch.stack([self._bias(context, width, one, layer) for one in chunk]).to(dtype)
            for layer in layers
        ]
        passes = []
        for law in dict.fromkeys(laws):
            at = [index for index, of in enumerate(laws) if of == law]
            weights = []
            for layer in layers:
                sources = [context.generator("weights", law, width, one, layer) for one in chunk]
                units = [draw_unit(law, (width, width), source) for source in sources]
                weights.append(torch.stack(units).to(dtype))
            passes.append(
                _Pass(
                    at,
                    *propagate(
                        inputs, weights, biases, [_cell(*cells[index], width) for index in at],
                        dict.fromkeys(self.depth, tops), workspace,
                    ),
                )
            )  # fmt: skip
        return passes

    def _bias(self, context: Context, width: int, replicate: int, layer: int) -> torch.Tensor:
        source = context.generator("bias", width, replicate, layer)
        return torch.randn(width, generator=source, device=context.device)

    def _top(self, context: Context, width: int, replicate: int) -> torch.Tensor:
        """The gradient at the top of a net of any depth: a direction, of length 1."""
        source = context.generator("gradient", width, replicate, self.batch)
        top = torch.randn(self.batch, width, generator=source, device=context.device).double()
        unit: torch.Tensor = top / torch.linalg.vector_norm(top)
        return unit

    def _inputs(self, context: Context, width: int, replicate: int) -> torch.Tensor:
        """Rows of mean square 1; rows 2i and 2i+1 have the cosine ``COSINE`` (1 at width 1)."""
        source = context.generator("inputs", width, replicate, self.batch)
        drawn = torch.randn(self.batch, width, generator=source, device=context.device).double()
        first = torch.nn.functional.normalize(drawn[0::2], dim=-1)
        rest = drawn[1::2] - (drawn[1::2] * first).sum(-1, keepdim=True) * first
        rest = torch.nn.functional.normalize(rest, dim=-1)
        second = COSINE * first + math.sqrt(1 - COSINE**2) * rest
        second = torch.nn.functional.normalize(second, dim=-1)
        return torch.stack([first, second], dim=1).reshape(self.batch, width) * math.sqrt(width)

    def _rows(self, width: int, passes: list[list[_Pass]]) -> Iterator[pd.DataFrame]:
        """The rows of one width; samples are network draws."""
        two = math.log10(2)
        for c, (activation, init, sigma_w, sigma_b) in enumerate(self._cells()):
            entry = ACTIVATIONS[activation]
            gain = sigma_w * INITIALIZATIONS[init].std(width, width) * math.sqrt(width)
            for depth in self.depth:
                cell: dict[str, Any] = {
                    "width": width, "depth": depth, "activation": activation, "init": init,
                    "sigma_w": sigma_w, "sigma_b": sigma_b,
                }  # fmt: skip
                layer = np.arange(1, depth + 1)
                q1 = gain**2 + sigma_b**2
                q = meanfield.variances(depth, q1, entry, gain, sigma_b)
                following = meanfield.variance_map(q, entry, 1.0)
                chis = meanfield.chi(q, entry, gain)
                c1 = (gain**2 * COSINE + sigma_b**2) / q1
                similar = meanfield.correlations(depth, q1, c1, entry, gain, sigma_b)
                with np.errstate(divide="ignore"):
                    steps = np.log10(chis)
                above = meanfield.log_gradients(steps[1:])
                slope = meanfield.gradient_rate(steps[1:]) if depth > 1 else np.nan
                dw = meanfield.log10_weight_gradients(q, entry, gain, width)
                part = next(k for k, one in enumerate(passes[0]) if c in one.cells)
                own = [each[part] for each in passes]
                position = own[0].cells.index(c)
                z2, h2, cosine = (
                    _samples([getattr(each.signals, name)[:depth] for each in own], position)
                    for name in Signals._fields
                )
                gh, gw, plain = (
                    _samples([getattr(each.gradients[depth], name) for each in own], position)
                    for name in Gradients._fields
                )
                z2, h2, gh, gw, plain = (2 * two * x for x in (z2, h2, gh, gw, plain))
                with np.errstate(divide="ignore", invalid="ignore"):
                    log_q, log_h = np.log10(q), np.log10(following)
                shift, room = _finite_width(cell, "preactivation", gain)
                yield mean_rows("log10_preactivation_moment", z2, log_q, **cell, layer=layer,
                                shift=shift, room=room)  # fmt: skip
                yield mean_rows("log10_activation_moment", h2, log_h, **cell, layer=layer)
                yield mean_rows("similarity", cosine, similar, **cell, layer=layer)
                yield mean_rows("log10_gradient_h_squared", gh, above, **cell, layer=layer)
                yield mean_rows("log10_gradient_w_squared", gw, dw, **cell, layer=layer)
                yield mean_rows("plain_float32_log10_gradient_h_squared", plain, above, **cell,
                                layer=layer)  # fmt: skip
                if depth > 1:
                    shift, room = _finite_width(cell, "gradient", gain)
                    per_layer = 1 / (2 * (depth - 1))
                    with np.errstate(invalid="ignore"):
                        slopes = (gh[:, 0] - gh[:, -1]) / (2 * (depth - 1))
                    change = float(slopes.mean()) * (depth - 1)
                    yield mean_rows(
                        "gradient_decades_per_layer", slopes, slope, **cell,
                        verdict=verdict(change), shift=shift[0] * per_layer,
                        room=room[0] * per_layer,
                    )  # fmt: skip
                    for name in LOSSY:
                        yield mean_rows("gradient_loss_depth", lost(slopes, name),
                                        lost([slope], name)[0], **cell, format=name)  # fmt: skip

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The rates, the moments, the weight gradients, and ReLU's exact law."""
        made = []
        rate = finite(select(table, "gradient_decades_per_layer"))
        if not rate.empty:
            made.append(
                claims.statistical(
                    "gradient_rate",
                    "The gradient grows by log10(chi_1) / 2 decades a layer, chi_1 = sigma_w^2 "
                    "E phi'(z)^2 along the mean-field recursion, and its first order in 1 / width. "
                    f"{ROOM}",
                    "Schoenholz et al. 2017, sec. 3; the delta method along the layers",
                    corrected(rate),
                    resolution=0.1 + 0.5 * np.abs(rate["predicted"].to_numpy()),
                    bias=rate["room"].to_numpy(float),
                )
            )
        moment = finite(select(table, "log10_preactivation_moment"))
        if not moment.empty:
            made.append(
                claims.statistical(
                    "forward_moment",
                    "The second moment of the preactivations follows the variance map and its "
                    f"first order in 1 / width. {ROOM}",
                    "Poole et al. 2016, eq. 3; Roberts, Yaida & Hanin 2022, ch. 4",
                    corrected(moment),
                    resolution=np.inf,
                    bias=moment["room"].to_numpy(float),
                )
            )
        weight = finite(select(table, "log10_gradient_w_squared"))
        if not weight.empty:
            span = weight["depth"].to_numpy(float) / weight["width"].to_numpy(float)
            made.append(
                claims.statistical(
                    "weight_gradient",
                    "|dL/dW|^2 is the product of the forward and the backward second moments, "
                    f"within an allowance of {WIDTH_BIAS} depth / width in its logarithm.",
                    "Glorot & Bengio 2010, eq. 6",
                    weight,
                    resolution=np.inf,
                    bias=WIDTH_BIAS * span / math.log(10),
                )
            )
        relu = finite(select(table, "log10_activation_moment", activation="relu", sigma_b=0.0))
        relu = relu[relu["init"].isin(GAUSSIAN)]
        if not relu.empty:
            made.append(exact_relu(relu))
        return made

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The extreme rates and the one nearest to stable."""
        rate = select(table, "gradient_decades_per_layer").dropna(subset=["measured"])
        if rate.empty:
            return "With one layer there is no rate: take a depth of at least 2."
        deepest = rate[rate["depth"] == rate["depth"].max()]
        deepest = deepest[deepest["width"] == deepest["width"].max()]
        low, high = (
            deepest.loc[deepest["measured"].idxmin()],
            deepest.loc[deepest["measured"].idxmax()],
        )
        near = deepest.loc[deepest["measured"].abs().idxmin()]
        return (
            f"At width {low['width']} and depth {low['depth']}, gradients change by "
            f"{low['measured']:.3f} decades a layer ({low['activation']}, {low['init']}; predicted "
            f"{low['predicted']:.3f}) to {high['measured']:+.3f} ({high['activation']}, "
            f"{high['init']}; predicted {high['predicted']:+.3f}); nearest to stable is "
            f"{near['activation']} with {near['init']}: {near['measured']:+.4f}; "
            f"{(rate['verdict'] == 'vanishing').sum()} of {len(rate)} configurations vanish, "
            f"{(rate['verdict'] == 'exploding').sum()} explode."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Gradients by layer; measured against predicted rates."""
        return [by_layer(table), rates(table)]


def verdict(change: float) -> str:
    """What ``change`` decades of gradient from the top layer to the first amount to."""
    if change < -STABLE:
        return "vanishing"
    return "exploding" if change > STABLE else "stable"


def lost(rates: Any, name: str) -> list[float]:
    """The depths at which format ``name`` loses a unit gradient; 0 where it is dead already."""
    dead = [not rate > -np.inf for rate in rates]
    return [
        0.0 if none else float(loss_depth(rate, 0.0, FORMATS[name]))
        for rate, none in zip(rates, dead, strict=True)
    ]


ROOM = (
    "Its batch lies between inputs that fluctuate together and apart: half of that range, and the "
    "squares of the layers' terms for the next order, are allowed; "
    f"for weights that are not Gaussian {WIDTH_BIAS} depth / width."
)


def corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the prediction at their width."""
    return rows.assign(predicted=rows["predicted"] + rows["shift"])


def _finite_width(cell: dict[str, Any], quantity: str, gain: float) -> tuple[Any, Any]:
    """First order in 1 / width of log10 of a batch's mean square, by layer: its shift and room.

    E ln of one input's is mean / n above the limit, ln E is mean / n + variance / (2 n); that of
    a batch's mean lies between (Jensen).  The middle is the shift.
    """
    width, depth, init = cell["width"], cell["depth"], INITIALIZATIONS[cell["init"]]
    entry, sigma_b = ACTIVATIONS[cell["activation"]], cell["sigma_b"]
    q = meanfield.variances(depth, gain**2 + sigma_b**2, entry, gain, sigma_b)
    if init.law != "gaussian" or not np.all((q > 1e-280) & (q < 1e280)):
        layers = depth - 1 if quantity == "gradient" else depth
        none = np.zeros(depth)
        return none, none + WIDTH_BIAS * layers / width / math.log(10)
    arguments = (depth, gain**2 + sigma_b**2, entry, gain, sigma_b)
    if quantity == "gradient":
        law = width_correction.gradient_correction(*arguments)
        mean, variance = law.mean[:0:-1], law.variance[:0:-1]
    else:
        mean, variance = width_correction.preactivation_correction(*arguments)
    terms = np.abs(np.diff(mean, prepend=0)) + np.abs(np.diff(variance, prepend=0)) / 2
    room = variance / (4 * width) + np.cumsum((terms / width) ** 2)
    shift = (mean + variance / 4) / width
    if quantity == "gradient":
        shift, room = shift[::-1], room[::-1]
    return shift / math.log(10), room / math.log(10)


GAUSSIAN = [name for name, entry in INITIALIZATIONS.items() if entry.law == "gaussian"]


def finite(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose measurement and prediction are both finite, or differ in being so."""
    measured, predicted = rows["measured"].to_numpy(), rows["predicted"].to_numpy()
    both = ~np.isfinite(measured) & ~np.isfinite(predicted)
    return rows[~both]


def exact_relu(rows: pd.DataFrame) -> Claim:
    """ReLU without biases: E ln(|h^l|^2 / n) is exact at any width, given one unit alive."""
    exact = []
    for row in rows.itertuples():
        scale = INITIALIZATIONS[str(row.init)].std(int(row.width), int(row.width))
        gain = float(row.sigma_w) * scale * math.sqrt(int(row.width))
        exact.append(int(row.layer) * relu_log_norm(int(row.width), gain)[0] / math.log(10))
    return claims.statistical(
        "relu_exact",
        "For ReLU without biases the mean of ln|h|^2 falls by E psi(K/2) + ln(...) a layer, K the "
        "number of active units: exact at any width, below the mean field by 2.5 / width.",
        "Hanin & Nica 2019",
        rows.assign(predicted=exact),
        resolution=np.inf,
    )


def _label(row: Any) -> str:
    extra = "" if row.sigma_w == 1 else f" σw={row.sigma_w:g}"
    return f"{row.init}{extra}" + ("" if row.sigma_b == 0 else f" σb={row.sigma_b:g}")


def by_layer(table: pd.DataFrame) -> Figure:
    """Squared gradient norm against layer at the deepest and widest, a panel an activation."""
    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    rows = select(table, "log10_gradient_h_squared")
    rows = rows[rows["depth"] == rows["depth"].max()]
    rows = rows[rows["width"] == rows["width"].max()]
    rows = rows.assign(label=[_label(row) for row in rows.itertuples()])
    names = list(dict.fromkeys(rows["activation"]))
    columns = min(3, len(names))
    figure, axes = canvas(columns, -(-len(names) // columns), sharex=True)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        panel = rows[rows["activation"] == name]
        for i, (label, part) in enumerate(panel.groupby("label", sort=False)):
            color = PALETTE[i % len(PALETTE)]
            ax.plot(part["layer"], part["predicted"] / 2, color=color)
            step = max(1, len(part) // 12)
            shown = part.iloc[::step]
            ax.plot(shown["layer"], shown["measured"] / 2, MARKERS[i % len(MARKERS)], color=color,
                    label=label)  # fmt: skip
        bottom = ax.get_ylim()[0]
        for kind in ("float16", "float32"):
            floor = math.log10(FORMATS[kind].smallest_subnormal)
            if floor > bottom:
                ax.axhline(floor, color=FAINT, lw=1.2, ls="--", zorder=0)
                ax.annotate(f"{kind} is 0", (0.02, floor), xycoords=("axes fraction", "data"),
                            ha="left", va="top", fontsize=8)  # fmt: skip
        ax.set(title=name, xlabel="layer")
    axes[0, 0].set_ylabel("log10 |dL/dh|, decades")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    depth, width = rows["depth"].iloc[0], rows["width"].iloc[0]
    lowest = rows.loc[rows["measured"].idxmin()]
    return Figure(
        "by_layer",
        f"The gradient's norm from the top layer (right, norm 1) down to the first, depth {depth}, "
        f"width {width}: marks are means over network draws, lines the mean-field prediction.",
        f"Gradient norms by layer at depth {depth}; the smallest, {lowest['activation']} with "
        f"{lowest['init']}, falls to 10^{lowest['measured'] / 2:.1f}.",
        figure,
    )


def rates(table: pd.DataFrame) -> Figure:
    """Measured against predicted decades of gradient a layer, every configuration a mark."""
    import seaborn as sns

    from stability.plotting import canvas

    rows = select(table, "gradient_decades_per_layer").dropna(subset=["measured", "predicted"])
    rows = rows[np.isfinite(rows["measured"])]
    figure, axes = canvas(1)
    ax = axes[0, 0]
    if not rows.empty:
        plain = rows.assign(width=rows["width"].astype(str), depth=rows["depth"].astype(str))
        sns.scatterplot(plain, x="predicted", y="measured", hue="activation", style="init", ax=ax,
                        s=45)  # fmt: skip
        ends = [rows["predicted"].min(), rows["predicted"].max()]
        ax.plot(ends, ends, color="#8a8a8a", zorder=0)
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1.01, 1))
    ax.set(xlabel="predicted decades a layer", ylabel="measured decades a layer")
    worst = (rows["measured"] - rows["predicted"]).abs().max()
    return Figure(
        "rates",
        "Every configuration of depth, width, activation and initialization: the line is equality. "
        "Left of zero gradients vanish, right of it they explode.",
        f"{len(rows)} configurations; the largest deviation is {worst:.3f} decades a layer.",
        figure,
    )
