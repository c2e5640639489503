"""Shapes to bytes and operations by counting; error bounds against exact arithmetic."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from exact import EXACT
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.theory import backprop as theory
from stability.theory.backprop import Rounded, Saving

U, NARROW = 2.0**-53, 2.0**-24
OUTPUT, INPUT, STEPWISE = Saving(0, True), Saving(1, False), Saving(2, False)
SHAPES = [((3, 5), 2), ((3, 4, 5), 7), ((6, 6, 6, 6, 2), 1), ((9, 2, 8, 3, 7, 5, 4, 1), 3)]


class Counter:
    """A matrix of a shape alone, which counts what products cost."""

    total = 0

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = rows, columns

    @property
    def T(self) -> "Counter":
        return Counter(*self.shape[::-1])

    def __matmul__(self, other: "Counter") -> "Counter":
        assert self.shape[1] == other.shape[0]
        Counter.total += 2 * self.shape[0] * self.shape[1] * other.shape[1]
        return Counter(self.shape[0], other.shape[1])


def counted(what: str, widths: Sequence[int], batch: int) -> int:
    """The products of the passes one by one."""
    weights = [Counter(*pair) for pair in pairwise(widths)]
    Counter.total = 0
    h = [Counter(batch, widths[0])]
    for weight in weights:
        h.append(h[-1] @ weight)
    if what == "checkpointed":
        for layer, weight in enumerate(weights[:-1]):
            h[layer] @ weight
    if what == "forward":
        return Counter.total
    delta = Counter(batch, widths[-1])
    for layer in reversed(range(len(weights))):
        h[layer].T @ delta
        delta = delta @ weights[layer].T if layer else delta
    if what != "hessian":
        return Counter.total
    Counter.total = 0
    for layer, weight in enumerate(weights):  # tangents of z = h W: h V and Rh W
        h[layer] @ weight
        if layer:
            h[layer] @ weight
    for layer in reversed(range(len(weights))):  # of h^T d: h^T Rd and Rh^T d; of d W^T likewise
        tangent = Counter(batch, widths[layer + 1])
        h[layer].T @ tangent
        if layer:
            h[layer].T @ tangent
            tangent @ weights[layer].T
            tangent @ weights[layer].T
    return Counter.total


def miscounted(function: Callable[[Sequence[int], int], int], what: str) -> Callable[[], float]:
    return lambda: float(any(function(*shape) != counted(what, *shape) for shape in SHAPES))


def tensors(widths: Sequence[int], saving: Saving) -> list[list[tuple[str, int]]]:
    """What each hidden layer's product and activation save, by name and width."""
    found = []
    for layer, n in enumerate(widths[1:-1], 1):
        saved = [(f"h{layer - 1}", widths[layer - 1])] if layer > 1 else []
        saved += [(f"z{layer}.{k}", n) for k in range(saving.inputs)]
        found.append(saved + ([(f"h{layer}", n)] if saving.output else []))
    return found


def saved_items(widths: Sequence[int], saving: Saving) -> int:
    every = {item for layer in tensors(widths, saving) for item in layer}
    if len(widths) > 2:
        every.add((f"h{len(widths) - 2}", widths[-2]))
    return sum(n for _, n in every) + widths[-1]


def checkpoint_items(widths: Sequence[int], saving: Saving) -> int:
    """The most names alive, step by step through forward and recomputation."""
    layers = tensors(widths, saving)
    step = int(np.ceil(np.sqrt(len(layers))))
    starts = range(0, len(layers), step)
    inputs = {start: (f"h{start}", widths[start]) for start in starts if start}
    last = (f"h{len(layers)}", widths[-2])
    most = sum(n for _, n in {*inputs.values(), last}) + widths[-1]
    for start in reversed(starts):
        held = {item for at, item in inputs.items() if at <= start}
        # The segment's own copy of what it puts out is a tensor of its own.
        own = {item for layer in layers[start : start + step] for item in layer}
        most = max(most, sum(n for _, n in held | own))
    return most


def misremembered(which: str) -> Callable[[], float]:
    def wrong() -> float:
        found = False
        for widths, batch in SHAPES:
            for saving in (OUTPUT, INPUT, STEPWISE):
                if which == "kept":
                    told = theory.kept_bytes(widths, batch, saving, 4)
                    found |= told != 4 * batch * saved_items(widths, saving)
                elif len(widths) > 2:
                    told = theory.checkpointed_bytes(widths, batch, saving, 4)
                    found |= told != 4 * batch * checkpoint_items(widths, saving)
        return float(found)

    return wrong


