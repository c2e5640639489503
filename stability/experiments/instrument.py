"""The suite's self-test: ways to measure stability wrongly, each beside its guard and the truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor
from torch.nn import functional

from stability import claims
from stability.claims import Claim
from stability.errors import check_choice, check_each, check_range
from stability.experiment import Context, Experiment, Figure
from stability.kernels import robust
from stability.table import concat, rows, select
from stability.theory.finite_width import dead_probability, relu_log_norm
from stability.theory.floating_point import FORMATS, gamma
from stability.theory.quadrature import expectation

SCALARS = 256
"""Draws of a number or of a small network for each draw of a matrix product."""
SINGLE, DOUBLE = FORMATS["float32"].unit_roundoff, FORMATS["float64"].unit_roundoff


class Reading(NamedTuple):
    """What both routes gave, with their standard errors over ``n_samples``, and the truth."""

    naive: float
    guarded: float
    truth: float
    naive_stderr: float = 0.0
    stderr: float = 0.0
    n_samples: int = 1


@dataclass(frozen=True)
class Trap:
    """A way to measure wrongly.

    ``tolerance``: the error bound of the guarded value, or where that is ``sampled`` the smallest
    error worth detecting; relative to the truth, absolute where that is 0.  ``portable``: the
    naive value is wrong by more than the tolerance on every platform.
    """

    sentence: str
    source: str
    probe: Callable[[Context, int], Reading]
    tolerance: float
    sampled: bool = False
    portable: bool = True


def _mean(samples: Tensor) -> tuple[float, float]:
    """Mean and standard error."""
    error = robust.variance(samples, 0) / (len(samples) - 1)
    return samples.to(torch.float64).mean().item(), math.sqrt(error.item())


def _compare(naive: Tensor, guarded: Tensor, truth: float) -> Reading:
    """The reading of two samples' means."""
    (one, one_error), (other, other_error) = _mean(naive), _mean(guarded)
    return Reading(one, other, truth, one_error, other_error, len(guarded))


def _norm(x: Tensor) -> float:
    return 2.0 ** robust.log2_norm(x, 0).item()


NORM_SIZE = 1024


def _norm_of(entry: float) -> Callable[[Context, int], Reading]:
    def probe(context: Context, _samples: int) -> Reading:
        x = torch.full((NORM_SIZE,), entry, dtype=torch.float32, device=context.device)
        truth = math.sqrt(NORM_SIZE) * float(np.float32(entry))
        return Reading(torch.linalg.vector_norm(x).item(), _norm(x), truth)

    return probe


def _clip(context: Context, _samples: int) -> Reading:
    parameter = torch.nn.Parameter(torch.zeros(NORM_SIZE, device=context.device))
    parameter.grad = torch.full_like(parameter, 1e20)
    scaled, _ = robust.rescale(parameter.grad, 0)
    clipped = scaled / _norm(scaled)
    torch.nn.utils.clip_grad_norm_([parameter], max_norm=1.0)
    return Reading(_norm(parameter.grad), _norm(clipped), 1.0)


ORDER, FACTORS = 4, 100


def _raw_svd(context: Context, samples: int) -> Reading:
    # Exact at any depth: R_nn of the QR iteration is chi-distributed with one degree of freedom.
    truth = (math.log(2) + special.digamma(0.5)) / 2
    generator = context.generator("raw_svd")
    shape = (samples, ORDER, ORDER)
    frame = torch.eye(ORDER, dtype=torch.float64, device=context.device).expand(shape)
    product, growth = frame, torch.zeros(samples, dtype=torch.float64, device=context.device)
    for _ in range(FACTORS):
        factor = torch.randn(shape, generator=generator, device=context.device).to(torch.float64)
        product = factor @ product
        frame, triangle = torch.linalg.qr(factor @ frame)
        growth = growth + triangle[:, -1, -1].abs().log()
    raw = torch.linalg.svdvals(product)[:, -1].log() / FACTORS
    return _compare(raw, growth / FACTORS, truth)


EIGEN_FACTORS, GRID, EIGEN_SAMPLES = 200, 16, 64
"""Entries are multiples of 1 / GRID, so that integers carry the product exactly."""


