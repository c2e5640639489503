"""A stack of affine layers is one affine layer: up to rounding, at any depth, for what it costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stability import claims
from stability.arguments import Array
from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS, draw_unit
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import affine as kernel
from stability.kernels.products import stored
from stability.table import concat, mean_rows, rows, select
from stability.theory import affine as theory
from stability.theory.floating_point import FORMATS
from stability.theory.rounding_errors import ROUNDING_RMS

KEEPING = [name for name, entry in INITIALIZATIONS.items() if entry.std(64, 64) == 1 / 8]
"""The initializations under which linear layers of one width keep the size of a signal."""
BIAS = 0.25
"""Standard deviation of the biases; that of the inputs is 1."""
ORDERS = {
    "matrix_first": theory.matrix_first, "vector_first": theory.vector_first,
    "best": theory.best_order,
}  # fmt: skip


@dataclass(frozen=True)
class AffineCollapse(Experiment):
    """The stack and its collapsed W, b: their gap, their rank, their cost; and what bends them.

    Layers are square, of ``width``; for the rank the middle one has ``narrow`` units.
    """

    title: ClassVar[str] = "Affine collapse"
    question: ClassVar[str] = "What does depth add to affine layers, and what does it cost?"

    depth: list[int] = field(default_factory=lambda: [2, 6])
    width: list[int] = field(default_factory=lambda: [8])
    dtype: list[str] = field(default_factory=lambda: ["float32", "bfloat16"])
    init: list[str] = field(default_factory=lambda: ["orthogonal"])
    activation: list[str] = field(default_factory=lambda: ["relu"])
    scale: list[float] = field(default_factory=lambda: [1.0])
    batch: list[int] = field(default_factory=lambda: [1, 16])
    narrow: int = 3
    samples: int = 64
    replicates: int = 16

    def __post_init__(self) -> None:
        for name in ("depth", "width", "dtype", "init", "activation", "scale", "batch"):
            check_each(f"experiment.{name}", getattr(self, name))
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=2)
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        for name in self.dtype:
            check_choice("experiment.dtype", name, FORMATS)
        for name in self.init:
            check_choice("experiment.init", name, KEEPING)
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for scale in self.scale:
            check_range("experiment.scale", scale, at_least=1e-3, at_most=1e3)
        for batch in self.batch:
            check_range("experiment.batch", batch, at_least=1)
        check_range("experiment.narrow", self.narrow, at_least=1)
        check_range("experiment.samples", self.samples, at_least=4)
        check_range("experiment.replicates", self.replicates, at_least=2)

    def memory(self) -> int:
        """Weights and products of all draws, float64 and rounded; the samples; the widest chain."""
        width, depth = max(self.width), max(self.depth)
        stacks = 6 * self.replicates * depth * width * (width + 2)
        signals = 6 * self.samples * width**2 + 3 * width * max(self.batch)
        return 2**24 + 8 * (stacks + signals)

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: init, width, dtype, depth, bound; layer, k; activation, scale; stack, order."""
        frames: list[pd.DataFrame] = []
        for done, width in enumerate(self.width, start=1):
            for init, dtype in product(self.init, self.dtype):
                cell = _Cell(context, init, width, dtype, self.replicates)
                for depth in self.depth:
                    frames += cell.gaps(depth)
                    frames += cell.ranks(depth, min(self.narrow, width))
            frames.append(self._bends(context, width))
            frames += self._costs(context, width)
            context.progress(done / len(self.width))
        return concat(frames)

    def _bends(self, context: Context, width: int) -> pd.DataFrame:
        """Share of the variance of W_2 phi(W_1 x) that the best affine map of x leaves."""
        cells = list(product(self.activation, self.scale))
        found = np.empty((self.replicates, len(cells)))
        count, parameters = self.samples * width, width + 1
        fits = [theory.best_affine(ACTIVATIONS[name], scale**2) for name, scale in cells]
        for replicate in range(self.replicates):
            shape = (count, width)
            drawn = context.numpy("inputs", *shape, replicate).standard_normal(shape)
            x = torch.tensor(drawn, device=context.device)
            first, second = (
                _weight(context, "orthogonal", (width, width), replicate, at) for at in (1, 2)
            )
            columns = torch.cat([torch.ones_like(x[:, :1]), x], dim=1)
            frame = torch.linalg.qr(columns).Q
            for at, (name, scale) in enumerate(cells):
                y = ACTIVATIONS[name].forward(scale * (x @ first.T)) @ second.T
                rest = y - frame @ (frame.T @ y)
                moment = float(rest.square().sum()) / ((count - parameters) * width)
                found[replicate, at] = moment / fits[at].variance
        lever = np.array([0.0 if fit.share == 0 else fit.leverage for fit in fits])
        room = np.abs(lever - 1) / (count - parameters) + lever * (parameters / count) ** 2
        share = np.array([fit.share for fit in fits])
        return mean_rows(
            "bent_share", found, share, width=width, activation=[name for name, _ in cells],
            scale=[scale for _, scale in cells], bound=share * room,
        )  # fmt: skip

    def _costs(self, context: Context, width: int) -> Iterator[pd.DataFrame]:
        """Operations that torch counts, of a stack on a batch, in three orders."""
        narrow = min(self.narrow, width)
        cells = list(product(self.depth, self.batch))
        for stack in ("square", "hourglass"):
            told, counted = np.zeros((2, len(ORDERS), len(cells)), dtype=np.int64)
            for at, (depth, batch) in enumerate(cells):
                inner = narrow if stack == "hourglass" else width
                chain = [inner if layer % 2 else width for layer in range(depth + 1)] + [batch]
                matrices = [torch.zeros(pair, device=context.device) for pair in pairwise(chain)]
                for row, plan in enumerate(ORDERS.values()):
                    order, told[row, at] = plan(chain)
                    with FlopCounterMode(display=False) as counter:
                        kernel.multiply(matrices, order)
                    counted[row, at] = counter.get_total_flops()
            depths, batches = np.array(cells).T
            where = {"stack": stack, "width": width, "depth": depths, "batch": batches}
            names = np.array(list(ORDERS))[:, None]
            yield rows("flops", counted, told, **where, order=names)
            if stack == "square":
                first = dict(zip(ORDERS, counted, strict=True))
                ratio = first["matrix_first"] / first["vector_first"]
                closed = theory.collapse_cost(width, depths, batches)
                yield rows("collapse_cost", ratio, closed, **where)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The gap's bound and law, the rank, the best affine map, the costs."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The deepest gap, the rank, what bends, and what the order costs."""
        gap = select(table, "gap_in_u")
        deepest = gap[gap["depth"] == gap["depth"].max()]
        worst = deepest.loc[deepest["measured"].idxmax()]
        bent = select(table, "bent_share")
        most = bent.loc[bent["measured"].idxmax()]
        cost = select(table, "collapse_cost")
        dear = cost.loc[cost["measured"].idxmax()]
        ranks = select(table, "rank")
        ranks = ranks[ranks["layer"] == ranks["layer"].max()]
        rank = ranks.loc[ranks["bound"].idxmin()]
        return (
            f"{deepest['depth'].iloc[0]} affine layers are one layer, to {worst['measured']:.3g} "
            f"unit roundoffs at most ({worst['dtype']}, {worst['init']}, width {worst['width']}), "
            f"and their rank is that of the narrowest ({rank['measured']:.0f}); with "
            f"{most['activation']} between two layers the best affine map misses "
            f"{100 * most['measured']:.3g} % of the variance (predicted "
            f"{100 * most['predicted']:.3g} %); multiplying a stack out to use it once on a batch "
            f"of {dear['batch']} takes {dear['measured']:.3g} times the operations of its layers."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The gap by depth; singular values and rank; what bends; what the orders cost."""
        return [_draw_gap(table), _draw_structure(table)]


def _weight(
    context: Context, init: str, shape: tuple[int, int], replicate: int, layer: int
) -> Tensor:
    """A layer's (fan_out, fan_in) matrix in float64."""
    entry, fans = INITIALIZATIONS[init], (shape[1], shape[0])
    source = context.generator("affine", entry.law, *fans, replicate, layer)
    return draw_unit(entry.law, fans, source).double().T * entry.std(*fans)


def _array(x: Tensor) -> Array:
    values: Array = x.double().numpy(force=True)
    return values


class _Cell:
    """The stacks of one initialization and width in one format."""

    COLUMNS = 16
    """Inputs of every stack."""

    def __init__(self, context: Context, init: str, width: int, dtype: str, draws: int) -> None:
        self._context, self._init, self._width, self._draws = context, init, width, draws
        self._name, self._format = dtype, FORMATS[dtype]
        self._where: dict[str, Any] = {"init": init, "width": width, "dtype": dtype}

    def _stored(self, x: Tensor) -> Tensor:
        return stored(x, getattr(torch, self._name))

    def _weights(self, sizes: list[int], draws: int) -> list[Tensor]:
        return [
            self._stored(
                torch.stack([
                    _weight(self._context, self._init, (sizes[at], sizes[at - 1]), r, at)
                    for r in range(draws)
                ])
            )
            for at in range(1, len(sizes))
        ]  # fmt: skip

    def _normal(self, name: str, *shape: int) -> Tensor:
        drawn = self._context.numpy(name, *shape).standard_normal(shape)
        return torch.tensor(drawn, device=self._context.device)

    def _stack(self, weights: list[Tensor], biases: list[Tensor], start: Tensor) -> list[Tensor]:
        return kernel.stack(weights, biases, start, getattr(torch, self._name))

    def _bound(self, weights: list[Tensor], biases: list[Tensor], states: list[Tensor]) -> Array:
        """Of every draw and column, (R, B)."""
        wide = FORMATS["float32"].unit_roundoff
        accumulator = wide if self._format.precision < 24 else None
        ours, shifts, seen = ([_array(x) for x in part] for part in (weights, biases, states))
        bounds = [
            theory.stack_bound(
                [x[r] for x in ours], [x[r] for x in shifts], [x[r] for x in seen],
                self._format.unit_roundoff, accumulator,
            )
            for r in range(len(weights[0]))
        ]  # fmt: skip
        return np.stack(bounds)

    def gaps(self, depth: int) -> Iterator[pd.DataFrame]:
        """The stack's outputs less the collapsed layer's, in units of u and of their bound."""
        draws, width, u = self._draws, self._width, self._format.unit_roundoff
        weights = self._weights([width] * (depth + 1), draws)
        x = self._stored(self._normal("signal", draws, width, self.COLUMNS))
        biases = [
            self._stored(BIAS * self._normal(f"bias {layer}", draws, width, 1))
            for layer in range(1, depth + 1)
        ]
        deep = self._stack(weights, biases, x)
        unit = torch.eye(width, width + 1, dtype=x.dtype, device=x.device).expand(draws, -1, -1)
        last = torch.zeros_like(unit[:1, :1])
        last[..., -1] = 1.0
        shifts = [bias * last for bias in biases]
        collapsed = self._stack(weights, shifts, unit)
        weight, bias = collapsed[-1][..., :-1], collapsed[-1][..., -1:]
        one = self._stack([weight], [bias], x)
        gap = np.linalg.norm(_array(deep[-1]) - _array(one[-1]), axis=1)
        size = np.linalg.norm(_array(deep[-1]), axis=1)
        columns = self._bound(weights, shifts, collapsed)
        spread = np.linalg.norm(columns[:, :-1], axis=1)[:, None]
        bound = (
            self._bound(weights, biases, deep)
            + spread * np.linalg.norm(_array(x), axis=1)
            + columns[:, -1:]
            + self._bound([weight], [bias], one)
        )
        where = {**self._where, "depth": depth}
        with np.errstate(invalid="ignore"):
            relative = np.linalg.norm(gap, axis=1) / np.linalg.norm(size, axis=1) / u
            limit = float(np.max(np.linalg.norm(bound, axis=1) / np.linalg.norm(size, axis=1)) / u)
            share = np.max(gap / bound)
        yield mean_rows("gap_in_u", relative, **where, bound=limit)
        yield rows("gap_share_of_bound", share, 0.0, **where)
        if self._name != "float64":
            wide, shift = ([y.double() for y in part] for part in (weights, biases))
            exact = kernel.stack(wide, shift, x.double(), torch.float64)
            error = _array((deep[-1].double() - exact[-1]).square().sum(dim=(1, 2)))
            sizes = sum(_array(y.square().sum(dim=(1, 2))) for y in exact[1:])
            law = self._init == "orthogonal" and self._format.precision < 24
            told = theory.stored_stack_error(depth, 1.0, BIAS) if law else math.nan
            yield mean_rows("squared_error", error / (u**2 * sizes), told, **where)

    def ranks(self, depth: int, narrow: int) -> Iterator[pd.DataFrame]:
        """The singular values of the product by layer, the middle one narrow; one draw."""
        middle, width = (depth + 1) // 2, self._width
        sizes = [narrow if layer == middle else width for layer in range(depth + 1)]
        weights = self._weights(sizes, 1)
        zeros = [torch.zeros_like(weight[..., :1]) for weight in weights]
        start = torch.eye(width, dtype=weights[0].dtype, device=weights[0].device)[None]
        states = self._stack(weights, zeros, start)
        octaves = {2**k for k in range(depth.bit_length())}
        layers = np.array(sorted(octaves | {depth, middle - 1, middle} - {0}))
        ranks, bounds, found = np.where(layers >= middle, narrow, width), [], []
        for layer in layers:
            done = slice(None, layer)
            columns = self._bound(weights[done], zeros[done], states[: layer + 1])
            bounds.append(float(np.linalg.norm(columns)))
            values = np.linalg.svdvals(_array(states[layer][0]))
            found.append(int((values > bounds[-1]).sum()))
        where = {**self._where, "depth": depth, "layer": layers, "bound": bounds}
        known = (np.array(bounds) < 0.5) & (self._init == "orthogonal")
        yield rows("rank", found, np.where(known, ranks, np.nan), **where)
        yield rows("rank_excess", np.maximum(found - ranks, 0), 0.0, **where)
        if narrow < width:
            yield rows("noise_share_of_bound", values[narrow:].max() / bounds[-1], 0.0,
                       **self._where, depth=depth)  # fmt: skip
        yield rows("singular_value", values, **self._where, depth=depth, layer=depth,
                   k=np.arange(1, len(values) + 1))  # fmt: skip


def _claims(table: pd.DataFrame) -> list[Claim]:
    gaps = select(table, "gap_share_of_bound")
    made = [
        claims.bounded(
            "collapse",
            "A stack of affine layers equals the one layer W = W_L ... W_1, b = sum of the biases "
            "carried on: their outputs differ by at most the two computations' rounding error "
            "bounds, in every format, draw and column. Measured: the largest gap over the bound.",
            "Running error bound, Higham 2002, sec. 3.3 and 3.5", gaps, allowed=1.0,
        ),
        claims.bounded(
            "rank_never_grows",
            "No product has a singular value above its error bound beyond the width of the "
            "narrowest layer so far: depth never adds rank.",
            "rank(A B) <= min(rank A, rank B); Weyl 1912 for the computed product",
            select(table, "rank_excess"), allowed=0.0,
        ),
        claims.bounded(
            "flops",
            "torch counts as many operations as theory does, 2 m k n a product, in each of three "
            "orders; the best of all orders comes from dynamic programming.",
            "Cormen et al. 2022, Introduction to Algorithms, 4th ed., sec. 14.2",
            select(table, "flops"), allowed=0.0,
        ),
        claims.bounded(
            "collapse_cost",
            "Multiplying L layers of n units into one matrix and applying it to B columns takes "
            "(n (L - 1) + B) / (L B) times the operations of going layer by layer. It pays from "
            "B = n columns on, counted over all uses of the product.",
            "2 m k n operations a product",
            select(table, "collapse_cost"), allowed=1e-12,
            folk="Multiplying linear layers into one matrix first saves work.",
        ),
    ]  # fmt: skip
    errors = select(table, "squared_error").dropna(subset=["predicted"])
    if not errors.empty:
        made.append(
            claims.statistical(
                "stored_error",
                "Through orthogonal layers whose outputs are stored in a half format (sums in "
                "float32) the squared error is about 1 / (8 ln 2) = 0.1803 of u^2 times the summed "
                "squares of all layers' signals: the error grows as sqrt(L), at any width. Allowed "
                "beside sampling: the share u, for the next order, and 1 %, as the constant swings "
                "with the signal's size.",
                "Independent roundings of Gaussian numbers", errors,
                resolution=errors["predicted"].to_numpy(float),
                bias=(_roundoff(errors) + 0.01) * errors["predicted"].to_numpy(float),
            )
        )  # fmt: skip
    ranks = select(table, "rank").dropna(subset=["predicted"])
    if not ranks.empty:
        made.append(
            claims.bounded(
                "rank", "Orthogonal layers keep the rank of the narrowest: as many singular values "
                "as its width lie above the error bound.", "Singular values 1 and 0", ranks,
                allowed=0.0,
            )
        )  # fmt: skip
    noise = select(table, "noise_share_of_bound")
    if not noise.empty:
        made.append(
            claims.bounded(
                "noise", "The singular values behind a narrow layer's are rounding error: below "
                "the bound of the product's.", "Weyl 1912", noise, allowed=1.0,
            )
        )  # fmt: skip
    bent = select(table, "bent_share")
    made.append(
        claims.statistical(
            "one_nonlinearity",
            "With a nonlinearity phi between two orthogonal layers and Gaussian inputs of variance "
            "q, the best affine map misses the share 1 - q (E phi')^2 / Var phi of the output's "
            "variance, at any width n. Allowed beside sampling, as the map is fitted to N inputs: "
            "|leverage - 1| / (N - n - 1) + leverage ((n + 1) / N)^2 of that share.",
            "Stein's lemma", bent,
            resolution=np.maximum(bent["predicted"].to_numpy(float), 1e-9),
            bias=bent["bound"].to_numpy(float) + 1e-12,
        )
    )  # fmt: skip
    return made


def _roundoff(part: pd.DataFrame) -> Array:
    return np.array([FORMATS[name].unit_roundoff for name in part["dtype"]])


def _draw_gap(table: pd.DataFrame) -> Figure:
    """The gap by depth with its bound, a panel an initialization; the half formats' law."""
    from stability.plotting import MARKERS, PALETTE, canvas

    part = select(table, "gap_in_u")
    part = part[part["width"] == part["width"].max()]
    inits = list(dict.fromkeys(part["init"]))
    figure, axes = canvas(len(inits) + 1)
    names = list(dict.fromkeys(part["dtype"]))
    style = {name: (PALETTE[i], MARKERS[i]) for i, name in enumerate(names)}
    for ax, init in zip(axes.flat, inits, strict=False):
        for name, (color, marker) in style.items():
            mine = part[(part["init"] == init) & (part["dtype"] == name)].sort_values("depth")
            ax.plot(mine["depth"], mine["measured"], marker, color=color, label=name)
            ax.plot(mine["depth"], mine["bound"], ":", color=color)
        ax.set(xscale="log", yscale="log", xlabel="affine layers", title=init)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_xticks(sorted(set(part["depth"])))
    axes[0, 0].set_ylabel("gap to the one layer, roundings u")
    ax = axes[0, -1]
    errors = select(table, "squared_error", width=part["width"].max(), init=inits[0])
    for name, (color, marker) in style.items():
        mine = errors[errors["dtype"] == name].sort_values("depth")
        root = np.sqrt(mine["measured"])
        ax.errorbar(mine["depth"], root, mine["stderr"] / root, fmt=marker, color=color)
    ax.axhline(ROUNDING_RMS, color=PALETTE[7], label="one rounding a layer")
    ax.set(xscale="log", yscale="log", xlabel="affine layers", ylim=(0.2, 10),
           ylabel="error, roundings a layer", title=f"the stack itself, {inits[0]}")  # fmt: skip
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_xticks(sorted(set(part["depth"])))
    ax.legend(loc="upper right", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    worst = part.loc[part["measured"].idxmax()]
    return Figure(
        "gap",
        f"Panels named by an initialization: distance of a stack's outputs to those of its "
        f"collapsed layer, width {worst['width']}, relative, in units of each format's unit "
        "roundoff u; dotted: the rounding error bound. Right: the stack's own error over u and the "
        "root of the summed squares of all layers' signals, flat because it grows as sqrt(L); "
        "line: predicted for outputs rounded once, no fit.",
        f"The largest gap is {worst['measured']:.3g} u ({worst['dtype']}, {worst['init']}, depth "
        f"{worst['depth']}), its bound {worst['bound']:.3g} u.",
        figure,
    )


def _draw_structure(table: pd.DataFrame) -> Figure:
    """Singular values behind a narrow layer, the share that bends, the cost of the orders."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(3, height=3.8)
    spectrum, bends, costs = axes.flat
    values = select(table, "singular_value")
    values = values[values["width"] == values["width"].max()]
    values = values[values["depth"] == values["depth"].max()]
    values = values[values["init"] == values["init"].iloc[0]]
    for i, (name, mine) in enumerate(values.groupby("dtype", sort=False)):
        shown = mine["measured"].clip(lower=1e-40)
        spectrum.plot(mine["k"], shown, MARKERS[i], ms=3, color=PALETTE[i], label=name)
    spectrum.set(yscale="log", xlabel="k", ylabel="k-th singular value of W",
                 title="rank of the narrow layer", ylim=(1e-20, 1e5))  # fmt: skip
    spectrum.legend(loc="upper right", fontsize=8)
    bent = select(table, "bent_share")
    bent = bent[bent["width"] == bent["width"].max()]
    grid = np.geomspace(bent["scale"].min() / 1.5, bent["scale"].max() * 1.5, 41)
    for i, (name, mine) in enumerate(bent.groupby("activation", sort=False)):
        color = PALETTE[i % len(PALETTE)]
        line = [theory.best_affine(ACTIVATIONS[str(name)], s**2).share for s in grid]
        bends.plot(grid, np.maximum(line, 1e-30), color=color)
        bends.plot(mine["scale"], mine["measured"], MARKERS[i % len(MARKERS)], color=color,
                   label=name)  # fmt: skip
    bends.set(xscale="log", yscale="log", xlabel="standard deviation of preactivations",
              ylabel="share of variance not affine", title="one nonlinearity",
              ylim=(max(bent["predicted"].min() / 3, 1e-9), 1.5))  # fmt: skip
    bends.legend(fontsize=8)
    flops = select(table, "flops", stack="square", width=table["width"].max())
    flops = flops[flops["depth"] == flops["depth"].max()].sort_values("batch")
    for i, (order, mine) in enumerate(flops.groupby("order", sort=False)):
        label = str(order).replace("_", " ")
        costs.plot(mine["batch"], mine["predicted"] / 1e6, color=PALETTE[i], lw=3 - i, label=label)
        costs.plot(
            mine["batch"], mine["measured"] / 1e6, MARKERS[i], color=PALETTE[i], ms=7 - 2 * i
        )
    costs.axvline(flops["width"].iloc[0], color=PALETTE[7], ls=":")
    costs.set(xscale="log", yscale="log", xlabel="columns B (dotted: the width)",
              ylabel="operations, millions", title=f"{flops['depth'].iloc[0]} layers")  # fmt: skip
    costs.legend(fontsize=8)
    most = bent.loc[bent["measured"].idxmax()]
    return Figure(
        "structure",
        "Left: singular values of a product whose middle layer is narrow; those beyond its width "
        "are rounding error. Middle: share of the variance behind a nonlinearity that the best "
        "affine map misses, by the size of preactivations. Right: operations by order of "
        "multiplication. Marks: measured or counted; lines: predicted.",
        f"At most {100 * most['measured']:.3g} % is not affine ({most['activation']} at "
        f"{most['scale']:g}).",
        figure,
    )
