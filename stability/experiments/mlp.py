"""The perceptron from scratch and the concise one, held equal step by step; and its sweeps."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from stability import claims
from stability.catalogue.datasets import DATASETS, IMAGES, Dataset, from_images, load, read_images
from stability.catalogue.fashion_mnist import PIXELS, SAMPLES
from stability.catalogue.idx import Images
from stability.catalogue.initializations import INITIALIZATIONS, draw_unit
from stability.claims import Claim
from stability.errors import InputError, check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.curvature import Loss, curvature
from stability.kernels.perceptron import Concise, Program, Scratch
from stability.kernels.training import cross_entropy, preactivations, train
from stability.table import concat, mean_rows, rows, select
from stability.theory.backprop import gradient_flops
from stability.theory.exercises import descent_contraction
from stability.theory.floating_point import FORMATS, gamma
from stability.theory.perceptron import (
    Fans,
    initial_loss,
    interval_accuracy,
    least_squares_sharpness,
    softmax_loss_bound,
    softmax_smoothness,
    step_rounding,
    storage_rounding,
)

Array = np.ndarray[Any, np.dtype[np.float64]]
Part = Iterator[tuple[float, pd.DataFrame | None]]
"""Frames of a part of the run as they come, each with the finished share of the part."""
Layers = tuple[list[Tensor], list[Tensor]]
"""Weights (nets, fan_in, fan_out) and biases (nets, fan_out) a layer."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}
INITS = [name for name, entry in INITIALIZATIONS.items() if entry.law == "gaussian"]
"""Those whose logits are Gaussian given the layer before, which the initial loss rests on."""
PROGRAMS: dict[str, Callable[[Sequence[Tensor], float], Program]] = {
    "scratch": Scratch,
    "concise": Concise,
}
PARTS = ("train", "test")
PROBES = 128
"""Training samples on which networks are looked at as drawn."""
CURVED = 512
"""Training samples at most on which the network's sharpness is measured."""
CHUNK = 4096  # samples evaluated at a time
ROUGH, FINE = 1e-4, 1e-10
"""Relative tolerance of a network's sharpness, and of the sharpness that theory knows."""
DESCENT = 20
"""Full-batch steps of the least squares and of softmax regression."""
DIGITS = (1797, 64)
TINY = FORMATS["float64"].smallest_subnormal