def all_real(matrix: np.ndarray[Any, Any]) -> bool:
    """Whether a matrix of Python integers (dtype object) has distinct and real eigenvalues only.

    By Hermite's criterion: the Hankel matrix of the traces of the powers is positive definite; its
    leading minors come exactly from Bareiss' elimination.
    """
    order = len(matrix)
    traces, power = [order], matrix
    for _ in range(2 * order - 2):
        traces.append(int(np.trace(power)))
        power = power @ matrix
    hankel = np.array([[traces[i + j] for j in range(order)] for i in range(order)], dtype=object)
    before = 1
    for _ in range(order):
        pivot = hankel[0, 0]
        if pivot <= 0:
            return False
        cross = np.outer(hankel[1:, 0], hankel[0, 1:])
        hankel, before = (pivot * hankel[1:, 1:] - cross) // before, pivot
    return True


def _raw_eigenvalues(context: Context, samples: int) -> Reading:
    count = min(samples, EIGEN_SAMPLES)
    draws = context.numpy("raw_eigenvalues").normal(size=(count, EIGEN_FACTORS, ORDER, ORDER))
    whole = np.rint(GRID * draws)
    raw = np.stack([reduce(np.matmul, factors) for factors in whole / GRID])
    naive = (np.linalg.eigvals(raw).imag == 0).all(axis=-1)
    exact = [reduce(np.matmul, factors) for factors in whole.astype(np.int64).astype(object)]
    guarded = np.array([all_real(product) for product in exact])
    return _compare(torch.tensor(naive), torch.tensor(guarded), 1.0)


UNITS, INPUTS, BATCH, STEPS, RATE, CONSTANT = 7, 10, 16, 500, 0.2, 0.1


def _in_order(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, every entry's terms added one by one in the same order."""
    return reduce(torch.add, (a.T[:, :, None] * b[:, None, :]).unbind(0))


def _constant_symmetry(context: Context, _samples: int) -> Reading:
    generator = context.generator("constant_symmetry")
    x = torch.randn((BATCH, INPUTS), generator=generator, device=context.device)
    target = torch.randn(BATCH, generator=generator, device=context.device)

    def spread(product: Callable[[Tensor, Tensor], Tensor]) -> float:
        hidden = torch.full((INPUTS, UNITS), CONSTANT, device=context.device)
        output = torch.full((UNITS,), CONSTANT, device=context.device)
        for _ in range(STEPS):
            z = product(x, hidden)
            # Softsign: unlike a library's tanh, basic operations round alike in every lane.
            size = 1 + z.abs()
            h = z / size
            error = (h @ output - target) / BATCH
            back = error[:, None] * output / size.square()
            hidden = hidden - RATE * product(x.T, back)
            output = output - RATE * product(error[None], h)[0]
        return (hidden - hidden[:, :1]).abs().max().item()

    return Reading(spread(torch.matmul), spread(_in_order), 0.0)


CLASSES, FEATURES = 10, 16


def _rounding_gradient(context: Context, _samples: int) -> Reading:
    generator = context.generator("rounding_gradient")
    h = torch.randn((1, FEATURES), generator=generator, device=context.device, requires_grad=True)
    weight = torch.full((CLASSES, FEATURES), 0.1, device=context.device)
    label = torch.zeros(1, dtype=torch.int64, device=context.device)
    logits = h @ weight.T
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, label), h)
    magnitude = (logits.softmax(-1) + functional.one_hot(label, CLASSES)) @ weight
    # FEATURES in a logit, CLASSES in the softmax's sum and in the gradient's, 8 in between.
    kept = robust.significant(gradient, magnitude, FEATURES + 2 * CLASSES + 8)
    return Reading(gradient.abs().max().item(), kept.abs().max().item(), 0.0)


WIDTH, BLOCKS, BRANCH = 32, 8, 0.5


