"""The chapter's exercises that no other experiment answers, each as a panel of its own."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from stability import claims
from stability.catalogue import datasets
from stability.claims import Claim
from stability.errors import check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.table import concat, rows, select
from stability.theory import exercises as theory
from stability.theory.floating_point import FORMATS, gamma

U = FORMATS["float64"].unit_roundoff
RIDGE = 0.1
"""Of softmax regression: its loss is then strongly convex with this constant."""
CONDITION = 100.0
"""Of the factors whose product's singular values are bounded."""
RATE, TRUST = 0.1, 0.01
"""Of layerwise adaptive rate scaling (You et al. 2017)."""
LAYERS = 10
"""Of the sigmoid network that it updates."""
PARTS = 8
"""Micro-batches that a batch is split into."""


@dataclass(frozen=True)
class Exercises(Experiment):
    """Piecewise linear networks, equal function classes, equal starts, products, rescaled steps."""

    title = "The exercises, measured"
    question = "What do the chapter's exercises come to when they are measured?"

    width: list[int] = field(default_factory=lambda: [4])
    replicates: int = 2
    steps: int = 50

    def __post_init__(self) -> None:
        check_each("experiment.width", self.width)
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        check_range("experiment.replicates", self.replicates, at_least=2)
        check_range("experiment.steps", self.steps, at_least=1)

    def memory(self) -> int:
        """Of the widest layers' weights and gradients, and of the data."""
        return 2**24 + 8 * max(self.width) ** 2 * (6 * LAYERS + 20)

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: width, replicate, k, layer, optimizer, parts."""
        data = datasets.load("digits", torch.float64, context.device)
        inputs, labels = data.inputs[data.train], data.labels[data.train]
        frames = []
        total = len(self.width) * self.replicates
        for place, (width, replicate) in enumerate(
            (width, replicate) for width in self.width for replicate in range(self.replicates)
        ):
            draw = _Draw(context, width, replicate)
            where = {"width": width, "replicate": replicate}
            for frame in (
                *_pieces(draw, width),
                _same_functions(draw, width),
                *_products(draw, width),
                *_layerwise(draw, width, inputs[:128], labels[:128]),
                _accumulated(draw, width, inputs[:128], labels[:128]),
            ):
                for name, value in reversed(where.items()):
                    frame.insert(0, name, value)
                frames.append(frame)
            context.progress((place + 1) / (total + 1))
        frames += _equal_starts(context, inputs, labels, data.classes, self.steps)
        context.progress(1.0)
        return concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Each panel's, all deterministic up to rounding."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """One clause an exercise."""
        pieces = select(table, "linear_pieces")
        widest = pieces.loc[pieces["width"].idxmax()]
        gap = select(table, "tanh_by_sigmoid")["measured"].max()
        spread = {
            name: select(table, "log10_update_spread", optimizer=name)["measured"].max()
            for name in ("sgd", "lars")
        }
        left = select(table, "start_gap").iloc[0]
        return (
            f"{widest['width']} ReLU units make {widest['measured']:.0f} linear pieces; a sigmoid "
            f"network repeats a tanh network to {gap:.1g}; linear regression from "
            f"equal weights keeps {left['measured']:.2g} of its distance to another start after "
            f"{left['steps']} steps, as theory has it; a sigmoid network's layers move at rates "
            f"{spread['sgd']:.1f} decades apart under plain SGD and {spread['lars']:.1g} under "
            "layerwise rate scaling."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Pieces by width, update ratios by layer, singular values of a product."""
        return [_figure(table)]


class _Draw:
    """Gaussian tensors, named by what they are for."""

    def __init__(self, context: Context, *key: int) -> None:
        self._context, self._key = context, key

    def __call__(self, name: str, *shape: int) -> Tensor:
        numbers = self._context.numpy("exercises", name, *self._key, *shape).standard_normal(shape)
        return torch.tensor(numbers, dtype=torch.float64, device=self._context.device)