@dataclass(frozen=True)
class Mlp(Experiment):
    """One hidden ReLU layer, two programs, one data order; then widths, depths and rates.

    ``content``, the digest of the files in ``folder``, is filled in when it isn't given: a result
    never passes for that of a folder whose files have changed since.
    """

    data: str = "digits"
    folder: str | None = None
    content: str | None = None
    init: list[str] = field(default_factory=lambda: ["normal"])
    hidden: int = 8
    rate: float = 0.1
    batch: int = 256
    epochs: int = 1
    checked: int = 100
    width: list[int] = field(default_factory=lambda: [1])
    depth: list[int] = field(default_factory=lambda: [2])
    learning_rate: list[float] = field(default_factory=lambda: [0.03])
    replicates: int = 2
    draws: int = 8

    title: ClassVar[str] = "Multilayer perceptrons"
    question: ClassVar[str] = (
        "Are a perceptron from scratch and a concise one the same, and what changes it?"
    )

    def __post_init__(self) -> None:
        check_choice("experiment.data", self.data, (*DATASETS, *IMAGES))
        for name in ("init", "width", "depth", "learning_rate"):
            check_each(f"experiment.{name}", getattr(self, name))
        for init in self.init:
            check_choice("experiment.init", init, INITS)
        for name in ("hidden", "batch", "epochs", "checked"):
            check_range(f"experiment.{name}", getattr(self, name), at_least=1)
        for name in ("width", "depth"):
            for value in getattr(self, name):
                check_range(f"experiment.{name}", value, at_least=1)
        for name, values in (("rate", [self.rate]), ("learning_rate", self.learning_rate)):
            for value in values:
                check_range(f"experiment.{name}", value, at_least=1e-6, at_most=1e4)
        check_range("experiment.draws", self.draws, at_least=2)
        check_range("experiment.replicates", self.replicates, at_least=1, at_most=self.draws)
        self._check_folder()

    def _check_folder(self) -> None:
        if self.data != "idx":
            for name in ("folder", "content"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"experiment.{name}={getattr(self, name)!r}: has an effect with "
                        "experiment.data=idx only"
                    )
            return
        if self.folder is None:
            raise InputError("experiment.folder=None: must be a folder of four IDX files")
        digest = read_images("idx", self.folder).digest
        if self.content not in (None, digest):
            raise InputError(
                f"experiment.content={self.content!r}: the files in {self.folder!r} have the "
                f"content {digest!r}"
            )
        object.__setattr__(self, "content", digest)

    def memory(self) -> int:
        """Five copies of the data in float64; the widest and the deepest networks."""
        samples, features = self._size()
        data = 40 * samples * features
        wide = max(*self.width, self.hidden)
        weights = max(
            (features + PROBES) * wide,
            (features + max(self.depth) * self.hidden) * self.hidden,
        )
        signals = max(self.batch, CHUNK) * max(wide, max(self.depth) * self.hidden)
        return 2**27 + data + 12 * self.draws * weights + 12 * self.replicates * (weights + signals)

    def _size(self) -> tuple[int, int]:
        if self.data == "idx":
            images = _images(self.folder, self.content)
            parts = (images.train_images, images.test_images)
            return sum(len(part) for part in parts), parts[0][0].size
        return DIGITS if self.data == "digits" else (SAMPLES, PIXELS)

    def _load(self, dtype: torch.dtype, device: str) -> Dataset:
        if self.data in DATASETS:
            return load(self.data, dtype, device)
        return from_images(self.data, _images(self.folder, self.content), dtype, device)

    def run(self, context: Context) -> pd.DataFrame:
        """The two programs by step and epoch, their cost, the sweeps, the thresholds of rates."""
        parts = [(4.0, self._pair(context, dtype)) for dtype in DTYPES]
        parts += [(4.0, self._sweeps(context)), (1.0, self._rates(context))]
        parts += [(0.1, self._costs(context))]
        total = sum(weight for weight, _ in parts)
        frames: list[pd.DataFrame] = []
        before = 0.0
        for weight, part in parts:
            for share, frame in part:
                frames += [] if frame is None else [frame]
                context.progress((before + weight * share) / total)
            before += weight
        table = concat(frames)
        name = self.data if self.content is None else f"{self.data} {self.content[:16]}"
        table.insert(0, "data", name)
        return table

    def _batches(self, context: Context, data: Dataset) -> list[list[Tensor]]:
        """The samples of each step of each epoch: every sample once an epoch, in random order."""
        return [
            list(
                data.train[
                    torch.randperm(
                        len(data.train),
                        generator=context.generator("order", epoch),
                        device=context.device,
                    )
                ].split(self.batch)
            )
            for epoch in range(self.epochs)
        ]

    def _pair(self, context: Context, dtype: str) -> Part:
        """Scratch and concise from the same parameters over the same batches, in one format."""
        data = self._load(DTYPES[dtype], context.device)
        fans = [(data.inputs.shape[1], self.hidden), (self.hidden, data.classes)]
        epochs = self._batches(context, data)
        steps = sum(len(batches) for batches in epochs)
        for place, init in enumerate(self.init):
            weights, biases = self._networks(context, init, fans, 1, DTYPES[dtype])
            start = [weights[0][0], biases[0][0], weights[1][0], biases[1][0]]
            programs = {name: make(start, self.rate) for name, make in PROGRAMS.items()}
            follow = _Follow(programs, self.rate)
            curves = []
            for epoch in range(len(epochs) + 1):
                for batch in epochs[epoch - 1] if epoch else []:
                    checked = dtype == "float32" and len(follow.gaps) < self.checked
                    follow.step(data.inputs[batch], data.labels[batch], checked=checked)
                curves.append(_curves(programs, data))
                yield (place + len(follow.gaps) / steps) / len(self.init), None
            where = {"init": init, "dtype": dtype}
            there: dict[str, Any] = {
                **where,
                "program": np.array(list(PROGRAMS))[:, None],
                "part": np.array(PARTS),
                "epoch": np.arange(len(curves))[:, None, None],
            }
            loss, accuracy = np.moveaxis(np.array(curves), -1, 0)
            frames = [rows("loss", loss, **there), rows("accuracy", accuracy, **there)]
            frames += [*_same(programs, data, where), _gap_rows(follow.gaps, where)]
            if dtype == "float32":
                frames += follow.rows({"init": init})
            yield (place + 1) / len(self.init), concat(frames)

    def _costs(self, context: Context) -> Part:
        """Operations and calls of one step, of weights that don't matter."""
        data = self._load(torch.float32, context.device)
        x, y = (part[data.train[: self.batch]] for part in (data.inputs, data.labels))
        widths = [x.shape[1], self.hidden, data.classes]
        zeros = [x.new_zeros(shape) for fan in pairwise(widths) for shape in (fan, fan[1:])]
        for name, make in PROGRAMS.items():
            program = make(zeros, self.rate)
            calls = _Calls()  # type: ignore[no-untyped-call]
            # Calls are counted first: the counter of operations takes some of them apart.
            with FlopCounterMode(display=False) as flops, calls:
                program.step(x, y)
            told = gradient_flops(widths, len(x))
            yield 1.0, concat([
                rows("flops", flops.get_total_flops(), told, program=name),
                rows("calls", calls.count, program=name),
            ])  # fmt: skip

    def _networks(
        self, context: Context, init: str, fans: Fans, count: int, dtype: torch.dtype
    ) -> Layers:
        """Weights (count, fan_in, fan_out) and biases of 0 of each layer, drawn net by net."""
        weights = []
        for layer, fan in enumerate(fans, start=1):
            units = [
                draw_unit("gaussian", fan, context.generator("weights", *fan, net, layer))
                for net in range(count)
            ]
            weights.append((INITIALIZATIONS[init].std(*fan) * torch.stack(units)).to(dtype))
        return weights, [torch.zeros_like(weight[:, 0]) for weight in weights]

    def _sweeps(self, context: Context) -> Part:
        """Networks of other widths, depths and rates, one thing changed at a time."""
        data = self._load(torch.float32, context.device)
        features, classes, hidden = data.inputs.shape[1], data.classes, self.hidden
        batches = [batch for epoch in self._batches(context, data) for batch in epoch]
        ends = (features, hidden), (hidden, classes)
        cells: list[tuple[dict[str, Any], Fans, float]] = []
        for width in self.width:
            cell: dict[str, Any] = {"sweep": "width", "width": width}
            cells.append((cell, [(features, width), (width, classes)], self.rate))
        for depth in self.depth:
            deep = [ends[0], *[(hidden, hidden)] * (depth - 1), ends[1]]
            cells.append(({"sweep": "depth", "depth": depth}, deep, self.rate))
        narrow = [ends[0], (hidden, 1), (1, classes)]
        cells.append(({"sweep": "bottleneck"}, narrow, self.rate))
        for rate in self.learning_rate:
            cells.append(({"sweep": "rate", "learning_rate": rate}, list(ends), rate))
        for init in self.init:
            drawn = self._networks(context, init, ends, 1, torch.float32)
            value = _network_sharpness(drawn, data, context)
            yield 0.0, rows("sharpness", value, init=init, problem="network", when="start")
        total = len(cells) * len(self.init)
        for place, (cell, fans, rate) in enumerate(cells):
            for at, init in enumerate(self.init):
                where = {**cell, "init": init}
                share = (place * len(self.init) + at + 1) / total
                yield share, self._cell(context, data, batches, init, fans, rate, where)

    def _cell(
        self,
        context: Context,
        data: Dataset,
        batches: Sequence[Tensor],
        init: str,
        fans: Fans,
        rate: float,
        where: dict[str, Any],
    ) -> pd.DataFrame:
        """Losses as drawn over all draws, then what training makes of the first of them."""
        drawn = self._networks(context, init, fans, self.draws, torch.float32)
        frames = [*_initial(drawn, data, init, fans, where)]
        first = _each(drawn, lambda p: p[: self.replicates])
        last = first

        def keep(step: int, weights: list[Tensor], biases: list[Tensor]) -> None:
            nonlocal last
            if step == len(batches):
                last = _each((weights, biases), Tensor.clone)

        train(*first, torch.relu, data.inputs, data.labels, batches, rate, keep)

        def logits(x: Tensor) -> Tensor:
            return preactivations(*last, torch.relu, x)[-1]

        found = np.array([_evaluate(logits, data, part) for part in PARTS])
        for at, quantity in enumerate(("final_loss", "final_accuracy")):
            frames.append(mean_rows(quantity, found[:, at].T, **where, part=np.array(PARTS)))
        if any(fan_out == 1 for _, fan_out in fans[:-1]):
            frames += _one_unit(last, data, fans, where)
        if where["sweep"] == "rate":
            value = _network_sharpness(last, data, context)
            frames.append(rows("sharpness", value, **where, problem="network", when="end"))
        return concat(frames)

    def _rates(self, context: Context) -> Part:
        """Where theory knows the stability threshold: least squares, and softmax regression."""
        data = self._load(torch.float64, context.device)
        x, y = data.inputs[data.train], data.labels[data.train]
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        target = functional.one_hot(y, data.classes).to(x.dtype)
        features = x[:, :-1].numpy(force=True)
        sharp, smooth = least_squares_sharpness(features), softmax_smoothness(features)

        def squares(p: Sequence[Tensor]) -> Tensor:
            return (x @ p[0] - target[:, :1]).square().sum() / (2 * len(x))

        def softmax(p: Sequence[Tensor]) -> Tensor:
            return functional.cross_entropy(x @ p[0], y)

        zero = x.new_zeros((x.shape[1], data.classes))
        for name, loss, at, exact in (
            ("least_squares", squares, zero[:, :1], sharp),
            ("softmax", softmax, zero, sharp / data.classes),
        ):
            found = sharpness(loss, [at], context, FINE)
            yield 0.0, rows("sharpness", found, exact, problem=name)
        hessian = (x.T @ x / len(x)).numpy(force=True)
        other = torch.tensor(context.numpy("start", *zero.shape).standard_normal(zero.shape))
        other = other.to(zero)
        rounding = float(gamma(sum(x.shape), FORMATS["float64"].unit_roundoff))
        traces = []
        for place, rate in enumerate(self.learning_rate):
            points = [zero, other]
            for _ in range(DESCENT):
                points = [w - rate * (x.T @ (x @ w - target)) / len(x) for w in points]
            left = float((points[1] - points[0])[:, 0].norm() / other[:, 0].norm())
            told = descent_contraction(hessian, rate, DESCENT, other[:, 0].numpy(force=True))
            losses, w = [], zero
            for _ in range(DESCENT + 1):
                losses.append(float(softmax([w])))
                w = w - rate * (x.T @ ((x @ w).softmax(dim=1) - target)) / len(x)
            bound = softmax_loss_bound(features, data.classes, rate, DESCENT)
            rises = float(np.mean(np.diff(losses) > rounding * max(losses)))
            gap, known = (math.log10(max(share, TINY)) for share in (left, told))
            traces.append([gap, known, rises, max(losses), bound])
            yield (place + 1) / (len(self.learning_rate) + 1), None
        gaps, told, rises, worst, bound = np.transpose(traces)
        where = {"learning_rate": self.learning_rate}
        gentle = np.where(smooth * np.array(self.learning_rate) <= 2, 0.0, np.nan)
        yield 1.0, concat([
            rows("log10_least_squares_gap", gaps, told, **where, rounding=rounding),
            rows("softmax_rises", rises, gentle, **where),
            rows("softmax_worst_loss", worst, **where),
            rows("softmax_loss_bound", bound, **where),
        ])  # fmt: skip

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """The programs' steps and gap, their cost, the loss as drawn, one unit, the rates."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """Accuracies and gaps of the two programs, and what one unit leaves."""
        return _answer(table)

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The curves of training, the gap between the programs, the sweeps, the rates."""
        return _figures(table)


