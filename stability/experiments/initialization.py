"""Initialization: what Xavier's, He's and a constant scale do to signals and to learning."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.catalogue.activations import ACTIVATIONS, Activation
from stability.catalogue.datasets import load
from stability.catalogue.initializations import INITIALIZATIONS, Law, draw_unit
from stability.catalogue.initializations import Initialization as Scheme
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.robust import log2_norm, rescale
from stability.kernels.training import cross_entropy, preactivations, train
from stability.table import concat, mean_rows, select
from stability.theory import initialization as theory
from stability.theory.finite_width import dead_probability, log_normal_coefficient
from stability.theory.floating_point import FORMATS
from stability.theory.loss import bias_loss, random_loss
from stability.theory.meanfield import variance_behind

Array = np.ndarray[Any, np.dtype[np.float64]]

FANS = ((100, 400), (400, 100))
"""The rectangular layers, (fan_in, fan_out), where no scale serves both passes."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CLASSES = 10  # of the digits
CHUNK = 256  # images at a time
DEAD, ALIVE = 5.0, 1.0
"""Decades of gradient beyond which a net is predicted dead, and within which it is to learn."""
DEVIATIONS = 10  # standard deviations of a logit that none is expected to exceed
STAYED, LEARNT = 0.02, 0.5
"""How far a dead net's loss may leave ln(classes), in nats; the share of it that others reach."""
FASTEST = 0.2  # learning rate up to which nets that can learn are claimed to
TRAINED = 5.0  # steps times learning rate after which a net that can learn should have
QUANTILES = 16  # of the inputs' squared norms, over which the predicted initial loss is averaged


def layer_gains(init: Scheme, fan_in: int, fan_out: int, sigma: float) -> tuple[float, float]:
    """The predicted (forward, backward) factors of the mean square in a linear layer."""
    if init.law == "orthogonal":
        forward = theory.orthogonal_forward_gain(fan_in, fan_out)
        return sigma**2 * forward, sigma**2 * theory.orthogonal_backward_gain(fan_in, fan_out)
    variance = (sigma * init.std(fan_in, fan_out)) ** 2
    return theory.forward_gain(fan_in, variance), theory.backward_gain(fan_out, variance)


def gradient_decades(
    init: Scheme, activation: Activation, sigma: float, width: int, depth: int
) -> float:
    """The predicted decades from the last layer's gradient to the first one's, in float32."""
    return theory.gradient_decades(
        depth,
        activation,
        sigma * init.std(width, width) * math.sqrt(width),
        width,
        FORMATS["float32"],
        orthogonal=init.law == "orthogonal",
        homogeneous=activation.homogeneous,
        relu=activation.name == "relu",
    )


