"""Underflow: where products of probabilities and of slopes become exactly 0, and what logs keep."""

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
from stability.catalogue.activations import ACTIVATIONS
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import underflow as kernel
from stability.kernels.products import stored
from stability.table import concat, mean_rows, rows, select
from stability.theory import underflow as theory
from stability.theory.floating_point import FORMATS, stall

MOST_FACTORS = 30_000
"""Whose logarithms, of mean -1, float16 sums: it ends at 65504."""
MOST_PRODUCTS = 30_000
"""At once: torch shares more than 32768 among threads, and flushing is set for one."""
SETTLED = 24
"""Layers after which a sigmoid network's gradient has its final rate."""
SPARE = 12
"""Layers more than predicted, below which no gradient should be left."""


@dataclass(frozen=True)
class Underflow(Experiment):
    """Equal and random probabilities multiplied in each format, their logarithms, deep sigmoids."""

    title: ClassVar[str] = "Underflow"
    question: ClassVar[str] = (
        "After how many factors is a product exactly 0, and what do logarithms save?"
    )

    dtype: list[str] = field(default_factory=lambda: ["float16", "bfloat16"])
    probability: list[float] = field(default_factory=lambda: [0.25, 0.9])
    factors: list[int] = field(default_factory=lambda: [50])
    products: int = 64
    sigma_w: list[float] = field(default_factory=lambda: [1.0])
    width: list[int] = field(default_factory=lambda: [16])
    networks: int = 8

    def __post_init__(self) -> None:
        for name in ("dtype", "probability", "factors", "sigma_w", "width"):
            check_each(f"experiment.{name}", getattr(self, name))
        for name in self.dtype:
            check_choice("experiment.dtype", name, FORMATS)
        for p in self.probability:
            check_range("experiment.probability", p, at_least=1e-3, at_most=0.99)
        for count in self.factors:
            check_range("experiment.factors", count, at_least=1, at_most=MOST_FACTORS)
        check_range("experiment.products", self.products, at_least=2, at_most=MOST_PRODUCTS)
        for sigma in self.sigma_w:
            check_range("experiment.sigma_w", sigma, at_least=0.01, at_most=1.5)
        for width in self.width:
            check_range("experiment.width", width, at_least=2)
        check_range("experiment.networks", self.networks, at_least=2)

    def memory(self) -> int:
        """One layer of all networks and their states; the random factors."""
        width = max(self.width)
        nets = self.networks * (3 * width**2 + 1500 * width)
        return 2**24 + 8 * (nets + 4 * self.products + 64 * max(self.factors))

    def run(self, context: Context) -> pd.DataFrame:
        """Factors: dtype, subnormals; probability; factors; sigma_w, width."""
        frames: list[pd.DataFrame] = []
        for done, name in enumerate(self.dtype, start=1):
            frames += self._products(context, name)
            frames += self._logarithms(context, name)
            frames += self._chain(context, name)
            for sigma, width in product(self.sigma_w, self.width):
                frames.append(self._network(context, name, sigma, width))
            context.progress(done / len(self.dtype))
        return concat(frames)

    def _products(self, context: Context, name: str) -> Iterator[pd.DataFrame]:
        """Equal and uniform factors, with subnormals kept and, where a CPU can, flushed."""
        dtype, entry = getattr(torch, name), FORMATS[name]
        one = torch.ones((), dtype=dtype, device=context.device)

        def draw(step: int) -> Tensor:
            source = context.generator("uniform", self.products, step)
            drawn = torch.rand(self.products, generator=source, device=context.device)
            return (1 - drawn).to(dtype)

        for flush in (False, True) if context.device == "cpu" else (False,):
            # What flushes subnormals here does so for numpy and Python as well: theory comes after.
            with kernel.subnormals(flush) as possible:
                if flush and not possible:
                    continue
                flushed = not kernel.keeps_subnormals(one)
                repeated = [kernel.repeated_product(one * p) for p in self.probability]
                found = kernel.first_zero(draw, one.expand(self.products)).numpy(force=True)
            where: dict[str, Any] = {"dtype": name, "subnormals": "flushed" if flush else "kept"}
            for p, (steps, last) in zip(self.probability, repeated, strict=True):
                told = theory.product_depth(p, entry, flush=flushed)
                yield rows("product_depth", steps, told, **where, probability=p)
                rest = 0.0 if flushed else stall(float(one * p), entry)
                unit = entry.smallest_subnormal
                yield rows("rest_in_subnormals", last / unit, rest / unit, **where, probability=p)
            told = theory.uniform_product_depth(entry, flush=flushed)
            yield mean_rows("uniform_depth", found, told, **where)
            counts = np.unique(np.rint(told + math.sqrt(told) * np.arange(-3, 3.5, 0.5)))
            share = np.mean(found[:, None] <= counts, axis=0)
            law = theory.uniform_product_share(counts, entry, flush=flushed)
            yield rows("uniform_share", share, law, np.sqrt(law * (1 - law) / self.products),
                       self.products, **where, count=counts)  # fmt: skip

    def _logarithms(self, context: Context, name: str) -> Iterator[pd.DataFrame]:
        """ln of a product of uniform numbers as the format's sum of logarithms."""
        dtype, entry = getattr(torch, name), FORMATS[name]
        accumulator = FORMATS["float32"].unit_roundoff if entry.precision < 24 else None
        for count in self.factors:
            drawn = 1 - context.numpy("factors", count).random(count)
            numbers = torch.tensor(drawn, device=context.device).to(dtype)
            numbers = numbers.clamp(min=entry.smallest_normal)
            estimate = float(numbers.log().sum())
            naive = float(numbers.prod())
            exact = numbers.double().tolist()
            error = theory.log_product_error(estimate, exact)
            total = -float(numbers.double().log().sum())
            bound = theory.log_sum_bound(count, total, entry.unit_roundoff, accumulator)
            cell: dict[str, Any] = {"dtype": name, "factors": count}
            yield rows("naive_product", naive, **cell)
            yield rows("log_sum", estimate, estimate - error, **cell)
            yield rows("log_sum_error", error, 0.0, **cell, bound=bound)

    def _chain(self, context: Context, name: str) -> Iterator[pd.DataFrame]:
        """x <- sigmoid(x), differentiated by autograd in the format."""
        entry = FORMATS[name]
        slope = theory.iterated_sigmoid().slope
        told = theory.product_depth(slope, entry)
        found = kernel.iterated_sigmoid(int(told) + SPARE, getattr(torch, name), context.device)
        quarter = theory.product_depth(0.25, entry)
        yield rows("chain_depth", found, told, dtype=name)
        yield rows("chain_before_quarter", quarter - found, quarter - told, dtype=name)

    def _network(self, context: Context, name: str, sigma: float, width: int) -> pd.DataFrame:
        """Gradients of a unit vector at the top, down to the layer where they are 0."""
        entry, dtype = FORMATS[name], getattr(torch, name)
        norms = theory.settled_log_norms(ACTIVATIONS["sigmoid"], sigma, width, SETTLED)
        told = theory.vanishing_depth(norms, width, entry)
        depth = math.ceil(told) + SPARE

        def weights(layer: int) -> Tensor:
            source = context.generator("sigmoid", width, self.networks, layer)
            shape = (self.networks, width, width)
            unit = torch.randn(shape, generator=source, device=context.device)
            return stored(unit * (sigma / math.sqrt(width)), dtype)

        source = context.generator("sigmoid ends", width, self.networks)
        ends = torch.randn(
            (2, self.networks, width, 1), generator=source, device=context.device
        ).double()
        top = ends[1] / torch.linalg.vector_norm(ends[1], dim=1, keepdim=True)
        start, end = stored(ends[0], dtype), stored(top, dtype)
        found = kernel.vanishing(weights, depth, start, end, dtype)
        rate = float(norms[-1] - norms[-2])
        return mean_rows("network_depth", found.numpy(force=True), told, dtype=name, sigma_w=sigma,
                         width=width, rate=math.exp(rate))  # fmt: skip

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Depths of products, exact and on average; logarithms under their bound; sigmoids."""
        return _claims(table)

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """Where products end, and what the logarithm keeps."""
        uniform = select(table, "uniform_depth", subnormals="kept")
        errors = select(table, "log_sum_error")
        errors = errors[errors["factors"] == errors["factors"].max()]
        worst = errors.loc[errors["measured"].abs().idxmax()]
        total = select(table, "log_sum", factors=worst["factors"], dtype=worst["dtype"]).iloc[0]
        parts = ", ".join(
            f"{row.measured:.1f} in {row.dtype} (predicted {row.predicted:.1f})"
            for row in uniform.itertuples()
        )
        nets = select(table, "network_depth")
        net = nets.loc[nets["measured"].idxmin()]
        return (
            f"A product of random probabilities is exactly 0 after {parts} factors on average; its "
            f"logarithm over {worst['factors']} factors, {total['measured']:.5g}, errs by at most "
            f"{abs(worst['measured']):.2g} ({worst['dtype']}); a sigmoid network's "
            f"gradient is exactly 0 after {net['measured']:.1f} layers in {net['dtype']} with "
            f"sigma_w = {net['sigma_w']:g} (predicted {net['predicted']:.1f})."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Products by format, their law, the logarithms' errors, the gradients' ends."""
        return [_draw_products(table), _draw_gradients(table)]


