"""The atlas of activations: values, two derivatives, kinks, ranges, and accuracy in the tails."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from stability import claims
from stability.catalogue.activations import ACTIVATIONS
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.table import concat, rows, select
from stability.theory import atlas
from stability.theory.floating_point import (
    FORMATS,
    Format,
    exp_overflow,
    sigmoid_saturation,
    tanh_saturation,
)

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
ROUNDINGS = 16
"""What a formula of at most 8 operations may lose, each within 2 roundings."""
HALVINGS = 80
"""Of a bisection: more than the bits of any format."""
ZOOMS = 8
"""By 100 each: from a range of 80 to 1e-12, where an extremum is flat to the last bit."""
ORDERS = ("value", "derivative", "second_derivative")

Formula = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """A function of one number by an obvious formula that fails in a tail, and by a stable one.

    ``limit``: the input of a format from which the obvious one is not finite any more.
    ``floor``: the size of the numbers inside, whose rounding the result can't escape.
    """

    naive: Formula
    stable: Formula
    exact: Callable[[float], float]
    limit: Callable[[Format], float] = exp_overflow
    floor: float = 0.0


def _three(x: Tensor) -> Tensor:
    """The logits (x, 0, -x), in a last dimension of 3."""
    return torch.stack([x, torch.zeros_like(x), -x], dim=-1)


def _naive_softmax(x: Tensor) -> Tensor:
    """The first softmax of (x, 0, -x)."""
    powers = torch.exp(_three(x))
    return powers[..., 0] / powers.sum(dim=-1)


def _naive_tanh(x: Tensor) -> Tensor:
    power = torch.exp(2 * x)
    return (power - 1) / (power + 1)


def _to_zero(format: Format) -> float:
    """Where e^(-2 x) becomes half the smallest subnormal number, and rounds to 0."""
    return (format.precision - format.emin) * math.log(2) / 2


PAIRS = {
    "sigmoid": Pair(
        lambda x: torch.exp(x) / (1 + torch.exp(x)),
        torch.sigmoid,
        lambda x: atlas.exact("sigmoid", x),
    ),
    "tanh": Pair(
        _naive_tanh,
        torch.tanh,
        lambda x: atlas.exact("tanh", x),
        lambda format: exp_overflow(format) / 2,
    ),
    "softplus": Pair(
        lambda x: torch.log(1 + torch.exp(x)),
        ACTIVATIONS["softplus"].forward,
        lambda x: atlas.exact("softplus", x),
    ),
    "log_sigmoid": Pair(
        lambda x: torch.log(1 / (1 + torch.exp(-x))),
        functional.logsigmoid,
        atlas.log_sigmoid,
        lambda format: -exp_overflow(format),
    ),
    "log_sum_exp": Pair(
        lambda x: torch.log(torch.exp(_three(x)).sum(dim=-1)),
        lambda x: torch.logsumexp(_three(x), dim=-1),
        atlas.log_sum_exp,
        floor=1.0,
    ),
    "softmax": Pair(
        _naive_softmax, lambda x: torch.softmax(_three(x), dim=-1)[..., 0], atlas.softmax
    ),
    "log_softmax": Pair(
        lambda x: torch.log(_naive_softmax(x)),
        lambda x: torch.log_softmax(_three(x), dim=-1)[..., 0],
        atlas.log_softmax,
        lambda format: -_to_zero(format),
        floor=1.0,
    ),
}


@dataclass(frozen=True)
class Activations(Experiment):
    """Analytic derivatives equal autograd's and mpmath's; stable formulas keep their digits."""

    title = "The atlas of activations"
    question = "What are the activations, their derivatives and their limits, and what is lost?"

    activation: list[str] = field(default_factory=lambda: ["tanh"])
    dtype: list[str] = field(default_factory=lambda: ["float64"])
    points: int = 8
    reach: float = 6.0

    def __post_init__(self) -> None:
        check_each("experiment.activation", self.activation)
        for name in self.activation:
            check_choice("experiment.activation", name, list(ACTIVATIONS))
        check_each("experiment.dtype", self.dtype)
        for name in self.dtype:
            check_choice("experiment.dtype", name, list(DTYPES))
        check_range("experiment.points", self.points, at_least=2, at_most=10_000)
        check_range("experiment.reach", self.reach, above=0, at_most=30)

    def memory(self) -> int:
        """Of the table's rows, and of torch's own."""
        cells = len(self.dtype) * (len(self.activation) * 5 + len(PAIRS) * 2 + 1)
        return 2**20 + cells * self.points * 400

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: activation, dtype, x, side, function, formula."""
        share = (np.arange(self.points) + context.numpy("points").random(self.points)) / self.points
        frames = []
        for place, dtype in enumerate(self.dtype):
            for name in self.activation:
                frames += _curves(name, dtype, (2 * share - 1) * self.reach, context.device)
            frames += _tails(dtype, 2 * share - 1, context.device)
            context.progress((place + 1) / (len(self.dtype) + 1))
        for name in self.activation:
            frames += _constants(name, context.device)
        context.progress(1.0)
        return concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Accuracy of values, derivatives, kinks, constants and stable formulas."""
        found = [claim for order, name in enumerate(ORDERS) for claim in _curve(table, name, order)]
        found += _constant_claims(table)
        found += _tail_claims(table)
        return found

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The worst derivative in float64 or the first dtype, and what the naive formulas lose."""
        names = table["activation"].dropna().unique()
        dtype = table["dtype"].dropna().iloc[0]
        slopes = select(table, "autograd_derivative", dtype=dtype)
        worst = (slopes["measured"] - slopes["predicted"]).abs().max()
        naive = select(table, "tail_value", formula="naive", dtype=dtype)
        lost = int((_relative_error(naive) > 0.5).sum())
        return (
            f"On {len(names)} activations, autograd's derivative is within {worst:.1g} of the "
            f"exact one in {dtype}. Out to 1.5 times where exp overflows, the obvious formulas of "
            "sigmoid, tanh, softplus, softmax and their logarithms have no correct digit left in "
            f"{lost} of {len(naive)} values; the stable ones lose a few roundings."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Every activation with its two derivatives; errors in the tails by formula."""
        return [_atlas_figure(table), _tails_figure(table)]


def _curve(table: pd.DataFrame, order_name: str, order: int) -> list[Claim]:
    """That the catalogue's formula and autograd's give a value or derivative, to rounding."""
    found = []
    for kind, words in (("", "The catalogue's formula"), ("autograd_", "Autograd")):
        part = select(table, f"{kind}{order_name}")
        if part.empty:
            continue
        cells = zip(part["activation"], part["dtype"], part["x"], part["predicted"], strict=True)
        found.append(
            claims.bounded(
                f"{kind}{order_name}",
                f"{words} gives the {order_name.replace('_', ' ')} of every activation within "
                f"{ROUNDINGS} roundings of the numbers that it handles.",
                "mpmath to 50 digits",
                part,
                allowed=[_rounding(*cell, order=order) for cell in cells],
            )
        )
    return found


def _rounding(name: str, dtype: str, x: float, exact: float, order: int) -> float:
    """ROUNDINGS of the larger of the result and of the numbers inside.

    Those grow like |x| and the slope, and by the factor 2 of tanh with each derivative.
    """
    inside = max(1.0, abs(x)) * max(1.0, atlas.lipschitz(name)) * 2.0**order
    return ROUNDINGS * FORMATS[dtype].unit_roundoff * max(abs(exact), inside)


def _curves(name: str, dtype: str, x: np.ndarray, device: str) -> list[pd.DataFrame]:
    """Value and derivatives at the points, by the catalogue's formulas and by autograd."""
    entry = ACTIVATIONS[name]
    at = torch.tensor(x, dtype=DTYPES[dtype], device=device).requires_grad_()
    places = _numbers(at)
    value = entry.forward(at)
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    bend = torch.zeros_like(at)
    if slope.requires_grad:
        (found,) = torch.autograd.grad(slope.sum(), at, allow_unused=True)
        bend = bend if found is None else found
    still = at.detach()
    measured = {
        "value": value,
        "derivative": entry.derivative(still),
        "second_derivative": entry.second_derivative(still),
        "autograd_derivative": slope,
        "autograd_second_derivative": bend,
    }
    exact = {
        order: np.array([atlas.exact(name, p, place) for p in places])
        for place, order in enumerate(ORDERS)
    }
    return [
        rows(
            quantity,
            _numbers(numbers),
            exact[quantity.removeprefix("autograd_")],
            activation=name,
            dtype=dtype,
            x=places,
        )
        for quantity, numbers in measured.items()
    ]


def _constants(name: str, device: str) -> list[pd.DataFrame]:
    """Kinks, range and steepest slopes in float64; thresholds of saturation in every format."""
    entry = ACTIVATIONS[name]
    frames = []
    for kink in atlas.kinks(name):
        at = torch.tensor([kink.x], dtype=torch.float64, device=device).requires_grad_()
        (chosen,) = torch.autograd.grad(entry.forward(at).sum(), at)
        far = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64, device=device)
        sides = _numbers(entry.derivative(torch.nextafter(at.detach().expand(2), far)))
        limits = np.array([kink.left, kink.right])
        frames.append(
            rows("slope_at_kink", sides, limits,
                 activation=name, x=kink.x, side=["left", "right"])
        )  # fmt: skip
        subgradient = _numbers(chosen)[0]
        taken = int(np.argmin(np.abs(limits - subgradient)))
        side = ("left", "right")[taken]
        frames.append(
            rows("subgradient", subgradient, limits[taken], activation=name, x=kink.x, side=side)
        )
    slopes = _extremes(entry.derivative, device)
    found = {
        "value": (_extremes(entry.forward, device), atlas.value_range(name)),
        "slope": (slopes, atlas.slope_range(name)),
    }
    for quantity, (measured, predicted) in found.items():
        frames.append(rows(f"least_{quantity}", measured[0], predicted[0], activation=name))
        frames.append(rows(f"largest_{quantity}", measured[1], predicted[1], activation=name))
    steepest = max(abs(slope) for slope in slopes)
    frames.append(rows("lipschitz", steepest, atlas.lipschitz(name), activation=name))
    return frames