def _pieces(draw: _Draw, width: int) -> list[pd.DataFrame]:
    """A ReLU network of one input: its slope between the bends, counted; and its straightness."""
    weight, bias, out = draw("w", width), draw("b", width), draw("v", width)

    def network(x: Tensor) -> Tensor:
        hidden: Tensor = torch.relu(x[:, None] * weight + bias)
        return hidden.mv(out)

    bends = torch.sort(-bias / weight).values
    edges = torch.cat([bends[:1] - 1, bends, bends[-1:] + 1])
    left, right = edges[:-1], edges[1:]
    middle = ((left + right) / 2).requires_grad_()
    (slopes,) = torch.autograd.grad(network(middle).sum(), middle)
    counted = 1 + int((slopes[1:] != slopes[:-1]).sum())
    inner = [left + share * (right - left) for share in (0.25, 0.5, 0.75)]
    low, centre, high = (network(x.detach()) for x in inner)
    size = (torch.relu(inner[1][:, None].abs() * weight.abs() + bias.abs()) @ out.abs()).max()
    bent = float(((low + high) / 2 - centre).abs().max() / size)
    return [
        rows("linear_pieces", counted, theory.linear_pieces(width)),
        rows("bend_inside_a_piece", bent, 0.0),
    ]


def _same_functions(draw: _Draw, width: int) -> pd.DataFrame:
    """tanh(z) = 2 sigmoid(2 z) - 1: the layers around take the factors and the shift."""
    first, shift, second = draw("W", 8, width), draw("c", width), draw("V", width, 4)
    x = draw("x", 64, 8)
    wanted = torch.tanh(x @ first + shift) @ second
    found = torch.sigmoid(x @ (2 * first) + 2 * shift) @ (2 * second) - second.sum(dim=0)
    size = second.abs().sum(dim=0).max()
    return rows("tanh_by_sigmoid", float((wanted - found).abs().max() / size), 0.0)


def _conditioned(draw: _Draw, name: str, n: int) -> Tensor:
    """A matrix of Haar singular vectors and singular values from 1 down to 1 / CONDITION."""
    left: Tensor = torch.linalg.qr(draw(f"{name}u", n, n)).Q
    right: Tensor = torch.linalg.qr(draw(f"{name}v", n, n)).Q
    values = torch.logspace(0, -math.log10(CONDITION), n, dtype=torch.float64, device=left.device)
    return (left * values).mm(right)


def _products(draw: _Draw, n: int) -> list[pd.DataFrame]:
    """ln of the product of the k largest singular values of A B, and |eigenvalues| of A."""
    a, b = _conditioned(draw, "A", n), _conditioned(draw, "B", n)
    logs = [torch.cumsum(torch.linalg.svdvals(m).log(), 0) for m in (a @ b, a, b)]
    horn = (logs[0] - logs[1] - logs[2]).numpy(force=True)
    moduli = torch.linalg.eigvals(a).abs().sort(descending=True).values.log()
    weyl = (torch.cumsum(moduli, 0) - logs[1]).numpy(force=True)
    k = np.arange(1, n + 1)
    equal = np.where(k == n, 0.0, np.nan)
    return [
        rows("singular_excess", horn, equal, k=k),
        rows("eigenvalue_excess", weyl, equal, k=k),
    ]


def _layerwise(draw: _Draw, width: int, inputs: Tensor, labels: Tensor) -> list[pd.DataFrame]:
    """|change| / |weights| by layer of a deep sigmoid network in one step of SGD and of LARS."""
    fans = [inputs.shape[1], *[width] * (LAYERS - 1), 10]
    weights = [
        (draw(f"layer{at}", *pair) / math.sqrt(pair[0])).requires_grad_()
        for at, pair in enumerate(itertools.pairwise(fans))
    ]
    signal = inputs
    for weight in weights[:-1]:
        signal = torch.sigmoid(signal @ weight)
    gradients = torch.autograd.grad(functional.cross_entropy(signal @ weights[-1], labels), weights)
    frames = []
    for optimizer in ("sgd", "lars"):
        ratios = []
        for weight, gradient in zip(weights, gradients, strict=True):
            rate = RATE
            if optimizer == "lars":
                rate *= TRUST * float(weight.detach().norm() / gradient.norm())
            still = weight.detach()
            moved = still - rate * gradient
            ratios.append(float((moved - still).norm() / still.norm()))
        predicted = theory.layerwise_ratio(RATE, TRUST) if optimizer == "lars" else np.nan
        layer = np.arange(1, LAYERS + 1)
        frames.append(rows("update_ratio", ratios, predicted, optimizer=optimizer, layer=layer))
        spread = math.log10(max(ratios) / min(ratios))
        frames.append(
            rows("log10_update_spread", spread, 0.0 if optimizer == "lars" else np.nan,
                 optimizer=optimizer)
        )  # fmt: skip
    return frames