def _reduced_resnet(context: Context, samples: int) -> Reading:
    generator = context.generator("reduced_resnet")
    reduced = full = torch.ones((samples, WIDTH, 1), device=context.device)
    shape = (samples, WIDTH, WIDTH)
    for _ in range(BLOCKS):
        he, lecun = (
            torch.randn(shape, generator=generator, device=context.device) * math.sqrt(gain / WIDTH)
            for gain in (2, 1)
        )
        reduced = reduced + BRANCH * (he @ reduced).relu()
        full = full + BRANCH * (lecun @ (he @ full).relu())
    naive, guarded = (h.square().mean(dim=(1, 2)) for h in (reduced, full))
    return _compare(naive, guarded, (1 + BRANCH**2) ** BLOCKS)


def _wide_accumulator(context: Context, _samples: int) -> Reading:
    ones = torch.ones(NORM_SIZE, dtype=torch.bfloat16, device=context.device)
    total = torch.zeros((), dtype=torch.bfloat16, device=context.device)
    for one in ones:
        total = total + one
    # 2^p + 1 lies half-way and rounds to even.
    truth = 2.0 ** FORMATS["bfloat16"].precision
    return Reading((ones @ ones).item(), total.item(), truth)


def _centred_moment(context: Context, samples: int) -> Reading:
    generator = context.generator("centred_moment")
    h = torch.randn(SCALARS * samples, generator=generator, device=context.device).relu()
    return _compare((h.double() - h.double().mean()).square(), h.double().square(), 0.5)


DEAD_WIDTH, DEAD_DEPTH = 3, 4


def _narrow_networks(context: Context, samples: int) -> Tensor:
    """||h_L||^2 / n of He networks of ReLUs: (SCALARS samples,), some exactly 0."""
    generator = context.generator("narrow_networks")
    h = torch.ones((SCALARS * samples, DEAD_WIDTH, 1), device=context.device)
    for _ in range(DEAD_DEPTH):
        shape = (len(h), DEAD_WIDTH, DEAD_WIDTH)
        weight = torch.randn(shape, generator=generator, device=context.device)
        h = math.sqrt(2 / DEAD_WIDTH) * (weight @ h).relu()
    return h.square().mean(dim=(1, 2))


def _dropped_networks(context: Context, samples: int) -> Reading:
    moment = _narrow_networks(context, samples)
    dead = (moment == 0).to(torch.float64)
    # 0 / 0 is nan, and a mean that skips nan is one over the survivors.
    seen = dead[~(moment / moment).isnan()]
    return _compare(seen, dead, dead_probability(DEAD_WIDTH, DEAD_DEPTH))


def _log_of_zero(context: Context, samples: int) -> Reading:
    moment = _narrow_networks(context, samples)
    alive = robust.mean_log(moment, 0)
    count = int(alive.counted.item())
    error = math.sqrt(alive.variance.item() / count)
    truth = DEAD_DEPTH * relu_log_norm(DEAD_WIDTH).mean
    naive = moment.log().mean().item()
    return Reading(naive, alive.mean.item(), truth, math.nan, error, count)


HERMITE_NODES, ERF_VARIANCE, HARDTANH_VARIANCE = 101, 1000.0, 4.0


def _gauss_hermite(f: Callable[[Any], Any], q: float) -> float:
    z, weight = np.polynomial.hermite_e.hermegauss(HERMITE_NODES)
    return float(weight @ f(math.sqrt(q) * z) / weight.sum())


def _quadrature_scale(_context: Context, _samples: int) -> Reading:
    def squared_slope(z: np.ndarray[Any, Any]) -> Any:
        return 4 / np.pi * np.exp(-2 * z * z)

    q = ERF_VARIANCE
    truth = 4 / math.pi / math.sqrt(1 + 4 * q)
    return Reading(_gauss_hermite(squared_slope, q), float(expectation(squared_slope, q)), truth)


def _quadrature_kink(_context: Context, _samples: int) -> Reading:
    def squared_slope(z: np.ndarray[Any, Any]) -> Any:
        return np.where(np.abs(z) < 1, 1.0, 0.0)

    q = HARDTANH_VARIANCE
    guarded = float(expectation(squared_slope, q, kinks=(-1.0, 1.0)))
    return Reading(_gauss_hermite(squared_slope, q), guarded, math.erf(1 / math.sqrt(2 * q)))


VARIANCE_SIZE, CENTRE, SPREAD = 4096, 0.5, 1e-4


