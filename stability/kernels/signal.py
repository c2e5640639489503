"""Forward and backward signal through deep square networks, without autograd.

Shape suffixes: S replicates, C cells, R runs, D depths, B batch rows, N units, all of one width.
Cells share the weights' unit draws Z and differ in scale and activation, and every depth is a
prefix of the deepest: common random numbers.  z^l = h^{l-1} W^l + b^l with W^l = std Z^l,
h^l = phi(z^l).  Cells of a homogeneous activation without biases that differ in scale alone are
one run: each layer's scale only moves a logarithm.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.kernels.gemm import matmul

Elementwise = Callable[[Tensor], Tensor]
SHORTEST = 1e-18
"""A row of this length beside others near 1 counts in cosines as if it were so long."""


class Cell(NamedTuple):
    """A configuration; ``homogeneous``: phi(a z) = a phi(z) for all a > 0."""

    forward: Elementwise
    derivative: Elementwise
    weight_std: float
    bias_std: float = 0.0
    homogeneous: bool = False


class Signals(NamedTuple):
    """Of the layers 1..L, each (L, S, C) float64.

    ``log2_z``, ``log2_h``: log2 of the root mean square of pre- and postactivations; ``cosine``:
    the mean cosine of the preactivations of rows 2i and 2i+1.
    """

    log2_z: Tensor
    log2_h: Tensor
    cosine: Tensor


class Gradients(NamedTuple):
    """log2 of the Frobenius norms of dL/dh^l and dL/dW^l for l = 1..d, each (d, S, C) float64.

    ``plain_h``: the same of dL/dh^l stored and reduced in float32, where it may be -inf or inf.
    """

    log2_h: Tensor
    log2_w: Tensor
    plain_h: Tensor


class _Runs:
    """The distinct runs of the cells, those of one activation side by side."""

    def __init__(self, cells: Sequence[Cell], like: Tensor) -> None:
        order = list(dict.fromkeys(cell.forward for cell in cells))
        runs: dict[object, Cell] = {}
        keys: list[object] = []
        for index, cell in enumerate(cells):
            shared = cell.homogeneous and cell.bias_std == 0
            key = (cell.forward, shared or index)
            keys.append(key)
            runs.setdefault(key, cell)
        chosen = sorted(runs, key=lambda key: order.index(runs[key].forward))
        own = [runs[key] for key in chosen]
        self.of = [chosen.index(key) for key in keys]
        self.first = [keys.index(key) for key in chosen]
        self.further = [cell for cell in range(len(keys)) if cell not in self.first]
        self.count = len(own)
        std = _vector([cell.weight_std for cell in own], like)
        self.log2_std = std.log2()
        self.std, self.log2_std_like = std.to(like.dtype), self.log2_std.to(like.dtype)
        self.biased = any(cell.bias_std for cell in own)
        self.bias = _vector([cell.bias_std for cell in own], like).to(like.dtype)
        stds = [cell.weight_std for cell in cells]
        ratio = [one / own[run].weight_std for one, run in zip(stds, self.of, strict=True)]
        self.log2_ratio_C = _vector(ratio, like).log2()
        # 0 for runs whose state may be rescaled, which a homogeneous activation lets through.
        fixed = [not (cell.homogeneous and cell.bias_std == 0) for cell in own]
        self.fixed = _vector(fixed, like).to(like.dtype)
        self.groups: list[tuple[Elementwise, Elementwise, int]] = []
        for cell in own:
            if self.groups and self.groups[-1][0] == cell.forward:
                self.groups[-1] = (*self.groups[-1][:2], self.groups[-1][2] + 1)
            else:
                self.groups.append((cell.forward, cell.derivative, 1))

    def apply(self, z_SRBN: Tensor, h_SRBN: Tensor, slope_SRBN: Tensor) -> None:
        """Write phi(z) and phi'(z) of every run."""
        first = 0
        for phi, derivative, count in self.groups:
            part = slice(first, first + count)
            h_SRBN[:, part] = phi(z_SRBN[:, part])
            slope_SRBN[:, part] = derivative(z_SRBN[:, part])
            first += count