def misworked() -> float:
    """By hand: input, z and h of the widest pair; one layer alone needs its output only."""
    told = [
        theory.working_bytes((3, 5), 2, INPUT), theory.working_bytes((3, 4, 5), 7, OUTPUT),
        theory.working_bytes((6, 6, 6, 6, 2), 1, INPUT),
        theory.working_bytes((6, 6, 6, 6, 2), 1, STEPWISE),
        theory.working_bytes((6, 6, 6, 6, 2), 1, Saving(0, False)),
        theory.working_bytes((2, 3, 9, 1), 1, INPUT),
    ]  # fmt: skip
    return float(told != [8 * 2 * 5, 8 * 7 * 9, 8 * 18, 8 * 24, 8 * 12, 8 * (3 + 18)])


# The passes against 40-digit arithmetic.

WIDTHS, BATCH, DECAY = (3, 4, 5, 3), 4, 0.25
NAMES = ("tanh", "gelu", "relu", "softplus")


def draw(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32).astype(float)

    pairs = list(pairwise(WIDTHS))
    return {
        "inputs": normal(BATCH, WIDTHS[0]),
        "target": np.eye(WIDTHS[-1])[rng.integers(0, WIDTHS[-1], BATCH)],
        "weights": [normal(*pair) for pair in pairs],
        "biases": [normal(1, n) for _, n in pairs],
        "directions": ([normal(*pair) for pair in pairs], [normal(1, n) for _, n in pairs]),
    }  # fmt: skip


def objective(drawn: dict[str, Any], name: str, loss: str, s: Any, move: Any = None) -> Any:
    """J in mpmath with the parameters moved by s along the direction, and one entry by ``move``."""
    groups = [drawn["weights"], drawn["biases"]]
    moved = []
    for which, group in enumerate(groups):
        for layer, array in enumerate(group):
            entries = [[mp.mpf(x) for x in row] for row in array]
            for i, j in np.ndindex(array.shape):
                entries[i][j] += s * mp.mpf(drawn["directions"][which][layer][i, j])
            if move and move[:2] == (which, layer):
                entries[move[2]][move[3]] += move[4]
            moved.append(mp.matrix(entries))
    h, phi, layers = mp.matrix(drawn["inputs"].tolist()), EXACT[name][0], len(groups[0])
    for layer in range(layers):
        z = h * moved[layer]
        for i, j in np.ndindex(z.rows, z.cols):
            z[i, j] += moved[layers + layer][0, j]
        h = z if layer == layers - 1 else z.apply(phi)
    total = mp.mpf(0)
    for i in range(BATCH):
        row, y = h[i, :], [mp.mpf(v) for v in drawn["target"][i]]
        if loss == "squared":
            total += sum((o - t) ** 2 for o, t in zip(row, y, strict=True)) / 2
        else:
            total += mp.log(sum(mp.exp(o) for o in row)) - sum(
                o * t for o, t in zip(row, y, strict=True)
            )
    squares = sum(x**2 for matrix in moved[:layers] for x in matrix)
    return total / BATCH + mp.mpf(DECAY) / 2 * squares


PICKED = [(0, 0, 1, 2), (0, 1, 3, 0), (0, 2, 4, 1), (1, 0, 0, 3), (1, 2, 0, 2)]
"""(group, layer, row, column) of the parameters whose derivatives are checked."""


@cache
def truth(name: str, loss: str) -> tuple[float, float, list[float], list[float]]:
    """J, its slope along the direction, and the picked entries of gradient and H v."""
    drawn = draw(5)
    with mp.workdps(50):
        step = mp.mpf(10) ** -12

        def slope(pick: Any, s: Any) -> Any:
            ends = [objective(drawn, name, loss, s, (*pick, e)) for e in (step, -step)]
            return (ends[0] - ends[1]) / (2 * step)

        along = [objective(drawn, name, loss, s) for s in (step, -step)]
        gradient = [float(slope(pick, mp.mpf(0))) for pick in PICKED]
        turned = [float((slope(p, step) - slope(p, -step)) / (2 * step)) for p in PICKED]
        here = float(objective(drawn, name, loss, mp.mpf(0)))
    return here, float((along[0] - along[1]) / (2 * step)), gradient, turned


