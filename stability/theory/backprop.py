"""What a forward and a backward pass cost and how far rounding carries them off.

Networks as in D2L 5.3: z^l = h^(l-1) W^l + b^l, h^l = phi(z^l), o = z^L, J = mean loss + decay / 2
sum |W^l|_F^2.  ``widths``: n^0 .. n^L, units; ``batch``: rows.  A floating point operation is one
addition or multiplication inside a matrix product: 2 b m n for (b, m) times (m, n); what is done
elementwise is not counted.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from stability.arguments import Array, finite, fraction, nonnegative, whole, wholes
from stability.theory.floating_point import gamma

ELEMENTARY = 8
"""Roundings of an activation, its derivatives or exp: absolute errors up to 8 u (1 + |z|)."""
LOSSES = ("squared", "cross_entropy")

Function = Callable[[Array], Array]


def _check_sizes(widths: Sequence[int], batch: int, fewest: int = 2) -> None:
    wholes("widths", widths, fewest=fewest)
    whole("batch", batch)


def _layer_flops(widths: Sequence[int], batch: int) -> list[int]:
    _check_sizes(widths, batch)
    return [2 * batch * m * n for m, n in itertools.pairwise(widths)]


def forward_flops(widths: Sequence[int], batch: int) -> int:
    """F = sum of 2 b n^(l-1) n^l.

    Raises ValueError unless there are two widths, all of them and batch whole and at least 1.
    """
    return sum(_layer_flops(widths, batch))


def gradient_flops(widths: Sequence[int], batch: int) -> int:
    """3 F - f_1 of a forward and a backward pass, f_1 being the first layer's share of F.

    Backwards every layer has a product for its weights and, but for the first, one for its input.
    Raises as ``forward_flops``.
    """
    layers = _layer_flops(widths, batch)
    return 3 * sum(layers) - layers[0]


def hessian_vector_flops(widths: Sequence[int], batch: int) -> int:
    """6 F - 4 f_1 that a Hessian-vector product takes beside the gradient: about twice as much.

    Each product of the two passes, differentiated by either factor.  x has no derivative: of the
    six products of a layer the first has two.  Raises as ``forward_flops``.
    """
    layers = _layer_flops(widths, batch)
    return 6 * sum(layers) - 4 * layers[0]


def checkpointed_flops(widths: Sequence[int], batch: int) -> int:
    """Of a gradient that recomputes all hidden layers once: 4 F - f_1 - f_L.

    Raises as ``forward_flops``.
    """
    layers = _layer_flops(widths, batch)
    return gradient_flops(widths, batch) + sum(layers[:-1])


class Saving(NamedTuple):
    """What the backward pass of an activation needs beside what the matrix products need.

    ``inputs``: tensors other than its output; ``output``: whether its output.
    """

    inputs: int
    output: bool


def _check_items(
    widths: Sequence[int], batch: int, saving: Saving, itemsize: int, fewest: int = 2
) -> None:
    _check_sizes(widths, batch, fewest)
    whole("saving.inputs", saving.inputs, 0)
    whole("itemsize", itemsize)


def kept_bytes(widths: Sequence[int], batch: int, saving: Saving, itemsize: int = 8) -> int:
    """Bytes of intermediates that a backward pass needs: b (sum n^l (1 + inputs) + n^L) items.

    The sum is over hidden layers, whose outputs the next products need in any case; n^L items are
    for the loss.  Parameters and x are not counted.
    Raises as ``forward_flops``, or ValueError unless saving.inputs and itemsize are whole and at
    least 0 and 1.
    """
    _check_items(widths, batch, saving, itemsize)
    return itemsize * batch * (sum(widths[1:-1]) * (1 + saving.inputs) + widths[-1])


def working_bytes(widths: Sequence[int], batch: int, saving: Saving, itemsize: int = 8) -> int:
    """Most bytes that live at once when nothing is kept: a layer's input, z and h; o at the end.

    An activation of several steps has one tensor more, one that returns its input one less.
    Raises as ``kept_bytes``.
    """
    _check_items(widths, batch, saving, itemsize)
    own = 1 if saving == Saving(0, False) else max(2, 1 + saving.inputs)
    inner = list(widths[1:-1])
    inputs = [0, *inner]
    stages = [i + own * n for i, n in zip(inputs[:-1], inner, strict=True)]
    return itemsize * batch * max([*stages, inputs[-1] + widths[-1]])


def checkpoint_segment(hidden: int) -> int:
    """ceil(sqrt(hidden)) layers a segment: as many checkpoints as layers between them.

    Chen, Xu, Zhang & Guestrin 2016, arXiv 1604.06174, sec. 4.
    Raises ValueError unless hidden is whole and at least 1.
    """
    whole("hidden", hidden)
    return math.isqrt(hidden - 1) + 1


def checkpointed_bytes(widths: Sequence[int], batch: int, saving: Saving, itemsize: int = 8) -> int:
    """The most bytes kept at once with segments of ``checkpoint_segment`` hidden layers.

    After the forward pass: the segments' outputs and the loss's n^L items.  While a segment is
    recomputed: the inputs of it and of those before, and what it keeps itself.
    Raises as ``kept_bytes``, or ValueError if there is no hidden layer.
    """
    _check_items(widths, batch, saving, itemsize, fewest=3)
    hidden = list(widths[1:-1])
    step = checkpoint_segment(len(hidden))
    segments = [hidden[at : at + step] for at in range(0, len(hidden), step)]
    ends = [segment[-1] for segment in segments]
    stages = [sum(ends) + widths[-1]]
    for index, segment in enumerate(segments):
        own = sum(segment) * (1 + saving.inputs) - segment[-1] * (not saving.output)
        stages.append(sum(ends[:index]) + own)
    return itemsize * batch * max(stages)


@dataclass(frozen=True)
class Rounded:
    """Computed numbers with bounds on their absolute errors, to first order in u.

    Running error analysis (Higham 2002, Accuracy and Stability of Numerical Algorithms, sec. 3.3):
    every operation passes its operands' errors on and adds its own.  ``value`` and ``error``: of
    one shape, entry by entry; ``reach``: a bound on the errors' Euclidean norm, which grows by
    spectral norms where entries grow by sums of magnitudes, and so stays sharp through many layers;
    ``u``: unit roundoff.  Terms of order u^2 and underflow are left out.
    """

    value: Array
    error: Array
    reach: float
    u: float

    @classmethod
    def exact(cls, value: Array, u: float) -> "Rounded":
        """Numbers without an error."""
        return cls(value, np.zeros_like(value), 0.0, u)

    def _made(self, value: Array, passed: Array, reach: float, own: Array) -> "Rounded":
        """The result of an operation: errors passed on, their norm, and its own roundings."""
        error = passed + own
        norm = min(float(np.linalg.norm(error)), reach + float(np.linalg.norm(own)))
        return Rounded(value, np.minimum(error, norm), norm, self.u)

    @cached_property
    def _size(self) -> float:
        """A bound on the spectral norm; sharp for exact matrices, which come once a layer."""
        return float(np.linalg.norm(self.value, None if self.reach else 2))

    @cached_property
    def _largest(self) -> float:
        return float(np.abs(self.value).max())

    def __add__(self, other: "Rounded") -> "Rounded":
        value = self.value + other.value
        own = self.u * np.abs(value)
        return self._made(value, self.error + other.error, self.reach + other.reach, own)

    def __mul__(self, other: "Rounded") -> "Rounded":
        value = self.value * other.value
        passed = self.error * np.abs(other.value) + np.abs(self.value) * other.error
        reach = self.reach * other._largest + self._largest * other.reach
        return self._made(value, passed, reach, self.u * np.abs(value))

    def __matmul__(self, other: "Rounded") -> "Rounded":
        a, b = np.abs(self.value), np.abs(other.value)
        own = float(gamma(a.shape[-1], self.u)) * (a @ b)
        reach = self.reach * other._size + self._size * other.reach
        passed = self.error @ b + a @ other.error
        return self._made(self.value @ other.value, passed, reach, own)

    @property
    def T(self) -> "Rounded":
        """Transposed."""
        return Rounded(self.value.T, self.error.T, self.reach, self.u)

    def scaled(self, factor: float) -> "Rounded":
        """Times a number that is itself rounded once."""
        value, size = self.value * factor, abs(factor)
        return self._made(value, self.error * size, self.reach * size, 2 * self.u * np.abs(value))

    def sum(self, axis: int | None = None) -> "Rounded":
        """Summed in any order, over all entries or along an axis that stays with length 1."""
        keep = axis is not None
        value = self.value.sum(axis, keepdims=keep)
        terms = self.value.size // value.size
        own = float(gamma(terms, self.u)) * np.abs(self.value).sum(axis, keepdims=keep)
        passed = self.error.sum(axis, keepdims=keep)
        return self._made(value, passed, self.reach * math.sqrt(terms), own)

    def apply(self, function: Function) -> "Rounded":
        """An elementary function; the error passed on is its change between the bounds.

        So a kink or a jump within the error counts in full.
        """
        value = function(self.value)
        ends = [np.abs(function(self.value + s * self.error) - value) for s in (-1.0, 1.0)]
        change = np.maximum(*ends)
        slopes = np.divide(change, self.error, out=np.zeros_like(change), where=self.error > 0)
        own = ELEMENTARY * self.u * (1 + np.abs(self.value))
        return self._made(value, change, float(slopes.max()) * self.reach, own)


class Passes(NamedTuple):
    """Every intermediate of the passes, each with its bound, named as in the suite's kernels.

    ``objective``: J; ``z``, ``h``, ``weights``, ``biases``: dJ by z^1..z^L (the last is o),
    h^1..h^(L-1) and the parameters; ``tangent``: dJ along the direction by a forward pass;
    ``turned_weights``, ``turned_biases``: the Hessian times the direction.
    """

    objective: Rounded
    z: list[Rounded]
    h: list[Rounded]
    weights: list[Rounded]
    biases: list[Rounded]
    tangent: Rounded
    turned_weights: list[Rounded]
    turned_biases: list[Rounded]


def _softmax(output: Rounded) -> Rounded:
    """exp(o - max) / sum: an error e of o moves p by p (e - sum p e) to first order."""
    shifted = output.value - output.value.max(axis=1, keepdims=True)
    share = np.exp(shifted)
    share /= share.sum(axis=1, keepdims=True)
    roundings = 2 * ELEMENTARY + shifted.shape[1] - 2 * shifted.min(axis=1, keepdims=True)
    moved = output.error + (share * output.error).sum(axis=1, keepdims=True)
    # The derivative diag(p) - p p^T has a spectral norm of 1/2 at most.
    own = share * output.u * roundings
    return output._made(share, share * moved, output.reach / 2, own)


def _loss(loss: str, output: Rounded, target: Array) -> tuple[Rounded, Rounded]:
    """The mean loss and its gradient by the outputs."""
    u, batch = output.u, len(target)
    if loss == "squared":
        gap = output + Rounded.exact(-target, u)
        return (gap * gap).sum().scaled(0.5 / batch), gap.scaled(1 / batch)
    share = _softmax(output)
    gap = share + Rounded.exact(-target, u)
    shifted = output.value - output.value.max(axis=1, keepdims=True)
    log = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    roundings = 2 * ELEMENTARY + shifted.shape[1] + 4 * (log - shifted.min(axis=1, keepdims=True))
    passed = (np.abs(gap.value) * output.error).sum(axis=1, keepdims=True)
    each = log - (target * shifted).sum(axis=1, keepdims=True)
    steepest = float(np.linalg.norm(gap.value, axis=1).max())
    fit = output._made(each, passed, steepest * output.reach, u * roundings)
    return fit.sum().scaled(1 / batch), gap.scaled(1 / batch)


def _curvature(loss: str, output: Rounded, tangent: Rounded) -> Rounded:
    """The second derivative of the mean loss times ``tangent``."""
    share = 1 / len(tangent.value)
    if loss == "squared":
        return tangent.scaled(share)
    p = _softmax(output)
    mean = (p * tangent).sum(1)
    return (p * (tangent + mean.scaled(-1.0))).scaled(share)


def passes(
    inputs: Array,
    target: Array,
    weights: Sequence[Array],
    biases: Sequence[Array],
    directions: tuple[Sequence[Array], Sequence[Array]],
    functions: tuple[Function, Function, Function],
    loss: str,
    decay: float,
    u: float,
) -> Passes:
    """Forward, backward and Hessian-vector pass in numpy, each number with its error bound.

    ``inputs``: (b, n^0), ``target``: (b, n^L), ``weights``: (n^(l-1), n^l) each, ``biases``:
    (1, n^l) each or none, ``directions``: as weights and biases; all of them exact.
    ``functions``: phi, phi', phi''.  Bounds hold for any order of summation, to first order in u,
    if elementary functions err by no more than ``ELEMENTARY`` u (1 + |z|).
    Raises ValueError if the loss is none of ``LOSSES``, u not in (0, 1), decay negative, or a
    number not finite.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}: must be one of {', '.join(LOSSES)}")
    fraction("u", u)
    nonnegative("decay", decay)
    named = {"inputs": [inputs], "target": [target], "weights": weights, "biases": biases,
             "directions": [*directions[0], *directions[1]]}  # fmt: skip
    for name, arrays in named.items():
        for array in arrays:
            finite(name, array)
    phi, slope, bend = functions
    w, b = ([Rounded.exact(a, u) for a in group] for group in (weights, biases))
    v, c = ([Rounded.exact(a, u) for a in group] for group in directions)
    h, z = [Rounded.exact(inputs, u)], list[Rounded]()
    th, tz = [Rounded.exact(np.zeros_like(inputs), u)], list[Rounded]()
    for layer in range(len(w)):
        if layer:
            h.append(z[-1].apply(phi))
            th.append(z[-1].apply(slope) * tz[-1])
        product, tangent = h[-1] @ w[layer], h[-1] @ v[layer]
        if layer:
            tangent = tangent + th[-1] @ w[layer]
        z.append(product + b[layer] if b else product)
        tz.append(tangent + c[layer] if b else tangent)
    fit, delta = _loss(loss, z[-1], target)
    objective, along = fit, (delta * tz[-1]).sum()
    turned = _curvature(loss, z[-1], tz[-1])
    for weight, way in zip(w, v, strict=True):
        objective = objective + (weight * weight).sum().scaled(decay / 2)
        along = along + (weight * way).sum().scaled(decay)
    gz, gh = [delta], list[Rounded]()
    gw, gb, tw, tb = (list[Rounded]() for _ in range(4))
    for layer in reversed(range(len(w))):
        gw.append(h[layer].T @ gz[-1] + w[layer].scaled(decay))
        tw.append(h[layer].T @ turned + v[layer].scaled(decay))
        if b:
            gb.append(gz[-1].sum(0))
            tb.append(turned.sum(0))
        if layer:
            tw[-1] = tw[-1] + th[layer].T @ gz[-1]
            state = z[layer - 1]
            below = turned @ w[layer].T + gz[-1] @ v[layer].T
            gh.append(gz[-1] @ w[layer].T)
            gz.append(gh[-1] * state.apply(slope))
            bent = state.apply(bend) * (gh[-1] * tz[layer - 1])
            turned = below * state.apply(slope) + bent
    return Passes(
        objective, gz[::-1], gh[::-1], gw[::-1], gb[::-1], along, tw[::-1], tb[::-1]
    )  # fmt: skip
