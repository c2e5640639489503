"""Which gain keeps signals and gradients: torch's table beside gains from first principles."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.catalogue.activations import ACTIVATIONS
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure, stream
from stability.kernels.robust import log2_norm, rescale
from stability.table import concat, mean_rows, rows, select
from stability.theory import initialization as theory
from stability.theory import meanfield, phase, width_correction
from stability.theory.floating_point import FORMATS

Array = np.ndarray[Any, np.dtype[np.float64]]

SOURCES = ("torch", "forward", "critical", "xavier", "he", "default")
"""calculate_gain; E phi^2 kept at q = 1; chi_1 = 1; 1; sqrt(2); 1 / sqrt(3), nn.Linear's own."""
DEFAULT_LAYERS = 12
"""At most, of torch's default layers: the signal has met its floor before."""
RANGE = 1e280
"""Of variances, up and down, for which the first order in 1 / width is computed."""
DRAWN = 1e100
"""Of an rms, up and down, that is drawn."""
LARGEST = 0.1
"""Second order in 1 / width, of a logarithm, beyond which the first says nothing: as where q = 1 is
a fixed point that repels (GELU, SiLU at the forward gain)."""
APART = 0.05
"""Of a factor or an rms: half of what tells tanh's 1.0999 from 1."""


class Draw(NamedTuple):
    """One network draw, natural logarithms: of E h^2 by layer 0..L, ||dL/dz^l||^2 and ||dL/dh^l||^2
    by layer 1..L, (L + 1 or L, cells)."""

    signal: Array
    delta: Array
    gradient: Array


def gain(source: str, activation: str) -> float:
    """The gain of that source, nan where it has none for the activation."""
    entry = ACTIVATIONS[activation]
    if source == "torch":
        return torch_table(activation)
    if source == "forward":
        return float(theory.forward_preserving_gain(entry))
    if source == "critical":
        return theory.critical_gain(entry)
    return {"xavier": 1.0, "he": math.sqrt(2), "default": 1 / math.sqrt(3)}[source]


