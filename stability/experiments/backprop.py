"""Backpropagation by hand: every gradient, what it keeps, what it costs, and how to check it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from stability import claims
from stability.catalogue.activations import ACTIVATIONS, Activation
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import backprop as kernel
from stability.kernels.backprop import Backward, Forward, Network, Parameters
from stability.kernels.memory import Kept, Live
from stability.table import concat, mean_rows, rows, select
from stability.theory import backprop as theory
from stability.theory.floating_point import FORMATS, gamma
from stability.theory.rounding_errors import best_difference, difference_error

DOUBLE, SINGLE = FORMATS["float64"], FORMATS["float32"]
U = DOUBLE.unit_roundoff
LOSSES = {"squared": kernel.SQUARED, "cross_entropy": kernel.CROSS_ENTROPY}
CLASSES = 10
BIAS = 0.1
"""Standard deviation of biases; weights have 1 / sqrt(fan_in)."""
CHECKED = 4
"""Layers up to which every gradient is checked by differences."""
CURVE = (3, 8, 4, True)
"""Depth, width, batch, biases of the network whose differences are measured step by step."""
STEPS = 10 ** (-np.arange(2, 25) / 2)
LONGEST = 1e-3
"""The step where the third derivative is 0, so that no step is too long."""
COMPLEX_STEP = 1e-30
ANALYTIC = ("linear", "sigmoid", "tanh", "sin")
"""Activations that torch has for complex arguments."""
_OUTPUT, _INPUT, _STEPWISE = (theory.Saving(0, True), theory.Saving(1, False),
                              theory.Saving(2, False))  # fmt: skip
SAVINGS = {
    "linear": theory.Saving(0, False), "relu": _OUTPUT, "sigmoid": _OUTPUT, "tanh": _OUTPUT,
    "swish": _STEPWISE, "softsign": _STEPWISE,
}  # fmt: skip
"""What torch keeps for an activation's derivative; its input where not named."""
EXAMPLE: dict[str, list[float]] = {
    "x": [1, 2], "W1": [1, -1, 0.5, 0.5], "W2": [1, 2], "y": [1],
    "z": [-1, 1.5], "h": [0, 1.5], "o": [3], "L": [2], "s": [0.375], "J": [2.375],
}  # fmt: skip
"""A ReLU network with decay 0.1 and half the squared error, worked out on paper."""
EXAMPLE_GRADIENTS: dict[str, list[float]] = {
    "W1": [0.1, -0.1, 4.05, 8.05], "W2": [0.1, 3.2], "z": [0, 4], "h": [2, 4], "o": [2],
}  # fmt: skip
GRAPH = {
    "z": ("×", ("x", "W1")), "h": ("φ", ("z",)), "o": ("×", ("h", "W2")), "L": ("l", ("o", "y")),
    "s": ("‖·‖²", ("W1", "W2")), "J": ("+", ("L", "s")),
}  # fmt: skip
"""What each value of D2L's figure 5.3.1 is computed from, and by what."""


Record = tuple[str, dict[str, Any]]
"""A quantity, and the columns of its row."""
Records = Iterator[Record]


class _Cell(NamedTuple):
    """The factors of one network."""

    loss: str
    activation: str
    depth: int
    width: int
    batch: int
    bias: bool

    @property
    def widths(self) -> list[int]:
        return [self.width] * self.depth + [CLASSES]