def _extremes(function: Formula, device: str) -> tuple[float, float]:
    """Infimum and supremum: a scan of [-40, 40], zoomed into, and the limits at infinity."""
    ends = [-torch.inf, -1e300, 1e300, torch.inf]
    limits = function(torch.tensor(ends, dtype=torch.float64, device=device))
    limits = limits[~torch.isnan(limits)]
    found = []
    for sign in (1.0, -1.0):
        low, high = -40.0, 40.0
        for _ in range(ZOOMS):
            x = torch.linspace(low, high, 4001, dtype=torch.float64, device=device)
            values = sign * function(x)
            best = float(x[int(torch.argmin(values))])
            low, high = best - (high - low) / 200, best + (high - low) / 200
        found.append(sign * float(torch.cat([values, sign * limits]).min()))
    return found[0], found[1]


def _last(holds: Callable[[Tensor], Tensor], dtype: str, far: float, device: str) -> float:
    """The number of ``dtype`` between 0 and ``far`` where ``holds`` ends, by bisection."""
    low, high = 0.0, far
    for _ in range(HALVINGS):
        middle = torch.tensor([(low + high) / 2], dtype=DTYPES[dtype], device=device)
        if bool(holds(middle)[0]):
            low = float(middle)
        else:
            high = float(middle)
    return low