def torch_table(activation: str) -> float:
    """What torch recommends, nan where it refuses."""
    table: Callable[[Any], float] = torch.nn.init.calculate_gain
    try:
        return float(table(activation))
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Gain(Experiment):
    """Signals and gradients by activation and gain, beside mean field (Schoenholz et al. 2017)."""

    title: ClassVar[str] = "Gains"
    question: ClassVar[str] = (
        "Which gain keeps a deep network's signals and gradients, and what do the usual ones do?"
    )

    activation: list[str] = field(default_factory=lambda: ["tanh"])
    source: list[str] = field(default_factory=lambda: ["torch"])
    width: list[int] = field(default_factory=lambda: [48])
    depth: int = 8
    replicates: int = 4

    def __post_init__(self) -> None:
        for name in ("activation", "source", "width"):
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for name in self.source:
            check_choice("experiment.source", name, SOURCES)
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        check_range("experiment.depth", self.depth, at_least=2)
        check_range("experiment.replicates", self.replicates, at_least=1)

    def memory(self) -> int:
        """Bytes of one draw: states of all cells, weights of all layers."""
        cells, width = len(self.activation) * len(self.source), max(self.width)
        return 8 * ((2 * self.depth + 8) * cells * width + (self.depth + 2) * width**2)

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by width, activation and source, and by layer; samples are network draws."""
        pairs = list(product(self.activation, self.source))
        frames = [_table_rows(name) for name in self.activation]
        cells = [pair for pair in pairs if math.isfinite(gain(pair[1], pair[0]))]
        for index, width in enumerate(self.width):
            draws, defaults = [], []
            for replicate in range(self.replicates):
                if cells:
                    draws.append(self._draw(context, width, replicate, cells))
                defaults.append(
                    _default(context, width, min(self.depth, DEFAULT_LAYERS), replicate)
                )
                context.progress((index + (replicate + 1) / self.replicates) / len(self.width))
            for c, (activation, source) in enumerate(cells):
                cell = {"width": width, "activation": activation, "source": source}
                own = (
                    np.stack([part[:, c] for part in parts]) for parts in zip(*draws, strict=True)
                )
                frames.extend(_cell_rows(Draw(*own), cell))
            frames.extend(_default_rows(defaults, width))
        return concat(frames)

    def _draw(
        self, context: Context, width: int, replicate: int, cells: list[tuple[str, str]]
    ) -> Draw:
        """Forward from preactivations N(0, 1) and back: weights shared by all cells."""
        device = context.device
        gains = torch.tensor([gain(s, a) for a, s in cells], dtype=torch.float64, device=device)
        scale = gains[:, None] / math.sqrt(width)
        groups = [
            (ACTIVATIONS[name], [i for i, cell in enumerate(cells) if cell[0] == name])
            for name in dict.fromkeys(a for a, _ in cells)
        ]
        x = torch.randn(
            width, generator=context.generator("input", width, replicate), device=device
        )
        x = x.double() * (math.sqrt(width) / torch.linalg.vector_norm(x.double()))
        h = x / gains[:, None]
        signal, states, weights = [_log_mean_square(h)], [], []
        for layer in range(1, self.depth + 1):
            source = context.generator("weights", width, replicate, layer)
            weights.append(torch.randn((width, width), generator=source, device=device).double())
            z = (h @ weights[-1]) * scale
            h = torch.empty_like(z)
            for entry, members in groups:
                h[members] = entry.forward(z[members])
            states.append(z)
            signal.append(_log_mean_square(h))
        source = context.generator("gradient", width, replicate)
        top = torch.randn(width, generator=source, device=device).double()
        g = (top / torch.linalg.vector_norm(top)).expand_as(h)
        exponent = torch.zeros(len(cells), dtype=torch.float64, device=device)
        delta, gradient = [], []
        for z, weight in zip(reversed(states), reversed(weights), strict=True):
            gradient.append(exponent + log2_norm(g, -1))
            slope = torch.empty_like(z)
            for entry, members in groups:
                slope[members] = entry.derivative(z[members])
            back, step = rescale(g * slope, -1)
            exponent = exponent + step[:, 0]
            delta.append(exponent + log2_norm(back, -1))
            g = (back @ weight.mT) * scale
        two = 2 * math.log(2)
        logs = [two * torch.stack(part[::-1]).cpu().numpy() for part in (delta, gradient)]
        return Draw(torch.stack(signal).cpu().numpy(), *logs)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Signals and gradients by mean field; what is said of tanh, SELU, the default, GELU."""
        made = list(_law_claims(table))
        made.extend(_folk_claims(table))
        made.extend(_default_claims(table))
        return made

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The gains that keep both, and what torch's do."""
        growth = select(table, "gradient_growth").dropna(subset=["measured"])
        default = select(table, "default_gain").iloc[-1]
        said = (
            f"torch.nn.Linear starts at a gain of {default['measured']:.4f} (predicted "
            f"{default['predicted']:.4f}), not Kaiming's 1.4142"
        )
        if growth.empty:
            return f"{said}; no gain for these activations."
        growth = growth[growth["width"] == growth["width"].max()]
        away = np.log(growth["measured"]).abs()
        near, far = growth.loc[away.idxmin()], growth.loc[away.idxmax()]
        words = [
            f"{row['activation']} at {row['gain']:.4g} ({row['source']}) multiplies gradients by "
            f"{row['measured']:.4f} a layer (predicted {row['predicted']:.4f})"
            for row in (near, far)
        ]
        return f"{words[0]}, {words[1]}; {said}."

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Growth by activation and source; the rms by layer; what vanishes and what does not."""
        return [_draw_growth(table), _draw_rms(table), _draw_layers(table)]


def _log_mean_square(h: Tensor) -> Tensor:
    width = math.log2(h.shape[-1])
    return math.log(2) * (2 * log2_norm(h, -1) - width)


def _table_rows(activation: str) -> pd.DataFrame:
    value = torch_table(activation)
    return rows("torch_gain", value, theory.torch_gain(activation), activation=activation,
                source="torch", gain=value, fixed=np.nan, shift=np.nan, room=np.nan)  # fmt: skip


def _cell_rows(draw: Draw, cell: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """The rows of one cell; ``draw``'s arrays are (replicates, layers)."""
    width, depth = cell["width"], draw.delta.shape[1]
    entry, sigma = ACTIVATIONS[cell["activation"]], gain(cell["source"], cell["activation"])
    cell = {**cell, "gain": sigma}
    q = meanfield.variances(depth, 1.0, entry, sigma)
    settled = phase.phase_diagram(entry, sigma)
    finite = np.isfinite(q)
    inside = np.where(finite, q, 1.0)
    v = np.where(finite, entry.second_moment(inside), np.inf)
    with np.errstate(divide="ignore"):
        log_chi = np.where(finite, np.log(meanfield.chi(inside, entry, sigma)), np.nan)
    layer = np.arange(1, depth + 1)
    shift, room = np.full((2, depth), np.nan)
    up_shift = up_room = np.nan
    middle = depth // 2
    if np.all((q > 1 / RANGE) & (q < RANGE)):
        law = width_correction.activation_correction(depth, 1.0, entry, sigma)
        shift = (law.mean / 2 + law.variance / 8) / width
        room = (np.abs(law.mean) + law.variance) ** 2 / (2 * width**2)
        back = width_correction.gradient_correction(depth, 1.0, entry, sigma)
        part, mean, variance = 2 * (depth - middle), back.mean[middle], back.variance[middle]
        up_shift = (mean / part + variance / (2 * part**2)) / width
        up_room = (abs(mean) + variance) ** 2 / (part * width**2)
    fixed = math.sqrt(float(entry.second_moment(settled.q))) if settled.q < RANGE else math.inf
    with np.errstate(over="ignore"):
        yield mean_rows("rms", np.exp(draw.signal[:, 1:] / 2), np.sqrt(v), **cell, layer=layer,
                        fixed=fixed, shift=shift, room=room)  # fmt: skip
    growth = np.exp(meanfield.gradient_rate(log_chi[middle:]))
    slopes = (draw.gradient[:, middle - 1] - draw.gradient[:, -1]) / (2 * (depth - middle))
    yield mean_rows("gradient_growth", np.exp(slopes), growth, **cell,
                    fixed=math.sqrt(float(settled.chi)), shift=up_shift, room=up_room)  # fmt: skip
    decade = 2 * math.log(10)
    down = (draw.delta - draw.delta[:, -1:]) / decade
    weight = (draw.delta + draw.signal[:, :-1]) / decade
    chain = meanfield.log_gradients(log_chi[:-1]) / decade
    below = np.log10(np.concatenate([[1 / sigma], np.sqrt(v[:-1])]))
    if cell["activation"] == "linear":
        profile = theory.linear_profile(depth, sigma).weight
        flat = (profile - profile[-1]) / decade
    else:
        flat = theory.weight_profile(chain, below)
    yield mean_rows("log10_gradient", down, chain, **cell, layer=layer)
    yield mean_rows("log10_weight_gradient", weight - weight[:, -1:], flat, **cell, layer=layer)


