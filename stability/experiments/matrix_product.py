"""Products of random matrices: how they grow, flatten, overflow, and where arithmetic gives out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy import special, stats

from stability import claims
from stability.catalogue.ensembles import ENSEMBLES, Ensemble
from stability.claims import Claim
from stability.errors import InputError, check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels.products import (
    Growth,
    PlainProduct,
    QRProduct,
    ScaledProduct,
    log_smallest_by_svd,
    wide,
)
from stability.table import concat, mean_rows, rows, select
from stability.theory import growth
from stability.theory import products as theory
from stability.theory.floating_point import FORMATS
from stability.theory.growth import Bracket, LogLaw

Frames = list[pd.DataFrame]

DTYPES = {name: getattr(torch, name) for name in FORMATS}
BLOCK, PLAIN, SVD, SVD_SAMPLES = 2**16, 2**19, 2**14, 256
"""Matrix entries a block of samples has, and up to which the costly measures take samples."""
CHUNK = 16
"""Factors after which what was noted at each goes to the moments."""
D2L_N, D2L_FACTORS = 4, 101
D2L_PUBLISHED = {"notebook": 23.763, "slides": 23.729}
"""log10 of the Frobenius norms of the matrices that D2L (sec. 5.4.1.2) prints."""
D2L_BELIEF = (20.0, 24.0)
"""log10 of the range in which such a product is said to be."""
LEVELS = (0.005, 0.025, 0.25, 0.5, 0.75, 0.975, 0.995)
FOURTH_MOMENT = 8
"""The fewest samples whose fourth moment gives a standard error."""
UNIVERSAL = 16
"""The smallest order for which a law of independent entries is predicted from its kurtosis."""
LN2, LN10 = math.log(2), math.log(10)


def marks(length: int) -> list[int]:
    """The prefixes that are measured: 1 to 100, then 5 % apart, and ``length`` itself."""
    ladder, last = list(range(1, min(length, 100) + 1)), 100
    while (last := math.ceil(1.05 * last)) < length:
        ladder.append(last)
    return ladder if ladder[-1] == length else [*ladder, length]


def block_size(n: int) -> int:
    """Samples drawn together."""
    return max(1, min(1024, BLOCK // n**2))


def costly_samples(n: int, samples: int) -> int:
    """Samples of the QR iteration and of the plain products."""
    return min(samples, max(16, PLAIN // n**2))


def svd_samples(n: int, samples: int) -> int:
    """Samples whose raw product is decomposed after each factor."""
    return min(samples, SVD_SAMPLES, max(32, SVD // n**2))


class Moments:
    """Mean and standard deviation of many samples, with their standard errors, block by block.

    Power sums about the first block's mean, in float64; infinities give inf and nan.
    """

    def __init__(self) -> None:
        self.count, self._centre, self._sums = 0, np.zeros(()), np.zeros(())

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Take in ``values`` (B, ...)."""
        with np.errstate(invalid="ignore", over="ignore"):
            if self.count == 0:
                self._centre = np.nan_to_num(values.mean(axis=0), posinf=0.0, neginf=0.0)
                self._sums = np.zeros((4, *values.shape[1:]))
            deviation = values - self._centre
            self._sums += np.stack([(deviation**p).sum(axis=0) for p in (1, 2, 3, 4)])
        self.count += len(values)

    def frames(self, name: str, mean: Any, std: Any, shift: Any = 0.0, **factors: Any) -> Frames:
        """Rows ``name`` and ``name``_std with their predictions; ``shift`` is added to the mean."""
        n = self.count
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            m1, m2, m3, m4 = self._sums / n
            second = np.maximum(m2 - m1**2, 0.0)
            fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
            spread = np.sqrt(second * n / (n - 1))
            # Var s = (mu_4 - mu_2^2) / (4 mu_2 N), of first order in 1 / N.
            error = np.sqrt(np.maximum(fourth - second**2, 0.0) / (4 * n * second))
        error = np.where(second > 0, error, 0.0)
        error = np.where(np.isfinite(spread) & (n >= FOURTH_MOMENT), error, np.nan)
        return [
            rows(name, self._centre + m1 + shift, mean, spread / math.sqrt(n), n, **factors),
            rows(f"{name}_std", spread, std, error, n, **factors),
        ]


