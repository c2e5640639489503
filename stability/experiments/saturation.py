"""Saturation: how many sigmoid and tanh units have no slope left, at first and after training."""

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
from stability.catalogue.activations import ACTIVATIONS, Activation
from stability.catalogue.datasets import Dataset, load
from stability.catalogue.initializations import INITIALIZATIONS, Initialization, Law, draw_unit
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.training import cross_entropy, preactivations, train
from stability.table import concat, mean_rows, rows, select
from stability.theory import mixtures
from stability.theory.floating_point import (
    FORMATS,
    Format,
    sigmoid_saturation,
    sigmoid_underflow,
    tanh_saturation,
)
from stability.theory.saturation import (
    sigmoid_slope,
    sigmoid_threshold,
    tanh_slope,
    tanh_threshold,
)

Array = np.ndarray[Any, np.dtype[np.float64]]


class Saturating(NamedTuple):
    """An activation that saturates: its range, largest slope, the slope below which a unit counts
    as saturated, the |x| where that begins, and phi' in closed form."""

    low: float
    high: float
    slope: float
    eps: float
    threshold: float
    derivative: Callable[[Array], Array]


SATURATING = {
    "sigmoid": Saturating(0.0, 1.0, 0.25, 0.01, sigmoid_threshold(0.01), sigmoid_slope),
    "tanh": Saturating(-1.0, 1.0, 1.0, 0.05, tanh_threshold(0.05), tanh_slope),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LEVELS = (0.02, 0.25, 0.5, 0.75, 0.98)
BINS = 20
PROBES = 64
"""Inputs on which every network is looked at: random ones, or the first test digits."""
CHECKPOINTS = (0.0, 0.03, 0.1, 0.3, 0.6, 1.0)
"""When a network in training is looked at, in shares of its steps."""
GRID = np.arange(-8, 8.125, 0.25)
NARROW = 8
"""The width below which nothing is claimed of shares: an expansion in 1 / width says nothing."""


@dataclass(frozen=True)
class Saturation(Experiment):
    """Where sigmoid and tanh lose their slope: on paper, in each format, and in a network.

    A unit is saturated where sigmoid' < 0.01 or tanh' < 0.05.  Networks have ``depth`` hidden
    layers and biases of 0 at first; all initializations of one law share their draws.
    """

    activation: list[str] = field(default_factory=lambda: ["sigmoid"])
    init: list[str] = field(default_factory=lambda: ["xavier"])
    sigma_w: list[float] = field(default_factory=lambda: [1.0])
    depth: int = 2
    width: int = 16
    replicates: int = 8
    trainings: int = 2
    steps: int = 5
    batch: int = 10
    learning_rate: float = 0.1
    dtype: str = "float32"

    title: ClassVar[str] = "Saturation"
    question: ClassVar[str] = "How many units of a sigmoid or tanh network saturate, and when?"

    def __post_init__(self) -> None:
        for name in ("activation", "init", "sigma_w"):
            check_each(f"experiment.{name}", getattr(self, name))
        for activation in self.activation:
            check_choice("experiment.activation", activation, SATURATING)
        for init in self.init:
            check_choice("experiment.init", init, INITIALIZATIONS)
        for sigma in self.sigma_w:
            check_range("experiment.sigma_w", sigma, at_least=1e-3, at_most=1e3)
        for name in ("depth", "width", "replicates", "trainings", "batch"):
            check_range(f"experiment.{name}", getattr(self, name), at_least=1)
        check_range("experiment.steps", self.steps, at_least=0)
        check_range("experiment.learning_rate", self.learning_rate, above=0)
        check_choice("experiment.dtype", self.dtype, DTYPES)

    def memory(self) -> int:
        """Weights of all draws, unscaled and scaled, and a layer's signals in float64, sorted."""
        nets = max(self.replicates, self.trainings)
        size = 8 if self.dtype == "float64" else 4
        weights = (self.depth + 1) * self.width * max(self.width, 64)
        signals = PROBES * self.width
        return 2**26 + nets * (3 * size * weights + (size * self.depth + 40) * signals)

    def run(self, context: Context) -> pd.DataFrame:
        """The functions themselves, the formats, then every network before and in training."""
        frames = [*self._curves(context), *self._formats(context)]
        data = load("digits", DTYPES[self.dtype], context.device)
        total = len(self.init) * len(self.activation) * len(self.sigma_w)
        done = 0
        for init in self.init:
            units = self._draws(context, INITIALIZATIONS[init].law, data)
            for activation, sigma in product(self.activation, self.sigma_w):
                frames += self._initial(context, init, activation, sigma, data, units)
                frames += self._training(context, init, activation, sigma, data, units)
                done += 1
                context.progress(done / total)
        return concat(frames)

    def _curves(self, context: Context) -> Iterator[pd.DataFrame]:
        """Value, and slope by autograd, beside the closed forms s (1 - s) and 1 - t^2."""
        for name in self.activation:
            x = torch.tensor(GRID, dtype=DTYPES[self.dtype], device=context.device)
            x.requires_grad_()
            value = ACTIVATIONS[name].forward(x)
            (slope,) = torch.autograd.grad(value.sum(), x)
            where: dict[str, Any] = {"activation": name, "x": GRID, "dtype": self.dtype}
            yield rows("value", _array(value), ACTIVATIONS[name].phi(GRID), **where)
            yield rows("slope", _array(slope), SATURATING[name].derivative(GRID), **where)
            largest = SATURATING[name].slope
            yield rows("largest_slope", _array(slope).max(), largest, activation=name)

    def _formats(self, context: Context) -> Iterator[pd.DataFrame]:
        """The first number of each format at which the function is exactly 1, or exactly 0."""
        for name, (entry, format) in product(self.activation, FORMATS.items()):
            if name == "sigmoid":
                compute = _compute(format)
                one, zero = sigmoid_saturation(format, compute), sigmoid_underflow(format, compute)
                found = first_number(lambda x: torch.sigmoid(x) == 1, format, context.device)
                yield rows("first_one", found, one, activation=name, format=entry)
                found = first_number(lambda x: torch.sigmoid(-x) == 0, format, context.device)
                yield rows("first_zero", found, zero, activation=name, format=entry)
            else:
                found = first_number(lambda x: torch.tanh(x) == 1, format, context.device)
                one = tanh_saturation(format)
                yield rows("first_one", found, one, activation=name, format=entry)

    def _draws(self, context: Context, law: Law, data: Dataset) -> dict[int, list[Tensor]]:
        """Unscaled weights (nets, fan_in, fan_out) of every layer, by the number of features."""
        nets = max(self.replicates, self.trainings)

        def draw(layer: int, fan: tuple[int, int]) -> Tensor:
            streams = (context.generator("weights", law, *fan, r, layer) for r in range(nets))
            return torch.stack([draw_unit(law, fan, s) for s in streams]).to(DTYPES[self.dtype])

        sizes = (self.width, data.inputs.shape[1])
        fans = self._fans(self.width, data.classes)
        inner = [draw(layer, fan) for layer, fan in enumerate(fans[1:], start=2)]
        return {size: [draw(1, (size, self.width)), *inner] for size in dict.fromkeys(sizes)}

    def _fans(self, features: int, classes: int) -> list[tuple[int, int]]:
        inner = [(self.width, self.width)] * (self.depth - 1)
        return [(features, self.width), *inner, (self.width, classes)]

    def _scaled(self, units: list[Tensor], init: str, sigma: float) -> list[Tensor]:
        std = INITIALIZATIONS[init].std
        return [sigma * std(unit.shape[1], unit.shape[2]) * unit for unit in units]

    def _initial(
        self,
        context: Context,
        init: str,
        name: str,
        sigma: float,
        data: Dataset,
        units: dict[int, list[Tensor]],
    ) -> Iterator[pd.DataFrame]:
        """Networks as drawn, on random inputs of mean square 1 and on digits."""
        activation = ACTIVATIONS[name]
        generator = context.generator("inputs", self.width)
        sphere = torch.randn((PROBES, self.width), generator=generator, device=context.device)
        sphere = sphere.to(data.inputs.dtype)
        sphere = sphere / sphere.square().mean(dim=1, keepdim=True).sqrt()
        probes = {"gaussian": sphere, "digits": data.inputs[data.test][:PROBES]}
        for source, inputs in probes.items():
            weights = self._scaled(units[inputs.shape[1]], init, sigma)
            weights = [weight[: self.replicates] for weight in weights]
            biases = [torch.zeros_like(weight[:, 0]) for weight in weights]
            z = preactivations(weights, biases, activation.forward, inputs)
            laws = propagate(
                INITIALIZATIONS[init], activation, sigma,
                self._fans(inputs.shape[1], data.classes), _array(inputs),
            )  # fmt: skip
            found = [observe(layer, name) for layer in z[:-1]]
            rounding = self.width * torch.finfo(inputs.dtype).eps
            expected = [predict(law, name, self.width, rounding) for law in laws[:-1]]
            where = {
                "activation": name, "init": init, "sigma_w": sigma, "data": source, "step": 0,
            }  # fmt: skip
            yield from _layer_rows(found, expected, where)
            if source == "gaussian":
                yield mean_rows(
                    "activation_density",
                    np.stack([density(layer, name) for layer in z[:-1]], axis=1),
                    [mixtures.activation_density(law, name, _edges(name)) for law in laws[:-1]],
                    **where, layer=np.arange(1, self.depth + 1)[:, None], bin=_centres(name),
                )  # fmt: skip
            else:
                losses = cross_entropy(z[-1], data.labels[data.test][:PROBES])
                mean, bias = mixtures.expected_loss(laws[-1], data.classes)
                bias += 4 * mean * torch.finfo(losses.dtype).eps
                yield mean_rows("loss", _array(losses), mean, **where, bias=bias)

    def _training(
        self,
        context: Context,
        init: str,
        name: str,
        sigma: float,
        data: Dataset,
        units: dict[int, list[Tensor]],
    ) -> Iterator[pd.DataFrame]:
        """The first of the same networks, trained by plain SGD, looked at on test digits."""
        weights = self._scaled(units[data.inputs.shape[1]], init, sigma)
        weights = [weight[: self.trainings] for weight in weights]
        biases = [torch.zeros_like(weight[:, 0]) for weight in weights]
        generator = context.generator("batches", self.batch)
        order = torch.randint(
            len(data.train), (self.steps, self.batch), generator=generator, device=context.device
        )
        forward, probes = ACTIVATIONS[name].forward, data.test[:PROBES]
        inputs, labels = data.inputs[probes], data.labels[probes]
        checkpoints = {round(self.steps * share) for share in CHECKPOINTS}
        seen: dict[int, tuple[list[Observed], Array]] = {}

        def look(step: int, weights: list[Tensor], biases: list[Tensor]) -> None:
            if step in checkpoints:
                z = preactivations(weights, biases, forward, inputs)
                layers = [observe(layer, name) for layer in z[:-1]]
                seen[step] = layers, _array(cross_entropy(z[-1], labels))

        train(
            weights, biases, forward, data.inputs, data.labels, data.train[order],
            self.learning_rate, look,
        )  # fmt: skip
        cell: dict[str, Any] = {"activation": name, "init": init, "sigma_w": sigma}
        cell["data"] = "digits"
        for step, (layers, losses) in seen.items():
            if step > 0:
                where = {**cell, "step": step}
                yield mean_rows("loss", losses, **where)
                yield from _layer_rows(layers, None, where)
        if name == "sigmoid" and self.depth > 1 and self.steps > 0:
            first, last = seen[0][0], seen[self.steps][0]
            moved = np.stack([b.mean - a.mean for a, b in zip(first, last, strict=True)])
            sunk = (moved[-1] < 0) & (moved[-1] < moved[:-1].min(axis=0))
            budget = self.steps * self.learning_rate
            known = init == "uniform_third" and sigma == 1 and self.learning_rate <= 0.1
            predicted = 1.0 if known and budget >= 10 else math.nan
            sinks = np.where(np.isnan(moved).any(axis=0), np.nan, sunk)
            yield mean_rows("top_layer_sinks", sinks, predicted, **cell, step=self.steps)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The functions, the formats, the networks as drawn, and Glorot & Bengio's figure 2."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The least and the most saturated layers, and what became of the last one's mean."""
        return _answer(table)

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The functions, the distributions, the shares by layer, and the course of training."""
        return _figures(table)


def _array(x: Tensor) -> Array:
    values: Array = x.detach().to("cpu", torch.float64).numpy()
    return values


def _compute(format: Format) -> Format:
    """What torch evaluates the format's functions in."""
    return format if format.precision >= 24 else FORMATS["float32"]


_BITS = {"float64": torch.int64, "float32": torch.int32, "float16": torch.int16,
         "bfloat16": torch.int16}  # fmt: skip


def first_number(reached: Callable[[Tensor], Tensor], format: Format, device: str) -> float:
    """The smallest positive number of ``format`` where ``reached`` holds; inf if it never does.

    Bisection over the bit patterns, which are in the order of the numbers; ``reached`` must stay
    true once it is.
    """
    dtype = getattr(torch, format.name)

    def number(pattern: int) -> Tensor:
        bits = torch.full((64,), pattern, dtype=_BITS[format.name], device=device)
        return bits.view(dtype)

    low, high = 0, int(torch.tensor([format.max], dtype=dtype).view(_BITS[format.name]).item())
    if not bool(reached(number(high))[0]):
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if bool(reached(number(middle))[0]):
            high = middle
        else:
            low = middle
    return float(number(high)[0].item())


class Observed(NamedTuple):
    """One layer of C networks: (C,), and the quantiles (C, LEVELS); nan if it diverged."""

    share: Array
    mean: Array
    std: Array
    quantiles: Array


def observe(z: Tensor, name: str) -> Observed:
    """What the preactivations (C, B, width) make of the units of each network."""
    flat = z.reshape(len(z), -1)
    h = _array(ACTIVATIONS[name].forward(flat))
    saturated = (ACTIVATIONS[name].derivative(flat) < SATURATING[name].eps).to(torch.float64)
    share = torch.where(flat.isnan().any(dim=1), torch.nan, saturated.mean(dim=1))
    return Observed(_array(share), h.mean(axis=1), h.std(axis=1), np.quantile(h, LEVELS, axis=1).T)


def density(z: Tensor, name: str) -> Array:
    """The histogram of each network's activations, (C, BINS), of integral 1; nan if it diverged."""
    limits = SATURATING[name]
    h = _array(ACTIVATIONS[name].forward(z)).reshape(len(z), -1)
    place = (np.nan_to_num(h) - limits.low) / (limits.high - limits.low) * BINS
    bins = np.clip(place.astype(np.int64), 0, BINS - 1) + BINS * np.arange(len(h))[:, None]
    counts = np.bincount(bins.ravel(), minlength=BINS * len(h)).reshape(len(h), BINS)
    heights = counts / h.shape[1] * BINS / (limits.high - limits.low)
    return np.where(np.isnan(h.mean(axis=1, keepdims=True)), np.nan, heights)


def _edges(name: str) -> Array:
    return np.linspace(SATURATING[name].low, SATURATING[name].high, BINS + 1)


def _centres(name: str) -> Array:
    low, high = SATURATING[name].low, SATURATING[name].high
    return low + (high - low) * (np.arange(BINS) + 0.5) / BINS


class Expected(NamedTuple):
    """What theory says of a layer: as ``Observed``, and the bounds on its neglected terms."""

    share: float
    mean: float
    std: float
    quantiles: Array
    share_bias: float
    quantile_bias: Array


def _layer_rows(
    found: list[Observed], expected: list[Expected] | None, where: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Rows of all layers, means over networks; without predictions, ``bias`` is absent."""
    layer = np.arange(1, len(found) + 1)
    unknown = [math.nan] * len(found)
    extra: dict[str, Any] = {}
    for quantity, name in (
        ("activation_mean", "mean"), ("activation_std", "std"), ("saturated_share", "share"),
    ):  # fmt: skip
        samples = np.stack([getattr(one, name) for one in found], axis=1)
        values = unknown if expected is None else [getattr(one, name) for one in expected]
        if expected is not None and name == "share":
            extra = {"bias": [one.share_bias for one in expected]}
        yield mean_rows(quantity, samples, values, **where, layer=layer, **extra)
    samples = np.stack([one.quantiles for one in found], axis=1)
    if expected is None:
        yield mean_rows("activation_quantile", samples, **where, layer=layer[:, None], level=LEVELS)
    else:
        yield mean_rows(
            "activation_quantile", samples, [one.quantiles for one in expected], **where,
            layer=layer[:, None], level=LEVELS, bias=[one.quantile_bias for one in expected],
        )  # fmt: skip


def propagate(
    scheme: Initialization,
    activation: Activation,
    sigma: float,
    fans: list[tuple[int, int]],
    inputs: Array,
) -> list[mixtures.Field]:
    """The law of every layer; ``inputs``: (m, d)."""
    stds = [sigma * scheme.std(*fan) for fan in fans]
    return mixtures.fields(inputs, fans, stds, activation, scheme.law)


def predict(law: mixtures.Field, name: str, width: int, rounding: float) -> Expected:
    """A layer's share of saturated units and the moments and quantiles of its activations."""
    activation = ACTIVATIONS[name]
    share, bias = mixtures.saturated_share(law, SATURATING[name].threshold)
    moments = mixtures.activation_moments(law, activation)
    levels = mixtures.activation_quantiles(law, activation, LEVELS, width, rounding)
    return Expected(share, *moments, levels.values, bias if width >= NARROW else 1.0, levels.biases)


def _claims(table: pd.DataFrame) -> list[Claim]:
    return [*_exact_claims(table), *_network_claims(table)]


def _exact_claims(table: pd.DataFrame) -> list[Claim]:
    """Of the functions themselves: error bounds, no sampling."""
    slopes = select(table, "slope")
    roundoff = slopes["dtype"].map(lambda name: FORMATS[name].unit_roundoff).to_numpy(float)
    found = [
        claims.bounded(
            "closed_slope",
            "Autograd's slopes are s (1 - s) for sigmoid and 1 - t^2 for tanh, to 8 roundings of "
            "the value.",
            "derivatives in closed form",
            slopes,
            allowed=8 * roundoff,
        ),
        claims.bounded(
            "largest_slope",
            "The largest slope is that at 0: exactly 1/4 for sigmoid, 1 for tanh.",
            "s (1 - s) at s = 1/2; 1 - t^2 at t = 0",
            select(table, "largest_slope"),
            allowed=0.0,
        ),
    ]
    for quantity, value, source in (
        ("first_one", "1, from (p + 1) ln 2 or p ln 2 for sigmoid and (p + 2) ln(2) / 2 for tanh",
         "rounding to nearest, IEEE 754-2019, sec. 4.3.1: half of the spacing u below 1"),
        ("first_zero", "0, from where e^x overflows or 0 is nearest",
         "IEEE 754-2019, sec. 7.4 and 4.3.1"),
    ):  # fmt: skip
        part = select(table, quantity)
        if not part.empty:
            found.append(
                claims.bounded(
                    quantity,
                    f"The first number of each format where the function is exactly {value}: to "
                    "the spacing of the format there, and what an error of 4 roundings in e^x, or "
                    "of 1/8 unit in the last place of tanh, moves it by.",
                    source,
                    part,
                    allowed=[_margin(*row) for row in zip(part["activation"], part["format"],
                                                          part["predicted"], strict=True)],
                )
            )  # fmt: skip
    return found


def _margin(activation: str, name: str, x: float) -> float:
    """How far from ``x`` a function of finite accuracy may first be 1 or 0, in units of x."""
    format = FORMATS[name]
    spacing = 2 * format.unit_roundoff * 2.0 ** math.floor(math.log2(x))
    if activation == "tanh":
        # 2 e^-2x = (1/2 -+ 1/8) u: an error of 1/8 u shifts x by ln(1 -+ 1/4) / 2.
        return spacing - math.log1p(-0.25) / 2
    compute = _compute(format)
    # An error in e^-x relative to e^-x shifts x by itself; rounding 1 + e^-x is one relative to 1.
    coarse = format.precision + 1 < compute.precision
    amplified = 2.0 ** (format.precision + 1) * compute.unit_roundoff if coarse else 0.0
    return spacing + 4 * compute.unit_roundoff + 3 * amplified


def _quarter(name: str) -> float:
    """A quarter of the activation's range: at large q the median of a network jumps across it."""
    return (SATURATING[name].high - SATURATING[name].low) / 4


def _network_claims(table: pd.DataFrame) -> list[Claim]:
    """Of random networks, in standard errors over networks; and of training."""
    theory = "Poole et al. 2016, eq. 3 (variance); Gaussian tail, erfc(t / sqrt(2 q))"
    allowance = " Up to twice the leading term in 1 / width."
    start = table[(table["step"] == 0).fillna(False).astype(bool)]
    found = []
    share = select(start, "saturated_share")
    share = share[share["predicted"].between(0.01, 0.99) & (share["bias"] < 1)]
    if not share.empty:
        found.append(
            claims.statistical(
                "saturated_share",
                "Before training, the share of saturated units in every layer is that of Gaussian "
                "preactivations of the mean-field variance, where that is 1 to 99 %." + allowance,
                theory,
                share,
                resolution=0.1,
                bias=share["bias"].to_numpy(float),
            )
        )
    quantiles = select(start, "activation_quantile")
    quantiles = quantiles[quantiles["bias"] < 1]
    if not quantiles.empty:
        found.append(
            claims.statistical(
                "activation_quantile",
                "Before training, the 2nd, 25th, 50th, 75th and 98th percentiles of every layer's "
                "activations are those of phi(N(0, q)), unless the layer is so narrow that no unit "
                "need lie beyond them." + allowance,
                "Poole et al. 2016, eq. 3; quantiles of a monotone function",
                quantiles,
                resolution=quantiles["activation"].map(_quarter).to_numpy(float),
                bias=quantiles["bias"].to_numpy(float),
            )
        )
    loss = select(start, "loss")
    found.append(
        claims.statistical(
            "initial_loss",
            "The loss before training is E ln sum exp(z) over independent logits z ~ N(0, q); "
            "ln 10 only if the last layer is small." + allowance,
            "definition of cross-entropy; Poole et al. 2016, eq. 3 (variance)",
            loss,
            resolution=0.1 + 0.25 * (loss["predicted"] - math.log(10)),
            bias=loss["bias"].to_numpy(float),
        )
    )
    sinks = select(table, "top_layer_sinks")
    sinks = sinks[sinks["predicted"].notna()]
    if not sinks.empty:
        found.append(
            claims.bounded(
                "top_layer_sinks",
                "In training, in every sigmoid network drawn from U(+-1 / sqrt(fan_in)), the mean "
                "activation of the last hidden layer falls, and by more than any other layer's.",
                "Glorot & Bengio 2010, fig. 2",
                sinks,
                allowed=0.0,
            )
        )
    return found


def _start(table: pd.DataFrame, quantity: str, **factors: Any) -> pd.DataFrame:
    return select(table, quantity, step=0, **factors)


def _answer(table: pd.DataFrame) -> str:
    shares = _start(table, "saturated_share", data="gaussian")
    low, high = (
        shares.loc[at] for at in (shares["measured"].idxmin(), shares["measured"].idxmax())
    )

    def words(row: pd.Series) -> str:
        return (
            f"{row['measured']:.1%} in layer {row['layer']} of {row['activation']} networks with "
            f"{_label(row['init'], row['sigma_w'])} (predicted {row['predicted']:.1%})"
        )

    answer = f"Before training from {words(low)} to {words(high)}"
    first, last = _course(table, "activation_mean", "sigmoid")
    if first is not None and last is not None:
        answer += (
            f"; {last['step']} steps of training on digits take the mean activation of the last "
            f"sigmoid layer with {_label(last['init'], last['sigma_w'])} from "
            f"{first['measured']:.3f} to {last['measured']:.3f}"
        )
    return answer + "."


def _label(init: str, sigma: float) -> str:
    name = init.replace("_", " ")
    return name if sigma == 1 else f"{sigma:g} x {name}"


def _cell(table: pd.DataFrame, activation: str) -> dict[str, Any] | None:
    """The initialization that is drawn in training: Glorot & Bengio's own where it was run."""
    part = _start(table, "activation_mean", activation=activation, data="digits")
    if part.empty:
        return None
    glorot = part[(part["init"] == "uniform_third") & (part["sigma_w"] == 1)]
    row = (part if glorot.empty else glorot).iloc[0]
    return {"activation": activation, "init": row["init"], "sigma_w": row["sigma_w"],
            "data": "digits"}  # fmt: skip


def _course(
    table: pd.DataFrame, quantity: str, activation: str
) -> tuple[pd.Series | None, pd.Series | None]:
    """The last layer's first and last row in training; None where there was none."""
    cell = _cell(table, activation)
    if cell is None:
        return None, None
    rows = select(table, quantity, **cell)
    rows = rows[rows["layer"] == rows["layer"].max()].sort_values("step")
    return (rows.iloc[0], rows.iloc[-1]) if len(rows) > 1 else (None, None)


def _figures(table: pd.DataFrame) -> list[Figure]:
    names = list(dict.fromkeys(select(table, "largest_slope")["activation"]))
    drawn = [_curve_figure(table, names), _share_figure(table, names)]
    drawn.append(_density_figure(table, names))
    drawn.append(_training_figure(table, names))
    return drawn


def _curve_figure(table: pd.DataFrame, names: list[str]) -> Figure:
    """The functions and their slopes: marks by autograd, lines in closed form."""
    import seaborn as sns

    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    figure, axes = canvas(columns=len(names))
    for ax, name in zip(axes[0], names, strict=True):
        for at, (quantity, label) in enumerate((("value", name), ("slope", f"{name}'"))):
            part = select(table, quantity, activation=name).astype({"x": float})
            look = {"ax": ax, "color": PALETTE[at], "legend": False}
            sns.lineplot(part, x="x", y="predicted", errorbar=None, label=label, **look)
            sns.scatterplot(
                part[::2], x="x", y="measured", marker=MARKERS[at], s=24, zorder=3, **look
            )
        for side in (-1, 1):
            ax.axvline(side * SATURATING[name].threshold, color=FAINT, lw=1.4, ls="--")
        ax.set_title(name)
        ax.set_xlabel("preactivation x")
        ax.set_ylabel("value and slope" if ax is axes[0, 0] else "")
        ax.legend(loc="upper left")
    slopes = select(table, "slope").astype({"x": float})
    ends = slopes[slopes["x"].isin([0.0, 8.0])]
    numbers = "; ".join(
        f"{row.activation}'({row.x:g}) = {row.measured:.3g}" for row in ends.itertuples()
    )
    return Figure(
        "functions",
        "The function and its slope: marks from torch and its autograd, lines in closed form. "
        "Beyond the dashed lines the slope is below "
        + " and ".join(f"{SATURATING[name].eps:g} ({name})" for name in names)
        + ": there a unit counts as saturated.",
        f"Curves over x from -8 to 8. {numbers}.",
        figure,
    )


def _share_figure(table: pd.DataFrame, names: list[str]) -> Figure:
    """The share of saturated units by layer before training, on random inputs."""
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    from stability.plotting import MARKERS, PALETTE, band, canvas

    data = _start(table, "saturated_share", data="gaussian")
    data = data.astype({"layer": float, "bias": float})
    cells = list(dict.fromkeys(zip(data["init"], data["sigma_w"], strict=True)))
    figure, axes = canvas(columns=len(names), sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        for at, (init, sigma) in enumerate(cells):
            part = select(data, "saturated_share", activation=name, init=init, sigma_w=sigma)
            look = {"ax": ax, "color": PALETTE[at % len(PALETTE)], "legend": False}
            sns.lineplot(part, x="layer", y="predicted", errorbar=None, **look)
            sns.scatterplot(
                part, x="layer", y="measured", marker=MARKERS[at % len(MARKERS)], s=40, zorder=3,
                label=_label(init, sigma), **look,
            )  # fmt: skip
            low, high = (part["predicted"] + side * part["bias"] for side in (-1, 1))
            band(ax, part["layer"], low.clip(0, 1), high.clip(0, 1), look["color"])
        limits = SATURATING[name]
        ax.set_title(f"{name}: slope below {limits.eps:g}")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("hidden layer")
        ax.set_ylabel("share of saturated units")
        ax.set_ylim(-0.03, 1.03)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(cells), 3))
    parts = [
        f"{row.activation} with {_label(row.init, row.sigma_w)}, layer {row.layer:g}: "
        f"{row.measured:.3f}, predicted {row.predicted:.3f}"
        for row in data[data["layer"] == data["layer"].max()].itertuples()
    ]
    return Figure(
        "shares",
        "Before training, on random inputs of mean square 1: marks are means over networks, lines "
        "erfc(t / sqrt(2 q)) with q of infinite width, bands what finite width may add.",
        f"Share of saturated units by layer. {'; '.join(parts)}.",
        figure,
    )


def _density_figure(table: pd.DataFrame, names: list[str]) -> Figure:
    """The distribution of activations in the first and the last layer, before training."""
    import seaborn as sns

    from stability.plotting import MARKERS, PALETTE, canvas

    data = _start(table, "activation_density").astype({"bin": float})
    init = data["init"].iloc[0]
    data = data[data["init"] == init]
    sigmas = list(dict.fromkeys(data["sigma_w"]))
    layers = sorted({1, int(data["layer"].max())})
    figure, axes = canvas(columns=len(sigmas), rows=len(names), height=2.5)
    for (row, name), (column, sigma) in product(enumerate(names), enumerate(sigmas)):
        ax = axes[row, column]
        for at, layer in enumerate(layers):
            part = select(data, "activation_density", activation=name, sigma_w=sigma, layer=layer)
            look = {"ax": ax, "color": PALETTE[at], "legend": False}
            sns.lineplot(part, x="bin", y="predicted", errorbar=None, **look)
            sns.scatterplot(
                part, x="bin", y="measured", marker=MARKERS[at], s=22, zorder=3,
                label=f"layer {layer}", **look,
            )  # fmt: skip
        ax.set_title(f"{name}, {_label(init, sigma)}")
        ax.set_xlabel("activation" if row == len(names) - 1 else "")
        ax.set_ylabel("density" if column == 0 else "")
        ax.set_ylim(bottom=0)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(layers)
    )
    heights = [
        f"{name} with {_label(init, sigma)}, layer {layers[-1]}: "
        f"{_ends(data, name, sigma, layers[-1]):.1%}"
        for name, sigma in product(names, sigmas)
    ]
    return Figure(
        "densities",
        "How activations are distributed before training, on random inputs: marks are bins of "
        f"{BINS} over the range, lines the law of phi(N(0, q)). Large weights drive them to the "
        "ends, where the slope is gone.",
        f"Densities of activations; in the two outermost bins lie: {'; '.join(heights)}.",
        figure,
    )