class Default(NamedTuple):
    """A draw of torch's default ReLU layers: its gain, and the mean square by layer 0..L."""

    gain: float
    moment: Array


def _default(context: Context, width: int, depth: int, replicate: int) -> Default:
    """Layers as ``torch.nn.Linear`` makes them, from a stream of torch's own generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(context.seed, "default", width, replicate))
        layers = [torch.nn.Linear(width, width, dtype=torch.float64) for _ in range(depth)]
    source = context.generator("input", width, replicate)
    x = torch.randn(width, generator=source, device=context.device).double()
    h = x * (math.sqrt(width) / torch.linalg.vector_norm(x))
    moment = [1.0]
    squares = 0.0
    with torch.no_grad():
        for layer in layers:
            h = torch.relu(layer.to(context.device)(h))
            moment.append(float(h.square().mean()))
            squares += float(layer.weight.square().mean()) / depth
    return Default(math.sqrt(width * squares), np.array(moment))


def _default_rows(draws: list[Default], width: int) -> Iterator[pd.DataFrame]:
    predicted = math.sqrt(width * theory.default_variance(width))
    yield mean_rows("default_gain", [d.gain for d in draws], predicted, width=width)
    moments = np.array([d.moment for d in draws])
    depth = moments.shape[1] - 1
    exact = theory.default_relu_moments(depth, width)
    yield mean_rows("default_moment", moments[:, 1:], exact[1:], width=width,
                    layer=np.arange(1, depth + 1))  # fmt: skip


def _judged(part: pd.DataFrame) -> pd.DataFrame:
    """The rows with the prediction at their width, of those where the first order will do."""
    part = part[part["room"] <= LARGEST]
    return part.assign(predicted=part["predicted"] * np.exp(part["shift"]))


def _bias(part: pd.DataFrame) -> Array:
    """What the second order in 1 / width may amount to, in the units of measured."""
    bias: Array = (part["predicted"] * np.expm1(part["room"])).to_numpy(float)
    return bias


SECOND = (
    "First order in 1 / width; for the second the square of its mean plus variance is allowed, and "
    f"nothing is judged where that exceeds {LARGEST:g} of a logarithm."
)


def _law_claims(table: pd.DataFrame) -> Iterator[Claim]:
    known = select(table, "torch_gain").dropna(subset=["measured"])
    if not known.empty:
        yield claims.bounded(
            "torch_table",
            "torch's calculate_gain is 1, 5/3, sqrt(2), sqrt(2 / (1 + slope^2)) and 3/4 for linear "
            "and sigmoid, tanh, ReLU, leaky ReLU and SELU, to two roundings.",
            "torch.nn.init.calculate_gain",
            known,
            allowed=4 * FORMATS["float64"].unit_roundoff * known["measured"].to_numpy(float),
        )
    signal = _judged(select(table, "rms", layer=table["layer"].max()))
    if not signal.empty:
        yield claims.statistical(
            "signal",
            "The activations' rms in the last layer is that of the variance map from q = 1. "
            + SECOND,
            "Poole et al. 2016, eq. 3",
            signal,
            resolution=np.inf,
            bias=_bias(signal),
        )
    growth = _judged(select(table, "gradient_growth"))
    if not growth.empty:
        yield claims.statistical(
            "gradient_growth",
            "Over the upper half of the layers the gradient's norm grows by sqrt(chi_1) = sigma_w "
            "sqrt(E phi'^2) a layer on its way down, along the variance map. " + SECOND,
            "Schoenholz et al. 2017, sec. 3",
            growth,
            resolution=np.inf,
            bias=_bias(growth),
        )


def _folk_claims(table: pd.DataFrame) -> Iterator[Claim]:
    growth = _judged(select(table, "gradient_growth"))
    last = _judged(select(table, "rms", layer=table["layer"].max()))
    for name, activation, part, statement, folk in (
        ("tanh_signal", "tanh", last,
         "At torch's gain 5/3 tanh's activations do settle, at an rms of .6513.", ""),
        ("tanh_gradient", "tanh", growth,
         "At torch's gain 5/3 tanh's gradients grow by 1.0999 a layer, 117-fold in 50: chi_1 = "
         "1.2098 at q* = 1.1785.", "The gain 5/3 keeps tanh's signals and gradients stable."),
        ("selu_signal", "selu", last,
         "At torch's gain 3/4 SELU's activations settle at an rms of .2024; 1 keeps them at 1.",
         "SELU's gain is 3/4."),
    ):  # fmt: skip
        mine = part[(part["activation"] == activation) & (part["source"] == "torch")]
        if mine.empty:
            continue
        limit = mine["fixed"] * np.exp(mine["shift"])
        apart = (limit - mine["predicted"]).abs().to_numpy(float)
        yield claims.statistical(
            name,
            f"{statement} {SECOND} Also allowed: what the map lacks to its fixed point.",
            "Schoenholz et al. 2017, sec. 3; torch.nn.init.calculate_gain",
            mine.assign(predicted=limit),
            resolution=APART,
            bias=_bias(mine) + apart,
            folk=folk,
        )
    other = growth[
        growth["activation"].isin(["gelu", "silu", "swish"]) & (growth["source"] == "he")
    ]
    if not other.empty:
        yield claims.statistical(
            "gelu_relu_gain",
            "At ReLU's gain sqrt(2) the signal of GELU and SiLU shrinks, and with it chi_1 to 1/2: "
            "gradients come to fall by up to 1 / sqrt(2) a layer. " + SECOND,
            "Schoenholz et al. 2017, sec. 3; GELU'(0) = SiLU'(0) = 1/2",
            other,
            resolution=APART,
            bias=_bias(other),
            folk="ReLU's gain, sqrt(2), will do for GELU and SiLU.",
        )
    flat = select(table, "log10_weight_gradient", activation="linear")
    flat = flat[(flat["layer"] < flat["layer"].max()) & (flat["gain"] < 1)]
    if not flat.empty:
        yield claims.statistical(
            "weight_gradients",
            "In linear layers of equal width every layer's weight gradient has the same norm in "
            "the mean of its logarithm, exactly, while signals and gradients fall by the gain a "
            "layer: what shrinks forward makes up for what shrinks backward.",
            "Glorot & Bengio 2010, eq. 14",
            flat,
            resolution=np.inf,
            folk="Vanishing gradients show as small weight gradients in the first layers.",
        )


def _default_claims(table: pd.DataFrame) -> Iterator[Claim]:
    drawn = select(table, "default_gain")
    yield claims.statistical(
        "default_gain",
        "torch.nn.Linear draws weights of standard deviation 1 / sqrt(3 n): a gain of .5774, where "
        "Kaiming's is 1.4142 for ReLU and 1 for linear layers. Up to 1 / width^2, for the root of "
        "the sample's mean square.",
        "torch.nn.Linear.reset_parameters: kaiming_uniform_ with a = sqrt(5)",
        drawn,
        resolution=APART,
        bias=1.0 / drawn["width"].to_numpy(float) ** 2,
        folk="PyTorch's default initialization is Kaiming (He).",
    )
    yield claims.statistical(
        "default_moment",
        "Under it each ReLU layer multiplies E h^2 by 1/6 until the biases' 1 / (5 n) is left: "
        "m' = m / 6 + 1 / (6 n), exactly at any width.",
        "Derived: preactivations are symmetric given the layer below; He et al. 2015, eq. 7",
        select(table, "default_moment"),
        resolution=np.inf,
    )


def _widest(part: pd.DataFrame) -> pd.DataFrame:
    return part[part["width"] == part["width"].max()]


def _empty(ax: Any) -> None:
    ax.text(0.5, 0.5, "no such cell", ha="center", transform=ax.transAxes)


def _draw_growth(table: pd.DataFrame) -> Figure:
    """Factor of the gradient per layer: an activation a column, a source a mark; near 1 below."""
    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    data = _widest(select(table, "gradient_growth"))
    names = list(dict.fromkeys(data["activation"]))
    figure, axes = canvas(1, 2, height=2.7, sharex=True)
    for ax in axes[:, 0]:
        ax.axhline(1.0, color=FAINT, lw=1.2, ls="--")
        for i, source in enumerate(name for name in SOURCES if name in set(data["source"])):
            part = data[data["source"] == source]
            x = np.array([names.index(name) for name in part["activation"]]) + 0.13 * (i - 2.5)
            color = PALETTE[i % len(PALETTE)]
            ax.hlines(part["predicted"], x - 0.06, x + 0.06, color=color)
            ax.plot(x, part["measured"], MARKERS[i], color=color, ms=5, label=source)
        ax.set_xticks(range(len(names)), names)
        ax.set(yscale="log", ylabel="gradient's growth a layer")
    ticks = np.array([0.15, 0.25, 0.5, 0.7071, 1, 1.4142, 2, 4])
    low, high = axes[0, 0].get_ylim()
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    axes[0, 0].set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
    near = np.arange(0.9, 1.15, 0.05)
    axes[1, 0].set_ylim(0.88, 1.13)
    axes[1, 0].set_yticks(near, [f"{tick:.2f}" for tick in near])
    axes[1, 0].set_xlabel("activation; below, what lies near 1")
    for ax in axes[:, 0]:
        ax.minorticks_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=6)
    judged = data[data["room"] <= LARGEST]
    error = (judged["measured"] / judged["predicted"] - 1).abs().max()
    tanh = data[(data["activation"] == "tanh") & (data["source"] == "torch")]
    said = f" tanh at 5/3: {tanh['measured'].iloc[0]:.4f}." if len(tanh) else ""
    return Figure(
        "growth",
        "By how much one layer multiplies the gradient's norm on its way down, at the gain of each "
        "source: marks are measured, bars the mean field of infinite width. On the dashed line "
        "gradients keep their size. No mark: the source has no gain for that activation. GELU and "
        "SiLU leave their bars at the forward gain: the fixed point that it makes repels.",
        f"Gradient growth a layer of {len(data)} pairs of activation and gain: the largest "
        f"relative difference from theory is {error:.1%} of the {len(judged)} with an attracting "
        f"fixed point.{said}",
        figure,
    )


def _draw_rms(table: pd.DataFrame) -> Figure:
    """Rms by layer of tanh and SELU, or of the first two activations, a line a gain."""
    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    data = _widest(select(table, "rms"))
    data = data[data["measured"].between(1 / DRAWN, DRAWN)]
    have = list(dict.fromkeys(data["activation"]))
    names = ([n for n in ("tanh", "selu") if n in have] or have)[:2]
    figure, axes = canvas(max(1, len(names)), height=3.8)
    said = []
    for ax, name in zip(axes[0], names, strict=False):
        mine = data[(data["activation"] == name) & (data["gain"] > 1 / math.sqrt(3))]
        for i, (sigma, part) in enumerate(mine.groupby(mine["gain"].round(12), sort=False)):
            sources = list(dict.fromkeys(part["source"]))
            part = part[part["source"] == sources[0]]
            color, label = PALETTE[i % len(PALETTE)], f"{sigma:.4g} ({', '.join(sources)})"
            ax.plot(part["layer"], part["predicted"], color=color)
            step = part.iloc[:: max(1, len(part) // 12)]
            ax.errorbar(step["layer"], step["measured"], 2 * step["stderr"], fmt=MARKERS[i],
                        color=color, elinewidth=1, label=label)  # fmt: skip
            if "torch" in sources:
                end = part.iloc[-1]
                ax.axhline(end["fixed"], color=FAINT, lw=1.2, ls="--", zorder=0)
                said.append(f"{name} at {end['gain']:.4g} ends at {end['measured']:.4f}, fixed "
                            f"point {end['fixed']:.4f}")  # fmt: skip
        ax.set(title=name, xlabel="layer", ylabel="rms of the activations", yscale="log")
        ax.legend(title="gain", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    if not names:
        _empty(axes[0, 0])
    return Figure(
        "rms",
        "The activations' rms by layer, a colour a gain, starting from preactivations of variance "
        "1: marks are means over network draws with two standard errors, lines mean field; dashed "
        "is the fixed point at torch's gain.",
        "Rms of the activations by layer. " + "; ".join(said) + ".",
        figure,
    )


def _draw_layers(table: pd.DataFrame) -> Figure:
    """A vanishing linear network's three norms; the default ReLU network's mean square."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(2)
    ax, linear = axes[0, 0], _widest(table[table["activation"].eq("linear").fillna(False)])
    linear = linear[linear["source"].isin(["default"])]
    signal = select(linear, "rms")
    signal = signal[signal["measured"].between(1 / DRAWN, DRAWN)]
    for i, (label, part) in enumerate(
        (
            ("gradient dC/dz", select(linear, "log10_gradient")),
            ("signal h", signal.assign(
                measured=np.log10(signal["measured"]), predicted=np.log10(signal["predicted"])
            )),
            ("weight gradient dC/dW", select(linear, "log10_weight_gradient")),
        )
    ):  # fmt: skip
        ax.plot(part["layer"], part["predicted"], color=PALETTE[i])
        step = part.iloc[:: max(1, len(part) // 12)]
        ax.plot(step["layer"], step["measured"], MARKERS[i], color=PALETTE[i], label=label)
    ax.set(title="linear layers at gain 1/√3", xlabel="layer", ylabel="norm, decades")
    if linear.empty:
        _empty(ax)
    else:
        ax.legend()
    ax, default = axes[0, 1], _widest(select(table, "default_moment"))
    ax.plot(default["layer"], default["predicted"], color=PALETTE[0], label="m/6 + 1/(6n)")
    ax.errorbar(default["layer"], default["measured"], 2 * default["stderr"], fmt="o",
                color=PALETTE[0], label="measured", elinewidth=1)  # fmt: skip
    floor = 1 / (5 * int(default["width"].iloc[0]))
    ax.axhline(floor, color=PALETTE[1], ls="--", lw=1.2, label="biases alone: 1/(5n)")
    ax.set(title="torch.nn.Linear and ReLU", xlabel="layer", ylabel="E h²", yscale="log")
    ax.legend()
    end = default.iloc[-1]
    return Figure(
        "layers",
        "Left: signals shrink upwards, gradients downwards, weight gradients are the same in every "
        "layer. Right: PyTorch's default divides a ReLU network's signal by 6 a layer until only "
        "its biases speak.",
        f"Mean square under PyTorch's default: {end['measured']:.3g} in layer {end['layer']}, "
        f"predicted {end['predicted']:.3g}, floor {floor:.3g}.",
        figure,
    )