@dataclass(frozen=True)
class _Theory:
    """What is known of an ensemble at order n; nan where nothing is."""

    entry: Ensemble
    n: int

    @property
    def orthogonal(self) -> bool:
        return self.entry.name == "orthogonal"

    @property
    def _shift(self) -> float:
        excess = self.entry.excess
        return 0.0 if excess is None else theory.kurtosis_shift(self.n, excess)

    def shift(self, factors: int) -> float:
        """What kurtosis adds to E ln ||P e_1||, of which the first factor sees one entry a row."""
        if self.entry.excess is None:
            return 0.0
        return theory.kurtosis_shift(self.n, self.entry.excess, 1.0) + (factors - 1) * self._shift

    @property
    def _known(self) -> float:
        return 1.0 if self.entry.excess is None or self.n >= UNIVERSAL else math.nan

    def scale(self, sigma: str) -> float:
        """The number that an option ``sigma`` means."""
        if sigma != "critical":
            return float(sigma)
        if self.orthogonal:
            return 1.0
        return theory.critical_sigma(self.n, self.entry.complex) * math.exp(-self._shift)

    def spectrum(self, scale: float) -> Any:
        """lambda_k + ln scale, k = 1..n."""
        if self.orthogonal:
            return np.full(self.n, math.log(scale))
        known = theory.lyapunov_spectrum(self.n, scale, self.entry.complex)
        if self.entry.excess is None:
            return known
        first = np.arange(self.n) == 0
        return np.where(first, known + self._shift, np.nan) * self._known

    def variance(self) -> Any:
        """Of ln R_kk a factor."""
        if self.orthogonal:
            return np.zeros(self.n)
        known = theory.lyapunov_variance(self.n, self.entry.complex)
        return known if self.entry.excess is None else np.full(self.n, np.nan)

    def vector(self, factors: int, scale: float) -> LogLaw:
        """Of ln ||P e_1||."""
        if self.orthogonal:
            return LogLaw(factors * math.log(scale), 0.0)
        law = growth.volume_growth(self.n, 1, factors, scale, self.entry.complex)
        known = self._known if self.entry.excess is None else math.nan
        return LogLaw((law.mean + self.shift(factors)) * self._known, law.std * known)

    def norm(self, factors: int, scale: float) -> float:
        """E ln ||P||_F where P has rank one in effect."""
        if self.orthogonal:
            return factors * math.log(scale) + math.log(self.n) / 2
        error = growth.rank_one_error(self.n, factors, 1, self.entry.complex)
        if self.entry.excess is not None or error > growth.RANK_ONE:
            return math.nan
        return growth.norm_growth(self.n, factors, scale, self.entry.complex).mean

    def passage(self, factors: int, scale: float, dtype: str, side: int) -> Any:
        """P(||P e_1|| has left the format's range), upwards (side 1) or downwards, (factors,)."""
        if self.entry.excess is not None and not self.orthogonal:
            return np.full(factors, np.nan)
        form = FORMATS[dtype]
        if self.orthogonal:
            height = np.arange(1, factors + 1) * math.log(scale)
            return np.where(side > 0, height > log_max(dtype), height < log_zero(dtype)) * 1.0
        law = growth.overflow_probability if side > 0 else growth.underflow_probability
        return law(self.n, factors, form, scale, self.entry.complex)

    def share(self, factors: int, scale: float, dtype: str, side: int) -> Bracket:
        """P(plain arithmetic has overflowed, or had only subnormal entries), (factors,) each."""
        if self.entry.excess is not None or self.entry.complex or self.orthogonal:
            unknown = np.full(factors, np.nan)
            return Bracket(unknown, unknown, unknown)
        law = growth.overflow_share if side > 0 else growth.underflow_share
        return law(self.n, factors, FORMATS[dtype], scale)

    def condition(self, factors: int) -> float:
        """Of ln(sigma_max / sigma_min), where the ends of the spectrum are apart."""
        if self.orthogonal:
            return 0.0
        if self.entry.excess is not None or self.ends(factors) > growth.RANK_ONE:
            return math.nan
        return theory.log_condition(self.n, factors, self.entry.complex)

    def ends(self, factors: int) -> float:
        """A bound of what ``condition`` neglects."""
        return sum(
            growth.rank_one_error(self.n, factors, k, self.entry.complex) for k in (1, self.n - 1)
        )


def log_max(dtype: str) -> float:
    """ln of the largest number."""
    return math.log(FORMATS[dtype].max)


def log_zero(dtype: str) -> float:
    """ln of what rounds to zero: half the smallest number."""
    return math.log(FORMATS[dtype].smallest_subnormal) - math.log(2)