def _tails(dtype: str, share: np.ndarray, device: str) -> list[pd.DataFrame]:
    """Both formulas out to 1.5 times where exp overflows; where the obvious one gives out."""
    own = FORMATS[dtype]
    at = torch.tensor(1.5 * exp_overflow(own) * share, dtype=DTYPES[dtype], device=device)
    places = _numbers(at)
    frames = []
    for function, pair in PAIRS.items():
        exact = np.array([pair.exact(p) for p in places])
        for formula, compute in (("naive", pair.naive), ("stable", pair.stable)):
            frames.append(
                rows("tail_value", _numbers(compute(at)), exact,
                     function=function, formula=formula, dtype=dtype, x=places)
            )  # fmt: skip
        limit = pair.limit(own)

        def finite(x: Tensor, pair: Pair = pair) -> Tensor:
            return torch.isfinite(pair.naive(x))

        frames.append(
            rows("gives_out_at", _last(finite, dtype, 2 * limit, device), limit,
                 function=function, formula="naive", dtype=dtype)
        )  # fmt: skip
    both = torch.tanh(at) + 1 - 2 * torch.sigmoid(2 * at)
    frames.append(rows("identity", _numbers(both), 0.0, function="tanh", dtype=dtype, x=places))
    inside = FORMATS["float32"] if at.element_size() == 2 else own
    for function, threshold in (
        ("sigmoid", sigmoid_saturation(own, inside)),
        ("tanh", tanh_saturation(own)),
    ):
        forward = ACTIVATIONS[function].forward

        def below_one(x: Tensor, forward: Formula = forward) -> Tensor:
            return forward(x) < 1

        last = _last(below_one, dtype, 100.0, device)
        frames.append(rows("saturates_at", last, threshold, function=function, dtype=dtype))
    return frames