def told(name: str, loss: str, u: float) -> theory.Passes:
    functions = [
        np.vectorize(lambda x, f=f: float(f(mp.mpf(x))), otypes=[float]) for f in EXACT[name]
    ]
    phi, slope, bend = functions
    return theory.passes(**draw(5), functions=(phi, slope, bend), loss=loss, decay=DECAY, u=u)


def picked(found: theory.Passes, turned: bool) -> list[tuple[float, float]]:
    """(value, bound) of the picked entries."""
    groups = (
        (found.turned_weights, found.turned_biases) if turned else (found.weights, found.biases)
    )
    items = [(groups[g][layer], (i, j)) for g, layer, i, j in PICKED]
    return [(float(item.value[at]), float(item.error[at])) for item, at in items]


def worst_passes() -> float:
    """Largest relative error of J, its slope, gradients and H v; the differences' own is 1e-22."""
    errors = []
    for name in NAMES:
        for loss in theory.LOSSES:
            here, along, gradient, turned = truth(name, loss)
            found = told(name, loss, U)
            pairs = [(float(found.objective.value), here), (float(found.tangent.value), along)]
            pairs += [(a, b) for (a, _), b in zip(picked(found, False), gradient, strict=True)]
            pairs += [(a, b) for (a, _), b in zip(picked(found, True), turned, strict=True)]
            errors += [abs(a - b) / max(1.0, abs(b)) for a, b in pairs]
    return max(errors)