def _claims(table: pd.DataFrame) -> list[Claim]:
    depths = select(table, "product_depth")
    uniform = select(table, "uniform_depth")
    u = np.array([FORMATS[name].unit_roundoff for name in uniform["dtype"]])
    sums = select(table, "log_sum_error")
    nets = select(table, "network_depth")
    step = 1 / np.abs(np.log(nets["rate"].to_numpy(float)))
    rests = select(table, "rest_in_subnormals")
    rests = rests[rests["predicted"] > 0].sort_values("predicted", ascending=False)
    chains = select(table, "chain_depth")
    longest = chains.loc[chains["measured"].idxmax()]
    earlier = select(table, "chain_before_quarter", dtype=longest["dtype"])["measured"].iloc[0]
    quarter = longest["measured"] + earlier
    made = [
        claims.bounded(
            "product_depth",
            "p^k, multiplied in the format, is exactly 0 after the predicted number of factors, "
            "with subnormal numbers and where the hardware flushes them: 0.25^k in float32 after "
            "75 or 64, which tells the two apart.",
            "IEEE 754-2019, round to nearest even, in integer arithmetic", depths, allowed=0.0,
        ),
        claims.statistical(
            "uniform_depth",
            "A product of random factors, uniform on (0, 1), is 0 after -ln(smallest subnormal) + "
            "1.9635 of them on average, 1.9635 = Euler's gamma + 2 ln 2; where subnormals are "
            "flushed, after 1 - ln(smallest normal). Allowed beside sampling: u for each factor, "
            "for the roundings of normal numbers.",
            "Sums of exponential variables; the chain k -> round(k U)", uniform,
            resolution=uniform["predicted"].to_numpy(float) / 2,
            bias=uniform["predicted"].to_numpy(float) * u,
        ),
        claims.bounded(
            "log_space",
            "The sum of the logarithms of N factors never underflows: it errs by at most "
            "gamma_(N + 1) = (N + 1) u / (1 - (N + 1) u) times its size, in half formats by 3 u "
            "plus gamma_N of float32.",
            "Higham 2002, lemma 3.1; the exact product in integers", sums,
            allowed=sums["bound"].to_numpy(float),
        ),
        claims.bounded(
            "iterated_sigmoid",
            "Layers of x <- sigmoid(x) come to rest at x = 0.659, where the slope is 0.2247, not "
            f"1/4. In {longest['dtype']} the gradient is exactly 0 after {longest['measured']:.0f} "
            f"layers, where 0.25^L is 0 after {quarter:.0f}. Allowed: one layer, for the roundings "
            "of subnormal numbers.",
            "x = sigmoid(x)", chains.sort_values("measured", ascending=False), allowed=1.0,
            folk="The gradient of a chain of sigmoids falls as 0.25^L.",
        ),
        claims.statistical(
            "network",
            "The gradient of a deep sigmoid network is exactly 0 where mean-field theory, to first "
            "order in 1 / width, has its largest entry fall below the smallest subnormal. Allowed "
            "beside sampling, with r the decay of ln |gradient| a layer: (ln 2) / r, as entries "
            "are lost between half a subnormal and two; half a layer, as layers are whole; and "
            "depth / (width^2 r), for the next order.",
            "Schoenholz et al. 2017; Roberts, Yaida & Hanin 2022", nets,
            resolution=nets["predicted"].to_numpy(float) / 2,
            bias=math.log(2) * step + 0.5
            + step * nets["predicted"].to_numpy(float) / nets["width"].to_numpy(float) ** 2,
        ),
    ]  # fmt: skip
    if not rests.empty:
        made.append(
            claims.bounded(
                "rest",
                "Where p is above 1/2 and subnormals are kept, p^k is never 0: it comes to rest at "
                "j times the smallest subnormal, as j p rounds to j once j (1 - p) is below 1/2. "
                "Measured: j.",
                "IEEE 754-2019, round to nearest even", rests,
                allowed=0.0, folk="A long enough product of probabilities underflows to 0.",
            )
        )  # fmt: skip
    return made


