"""Hidden units that start equal: where they stay equal, and how rounding parts them."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from stability import claims
from stability.catalogue.activations import ACTIVATIONS, Activation
from stability.catalogue.optimizers import OPTIMIZERS, Optimizer, adam
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import two_layer
from stability.kernels.two_layer import Layers, Problem
from stability.table import concat, rows, select
from stability.theory import symmetry as theory
from stability.theory.floating_point import FORMATS, gamma

SAMPLES, INPUTS = 16, 6
"""Of the regression problem: numbers of few bits, the last input always 1."""
CONSTANT = 0.5
"""Of which every weight starts."""
ULP = 2.0**-24
"""Of float32 at ``CONSTANT``."""
RATES = {"sgd": 1 / 4, "momentum": 1 / 32, "adam": 1 / 32}
"""Powers of two, which keep fractions short."""
WIDE = 8
"""Units beyond which all rates but Adam's fall as 1 / width, as the loss's curvature grows."""
ACTIVATION = "softsign"
"""Odd, and made of correctly rounded operations alone, so that no lane has a library's own."""
SMOOTH = "tanh"
"""Where the linearised prediction is judged: softsign's second derivative jumps at 0."""
FLOATS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], torch.dtype]] = {
    "matmul_float32": (torch.mm, torch.float32),
    "matmul_float64": (torch.mm, torch.float64),
    "ordered_float32": (two_layer.ordered, torch.float32),
}
"""Arithmetics; the other one is ``fractions``."""
SYMMETRIC = ["ordered_float32", "fractions"]
EXACT_STEPS = {ACTIVATION: 2, "relu": 5}
"""In fractions: digits multiply with every step, by about 3 for ReLU, by 50 for softsign."""
ADAM_EXACT_STEPS = 3
"""At most: Adam's divisions make them longer."""
EXACT_WIDTH = 8
PRIME = 2**61 - 1
ROOT_BITS = 64
"""Of the square root that Adam takes of fractions."""
LINEAR = 1e-3
"""Difference up to which the linearised prediction is judged."""
CLASSES = 10
ZERO_STEPS = 20
ORBIT = 3
"""Units of the largest network whose equivalents are counted."""