@dataclass(frozen=True)
class Backprop(Experiment):
    """Gradients by hand are autograd's to rounding; memory and operations are those of shapes."""

    title: ClassVar[str] = "Backpropagation by hand"
    question: ClassVar[str] = (
        "How exact are gradients by hand, by autograd and by differences, and what do they cost?"
    )

    loss: list[str] = field(default_factory=lambda: ["squared"])
    activation: list[str] = field(default_factory=lambda: ["tanh"])
    depth: list[int] = field(default_factory=lambda: [2])
    width: list[int] = field(default_factory=lambda: [4])
    batch: list[int] = field(default_factory=lambda: [3])
    bias: list[bool] = field(default_factory=lambda: [True])
    decay: float = 0.1
    replicates: int = 4

    def __post_init__(self) -> None:
        for name in _Cell._fields:
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.loss:
            check_choice("experiment.loss", name, LOSSES)
        for name in self.activation:
            check_choice("experiment.activation", name, ACTIVATIONS)
        for name in ("depth", "width", "batch"):
            for value in getattr(self, name):
                check_range(f"experiment.{name}", value, at_least=1)
        check_range("experiment.decay", self.decay, at_least=0, at_most=1e6)
        check_range("experiment.replicates", self.replicates, at_least=2)

    def memory(self) -> int:
        """Of one network's parameters, states and their bounds, and of the curve's networks."""
        width = max(*self.width, CLASSES)
        network = max(self.depth) * (width**2 + max(self.batch) * width)
        return 8 * (130 * network + 2**11 * len(STEPS) * self.replicates)

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: those of the network, tensor, layer, method, step; node, source, target."""
        names = list(itertools.product(*(getattr(self, name) for name in _Cell._fields)))
        curves = list(itertools.product(self.loss, self.activation))
        records = list[Record]()
        total = len(names) + len(curves)
        for done, values in enumerate(names):
            cell = _Cell(*values)
            records += _measure(_Problem(context, cell, self.decay))
            context.progress((done + 1) / total)
        frames = [*_example(context.device), *_frames(records)]
        for done, (loss, activation) in enumerate(curves):
            cell = _Cell(loss, activation, *CURVE)
            frames += _curve(_Problem(context, cell, self.decay), self.replicates)
            context.progress((len(names) + done + 1) / total)
        return concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Gradients and their checks, second derivatives, memory, operations."""
        return list(_claims(table))

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """The largest error by hand, of differences, and what a pass costs."""
        errors = select(table, "gradient_error", method="autograd")["measured"]
        pieces = [f"Gradients by hand are autograd's to {errors.max():.2g} of their largest entry"]
        differences = _judged(select(table, "difference_error"))["measured"]
        if not differences.empty:
            pieces.append(
                f"central differences at their best step miss them by {differences.max():.2g}"
            )
        plain = select(table, "gradient_flops", method="by hand")
        ratio = _relative(select(table, "hessian_vector_flops"), plain)["measured"].max()
        pieces.append(
            f"a gradient and a Hessian-vector product together take at most {ratio:.2f} times the "
            "operations of the gradient"
        )
        return "; ".join(pieces) + "."

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The graph, the errors, the costs."""
        return [_draw_graph(table), _draw_errors(table), _draw_costs(table)]


class _Problem:
    """One network with its data in float64, drawn by the values of its sizes."""

    def __init__(self, context: Context, cell: _Cell, decay: float) -> None:
        self.context, self.cell, self.decay = context, cell, decay
        self.entry: Activation = ACTIVATIONS[cell.activation]
        self.inputs = self.normal("inputs", cell.batch, cell.width)
        source = context.generator("backprop", "labels", cell.batch)
        labels = torch.randint(CLASSES, (cell.batch,), generator=source, device=context.device)
        self.target = functional.one_hot(labels, CLASSES).double()
        weights, biases = self._draws("network")
        # Numbers of float32, so that float32 starts from the same network.
        self.parameters = Parameters(
            [(w / math.sqrt(len(w))).float().double() for w in weights],
            [(BIAS * b).float().double() for b in biases],
        )

    def record(
        self, quantity: str, measured: float, predicted: float, **factors: str | float
    ) -> Record:
        """One row of the table, with the factors of the network."""
        return quantity, {"measured": measured, "predicted": predicted, **self.cell._asdict(),
                          **factors}  # fmt: skip

    @property
    def network(self) -> Network:
        """The hand-written network."""
        entry = self.entry
        return Network(self.parameters, entry.forward, entry.derivative, entry.second_derivative,
                       LOSSES[self.cell.loss], self.decay)  # fmt: skip

    def narrow(self) -> Network:
        """The same network in float32."""
        return self.network._replace(
            parameters=Parameters(*([t.float() for t in group] for group in self.parameters))
        )

    def normal(self, *key: str | int) -> Tensor:
        """A (m, n) tensor of unit normals, float32 numbers, named by ``key`` = (..., m, n)."""
        source = self.context.generator("backprop", *key)
        shape = [int(size) for size in key[-2:]]
        return torch.randn(shape, generator=source, device=self.context.device).double()

    def _draws(self, name: str) -> Parameters:
        fans = list(itertools.pairwise(self.cell.widths))
        weights = [self.normal(name, layer, *fan) for layer, fan in enumerate(fans)]
        biases = [self.normal(name, "bias", layer, 1, n) for layer, (_, n) in enumerate(fans)]
        return Parameters(weights, biases if self.cell.bias else [])

    def direction(self, replicate: int) -> Parameters:
        """A direction in parameter space of length 1."""
        drawn = self._draws(f"direction {replicate}")
        length = math.sqrt(sum(float(t.square().sum()) for t in _flat(drawn)))
        return Parameters(*([t / length for t in group] for group in drawn))

    def moved(self, direction: Parameters, by: Any) -> Network:
        """The network at parameters + by * direction; ``by``: number or (..., 1, 1) tensor."""
        return self.network._replace(parameters=_plus(self.parameters, direction, by))

    def theory(self, direction: Parameters, u: float) -> theory.Passes:
        """The same passes in numpy, with bounds at the unit roundoff ``u``."""
        arrays = [[t.numpy(force=True) for t in group] for group in (*self.parameters, *direction)]
        functions = self.entry.phi, self.entry.dphi, self.entry.d2phi
        return theory.passes(
            self.inputs.numpy(force=True), self.target.numpy(force=True), arrays[0], arrays[1],
            (arrays[2], arrays[3]), functions, self.cell.loss, self.decay, u,
        )  # fmt: skip

    def sides(self, states: Sequence[Tensor]) -> Tensor:
        """On which side of the activation's bends each hidden z^l (..., b, n) lies, flattened."""
        bends = _bends(self.cell.activation) or (math.inf,)
        found = [(z > bend).flatten(-2) for z in states for bend in bends]
        return torch.cat(found, -1) if found else torch.zeros(1, dtype=torch.bool)


def _frames(records: Sequence[Record]) -> Iterator[pd.DataFrame]:
    """The rows of each quantity, column by column."""
    for quantity in dict.fromkeys(name for name, _ in records):
        found = [row for name, row in records if name == quantity]
        yield rows(quantity, **{key: [row[key] for row in found] for key in found[0]})