def _accumulated(draw: _Draw, width: int, inputs: Tensor, labels: Tensor) -> pd.DataFrame:
    """The gradient of a batch and the mean of its parts' gradients, relative to their sizes."""
    weight = (draw("first", inputs.shape[1], width) / 8).requires_grad_()
    head = (draw("head", width, 10) / math.sqrt(width)).requires_grad_()

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        loss = functional.cross_entropy(torch.tanh(x @ weight) @ head, y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, (weight, head))])

    parts = zip(inputs.chunk(PARTS), labels.chunk(PARTS), strict=True)
    pieces = torch.stack([gradient(*part) for part in parts])
    gap = (pieces.mean(dim=0) - gradient(inputs, labels)).norm()
    each = torch.stack([gradient(x[None], y[None]) for x, y in zip(inputs, labels, strict=True)])
    return rows("accumulation_gap", float(gap / each.norm(dim=1).mean()), 0.0, parts=PARTS)


def _equal_starts(
    context: Context, inputs: Tensor, labels: Tensor, classes: int, steps: int
) -> list[pd.DataFrame]:
    """Linear and softmax regression from equal weights and from random ones."""
    draw = _Draw(context)
    dimension, count = inputs.shape[1], len(inputs)
    hessian = inputs.T @ inputs / count
    rate = 1 / float(torch.linalg.eigvalsh(hessian)[-1])
    moment = inputs.T @ (labels == 0).to(inputs.dtype) / count
    starts = [torch.full_like(moment, 0.5), draw("linear", dimension)]
    gap = (starts[0] - starts[1]).numpy(force=True)
    ends = []
    for weights in starts:
        for _ in range(steps):
            weights = weights - rate * (hessian @ weights - moment)
        ends.append(weights)
    left = float((ends[0] - ends[1]).norm()) / float(np.linalg.norm(gap))
    expected = theory.descent_contraction(hessian.numpy(force=True), rate, steps, gap)
    frames = [rows("start_gap", left, expected, steps=steps)]

    def slope(weights: Tensor) -> Tensor:
        weights = weights.detach().requires_grad_()
        loss = (
            functional.cross_entropy(inputs @ weights, labels) + RIDGE / 2 * weights.square().sum()
        )
        (found,) = torch.autograd.grad(loss, weights)
        return found

    points = [torch.full((dimension, classes), 0.5, dtype=inputs.dtype, device=inputs.device),
              draw("softmax", dimension, classes)]  # fmt: skip
    rate = 1 / (float(torch.linalg.eigvalsh(hessian)[-1]) / 2 + RIDGE)
    first = -rate * (slope(points[0]) - RIDGE * points[0])
    told = theory.constant_softmax_step(
        inputs.numpy(force=True), labels.numpy(force=True), classes, rate
    )
    frames.append(
        rows("first_step", first.numpy(force=True).ravel(), told.ravel(),
             k=np.arange(dimension * classes))
    )  # fmt: skip
    for _ in range(steps):
        points = [weights - rate * slope(weights) for weights in points]
    apart = float((points[0] - points[1]).norm())
    norms = [float(slope(weights).norm()) for weights in points]
    bound = theory.strongly_convex_gap(norms[0], norms[1], RIDGE)
    frames.append(rows("softmax_gap_over_bound", apart / bound, steps=steps))
    return frames


