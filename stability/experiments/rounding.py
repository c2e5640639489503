"""How rounding errors add up: sums, inner products and chains of matrices in every format."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stability import claims
from stability.catalogue.ensembles import ENSEMBLES
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.plotting import MARKERS, PALETTE, canvas
from stability.table import concat, rows, select
from stability.theory import floating_point
from stability.theory import rounding_errors as theory

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
HALVES = ("float16", "bfloat16")
ADDENDS = {"uniform": theory.UNIFORM, "normal": theory.NORMAL}
CONFIDENCE = 8.0
"""Of Higham and Mary's bound: it fails with a probability below 1e-6 for what is run here."""
CHAINS = 40
"""Draws of a chain at most."""
BOUNDED = 4
"""Times the width, of the matrices that are compared with bounds: sqrt(n) there beats n."""
SHOWN = 1e-8
"""Of a bound, the least share that is drawn."""
SKEW = math.sqrt(8)
"""Of the square of a normal number, by which the t quantile of a mean square is widened."""


@dataclass(frozen=True)
class Rounding(Experiment):
    """Sums, inner products and chains beside Higham & Mary's bounds and the law of their rms."""

    title: ClassVar[str] = "Rounding errors"
    question: ClassVar[str] = "How do rounding errors add up in sums, inner products and chains?"

    dtype: list[str] = field(default_factory=lambda: ["bfloat16"])
    length: list[int] = field(default_factory=lambda: [64])
    depth: list[int] = field(default_factory=lambda: [4])
    width: int = 32
    replicates: int = 400

    def __post_init__(self) -> None:
        for name in ("dtype", "length", "depth"):
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.dtype:
            check_choice("experiment.dtype", name, DTYPES)
        for length in self.length:
            check_range("experiment.length", length, at_least=16, at_most=2**16)
        for depth in self.depth:
            check_range("experiment.depth", depth, at_least=1)
        check_range("experiment.width", self.width, at_least=2)
        check_range("experiment.replicates", self.replicates, at_least=1)

    def memory(self) -> int:
        """Bytes of the vectors of one length, and of the longest chain that has bounds."""
        chain = (max(self.depth) + 8) * (BOUNDED * self.width) ** 2
        return 2**24 + 32 * (2 * max(self.length) * self.replicates + chain)

    def run(self, context: Context) -> pd.DataFrame:
        """Rows by format and length or depth; samples are sums, products, chains."""
        frames: list[pd.DataFrame] = []
        cells = list(product(self.dtype, self.length))
        total = len(cells) + len(self.dtype)
        for done, (dtype, length) in enumerate(cells, start=1):
            frames.extend(self._sums(context, dtype, length))
            frames.extend(self._products(context, dtype, length))
            context.progress(done / total)
        for done, dtype in enumerate(self.dtype, start=len(cells) + 1):
            frames.append(_stagnation(context, dtype))
            for depth in self.depth:
                frames.extend(self._bounds(context, dtype, depth))
                if dtype in HALVES:
                    frames.append(self._chains(context, dtype, depth))
            context.progress(done / total)
        return concat(frames)

    def _sums(self, context: Context, dtype: str, length: int) -> Iterator[pd.DataFrame]:
        """In order, each partial sum rounded; where the sum does not come to rest before."""
        format = floating_point.FORMATS[dtype]
        for name, addends in ADDENDS.items():
            if 2 * addends.mean * length > theory.stagnation(format):
                continue
            source = context.generator("sum", dtype, length, name)
            shape = (length, self.replicates)
            draw = torch.rand if name == "uniform" else torch.randn
            x = draw(shape, generator=source, device=context.device).to(DTYPES[dtype])
            exact = x.double().sum(0)
            predicted = theory.sum_error(length, addends, format.unit_roundoff)
            yield _rms_row(
                "sum_error", _in_order(x).double() - exact, exact, predicted / format.unit_roundoff,
                format.unit_roundoff, dtype=dtype, length=length, addends=name,
            )  # fmt: skip

    def _products(self, context: Context, dtype: str, length: int) -> Iterator[pd.DataFrame]:
        """x . y as torch does it, and with every product and partial sum rounded to the format."""
        if dtype not in HALVES:
            return
        u = floating_point.FORMATS[dtype].unit_roundoff
        shape = (2, length, self.replicates)
        source = context.generator("dot", dtype, length)
        x, y = torch.randn(shape, generator=source, device=context.device).to(DTYPES[dtype])
        exact = (x.double() * y.double()).sum(0)
        found = {
            "wide": torch.bmm(x.mT[:, None], y.mT[:, :, None]).flatten(),
            "narrow": _in_order(x * y),
        }
        for name, value in found.items():
            predicted = theory.dot_error(length, u, wide=name == "wide") / u
            yield _rms_row(
                "dot_error", value.double() - exact, exact, predicted, u,
                dtype=dtype, length=length, accumulator=name,
            )  # fmt: skip

    def _chains(self, context: Context, dtype: str, depth: int) -> pd.DataFrame:
        """A vector through orthogonal layers whose outputs are stored in the format."""
        errors, sizes = [], []
        for replicate in range(min(self.replicates, CHAINS)):
            source = context.generator("chain", dtype, depth, self.width, replicate)
            layers = ENSEMBLES["orthogonal"].draw(depth, self.width, source)
            x = torch.randn((self.width, 1), generator=source, device=context.device)
            error, exact = _through(layers, x, DTYPES[dtype])
            errors.append(error)
            sizes.append(exact)
        u = floating_point.FORMATS[dtype].unit_roundoff
        predicted = float(theory.stored_chain_error(depth, u)) / u
        return _rms_row("chain_error", torch.stack(errors), torch.stack(sizes), predicted, u,
                        dtype=dtype, depth=depth, width=self.width)  # fmt: skip

    def _bounds(self, context: Context, dtype: str, depth: int) -> Iterator[pd.DataFrame]:
        """A vector through matrices of positive entries, whose bounds are the tightest."""
        width, u = BOUNDED * self.width, floating_point.FORMATS[dtype].unit_roundoff
        source = context.generator("bounds", dtype, depth, width)
        shape = (depth, width, width + 1)
        drawn = torch.rand(shape, generator=source, device=context.device)
        layers, x = drawn[..., :width] * (2 / width), drawn[0, :, width:]
        error, _ = _through(layers, x, DTYPES[dtype])
        exact = [part.to(DTYPES[dtype]).double().cpu().numpy() for part in (x.mT, *layers.mT)]
        for name, confidence in (("worst", None), ("probabilistic", CONFIDENCE)):
            bound = theory.chain_bound(exact, u, confidence)[0]
            share = float((error.abs().cpu().numpy() / bound).max())
            yield rows("share_of_bound", share, dtype=dtype, depth=depth, width=width, bound=name)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Laws of the rms, bounds, and where a sum comes to rest."""
        return list(_claims(table))

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """What an inner product's error depends on."""
        dots = select(table, "dot_error")
        if dots.empty:
            sums = select(table, "sum_error")
            row = sums.loc[sums["length"].idxmax()]
            return (
                f"A sum of {row['length']} {row['addends']} numbers errs by {row['measured']:.3g} "
                f"u of its size in {row['dtype']} (predicted {row['predicted']:.3g})."
            )
        longest = dots[dots["length"] == dots["length"].max()].set_index("accumulator")
        wide, narrow = longest.loc[["wide"]].iloc[0], longest.loc[["narrow"]].iloc[0]
        return (
            f"By the accumulator's width: over {wide['length']} terms an inner product in "
            f"{wide['dtype']} errs by {wide['measured']:.3g} u (predicted {wide['predicted']:.3g}) "
            f"as torch computes it, as over any number of terms, and by {narrow['measured']:.3g} u "
            f"(predicted {narrow['predicted']:.3g}) where partial sums are rounded as well."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Errors by length, and what is used of the bounds."""
        return [_draw_lengths(table), _draw_bounds(table)]


def _in_order(x: Tensor) -> Tensor:
    """The sum over axis 0, one addend after the other, each partial sum rounded."""
    total = x[0].clone()
    for row in x[1:]:
        total += row
    return total


def _through(layers: Tensor, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Error and value (n,) of x (n, 1) after layers (L, n, n), all as rounded to ``dtype``."""
    low, high = x.to(dtype), x.to(dtype).double()
    for layer in layers.to(dtype):
        low, high = layer @ low, layer.double() @ high
    return (low.double() - high)[:, 0], high[:, 0]


def _rms_row(
    quantity: str, error: Tensor, exact: Tensor, predicted: float, u: float, **factors: Any
) -> pd.DataFrame:
    """rms(error) / rms(exact), in units of u.  Independent samples along axis 0; of all the rest
    the mean square is taken first.  The standard error is that of the error's mean square.
    """
    squares, sizes = (
        part.square().reshape(len(part), -1).mean(1).cpu().numpy() for part in (error, exact)
    )
    count = len(squares)
    mean = squares.mean()
    scale = math.sqrt(sizes.mean()) * u
    spread = squares.std(ddof=1) if count > 1 else math.nan
    stderr = spread / math.sqrt(count) / (2 * math.sqrt(mean)) if mean > 0 else 0.0
    return rows(quantity, math.sqrt(mean) / scale, predicted, stderr / scale, count, **factors)


def _stagnation(context: Context, dtype: str) -> pd.DataFrame:
    """The first power of two that adding 1 leaves as it is."""
    powers = torch.ldexp(torch.ones((), device=context.device), torch.arange(31.0)).to(
        DTYPES[dtype]
    )
    stuck = powers[powers + 1 == powers]
    predicted = theory.stagnation(floating_point.FORMATS[dtype])
    return rows("stagnation", float(stuck[0]), predicted, dtype=dtype)


def _claims(table: pd.DataFrame) -> Iterator[Claim]:
    higham = "Higham & Mary 2019, SIAM J. Sci. Comput. 41"
    dots = select(table, "dot_error")
    texts = (
        ("sum_error", select(table, "sum_error"),
         "Where every partial sum is rounded, the rms error of a sum of n numbers, over the sum's "
         "rms, grows as sqrt(n): about 0.22 u sqrt(n) for uniform addends, 0.30 u sqrt(n) for "
         "normal ones.", ""),
        ("dot_narrow", dots[dots["accumulator"] == "narrow"] if len(dots) else dots,
         "Where every product and partial sum of an inner product of n terms is rounded to the "
         "half format, its error grows as sqrt(n).", ""),
        ("dot_wide", dots[dots["accumulator"] == "wide"] if len(dots) else dots,
         "As torch computes it, in float32 inside, an inner product in half precision is rounded "
         "once: its rms error is about 0.42 u of its rms at any length n.",
         "In half precision the error of an inner product grows like the root of its length."),
    )  # fmt: skip
    for name, part, statement, folk in texts:
        part = part[part["n_samples"] > 1]
        if part.empty:
            continue
        # Hall 1992: skewness shifts the quantile at 5 by (2 5^2 + 1) / 6 of gamma / sqrt(N).
        skewed = SKEW * 51 / 6 / np.sqrt(part["n_samples"].to_numpy(float))
        room = part["predicted"] / part["length"].astype(float)
        yield claims.statistical(
            name,
            f"{statement} Measured in u. Allowed beside sampling: the share 1 / n, for what the "
            "law neglects.",
            higham + "; the rms of one rounding by octave",
            part,
            resolution=0.5 * part["predicted"].to_numpy(float),
            bias=(room + skewed * part["stderr"]).to_numpy(float),
            folk=folk,
        )
    chain = select(table, "chain_error")
    chain = chain[chain["n_samples"] > 1]
    if not chain.empty:
        units = np.array([floating_point.FORMATS[name].unit_roundoff for name in chain["dtype"]])
        yield claims.statistical(
            "chain_error",
            "Through L orthogonal layers whose outputs are stored in half precision the relative "
            "rms error is 0.4246 sqrt(L) u, at any width. Measured in u. Allowed beside sampling: "
            "1 %, by which the constant swings with the signal's size, and u, for the next order.",
            higham + "; the rms of one rounding of Benford's law",
            chain,
            resolution=chain["predicted"].to_numpy(float),
            bias=(0.01 + units) * chain["predicted"].to_numpy(float),
        )
    for name, statement, source in (
        ("worst", "After L matrices of order n no entry of a vector errs by more than gamma_(n L) "
         "times the same product of absolute values.", "Higham 2002, lemma 3.3"),
        ("probabilistic", "After L matrices of order n no entry of a vector errs by more than "
         "Higham and Mary's probabilistic bound, with sqrt(n) u in the place of n u and their "
         f"constant lambda = {CONFIDENCE:g}.", f"{higham}, sec. 3"),
    ):  # fmt: skip
        yield claims.bounded(
            f"{name}_bound",
            f"{statement} Measured: the share of the bound that the largest error takes.",
            source,
            select(table, "share_of_bound", bound=name).assign(predicted=0.0),
            allowed=1.0,
        )
    yield claims.bounded(
        "stagnation",
        "A sum of ones comes to rest at 2^p: 256 in bfloat16, 2048 in float16, 2^24 in float32.",
        "IEEE 754-2019: half a step, and ties to even",
        select(table, "stagnation"),
        allowed=0.0,
    )


def _draw_lengths(table: pd.DataFrame) -> Figure:
    figure, axes = canvas(2, 1, 3.8, sharey=True)
    panels = {
        "Sums, in order": (select(table, "sum_error"), "addends"),
        "Inner products in half precision": (select(table, "dot_error"), "accumulator"),
    }
    said = []
    for ax, (title, (part, by)) in zip(axes[0], panels.items(), strict=True):
        groups = part.groupby([by, "dtype"], sort=False) if len(part) else []
        for i, ((name, dtype), lines) in enumerate(groups):
            lines = lines.sort_values("length")
            x = lines["length"].to_numpy(float)
            ax.errorbar(x, lines["measured"], 2 * lines["stderr"].fillna(0.0), fmt=MARKERS[i],
                        color=PALETTE[i], label=f"{name}, {dtype}")  # fmt: skip
            ax.plot(x, lines["predicted"], color=PALETTE[i])
            last = lines.iloc[-1]
            said.append(
                f"{name} {dtype} at {last['length']}: {last['measured']:.3g} "
                f"({last['predicted']:.3g})"
            )
        ax.set(xlabel="terms", xscale="log", yscale="log", title=title)
        if len(part):
            ax.legend(fontsize=8)
    axes[0][0].set_ylabel("rms error / rms of the result, in u")
    return Figure(
        "lengths",
        "Points: rms error relative to the rms of the result, in units of the unit roundoff, with "
        "two standard errors; lines: predicted. Left: each partial sum rounded. Right: torch's own "
        "inner product accumulates in float32 (wide) and is rounded once; with partial sums in "
        "half precision (narrow) errors grow.",
        f"Errors by number of terms, measured (predicted): {'; '.join(said)}.",
        figure,
    )


def _draw_bounds(table: pd.DataFrame) -> Figure:
    figure, axes = canvas(2, 1, 3.8)
    chain, shares = select(table, "chain_error"), select(table, "share_of_bound")
    most = shares.loc[shares["measured"].idxmax()]
    left, right = axes[0]
    for i, (dtype, part) in enumerate(chain.groupby("dtype", sort=False)):
        left.errorbar(part["depth"].astype(float), part["measured"],
                      2 * part["stderr"].fillna(0.0), fmt=MARKERS[i], color=PALETTE[i],
                      label=dtype)  # fmt: skip
        left.plot(part["depth"].astype(float), part["predicted"], color=PALETTE[i])
    left.set(xlabel="orthogonal layers L", ylabel="relative error, in u", xscale="log",
             yscale="log", title="Chains stored in half precision")  # fmt: skip
    if len(chain):
        left.legend()
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("")
    left.set_yticks([0.5, 1, 2, 4])
    shares = shares[shares["measured"] > SHOWN]
    for i, ((bound, dtype), part) in enumerate(shares.groupby(["bound", "dtype"], sort=False)):
        right.plot(part["depth"].astype(float), part["measured"], MARKERS[i] + "-",
                   color=PALETTE[i], lw=0.8, label=f"{bound}, {dtype}")  # fmt: skip
    right.axhline(1, color=PALETTE[-1], lw=0.8, ls=":")
    right.set(xlabel="matrices L", ylabel="largest error over its bound", xscale="log",
              yscale="log", title="Errors stay under their bounds")  # fmt: skip
    if len(shares):
        right.legend(fontsize=8)
    return Figure(
        "bounds",
        "Left: error of a vector through L orthogonal layers, points measured, lines 0.4246 "
        "sqrt(L) u. Right: the largest error of an entry of a vector after matrices of positive "
        "entries, as a share of the bound for every rounding (worst) and of Higham and Mary's "
        "(probabilistic); not drawn below 1e-8, where a bound is next to infinite.",
        f"Of a bound at most {most['measured']:.3g} is used ({most['bound']}, {most['dtype']}, "
        f"{most['depth']} matrices).",
        figure,
    )