@lru_cache(maxsize=1)
def _images(folder: str | None, content: str | None) -> Images:
    """The images of ``folder``, whose digest must be ``content``; of Fashion-MNIST without."""
    images = read_images("fashion_mnist" if folder is None else "idx", folder)
    if content not in (None, images.digest):
        raise InputError(f"experiment.folder={folder!r}: its files have changed in the meantime")
    return images


def _each(layers: Layers, change: Callable[[Tensor], Tensor]) -> Layers:
    weights, biases = layers
    return [change(p) for p in weights], [change(p) for p in biases]


class _Calls(TorchDispatchMode):
    """Counts the calls of torch's operators, those of the backward pass included."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class _Follow:
    """Two float32 programs step by step: how far they are apart, and how far they may be.

    With e the difference of the parameters, H the Hessian and G the gradient of the exact loss,
    one step makes e - rate H e, minus rate (G(w + e) - G(w) - H e), of which kinks are the most,
    and the two programs' rounding errors: a bound on |e| grows by the factor |(I - rate H) e| / |e|
    and by the norms of these.  Rounding errors are measured against the step in float64, and count
    for no more than rounding can do.
    """

    def __init__(self, programs: dict[str, Program], rate: float) -> None:
        self._programs, self._rate = programs, rate
        self._bound, self.kinks = 0.0, 0
        self.gaps: list[float] = []
        self.bounds: list[float] = []
        self.errors: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}

    def step(self, x: Tensor, y: Tensor, *, checked: bool) -> None:
        """Both programs' next step; ``checked``: with its bound."""
        before = _states(self._programs)
        for program in self._programs.values():
            program.step(x, y)
        after = _states(self._programs)
        size = _norm(after[0])
        self.gaps.append(_norm(_minus(after[1], after[0])) / size)
        if checked:
            self._check(before, after, size, x.double(), y)

    def _check(
        self,
        before: list[list[Tensor]],
        after: list[list[Tensor]],
        size: float,
        x: Tensor,
        y: Tensor,
    ) -> None:
        def loss(p: Sequence[Tensor]) -> Tensor:
            return functional.cross_entropy(torch.relu(x @ p[0] + p[1]) @ p[2] + p[3], y)

        if not math.isfinite(size):
            self.bounds.append(math.nan)
            for found in self.errors.values():
                found.append((math.nan, math.nan, math.nan))
            return
        exact = [curvature(loss, state) for state in before]
        gap = _minus(before[1], before[0])
        bent = exact[0].product(gap)
        turned = _minus(exact[1].gradient, exact[0].gradient)
        carried = _norm([e - self._rate * h for e, h in zip(gap, bent, strict=True)])
        apart = _norm(gap)
        self._bound *= carried / apart if apart else 0.0
        self._bound += self._rate * _norm(_minus(turned, bent))
        signs = [x @ state[0] + state[1] > 0 for state in before]
        self.kinks += int((signs[0] != signs[1]).sum())
        inputs, labels = x.numpy(force=True), y.numpy(force=True)
        single = FORMATS["float32"]
        for name, old, new, look in zip(self._programs, before, after, exact, strict=True):
            target = [p - self._rate * g for p, g in zip(old, look.gradient, strict=True)]
            error = _norm(_minus(new, target))
            arrays = [[p.numpy(force=True) for p in state] for state in (old, new)]
            with np.errstate(all="ignore"):
                limit = step_rounding(inputs, labels, arrays[0], self._rate, single.unit_roundoff)
                stored = storage_rounding(np.concatenate([p.ravel() for p in arrays[1]]), single)
            # The bound is on rounding: a step that overflows is none of it.
            limit = limit if math.isfinite(stored) else math.nan
            self._bound += min(error, limit)
            self.errors[name].append((error / size, stored / size, limit / size))
        self.bounds.append(self._bound / size)

    def rows(self, where: dict[str, Any]) -> Iterator[pd.DataFrame]:
        """Gaps by step with their bounds, and steps beside the exact ones."""
        checked = np.arange(len(self.bounds)) + 1
        scale = FORMATS["float64"].unit_roundoff / FORMATS["float32"].unit_roundoff
        for dtype, factor in (("float32", 1.0), ("float64", scale)):
            bound = factor * np.asarray(self.bounds)
            yield rows("gap_bound", bound, **where, dtype=dtype, step=checked)
        there = {**where, "dtype": "float32"}
        yield rows("kinks_crossed", self.kinks, **there)
        for name, found in self.errors.items():
            error, stored, limit = np.transpose(found)
            each = {**there, "program": name, "step": checked}
            yield rows("step_error", error, stored, **each)
            yield rows("step_error_bound", limit, **each)