@dataclass(frozen=True)
class MatrixProduct(Experiment):
    """A product of L random matrices grows as e^(lambda_1 L) and tends to rank one."""

    n: list[int] = field(default_factory=lambda: [4])
    length: int = 40
    samples: int = 64
    ensemble: list[str] = field(default_factory=lambda: ["gaussian"])
    sigma: list[str] = field(default_factory=lambda: ["1"])
    dtype: list[str] = field(default_factory=lambda: ["float32", "float16"])

    title: ClassVar[str] = "Matrix products"
    question: ClassVar[str] = (
        "How fast do products of random matrices grow, and after how many factors does each "
        "floating-point format give out?"
    )

    def __post_init__(self) -> None:
        check_each("experiment.n", self.n)
        for n in self.n:
            check_range("experiment.n", n, at_least=2)
        check_range("experiment.length", self.length, at_least=1)
        check_range("experiment.samples", self.samples, at_least=2)
        for option, known in (("ensemble", ENSEMBLES), ("dtype", DTYPES)):
            values = getattr(self, option)
            check_each(f"experiment.{option}", values)
            for value in values:
                check_choice(f"experiment.{option}", value, known)
        object.__setattr__(self, "sigma", [_canonical(value) for value in self.sigma])
        check_each("experiment.sigma", self.sigma)

    def memory(self) -> int:
        """Torch itself, the matrices of a block in every format, and the samples that are kept."""
        block = max(block_size(n) * n**2 for n in self.n)
        width = 16 if any(ENSEMBLES[name].complex for name in self.ensemble) else 8
        plain = len(self.sigma) * len(self.dtype)
        kept = max(costly_samples(n, self.samples) * (n + 8) for n in self.n)
        moments = 16 * 8 * len(marks(self.length)) * (1 + len(self.sigma)) * (1 + len(self.dtype))
        table = (
            400
            * len(self.n)
            * len(self.ensemble)
            * len(self.sigma)
            * (len(marks(self.length)) * (4 + 2 * len(self.dtype)) + 4 * max(self.n))
        )
        wide_marks = 4 * 8 * max(block_size(n) for n in self.n) * len(marks(self.length))
        noted = 8 * CHUNK * max(block_size(n) for n in self.n) * (16 + 2 * len(self.sigma) + plain)
        work = width * block * (24 + plain) + noted
        return 2**27 + work + 32 * kept + moments + wide_marks + table

    def run(self, context: Context) -> pd.DataFrame:
        """All measures of every ensemble and order; a scale sigma only moves logarithms."""
        frames: Frames = []
        work = {n: self.length * self.samples * (n**3 + 64 * n**2 + 256) for n in self.n}
        total, done = len(self.ensemble) * sum(work.values()), 0
        for name in self.ensemble:
            for n in self.n:
                share = _Share(context, done / total, work[n] / total)
                entry = ENSEMBLES[name]
                frames += self._cell(context, entry, n, share)
                frames += self._breakdown(context, entry, n)
                if (name, n) == ("gaussian", D2L_N) and "1" in self.sigma:
                    frames += self._d2l(context, entry)
                done += work[n]
        context.progress(1.0)
        return concat(frames)

    def _cell(self, context: Context, entry: Ensemble, n: int, share: "_Share") -> Frames:
        """Growth of all samples; spectrum, condition and range of the first ones."""
        law, prefixes = _Theory(entry, n), marks(self.length)
        scales = {sigma: law.scale(sigma) for sigma in self.sigma}
        costly, size = costly_samples(n, self.samples), block_size(n)
        norm, vector = Moments(), Moments()
        grid = [(sigma, dtype) for sigma in self.sigma for dtype in self.dtype]
        crossed, passed = np.zeros((2, 2, len(grid), len(prefixes)))
        rates = torch.tensor(
            [[[math.log2(scale)]] for scale in scales.values()],
            dtype=torch.float64, device=context.device,
        )  # fmt: skip
        logs, conditions = [], []
        conditioned = {m for m in prefixes if m == self.length or math.log(m, 4).is_integer()}
        blocks = math.ceil(self.samples / size)
        for block in range(blocks):
            generator = context.generator("product", entry.name, n, block)
            count = min(size, self.samples - block * size)
            expensive = min(count, costly - block * size)
            sizes, condition = [], []
            extremes = torch.zeros((2, len(scales), 1, size), dtype=torch.float64).to(rates)
            for first in range(0, self.length, CHUNK):
                factors = range(first + 1, min(first + CHUNK, self.length) + 1)
                for factor in factors:
                    matrix = entry.draw(size, n, generator)
                    if factor == 1:
                        growth_ = Growth(ScaledProduct(size, n, matrix))
                        zero = math.sqrt(2.0**-52) if entry.singular else 0.0
                        every = 1 if entry.singular else 4
                        qr = QRProduct(size, n, matrix, every=every, zero=zero)
                        plain = [
                            PlainProduct(size, n, matrix, scales[sigma], DTYPES[dtype])
                            for sigma, dtype in grid
                        ]
                    growth_.update(matrix)
                    if expensive > 0:
                        qr.update(matrix)
                        for each in plain:
                            each.update(matrix)
                        if factor in conditioned:
                            top, bottom = qr.log_extremes()
                            condition.append(((top - bottom) / LN10)[:expensive])
                log2_sizes = growth_.take()
                at = [m - first - 1 for m in prefixes if m in factors]
                marked = slice(prefixes.index(factors[at[0]]), prefixes.index(factors[at[-1]]) + 1)
                sizes.append(log2_sizes[:, at, :count].cpu().numpy())
                steps = torch.arange(factors[0], factors[-1] + 1).to(rates)
                heights = log2_sizes[1] + steps[:, None] * rates
                high = torch.cat([extremes[0], heights], 1).cummax(1).values[:, 1:]
                low = torch.cat([extremes[1], heights], 1).cummin(1).values[:, 1:]
                extremes = torch.stack([high[:, -1:], low[:, -1:]])
                for index, (one, dtype) in enumerate(grid):
                    row = self.sigma.index(one)
                    beyond = torch.stack(
                        [high[row, at] > log_max(dtype) / LN2, low[row, at] < log_zero(dtype) / LN2]
                    )
                    passed[:, index, marked] += beyond[:, :, :count].sum(2).cpu().numpy()
                    if expensive > 0:
                        left = plain[index].take()[:, at, :expensive]
                        crossed[:, index, marked] += left.sum(2).cpu().numpy()
            both = np.concatenate(sizes, axis=1) * math.log10(2)
            norm.add(both[0].T)
            vector.add(both[1].T)
            if expensive > 0:
                logs.append(qr.logs()[:expensive].cpu().numpy() / self.length)
                conditions.append(_numpy(condition))
            share((block + 1) / blocks)
        exponents, condition_samples = np.concatenate(logs), np.concatenate(conditions)
        cell: dict[str, Any] = {"ensemble": entry.name, "n": n}
        frames: Frames = []
        at_factors = np.array(prefixes)
        for sigma, scale in scales.items():
            labels: dict[str, Any] = {**cell, "sigma": sigma, "scale": scale}
            shift = at_factors * math.log10(scale)
            mean, std = np.array([law.vector(m, scale) for m in prefixes]).T / LN10
            along = {**labels, "factors": at_factors}
            frames += vector.frames("log10_vector", mean, std, shift, **along)
            mean = np.array([law.norm(m, scale) for m in prefixes]) / LN10
            frames += norm.frames("log10_norm", mean, np.nan, shift, **along)[:1]
            k, spectrum = np.arange(1, n + 1), law.spectrum(scale)
            last = {**labels, "factors": self.length}
            moments = Moments()
            moments.add(exponents)
            spread = np.sqrt(law.variance() / self.length)
            frames += moments.frames(
                "lyapunov_exponent", spectrum, spread, math.log(scale), **last, k=k
            )
            frames.append(
                mean_rows(
                    "log_determinant_rate",
                    exponents.sum(axis=1) + n * math.log(scale),
                    spectrum.sum(),
                    **last,
                )
            )
            for index, (of, dtype) in enumerate(grid):
                if of != sigma:
                    continue
                for row, side, way in ((0, 1, "overflow"), (1, -1, "underflow")):
                    frames += [
                        _shares(
                            f"vector_{way}", passed[row, index], self.samples,
                            law.passage(self.length, scale, dtype, side)[at_factors - 1],
                            **along, dtype=dtype,
                        ),
                        _shares(
                            f"{way}_share", crossed[row, index], costly,
                            law.share(self.length, scale, dtype, side).predicted[at_factors - 1],
                            **along, dtype=dtype,
                        ),
                    ]  # fmt: skip
        frames += _distances(context, exponents * self.length, law, self.length)
        ends = sorted(conditioned)
        predicted = np.array([law.condition(m) for m in ends]) / LN10
        frames.append(
            mean_rows("log10_condition", condition_samples, predicted, **cell, factors=ends)
        )
        return frames

    def _breakdown(self, context: Context, entry: Ensemble, n: int) -> Frames:
        """sigma_min by an SVD of the product, rescaled by powers of two alone, and by QR."""
        law = _Theory(entry, n)
        if law.orthogonal or entry.singular:
            return []
        deaths = {
            name: theory.svd_breakdown(n, 2 * FORMATS[name].unit_roundoff, entry.complex)
            for name in ("float32", "float64")
        }
        factors = min(self.length, math.ceil(1.6 * deaths["float64"]))
        count, size = svd_samples(n, self.samples), block_size(n)
        smallest: list[Any] = []
        for block in range(math.ceil(count / size)):
            generator = context.generator("product", entry.name, n, block)
            taken = min(size, count - block * size)
            steps = []
            for factor in range(factors):
                matrix = entry.draw(size, n, generator)[:taken]
                if factor == 0:
                    qr = QRProduct(taken, n, matrix, every=1)
                    raw = [ScaledProduct(taken, n, like) for like in (matrix, wide(matrix))]
                qr.update(matrix)
                for product, like in zip(raw, (matrix, wide(matrix)), strict=True):
                    product.update(like)
                routes = [qr.log_extremes()[1], qr.logs()[:, -1]]
                routes += [log_smallest_by_svd(each.matrix, each.exponent) for each in raw]
                steps.append(torch.stack(routes))
            smallest.append(torch.stack(steps).cpu().numpy())
        # Axes: factor, route, sample.
        values = np.concatenate(smallest, axis=2)
        at = np.arange(1, factors + 1)
        exponent = float(theory.lyapunov_spectrum(n, 1.0, entry.complex)[-1])
        ends = theory.smallest_exponent(n, at, entry.complex)
        known = 1.0 if entry.excess is None else math.nan
        cell: dict[str, Any] = {"ensemble": entry.name, "n": n}
        with np.errstate(invalid="ignore"):
            rates = values / at[:, None, None]
        qr_rate, others = rates[:, 1].T, np.median(rates[:, [0, 2, 3]], axis=2)
        frames = [
            mean_rows("smallest_exponent", qr_rate, known * exponent, **cell, factors=at,
                      method="qr"),
            # A median: an SVD that returns 0 makes the mean -inf.
            rows("smallest_exponent_median", others.T, known * ends, np.nan,
                 count, **cell, factors=at,
                 method=np.array([["graded"], ["svd_float32"], ["svd_float64"]])),
        ]  # fmt: skip
        for route, (name, death) in enumerate(deaths.items(), start=2):
            if 1.6 * death > factors + 1:
                continue
            with np.errstate(invalid="ignore"):
                wrong = ~(np.abs(values[:, route] - values[:, 0]) <= math.log(2))
            first = np.where(wrong.any(axis=0), wrong.argmax(axis=0) + 1, factors + 1)
            # The median's error, were the first failures normally distributed.
            error = math.sqrt(math.pi / 2 / count) * first.std(ddof=1)
            frames.append(
                rows(
                    "svd_breakdown", np.median(first), known * death, error, count,
                    **cell, method=f"svd_{name}",
                )
            )  # fmt: skip
        return frames

    def _d2l(self, context: Context, entry: Ensemble) -> Frames:
        """The book's own example: an initial 4 x 4 matrix times 100 more, whatever ``length``."""
        count, size = costly_samples(D2L_N, self.samples), block_size(D2L_N)
        parts = []
        for block in range(math.ceil(count / size)):
            generator = context.generator("product", entry.name, D2L_N, block)
            for factor in range(D2L_FACTORS):
                matrix = entry.draw(size, D2L_N, generator)
                if factor == 0:
                    product = ScaledProduct(size, D2L_N, matrix)
                product.update(matrix)
            both = _numpy([product.log2_norm(), product.log2_largest()])
            parts.append(both[: min(size, count - block * size)] * math.log10(2))
        samples = np.concatenate(parts)
        cell: dict[str, Any] = {"ensemble": entry.name, "n": D2L_N, "factors": D2L_FACTORS}
        levels, edges = np.array(LEVELS), np.arange(16, 34.5, 0.5)
        share = np.histogram(samples[:, 0], edges)[0]
        expected = np.diff(growth.norm_cdf(edges * LN10, D2L_N, D2L_FACTORS))
        quantiles = growth.entry_quantile(levels, D2L_N, D2L_FACTORS) / LN10
        step = 1e-3
        density = _d2l_share(quantiles - step, quantiles + step) / (2 * step)
        return [
            _shares(
                "d2l_log10_norm_share", share, count, expected,
                **cell, log10_size=(edges[1:] + edges[:-1]) / 2,
            ),
            rows(
                "d2l_log10_entry_quantile", np.quantile(samples[:, 1], levels), quantiles,
                np.sqrt(levels * (1 - levels) / count) / density, count, **cell, level=levels,
            ),
            *(
                _shares(
                    name, ((samples[:, 1] >= low) & (samples[:, 1] <= high)).sum(), count,
                    _d2l_share(low, high), **cell,
                )
                for name, (low, high) in (
                    ("d2l_inside_band", _d2l_band()), ("d2l_inside_belief", D2L_BELIEF)
                )
            ),
        ]  # fmt: skip

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """What holds for the factors that the table has."""
        gaussian = table[table["ensemble"].isin(["gaussian", "complex_gaussian"])]
        made: list[Claim] = []

        def judge(
            name: str, statement: str, source: str, part: pd.DataFrame,
            resolution: Any = None, bias: Any = 0.0,
        ) -> None:  # fmt: skip
            if part.empty:
                return
            if resolution is None:  # the standard deviation of one product
                resolution = part["stderr"].to_numpy() * np.sqrt(part["n_samples"].to_numpy())
            made.append(
                claims.statistical(name, statement, source, part, resolution=resolution, bias=bias)
            )

        newman = "Newman 1986, Commun. Math. Phys. 103; complex: Forrester 2013, arXiv 1206.2001"
        bartlett = "Bartlett's decomposition: R_kk^2 ~ chi^2_(n-k+1), independent"
        judge(
            "vector_growth",
            "The mean of log10 ||P e_1|| is L lambda_1 / ln 10 at every L.",
            newman,
            select(gaussian, "log10_vector"),
        )
        part = select(gaussian, "log10_vector_std")
        judge(
            "vector_spread",
            "The standard deviation of ln ||P e_1|| is sqrt(L psi_1(n/2)) / 2 at every L.",
            newman,
            part,
            part["predicted"],
        )
        part = select(gaussian, "log10_norm").dropna(subset=["predicted"])
        judge(
            "norm_growth",
            "Where P has rank one in effect the mean of ln ||P||_F is L lambda_1 + [psi(n/2) - "
            "psi(1/2)] / 2, up to the least of E (R_22 / R_11)^s / s over s.",
            newman + "; Haar singular vectors",
            part,
            bias=[
                growth.rank_one_error(n, m, 1, ENSEMBLES[name].complex) / LN10
                for name, n, m in zip(part["ensemble"], part["n"], part["factors"], strict=True)
            ],
        )
        part = select(gaussian, "growth_distance")
        if not part.empty:
            sides = np.where(part["reference"] == "law", 1.0, 2.0)
            judge(
                "growth_law",
                "The distribution of the log volume of k vectors after all L factors is the exact "
                "one for every k, and that of sums of log chi variables drawn without a matrix: "
                "the distance of the distribution functions is at most sqrt(ln(2 / level) / 2 N) "
                "for each sample.",
                bartlett + "; Massart 1990, Ann. Probab. 18, 1269",
                part,
                0.25,
                sides * np.sqrt(_log_level(part) / (2 * part["n_samples"].to_numpy(float))),
            )
        judge(
            "lyapunov_spectrum",
            "lambda_k = ln sigma + [ln 2 + psi((n - k + 1) / 2)] / 2 for all k, exact at any L for "
            "the diagonals of the QR iteration.",
            newman,
            select(gaussian, "lyapunov_exponent"),
        )
        part = select(gaussian, "lyapunov_exponent_std")
        judge(
            "lyapunov_spread",
            "The standard deviation of the k-th exponent is sqrt(psi_1((n - k + 1) / 2) / L) / 2.",
            bartlett,
            part,
            part["predicted"],
        )
        judge(
            "determinant",
            "The exponents add up to E ln |det W|, exact at any L.",
            bartlett,
            select(gaussian, "log_determinant_rate"),
        )
        part = select(gaussian, "lyapunov_exponent", sigma="critical", k=1)
        judge(
            "critical",
            "At sigma = exp(-lambda_1) the largest exponent is 0.",
            newman,
            part.assign(predicted=0.0),
        )
        part = select(gaussian, "smallest_exponent")
        judge(
            "smallest_exponent",
            "The smallest exponent by QR is (ln 2 + psi(1/2)) / 2 for every n after any number of "
            "factors (real factors; psi(1) / 2 for complex ones).",
            newman,
            part,
            2 * part["stderr"] * np.sqrt(part["n_samples"]),
        )
        part = select(gaussian, "log10_condition").dropna(subset=["predicted"])
        judge(
            "condition",
            "ln of the condition number is L (lambda_1 - lambda_n) + psi(n/2) - psi(1/2) where "
            "both ends of the spectrum are apart, up to the least of E (R_k+1 / R_k)^s / s there.",
            newman + "; Haar singular vectors",
            part,
            bias=[
                _Theory(ENSEMBLES[name], n).ends(m) / LN10
                for name, n, m in zip(part["ensemble"], part["n"], part["factors"], strict=True)
            ],
        )
        part = table[table["quantity"].isin(["vector_overflow", "vector_underflow"])]
        part = part.dropna(subset=["predicted"])
        judge(
            "passage",
            "The share of the signals P e_1 that have left a format's range is the probability "
            "that a walk of log chi steps has passed its limit, exact at any L; within Bernstein's "
            "2 ln(2 / level) / 3 N.",
            "renewal equation of the first passage; Feller 1971, ch. XII",
            part,
            0.25,
            _bernstein(part),
        )
        real = gaussian[gaussian["ensemble"] == "gaussian"]
        for dtype in DTYPES:
            part = select(real, "overflow_share", dtype=dtype)
            judge(
                f"overflow_{dtype}",
                f"The share of plain {dtype} products with an inf or nan is at least that of one "
                "column's entries above the largest number, and at most n times the passage of one "
                "column above it.",
                "union bound; renewal equation of the first passage",
                *_bracketed(part, 1),
            )
        part = select(real, "underflow_share")
        judge(
            "underflow",
            "The share of products whose entries have all been subnormal at once lies between "
            "1 - n P(a column is longer than the smallest normal number) and the passage of one "
            "column below sqrt(n) times it.",
            "union bound; renewal equation of the first passage",
            *_bracketed(part, -1),
        )
        part = select(gaussian, "svd_breakdown")
        if not part.empty:
            spread = [
                float(special.digamma(half * n) - special.digamma(half)) + math.log(n)
                for n, half in zip(
                    part["n"], np.where(part["ensemble"] == "gaussian", 0.5, 1.0), strict=True
                )
            ]
            eps = [2 * FORMATS[m.removeprefix("svd_")].unit_roundoff for m in part["method"]]
            per_factor = -np.log(eps) / part["predicted"].to_numpy()
            judge(
                "svd_breakdown",
                "An SVD of the raw product is wrong about sigma_min by more than a factor of 2 "
                "after a median of ln(1 / eps) / (lambda_1 - lambda_n) factors, with an allowance "
                "of [ln n + psi(n/2) - psi(1/2)] / (lambda_1 - lambda_n) for the constants.",
                "Golub & Van Loan 2013, sec. 8.6: error of eps sigma_max",
                part,
                part["predicted"],
                np.array(spread) / per_factor,
            )
        neglected = 2 * growth.rank_one_error(D2L_N, D2L_FACTORS) / LN10
        judge(
            "d2l_quantiles",
            "The quantiles of the largest entry of 101 Gaussian 4 x 4 factors are those of the "
            f"law of a product of rank one, which neglects {neglected:.2g} decades.",
            newman + "; Haar singular vectors",
            select(table, "d2l_log10_entry_quantile"),
            2.0,
            neglected,
        )
        low, high = _d2l_band()
        part = select(table, "d2l_inside_band")
        judge(
            "d2l_band",
            "99 % of the products of 101 Gaussian 4 x 4 factors have their largest entry in the "
            f"predicted band, 10^{low:.1f} to 10^{high:.1f}.",
            newman + "; Haar singular vectors",
            part,
            0.1,
            _bernstein(part),
        )
        part = select(table, "d2l_inside_belief")
        if not part.empty:
            low, high = D2L_BELIEF
            share = float(part["predicted"].iloc[0])
            made.append(
                claims.statistical(
                    "d2l_belief",
                    f"Only {100 * share:.0f} % of the products of 101 Gaussian 4 x 4 factors have "
                    f"their largest entry between 10^{low:.0f} and 10^{high:.0f}.",
                    newman + "; Haar singular vectors",
                    part,
                    resolution=0.25,
                    bias=_bernstein(part),
                    folk="A product of a hundred Gaussian 4 x 4 matrices is about 1e20 to 1e24.",
                )
            )
        orthogonal = table[table["ensemble"] == "orthogonal"]
        part = select(orthogonal, "lyapunov_exponent")
        if not part.empty:
            u = FORMATS["float32"].unit_roundoff
            made.append(
                claims.bounded(
                    "orthogonal",
                    "All exponents of orthogonal factors are ln sigma, up to 2 sqrt(n) u: their "
                    "entries are rounded to float32, u = 2^-24.",
                    "Weyl: |sigma_k(Q + E) - 1| <= ||E||_F <= u sqrt(n)",
                    part,
                    allowed=2 * np.sqrt(part["n"].to_numpy(float)) * u,
                )
            )
        other = table[table["ensemble"].isin(["uniform", "rademacher"])]
        part = select(other, "log10_vector").dropna(subset=["predicted"])
        if not part.empty:
            judge(
                "universality",
                "ln ||P e_1|| of other laws of entries grows as the Gaussian one with the shift of "
                "lambda_1 by the kurtosis, up to as much again.",
                "second-order expansion, no theorem",
                part,
                bias=[
                    abs(_Theory(ENSEMBLES[name], n).shift(m)) / LN10
                    for name, n, m in zip(part["ensemble"], part["n"], part["factors"], strict=True)
                ],
            )
        return made

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """Growth of one order, and where the formats give out."""
        part = select(table, "lyapunov_exponent", k=1)
        row = part.sort_values("n").iloc[len(part) // 2]
        text = (
            f"A product of {row['ensemble'].replace('_', ' ')} {row['n']} x {row['n']} matrices "
            f"at sigma = {row['scale']:.4g} grows by e^{row['measured']:.3f} a factor"
        )
        if np.isfinite(row["predicted"]):
            text += f" (predicted e^{row['predicted']:.3f})"
        shares = select(
            table, "overflow_share", ensemble=row["ensemble"], n=row["n"], sigma=row["sigma"]
        )
        given = []
        for dtype, one in shares.groupby("dtype", sort=False):
            over = one[one["measured"] >= 0.5]
            when = (
                f"after {over['factors'].min()}" if len(over) else f"not by {one['factors'].max()}"
            )
            given.append(f"{dtype} {when}")
        return f"{text}. Factors at which half of the products have overflowed: {', '.join(given)}."

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """Growth, spectrum, arithmetic, and the book's example."""
        made = [_draw_growth(table), _draw_spectrum(table), _draw_arithmetic(table)]
        if not select(table, "d2l_log10_norm_share").empty:
            made.append(_draw_d2l(table))
        return made


def _d2l_share(low: Any, high: Any) -> Any:
    """P(log10 of the largest entry of the book's product lies between them)."""
    below, until = (growth.entry_cdf(x * LN10, D2L_N, D2L_FACTORS) for x in (low, high))
    return until - below


def _d2l_band() -> tuple[float, float]:
    """The predicted 0.5 % and 99.5 % quantiles of log10 of the book's largest entry."""
    low, high = growth.entry_quantile([0.005, 0.995], D2L_N, D2L_FACTORS) / LN10
    return float(low), float(high)


def _shares(name: str, count: Any, samples: int, predicted: Any, **factors: Any) -> pd.DataFrame:
    """Rows of the shares ``count`` / ``samples`` with their predicted, else own, errors."""
    measured = np.asarray(count) / samples
    sure = np.where(np.isnan(predicted), measured, predicted)
    error = np.sqrt(np.maximum(sure * (1 - sure), 0.0) / samples)
    return rows(name, measured, predicted, error, samples, **factors)


def _distances(
    context: Context, diagonals: np.ndarray[Any, Any], law: _Theory, factors: int
) -> Frames:
    """Kolmogorov's distance of the log volumes' laws: to the exact one, and to chi's own draws."""
    entry, n, count = law.entry, law.n, len(diagonals)
    if law.orthogonal or entry.excess is not None:
        return []
    rng = context.numpy("bartlett", entry.name, n, factors)
    drawn = growth.sample_growth(n, factors, count, rng, 1.0, entry.complex)
    volumes = np.sort(np.cumsum(diagonals, axis=1), axis=0)
    at, found = np.arange(1, count + 1) / count, []
    for k in range(1, n + 1):
        exact = growth.growth_cdf(volumes[:, k - 1], n, factors, k, 1.0, entry.complex)
        distance = max(np.abs(exact - at).max(), np.abs(exact - at + 1 / count).max())
        found.append((distance, stats.ks_2samp(volumes[:, k - 1], drawn[:, k - 1]).statistic))
    return [
        rows(
            "growth_distance", np.array(found), 0.0, 0.0, count, ensemble=entry.name, n=n,
            factors=factors, k=np.arange(1, n + 1)[:, None], reference=["law", "bartlett"],
        )
    ]  # fmt: skip


def _log_level(part: pd.DataFrame) -> float:
    """ln(2 / level) of each of the rows of one claim."""
    return math.log(2 * max(len(part), 1) / claims.LEVEL)


def _bernstein(part: pd.DataFrame) -> Any:
    """What a share's deviation may exceed that of the normal law by (Bernstein 1924)."""
    return 2 * _log_level(part) / (3 * part["n_samples"].to_numpy(float))


def _bracketed(part: pd.DataFrame, side: int) -> tuple[pd.DataFrame, float, Any]:
    """The rows with the error of the share nearest to the measured one, resolution, and bias."""
    lower, upper = np.zeros((2, len(part)))
    length = int(part["factors"].max()) if len(part) else 0
    cells = part.groupby(["ensemble", "n", "scale", "dtype"], sort=False)
    for (name, n, scale, dtype), places in cells.indices.items():
        law = _Theory(ENSEMBLES[name], n).share(length, scale, dtype, side)
        at = part["factors"].to_numpy(int)[places] - 1
        lower[places], upper[places] = law.lower[at], law.upper[at]
    measured, predicted = part["measured"].to_numpy(), part["predicted"].to_numpy()
    near = np.clip(measured, lower, upper)
    error = np.sqrt(near * (1 - near) / part["n_samples"].to_numpy())
    room = np.where(measured > predicted, upper - predicted, predicted - lower)
    return part.assign(stderr=error), 0.25, room + _bernstein(part)


def _sigma_words(row: Any) -> str:
    if row["sigma"] == "critical":
        return "critical σ"
    return f"σ = {row['sigma']}"


def _draw_growth(table: pd.DataFrame) -> Figure:
    """log10 ||P e_1|| along the product, a panel each ensemble and sigma."""
    import seaborn as sns

    from stability.plotting import MARKERS, PALETTE, band, canvas

    means = select(table, "log10_vector")
    spreads = select(table, "log10_vector_std")
    ensembles = list(dict.fromkeys(means["ensemble"]))[:4]
    sigmas = list(dict.fromkeys(means["sigma"]))[:3]
    figure, axes = canvas(len(sigmas), len(ensembles))
    orders = sorted(set(means["n"]))[:8]
    for (row, ensemble), (column, sigma) in (
        (r, c) for r in enumerate(ensembles) for c in enumerate(sigmas)
    ):
        ax = axes[row, column]
        for index, n in enumerate(orders):
            chosen = {"ensemble": ensemble, "sigma": sigma, "n": n}
            mean, spread = (
                select(means, "log10_vector", **chosen),
                select(spreads, "log10_vector_std", **chosen),
            )
            x = mean["factors"].to_numpy(float)
            predicted, std = mean["predicted"].to_numpy(), spread["predicted"].to_numpy()
            color = PALETTE[index]
            band(ax, x, predicted - 2 * std, predicted + 2 * std, color)
            sns.lineplot(x=x, y=predicted, ax=ax, color=color, errorbar=None, legend=False)
            every = mean.iloc[:: max(1, len(mean) // 12)]
            every = every[np.isfinite(every["measured"])]
            sns.scatterplot(
                x=every["factors"].to_numpy(float), y=every["measured"].to_numpy(), ax=ax,
                color=color, marker=MARKERS[index], label=f"n = {n}", legend=False, zorder=3,
            )  # fmt: skip
        ax.set_title(f"{ensemble.replace('_', ' ')}, {_sigma_words({'sigma': sigma})}")
        ax.set_xlabel("number of factors $L$")
        ax.set_ylabel("mean of $\\log_{10}\\,\\|P_L e_1\\|$" if column == 0 else "")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=8)
    last = means[means["factors"] == means["factors"].max()]
    words = "; ".join(
        f"{r.ensemble}, n {r.n}, sigma {r.sigma}: {r.measured:.3g} (predicted {r.predicted:.3g})"
        for r in _records(last)
    )
    return Figure(
        "growth",
        "The logarithm of a signal grows linearly with the number of factors. Marks: mean over the "
        "products; line: prediction; band: two predicted standard deviations of one product.",
        f"Mean log10 of a unit vector's length after {last['factors'].iloc[0]} factors. {words}.",
        figure,
    )


def _draw_spectrum(table: pd.DataFrame) -> Figure:
    """Exponents against their number, a panel each order, at the first sigma."""
    import seaborn as sns

    from stability.plotting import FAINT, MARKERS, PALETTE, band, canvas

    means = select(table, "lyapunov_exponent")
    sigma = means["sigma"].iloc[0]
    means = means[means["sigma"] == sigma]
    spreads = select(table, "lyapunov_exponent_std", sigma=sigma)
    orders = sorted(set(means["n"]))[:4]
    ensembles = list(dict.fromkeys(means["ensemble"]))[:5]
    figure, axes = canvas(len(orders), sharey=True)
    for column, n in enumerate(orders):
        ax = axes[0, column]
        for index, ensemble in enumerate(ensembles):
            mean = select(means, "lyapunov_exponent", n=n, ensemble=ensemble)
            std = select(spreads, "lyapunov_exponent_std", n=n, ensemble=ensemble)["predicted"]
            x, predicted = mean["k"].to_numpy(float), mean["predicted"].to_numpy()
            color = PALETTE[index]
            band(ax, x, predicted - 2 * std.to_numpy(), predicted + 2 * std.to_numpy(), color)
            sns.lineplot(x=x, y=predicted, ax=ax, color=color, errorbar=None, legend=False)
            every = mean.iloc[(n - 1) % max(1, n // 16) :: max(1, n // 16)]
            every = every[np.isfinite(every["measured"])]
            sns.scatterplot(
                x=every["k"].to_numpy(float), y=every["measured"].to_numpy(), ax=ax, color=color,
                marker=MARKERS[index], label=ensemble.replace("_", " "), legend=False, zorder=3,
            )  # fmt: skip
        ax.axhline(0, color=FAINT, lw=1.2, ls="--", zorder=0)
        ax.set_title(f"n = {n}")
        ax.set_xlabel("number of the exponent $k$")
        ax.set_ylabel("Lyapunov exponent $\\lambda_k$ (nats a factor)" if column == 0 else "")
        if n <= 4:
            ax.set_xticks(range(1, n + 1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=5)
    ends = means[(means["k"] == 1) | (means["k"] == means["n"])]
    words = "; ".join(
        f"{r.ensemble}, n {r.n}, k {r.k}: {r.measured:.3f} (predicted {r.predicted:.3f})"
        for r in _records(ends)
    )
    return Figure(
        "spectrum",
        f"Every direction has its own rate ({_sigma_words({'sigma': sigma})}): the largest "
        "exponents grow with n, the smallest is the same for every n. Marks: QR iteration; line: "
        "prediction; band: two predicted standard deviations of one product.",
        f"Lyapunov exponents. {words}.",
        figure,
    )


def _draw_arithmetic(table: pd.DataFrame) -> Figure:
    """Above: overflow in each format.  Below: the smallest exponent by a raw SVD and by QR."""
    import seaborn as sns

    from stability.plotting import FAINT, MARKERS, PALETTE, band, canvas

    shares = select(table, "overflow_share")
    ensemble, sigma = shares["ensemble"].iloc[0], shares["sigma"].iloc[0]
    shares = shares[(shares["ensemble"] == ensemble) & (shares["sigma"] == sigma)]
    smallest = table[
        table["quantity"].isin(["smallest_exponent", "smallest_exponent_median"])
        & (table["ensemble"] == ensemble)
    ]
    deaths = select(table, "svd_breakdown", ensemble=ensemble)
    orders = sorted(set(shares["n"]))[:4]
    figure, axes = canvas(len(orders), 1 if smallest.empty else 2, height=3.0, sharey="row")
    formats = list(dict.fromkeys(shares["dtype"]))
    for column, n in enumerate(orders):
        ax = axes[0, column]
        for index, dtype in enumerate(formats):
            part = select(shares, "overflow_share", n=n, dtype=dtype)
            x = part["factors"].to_numpy(float)
            style = {"color": PALETTE[index], "ax": ax, "legend": False}
            sns.lineplot(x=x, y=part["predicted"].to_numpy(), errorbar=None, **style)
            if len(part):
                scale, last = float(part["scale"].iloc[0]), int(x.max())
                law = _Theory(ENSEMBLES[ensemble], n).share(last, scale, dtype, 1)
                at = x.astype(int) - 1
                band(ax, x, law.lower[at], law.upper[at], PALETTE[index])
            every = part.iloc[index :: max(1, len(part) // 16)]
            sns.scatterplot(
                x=every["factors"].to_numpy(float), y=every["measured"].to_numpy(),
                marker=MARKERS[index], label=dtype, zorder=3, s=26, **style,
            )  # fmt: skip
        ax.set_title(f"n = {n}")
        ax.set_ylim(-0.06, 1.06)
        ax.set_xlabel("number of factors $L$")
        ax.set_ylabel("share overflowed" if column == 0 else "")
        if smallest.empty:
            continue
        ax = axes[1, column]
        routes = (
            ("qr", "QR", 6),
            ("svd_float32", "SVD, float32", 1),
            ("svd_float64", "SVD, float64", 0),
        )
        for method, words, index in routes:
            part = smallest[(smallest["n"] == n) & (smallest["method"] == method)]
            part = part[np.isfinite(part["measured"])]
            sns.scatterplot(
                x=part["factors"].to_numpy(float), y=part["measured"].to_numpy(), ax=ax, s=16,
                color=PALETTE[index], marker=MARKERS[index], label=words, legend=False, zorder=3,
            )  # fmt: skip
            for death in deaths.loc[(deaths["n"] == n) & (deaths["method"] == method), "predicted"]:
                ax.axvline(death, color=PALETTE[index], lw=1.2, ls="--")
        exact = smallest[(smallest["n"] == n) & (smallest["method"] == "qr")]
        sns.lineplot(
            x=exact["factors"].to_numpy(float), y=exact["predicted"].to_numpy(), ax=ax,
            color=PALETTE[6], errorbar=None, legend=False,
        )  # fmt: skip
        ax.axhline(0, color=FAINT, lw=1.2, zorder=0)
        ax.set_ylim(-2.0, 1.6)
        ax.set_xlabel("number of factors $L$")
        ax.set_ylabel("smallest exponent (nats)" if column == 0 else "")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if not smallest.empty:
        more = axes[1, 0].get_legend_handles_labels()
        handles, labels = [*handles, *more[0]], [*labels, *more[1]]
    figure.legend(handles, labels, loc="outside lower center", ncols=7)
    halves = [
        f"n {n} {dtype}: {int(part['factors'].min())}"
        for (n, dtype), part in shares[shares["measured"] >= 0.5].groupby(["n", "dtype"])
    ]
    broken = [f"n {r.n} {r.method}: {r.measured:g} ({r.predicted:.1f})" for r in _records(deaths)]
    text = (
        f"Above: plain products of {ensemble.replace('_', ' ')} factors "
        f"({_sigma_words({'sigma': sigma})}) overflow once the largest entry leaves the range. "
        "Marks: measured; line: predicted; band: between rigorous bounds."
    )
    if not smallest.empty:
        text += (
            " Below: an SVD of the product misjudges the smallest exponent long before that, "
            "even when nothing overflows; dashed: where it is predicted to."
        )
    return Figure(
        "arithmetic",
        text,
        f"Factors at which half of the products have overflowed: {'; '.join(halves) or 'none'}. "
        f"Factors after which the SVD fails (predicted): {'; '.join(broken) or 'none'}.",
        figure,
    )


def _draw_d2l(table: pd.DataFrame) -> Figure:
    """The histogram of log10 ||P||_F of the book's example, with what it prints."""
    import seaborn as sns

    from stability.plotting import PALETTE, canvas

    part = select(table, "d2l_log10_norm_share")
    figure, axes = canvas(height=3.0)
    ax = axes[0, 0]
    x = part["log10_size"].to_numpy(float)
    sns.histplot(
        {"size": x, "share": part["measured"].to_numpy()}, x="size", weights="share",
        bins=[*(x - 0.25), x[-1] + 0.25], ax=ax, color=PALETTE[5], alpha=0.6, label="measured",
        legend=False,
    )  # fmt: skip
    sns.lineplot(
        x=x, y=part["predicted"].to_numpy(), ax=ax, color=PALETTE[0], errorbar=None,
        label="predicted", legend=False,
    )  # fmt: skip
    for index, (name, value) in enumerate(D2L_PUBLISHED.items(), start=1):
        style = "-" if index == 1 else "--"
        ax.axvline(value, color=PALETTE[index], ls=style, label=f"printed in the {name}")
    ax.set_xlabel("$\\log_{10}\\,\\|P\\|_F$ after 101 Gaussian 4 × 4 factors")
    ax.set_ylabel("share in 0.5 decades")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    low, high = _d2l_band()
    inside = float(select(table, "d2l_inside_band")["measured"].iloc[0])
    printed = " and ".join(str(value) for value in D2L_PUBLISHED.values())
    return Figure(
        "d2l",
        "Dive into Deep Learning, sec. 5.4.1.2, multiplies an initial 4 × 4 matrix by 100 more and "
        "prints one outcome. Its published values are ordinary draws of a wide law: 99 % of the "
        f"products have their largest entry between 10^{low:.1f} and 10^{high:.1f}.",
        f"Histogram of log10 norms from 16 to 34 with the predicted law; published values "
        f"{printed}; {100 * inside:.1f} % of the largest entries are between 10^{low:.1f} and "
        f"10^{high:.1f} (predicted 99 %).",
        figure,
    )


@dataclass(frozen=True)
class _Share:
    """Progress within one cell of the run."""

    context: Context
    start: float
    width: float

    def __call__(self, done: float) -> None:
        self.context.progress(min(1.0, self.start + self.width * done))


def _numpy(columns: list[torch.Tensor]) -> np.ndarray[Any, Any]:
    """(B, len(columns)) float64."""
    return torch.stack(columns, dim=1).cpu().numpy()


def _records(part: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples."""
    return iter(part.itertuples())


def _canonical(value: str) -> str:
    """``critical`` or the shortest text of a positive number; raises InputError."""
    if value == "critical":
        return value
    try:
        number = float(value)
    except ValueError:
        raise InputError(
            f"experiment.sigma={value!r}: must be a number above 0, or critical"
        ) from None
    check_range("experiment.sigma", number, above=0)
    return repr(number).removesuffix(".0")