ACCURACY = [
    Case("backprop.forward_flops", "operations of a forward pass", "2 b m n a product",
         "1 to 7 layers", "products counted one by one", 0.0,
         miscounted(theory.forward_flops, "forward")),
    Case("backprop.gradient_flops", "operations of a gradient", "3 F - f_1", "1 to 7 layers",
         "products counted one by one", 0.0, miscounted(theory.gradient_flops, "gradient")),
    Case("backprop.hessian_vector_flops", "operations of a Hessian-vector product",
         "Pearlmutter 1994; 6 F - 4 f_1", "1 to 7 layers", "products counted one by one", 0.0,
         miscounted(theory.hessian_vector_flops, "hessian")),
    Case("backprop.checkpointed_flops", "operations of a gradient with checkpoints",
         "4 F - f_1 - f_L", "1 to 7 layers", "products counted one by one", 0.0,
         miscounted(theory.checkpointed_flops, "checkpointed")),
    Case("backprop.kept_bytes", "bytes kept for the backward pass", "shapes",
         "1 to 7 layers, three kinds of activation", "tensors listed one by one", 0.0,
         misremembered("kept")),
    Case("backprop.working_bytes", "bytes alive in prediction", "shapes", "1 to 4 layers",
         "by hand", 0.0, misworked),
    Case("backprop.checkpoint_segment", "layers a segment", "Chen et al. 2016, sec. 4",
         "1 to 200 layers", "definition", 0.0,
         lambda: float(any(theory.checkpoint_segment(n) != np.ceil(np.sqrt(n))
                           for n in range(1, 201)))),
    Case("backprop.checkpointed_bytes", "bytes kept with checkpoints", "Chen et al. 2016, sec. 4",
         "2 to 7 layers, three kinds of activation", "tensors listed one by one", 0.0,
         misremembered("checkpoint")),
    Case("backprop.passes", "J, gradients and Hessian-vector products", "D2L 5.3; Pearlmutter 1994",
         "3 layers, 4 activations, 2 losses", "differences in 50-digit arithmetic", 1e-13,
         worst_passes),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", theory.LOSSES)
def test_errors_in_float32_stay_below_their_bounds_but_not_far(name: str, loss: str) -> None:
    """numpy's float32 passes are far from the worst case, but within a factor 1e4 of it."""
    drawn = draw(5)
    weights, biases = (
        [a.astype(np.float32) for a in group] for group in (drawn["weights"], drawn["biases"])
    )
    h, z = [drawn["inputs"].astype(np.float32)], []
    phi, slope, _ = (
        np.vectorize(lambda x, f=f: float(f(mp.mpf(float(x)))), otypes=[np.float32])
        for f in EXACT[name]
    )
    for layer in range(3):
        z.append(h[-1] @ weights[layer] + biases[layer])
        h.append(phi(z[-1]))
    target, o = drawn["target"].astype(np.float32), z[-1]
    if loss == "squared":
        delta = (o - target) / np.float32(BATCH)
    else:
        share = np.exp(o - o.max(axis=1, keepdims=True))
        delta = (share / share.sum(axis=1, keepdims=True) - target) / np.float32(BATCH)
    found = told(name, loss, NARROW)
    ratios = []
    for layer in (2, 1, 0):
        single = h[layer].T @ delta + np.float32(DECAY) * weights[layer]
        assert single.dtype == np.float32
        bound = found.weights[layer]
        ratios.append((np.abs(single - bound.value) / bound.error).max())
        delta = (delta @ weights[layer].T) * slope(z[layer - 1]) if layer else delta
    assert 1e-4 < max(ratios) < 1


numbers = st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_every_operation_bounds_its_own_rounding(first: list[float], second: list[float]) -> None:
    """float32 against float64, whose products and sums of float32 numbers are exact enough.

    Below 1e-30 the bound is no bound: underflow is not in it.
    """
    a, b = (np.array(x).reshape(2, 3) for x in (first, second))
    one, other = (Rounded.exact(x, NARROW) for x in (a, b))
    c, d = a.astype(np.float32), b.astype(np.float32)
    pairs: list[tuple[Rounded, Any]] = [
        (one + other, c + d), (one * other, c * d), (one @ other.T, c @ d.T),
        (one.sum(0), c.sum(0)), (one.sum(), c.sum()), (one.scaled(1 / 3), c * np.float32(1 / 3)),
        (one.apply(np.tanh), np.tanh(c)),
        ((one * other + one) @ other.T, (c * d + c) @ d.T),
    ]  # fmt: skip
    for bound, single in pairs:
        gap = np.abs(bound.value - single)
        assert np.all(gap <= bound.error * (1 + 1e-5) + 1e-30)
        assert np.linalg.norm(gap) <= bound.reach * (1 + 1e-5) + 1e-30


def test_norms_keep_the_bound_sharp_through_many_isometries() -> None:
    """gamma_n n a product in norm, where sums of magnitudes would grow as (n / 1.6)^(L / 2)."""
    rng, n, length = np.random.default_rng(1), 16, 40
    product, plain = Rounded.exact(np.eye(n), U), np.eye(n, dtype=np.float32)
    for _ in range(length):
        factor = np.linalg.qr(rng.standard_normal((n, n)))[0].astype(np.float32)
        product = product @ Rounded.exact(factor.astype(float), U)
        plain = plain @ factor
    assert product.reach < 1.01 * length * n**2 * U
    scale = NARROW / U
    assert 1e-3 * product.reach < np.linalg.norm(plain - product.value) / scale < product.reach


def test_an_error_across_a_kink_counts_in_full() -> None:
    z = Rounded(np.array([1e-9, 0.5]), np.array([2e-9, 2e-9]), 3e-9, U)
    slope = z.apply(lambda x: (x > 0).astype(float))
    assert slope.error[0] == pytest.approx(1.0)
    assert slope.error[1] < 1e-14


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.forward_flops([3], 1), "widths"),
        (lambda: theory.gradient_flops([3, 0], 1), "widths"),
        (lambda: theory.hessian_vector_flops([3, 1], 0), "batch=0"),
        (lambda: theory.checkpointed_flops([], 1), "widths"),
        (lambda: theory.kept_bytes([3, -1], 1, OUTPUT), "widths"),
        (lambda: theory.working_bytes([3], 1, OUTPUT), "widths"),
        (lambda: theory.checkpointed_bytes([3, 2], 1, OUTPUT), "widths"),
        (lambda: theory.kept_bytes([3, 2], 1, theory.Saving(-1, True)), "saving.inputs=-1"),
        (lambda: theory.passes(**{**draw(5), "weights": [np.full((2, 2), np.inf)]},
                               functions=(np.tanh,) * 3, loss="squared", decay=0.1, u=U),
         "weights="),
        (lambda: theory.checkpoint_segment(0), "hidden=0"),
        (lambda: theory.passes(**draw(5), functions=(np.tanh,) * 3, loss="hinge", decay=0.1, u=U),
         "loss='hinge'"),
        (lambda: theory.passes(**draw(5), functions=(np.tanh,) * 3, loss="squared", decay=0.1,
                               u=0.0), "u=0.0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