def _states(programs: dict[str, Program]) -> list[list[Tensor]]:
    return [[p.to(torch.float64, copy=True) for p in one.parameters()] for one in programs.values()]


def _gap_rows(gaps: list[float], where: dict[str, Any]) -> pd.DataFrame:
    return rows("gap", gaps, 0.0, **where, step=np.arange(len(gaps)) + 1)


def _minus(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors]).norm())


def _evaluate(logits: Callable[[Tensor], Tensor], data: Dataset, part: str) -> tuple[Array, Array]:
    """Mean cross-entropy and accuracy of each network, (nets,), on a part."""
    which = data.train if part == "train" else data.test
    loss = right = torch.zeros((), dtype=torch.float64, device=which.device)
    for index in which.split(CHUNK):
        found = logits(data.inputs[index])
        found = found.reshape(-1, *found.shape[-2:])
        labels = data.labels[index]
        loss = loss + len(index) * cross_entropy(found, labels).to(torch.float64)
        right = right + (found.argmax(dim=-1) == labels).sum(dim=-1)
    return (loss / len(which)).numpy(force=True), (right / len(which)).numpy(force=True)


def _curves(programs: dict[str, Program], data: Dataset) -> Array:
    """Loss and accuracy, (programs, parts, 2)."""
    return np.array(
        [[_evaluate(program.logits, data, part) for part in PARTS] for program in programs.values()]
    )[..., 0]