def _flat(parameters: Parameters) -> list[Tensor]:
    return [*parameters.weights, *parameters.biases]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def _sizes(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The sum of the magnitudes of all products of entries."""
    return sum(float((a * b).abs().sum()) for a, b in zip(one, other, strict=True))


def _array(tensor: Tensor) -> Any:
    return tensor.numpy(force=True)


def _bends(activation: str) -> tuple[float, ...]:
    """Where the first or second derivative jumps: kinks, and 0 if the second one does there."""
    entry = ACTIVATIONS[activation]
    low, high = entry.d2phi(np.array([-1e-9, 1e-9]))
    return (*entry.kinks, *([0.0] if abs(high - low) > 1e-3 else []))


class _Graph(NamedTuple):
    """Intermediates and J under autograd."""

    z: list[Tensor]
    h: list[Tensor]
    objective: Tensor


def _by_torch(problem: _Problem, leaves: Parameters) -> _Graph:
    """The network as torch's users write it."""
    z, h = list[Tensor](), [problem.inputs]
    for layer, weight in enumerate(leaves.weights):
        if layer:
            h.append(problem.entry.forward(z[-1]))
        bias = leaves.biases[layer][0] if leaves.biases else None
        z.append(functional.linear(h[-1], weight.T, bias))
    return _Graph(z, h[1:], _torch_objective(problem, leaves, z[-1]))


def _torch_objective(problem: _Problem, leaves: Parameters, output: Tensor) -> Tensor:
    if problem.cell.loss == "squared":
        fit = 0.5 * functional.mse_loss(output, problem.target, reduction="sum") / len(output)
    else:
        fit = functional.cross_entropy(output, problem.target)
    squares = torch.stack([weight.square().sum() for weight in leaves.weights])
    objective: Tensor = fit + problem.decay / 2 * squares.sum()
    return objective


def _leaves(problem: _Problem) -> Parameters:
    return Parameters(
        *([t.clone().requires_grad_() for t in group] for group in problem.parameters)
    )


def _measure(problem: _Problem) -> Records:
    """All rows of one network."""
    ways = problem.direction(0), problem.direction(1)
    bounds = [problem.theory(way, U) for way in ways]
    passed = kernel.forward(problem.network, problem.inputs, problem.target)
    gradients = kernel.backward(problem.network, passed, problem.target)
    leaves = _leaves(problem)
    graph = _by_torch(problem, leaves)
    wanted = [*_flat(leaves), *graph.z, *graph.h]
    found = torch.autograd.grad(graph.objective, wanted, create_graph=True)
    yield from _gradient_rows(problem, gradients, found, bounds[0])
    if problem.cell.depth <= CHECKED:
        yield from _difference_rows(problem, passed, gradients, bounds[0])
    yield from _hessian_rows(problem, passed, gradients, (leaves, found), ways, bounds)
    yield from _memory_rows(problem, passed)
    yield from _flop_rows(problem, ways[0])


def _named(
    z: Sequence[Any], h: Sequence[Any], weights: Sequence[Any], biases: Sequence[Any]
) -> Iterator[tuple[str, int, Any]]:
    """(tensor, layer, item) for what belongs to z^1..z^L, h^1..h^(L-1), W^1..W^L and b^1..b^L."""
    for name, items in (("z", z), ("h", h), ("W", weights), ("b", biases)):
        for layer, item in enumerate(items, 1):
            yield "o" if name == "z" and layer == len(z) else name, layer, item


def _gradient_rows(
    problem: _Problem, gradients: Backward, found: Sequence[Tensor], bounds: theory.Passes
) -> Records:
    """Every gradient by hand against autograd's, and in float32 against float64."""
    depth, start = problem.cell.depth, len(_flat(problem.parameters))
    by_torch = _named(found[start : start + depth], found[start + depth :],
                      found[:depth], found[depth:start])  # fmt: skip
    narrow = problem.narrow()
    single = kernel.backward(
        narrow, kernel.forward(narrow, problem.inputs.float(), problem.target.float()),
        problem.target.float(),
    )  # fmt: skip
    wide = problem.theory(problem.direction(0), SINGLE.unit_roundoff)
    columns = zip(
        _named(gradients.z, gradients.h, *gradients.parameters), by_torch,
        _named(single.z, single.h, *single.parameters),
        _named(bounds.z, bounds.h, bounds.weights, bounds.biases),
        _named(wide.z, wide.h, wide.weights, wide.biases), strict=True,
    )  # fmt: skip
    for (tensor, layer, mine), *others in columns:
        theirs, rough, bound, loose = (item for _, _, item in others)
        size = float(mine.abs().max()) or 1.0
        for method, other, allowed, form in (
            ("autograd", theirs, 2 * bound.error, DOUBLE),
            ("float32", rough, loose.error + bound.error, SINGLE),
        ):
            error = float((mine - other.detach().reshape(mine.shape)).abs().max()) / size
            # The bound is blind to underflow.
            lost = size * form.unit_roundoff < form.smallest_normal
            yield problem.record(
                "gradient_error", error, np.nan if lost else 0.0, tensor=tensor, layer=layer,
                method=method, bound=float(allowed.max()) / size,
            )  # fmt: skip


def _derivatives(function: Callable[[Tensor], Tensor], start: Tensor, orders: int) -> list[Tensor]:
    """The first ``orders`` derivatives of ``function`` at ``start``, elementwise, by autograd."""
    t = start.clone().requires_grad_()
    value, found = function(t), list[Tensor]()
    for _ in range(orders):
        if value.requires_grad:
            (value,) = torch.autograd.grad(value.sum(), t, create_graph=True)
        else:
            value = torch.zeros_like(t)
        found.append(value)
    return [value.detach() for value in found]


def _difference_rows(
    problem: _Problem, passed: Forward, gradients: Backward, bounds: theory.Passes
) -> Records:
    """Central differences by every tensor, each along one direction."""
    points = _named(passed.z, passed.h[1:], *problem.parameters)
    slopes = _named(gradients.z, gradients.h, *gradients.parameters)
    errors = _named(bounds.z, bounds.h, bounds.weights, bounds.biases)
    rounding = float(bounds.objective.error)
    for (tensor, layer, point), (_, _, slope), (_, _, bound) in zip(
        points, slopes, errors, strict=True
    ):
        way = problem.normal("way", tensor, layer, *point.shape)
        way = way / torch.linalg.vector_norm(way)
        after = partial(_after, problem, tensor, layer, point, way)
        found, step, allowed = _difference(problem, after, float(passed.objective))
        moved = U * _sizes([point], [slope])
        own = float((np.abs(_array(way)) * bound.error).sum())
        size = float(torch.linalg.vector_norm(slope)) or 1.0
        yield problem.record(
            "difference_error", abs(found - float((slope * way).sum())) / size,
            0.0 if math.isfinite(allowed) else np.nan, tensor=tensor, layer=layer, method="central",
            step=step, bound=(allowed + (rounding + moved) / step + own) / size,
        )  # fmt: skip


def _difference(
    problem: _Problem, after: Callable[[Tensor], Forward], size: float
) -> tuple[float, float, float]:
    """Central difference of J at the best step, that step, and |f'''| h^2 / 6.

    The last is nan where a unit crosses a bend of its activation on the way.
    """
    zero = torch.zeros((), dtype=torch.float64, device=problem.inputs.device)
    truncation = abs(float(_derivatives(lambda t: after(t).objective, zero, 3)[2])) / 6
    step = _step(truncation, U * size)
    ahead, behind = after(zero + step), after(zero - step)
    found = float((ahead.objective - behind.objective) / (2 * step))
    same = torch.equal(problem.sides(ahead.z[:-1]), problem.sides(behind.z[:-1]))
    return found, step, truncation * step**2 if same else math.nan


def _after(
    problem: _Problem, tensor: str, layer: int, point: Tensor, way: Tensor, t: Tensor
) -> Forward:
    """The pass with one tensor moved by t along ``way``, from there on: J but for a constant."""
    network = problem.network
    moved = point + t * way
    weights, biases = (list(group) for group in network.parameters)
    if tensor == "W":
        weights[layer - 1] = moved
    if tensor == "b":
        biases[layer - 1] = moved
    if tensor in "Wb":
        changed = network._replace(parameters=Parameters(weights, biases))
        return kernel.forward(changed, problem.inputs, problem.target)
    if tensor == "o":
        nothing = torch.zeros_like(t)
        return Forward([], [moved], network.loss.value(moved, problem.target), nothing)
    rest = network._replace(parameters=Parameters(weights[layer:], biases[layer:]))
    signal = moved if tensor == "h" else network.phi(moved)
    found = kernel.forward(rest, signal, problem.target)
    return found if tensor == "h" else found._replace(z=[moved, *found.z])


def _hessian_rows(
    problem: _Problem, passed: Forward, gradients: Backward,
    by_torch: tuple[Parameters, Sequence[Tensor]], ways: tuple[Parameters, Parameters],
    bounds: Sequence[theory.Passes],
) -> Records:  # fmt: skip
    """H v by hand against double backward and differences; v . H u against u . H v."""
    leaves, found = by_torch[0], by_torch[1][: len(_flat(problem.parameters))]
    mine = [_flat(kernel.hessian_vector(problem.network, passed, gradients, w)) for w in ways]
    theirs = torch.autograd.grad(found, _flat(leaves), grad_outputs=[
        v.reshape(leaf.shape) for v, leaf in zip(_flat(ways[0]), _flat(leaves), strict=True)
    ])  # fmt: skip
    errors = [[e.error for e in (*b.turned_weights, *b.turned_biases)] for b in bounds]
    largest = max(float(t.abs().max()) for t in mine[0]) or 1.0
    gap = max(float((a - b.reshape(a.shape)).abs().max())
              for a, b in zip(mine[0], theirs, strict=True))  # fmt: skip
    yield problem.record(
        "hessian_error",
        gap / largest,
        0.0,
        method="autograd",
        bound=2 * max(float(e.max()) for e in errors[0]) / largest,
    )
    size = math.sqrt(_dot(mine[0], mine[0])) or 1.0
    one, other = _dot(_flat(ways[1]), mine[0]), _dot(_flat(ways[0]), mine[1])
    summed = float(gamma(sum(t.numel() for t in mine[0]), U))
    slack = [_along(ways[1 - i], errors[i]) for i in (0, 1)]
    allowed = sum(slack) + summed * sum(_sizes(_flat(ways[1 - i]), mine[i]) for i in (0, 1))
    yield problem.record(
        "hessian_symmetry", abs(one - other) / size, 0.0, method="by hand", bound=allowed / size
    )
    if problem.cell.depth <= CHECKED:
        known = one, size, slack[0]
        yield _hessian_difference(problem, gradients, ways, bounds[0], known, mine[1])


def _hessian_difference(
    problem: _Problem, gradients: Backward, ways: tuple[Parameters, Parameters],
    bound: theory.Passes, known: tuple[float, float, float], turned: Sequence[Tensor],
) -> Record:  # fmt: skip
    """u . H v by the central difference of u . gradient along v, at the best step."""
    along, across = ways
    product, size, slack = known

    def slope(t: Tensor) -> Tensor:
        s = torch.zeros_like(t, requires_grad=True)
        base = problem.moved(along, t).parameters
        network = problem.network._replace(parameters=_plus(base, across, s))
        objective = kernel.forward(network, problem.inputs, problem.target).objective
        (found,) = torch.autograd.grad(objective, s, create_graph=True)
        return found

    zero = torch.zeros((), dtype=torch.float64, device=problem.inputs.device)
    truncation = abs(float(_derivatives(slope, zero, 3)[2])) / 6
    flat = _flat(gradients.parameters)
    step = _step(truncation, U * math.sqrt(_dot(flat, flat)))
    ends, states = [], []
    for by in (step, -step):
        network = problem.moved(along, by)
        passed = kernel.forward(network, problem.inputs, problem.target)
        found = kernel.backward(network, passed, problem.target)
        ends.append(_dot(_flat(across), _flat(found.parameters)))
        states.append(problem.sides(passed.z[:-1]))
    moved = U * _sizes(_flat(problem.parameters), turned)
    summed = float(gamma(sum(t.numel() for t in flat), U)) * _sizes(_flat(across), flat)
    allowed = (
        truncation * step**2 + (_along(across, _errors(bound)) + moved + summed) / step + slack
    )
    error = abs((ends[0] - ends[1]) / (2 * step) - product)
    return problem.record(
        "hessian_difference_error",
        error / size,
        0.0 if torch.equal(*states) else np.nan,
        method="central",
        step=step,
        bound=allowed / size,
    )


def _memory_rows(problem: _Problem, passed: Forward) -> Records:
    """Bytes of intermediates: kept by autograd, by hand, with checkpoints; alive in prediction."""
    cell, leaves = problem.cell, _leaves(problem)
    known = [*_flat(leaves), problem.inputs, problem.target]
    saving = SAVINGS.get(cell.activation, _INPUT)
    shape = cell.widths, cell.batch
    plain = Kept(known)
    with plain:
        objective = _by_torch(problem, leaves).objective
    held = [t.untyped_storage() for t in (*passed.z, *passed.h[1:])]
    by_hand = {storage.data_ptr(): storage.nbytes() for storage in held}
    live = Live(known)
    with torch.no_grad(), live:
        _predict(problem, leaves, problem.inputs, range(cell.depth))
    found: list[tuple[str, int, int]] = [
        ("autograd", plain.bytes, theory.kept_bytes(*shape, saving)),
        ("by hand", sum(by_hand.values()),
         theory.kept_bytes(*shape, theory.Saving(int(cell.activation != "linear"), False))),
        ("prediction", live.peak, theory.working_bytes(*shape, saving)),
    ]  # fmt: skip
    del objective
    if cell.depth > 1:
        segmented = Kept(known)
        with segmented:
            _checkpointed(problem, leaves).backward()
        found.append(("checkpoint", segmented.peak, theory.checkpointed_bytes(*shape, saving)))
    for method, measured, predicted in found:
        yield problem.record("kept_bytes", measured, predicted, method=method)


def _predict(problem: _Problem, leaves: Parameters, signal: Tensor, layers: range) -> Tensor:
    """The layers in a row, nothing kept; the last of the network is linear."""
    for layer in layers:
        bias = leaves.biases[layer][0] if leaves.biases else None
        if layer == problem.cell.depth - 1:
            signal = functional.linear(signal, leaves.weights[layer].T, bias)
        else:
            signal = problem.entry.forward(functional.linear(signal, leaves.weights[layer].T, bias))
    return signal


def _checkpointed(problem: _Problem, leaves: Parameters) -> Tensor:
    """J, with every segment of hidden layers recomputed in the backward pass."""
    hidden = problem.cell.depth - 1
    step = theory.checkpoint_segment(hidden)
    signal = problem.inputs
    for start in range(0, hidden, step):
        layers = range(start, min(start + step, hidden))

        def segment(h: Tensor, *flat: Tensor, layers: range = layers) -> Tensor:
            depth = problem.cell.depth
            return _predict(problem, Parameters(flat[:depth], flat[depth:]), h, layers)

        # The parameters are arguments: else the first segment would seem to need no gradient.
        signal = checkpoint(segment, signal, *_flat(leaves), use_reentrant=True)
    output = _predict(problem, leaves, signal, range(hidden, hidden + 1))
    return _torch_objective(problem, leaves, output)


def _flop_rows(problem: _Problem, way: Parameters) -> Records:
    """Operations of matrix products, counted one by one."""
    shape = problem.cell.widths, problem.cell.batch
    leaves = _leaves(problem)
    flat = _flat(leaves)
    gradient = theory.gradient_flops(*shape)
    twice = gradient + theory.hessian_vector_flops(*shape)

    def by_hand(order: int) -> None:
        passed = kernel.forward(problem.network, problem.inputs, problem.target)
        if order:
            found = kernel.backward(problem.network, passed, problem.target)
            if order > 1:
                kernel.hessian_vector(problem.network, passed, found, way)

    def by_torch(order: int) -> None:
        objective = _by_torch(problem, leaves).objective
        if order:
            found = torch.autograd.grad(objective, flat, create_graph=order > 1)
            if order > 1:
                turns = [v.reshape(p.shape) for v, p in zip(_flat(way), flat, strict=True)]
                torch.autograd.grad(found, flat, grad_outputs=turns)

    runs: list[tuple[str, str, int, Callable[[], object]]] = []
    for method, passes in (("by hand", by_hand), ("autograd", by_torch)):
        for order, (what, count) in enumerate(
            (("forward", theory.forward_flops(*shape)), ("gradient", gradient),
             ("hessian_vector", twice))
        ):  # fmt: skip
            runs.append((what, method, count, partial(passes, order)))
    if problem.cell.depth > 1:
        count = theory.checkpointed_flops(*shape)
        runs.append(
            ("gradient", "checkpoint", count, lambda: _checkpointed(problem, leaves).backward())
        )
    for what, method, count, call in runs:
        counter = FlopCounterMode(display=False)
        with counter:
            call()
        yield problem.record(f"{what}_flops", counter.get_total_flops(), count, method=method)


def _plus(parameters: Parameters, direction: Parameters, by: Any) -> Parameters:
    """parameters + by * direction."""
    return Parameters(
        *([p + by * v for p, v in zip(*pair, strict=True)]
          for pair in zip(parameters, direction, strict=True))
    )  # fmt: skip


def _step(truncation: float, noise: float) -> float:
    """The best step of a central difference, ``LONGEST`` at most."""
    if 2 * truncation * LONGEST**3 <= noise:
        return LONGEST
    return best_difference(2, truncation, noise).step


def _rms(values: Any, axis: int = -1) -> Any:
    return np.sqrt(np.mean(np.square(values), axis=axis))


def _curve(problem: _Problem, replicates: int) -> Iterator[pd.DataFrame]:
    """The error of difference quotients against the step, root mean square over directions."""
    factors = {"loss": problem.cell.loss, "activation": problem.cell.activation}
    ways = [problem.direction(replicate) for replicate in range(replicates)]
    along = Parameters(*([torch.stack(ts) for ts in zip(*group, strict=True)]
                         for group in zip(*ways, strict=True)))  # fmt: skip
    passed = kernel.forward(problem.network, problem.inputs, problem.target)
    gradients = kernel.backward(problem.network, passed, problem.target).parameters
    size = math.sqrt(_dot(_flat(gradients), _flat(gradients)))
    slope = np.array([_dot(_flat(gradients), _flat(way)) for way in ways]) / size

    def run(by: Tensor) -> Forward:
        return kernel.forward(problem.moved(along, by), problem.inputs.to(by.dtype), problem.target)

    start = torch.zeros(replicates, dtype=torch.float64, device=problem.inputs.device)
    orders = _derivatives(lambda t: run(t[:, None, None]).objective, start, 5)
    _, second, third, _, fifth = (np.abs(_array(d)) / size for d in orders)
    h = torch.tensor(STEPS, device=start.device)[:, None, None, None]
    ahead, behind = run(h), run(-h)
    here = float(passed.objective)
    high, low = (_array(f.objective) for f in (ahead, behind))
    sides = [problem.sides(f.z[:-1]) for f in (ahead, behind)]
    whole = ~_array((sides[0] != sides[1]).flatten(1).any(1))
    steps = STEPS[:, None]
    bounds = [problem.theory(way, U) for way in ways]
    own = np.array([_along(way, _errors(b)) for way, b in zip(ways, bounds, strict=True)]) / size
    moved = U * _sizes(_flat(problem.parameters), _flat(gradients)) / size
    rounding, noise = float(bounds[0].objective.error) / size, U * abs(here) / size
    central = (high - low) / (2 * steps) / size - slope
    forward = (high - here) / steps / size - slope
    quotients = (
        ("central", 2, central, third / 6, fifth / 60 * steps**4, rounding + moved, noise),
        ("forward", 1, forward, second / 2, third / 3 * steps**2, 2 * rounding + moved, 2 * noise),
    )
    for method, order, errors, share, rest, bound, slip in quotients:
        truncation = max(float(_rms(share)), np.finfo(float).tiny)
        told = difference_error(STEPS, order, truncation, slip)
        allowed = _rms(rest + bound / steps + own) + slip / STEPS
        yield rows("curve_error", _rms(errors), np.where(whole, told, np.nan), **factors,
                   method=method, step=STEPS, bound=allowed, n_samples=replicates)  # fmt: skip
        best = best_difference(order, truncation, slip)
        measured = STEPS[int(np.argmin(_rms(errors)))]
        yield rows("best_step", measured, best.step, **factors, method=method)
        far = best.step / 10 >= STEPS
        if far.sum() > 1:
            logs = np.log10(np.maximum(np.abs(errors[far]), np.finfo(float).tiny))
            slopes = np.polyfit(np.log10(STEPS[far]), logs, 1)[0]
            yield mean_rows("rounding_slope", slopes, -1.0, **factors, method=method)
    if problem.cell.activation in ANALYTIC:
        tiny = torch.full((1, 1, 1), 1j * COMPLEX_STEP, dtype=torch.complex128, device=h.device)
        found = _array(run(tiny).objective.imag)
        doubled = [float(problem.theory(way, 2 * U).tangent.error) for way in ways]
        yield rows("curve_error", _rms(found / COMPLEX_STEP / size - slope), 0.0, **factors,
                   method="complex", step=COMPLEX_STEP, n_samples=replicates,
                   bound=_rms(np.array(doubled) / size + own))  # fmt: skip


def _errors(bounds: theory.Passes) -> list[Any]:
    """Those of the gradient by the parameters."""
    return [item.error for item in (*bounds.weights, *bounds.biases)]


def _along(way: Parameters, errors: Sequence[Any]) -> float:
    """Bound on the error of the product of ``way`` with what errs by no more than ``errors``."""
    return sum(
        float((np.abs(_array(v)) * e).sum()) for v, e in zip(_flat(way), errors, strict=True)
    )


def _example(device: str) -> Iterator[pd.DataFrame]:
    """D2L's network with numbers small enough for paper, and its graph."""

    def matrix(name: str, columns: int) -> Tensor:
        return torch.tensor(EXAMPLE[name], dtype=torch.float64, device=device).view(-1, columns)

    relu = ACTIVATIONS["relu"]
    network = Network(
        Parameters([matrix("W1", 2).T, matrix("W2", 2).T]), relu.forward, relu.derivative,
        relu.second_derivative, kernel.SQUARED, 0.1,
    )  # fmt: skip
    x, y = matrix("x", 2), matrix("y", 1)
    passed = kernel.forward(network, x, y)
    gradients = kernel.backward(network, passed, y)
    weights = network.parameters.weights
    values = {
        "x": x, "W1": weights[0].T, "W2": weights[1].T, "y": y, "z": passed.z[0], "h": passed.h[1],
        "o": passed.z[1], "L": passed.fit, "s": passed.penalty, "J": passed.objective,
    }  # fmt: skip
    slopes = {
        "W1": gradients.parameters.weights[0].T, "W2": gradients.parameters.weights[1].T,
        "z": gradients.z[0], "h": gradients.h[0], "o": gradients.z[1],
    }  # fmt: skip
    for quantity, found, told in (
        ("value", values, EXAMPLE), ("gradient", slopes, EXAMPLE_GRADIENTS)
    ):  # fmt: skip
        for node, tensor in found.items():
            entries = _array(tensor).ravel()
            yield rows(quantity, entries, told[node], node=node, k=np.arange(entries.size))
    for target, (operator, sources) in GRAPH.items():
        for source in sources:
            yield rows("edge", values[source].numel(), len(EXAMPLE[source]), source=source,
                       target=target, operator=operator)  # fmt: skip


BOUNDED = (
    ("by_hand", "gradient_error", "autograd",
     "Every gradient by hand, of outputs, states, weights and biases, is autograd's to the "
     "rounding of both. Measured: the largest error over the largest entry",
     "Running error analysis, Higham 2002, sec. 3.3"),
    ("float32", "gradient_error", "float32",
     "In float32 every gradient is that of float64 to the rounding of float32, as long as none "
     "underflows",
     "Running error analysis, Higham 2002, sec. 3.3"),
    ("differences", "difference_error", "central",
     "Central differences at the best step confirm every gradient to their own error, "
     "|f'''| h^2 / 6 and the rounding of J over h; not where a unit crosses a kink",
     "h = (3 u |f| / |f'''|)^(1/3)"),
    ("central_slope", "curve_error", "central",
     "The error of a central difference is |f'''| h^2 / 6, of slope 2, until rounding over h "
     "takes over. Allowed: twice the next term of Taylor's series and the rounding bound",
     "Taylor's theorem"),
    ("forward_slope", "curve_error", "forward",
     "The error of a one-sided difference is |f''| h / 2, of slope 1, until rounding over h "
     "takes over. Allowed: twice the next term of Taylor's series and the rounding bound",
     "Taylor's theorem"),
    ("complex_step", "curve_error", "complex",
     f"A complex step of {COMPLEX_STEP:g} subtracts nothing: its error is rounding alone",
     "Squire & Trapp 1998; the bound of a forward derivative at 2 u"),
    ("hessian_by_hand", "hessian_error", "autograd",
     "Hessian-vector products by hand, forward over reverse, are those of double backward to the "
     "rounding of both", "Pearlmutter 1994"),
    ("hessian_symmetry", "hessian_symmetry", "by hand",
     "The Hessian H by hand is symmetric: u . H v = v . H u to rounding", "Schwarz's theorem"),
    ("hessian_difference", "hessian_difference_error", "central",
     "Central differences of the gradient confirm Hessian-vector products to their own error",
     "Taylor's theorem"),
)  # fmt: skip
"""Claim, quantity and method, statement, source: errors below the bound in the table."""
COUNTED = (
    ("kept", "kept_bytes", "autograd",
     "For the backward pass of a batch of b, autograd keeps b n numbers of a hidden layer of n "
     "units where the activation's derivative follows from its output (ReLU, sigmoid, tanh), 2 b n "
     "where its input is needed too, and what the loss needs: in proportion to depth and batch, to "
     "the byte. Measured: over the bytes of every preactivation z and activation h",
     "Shapes", "Backpropagation stores every preactivation and every activation."),
    ("kept_by_hand", "kept_bytes", "by hand",
     "The pass by hand keeps z and h of every layer, to the byte", "Shapes", ""),
    ("prediction", "kept_bytes", "prediction",
     "Prediction holds the input, z and h of one layer at a time, whatever the depth, to the byte",
     "Shapes", ""),
    ("checkpoint", "kept_bytes", "checkpoint",
     "With a checkpoint every sqrt(L) layers, no more is kept at a time than the outputs of the "
     "segments between them and the states of one, to the byte", "Chen et al. 2016, sec. 4", ""),
    ("forward_cost", "forward_flops", "by hand, autograd",
     "A forward pass takes F = sum of 2 b n_in n_out operations over its layers, exactly",
     "Shapes", ""),
    ("gradient_cost", "gradient_flops", "by hand, autograd",
     "A gradient takes 3 F - f_1 operations, F those of the forward pass and f_1 of its first "
     "layer, exactly", "Two products a layer backwards, one for the first", ""),
    ("checkpoint_cost", "gradient_flops", "checkpoint",
     "Checkpoints cost one more forward pass of the hidden layers, exactly: less than half of a "
     "gradient's operations. Measured: over those of a gradient without them",
     "Chen et al. 2016, sec. 4", "Checkpointing doubles the cost of training."),
    ("hessian_cost", "hessian_vector_flops", "by hand, autograd",
     "A Hessian-vector product takes 6 F - 4 f_1 operations beside the gradient's 3 F - f_1, by "
     "hand and by double backward, exactly: both together cost at most 3 gradients, whatever the "
     "number of parameters. Measured: both together over the gradient", "Pearlmutter 1994",
     "Second derivatives need the Hessian: one gradient for each parameter."),
)  # fmt: skip
"""Claim, quantity and methods, statement, source, belief: numbers that are exact."""
BESIDE = {"kept": "kept_bytes", "checkpoint_cost": "gradient_flops",
          "hessian_cost": "gradient_flops"}  # fmt: skip
"""Claims that are told as a multiple of what the pass by hand takes of a quantity."""


def _claims(table: pd.DataFrame) -> Iterator[Claim]:
    example = table[table["quantity"].isin(["value", "gradient"])]
    yield claims.bounded(
        "paper_example",
        "Forward and backward pass by hand give the numbers worked out on paper, to 8 u.",
        "D2L, equations 5.3.1 to 5.3.14", example,
        allowed=8 * U * example["predicted"].abs().to_numpy(float),
    )  # fmt: skip
    for name, quantity, method, statement, source in BOUNDED:
        part = _judged(select(table, quantity, method=method))
        if not part.empty:
            yield claims.bounded(
                name, f"{statement}. Judged where the bound is below 1.", source, part,
                allowed=part["bound"].to_numpy(float),
            )  # fmt: skip
    slopes = select(table, "rounding_slope")
    if not slopes.empty:
        yield claims.statistical(
            "rounding_slope", "Below a tenth of the best step h the error of a difference quotient "
            "grows as h shrinks, as 1 / h. Measured: d ln error / d ln h.",
            "Rounding of J over h", slopes, resolution=0.5,
            folk="The smaller the step, the more exact the difference quotient.",
        )  # fmt: skip
    for name, quantity, methods, statement, source, folk in COUNTED:
        part = table[(table["quantity"] == quantity) & table["method"].isin(methods.split(", "))]
        if name in BESIDE:
            part = _relative(part, select(table, BESIDE[name], method="by hand"))
            part = part.sort_values("measured", ascending=name == "kept")
        if not part.empty:
            yield claims.bounded(name, f"{statement}.", source, part, allowed=0.0, folk=folk)


def _judged(part: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a prediction and whose bound leaves a digit."""
    return part[part["predicted"].notna() & (part["bound"] < 1)]


def _relative(part: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    """What is measured and predicted over what is predicted of the same network in ``plain``."""
    both = part.merge(plain, on=list(_Cell._fields), suffixes=("", "_plain"))
    for name in ("measured", "predicted"):
        both[name] /= both["predicted_plain"]
    return both


def _places(edges: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Where the graph's nodes stand: just left of the first that is made of them.

    Weights and the penalty lie above the row, labels below.
    """
    column: dict[str, int] = {}
    for target, source in reversed(list(zip(edges["target"], edges["source"], strict=True))):
        column[source] = min(column.get(source, 0), column.setdefault(target, 0) - 1)
    height = {"W": 1.0, "s": 2.6, "y": -1.0}
    return {name: (float(at), height.get(name[0], 0.0)) for name, at in column.items()}


def _draw_graph(table: pd.DataFrame) -> Figure:
    """The computational graph of the example, values forward and gradients backward."""
    from stability.plotting import FAINT, INK, PALETTE, canvas

    def told(quantity: str, node: str) -> str:
        entries = select(table, quantity, node=node).sort_values("k")["measured"]
        return ", ".join(f"{value:.4g}" for value in entries)

    figure, axes = canvas(height=3.8)
    ax, edges = axes[0, 0], select(table, "edge")
    places = _places(edges)
    line = {"color": PALETTE[7], "lw": 1.2}
    for target, arrows in edges.groupby("target", sort=False):
        x, y = places[str(target)]
        knot = (x - 0.5, y)
        for source in arrows["source"]:
            ax.annotate("", knot, places[source], arrowprops={"arrowstyle": "-", **line})
        ax.annotate("", (x, y), knot, arrowprops={"arrowstyle": "-|>", "shrinkB": 14, **line})
        ax.text(*knot, arrows["operator"].iloc[0], ha="center", va="center", fontsize=10,
                bbox={"boxstyle": "circle,pad=0.25", "fc": FAINT, "ec": INK})  # fmt: skip
    for node, (x, y) in places.items():
        ax.text(x, y, node, ha="center", va="center", fontsize=12,
                bbox={"boxstyle": "square,pad=0.35", "fc": FAINT, "ec": INK})  # fmt: skip
        side, away = ("bottom", 0.26) if y > 0 else ("top", -0.26)
        for row, (quantity, color) in enumerate((("value", PALETTE[0]), ("gradient", PALETTE[1]))):
            at = y + away + (0.24 * (1 - row) if away > 0 else -0.24 * row)
            ax.text(x, at, told(quantity, node), ha="center", va=side, fontsize=9, color=color)
    first = min(x for x, _ in places.values())
    ax.set(xlim=(first - 0.6, 0.6), ylim=(-1.6, 3.2))
    ax.axis("off")
    text = (
        "The computational graph of D2L's figure 5.3.1 (squares: values; circles: operations) with "
        "the numbers of the example, matrices row by row: values in blue, the gradient of J by "
        "each in orange"
    )
    total = select(table, "value", node="J")["measured"].iloc[0]
    return Figure("graph", f"{text}.", f"{text}. J = {total:g}.", figure)


def _draw_errors(table: pd.DataFrame) -> Figure:
    """The U of difference quotients; errors of gradients against depth."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(2, height=3.9)
    curve, depths = axes.flat
    part = select(table, "curve_error")
    loss, activation = part.iloc[0][["loss", "activation"]]
    part = select(part, "curve_error", loss=loss, activation=activation)
    for index, method in enumerate(("central", "forward")):
        mine = select(part, "curve_error", method=method)
        curve.plot(mine["step"], mine["predicted"], color=PALETTE[index])
        curve.plot(mine["step"], mine["measured"], MARKERS[index], color=PALETTE[index],
                   label=method)  # fmt: skip
    single = select(part, "curve_error", method="complex")
    if not single.empty:
        curve.axhline(single["measured"].iloc[0], color=PALETTE[2], ls="--",
                      label=f"complex, h = {COMPLEX_STEP:g}")  # fmt: skip
    curve.set(xscale="log", yscale="log", xlabel="step h", ylabel="error / |gradient|",
              title=f"Differences: {activation}, {loss.replace('_', ' ')}")  # fmt: skip
    curve.legend(loc="upper center")
    for index, (quantity, method, label) in enumerate((
        ("gradient_error", "autograd", "gradient by hand"),
        ("gradient_error", "float32", "gradient in float32"),
        ("hessian_error", "autograd", "H v by hand"),
        ("difference_error", "central", "central difference"),
    )):  # fmt: skip
        mine = _judged(select(table, quantity, method=method))
        worst = mine.groupby("depth")[["measured", "bound"]].max()
        worst = worst[worst["measured"] > 0]
        depths.plot(worst.index, worst["measured"], MARKERS[index] + "-", color=PALETTE[index],
                    label=label)  # fmt: skip
        depths.plot(worst.index, worst["bound"], ":", color=PALETTE[index])
    depths.set(xscale="log", yscale="log", xlabel="layers", ylabel="largest relative error",
               title="Gradients (dotted: bounds)")  # fmt: skip
    _ticks(depths, table["depth"])
    figure.legend(*depths.get_legend_handles_labels(), loc="outside lower right", ncols=4)
    largest = select(table, "gradient_error", method="autograd")["measured"].max()
    text = (
        "Left: error of difference quotients, root mean square over directions; lines: predicted "
        "from the derivatives and u |J| / h. Right: the largest error of all networks of a depth "
        "and the largest bound (dotted) where it is below 1"
    )
    alt = f"{text}; by hand against autograd at most {largest:.2g}."
    return Figure("errors", f"{text}.", alt, figure)


def _ticks(ax: Any, values: pd.Series) -> None:
    """The factor's own values on a logarithmic x axis."""
    ticks = sorted(values.dropna().unique())
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()


def _draw_costs(table: pd.DataFrame) -> Figure:
    """Bytes by depth and by batch, operations by depth."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(3, height=3.6)
    kept = select(table, "kept_bytes")
    fixed = {name: kept[name].iloc[0] for name in ("loss", "activation", "width", "bias")}
    kept = select(kept, "kept_bytes", **fixed)
    for ax, axis, other in ((axes[0, 0], "depth", "batch"), (axes[0, 1], "batch", "depth")):
        for index, method in enumerate(("autograd", "by hand", "checkpoint", "prediction")):
            mine = select(kept, "kept_bytes", method=method, **{other: kept[other].max()})
            mine = mine.sort_values(axis)
            ax.plot(mine[axis], mine["predicted"] / 1024, color=PALETTE[index])
            ax.plot(mine[axis], mine["measured"] / 1024, MARKERS[index], color=PALETTE[index],
                    label=method)  # fmt: skip
        ax.set(xscale="log", yscale="log", ylabel="intermediates, KiB")
        _ticks(ax, kept[axis])
    axes[0, 0].set(xlabel="layers", title=f"{fixed['activation']}, batch {kept['batch'].max()}")
    axes[0, 1].set(xlabel="batch", title=f"{fixed['activation']}, {kept['depth'].max()} layers")
    ax, plain = axes[0, 2], select(table, "gradient_flops", method="by hand")
    for index, (quantity, method, label_) in enumerate((
        ("hessian_vector_flops", "by hand", "gradient and H v"),
        ("gradient_flops", "checkpoint", "gradient, checkpoints"),
        ("forward_flops", "by hand", "forward"),
    ), 4):  # fmt: skip
        mine = _relative(select(table, quantity, method=method, **fixed), plain)
        mine = mine.drop_duplicates("depth").sort_values("depth")
        ax.plot(mine["depth"], mine["predicted"], color=PALETTE[index])
        ax.plot(mine["depth"], mine["measured"], MARKERS[index], color=PALETTE[index],
                label=label_)  # fmt: skip
    ax.set(xscale="log", xlabel="layers", ylabel="operations / a gradient's", ylim=(0, 3.3),
           title="Operations")  # fmt: skip
    _ticks(ax, table["depth"])
    left, right = (a.get_legend_handles_labels() for a in (axes[0, 0], ax))
    figure.legend(left[0] + right[0], left[1] + right[1], loc="outside lower center", ncols=4)
    text = (
        f"Bytes of intermediates at width {fixed['width']}, kept for the backward pass or alive in "
        "prediction, and operations of the matrix products beside those of a gradient; lines: "
        "predicted from the shapes"
    )
    most = select(kept, "kept_bytes", method="autograd")["measured"].max() / 1024
    return Figure("costs", f"{text}.", f"{text}; at most {most:.4g} KiB.", figure)