def _claims(table: pd.DataFrame) -> list[Claim]:
    widths = table["width"].dropna()
    size = int(widths.max())
    log_error = 8 * size**2 * CONDITION**2 * U
    horn, weyl = select(table, "singular_excess"), select(table, "eigenvalue_excess")
    both = pd.concat([horn, weyl])
    above = both.assign(measured=both["measured"].clip(lower=0.0), predicted=0.0)
    softmax = select(table, "softmax_gap_over_bound")
    beyond = softmax.assign(measured=(softmax["measured"] - 1).clip(lower=0.0), predicted=0.0)
    starts = select(table, "start_gap")
    lars = table[table["optimizer"].eq("lars").fillna(False).astype(bool)]
    return [
        claims.bounded(
            "piecewise_linear", "A ReLU network of one input and n units has n + 1 linear pieces.",
            "One bend a unit, at -b / w", select(table, "linear_pieces"), allowed=0.0,
        ),
        claims.bounded(
            "straight_pieces", "Between its bends a ReLU network is straight, to rounding.",
            "gamma_(n + 4) of the sum's size", select(table, "bend_inside_a_piece"),
            allowed=2 * float(gamma(size + 4, U)),
        ),
        claims.bounded(
            "same_functions",
            "Sigmoid networks are tanh networks: tanh(z) = 2 sigmoid(2 z) - 1 turns one into the "
            "other, to rounding.", "Algebra; gamma_(n + 32) of the output weights",
            select(table, "tanh_by_sigmoid"), allowed=4 * float(gamma(size + 32, U)),
        ),
        claims.bounded(
            "product_bounds",
            "The k largest singular values of A B multiply to at most those of A times those of B, "
            "and the k largest |eigenvalues| to at most the k largest singular values.",
            "Horn 1950; Weyl 1949", above, allowed=log_error,
        ),
        claims.bounded(
            "product_equality", "For k = n both bounds are equalities: determinants multiply.",
            "|det A B| = |det A| |det B|", both[both["predicted"].notna()], allowed=log_error,
        ),
        claims.bounded(
            "equal_start_linear",
            "Linear regression may start from equal weights: gradient descent forgets the "
            "difference to any other start as (I - rate H)^t.", "Quadratic loss", starts,
            allowed=100 * 64 * U * starts["steps"].to_numpy(float),
        ),
        claims.bounded(
            "equal_start_step",
            "Softmax regression from equal weights: the labels tell the classes apart in the first "
            "step, rate X^T (Y - 1/K) / N.", "Gradient of the cross-entropy at equal weights",
            select(table, "first_step"), allowed=100 * float(gamma(2000, U)),
        ),
        claims.bounded(
            "equal_start_softmax",
            "Softmax regression with weight decay ends where it ends from random weights: within "
            "the sum of the gradients' norms over the decay.", "Nesterov 2004, theorem 2.1.10",
            beyond, allowed=1e-9,
        ),
        claims.bounded(
            "layerwise_rates",
            "Layerwise adaptive rate scaling moves every layer by the same share of its size, "
            "however small its gradient.", "You et al. 2017, eq. 6",
            select(lars, "update_ratio"), allowed=RATE * TRUST * 1e-9,
        ),
        claims.bounded(
            "gradient_accumulation",
            "The mean of the gradients of equal parts of a batch is the batch's gradient, to "
            "rounding: a graph too large for the memory can be done in parts.",
            "Linearity; gamma_(N + n + 64) of the mean gradient of a sample",
            select(table, "accumulation_gap"),
            allowed=8 * float(gamma(128 + size + 64, U)),
        ),
    ]  # fmt: skip


def _figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import MARKERS, canvas

    figure, axes = canvas(3)
    pieces, rates, products = axes.flat
    part = select(table, "linear_pieces", replicate=0).sort_values("width")
    pieces.plot(part["width"], part["predicted"], label="n + 1")
    pieces.plot(part["width"], part["measured"], "o", label="counted")
    pieces.set(xlabel="ReLU units n", ylabel="linear pieces", title="5.1.4 Pieces")
    pieces.legend()
    widest = table["width"].max()
    for optimizer, marker in zip(("sgd", "lars"), MARKERS, strict=False):
        part = select(table, "update_ratio", optimizer=optimizer, width=widest, replicate=0)
        rates.plot(part["layer"], part["measured"], marker, label=optimizer)
    rates.axhline(theory.layerwise_ratio(RATE, TRUST), label="rate x trust")
    rates.set(xlabel="layer", ylabel="|change| / |weights|", title="5.4.4 Rates", yscale="log")
    rates.legend()
    for quantity, label, marker in (
        ("singular_excess", "singular, A B", "o"), ("eigenvalue_excess", "eigenvalues, A", "s")
    ):  # fmt: skip
        part = select(table, quantity, width=widest, replicate=0)
        products.plot(part["k"], part["measured"], marker, ms=3, label=label)
    products.axhline(0.0, label="bound")
    products.set(xlabel="k largest", ylabel="ln(product / bound)", title="5.4.3 Products")
    products.legend(loc="upper center", bbox_to_anchor=(0.5, 0.9))
    low = select(table, "singular_excess", width=widest, replicate=0)["measured"].min()
    text = (
        "Linear pieces of a ReLU network by its units; share by which one step moves each layer of "
        f"a sigmoid network of {LAYERS} layers; singular values and eigenvalues of a product "
        f"against Horn's and Weyl's bounds (down to {low:.3g} below)"
    )
    return Figure("exercises", f"{text}.", f"{text}.", figure)