@dataclass(frozen=True)
class Initialization(Experiment):
    """Xavier's initialization against a constant scale and others, across depths and widths.

    All draws of a law are shared (common random numbers), so that initializations of one law
    differ in scale alone, and a net of depth d is the beginning of the deeper ones.
    """

    init: list[str] = field(default_factory=lambda: ["normal", "xavier", "orthogonal"])
    activation: list[str] = field(default_factory=lambda: ["tanh"])
    depth: list[int] = field(default_factory=lambda: [4])
    width: list[int] = field(default_factory=lambda: [16])
    sigma_w: list[float] = field(default_factory=lambda: [1.0])
    batch: int = 16
    replicates: int = 16
    trained_width: int = 16
    trainings: int = 2
    steps: int = 5
    learning_rate: float = 0.1
    dtype: str = "float32"

    title: ClassVar[str] = "Initialization"
    question: ClassVar[str] = "What does Xavier's initialization keep that a constant scale loses?"

    def __post_init__(self) -> None:
        for name in ("init", "activation", "depth", "width", "sigma_w"):
            check_each(f"experiment.{name}", getattr(self, name))
        for init in self.init:
            check_choice("experiment.init", init, INITIALIZATIONS)
        for activation in self.activation:
            check_choice("experiment.activation", activation, ACTIVATIONS)
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=2)
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        for sigma in self.sigma_w:
            check_range("experiment.sigma_w", sigma, above=0)
        check_range("experiment.batch", self.batch, at_least=1)
        check_range("experiment.replicates", self.replicates, at_least=1)
        check_range("experiment.trained_width", self.trained_width, at_least=2)
        check_range("experiment.trainings", self.trainings, at_least=1)
        check_range("experiment.steps", self.steps, at_least=0)
        check_range("experiment.learning_rate", self.learning_rate, above=0)
        check_choice("experiment.dtype", self.dtype, DTYPES)

    def memory(self) -> int:
        """Weights of one width and law, twice; the trained nets with gradients; single layers."""
        size = 8 if self.dtype == "float64" else 4
        widest, deepest = max(self.width), max(self.depth)
        nets = 3 * self.replicates * deepest * widest**2
        narrow = self.trained_width
        trained = self.trainings * len(self.init) * len(self.sigma_w) * deepest
        training = trained * (3 * narrow + 2 * max(CHUNK, 2 * self.batch)) * narrow
        fans = [fan_in * fan_out for fan_in, fan_out in self._fans()]
        return 2**24 + size * (nets + training) + 24 * self.replicates * max(fans)

    def run(self, context: Context) -> pd.DataFrame:
        """Gains of single layers, gradients through deep nets, losses before and after training."""
        frames = [*self._layers(context), *self._gradients(context), *self._losses(context)]
        context.progress(1.0)
        return concat(frames)

    def _fans(self) -> list[tuple[int, int]]:
        return list(dict.fromkeys([*FANS, *((width, width) for width in self.width)]))

    def _schemes(self, law: Law) -> list[tuple[str, float]]:
        """The (init, sigma_w) that share the law's draws."""
        chosen = [name for name in self.init if INITIALIZATIONS[name].law == law]
        return list(product(chosen, self.sigma_w))

    def _laws(self) -> list[Law]:
        return list(dict.fromkeys(INITIALIZATIONS[name].law for name in self.init))

    def _layers(self, context: Context) -> Iterator[pd.DataFrame]:
        """Mean squares behind a linear layer over those before it, in float64, both passes."""
        shapes = self._fans()
        for done, (fan_in, fan_out) in enumerate(shapes, start=1):
            x = _sphere(context, "input", fan_in, self.replicates, self.batch)
            g = _sphere(context, "output gradient", fan_out, self.replicates, self.batch)
            for law in self._laws():
                z = torch.stack(
                    [
                        draw_unit(law, (fan_in, fan_out), _stream(context, law, fan_in, fan_out, r))
                        for r in range(self.replicates)
                    ]
                ).to(torch.float64)
                for name, sigma in self._schemes(law):
                    scheme = INITIALIZATIONS[name]
                    weight = sigma * scheme.std(fan_in, fan_out) * z
                    forward = _array((x @ weight).square().mean(dim=(1, 2)))
                    backward = _array((g @ weight.mT).square().mean(dim=(1, 2)))
                    expected = layer_gains(scheme, fan_in, fan_out, sigma)
                    where: dict[str, Any] = {
                        "init": name,
                        "sigma_w": sigma,
                        "fan_in": fan_in,
                        "fan_out": fan_out,
                    }
                    yield mean_rows("forward_gain", forward, expected[0], **where)
                    yield mean_rows("backward_gain", backward, expected[1], **where)
                    variance = expected[0] / fan_in
                    mismatch = (forward / fan_in - backward / fan_out) / variance
                    yield mean_rows("fan_mismatch", mismatch, 0.0, **where)
                    if name.startswith("xavier"):
                        both = forward + backward
                        yield mean_rows("gain_sum", both, 2 * sigma**2, **where)
            context.progress(0.1 * done / len(shapes))

    def _gradients(self, context: Context) -> Iterator[pd.DataFrame]:
        """The gradient's norm in the first layer over that in the last, one input a net."""
        deepest, total = max(self.depth), len(self.width) * len(self._laws())
        for done, (width, law) in enumerate(product(self.width, self._laws()), start=1):
            draws = [
                torch.stack(
                    [
                        draw_unit(
                            law, (width, width), _stream(context, law, width, width, r, layer)
                        )
                        for r in range(self.replicates)
                    ]
                ).to(DTYPES[self.dtype])
                for layer in range(1, deepest + 1)
            ]
            x = _sphere(context, "input", width, self.replicates, 1).to(DTYPES[self.dtype])
            g = _sphere(context, "output gradient", width, self.replicates, 1).to(x.dtype)
            for (name, sigma), act in product(self._schemes(law), self.activation):
                scheme, activation = INITIALIZATIONS[name], ACTIVATIONS[act]
                scale = sigma * scheme.std(width, width)
                slopes = _slopes(draws, scale, x, activation)
                for depth in self.depth:
                    ratio = _log10_ratio(draws[:depth], scale, slopes, g)
                    where: dict[str, Any] = {
                        "init": name, "activation": act, "sigma_w": sigma,
                        "width": width, "depth": depth,
                    }  # fmt: skip
                    expected = gradient_decades(scheme, activation, sigma, width, depth)
                    alive = np.isfinite(ratio)
                    kept = ratio[alive] if alive.any() else ratio[:1]
                    yield mean_rows("gradient_decades", kept, expected, **where)
                    if act == "relu":
                        known = law != "orthogonal"
                        dead = dead_probability(width, depth) if known else math.nan
                        yield mean_rows("dead_share", ~alive, dead, **where)
            context.progress(0.1 + 0.4 * done / total)

    def _losses(self, context: Context) -> Iterator[pd.DataFrame]:
        """Mean cross-entropy on the digits to learn, before and after."""
        data = load("digits", DTYPES[self.dtype], context.device)
        width, features = self.trained_width, data.inputs.shape[1]
        images, labels = data.inputs[data.train], data.labels[data.train]
        picks = torch.randint(
            len(data.train),
            (self.steps, self.batch),
            generator=context.generator("batches"),
            device=context.device,
        )
        norms = np.quantile(
            _array(images.square().sum(dim=1)), (np.arange(QUANTILES) + 0.5) / QUANTILES
        )
        schemes = list(product(self.init, self.sigma_w))
        cells = list(product(self.depth, self.activation))
        for done, (depth, act) in enumerate(cells, start=1):
            fans = [(features, width), *[(width, width)] * (depth - 1), (width, CLASSES)]
            weights = [
                torch.stack(
                    [
                        sigma
                        * INITIALIZATIONS[name].std(*fan)
                        * draw_unit(
                            INITIALIZATIONS[name].law,
                            fan,
                            _stream(context, INITIALIZATIONS[name].law, *fan, r, layer),
                        )
                        for name, sigma in schemes
                        for r in range(self.trainings)
                    ]
                ).to(DTYPES[self.dtype])
                for layer, fan in enumerate(fans, start=1)
            ]
            activation = ACTIVATIONS[act]
            biases = [torch.zeros_like(weight[:, 0]) for weight in weights]
            seen: dict[int, Tensor] = {}

            def observe(
                step: int,
                weights: list[Tensor],
                biases: list[Tensor],
                act: str = act,
                seen: dict[int, Tensor] = seen,
            ) -> None:
                if step in (0, self.steps):
                    phi = ACTIVATIONS[act].forward
                    total = weights[0].new_zeros(len(weights[0]))
                    for x, y in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
                        z = preactivations(weights, biases, phi, x)
                        total += cross_entropy(z[-1], y) * len(x)
                    seen[step] = total / len(images)

            train(
                weights,
                biases,
                activation.forward,
                data.inputs,
                data.labels,
                data.train[picks],
                self.learning_rate,
                observe,
            )
            for at, (name, sigma) in enumerate(schemes):
                scheme = INITIALIZATIONS[name]
                decades = gradient_decades(scheme, activation, sigma, width, depth)
                where: dict[str, Any] = {
                    "init": name, "activation": act, "sigma_w": sigma, "width": width,
                    "depth": depth, "steps": self.steps, "learning_rate": self.learning_rate,
                    "predicted_decades": decades,
                }  # fmt: skip
                mine = slice(at * self.trainings, (at + 1) * self.trainings)
                q = output_variance(scheme, activation, sigma, fans, norms)
                loss = float(random_loss(q, CLASSES).mean())
                yield mean_rows("initial_loss", _array(seen[0])[mine], loss, **where)
                silent = loss - math.log(CLASSES) < STAYED / 2
                dead = decades < -DEAD and silent
                rest = bias_loss(CLASSES, self.learning_rate, self.batch, self.steps)
                yield mean_rows("final_loss", _array(seen[self.steps])[mine],
                                rest if dead else math.nan, **where)  # fmt: skip
            context.progress(0.5 + 0.5 * done / len(cells))

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Both gains and what ties them, the gradients' decades, and what training makes of it."""
        found = []
        for way, law in (("forward", "fan_in Var W"), ("backward", "fan_out Var W")):
            gains = select(table, f"{way}_gain")
            found.append(
                claims.statistical(
                    f"{way}_gain",
                    f"The {way} pass of a linear layer multiplies the mean square by {law}; an "
                    "orthogonal one's by the smaller fan over the fan it leads to.",
                    "Glorot & Bengio 2010, eqs. 5-6; He et al. 2015, eqs. 7 and 13",
                    gains,
                    resolution=0.25 * gains["predicted"],
                    bias=_rounding(gains) * gains["predicted"],
                )
            )
        tied = select(table, "fan_mismatch")
        found.append(
            claims.statistical(
                "no_scale_keeps_both",
                "forward / fan_in = backward / fan_out under every initialization: the gains' "
                "ratio is fan_out / fan_in whatever the scale, and both are 1 in square layers "
                "only. Difference of the two over their prediction.",
                "E ||Wx||^2 / ||x||^2 = E ||W||_F^2 / fan_in, exact; Glorot & Bengio 2010, eq. 12",
                tied,
                resolution=0.25,
                bias=_rounding(tied),
            )
        )
        both = select(table, "gain_sum")
        if not both.empty:
            found.append(
                claims.statistical(
                    "xavier_compromise",
                    "Xavier's two gains add up to 2 sigma_w^2: what one pass loses, the other "
                    "gains.",
                    "Glorot & Bengio 2010, eq. 12: Var W = 2 / (fan_in + fan_out)",
                    both,
                    resolution=0.25 * both["predicted"],
                )
            )
        for name, part in _judged(table).groupby("activation", sort=False):
            share = (part["depth"] / part["width"]).to_numpy(float)
            found.append(
                claims.statistical(
                    f"gradient_decades_{name}",
                    f"Decades that the gradient gains on its way to the first layer ({name}): mean "
                    "field with its width's correction, whose neglected terms are at most half a "
                    "decade times depth / width.",
                    "Schoenholz et al. 2017, eq. 5; Hanin & Nica 2020, arXiv 1812.05994",
                    part,
                    resolution=np.maximum(0.5, share),
                    bias=share / 2,
                )
            )
        found.extend(_training_claims(table))
        return found

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The constant scale beside Xavier's in the deepest net, or else the two extremes."""
        decades = select(table, "gradient_decades")
        cells = decades[decades["depth"] == decades["depth"].max()]
        cells = cells[cells["width"] == cells["width"].max()]
        cells = cells[(cells["activation"] == cells["activation"].iloc[0])]
        cells = cells[(cells["sigma_w"] == cells["sigma_w"].iloc[0])]
        ranked = cells.sort_values("measured")
        worst, best = ranked.iloc[0], ranked.iloc[-1]
        if {"normal", "xavier"} <= set(cells["init"]):
            worst, best = (cells[cells["init"] == n].iloc[0] for n in ("normal", "xavier"))
        where = f"{worst['depth']} {worst['activation']} layers of width {worst['width']}"
        sentence = f"Through {where} the gradient changes by {_decades(worst)}"
        if worst["init"] != best["init"]:
            sentence += f" and by {_decades(best)}"
        losses = select(table, "final_loss", activation=worst["activation"])
        losses = losses[(losses["sigma_w"] == worst["sigma_w"]) & (losses["steps"] > 0)]
        pair = [losses[losses["init"] == row["init"]] for row in (worst, best)]
        if worst["init"] == best["init"] or any(part.empty for part in pair):
            return f"{sentence}."
        bad, good = (
            part.iloc[int(part["measured"].fillna(np.inf).to_numpy().argmin())] for part in pair
        )
        return (
            f"{sentence}; after training the best {worst['init']} net stands at a loss of "
            f"{bad['measured']:.2f} (ln {CLASSES} = {math.log(CLASSES):.2f} is chance), the best "
            f"{best['init']} net at {good['measured']:.2f}."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Gains of single layers, heatmaps of gradient decades, and the loss they lead to."""
        drawn = [_gain_figure(table), _heatmap(table)]
        trained = select(table, "final_loss").dropna(subset="predicted_decades")
        return drawn if trained.empty else [*drawn, _loss_figure(trained)]


def _decades(row: "pd.Series[Any]") -> str:
    told = f"predicted {row['predicted']:+.1f}" if row["predicted"] == row["predicted"] else ""
    return f"{row['measured']:+.1f} decades under {row['init']} ({told or 'no prediction'})"


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    return select(table, "gradient_decades").dropna(subset="predicted")


def _rounding(gains: pd.DataFrame) -> Array:
    """Relative rounding error of a gain, from entries rounded to float32: 2 u ||W||_F / ||W||.

    ||W||_F / ||W||_2 <= sqrt(smaller fan); doubled for the second order and float64's.
    """
    fan = gains[["fan_in", "fan_out"]].to_numpy(float).min(axis=1)
    error: Array = 4 * FORMATS["float32"].unit_roundoff * np.sqrt(fan)
    return error


def _training_claims(table: pd.DataFrame) -> Iterator[Claim]:
    chance = math.log(CLASSES)
    before = select(table, "initial_loss")
    excess = (before["predicted"] - chance).to_numpy(float)
    silent = before[excess < 1e-6]
    if not silent.empty:
        # E logsumexp(z) - z_y = ln C + q (1 - 1 / C) / 2 + O(q^2); float64 has lost q below 1e-15.
        q = 2 / (1 - 1 / CLASSES) * np.maximum(excess[excess < 1e-6], 1e-15)
        rounding = 16 * FORMATS["float32"].unit_roundoff * chance
        yield claims.bounded(
            "silent_nets_guess",
            f"Before training, nets whose logits are predicted to vanish have the loss ln {CLASSES}"
            f" of guessing, to twice {DEVIATIONS} standard deviations of a logit.",
            "|logsumexp(z) - z_y - ln C| <= 2 max |z|, exact; mean-field variance",
            silent.assign(predicted=chance),
            allowed=2 * DEVIATIONS * np.sqrt(q) + rounding,
        )
    after = select(table, "final_loss")
    after = after[after["steps"] * after["learning_rate"] >= TRAINED]
    dead = after.dropna(subset="predicted")
    if not dead.empty:
        yield claims.bounded(
            "dead_nets_stay",
            f"Nets whose gradient is predicted to lose over {DEAD:g} decades, and whose logits are "
            "predicted to vanish, learn nothing but output biases: they end within "
            f"{STAYED:g} of ln {CLASSES}, give or take four times the noise of SGD.",
            "ln C is the loss of a constant output; SGD noise: Mandt et al. 2017, arXiv 1704.04289",
            dead,
            allowed=STAYED + 4 * (dead["predicted"] - chance),
        )
    spread = log_normal_coefficient() * (after["depth"] / after["width"]).to_numpy(float)
    settled = (spread <= 1) & (after["learning_rate"] <= FASTEST)
    alive = after[settled & (after["predicted_decades"].abs() <= ALIVE)]
    if not alive.empty:
        yield claims.bounded(
            "stable_nets_learn",
            f"Nets whose gradient is predicted to keep its size within {ALIVE:g} decade, and whose "
            "log-normal variance, 5 depth / width for ReLU, is at most 1, end below "
            f"{LEARNT:g} of the loss of guessing, at learning rates up to {FASTEST:g}.",
            "Schoenholz et al. 2017, sec. 5; Hanin & Nica 2020, theorem 1",
            alive.assign(predicted=0.0),
            allowed=LEARNT * chance,
        )


def _scheme_labels(data: pd.DataFrame) -> pd.Series:
    names = data["init"].str.replace("_", " ")
    if data["sigma_w"].nunique() > 1:
        names = names + " x" + data["sigma_w"].map("{:g}".format)
    return names


def _gain_figure(table: pd.DataFrame) -> Figure:
    import seaborn as sns

    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    data = table[table["quantity"].isin(["forward_gain", "backward_gain"])].copy()
    data["name"] = _scheme_labels(data)
    names = list(dict.fromkeys(data["name"]))
    figure, axes = canvas(columns=len(FANS), height=1.5 + 0.3 * len(names), sharey=True)
    for ax, (fan_in, fan_out) in zip(axes[0], FANS, strict=True):
        part = data[(data["fan_in"] == fan_in) & (data["fan_out"] == fan_out)]
        for way, marker, color in (
            ("forward", MARKERS[0], PALETTE[0]),
            ("backward", MARKERS[1], PALETTE[1]),
        ):
            one = part[part["quantity"] == f"{way}_gain"]
            at = np.array([names.index(name) for name in one["name"]])
            ax.vlines(
                one["predicted"], at - 0.38, at + 0.38, color=color, lw=1.5, label=f"{way}, theory"
            )
            sns.scatterplot(
                one, x="measured", y="name", ax=ax, marker=marker, s=45, color=color, zorder=3,
                label=f"{way}, measured", legend=False,
            )  # fmt: skip
        ax.axvline(1.0, color=FAINT, lw=1.2, ls="--")
        ax.set_xscale("log")
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_title(f"{fan_in} inputs, {fan_out} outputs")
        ax.set_xlabel("factor of the mean square")
        ax.set_ylabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4)
    error = (data["measured"] / data["predicted"] - 1).abs().max()
    return Figure(
        "gains",
        "What one linear layer does to a signal (forward) and to a gradient (backward). The two "
        "are always a factor of 4 apart, the ratio of the fans: no scale puts both on the dashed "
        "line. Xavier leaves them on either side of it.",
        f"Forward and backward gains of {len(names)} initializations in layers of 100 to 400 and "
        f"400 to 100 units: the largest relative difference from theory is {error:.1%}.",
        figure,
    )


def _heatmap(table: pd.DataFrame) -> Figure:
    import seaborn as sns
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import SymLogNorm

    from stability.plotting import DIVERGING, canvas

    data = select(table, "gradient_decades").copy()
    data["name"] = _scheme_labels(data)
    names, kinds = list(dict.fromkeys(data["name"])), list(dict.fromkeys(data["activation"]))
    cells = len(data[["width", "depth"]].drop_duplicates())
    figure, axes = canvas(2, len(kinds), height=1.1 + 0.27 * len(names), sharey=True, sharex=True)
    norm = SymLogNorm(1.0, vmin=-100.0, vmax=100.0)
    for row, kind in enumerate(kinds):
        part = data[data["activation"] == kind]
        for ax, column in zip(axes[row], ("measured", "predicted"), strict=True):
            grid = part.pivot(index="name", columns=["width", "depth"], values=column)
            grid = grid.loc[names].sort_index(axis=1)
            grid.columns = [f"{depth}\n{width}" for width, depth in grid.columns]
            ax.set_title(f"{kind}, {column}")
            if grid.isna().all(axis=None):
                ax.text(0.5, 0.5, "no number", ha="center", transform=ax.transAxes)
                continue
            sns.heatmap(
                grid.round(1) + 0.0, ax=ax, norm=norm, cmap=DIVERGING, cbar=False,
                annot=cells <= 12, fmt=".1f", annot_kws={"size": 8}, rasterized=True,
            )  # fmt: skip
            ax.set_xlabel("depth (layers), above width (units)" if row == len(kinds) - 1 else "")
            ax.set_ylabel("")
            ax.tick_params(length=0, rotation=0)
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=axes, aspect=30, pad=0.02)
    bar.set_label("decades from last layer to first")
    bar.set_ticks([-100, -10, -1, 0, 1, 10, 100])
    sizes = data["measured"].fillna(np.inf).to_numpy()
    lost, kept = (data.iloc[int(np.argmin(x))] for x in (sizes, np.abs(sizes)))
    return Figure(
        "decades",
        "How many decades the gradient's norm gains (red) or loses (blue) from the last layer to "
        "the first: measured on the left, predicted on the right. A constant scale is right at one "
        "width only, and depth multiplies its error.",
        f"Heatmaps of measured and predicted gradient decades: from {lost['measured']:.1f} "
        f"(predicted {lost['predicted']:.1f}; {lost['name']}, {lost['activation']}, depth "
        f"{lost['depth']}, width {lost['width']}) to {kept['measured']:.1f} ({kept['name']}, "
        f"{kept['activation']}, depth {kept['depth']}, width {kept['width']}).",
        figure,
    )


def _loss_figure(trained: pd.DataFrame) -> Figure:
    import seaborn as sns

    from stability.plotting import FAINT, MARKERS, PALETTE, band, canvas

    data = trained.rename(columns={"predicted_decades": "decades"})
    data["initialization"] = _scheme_labels(data)
    chance, top = math.log(CLASSES), 1.5 * math.log(CLASSES)
    data["shown"] = data["measured"].fillna(np.inf).clip(upper=top)
    figure, axes = canvas(height=4.2)
    ax = axes[0, 0]
    count, styles = data["initialization"].nunique(), data["depth"].nunique()
    edge = min(float(data["decades"].min()) * 1.6, -2 * DEAD)
    band(ax, [edge, -DEAD], [chance - STAYED] * 2, [chance + STAYED] * 2, PALETTE[7])
    band(ax, [-ALIVE, ALIVE], [0, 0], [LEARNT * chance] * 2, PALETTE[7])
    ax.axhline(chance, color=FAINT, lw=1.2, ls="--")
    sns.scatterplot(
        data, x="decades", y="shown", hue="initialization", style="depth", ax=ax, s=60,
        palette=PALETTE[:count] if count <= len(PALETTE) else None,
        markers=MARKERS[:styles] if styles <= len(MARKERS) else True, zorder=3,
    )  # fmt: skip
    ax.set_xscale("symlog", linthresh=1.0)
    ax.set_xlim(edge, max(float(data["decades"].max()) * 1.6, 2 * ALIVE))
    ax.set_ylim(0, max(1.15 * chance, 1.05 * float(data["shown"].max())))
    ax.set_xlabel("predicted decades of the gradient from last layer to first, before training")
    ax.set_ylabel("cross-entropy after training (nats)")
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1.01, 1.0))
    dead = data[data["decades"] < -DEAD]["measured"]
    least = data.iloc[int(data["shown"].to_numpy().argmin())]
    lowest = f"; the lowest loss of those is {dead.min():.3f}" if len(dead) else ""
    return Figure(
        "training",
        f"Loss on the digits after training, against what was predicted before it. Dashed: "
        f"ln {CLASSES}, the loss of guessing. Shaded: what is claimed for nets predicted dead "
        "(left) and stable (right; at depths of up to a fifth of the width). A loss off the scale "
        "or not a number is drawn at the top.",
        f"{len(dead)} of {len(data)} cells are predicted to lose more than {DEAD:g} decades"
        f"{lowest}. The lowest of all is {least['measured']:.2f} ({least['initialization']}, "
        f"{least['activation']}, depth {least['depth']}).",
        figure,
    )


def _stream(
    context: Context, law: str, fan_in: int, fan_out: int, replicate: int, layer: int = 1
) -> torch.Generator:
    return context.generator("weights", law, fan_in, fan_out, replicate, layer)


def _sphere(context: Context, what: str, size: int, replicates: int, batch: int) -> Tensor:
    """Vectors of mean square 1 in uniform directions, float64: (replicates, batch, size)."""
    x = torch.stack(
        [
            torch.randn((batch, size), generator=generator, device=context.device)
            for generator in (context.generator(what, size, r) for r in range(replicates))
        ]
    ).to(torch.float64)
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * (math.sqrt(size) / norm)


def _array(x: Tensor) -> Array:
    values: Array = x.to("cpu", torch.float64).numpy()
    return values


def _slopes(draws: list[Tensor], scale: float, x: Tensor, activation: Activation) -> list[Tensor]:
    """phi'(z_l) of every layer."""
    slopes, h = [], x
    for draw in draws:
        z = scale * (h @ draw)
        slopes.append(activation.derivative(z))
        h = activation.forward(z)
        if activation.homogeneous:
            # Its slopes don't depend on the size of the signal.
            h, _ = rescale(h, (1, 2))
    return slopes


def _log10_ratio(draws: list[Tensor], scale: float, slopes: list[Tensor], g: Tensor) -> Array:
    """log10(|dL/dh^1| / |dL/dh^L|) for the gradient g at h^L, (replicates,); exponents apart."""
    exponent = torch.zeros(len(g), dtype=torch.float64, device=g.device)
    delta = g
    for layer in range(len(draws) - 1, 0, -1):
        delta, power = rescale((delta * slopes[layer]) @ draws[layer].mT, (1, 2))
        exponent = exponent + power[:, 0, 0] + math.log2(scale)
    ratio = exponent + log2_norm(delta, (1, 2)) - log2_norm(g, (1, 2))
    return _array(ratio) * math.log10(2)


def output_variance(
    scheme: Scheme,
    activation: Activation,
    sigma: float,
    fans: list[tuple[int, int]],
    norms: Array,
) -> Array:
    """Mean-field variance of the logits for inputs of squared norms ``norms``, of their shape.

    Up to an orthogonal layer's factor fan_in std^2, which is the mean square's in the mean.
    """
    gains = [sigma * scheme.std(*fan) * math.sqrt(fan[0]) for fan in fans[1:]]
    return variance_behind((sigma * scheme.std(*fans[0])) ** 2 * norms, activation, gains)