def _numbers(tensor: Tensor) -> np.ndarray:
    plain: np.ndarray = tensor.to(torch.float64).numpy(force=True)
    return plain


def _relative_error(rows: pd.DataFrame) -> pd.Series:
    """|measured / predicted - 1|; 1 where the result is not a finite number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = (rows["measured"] / rows["predicted"] - 1).abs()
    return error.where(np.isfinite(rows["measured"]), 1.0).clip(upper=1.0)


def _constant_claims(table: pd.DataFrame) -> list[Claim]:
    u = FORMATS["float64"].unit_roundoff
    found = []
    sides = select(table, "slope_at_kink")
    if not sides.empty:
        found.append(
            claims.bounded(
                "slope_at_kink",
                "On either side of a kink the slope is that of its piece.",
                "One-sided derivatives, mpmath to 50 digits",
                sides,
                allowed=ROUNDINGS * u,
            )
        )
        found.append(
            claims.bounded(
                "subgradient",
                "At a kink autograd takes one of the two one-sided slopes, to the bit or the last "
                "rounding: the left one for the ReLU family and SELU, the outer one for hard tanh.",
                "One-sided derivatives, mpmath to 50 digits",
                select(table, "subgradient"),
                allowed=2 * u,
            )
        )
    for quantity, words in (
        ("value", "The range of every activation is the predicted one"),
        (
            "slope",
            "The slopes of every activation range as predicted, sigmoid's up to 1/4",
        ),
    ):
        part = pd.concat([select(table, f"{end}_{quantity}") for end in ("least", "largest")])
        found.append(
            claims.bounded(
                f"{quantity}_range", f"{words}.", "Roots of the derivative, mpmath to 50 digits",
                part, allowed=ROUNDINGS * u,
            )
        )  # fmt: skip
    found.append(
        claims.bounded(
            "lipschitz",
            "The Lipschitz constant is the steepest slope: 1/4 for sigmoid, 1 for tanh and ReLU, "
            "2/sqrt(pi) for erf, 1.0998 for SiLU, 1.1289 for GELU, 1.7581 for SELU.",
            "sup |phi'|, mpmath to 50 digits",
            select(table, "lipschitz"),
            allowed=ROUNDINGS * u,
        )
    )
    return found


def _tail_claims(table: pd.DataFrame) -> list[Claim]:
    stable = select(table, "tail_value", formula="stable")
    limits, ends = select(table, "gives_out_at"), select(table, "saturates_at")
    identity = select(table, "identity")
    roundoff = {name: FORMATS[name].unit_roundoff for name in DTYPES}
    return [
        claims.bounded(
            "stable_formula",
            f"The stable formulas (1 / (1 + e^-x) by cases, log1p, the max trick) stay within "
            f"{ROUNDINGS} roundings of the result times its input, out to 1.5 times where exp "
            "overflows; logarithms of sums within as many of 1.",
            "mpmath",
            stable,
            allowed=[
                ROUNDINGS
                * roundoff[dtype]
                * max(abs(exact), PAIRS[function].floor)
                * max(1, abs(x))
                + FORMATS[dtype].smallest_normal
                for function, dtype, x, exact in zip(
                    stable["function"],
                    stable["dtype"],
                    stable["x"],
                    stable["predicted"],
                    strict=True,
                )
            ],
        ),
        claims.bounded(
            "naive_formula",
            "The obvious formulas give out where exp overflows, at ln(max) (tanh at half of it), "
            "and the logarithm of a softmax where the softmax rounds to 0; within 3 spacings of x.",
            "ln(max) of the format; half its smallest subnormal number",
            limits,
            allowed=[
                6 * roundoff[dtype] * abs(limit)
                for dtype, limit in zip(limits["dtype"], limits["predicted"], strict=True)
            ],
        ),
        claims.bounded(
            "saturation",
            "Sigmoid and tanh are exactly 1 from (p + 1) ln 2 and (p + 2) ln(2) / 2 on, p the "
            "format's bits (a sum in float32 behind sigmoid saturates at 24 ln 2); the last bit of "
            "the library may move that by ln 2.",
            "Rounding to nearest of 1 - e^-x",
            ends,
            allowed=math.log(2),
        ),
        claims.bounded(
            "identity",
            "tanh(x) + 1 = 2 sigmoid(2 x), to 8 roundings of 2.",
            "Algebra",
            identity,
            allowed=[16 * roundoff[dtype] for dtype in identity["dtype"]],
        ),
    ]


def _atlas_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import INK, canvas

    dtype = table["dtype"].dropna().iloc[0]
    names = table["activation"].dropna().unique()
    columns = min(4, len(names))
    figure, axes = canvas(columns, -(-len(names) // columns), height=1.9, sharex=True)
    for ax, name in itertools.zip_longest(axes.flat, names):
        if name is None:
            ax.set_axis_off()
            continue
        for quantity, style in zip(ORDERS, ("-", "--", ":"), strict=True):
            part = select(table, quantity, activation=name, dtype=dtype).sort_values("x")
            ax.plot(part["x"], part["measured"], style, label=quantity.replace("_", " "))
        ax.set_title(name)
        ax.set_ylim(-1.6, 2.6)
        ax.axhline(0, color=INK, lw=0.5)
    for ax in axes[-1]:
        ax.set_xlabel("preactivation x")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    steepest = select(table, "lipschitz")
    told = ", ".join(
        f"{name} {value:.4g}"
        for name, value in zip(steepest["activation"], steepest["measured"], strict=True)
    )
    return Figure(
        "atlas",
        f"Value, derivative and second derivative, measured in {dtype}. Steepest slopes: {told}.",
        f"Curves of {len(names)} activations with two derivatives; steepest slopes: {told}.",
        figure,
    )


def _tails_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import FAINT, MARKERS, canvas

    values = select(table, "tail_value")
    dtypes = [name for name in DTYPES if name in set(values["dtype"])]
    figure, axes = canvas(len(dtypes), 2, height=2.8, sharey=True, sharex="col")
    for column, dtype in zip(axes.T, dtypes, strict=True):
        u = FORMATS[dtype].unit_roundoff
        for ax, formula in zip(column, ("naive", "stable"), strict=True):
            for function, marker in zip(PAIRS, MARKERS, strict=False):
                part = values[
                    (values["dtype"] == dtype)
                    & (values["formula"] == formula)
                    & (values["function"] == function)
                ]
                error = _relative_error(part).clip(lower=u / 16)
                ax.plot(part["x"], error, marker, ms=3, label=function)
            ax.axhline(u, lw=1, color=FAINT)
            ax.set_yscale("log")
            ax.set_title(f"{formula}, {dtype}")
        column[-1].set_xlabel("x")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    lost = {
        formula: int((_relative_error(select(table, "tail_value", formula=formula)) > 0.5).sum())
        for formula in ("naive", "stable")
    }
    text = (
        "Relative error of the obvious and of the stable formula, 1 where no digit is right or the "
        f"result is not finite (naive: {lost['naive']} values, stable: {lost['stable']}, where "
        "the result itself is below the format's range or is a logarithm of a number next to 1)"
    )
    return Figure("tails", f"{text}. The line is the unit roundoff.", f"{text}.", figure)