def _same(
    programs: dict[str, Program], data: Dataset, where: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """The two accuracies' difference, and the share of samples that rounding could decide."""
    one, other = (p.logits(data.inputs[data.test]) for p in programs.values())
    first, second = one.topk(2, dim=1).values.unbind(dim=1)
    sure = first - second > 2 * (one - other).abs().max()
    labels = data.labels[data.test]
    right = [(o.argmax(dim=1) == labels).to(torch.float64).mean() for o in (one, other)]
    yield rows("accuracy_gap", float((right[1] - right[0]).abs()), 0.0, **where)
    yield rows("unsure", float((~sure).to(torch.float64).mean()), **where)


def _initial(
    drawn: Layers,
    data: Dataset,
    init: str,
    fans: Fans,
    where: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    """The loss of the networks as drawn, in float64, beside its prediction."""
    if where["sweep"] == "rate":
        return
    probes = data.train[:PROBES]
    x = data.inputs[probes].to(torch.float64)
    found = cross_entropy(
        preactivations(*_each(drawn, Tensor.double), torch.relu, x)[-1], data.labels[probes]
    )
    norms = x.square().sum(dim=1).numpy(force=True)
    told = initial_loss(norms, fans, [INITIALIZATIONS[init].std(*fan) for fan in fans])
    yield mean_rows(
        "initial_loss", found.numpy(force=True), told.value, **where, neglected=told.neglected
    )


def _one_unit(
    last: Layers, data: Dataset, fans: Fans, where: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Accuracy behind a layer of one unit, and the best that its output allows, in float64."""
    some = data.train[:CHUNK]
    z = preactivations(*_each(last, Tensor.double), torch.relu, data.inputs[some].double())
    narrow = next(at for at, (_, fan_out) in enumerate(fans) if fan_out == 1)
    codes = torch.relu(z[narrow])[..., 0].numpy(force=True)
    labels = data.labels[some]
    right = (z[-1].argmax(dim=-1) == labels).to(torch.float64).mean(dim=1)
    best = [interval_accuracy(c, labels.numpy(force=True), data.classes) for c in codes]
    there = {**where, "replicate": np.arange(len(codes))}
    yield rows("one_unit_accuracy", right.numpy(force=True), **there)
    yield rows("one_unit_bound", best, **there)


def _network_sharpness(net: Layers, data: Dataset, context: Context) -> float:
    """lambda_max of the first network's loss; nan where its parameters are not finite."""
    some = data.train[:CURVED]
    x, y = data.inputs[some], data.labels[some]
    weights, biases = net
    layers = len(weights)

    def loss(p: Sequence[Tensor]) -> Tensor:
        return cross_entropy(preactivations(p[:layers], p[layers:], torch.relu, x)[-1], y).sum()

    at = [p[:1] for p in (*weights, *biases)]
    return sharpness(loss, at, context, ROUGH)


def sharpness(loss: Loss, at: Sequence[Tensor], context: Context, tolerance: float) -> float:
    """The largest eigenvalue of the Hessian, by Lanczos iteration; nan where it is not finite."""
    if not all(bool(p.isfinite().all()) for p in at):
        return math.nan
    product = curvature(loss, at).product
    sizes = [p.numel() for p in at]

    def times(vector: Array) -> Array:
        parts = torch.tensor(vector, dtype=at[0].dtype, device=at[0].device).flatten().split(sizes)
        found = product([part.view_as(p) for part, p in zip(parts, at, strict=True)])
        return torch.cat([f.flatten() for f in found]).numpy(force=True).astype(np.float64)

    n = sum(sizes)
    start = context.numpy("sharpness", n).standard_normal(n)
    first = times(start)
    if not np.isfinite(first).all() or not first.any():
        return float(first.sum())
    operator = LinearOperator((n, n), matvec=times, dtype=np.float64)
    return float(eigsh(operator, 1, which="LA", tol=tolerance, v0=start,
                       return_eigenvectors=False)[0])  # fmt: skip


def _beside(table: pd.DataFrame, quantity: str, limit: str) -> pd.DataFrame:
    """The rows of a quantity that have a finite limit, with it in the column ``allowed``."""
    ours, theirs = select(table, quantity), select(table, limit)
    factors = list(table.columns[: table.columns.get_loc("quantity")])
    keys = [name for name in factors if ours[name].notna().any()]
    right = theirs[[*keys, "measured"]].rename(columns={"measured": "allowed"})
    joined = ours.merge(right, on=keys)
    return joined[np.isfinite(joined["allowed"])]


def _claims(table: pd.DataFrame) -> list[Claim]:
    found = []
    steps = _beside(table, "step_error", "step_error_bound")
    if not steps.empty:
        found.append(
            claims.bounded(
                "steps_are_exact",
                "Each float32 step of either program is the exact step, which autograd finds in "
                "float64, up to the rounding errors of its products, softmax and update. Measured: "
                "|error| / |weights|.",
                "|error| <= gamma_n |A| |B| entrywise, carried through: Higham 2002, sec. 3.5",
                steps.assign(predicted=0.0),
                allowed=steps["allowed"],
            )
        )
    gaps = _beside(table, "gap", "gap_bound")
    for dtype, part in gaps.groupby("dtype", sort=False):
        apart = part["measured"].max() > 0
        folk = "Same seed, same data, same mathematics: the same network, bit for bit."
        how = (
            "what the roundings of all steps add up to, each carried on by I - rate H, and the "
            "kinks that only one of them has crossed"
        )
        if dtype == "float64":
            how = "float32's bound times 2^-29, as all roundings are smaller by that"
        found.append(
            claims.bounded(
                f"scratch_is_concise_{dtype}",
                f"From the same parameters and batches the two programs' weights stay equal in "
                f"{dtype} up to {how}. Measured: |difference| / |weights|.",
                "e' = (I - rate H) e + kinks + roundings, summed: a discrete Gronwall inequality",
                part,
                allowed=part["allowed"],
                folk=folk if apart and dtype == "float32" else "",
            )
        )
    same = _beside(table, "accuracy_gap", "unsure")
    found.append(
        claims.bounded(
            "same_accuracy",
            "The two programs' test accuracies differ by no more than the share of samples whose "
            "two largest logits are closer than twice the largest difference of a logit.",
            "The argmax changes nowhere else",
            same,
            allowed=same["allowed"],
        )
    )
    found.append(
        claims.bounded(
            "cost",
            "A step of either program on B samples takes 2 B fan_in fan_out operations for each "
            "matrix product: three products a layer, two in the first.",
            "Exact count",
            select(table, "flops"),
            allowed=0.0,
        )
    )
    first = select(table, "initial_loss")
    found.append(
        claims.statistical(
            "initial_loss",
            "Before training the mean loss over K classes is ln K + (1 - 1/K) q / 2, q the logits' "
            "variance. Allowed beside sampling: the mean of q^2 / 16, by which it may fall short.",
            "E |h|^2 of ReLU: He et al. 2015, eq. 9; d/dq E ln sum exp = (1 - E sum p^2) / 2",
            first,
            resolution=np.maximum(first["predicted"] / 4, first["neglected"].astype(float)),
            bias=first["neglected"].to_numpy(float) + 64 * FORMATS["float64"].unit_roundoff,
        )
    )
    units = _beside(table, "one_unit_accuracy", "one_unit_bound")
    if not units.empty:
        share = units["measured"] / units["allowed"]
        found.append(
            claims.bounded(
                "one_unit",
                "Behind a layer of one unit each of K classes is predicted on one interval of that "
                "unit's output: no more of the training samples are right than K intervals can "
                "get. Measured: the accuracy over that of the best intervals.",
                "The largest of K lines is convex: each is the largest on one interval",
                units.assign(measured=share, predicted=0.0),
                allowed=1 + 1e-12,
            )
        )
    return [*found, *_rate_claims(table)]


def _rate_claims(table: pd.DataFrame) -> Iterator[Claim]:
    known = select(table, "sharpness").dropna(subset="predicted")
    yield claims.bounded(
        "sharpness",
        "Lanczos iteration on Hessian-vector products finds the Hessian's largest eigenvalue, the "
        "sharpness, where it is known: lambda_max(X^T X / N) for least squares, 1 / K of that for "
        "softmax regression over K classes at 0. Allowed: the share 1e-8, a hundred times the "
        "tolerance of the iteration.",
        "Hessian at equal weights: (I - 11^T / K) / K times X^T X / N",
        known,
        allowed=1e-8 * known["predicted"],
    )
    gap = select(table, "log10_least_squares_gap")
    # What has decayed is known to the rounding errors of the weights that it is left of.
    decayed = 10 ** np.clip(-gap["predicted"].to_numpy(float), 0.0, 300.0)
    yield claims.bounded(
        "least_squares_threshold",
        f"The distance between two descents of least squares changes in {DESCENT} steps by "
        f"(I - rate H)^{DESCENT}: it grows without limit at rates above 2 / lambda_max, and at no "
        "others. Measured: its change in decades.",
        "Quadratic loss, exact; rounding: gamma of the terms of both products, each step",
        gap,
        allowed=8 * DESCENT * gap["rounding"].to_numpy(float) * decayed,
    )
    rises = select(table, "softmax_rises").dropna(subset="predicted")
    if not rises.empty:
        yield claims.bounded(
            "softmax_descends",
            "Full-batch descent of softmax regression never raises the loss at rates up to "
            "4 / lambda_max(X^T X / N). Measured: the share of steps that do.",
            "Boehning 1992; Nesterov 2004, lemma 1.2.3",
            rises,
            allowed=0.0,
        )
    worst = _beside(table, "softmax_worst_loss", "softmax_loss_bound")
    top, apart = worst["learning_rate"].idxmax(), gap["learning_rate"].idxmax()
    yield claims.bounded(
        "cross_entropy_cannot_explode",
        "The loss of softmax regression over K classes exceeds ln K by at most 2 rate steps "
        f"max |x|^2 at any rate: within {DESCENT} steps at {worst.loc[top, 'learning_rate']:g} it "
        f"reaches {worst.loc[top, 'measured']:.3g} nats, where the distance of least squares "
        f"changes by {gap.loc[apart, 'measured']:.3g} decades. Measured: the largest loss over "
        "that bound.",
        "|gradient| <= sqrt(2) max |x|",
        worst.assign(measured=worst["measured"] / worst["allowed"], predicted=0.0),
        allowed=1.0,
        folk="A learning rate above 2 / lambda_max makes the loss explode.",
    )  # fmt: skip


def _final(table: pd.DataFrame, program: str) -> pd.DataFrame:
    """The last epoch's test accuracies of a program in float32, one row an initialization."""
    part = select(table, "accuracy", program=program, part="test", dtype="float32")
    return part[part["epoch"] == part["epoch"].max()]


def _answer(table: pd.DataFrame) -> str:
    scratch, concise = (_final(table, name) for name in PROGRAMS)
    epochs = scratch["epoch"].iloc[0]
    told = "; ".join(
        f"{row['init']}: {row['measured']:.1%} from scratch, {other:.1%} concise"
        for (_, row), other in zip(scratch.iterrows(), concise["measured"], strict=True)
    )
    apart = {dtype: select(table, "gap", dtype=dtype)["measured"].max() for dtype in DTYPES}
    text = (
        f"Test accuracy after {epochs} epoch{'s' if epochs > 1 else ''} ({told}); the weights of "
        f"the two programs part by at most {apart['float64']:.1g} of their size in float64 and "
        f"{apart['float32']:.1g} in float32"
    )
    units = _beside(table, "one_unit_accuracy", "one_unit_bound")
    if not units.empty:
        best = units.loc[units["measured"].idxmax()]
        text += (
            f"; a layer of one unit leaves at most {best['measured']:.0%} of the training samples "
            f"right, of {best['allowed']:.0%} that its output allows"
        )
    return f"{text}."


def _figures(table: pd.DataFrame) -> list[Figure]:
    return [_curve_figure(table), _gap_figure(table), _sweep_figure(table), _rate_figure(table)]


def _curve_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(2)
    for ax, quantity in zip(axes[0], ("loss", "accuracy"), strict=True):
        data = select(table, quantity, dtype="float32")
        for init, color in zip(dict.fromkeys(data["init"]), PALETTE, strict=False):
            for part, style, marker in (("train", "-", MARKERS[0]), ("test", "--", MARKERS[1])):
                cell = data[(data["init"] == init) & (data["part"] == part)]
                one, other = (cell[cell["program"] == name] for name in PROGRAMS)
                label = f"{init}, {part}"
                ax.plot(other["epoch"], other["measured"], style, color=color, label=label)
                ax.plot(one["epoch"], one["measured"], marker, color=color, ms=4)
        ax.set(xlabel="epoch", title=f"Mean {quantity}" if quantity == "loss" else "Accuracy")
        ax.set_ylabel("cross-entropy, nats" if quantity == "loss" else "share of samples right")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 1].set_ylim(0, 1.02)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4)
    final = _final(table, "concise")
    told = ", ".join(f"{row['init']} {row['measured']:.1%}" for _, row in final.iterrows())
    return Figure(
        "curves",
        "Loss and accuracy by epoch, in float32: the concise program as lines, the one from "
        "scratch as marks upon them.",
        f"Curves of training; test accuracies at the end: {told}.",
        figure,
    )


def _gap_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import INK, PALETTE, canvas

    figure, axes = canvas(2)
    left, right = axes[0]
    inits = list(dict.fromkeys(select(table, "gap")["init"]))
    styles = dict(zip(inits, ("-", "--", "-.", ":"), strict=False))
    for dtype, color in zip(DTYPES, PALETTE, strict=False):
        for init, style in styles.items():
            cell = select(table, "gap", dtype=dtype, init=init)
            bound = select(table, "gap_bound", dtype=dtype, init=init)
            left.plot(cell["step"], cell["measured"].replace(0.0, np.nan), style, color=color,
                      label=f"{dtype}, {init}")  # fmt: skip
            left.plot(bound["step"], bound["measured"], style, color=color, lw=0.8, alpha=0.6)
    left.set(xlabel="step", ylabel="|difference| / |weights|", yscale="log",
             title="Scratch against concise")  # fmt: skip
    for program, color in zip(PROGRAMS, PALETTE[2:], strict=False):
        for init, style in styles.items():
            cell = select(table, "step_error", program=program, init=init)
            limit = select(table, "step_error_bound", program=program, init=init)
            right.plot(cell["step"], cell["measured"], style, color=color,
                       label=f"{program}, {init}")  # fmt: skip
            right.plot(limit["step"], limit["measured"], style, color=color, lw=0.8, alpha=0.6)
    right.set(xlabel="step", ylabel="|error| / |weights|", yscale="log",
              title="One float32 step against the exact one")  # fmt: skip
    stored = select(table, "step_error", program="scratch", init=inits[0])
    right.plot(stored["step"], stored["predicted"], ":", color=INK, label="storing, theory")
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    apart = {dtype: select(table, "gap", dtype=dtype)["measured"].max() for dtype in DTYPES}
    kinks = int(select(table, "kinks_crossed", dtype="float32")["measured"].sum())
    return Figure(
        "gap",
        "Two programs of the same mathematics part by their roundings alone. Thin lines: what the "
        "roundings may add up to (left) and what those of one step may be (right), where a unit "
        "whose sign is in doubt counts in full. Black: rounding the new weights alone.",
        f"Relative distance of the two programs' weights by step: at most {apart['float32']:.1g} "
        f"in float32, with {kinks} kinks crossed by one alone, and {apart['float64']:.1g} in "
        "float64, each below its bound.",
        figure,
    )


def _sweep_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import MARKERS, PALETTE, canvas

    data = select(table, "final_accuracy", part="test")
    figure, axes = canvas(3)
    inits = dict(zip(dict.fromkeys(data["init"]), zip(PALETTE, MARKERS, strict=True), strict=False))
    for ax, sweep, label in zip(axes[0], ("width", "depth"), ("units", "layers"), strict=False):
        for init, (color, marker) in inits.items():
            cell = data[(data["sweep"] == sweep) & (data["init"] == init)].sort_values(sweep)
            ax.errorbar(cell[sweep].astype(float), cell["measured"], cell["stderr"].fillna(0.0),
                        marker=marker, color=color, label=init)  # fmt: skip
        ax.set(xlabel=f"hidden {label}", title=f"By {sweep}", ylim=(0, 1.02))
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set_xticks(sorted(data["width"].dropna().unique()))
    axes[0, 0].xaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("test accuracy after training")
    axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    units = _beside(table, "one_unit_accuracy", "one_unit_bound")
    ax = axes[0, 2]
    for init, (color, marker) in inits.items():
        cell = units[units["init"] == init]
        ax.plot(cell["allowed"], cell["measured"], marker, ls="", color=color, label=init)
    ax.axline((0, 0), slope=1, color=PALETTE[7], lw=1.2)
    ax.set(xlabel="best that the unit's output allows", ylabel="train accuracy",
           title="Behind one unit", xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axes[0, 0].legend()
    best = units.loc[units["measured"].idxmax()]
    return Figure(
        "sweeps",
        "Test accuracy by hidden units and by hidden layers, mean and standard error over the "
        "trainings; and networks with a layer of a single unit: each class holds one interval of "
        "its output, so that accuracies stay below the line.",
        f"Final accuracies of {len(data)} kinds of network. With a layer of one unit at most "
        f"{best['measured']:.1%} of the training samples are right, where {best['allowed']:.1%} "
        "are possible.",
        figure,
    )


def _rate_figure(table: pd.DataFrame) -> Figure:
    from stability.plotting import INK, MARKERS, PALETTE, canvas

    figure, axes = canvas(2)
    left, right = axes[0]
    data = select(table, "final_accuracy", part="test", sweep="rate")
    start = select(table, "sharpness", when="start").set_index("init")["measured"]
    told = []
    for init, color, marker in zip(dict.fromkeys(data["init"]), PALETTE, MARKERS, strict=False):
        cell = data[data["init"] == init].sort_values("learning_rate")
        left.plot(cell["learning_rate"], cell["measured"], marker + "-", color=color, label=init)
        first = 2 / start[init]
        best = cell.loc[cell["measured"].idxmax()]
        told.append(f"{init} does best at {best['learning_rate'] / first:.2g} times")
        left.axvline(first, color=color, ls=":", label=f"2 / sharpness, {init}")
    left.set(xscale="log", xlabel="learning rate", ylabel="test accuracy", ylim=(0, 1.02),
             title="Networks: a guide")  # fmt: skip
    gap = select(table, "log10_least_squares_gap").sort_values("learning_rate")
    worst = select(table, "softmax_worst_loss").sort_values("learning_rate")
    right.plot(
        gap["learning_rate"], gap["predicted"], color=PALETTE[0], label="least squares, theory"
    )
    right.plot(gap["learning_rate"], gap["measured"], MARKERS[0], color=PALETTE[0],
               label="least squares, distance")  # fmt: skip
    right.plot(worst["learning_rate"], np.log10(worst["measured"]), MARKERS[1], color=PALETTE[1],
               label="softmax, largest loss")  # fmt: skip
    known = select(table, "sharpness", problem="least_squares")["measured"].iloc[0]
    right.axvline(2 / known, color=INK, ls=":", label="2 / lambda_max, least squares")
    right.set(xscale="log", xlabel="learning rate", title="Without a hidden layer: a law",
              ylabel=f"log10 of distance or loss, {DESCENT} steps")  # fmt: skip
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    top = gap.iloc[-1]
    return Figure(
        "rates",
        "Left: accuracy by learning rate; dotted: 2 over the largest eigenvalue of the Hessian as "
        f"drawn, a guide only, as the eigenvalue moves in training: {', '.join(told)} this. "
        "Right: where the Hessian stays what it is, least squares explodes above 2 / lambda_max "
        "and nowhere else; the cross-entropy does not.",
        f"Least squares parts at rates above {2 / known:.3g}: at {top['learning_rate']:g} by "
        f"{top['measured']:.1f} decades, predicted {top['predicted']:.1f}; the largest loss of "
        f"softmax regression there is {worst['measured'].iloc[-1]:.3g}.",
        figure,
    )