def _single_pass_variance(context: Context, _samples: int) -> Reading:
    generator = context.generator("single_pass_variance")
    noise = torch.randn(VARIANCE_SIZE, generator=generator, device=context.device)
    x = CENTRE + SPREAD * noise
    exact = [Fraction(value) for value in x.tolist()]
    mean = sum(exact, Fraction()) / VARIANCE_SIZE
    truth = float(sum(((value - mean) ** 2 for value in exact), Fraction()) / VARIANCE_SIZE)
    naive = x.square().mean() - x.mean().square()
    return Reading(naive.item(), robust.variance(x, 0, torch.float32).item(), truth)


FREEDOM = 4


def _log_of_mean(context: Context, samples: int) -> Reading:
    generator = context.generator("log_of_mean")
    shape = (SCALARS * samples, FREEDOM)
    x = torch.randn(shape, generator=generator, device=context.device).square().mean(dim=1)
    mean, error = _mean(x)
    logarithms = robust.mean_log(x, 0)
    truth = float(special.digamma(FREEDOM / 2)) + math.log(2 / FREEDOM)
    return Reading(
        robust.log_mean(x, 0).item(),
        logarithms.mean.item(),
        truth,
        error / mean,
        math.sqrt(logarithms.variance.item() / len(x)),
        len(x),
    )


# The logarithm, below 128 in magnitude, is itself rounded: to 128 u.
_NORM_ERROR = float(gamma(NORM_SIZE + 128, DOUBLE))

TRAPS = {
    "norm_underflow": Trap(
        "The norm of 1024 float32 entries of 1e-24: their squares underflow.",
        "IEEE 754-2019, sec. 7.5; norms scaled: Blue 1978, ACM TOMS 4",
        _norm_of(1e-24),
        _NORM_ERROR,
    ),
    "norm_overflow": Trap(
        "The norm of 1024 float32 entries of 1e20: their squares overflow.",
        "IEEE 754-2019, sec. 7.4; norms scaled: Blue 1978, ACM TOMS 4",
        _norm_of(1e20),
        _NORM_ERROR,
    ),
    "clip_to_zero": Trap(
        "The norm of a gradient of entries 1e20 clipped to norm 1: clip_grad_norm_ divides by inf.",
        "Pascanu, Mikolov & Bengio 2013, algorithm 1",
        _clip,
        4 * SINGLE,
    ),
    "raw_svd": Trap(
        "The smallest Lyapunov exponent of 100 Gaussian 4x4 factors by a float64 SVD of the raw "
        "product: beyond a condition number of 1 / u it is the exponent of the rounding error.",
        "Newman 1986, Commun. Math. Phys. 103; QR: Benettin et al. 1980, Meccanica 15",
        _raw_svd,
        0.5,
        sampled=True,
    ),
    "raw_eigenvalues": Trap(
        "The probability that 200 Gaussian 4x4 factors have a product with real eigenvalues only: "
        "rounding makes the small ones complex, integer arithmetic does not.",
        "Forrester 2014, J. Phys. A 47, 065202: the limit of infinite depth",
        _raw_eigenvalues,
        0.5,
        sampled=True,
        portable=False,
    ),
    "constant_symmetry": Trap(
        "How far apart 500 steps take equal hidden units: a matmul sums their terms in different "
        "orders, so that they drift; additions in one order keep them equal.",
        "symmetry of gradient descent under permutation of units, exact",
        _constant_symmetry,
        0.0,
        portable=False,
    ),
    "rounding_gradient": Trap(
        "The gradient that softmax cross-entropy sends through a constant output layer: what is "
        "there is rounding error, below its bound.",
        "sum of softmax - one-hot = 0, exact; Higham 2002, lemma 3.1",
        _rounding_gradient,
        0.0,
        portable=False,
    ),
    "reduced_resnet": Trap(
        "E ||x_L||^2 / ||x_0||^2 = (1 + a^2)^L of a residual network: not if the branch ends in a "
        "ReLU, whose mean is positive, only if it ends in a linear layer.",
        "independence of the last linear layer, exact; cf. Zhang et al. 2019, sec. 2",
        _reduced_resnet,
        1.0,
        sampled=True,
    ),
    "wide_accumulator": Trap(
        "Where a bfloat16 sum of 1024 ones stagnates: a bfloat16 dot product adds in float32.",
        "Higham 2002, sec. 4.2: 2^p + 1 rounds to 2^p",
        _wide_accumulator,
        0.0,
        portable=False,
    ),
    "centred_moment": Trap(
        "E relu(z)^2 = 1 / 2 for z ~ N(0, 1): the variance leaves out the mean's square.",
        "He et al. 2015, eq. 8",
        _centred_moment,
        0.2,
        sampled=True,
    ),
    "dropped_networks": Trap(
        "The share of dead ReLU networks of width 3 and depth 4: 0 / 0 is nan, which means skip.",
        "1 - (1 - 2^-n)^L; Lu et al. 2019, arXiv 1903.06733",
        _dropped_networks,
        0.5,
        sampled=True,
    ),
    "log_of_zero": Trap(
        "The mean of ln(||h_4||^2 / n) over ReLU networks of width 3 that are alive: one dead "
        "network makes the mean over all of them -inf.",
        "Hanin & Nica 2020, arXiv 1812.05994: a chi-square mixture a layer",
        _log_of_zero,
        0.5,
        sampled=True,
    ),
    "quadrature_scale": Trap(
        "E erf'(u)^2 for u ~ N(0, 1000): between the 101 Gauss-Hermite nodes lies the whole slope.",
        "4 / (pi sqrt(1 + 4 q)); Saad & Solla 1995",
        _quadrature_scale,
        1e-10,
    ),
    "quadrature_kink": Trap(
        "E hardtanh'(u)^2 for u ~ N(0, 4): Gauss-Hermite nodes do not see where the jump is.",
        "erf(1 / sqrt(2 q)), exact",
        _quadrature_kink,
        1e-10,
    ),
    "single_pass_variance": Trap(
        "The variance of 4096 float32 numbers at 0.5 +- 1e-4: E x^2 - (E x)^2 cancels.",
        "Chan, Golub & LeVeque 1983, Am. Stat. 37; exact fractions",
        _single_pass_variance,
        float(gamma(VARIANCE_SIZE + 4, SINGLE)),
    ),
    "log_of_mean": Trap(
        "E ln(chi^2_4 / 4): the mean of logarithms, which is not the logarithm of the mean.",
        "psi(2) - ln 2, exact; Jensen's inequality",
        _log_of_mean,
        0.3,
        sampled=True,
    ),
}