@dataclass(frozen=True)
class Symmetry(Experiment):
    """Equal hidden units: exact symmetry, its loss to rounding, and the other symmetries."""

    title: ClassVar[str] = "Symmetry of hidden units"
    question: ClassVar[str] = "Do hidden units that start equal stay equal?"

    width: list[int] = field(default_factory=lambda: [5])
    optimizer: list[str] = field(default_factory=lambda: ["sgd"])
    dropout: list[float] = field(default_factory=lambda: [0.0])
    steps: int = 30

    def __post_init__(self) -> None:
        for name in ("width", "optimizer", "dropout"):
            check_each(f"experiment.{name}", getattr(self, name))
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        for optimizer in self.optimizer:
            check_choice("experiment.optimizer", optimizer, OPTIMIZERS)
        for dropout in self.dropout:
            check_range("experiment.dropout", dropout, at_least=0, at_most=0.9)
        check_range("experiment.steps", self.steps, at_least=1)

    def memory(self) -> int:
        """Bytes of the products of some ordered sums, and of the theory's steps."""
        products = 8 * SAMPLES * max(self.width) * INPUTS * 10
        return 2**24 + products + 8 * self.steps * (3 * (INPUTS + 1) + 1) ** 2

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: width, optimizer, arithmetic, dropout, activation, step and those of panels."""
        data = _Data(context)
        frames = list(_equivalents(data))
        cells = list(itertools.product(self.width, self.optimizer))
        for width in self.width:
            frames += [*_saddle(data, width), *_noise(data, width), *_transformed(data, width)]
        for place, (width, name) in enumerate(cells):
            cell = _Cell(data, width, name, self.steps)
            frames += cell.grown()
            for dropout in self.dropout:
                frames += cell.trained(dropout)
            frames.append(cell.from_zero())
            context.progress((place + 1) / len(cells))
        return concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Symmetric arithmetics, rounding's bound, growth, dropout, Adam, other symmetries."""
        return list(_claims(table))

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """What stays equal, and how far and how fast the rest drifts."""
        growth = _grown(table)
        judged = growth[growth["predicted"] * 2 * ULP <= LINEAR]
        top = judged.loc[judged["predicted"].idxmax()]
        said = (
            f"Two of {top['width']} units that start a unit in the last place off the others are "
            f"{top['measured']:.4g} times as far apart by step {top['step']} of "
            f"{top['optimizer']} (predicted {top['predicted']:.4g})."
        )
        kept = _without_dropout(select(table, "deviation"))
        if kept.empty:
            return said
        drift = kept[~kept["arithmetic"].isin(SYMMETRIC)]
        worst = drift.loc[drift["measured"].idxmax()]
        found = (
            f"matrix products have parted them by {worst['measured']:.2g} at step {worst['step']} "
            f"({worst['arithmetic']}, {worst['optimizer']}, {worst['width']} units)"
            if worst["measured"] > 0
            else "this machine's matrix products happened to sum all units alike"
        )
        return (
            "Yes, exactly, in fractions and wherever every unit is summed in the same order; "
            f"otherwise only until rounding parts them: {found}. {said}"
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Deviation by step; growth and loss; ranks and singular values."""
        return [_draw_deviation(table), _draw_growth(table), _draw_rank(table)]


class _Data:
    """The regression problem, and where its numbers come from."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.inputs = self._short("inputs", SAMPLES, INPUTS)
        self.inputs[:, -1] = 1.0
        self.targets = self._short("targets", SAMPLES, 1)

    def _short(self, name: str, *shape: int) -> np.ndarray:
        """Gaussian numbers, rounded to eighths."""
        return np.round(8 * self.context.numpy("symmetry", name).standard_normal(shape)) / 8

    def problem(self, arithmetic: str, activation: str = ACTIVATION) -> Problem:
        """The same numbers in one of the arithmetics."""
        phi = ACTIVATIONS[activation]
        if arithmetic == "fractions":
            return Problem(
                _exact(self.inputs), _exact(self.targets), lambda z: _exact(phi.phi(z)),
                lambda z: _exact(phi.dphi(z)), np.matmul,
            )  # fmt: skip
        product, dtype = FLOATS[arithmetic]
        return self._tensors(product, dtype, phi)

    def precise(self) -> Problem:
        """Of ``SMOOTH`` in float64, every unit summed in the same order."""
        return self._tensors(two_layer.ordered, torch.float64, ACTIVATIONS[SMOOTH])

    def _tensors(self, product: Any, dtype: torch.dtype, phi: Activation) -> Problem:
        device = self.context.device
        x, y = (torch.tensor(a, dtype=dtype, device=device) for a in (self.inputs, self.targets))
        return Problem(x, y, phi.forward, phi.derivative, product)

    def told(self, units: int, activation: str) -> theory.Data:
        """The same for theory."""
        return theory.Data(self.inputs, self.targets[:, 0], ACTIVATIONS[activation], units)


_exact: Callable[[Any], Any] = np.frompyfunc(Fraction, 1, 1)


def _root(squares: Any) -> Any:
    """Square roots of fractions, the same of the same: cut after ``ROOT_BITS`` binary places."""
    scale = 2**ROOT_BITS

    def one(square: Fraction) -> Fraction:
        return Fraction(math.isqrt(math.floor(square * scale**2)), scale)

    return np.frompyfunc(one, 1, 1)(squares)


def _constant(like: Problem, width: int, value: float) -> Layers:
    """Equal weights in the problem's arithmetic."""
    if isinstance(like.inputs, Tensor):
        tensor = like.inputs.new_full((width, INPUTS + 1), value)
        return Layers(tensor[:, :-1], tensor[:, -1:])
    fractions = np.full((width, INPUTS + 1), Fraction(value))
    return Layers(fractions[:, :-1], fractions[:, -1:])


def _deviation(layers: Layers) -> float:
    """The largest difference between two units in any parameter."""
    tensors = [p.numpy(force=True) if isinstance(p, Tensor) else p for p in layers]
    return max(float((p.max(axis=0) - p.min(axis=0)).max()) for p in tensors)


def _exact_rank(matrix: Any) -> int:
    """Of a matrix of fractions, modulo ``PRIME``: at most the rank, and equal but by a fluke."""
    left = [[q.numerator * pow(q.denominator, -1, PRIME) % PRIME for q in row] for row in matrix]
    rank = 0
    for column in range(matrix.shape[1]):
        pivot = next((row for row in left if row[column]), None)
        if pivot is not None:
            left.remove(pivot)
            scale = pow(pivot[column], -1, PRIME)
            left = [[(a - row[column] * scale * b) % PRIME for a, b in zip(row, pivot, strict=True)]
                    for row in left]  # fmt: skip
            rank += 1
    return rank


def _singular(weights: Tensor) -> np.ndarray:
    """Singular values over the largest, in float64; nan if a weight is not finite."""
    if not bool(weights.isfinite().all()):
        return np.full(min(weights.shape), np.nan)
    values = torch.linalg.svdvals(weights.double()).numpy(force=True)
    return np.asarray(values / max(values[0], np.finfo(float).tiny))


def _unit_roundoff(arithmetic: str) -> float:
    return 0.0 if arithmetic == "fractions" else FORMATS[arithmetic.partition("_")[2]].unit_roundoff


class _Cell:
    """One width and optimizer."""

    def __init__(self, data: _Data, width: int, name: str, steps: int) -> None:
        self.data, self.width, self.name, self.steps = data, width, name, steps
        self.rate = RATES[name] * (1.0 if name == "adam" else min(1.0, WIDE / width))
        spaced = np.geomspace(1, steps, 25).round().astype(int).tolist()
        exact = [s for s in range(max(EXACT_STEPS.values()) + 1) if s <= steps]
        self.marks = sorted({*exact, *spaced})
        rule = theory.rule(name, self.rate)
        self.drift, self.smooth = (
            theory.drift(data.told(width, activation), CONSTANT, rule, self.marks)
            for activation in (ACTIVATION, SMOOTH)
        )
        self.where: dict[str, Any] = {"width": width, "optimizer": name}

    def _optimizer(self, arithmetic: str) -> Optimizer:
        make = OPTIMIZERS[self.name]
        if arithmetic != "fractions":
            return make(self.rate)
        exact = Fraction(self.rate)
        if self.name == "adam":
            betas = (Fraction(9, 10), Fraction(999, 1000))
            return make(exact, betas, Fraction(1, 10**8), _root)
        return make(exact, Fraction(9, 10)) if self.name == "momentum" else make(exact)

    def _keep(self, dropout: float, arithmetic: str) -> Callable[[], Any] | None:
        """The same masks in every arithmetic and for every optimizer."""
        if not dropout:
            return None
        source = self.data.context.generator("symmetry", "dropout", self.width, dropout)

        def keep() -> Any:
            drawn = torch.rand((SAMPLES, self.width), generator=source, device=source.device)
            kept = drawn >= dropout
            if arithmetic == "fractions":
                return _exact(kept.numpy(force=True).astype(int)) / (1 - Fraction(dropout))
            return kept.to(FLOATS[arithmetic][1]) / (1 - dropout)

        return keep

    def trained(self, dropout: float) -> Iterator[pd.DataFrame]:
        """Deviation, rank and loss by step, in every arithmetic."""
        for arithmetic in FLOATS:
            yield from self._in_floats(arithmetic, dropout)
        if self.width <= EXACT_WIDTH:
            for activation in EXACT_STEPS:
                yield from self._in_fractions(activation, dropout)

    def _in_floats(self, arithmetic: str, dropout: float) -> Iterator[pd.DataFrame]:
        problem, u = self.data.problem(arithmetic), _unit_roundoff(arithmetic)
        found: list[tuple[float, int | float, float]] = []
        last: list[np.ndarray] = []

        def observe(step: int, layers: Layers) -> None:
            if step in self.marks:
                values = _singular(layers.weights)
                last[:] = [values]
                cut = max(layers.weights.shape) * u
                rank = np.nan if np.isnan(values[0]) else int((values > cut).sum())
                found.append((_deviation(layers), rank, _loss(layers, problem)))

        self._train(problem, arithmetic, dropout, self.steps, observe)
        deviation, rank, loss = np.array(found, float).T
        equal = 0.0 if arithmetic in SYMMETRIC and not dropout else np.nan
        ranks = np.full(len(self.marks), equal + 1)
        if dropout:
            ranks[-1] = min(self.width, INPUTS)
        where = {**self.where, "arithmetic": arithmetic, "dropout": dropout,
                 "activation": ACTIVATION, "step": self.marks}  # fmt: skip
        bound = np.full(len(self.marks), np.nan) if dropout else self.drift.bound(u)
        yield rows("deviation", deviation, equal, **where, bound=bound)
        yield rows("rank", rank, ranks, **where)
        yield rows("loss", loss, np.nan if dropout else self.drift.loss, **where)
        yield rows("singular_value", last[0],
                   **{**where, "step": self.steps}, k=np.arange(1, len(last[0]) + 1))  # fmt: skip

    def _in_fractions(self, activation: str, dropout: float) -> Iterator[pd.DataFrame]:
        problem = self.data.problem("fractions", activation)
        found: list[tuple[float, int]] = []

        def observe(_step: int, layers: Layers) -> None:
            found.append((_deviation(layers), _exact_rank(layers.weights)))

        most = ADAM_EXACT_STEPS if self.name == "adam" else self.steps
        steps = min(self.steps, EXACT_STEPS[activation], most)
        self._train(problem, "fractions", dropout, steps, observe)
        deviation, rank = np.array(found, float).T
        where = {**self.where, "arithmetic": "fractions", "dropout": dropout,
                 "activation": activation, "step": np.arange(steps + 1)}  # fmt: skip
        yield rows("deviation", deviation, np.nan if dropout else 0.0, **where)
        yield rows("rank", rank, np.nan if dropout else 1.0, **where)

    def _train(self, problem: Problem, arithmetic: str, dropout: float, steps: int,
               observe: Callable[[int, Layers], None]) -> None:  # fmt: skip
        optimizer = self._optimizer(arithmetic)
        two_layer.train(
            _constant(problem, self.width, CONSTANT), problem, optimizer.step, optimizer.start,
            steps, observe, self._keep(dropout, arithmetic),
        )  # fmt: skip

    def grown(self) -> Iterator[pd.DataFrame]:
        """One and two units in the last place between two units, in float64, and what they become.

        The first unit's weights are raised, the second's lowered.
        """
        problem, optimizer = self.data.precise(), self._optimizer("ordered_float64")
        for ulps in (1, 2):
            start = _constant(problem, self.width, CONSTANT)
            start.weights[0] += ulps * ULP
            start.weights[1] -= ulps * ULP
            found: list[tuple[float, float]] = []

            def observe(
                step: int, layers: Layers, found: list[tuple[float, float]] = found
            ) -> None:
                if step in self.marks:
                    pair = Layers(*(p[:2] for p in layers))
                    found.append((_deviation(pair), _loss(layers, problem)))

            two_layer.train(start, problem, optimizer.step, optimizer.start, self.steps, observe)
            deviation, loss = np.array(found).T
            first = 2 * ulps * ULP
            where = {**self.where, "arithmetic": "ordered_float64", "dropout": 0.0, "ulps": ulps,
                     "activation": SMOOTH, "step": self.marks}  # fmt: skip
            bound = self.smooth.bound(FORMATS["float64"].unit_roundoff) / first
            yield rows("growth", deviation / first, self.smooth.growth, **where, bound=bound)
            yield rows("loss", loss, self.smooth.loss, **where)

    def from_zero(self) -> pd.DataFrame:
        """The largest parameter after some steps from zeros."""
        sizes = []
        for arithmetic in FLOATS:
            problem, optimizer = self.data.problem(arithmetic), self._optimizer(arithmetic)
            zeros = _constant(problem, self.width, 0.0)
            ends = two_layer.train(zeros, problem, optimizer.step, optimizer.start, ZERO_STEPS)
            sizes.append(max(float(p.abs().max()) for p in ends))
        return rows("from_zero", sizes, 0.0, **self.where, arithmetic=list(FLOATS), step=ZERO_STEPS)


def _loss(layers: Layers, problem: Problem) -> float:
    """Mean squared error over 2, of all units."""
    return float((two_layer.outputs(layers, problem) - problem.targets).square().mean()) / 2


def _saddle(data: _Data, width: int) -> Iterator[pd.DataFrame]:
    """Eigenvalues of the loss's Hessian where one unit moves by d and another by -d."""
    problem = data.precise()._replace(product=torch.mm)
    start = _constant(problem, width, CONSTANT)

    def loss(d: Tensor) -> Tensor:
        shift = torch.zeros((width, INPUTS + 1), dtype=d.dtype, device=d.device)
        shift = shift.index_add(0, torch.tensor([0, 1], device=d.device), torch.stack([d, -d]))
        moved = Layers(start.weights + shift[:, :-1], start.outgoing + shift[:, -1:])
        gap: Tensor = two_layer.outputs(moved, problem) - problem.targets
        return gap.square().mean() / 2

    still = torch.zeros(INPUTS + 1, dtype=torch.float64, device=data.context.device)
    found: Any = torch.autograd.functional.hessian(loss, still)
    # Both units curve the loss.
    measured = torch.linalg.eigvalsh(found / 2).numpy(force=True)
    told = theory.transverse_hessian(data.told(width, SMOOTH), [CONSTANT] * INPUTS, CONSTANT)
    roundings = 4 * (width + SAMPLES + INPUTS + 16)
    bound = float(gamma(roundings, FORMATS["float64"].unit_roundoff)) * np.linalg.norm(told.size)
    yield rows("transverse_eigenvalue", measured, np.linalg.eigvalsh(told.matrix), width=width,
               activation=SMOOTH, k=np.arange(1, INPUTS + 2), bound=bound)  # fmt: skip


def _noise(data: _Data, width: int) -> Iterator[pd.DataFrame]:
    """One step of Adam on softmax cross-entropy under an output layer of equal weights.

    The gradient of the hidden weights is exactly 0: (p - y) sums to 0 over the classes.
    """
    rate = RATES["adam"]
    labels = torch.arange(SAMPLES, device=data.context.device) % CLASSES
    for arithmetic, (product, dtype) in FLOATS.items():
        problem, u = data.problem(arithmetic), _unit_roundoff(arithmetic)
        weights = _constant(problem, width, CONSTANT).weights
        head = problem.inputs.new_full((width, CLASSES), CONSTANT)
        z = product(problem.inputs, weights.T)
        shares = torch.softmax(product(problem.activation(z), head), dim=1)
        wrong = (shares - functional.one_hot(labels, CLASSES).to(dtype)) / SAMPLES
        gradient = product((product(wrong, head.T) * problem.derivative(z)).T, problem.inputs)
        optimizer = adam(rate)
        moved = optimizer.step(weights, gradient, optimizer.start)[0]
        g = gradient.numpy(force=True).astype(float)
        change = (moved.double() - weights.double()).numpy(force=True)
        told = theory.adam_first_step(g, rate)
        slopes = np.abs(ACTIVATIONS[ACTIVATION].dphi(data.inputs @ np.full(INPUTS, CONSTANT)))
        bound = theory.constant_head_gradient(data.inputs, slopes, CONSTANT, CLASSES, u)
        where: dict[str, Any] = {"width": width, "arithmetic": arithmetic, "activation": ACTIVATION}
        yield rows("noise_gradient", np.abs(g).max(), 0.0, **where, bound=bound)
        at = np.unravel_index(np.abs(change - told).argmax(), change.shape)
        # The gradient's digits are known; what is lost is the sum's rounding and some of the step.
        lost = u * (1 + (CONSTANT + rate) / rate + 8)
        yield rows("noise_move", change[at] / rate, told[at] / rate, **where, bound=lost)
        yield rows("noise_largest_move", np.abs(change).max() / rate, np.abs(told).max() / rate,
                   **where, bound=lost)  # fmt: skip
        apart = np.ptp(change, axis=0).max() / rate
        yield rows("noise_deviation", apart, np.ptp(told, axis=0).max() / rate,
                   **where, bound=2 * lost)  # fmt: skip


def _transformed(data: _Data, width: int) -> Iterator[pd.DataFrame]:
    """How far an output moves when units are permuted, turned around or rescaled."""
    for activation in (ACTIVATION, "relu"):
        for arithmetic in FLOATS:
            problem, u = data.problem(arithmetic, activation), _unit_roundoff(arithmetic)
            draw = data.context.numpy("symmetry", "network", width)
            drawn = torch.tensor(draw.standard_normal((width, INPUTS + 1)))
            layers = Layers(drawn[:, :-1].to(problem.inputs), drawn[:, -1:].to(problem.inputs))
            signs = torch.tensor(draw.choice([-1.0, 1.0], (width, 1))).to(problem.inputs)
            powers = torch.tensor(2.0 ** draw.integers(-8, 9, (width, 1))).to(problem.inputs)
            scales = torch.tensor(np.exp(draw.standard_normal((width, 1)))).to(problem.inputs)
            order = torch.tensor(draw.permutation(width), device=problem.inputs.device)
            changes = {"permutation": (Layers(*(p[order] for p in layers)), 0)}
            if activation == ACTIVATION:
                changes["signs"] = (Layers(*(p * signs for p in layers)), 0)
            else:
                w, v = layers
                changes["powers of two"] = (Layers(w * powers, v / powers), 0)
                changes["factors"] = (Layers(w * scales, v / scales), 3)
            size = layers.weights.abs() @ problem.inputs.abs().T
            size = (layers.outgoing.abs().T @ size).T
            before = two_layer.outputs(layers, problem)
            for name, (changed, transformed) in changes.items():
                gap = (two_layer.outputs(changed, problem) - before).abs() / size
                exact = name in ("signs", "powers of two")
                bound = theory.output_difference(width, INPUTS, u, transformed)
                yield rows("output_gap", float(gap.max()), 0.0, width=width, arithmetic=arithmetic,
                           activation=activation, transformation=name,
                           bound=0.0 if exact else bound)  # fmt: skip


def _equivalents(data: _Data) -> Iterator[pd.DataFrame]:
    """Distinct networks of the same function, among all permutations and signs of the units."""
    problem = data.problem("fractions")
    for units in range(1, ORBIT + 1):
        numbers = data.context.numpy("symmetry", "orbit", units).permutation(64) + 1
        flat = _exact(numbers[: units * (INPUTS + 1)].reshape(units, INPUTS + 1)) / 8
        wanted, same = None, set()
        for order in itertools.permutations(range(units)):
            for signs in itertools.product((1, -1), repeat=units):
                moved = flat[list(order)] * np.array(signs, dtype=object)[:, None]
                found = two_layer.outputs(Layers(moved[:, :-1], moved[:, -1:]), problem)
                wanted = found if wanted is None else wanted
                if (found == wanted).all():
                    same.add(tuple(moved.ravel()))
        yield rows("equivalent_networks", len(same), theory.equivalent_networks(units),
                   arithmetic="fractions", activation=ACTIVATION, units=units)  # fmt: skip


def _without_dropout(part: pd.DataFrame) -> pd.DataFrame:
    return part[(part["dropout"] == 0).fillna(False).astype(bool)]


def _grown(table: pd.DataFrame) -> pd.DataFrame:
    """Growth from one unit in the last place, with what two of them became."""
    keys = ["width", "optimizer", "step"]
    growth = select(table, "growth")
    twice = growth[growth["ulps"] == 2].set_index(keys)["measured"].rename("twice")
    return growth[growth["ulps"] == 1].join(twice, on=keys)


def _claims(table: pd.DataFrame) -> Iterator[Claim]:
    deviation, rank = select(table, "deviation"), select(table, "rank")
    equal = _without_dropout(deviation)
    for name, words, source in (
        ("fractions", "In exact arithmetic (fractions) hidden units that start equal stay equal "
         "under every optimizer, as equal units have equal gradients. Measured: the largest "
         "difference between two units.", f"Induction over the steps; Adam's root is cut after "
         f"{ROOT_BITS} binary places"),
        ("ordered_float32", "In float32 they stay equal bit for bit, at any width, if every unit "
         "is summed by the same operations in the same order: rounding is not random.",
         "IEEE 754: elementwise operations are functions of their operands"),
    ):  # fmt: skip
        part = equal[equal["arithmetic"] == name]
        if not part.empty:
            yield claims.bounded(f"equal_{name}", words, source, part, allowed=0.0)
    if not equal.empty:
        yield claims.bounded(
            "rank_one", "As long as all n units are equal the hidden layer's weights have rank 1: "
            "n units do the work of one.", "Equal rows; singular values above max(n, D) u sigma_1",
            _without_dropout(rank[rank["arithmetic"].isin(SYMMETRIC)]), allowed=0.0,
        )  # fmt: skip
        drift = equal[~equal["arithmetic"].isin(SYMMETRIC) & (equal["bound"] <= LINEAR)]
        yield claims.bounded(
            "rounding_bound", "A matrix product may sum equal units in different orders, and so "
            "part them: by no more than the rounding error bounds of all steps, each carried on by "
            f"the steps after it, to first order; judged where that is at most {LINEAR:g}. Whether "
            "it parts them at all depends on the machine.",
            "Higham 2002, sec. 3.1; linearised descent",
            drift.assign(predicted=0.0), allowed=drift["bound"],
        )  # fmt: skip
    growth = _grown(table)
    growth = growth[(growth["step"] > 0) & (growth["predicted"] * 2 * ULP <= LINEAR)]
    beyond = 2 * (growth["twice"] - growth["measured"]).abs() + growth["bound"]
    most = growth["predicted"].idxmax()
    top, source = growth.loc[most], "Product of I - rate Hessian across the manifold"
    yield claims.bounded(
        "growth", "Equal units are a saddle of the loss. Two units that start one float32 unit in "
        "the last place above and below the others move apart as linearised descent predicts. "
        "Measured: their difference over that at the start. Allowed: terms of second order, as a "
        "start twice as far apart tells them, and float64's rounding; judged up to a difference of "
        f"{LINEAR:g}.", source, growth, allowed=beyond,
    )  # fmt: skip
    yield claims.bounded(
        "last_place", "They do in exact arithmetic, but one unit in the last place is enough to "
        f"part them: two of {top['width']} units that start so far apart are "
        f"{top['measured']:.4g} times as far apart at step {top['step']} of {top['optimizer']}.",
        source,
        growth.loc[[most]], allowed=beyond.loc[[most]],
        folk="Hidden units that start equal stay equal.",
    )  # fmt: skip
    eigenvalues = select(table, "transverse_eigenvalue")
    yield claims.bounded(
        "hessian", "Where one unit moves by d and another by -d, the loss curves as the Hessian of "
        "one unit's output, weighted by the residuals r, predicts. Measured: its eigenvalues.",
        "[[v sum r phi'' x x^T, a], [a^T, 0]], a = sum r phi' x", eigenvalues,
        allowed=eigenvalues["bound"],
    )  # fmt: skip
    least = eigenvalues[eigenvalues["k"] == 1]
    yield claims.bounded(
        "saddle", "One eigenvalue of that Hessian is negative wherever incoming weights have a "
        "gradient: equal units are no minimum.", "The zero in its corner", least,
        allowed=-least["predicted"] - least["bound"],
    )  # fmt: skip
    dropped = rank[(rank["dropout"] > 0) & rank["predicted"].notna()]
    if not dropped.empty:
        yield claims.bounded(
            "dropout_rank", "Dropout breaks the symmetry: the hidden weights end with full rank.",
            "Every unit sees other samples", dropped, allowed=0.0,
        )  # fmt: skip
    noise = select(table, "noise_gradient")
    yield claims.bounded(
        "zero_gradient", "Under an output layer of equal weights softmax cross-entropy gives the "
        "hidden layer the gradient 0 exactly; in floats it is rounding, below its bound.",
        "sum_k (p_k - y_k) = 0; Higham 2002, sec. 3.1", noise, allowed=noise["bound"],
    )  # fmt: skip
    source = "Kingma & Ba 2015, algorithm 1"
    moves = pd.concat([select(table, f"noise_{name}")
                       for name in ("move", "largest_move", "deviation")])  # fmt: skip
    yield claims.bounded(
        "noise_move", "Adam's first step makes rate g / (|g| + eps) of such a rounding error g, of "
        "other size for other units. Measured: the move of a weight over the rate.", source, moves,
        allowed=moves["bound"],
    )  # fmt: skip
    largest = select(table, "noise_largest_move").nlargest(1, "measured")
    top = largest.iloc[0]
    yield claims.bounded(
        "zero_moves", "Where the gradient is 0 in exact arithmetic, Adam moves a weight by "
        f"{top['measured']:.2g} of the learning rate in {top['arithmetic'].partition('_')[2]}, as "
        "it divides rounding error by its own size. Measured: the largest move over the rate.",
        source, largest, allowed=largest["bound"],
        folk="Where the gradient is zero, no weight moves.",
    )  # fmt: skip
    yield claims.bounded(
        "from_zero", "Weights that all start at 0 stay at 0 in any arithmetic, as every gradient "
        "has a factor 0.",
        "phi(0) = 0 and v = 0", select(table, "from_zero"), allowed=0.0,
    )  # fmt: skip
    gaps = select(table, "output_gap")
    yield claims.bounded(
        "same_function", "Permuting the units, or rescaling ReLU units by positive factors, leaves "
        "the function as it is, up to the rounding of sums; turning the signs of units of an odd "
        "activation, or rescaling ReLU units by powers of two, leaves it bit for bit.",
        "2 gamma_k of the absolute summands, k = n + D + 3 or more", gaps, allowed=gaps["bound"],
    )  # fmt: skip
    yield claims.bounded(
        "equivalent_networks", "A network of n distinct units of an odd activation is one of "
        "n! 2^n networks with the same function, counted by trying all permutations and signs.",
        "Chen, Lu & Hecht-Nielsen 1993",
        select(table, "equivalent_networks").sort_values("measured", ascending=False), allowed=0.0,
    )  # fmt: skip


WORDS = {
    "matmul_float32": "matmul, float32",
    "matmul_float64": "matmul, float64",
    "ordered_float32": "ordered, float32",
    "fractions": "fractions",
}
"""Arithmetics as figures name them."""


def _draw_deviation(table: pd.DataFrame) -> Figure:
    """Deviation by step of the widest network, a row an optimizer, a column a dropout."""
    from stability.plotting import MARKERS, PALETTE, canvas

    data = select(table, "deviation")
    width = data.loc[data["arithmetic"] == "fractions", "width"].max()
    width = data["width"].max() if pd.isna(width) else width
    data = data[data["width"] == width]
    optimizers, dropouts = (list(dict.fromkeys(data[name])) for name in ("optimizer", "dropout"))
    figure, axes = canvas(len(dropouts), len(optimizers), 2.9, sharex=True, sharey=True)
    positive = data["measured"].to_numpy(float)
    positive = positive[(positive > 0) & np.isfinite(positive)]
    floor = 10 ** (math.floor(math.log10(positive.min(initial=1e-17))) - 1)
    top = 3 * positive.max(initial=3.0)
    for (i, optimizer), (j, dropout) in itertools.product(
        enumerate(optimizers), enumerate(dropouts)
    ):
        ax = axes[i, j]
        part = data[(data["optimizer"] == optimizer) & (data["dropout"] == dropout)]
        part = part[part["step"] > 0]
        for at, (arithmetic, label) in enumerate(WORDS.items()):
            mine = part[part["arithmetic"] == arithmetic]
            short = arithmetic == "fractions" and not dropout
            mine = mine[mine["activation"] == ("relu" if short else ACTIVATION)]
            size = 8 if arithmetic == "fractions" else 4
            shown = mine["measured"].clip(lower=floor).to_numpy(float)
            ax.plot(mine["step"], shown, MARKERS[at], color=PALETTE[at], ms=size, label=label,
                    fillstyle="none" if arithmetic == "fractions" else "full")  # fmt: skip
            bound = mine["bound"].to_numpy(float)
            if np.isfinite(bound).any() and arithmetic not in SYMMETRIC:
                drawn = np.where(bound <= top, bound, np.nan)
                ax.plot(mine["step"], drawn, color=PALETTE[at], ls="--", lw=1)
        ax.set(xscale="log", yscale="log", title=f"{optimizer}, dropout {dropout:g}")
        ax.set_ylim(floor / 5, top)
        ticks = [t for t in 10.0 ** np.arange(-15, 2, 5) if t > 3 * floor]
        ax.set_yticks([floor, *ticks], ["exactly 0", *[f"$10^{{{math.log10(t):.0f}}}$"
                                                       for t in ticks]])  # fmt: skip
        ax.minorticks_off()
    for ax in axes[-1]:
        ax.set_xlabel("step")
    figure.supylabel("largest difference between two units", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    kept = data[data["dropout"] == 0]
    said = "; ".join(
        f"{WORDS[name]} {part['measured'].max():.2g}"
        for name, part in kept.groupby("arithmetic", sort=False)
    )
    return Figure(
        "deviation",
        f"Largest difference between any two of {width} hidden units that start equal, by step. "
        "Marks are measured, dashed lines the most that rounding can do to first order. On the "
        "lowest line units are equal bit for bit. In fractions a few steps are drawn, without "
        "dropout of a ReLU network, else softsign. Dropout parts units in every arithmetic.",
        f"Largest difference between units without dropout: {said}.",
        figure,
    )


def _draw_growth(table: pd.DataFrame) -> Figure:
    """What one unit in the last place becomes, and what leaving the saddle does for the loss."""
    from stability.plotting import FAINT, MARKERS, PALETTE, canvas

    growth, loss = _grown(table), select(table, "loss", ulps=1)
    figure, axes = canvas(2, height=3.8)
    ends = list[str]()
    for at, ((width, name), part) in enumerate(growth.groupby(["width", "optimizer"], sort=False)):
        color, mark = PALETTE[at % len(PALETTE)], MARKERS[at % len(MARKERS)]
        label = f"{name}, {width} units"
        part = part[part["step"] > 0]
        ax = axes[0, 0]
        ax.plot(part["step"], 2 * ULP * part["predicted"], color=color, lw=1.2)
        ax.plot(part["step"], 2 * ULP * part["measured"], mark, color=color, ms=4, label=label)
        mine = loss[(loss["width"] == width) & (loss["optimizer"] == name) & (loss["step"] > 0)]
        ratio = mine["measured"] / mine["predicted"]
        axes[0, 1].plot(mine["step"], ratio, f"{mark}-", color=color, ms=4, lw=0.8)
        ends.append(f"{float(ratio.iloc[-1]):.3g}")
    ax = axes[0, 0]
    ax.axhline(LINEAR, color=FAINT, ls="--", lw=1.2, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="step", title="One unit in the last place",
           ylabel="difference between two units")  # fmt: skip
    ax.set_ylim(ULP / 10, 30)
    axes[0, 1].axhline(1.0, color=FAINT, lw=1.2, zorder=0)
    axes[0, 1].set(xscale="log", xlabel="step", title="Off the saddle",
                   ylabel="loss / loss of equal units")  # fmt: skip
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    last = growth[growth["step"] == growth["step"].max()]
    said = "; ".join(
        f"{row['optimizer']} with {row['width']} units {row['measured']:.3g} times (linearised "
        f"{row['predicted']:.3g})"
        for _, row in last.iterrows()
    )
    return Figure(
        "growth",
        "Left: two units start one float32 unit in the last place above and below the others. "
        "Marks are measured in float64, lines the linearised descent, which is judged below the "
        "dashed line; at order one the units have become others. Right: their loss over that of "
        "units which stay equal: off the saddle it falls.",
        f"Growth of the difference by the last step: {said}. Loss over that of equal units: "
        f"{', '.join(ends)}.",
        figure,
    )


def _draw_rank(table: pd.DataFrame) -> Figure:
    """Rank by step and singular values at the end, of the narrowest network."""
    from stability.plotting import MARKERS, PALETTE, canvas

    rank, values = select(table, "rank"), select(table, "singular_value")
    rank = rank[(rank["activation"] == ACTIVATION) & (rank["arithmetic"] != "fractions")]
    width, name = rank["width"].min(), rank["optimizer"].iloc[0]
    rank, values = (part[(part["width"] == width) & (part["optimizer"] == name)]
                    for part in (rank, values))  # fmt: skip
    shown = (rank["dropout"] == 0) | (rank["arithmetic"] == "ordered_float32")
    rank = rank[shown.astype(bool)]
    figure, axes = canvas(2, height=3.6)
    floor = 1e-18
    for at, ((arithmetic, dropout), part) in enumerate(
        rank.groupby(["arithmetic", "dropout"], sort=False)
    ):
        color, mark = PALETTE[at % len(PALETTE)], MARKERS[at % len(MARKERS)]
        label = f"{WORDS[arithmetic]}{f', dropout {dropout:g}' if dropout else ''}"
        part = part[part["step"] > 0]
        axes[0, 0].plot(part["step"], part["measured"], f"{mark}-", color=color, lw=0.8, ms=7 - at,
                        label=label)  # fmt: skip
        mine = values[(values["arithmetic"] == arithmetic) & (values["dropout"] == dropout)]
        axes[0, 1].plot(mine["k"], mine["measured"].clip(lower=floor), f"{mark}-", color=color,
                        ms=4, lw=0.8)  # fmt: skip
    axes[0, 0].set(xscale="log", xlabel="step", ylabel="rank of the hidden weights",
                   title=f"{name}, {width} units")  # fmt: skip
    axes[0, 0].set_yticks(range(1, min(width, INPUTS) + 1))
    axes[0, 1].set(yscale="log", xlabel="k", ylabel="k-th singular value / first",
                   title=f"After {rank['step'].max()} steps")  # fmt: skip
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    ends = rank[rank["step"] == rank["step"].max()]
    said = "; ".join(
        f"{WORDS[row['arithmetic']]} at dropout {row['dropout']:g} {row['measured']:.0f}"
        for _, row in ends.iterrows()
    )
    return Figure(
        "rank",
        "Numerical rank of the hidden weights: singular values above max(n, D) u times the first, "
        "u that of the arithmetic; right, the singular values at the end.",
        f"Rank at the end: {said}.",
        figure,
    )