def _ends(data: pd.DataFrame, name: str, sigma: float, layer: int) -> float:
    """The share of activations in the two outermost bins."""
    part = select(data, "activation_density", activation=name, sigma_w=sigma, layer=layer)
    ordered = part.sort_values("bin")["measured"].to_numpy(float)
    width = (SATURATING[name].high - SATURATING[name].low) / BINS
    return float((ordered[0] + ordered[-1]) * width)


def _training_figure(table: pd.DataFrame, names: list[str]) -> Figure:
    """Glorot & Bengio's figures 2 and 3: a mean in sigmoid, a percentile in tanh networks."""
    import seaborn as sns

    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(columns=len(names))
    said = []
    for ax, name in zip(axes[0], names, strict=True):
        cell = _cell(table, name) or {}
        mean = name == "sigmoid"
        part = (
            select(table, "activation_mean", **cell)
            if mean
            else select(table, "activation_quantile", level=LEVELS[-1], **cell)
        ).astype({"layer": int, "step": float})
        for at, (layer, rows_) in enumerate(part.groupby("layer")):
            look = {"ax": ax, "color": PALETTE[at % len(PALETTE)], "legend": False}
            ordered = rows_.sort_values("step")
            sns.lineplot(ordered, x="step", y="measured", errorbar=None, lw=0.8, ls=":", **look)
            sns.scatterplot(
                ordered, x="step", y="measured", marker=MARKERS[at % len(MARKERS)], s=36,
                label=f"layer {layer}", zorder=3, **look,
            )  # fmt: skip
            ends = ordered["measured"].iloc[[0, -1]]
            said.append(f"{name} layer {layer} from {ends.iloc[0]:.3f} to {ends.iloc[1]:.3f}")
        ax.set_title(f"{name}, {_label(cell['init'], cell['sigma_w'])}")
        if mean:
            ax.set_ylim(bottom=0)
        ax.set_xlabel("step of SGD")
        ax.set_ylabel("mean activation" if mean else "98th percentile of activations")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6))
    last = int(select(table, "loss")["step"].max())
    return Figure(
        "training",
        "Training on digits (means over networks, dotted to guide the eye; theory is silent): the "
        "last sigmoid layer sinks towards 0 while the output's bias learns first, and tanh layers "
        "move towards saturation (Glorot & Bengio 2010, figures 2 and 3).",
        f"Course of each layer over {last} steps: {'; '.join(said)}.",
        figure,
    )