def _draw_products(table: pd.DataFrame) -> Figure:
    """Depths by probability; the law of random factors; errors of the log-space sums."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(3, height=3.8)
    equal, law, logs = axes.flat
    names = list(dict.fromkeys(table["dtype"].dropna()))
    for i, name in enumerate(names):
        color, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        for mode, face in (("kept", color), ("flushed", "none")):
            part = select(table, "product_depth", dtype=name, subnormals=mode)
            part = part.sort_values("probability")
            equal.plot(part["probability"], part["predicted"], color=color, lw=1,
                       ls="-" if mode == "kept" else ":")  # fmt: skip
            equal.plot(part["probability"], part["measured"], marker, color=color,
                       markerfacecolor=face, label=name if mode == "kept" else None)  # fmt: skip
        part = select(table, "uniform_share", dtype=name, subnormals="kept")
        law.plot(part["count"], part["predicted"], color=color)
        law.plot(part["count"], part["measured"], marker, color=color, ms=4)
        part = select(table, "log_sum_error", dtype=name).sort_values("factors")
        error = part["measured"].abs().clip(lower=1e-18)
        logs.plot(part["factors"], error, marker, color=color)
        logs.plot(part["factors"], part["bound"], ":", color=color)
    equal.set(yscale="log", xlabel="probability p", ylabel="factors until p^k is 0",
              title="equal factors")  # fmt: skip
    law.set(xscale="log", xlabel="uniform factors", ylabel="share of products that are 0",
            title="random factors")  # fmt: skip
    law.xaxis.set_major_formatter("{x:g}")
    law.xaxis.set_minor_formatter("")
    law.set_xticks([10, 30, 100, 300, 700])
    logs.set(xscale="log", yscale="log", xlabel="factors", ylabel="error of the sum of logarithms",
             title="log space")  # fmt: skip
    figure.legend(*equal.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    depths = select(table, "product_depth")
    never = int(np.isinf(depths["measured"]).sum())
    return Figure(
        "products",
        "Left: factors after which a product of equal probabilities is exactly 0; hollow: with "
        "subnormals flushed; where no filled mark is drawn the product is never 0. Middle: share "
        "of products of random factors that are 0. Right: error of the sum of logarithms in "
        "absolute terms; dotted: its bound. Lines: predicted.",
        f"{never} of {len(depths)} products of equal factors never reach 0, all at p above 1/2.",
        figure,
    )


def _draw_gradients(table: pd.DataFrame) -> Figure:
    """Measured against predicted layers at which a gradient is exactly 0."""
    from stability.plotting import MARKERS, PALETTE, canvas

    figure, axes = canvas(height=3.6)
    ax = axes[0, 0]
    nets = select(table, "network_depth")
    nets = nets[nets["width"] == nets["width"].max()]
    names = list(dict.fromkeys(nets["dtype"]))
    place = np.arange(len(names))
    quarter = [theory.product_depth(0.25, FORMATS[name]) for name in names]
    ax.hlines(quarter, place - 0.45, place + 0.45, color=PALETTE[7], lw=3, alpha=0.6,
              label="0.25^L")  # fmt: skip
    chain = select(table, "chain_depth").set_index("dtype").loc[names]
    ax.plot(place - 0.3, chain["measured"], MARKERS[0], color=PALETTE[0], label="x <- sigmoid(x)")
    ax.plot(place - 0.3, chain["predicted"], "_", color=PALETTE[0], ms=16)
    groups = list(nets.groupby("sigma_w", sort=True))
    for i, (sigma, part) in enumerate(groups):
        shift = -0.1 + 0.4 * i / max(len(groups) - 1, 1)
        color = PALETTE[(i + 1) % len(PALETTE)]
        ax.errorbar(place + shift, part["measured"], 2 * part["stderr"],
                    fmt=MARKERS[(i + 1) % len(MARKERS)], color=color,
                    label=f"network, $\\sigma_w$ = {sigma:g}")  # fmt: skip
        ax.plot(place + shift, part["predicted"], "_", color=color, ms=16)
    ax.set(yscale="log", ylabel="layers until the gradient is 0", xlim=(-0.6, len(names) - 0.4))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xticks(place, names)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper")
    least = nets.loc[nets["measured"].idxmin()]
    return Figure(
        "gradients",
        "Layers from the top at which a gradient stored in each format is exactly 0: marks "
        "measured, with two standard errors; dashes predicted. Grey: if each layer took a quarter.",
        f"The earliest: {least['measured']:.1f} layers in {least['dtype']} at sigma_w "
        f"{least['sigma_w']:g}, predicted {least['predicted']:.1f}.",
        figure,
    )
