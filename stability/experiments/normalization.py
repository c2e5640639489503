"""Batch normalization and residual connections at initialization: do gradients survive depth?"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from stability import claims
from stability.arguments import Array
from stability.catalogue.activations import ACTIVATIONS
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.plotting import INK, MARKERS, PALETTE, canvas
from stability.table import concat, mean_rows, select
from stability.theory import normalization as theory

Layer = Callable[[Tensor], Tensor]

SCALES: dict[str, Callable[[int], float]] = {
    "1": lambda _: 1.0,
    "1/sqrt(depth)": lambda depth: depth**-0.5,
}
"""Of the residual branch, by depth."""
BATCH_NORM_LAYERS = 24
"""In deeper stacks the batch's rank falls, by O(depth / width)."""
LARGEST = 700.0
"""Of logarithms of squared norms: e^709 is float64's end."""
FIRST_ORDER = 3.0
"""Over width: allowed on logarithms for what is neglected, O(1 / width), a layer or a unit of the
logarithm.  No bound: what ReLU's log-normal norms shift theirs by, 5 / 2 a layer, and at widths of
32 to 256 none is above 2.7."""


@dataclass(frozen=True)
class Normalization(Experiment):
    """Squared norms through normalised and residual stacks, beside Yang et al. and Xiong et al."""

    title: ClassVar[str] = "Normalization and residual connections"
    question: ClassVar[str] = (
        "Do batch normalization, layer normalization and skip connections keep gradients from "
        "exploding with depth?"
    )

    activation: list[str] = field(default_factory=lambda: ["relu"])
    batch: list[int] = field(default_factory=lambda: [8])
    depth: list[int] = field(default_factory=lambda: [6])
    scale: list[str] = field(default_factory=lambda: ["1/sqrt(depth)"])
    width: int = 64
    replicates: int = 4

    def __post_init__(self) -> None:
        for name in ("activation", "batch", "depth", "scale"):
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for name in self.scale:
            check_choice("experiment.scale", name, SCALES)
        check_range("experiment.width", self.width, at_least=8)
        for batch in self.batch:
            # More samples than units are no longer independent directions.
            check_range("experiment.batch", batch, at_least=4, at_most=self.width)
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=1)
        check_range("experiment.replicates", self.replicates, at_least=1)

    def memory(self) -> int:
        """Bytes of the deepest stack and the one before it, two matrices a layer, and states."""
        depth = max(*self.depth, BATCH_NORM_LAYERS)
        return 2**24 + 64 * depth * self.width * (self.width + max(self.batch))

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by kind of stack, depth and layer; samples are network draws."""
        frames = self._batch_norm(context)
        for done, depth in enumerate(self.depth):
            context.progress((done + 1) / (len(self.depth) + 1))
            frames.extend(self._residual(context, depth))
            frames.extend(self._tanh(context, depth))
            frames.extend(self._layer_norm(context, depth))
        context.progress(1.0)
        return concat(frames)

    def _batch_norm(self, context: Context) -> list[pd.DataFrame]:
        """The growth a layer of the squared gradient over the middle half of the stack."""
        low, high = BATCH_NORM_LAYERS // 4, BATCH_NORM_LAYERS - BATCH_NORM_LAYERS // 4
        cells = list(product(self.activation, self.batch))
        found: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
        for key in self._keys("batch_norm"):
            weights = list(self._weights(context, (*key, "w"), BATCH_NORM_LAYERS))
            for activation, batch in cells:
                entry = ACTIVATIONS[activation]
                layers = [dense(weight, after(entry.forward, batch_norm)) for weight in weights]
                _, gradient = propagate(context, (*key, batch), layers, batch, self.width)
                slope = (gradient[low] - gradient[high]) / (high - low)
                found[activation, batch].append(math.exp(slope))
        return [
            mean_rows(
                "batch_norm_growth",
                found[activation, batch],
                theory.batch_norm_growth(ACTIVATIONS[activation], batch),
                activation=activation,
                batch=batch,
                width=self.width,
            )
            for activation, batch in cells
        ]

    def _residual(self, context: Context, depth: int) -> Iterator[pd.DataFrame]:
        """x + alpha W_2 relu(W_1 x): logarithms of the growth of signal and gradient."""
        ends: dict[str, list[Array]] = {scale: [] for scale in self.scale}
        for key in self._keys("residual", depth):
            branches = self._branches(context, key, depth)
            for scale in self.scale:
                alpha = SCALES[scale](depth)
                layers = [skipped(branch, alpha) for branch in branches]
                signal, gradient = propagate(context, key, layers, 1, self.width)
                ends[scale].append(np.array([signal[-1], gradient[0]]))
        for scale, samples in ends.items():
            law = theory.residual_log_growth(depth, SCALES[scale](depth), self.width)
            cell = {"depth": depth, "scale": scale, "width": self.width}
            room = (abs(law.shift) + law.variance) ** 2 / 2
            for i, name in enumerate(("residual_signal", "residual_gradient")):
                yield mean_rows(name, np.array(samples)[:, i], law.mean, **cell, room=room)

    def _tanh(self, context: Context, depth: int) -> Iterator[pd.DataFrame]:
        """x + tanh(W x), sigma_w = 1: the logarithms of both by layer."""
        signals, gradients = [], []
        for key in self._keys("tanh", depth):
            weights = self._weights(context, (*key, "w"), depth)
            layers = [skipped(dense(weight, torch.tanh)) for weight in weights]
            signal, gradient = propagate(context, key, layers, 1, self.width)
            signals.append(signal[1:])
            gradients.append(gradient[:-1])
        stream, growth = theory.plain_residual(depth, ACTIVATIONS["tanh"], 1.0)
        layer = np.arange(depth + 1)
        cell = {"depth": depth, "width": self.width}
        yield mean_rows("tanh_stream", signals, np.log(stream[1:]), **cell, layer=layer[1:])
        yield mean_rows("tanh_gradient", gradients, np.log(growth[:-1]), **cell, layer=layer[:-1])

    def _layer_norm(self, context: Context, depth: int) -> Iterator[pd.DataFrame]:
        """Blocks x + f(LayerNorm(x)) and LayerNorm(x + f(x)), f = W_2 relu(W_1 x)."""
        streams, gradients = [], []
        last: dict[bool, list[float]] = {True: [], False: []}
        for key in self._keys("layer_norm", depth):
            branches = self._branches(context, key, depth)
            pre = [skipped(after(branch, layer_norm)) for branch in branches]
            signal, gradient = propagate(context, key, pre, 1, self.width)
            streams.append(np.exp(signal[1:]))
            gradients.append(gradient[0])
            post = [after(layer_norm, skipped(branch)) for branch in branches[:-1]]
            # The sum hands its gradient to the last branch as it is.
            ends = {True: pre, False: [*post, skipped(branches[-1])]}
            for placed, stack in ends.items():
                _, gradient = propagate(context, key, [*stack, layer_norm], 1, self.width)
                last[placed].append(math.exp(gradient[-2]))
        cell = {"depth": depth, "width": self.width}
        exact = [theory.pre_norm_stream(layer) for layer in range(1, depth + 1)]
        yield mean_rows("pre_norm_stream", streams, exact, **cell, layer=np.arange(1, depth + 1))
        grown = math.log(theory.pre_norm_gradient(depth))
        yield mean_rows("pre_norm_gradient", gradients, grown, **cell)
        for placed, name in ((True, "pre"), (False, "post")):
            predicted = theory.last_branch_gradient(depth, pre_norm=placed)
            yield mean_rows("last_branch", last[placed], predicted, **cell, norm=name)

    def _keys(self, *words: str | int) -> Iterator[tuple[str | int, ...]]:
        """One key a replicate: what is compared at one depth shares its weights."""
        return ((*words, self.width, replicate) for replicate in range(self.replicates))

    def _weights(
        self, context: Context, key: tuple[str | int, ...], count: int, variance: float = 1.0
    ) -> Iterator[Tensor]:
        """Gaussian (width, width), of ``variance`` over width, one a layer."""
        shape, std = (self.width, self.width), math.sqrt(variance / self.width)
        for layer in range(count):
            source = context.generator(*key, layer)
            drawn = torch.randn(shape, generator=source, device=context.device).double()
            yield drawn * std

    def _branches(self, context: Context, key: tuple[str | int, ...], depth: int) -> list[Layer]:
        first = self._weights(context, (*key, "first"), depth, 2.0)
        second = self._weights(context, (*key, "second"), depth)
        return [after(dense(v), dense(u, torch.relu)) for u, v in zip(first, second, strict=True)]

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Growth through each kind of stack, by theory; what is said of batch normalization."""
        return [*_batch_norm_claims(table), *_residual_claims(table), *_layer_norm_claims(table)]

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """What each does to gradients."""
        normed = select(table, "batch_norm_growth")
        worst = normed.loc[normed["measured"].idxmax()]
        deep = table["depth"].max()
        plain = select(table, "residual_gradient", depth=deep).sort_values("measured")
        stacks = {
            "pre-norm blocks": select(table, "pre_norm_gradient", depth=deep).iloc[0],
            "x + tanh(W x)": select(table, "tanh_gradient", depth=deep, layer=0).iloc[0],
            **{
                f"x + {'' if row['scale'] == '1' else row['scale'] + ' '}W_2 relu(W_1 x)": row
                for _, row in plain.iterrows()
                if row["measured"] < LARGEST
            },
        }
        said = ", ".join(
            f"{name} {math.exp(row['measured']):.3g} times (predicted "
            f"{math.exp(row['predicted']):.3g})"
            for name, row in stacks.items()
        )
        return (
            f"Batch normalization does not: with {worst['activation']} and a batch of "
            f"{worst['batch']} it multiplies squared gradients by {worst['measured']:.3f} a layer "
            f"(predicted {worst['predicted']:.3f}). Skip connections do where branches are "
            f"normalised, bounded or scaled down: over {deep} layers squared gradients grow "
            f"through {said}."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Growth through batch normalization; streams and gradients of residual stacks."""
        return [_draw_batch_norm(table), _draw_residual(table)]


def dense(weight: Tensor, forward: Layer = torch.positive) -> Layer:
    """forward(x W)."""
    return lambda x: forward(x @ weight)


def after(outer: Layer, inner: Layer) -> Layer:
    """outer(inner(x))."""
    return lambda x: outer(inner(x))


def skipped(branch: Layer, alpha: float = 1.0) -> Layer:
    """x + alpha branch(x)."""
    return lambda x: x + alpha * branch(x)


def batch_norm(z: Tensor) -> Tensor:
    """(z - mean) / std over the batch, axis 0, without epsilon; shape (batch, units)."""
    centred = z - z.mean(0)
    return centred / centred.square().mean(0).sqrt()


def layer_norm(x: Tensor) -> Tensor:
    """The same over the units, axis 1."""
    return batch_norm(x.mT).mT


def propagate(
    context: Context, key: tuple[str | int, ...], layers: Sequence[Layer], batch: int, width: int
) -> tuple[Array, Array]:
    """ln of the squared norms by state 0..L: of the signal, 0 at the input, whose rows have
    norm sqrt(width), and of the gradient of a random linear loss, 0 at the output.  float64.
    """
    device = context.device
    ends = torch.randn((2, batch, width), generator=context.generator(*key, "ends"), device=device)
    x, top = ends.double()
    x = x * (math.sqrt(width) / torch.linalg.vector_norm(x, dim=1, keepdim=True))
    states = [x.requires_grad_()]
    for layer in layers:
        states.append(layer(states[-1]))
    gradients = torch.autograd.grad((states[-1] * top).sum(), states)
    signal, gradient = (
        np.array([2 * math.log(torch.linalg.vector_norm(t).item()) for t in part])
        for part in (states, gradients)
    )
    return signal - signal[0], gradient - gradient[-1]


def _batch_norm_claims(table: pd.DataFrame) -> Iterator[Claim]:
    grown = select(table, "batch_norm_growth")
    linear, relu = (grown["activation"] == name for name in ("linear", "relu"))
    for name, mine, statement, source, folk in (
        ("batch_norm_linear", linear,
         "Through batch-normalised linear layers squared gradients grow by (B - 2) / (B - 3) a "
         "layer: the statistics of a batch of B alone do it.", "theorem 7", ""),
        ("batch_norm_relu", relu,
         "With ReLU batch normalization makes squared gradients explode at initialization, by "
         "1.467 a layer at large batches (1.211 in norm) and by more at small ones.", "theorem 8",
         "Batch normalization fixes exploding gradients."),
        ("batch_norm_growth", ~(linear | relu),
         "With any other activation, too, squared gradients grow, by E phi'^2 / Var phi > 1 a "
         "layer at large batches and by more at small ones.", "sec. 3", ""),
    ):  # fmt: skip
        rows = grown[mine]
        if rows.empty:
            continue
        room = np.expm1(FIRST_ORDER / rows["width"].astype(float))
        yield claims.statistical(
            name,
            f"{statement} Allowed beside sampling: the share {FIRST_ORDER:g} / width, for the "
            "order 1 / width, which is neglected.",
            f"Yang et al. 2019, arXiv 1902.08129, {source}",
            rows,
            # What tells it from no growth, where theory has any to speak of.
            resolution=np.maximum(rows["predicted"] - 1, 0.1),
            bias=(rows["predicted"] * room).to_numpy(float),
            folk=folk,
        )


_ALLOWED = (
    f"Allowed beside sampling: {FIRST_ORDER:g} / width times one more than the logarithm, for the "
    "order 1 / width, which is neglected."
)


def _resolution(rows: pd.DataFrame) -> Array:
    """Of logarithms: half the growth."""
    half: Array = (rows["predicted"].abs().to_numpy(float) + 1) / 2
    return half


def _residual_claims(table: pd.DataFrame) -> Iterator[Claim]:
    for name, what in (("residual_signal", "signal"), ("residual_gradient", "gradient")):
        rows = select(table, name)
        rows = rows[rows["predicted"] < LARGEST]
        if rows.empty:
            continue
        yield claims.statistical(
            name,
            f"Through L blocks x + alpha W_2 relu(W_1 x) the squared {what} grows by "
            "(1 + alpha^2)^L in the mean: 2^L with alpha = 1, below e with alpha = 1 / sqrt(L). "
            "Measured: the mean of its logarithm, lower by half the logarithm's variance, to first "
            "order in 1 / width. Allowed beside sampling: half the square of shift plus variance, "
            "for the second order.",
            "Hanin & Rolnick 2018, arXiv 1803.01719; Zhang et al. 2019, arXiv 1901.09321",
            rows,
            resolution=_resolution(rows),
            bias=rows["room"].to_numpy(float),
        )
    for name, what, law in (
        ("tanh_stream", "signal", "about linearly"),
        ("tanh_gradient", "gradient", "by exp(O(sqrt(L))), slower than exponentially"),
    ):
        rows = select(table, name)
        yield claims.statistical(
            name,
            f"Through layers x + tanh(W x) the squared {what} grows {law}, as the mean-field "
            f"recursion has it. Measured: the mean of its logarithm. {_ALLOWED}",
            "Yang & Schoenholz 2017, arXiv 1712.08969, theorems 1 and 2",
            rows,
            resolution=_resolution(rows),
            bias=2 * _resolution(rows) * FIRST_ORDER / rows["width"].to_numpy(float),
        )


def _layer_norm_claims(table: pd.DataFrame) -> Iterator[Claim]:
    stream = select(table, "pre_norm_stream")
    yield claims.statistical(
        "pre_norm_stream",
        "Through blocks x + f(LayerNorm(x)), f of a ReLU layer and a linear one, the mean square "
        "of the signal is 1 + l after l blocks, exactly and at any width.",
        "Xiong et al. 2020, arXiv 2002.04745, lemma 2",
        stream,
        resolution=stream["predicted"].to_numpy(float),
    )
    rows = select(table, "pre_norm_gradient")
    yield claims.statistical(
        "pre_norm_gradient",
        "Through L blocks x + f(LayerNorm(x)) squared gradients grow by 1 + L in all. Measured: "
        f"the mean of the logarithm. {_ALLOWED}",
        "Xiong et al. 2020, arXiv 2002.04745, theorem 1",
        rows,
        resolution=_resolution(rows),
        bias=2 * _resolution(rows) * FIRST_ORDER / rows["width"].to_numpy(float),
    )
    rows = select(table, "last_branch")
    room = FIRST_ORDER * (1 + np.log1p(rows["depth"].astype(float))) / rows["width"].astype(float)
    yield claims.statistical(
        "last_branch",
        "At the last of L branches the squared gradient is 1 / (1 + L) of that at the output with "
        "pre-norm, so that it fades with depth, and 1/2 at any depth with post-norm. Allowed "
        f"beside sampling: the share {FIRST_ORDER:g} (1 + ln(1 + L)) / width, for the order "
        "1 / width, which is neglected.",
        "Xiong et al. 2020, arXiv 2002.04745, theorem 1",
        rows,
        resolution=rows["predicted"].to_numpy(float),
        bias=(rows["predicted"] * np.expm1(room)).to_numpy(float),
    )


def _draw_batch_norm(table: pd.DataFrame) -> Figure:
    grown = select(table, "batch_norm_growth")
    names, batches = list(grown["activation"].unique()), sorted(grown["batch"].unique())
    figure, axes = canvas(1, 1, 3.6)
    ax = axes[0, 0]
    for i, batch in enumerate(batches):
        mine = grown[grown["batch"] == batch]
        at = np.array([names.index(name) for name in mine["activation"]])
        at = at + 0.18 * (i - (len(batches) - 1) / 2)
        ax.errorbar(at, mine["measured"], 2 * mine["stderr"], fmt=MARKERS[i], color=PALETTE[i],
                    label=f"batch of {batch}")  # fmt: skip
        ax.hlines(mine["predicted"], at - 0.08, at + 0.08, color=PALETTE[i])
    ax.axhline(1, color=INK, lw=0.8, ls=":")
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylabel("growth of a squared gradient, a layer")
    ax.set_title("Batch normalization makes gradients grow")
    handles, labels = ax.get_legend_handles_labels()
    handles.append(ax.hlines([], [], [], color=INK))
    ax.legend(handles, [*labels, "predicted"], ncols=len(labels) + 1, loc="upper center",
              bbox_to_anchor=(0.5, -0.1))  # fmt: skip
    top = grown.loc[grown["measured"].idxmax()]
    return Figure(
        "batch_norm",
        "Points: growth of the squared gradient, a layer, over the middle half of the stack, with "
        "two standard errors; lines: Yang et al. 2019, by batch. Above 1, gradients explode on "
        "their way down.",
        f"Gradient growth by activation and batch size; the largest, {top['activation']} at a "
        f"batch of {top['batch']}, is {top['measured']:.3f} (predicted {top['predicted']:.3f}).",
        figure,
    )


def _draw_residual(table: pd.DataFrame) -> Figure:
    deep = table["depth"].max()
    figure, axes = canvas(2, 1, 3.8)
    left, right = axes[0]
    _by_layer(left, select(table, "tanh_stream", depth=deep), 2, "x + tanh(W x)", True)
    _by_layer(left, select(table, "pre_norm_stream", depth=deep), 3, "x + f(LayerNorm(x))", False)
    left.set(xlabel="layer or block", ylabel="mean square of the signal", ylim=(0, None))
    left.set_title("Signals grow about linearly")
    left.legend()
    ends = {
        "x + W_2 relu(W_1 x)": select(table, "residual_gradient", scale="1"),
        "the same, branch / sqrt(L)": select(table, "residual_gradient", scale="1/sqrt(depth)"),
        "x + tanh(W x)": select(table, "tanh_gradient", layer=0),
        "x + f(LayerNorm(x))": select(table, "pre_norm_gradient"),
    }
    for i, (label, rows) in enumerate(ends.items()):
        _by_layer(right, rows.assign(layer=rows["depth"]), i, label, True)
    right.set(xlabel="depth L", ylabel="squared gradient, input / output", yscale="log")
    right.set_title("Gradients: how fast depends on the branch")
    right.legend()
    last = select(table, "pre_norm_gradient", depth=deep).iloc[0]
    reached, due = (math.exp(last[name]) for name in ("measured", "predicted"))
    return Figure(
        "residual",
        "Points: means over network draws, geometric but for the stream of LayerNorm blocks, with "
        "two standard errors; lines: theory. Unscaled "
        "branches double the square at every block; those scaled by 1 / sqrt(L) keep it below e; "
        "pre-norm makes the growth linear.",
        f"Left: stream by layer in {deep} layers; right: gradient growth by depth; pre-norm "
        f"reaches {reached:.4g} (predicted {due:.4g}) at {deep} blocks.",
        figure,
    )


def _by_layer(ax: Axes, rows: pd.DataFrame, i: int, label: str, logarithmic: bool) -> None:
    """Points with error bars and the predicted line; of logarithms, exponentiated."""
    if logarithmic:
        rows = rows[rows["measured"] + 2 * rows["stderr"].fillna(0.0) < LARGEST]
    if rows.empty:
        return
    x, y, line = (rows[name].to_numpy(float) for name in ("layer", "measured", "predicted"))
    low, high = (y + side * 2 * rows["stderr"].to_numpy(float) for side in (-1, 1))
    if logarithmic:
        y, line, low, high = np.exp(y), np.exp(line), np.exp(low), np.exp(high)
    below = np.minimum(y - low, 0.9 * y)
    ax.errorbar(x, y, [np.nan_to_num(below), np.nan_to_num(high - y)], fmt=MARKERS[i],
                color=PALETTE[i], label=label, markersize=4)  # fmt: skip
    ax.plot(x, line, color=PALETTE[i])