def relative_error(measured: Any, truth: Any) -> Any:
    """|measured / truth - 1|, absolute where the truth is 0; arrays of the same shape."""
    value, exact = np.asarray(measured, float), np.asarray(truth, float)
    return np.abs(value - exact) / np.where(exact == 0, 1.0, np.abs(exact))


@dataclass(frozen=True)
class Instrument(Experiment):
    """Do the suite's own measurements tell the truth where the obvious ones do not?"""

    trap: list[str] = field(default_factory=lambda: list(TRAPS))
    samples: int = 32

    title: ClassVar[str] = "Instrument"
    question: ClassVar[str] = "Which ways to measure stability mislead, and are ours free of them?"
    appendix: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_each("experiment.trap", self.trap)
        for name in self.trap:
            check_choice("experiment.trap", name, TRAPS)
        check_range("experiment.samples", self.samples, at_least=8)

    def memory(self) -> int:
        """Eight matrices of the widest network for each sample, and the fixed parts."""
        return 2**24 + 8 * 4 * self.samples * max(WIDTH**2, SCALARS * DEAD_WIDTH**2)

    def run(self, context: Context) -> pd.DataFrame:
        """Two rows a trap, ``route`` naive and guarded; predicted is the truth."""
        frames = []
        for done, name in enumerate(self.trap, start=1):
            reading = TRAPS[name].probe(context, self.samples)
            frames.append(
                rows(
                    "value",
                    [reading.naive, reading.guarded],
                    reading.truth,
                    [reading.naive_stderr, reading.stderr],
                    reading.n_samples,
                    trap=name,
                    route=["naive", "guarded"],
                )
            )
            context.progress(done / len(self.trap))
        return concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """Each guard gives the truth, and each portable trap still catches the naive route."""
        found, caught, portable = [], 0, 0
        for name, trap in TRAPS.items():
            guarded = select(table, "value", trap=name, route="guarded")
            if guarded.empty:
                continue
            scale = np.where(guarded["predicted"] == 0, 1.0, guarded["predicted"].abs())
            words = (f"guard_{name}", trap.sentence, trap.source, guarded)
            tolerance = trap.tolerance * scale
            if trap.sampled:
                found.append(claims.statistical(*words, resolution=tolerance))
            else:
                found.append(claims.bounded(*words, allowed=tolerance))
            if trap.portable:
                naive = select(table, "value", trap=name, route="naive").iloc[0]
                error = relative_error(naive["measured"], naive["predicted"])
                portable += 1
                caught += int(not error <= trap.tolerance)
        if portable:
            found.append(
                claims.bounded(
                    "traps_catch",
                    "The number of traps, of those that no platform escapes, whose naive value is "
                    "wrong by more than its guard may be.",
                    "the traps' own sources",
                    pd.DataFrame({"measured": [float(caught)], "predicted": [float(portable)]}),
                    allowed=0.0,
                )
            )
        return found

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        """How many naive values are off, and how many guarded ones are right."""
        naive = select(table, "value", route="naive")
        error = relative_error(naive["measured"], naive["predicted"])
        off = int(np.sum(~(error <= 0.1)))
        guards = [claim for claim in Instrument.claims(table) if claim.name != "traps_catch"]
        good = sum(claim.verdict == "holds" for claim in guards)
        return (
            f"{off} of {len(naive)} naive measurements are wrong by more than 10 %, without any "
            f"error message; {good} of {len(guards)} guarded ones agree with the truth within "
            "their bounds."
        )

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The relative errors of both routes, one line a trap."""
        import seaborn as sns

        from stability.plotting import FAINT, MARKERS, PALETTE, canvas

        data = select(table, "value").copy()
        data["error"] = relative_error(data["measured"], data["predicted"])
        zero, infinite = 1e-19, 1e4
        data["shown"] = data["error"].fillna(np.inf).replace({0.0: zero, np.inf: infinite})
        data["name"] = data["trap"].str.replace("_", " ")
        names = list(dict.fromkeys(data["name"]))
        figure, axes = canvas(height=1.2 + 0.27 * len(names))
        ax = axes[0, 0]
        styles = {"guarded": (PALETTE[0], MARKERS[0]), "naive": (PALETTE[1], MARKERS[6])}
        for route, (color, marker) in styles.items():
            part = data[data["route"] == route]
            sns.scatterplot(
                part, x="shown", y="name", ax=ax, s=55, color=color, marker=marker, label=route,
                legend=False, zorder=3,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlim(zero / 10, infinite * 10)
        for edge in (zero * 20, infinite / 20):
            ax.axvline(edge, color=FAINT, lw=1.2, ls="--")
        decades = [f"$10^{{{d}}}$" for d in range(-16, 0, 4)]
        positions = [zero, *(10.0**d for d in range(-16, 1, 4)), infinite]
        ax.set_xticks(positions, ["exact", *decades, "1", "inf"])
        ax.minorticks_off()
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel("error relative to the truth (absolute where the truth is 0)")
        ax.set_ylabel("")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2)
        naive, guarded = (data.loc[data["route"] == r] for r in ("naive", "guarded"))
        worst = [
            f"at most {part['error'].max():.2g} where {kind}"
            for kind, part in guarded.groupby(
                np.where(guarded["stderr"] == 0, "deterministic", "a mean of random draws")
            )
        ]
        return [
            Figure(
                "traps",
                "Each line is one way to measure wrongly that raises no error. A naive value at 1 "
                "is wrong by as much as the truth itself. Guarded ones err by rounding or, where "
                "they are means of random draws, by their sampling error.",
                f"Relative errors of {len(names)} measurements on a log axis from exact to inf: "
                f"{int((~(naive['error'] <= 0.1)).sum())} naive ones are wrong by more than 10 %; "
                f"guarded ones by {' and '.join(worst)}.",
                figure,
            )
        ]