class Workspace:
    """Memory that calls of ``propagate`` hand on, as fresh pages cost more than what they hold."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def empty(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Uninitialised, with the dtype and device of ``like``; the last call's own contents go."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if (
            kept is None
            or kept.numel() < size
            or (kept.dtype, kept.device) != (like.dtype, like.device)
        ):
            kept = self._kept[name] = like.new_empty(size)
        return kept[:size].view(*shape)


def _vector(values: Sequence[float], like: Tensor) -> Tensor:
    """In float64, on the device of ``like``."""
    return torch.tensor(values, dtype=torch.float64, device=like.device)


class _Passed(NamedTuple):
    """What the way back needs: phi'(z^l), and of h^{l-1} 2^-exponent either the rows or, where it
    is smaller, their Gram matrix."""

    slope_LSRBN: Tensor
    below_LSRBX: Tensor
    exponent_LSR: Tensor


def propagate(
    inputs_SBN: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    cells: Sequence[Cell],
    tops: Mapping[int, Tensor],
    workspace: Workspace | None = None,
) -> tuple[Signals, dict[int, Gradients]]:
    """Run all cells to the deepest depth, and back from every depth d with dL/dh^d = ``tops[d]``.

    ``inputs_SBN``: (S, B, N), B even; ``weights``: Z^l (S, N, N) and ``biases``: unit draws (S, N),
    l = 1..L; ``tops``: (S, B, N) for each depth.  All of one dtype, float32 or float64, in which
    norms are summed.  Norms and gradients are kept in range by powers of two; only the states of
    activations that are not homogeneous can underflow.
    """
    runs = _Runs(cells, inputs_SBN)
    room = Workspace() if workspace is None else workspace
    signals, passed = _forward(inputs_SBN, weights, biases, runs, room)
    return signals, _backward(passed, weights, runs, tops, room)


def _forward(
    inputs_SBN: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    runs: _Runs,
    room: Workspace,
) -> tuple[Signals, _Passed]:
    (samples, batch, n), depth = inputs_SBN.shape, len(weights)
    shape = (samples, runs.count, batch, n)
    rows, z = (room.empty(name, shape, inputs_SBN) for name in ("rows", "z"))
    slope = room.empty("slope", (depth, *shape), inputs_SBN)
    # Where the Gram matrices are smaller, one state at a time is enough.
    narrow = n > batch
    states = room.empty("states", (1 if narrow else depth + 1, *shape), inputs_SBN)
    grams = room.empty("grams", (depth, *shape[:3], batch) if narrow else (0,), inputs_SBN)
    lengths = inputs_SBN.new_empty((depth, *shape[:3]))
    pairs = inputs_SBN.new_empty((depth, *shape[:2], batch // 2))
    norms = inputs_SBN.new_empty((depth, *shape[:2]))
    sizes, rows_sizes = [], []
    h = states[0].copy_(inputs_SBN[:, None])
    size = _normalise(h, rows)
    for layer, (unit, bias) in enumerate(zip(weights, biases, strict=True)):
        sizes.append(size)
        if narrow:
            matmul(h, h.mT, out=grams[layer])
        matmul(h.view(samples, -1, n), unit, out=rows.view(samples, -1, n))
        # The size of h goes back into z, unless the run is homogeneous.
        torch.mul(rows, (runs.std * torch.exp2(size * runs.fixed))[..., None, None], out=z)
        if runs.biased:
            z += runs.bias[:, None, None] * bias[:, None, None]
            rows.copy_(z)
            rows_sizes.append(_normalise(rows, torch.empty_like(rows)))
        torch.linalg.vector_norm(rows, dim=-1, out=lengths[layer])
        torch.sum(rows[:, :, 0::2] * rows[:, :, 1::2], -1, out=pairs[layer])
        h = states[0 if narrow else layer + 1]
        runs.apply(z, h, slope[layer])
        size = _normalise(h, rows)
        torch.linalg.vector_norm(h, dim=(-2, -1), out=norms[layer])
    sizes.append(size)
    size_LSR = torch.stack(sizes).double()
    carried = torch.cumsum(size_LSR * (1 - runs.fixed), 0)
    exponent = size_LSR + carried - size_LSR * (1 - runs.fixed)
    half_count = math.log2(batch * n) / 2
    if runs.biased:
        z_exponent = torch.stack(rows_sizes).double() + carried[:-1]
    else:
        z_exponent = exponent[:-1] + runs.log2_std
    lengths = lengths.double()
    log2_z = torch.linalg.vector_norm(lengths, dim=-1).log2() + z_exponent - half_count
    log2_h = norms.double().log2() + exponent[1:] - half_count
    both = (lengths[..., 0::2] * lengths[..., 1::2]).clamp(min=SHORTEST)
    moved = _vector(range(1, depth + 1), h)[:, None, None] * runs.log2_ratio_C
    found = Signals(
        log2_z[..., runs.of] + moved,
        log2_h[..., runs.of] + moved,
        (pairs.double() / both).mean(-1)[..., runs.of],
    )
    return found, _Passed(slope, grams if narrow else states[:-1], exponent[:-1])


def _backward(
    passed: _Passed,
    weights: Sequence[Tensor],
    runs: _Runs,
    tops: Mapping[int, Tensor],
    room: Workspace,
) -> dict[int, Gradients]:
    _, samples, count, batch, n = passed.slope_LSRBN.shape
    depths = sorted(tops, reverse=True)
    shape = (len(depths), samples, count)
    gradient, delta, outer = (
        room.empty(name, (*shape, *last), weights[0])
        for name, last in (
            ("gradient", (batch, n)),
            ("delta", (batch, n)),
            ("outer", 2 * (min(n, batch),)),
        )
    )
    norms_h, norms_w = (weights[0].new_ones((depths[0], *shape)) for _ in range(2))
    plain = norms_h.new_ones((depths[0], *shape[:2], len(runs.of)), dtype=torch.float32)
    exponents = norms_h.new_zeros((depths[0] + 1, *shape))
    steps = _vector(range(depths[0]), delta).to(delta.dtype)[:, None, None]
    moved = steps * runs.log2_ratio_C.to(delta.dtype)
    first, further, shared = (
        torch.tensor(cells, dtype=torch.int64, device=delta.device)
        for cells in (runs.first, runs.further, [runs.of[cell] for cell in runs.further])
    )
    active = 0
    for layer in range(depths[0], 0, -1):
        if layer in tops:
            # The gradient is gradient 2^exponent; this depth joins at its top.
            gradient[active].copy_(tops[layer][:, None])
            active += 1
        at, g, d = layer - 1, gradient[:active], delta[:active]
        exponent = exponents[layer, :active]
        torch.linalg.vector_norm(g, dim=(-2, -1), out=norms_h[at, :active])
        above = torch.stack([moved[depth - layer] for depth in depths[:active]])
        # One cell of each run, in place; then the cells that share a run with those.
        told = plain[at, :active]
        told.index_copy_(-1, first, _plain_norm(g, exponent, above[..., first], out=d))
        if runs.further:
            copies, steps_up = g.index_select(2, shared), exponent.index_select(2, shared)
            again = _plain_norm(copies, steps_up, above[..., further], out=copies)
            told.index_copy_(-1, further, again)
        torch.mul(g, passed.slope_LSRBN[at], out=d)
        largest = torch.abs(d, out=g).flatten(-2).amax(-1)
        step = largest.clamp_(*_range(d)).log2_().add_(runs.log2_std_like).round_()
        torch.add(exponent, step, out=exponents[at, :active])
        # sigma delta over 2^exponent: what the next layer is to see.
        d *= (torch.exp2(-step) * runs.std)[..., None, None]
        below = passed.below_LSRBX[at]
        for one, product, back in zip(d, outer, g, strict=False):
            if n > batch:
                matmul(one, one.mT, out=product)
            else:
                matmul(below.mT, one, out=product)
            matmul(one.view(samples, -1, n), weights[at].mT, out=back.view(samples, -1, n))
        if n > batch:
            torch.sum(
                outer[:active].mul_(passed.below_LSRBX[at]), (-2, -1), out=norms_w[at, :active]
            )
        else:
            torch.linalg.vector_norm(outer[:active], dim=(-2, -1), out=norms_w[at, :active])
    log2_h = norms_h.double().log2() + exponents[1:]
    log2_w = norms_w.double().clamp(min=0).log2() * (0.5 if n > batch else 1.0)
    log2_w += exponents[:-1] + passed.exponent_LSR[: depths[0], None] - runs.log2_std
    layers = _vector(range(1, depths[0] + 1), delta)[:, None, None]
    along = runs.log2_ratio_C
    return {
        depth: Gradients(
            log2_h[:depth, index][..., runs.of] + (depth - layers[:depth]) * along,
            log2_w[:depth, index][..., runs.of] + (depth - 1) * along,
            plain[:depth, index].double().log2(),
        )
        for index, depth in enumerate(depths)
    }


def _plain_norm(gradient: Tensor, exponent: Tensor, moved_D1R: Tensor, out: Tensor) -> Tensor:
    """The norms of gradient * 2^(exponent + moved) in float32, (D, S, R)."""
    # The squares of what lies beyond the normal range are 0 or inf there.
    scale = torch.exp2((exponent + moved_D1R).clamp_(-126, 127))[..., None, None]
    if gradient.dtype == torch.float32:
        single = torch.mul(gradient, scale, out=out)
    else:
        single = gradient.float() * scale.float()
    norms: Tensor = torch.linalg.vector_norm(single, dim=(-2, -1))
    return norms


def _normalise(x: Tensor, work: Tensor) -> Tensor:
    """Divide each matrix by the power of two nearest to its largest entry; that power's exponent.

    ``torch.linalg.vector_norm`` takes 20 times as long for the largest entry.
    """
    largest = torch.abs(x, out=work).flatten(-2).amax(-1)
    exponent = largest.clamp_(*_range(x)).log2_().round_()
    x *= torch.exp2(-exponent)[..., None, None]
    return exponent


def _range(x: Tensor) -> tuple[float, float]:
    """The normal numbers whose inverse is one, too."""
    tiny = torch.finfo(x.dtype).smallest_normal
    return tiny, 1 / tiny
