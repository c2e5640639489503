"""Bounds that cover measured errors and are near them; laws of rounding against arithmetic."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.theory import floating_point as fp
from stability.theory import rounding_errors as re
from stability.theory.quadrature import Array

LAW = settings(deadline=None, max_examples=60)
SINGLE, HALF = fp.FORMATS["float32"].unit_roundoff, fp.FORMATS["float16"].unit_roundoff
FORMATS = {**fp.FORMATS, **fp.FLOAT8}


def sequential_product(a: Array, b: Array, dtype: Any) -> Array:
    """A B with every product and every sum rounded to ``dtype``, terms in order."""
    left, right = a.astype(dtype), b.astype(dtype)
    total = left[:, :1] * right[:1, :]
    for k in range(1, a.shape[1]):
        total = total + left[:, k : k + 1] * right[k : k + 1, :]
    product: Array = total.astype(np.float64)
    return product


def chain(matrices: list[Array], dtype: Any) -> tuple[Array, Any]:
    """The product in ``dtype`` and, of the same rounded matrices, in extended precision."""
    exact = matrices[0].astype(np.longdouble)
    found = matrices[0]
    for a in matrices[1:]:
        exact = exact @ a.astype(np.longdouble)
        found = sequential_product(found, a, dtype)
    return found, exact


def draws(kind: str, n: int, length: int, dtype: Any) -> list[Array]:
    rng = np.random.default_rng(n + length)
    matrices = []
    for _ in range(length):
        a = rng.standard_normal((n, n)) / math.sqrt(n)
        a = np.abs(a) * math.sqrt(math.pi / 2 / n) if kind == "positive" else a
        matrices.append(a.astype(dtype).astype(np.float64))
    return matrices


@pytest.mark.parametrize("kind", ["gaussian", "positive"])
@pytest.mark.parametrize(("n", "length", "dtype", "u"),
                         [(100, 2, np.float32, SINGLE), (30, 6, np.float32, SINGLE),
                          (8, 20, np.float32, SINGLE), (20, 3, np.float16, HALF)])  # fmt: skip
def test_the_bounds_cover_the_error_of_a_chain(
    kind: str, n: int, length: int, dtype: Any, u: float
) -> None:
    matrices = draws(kind, n, length, dtype)
    found, exact = chain(matrices, dtype)
    # Half's subnormals: half of the smallest is lost to each rounding, whatever the operands.
    lost = n * length * 2.0**-25 if dtype == np.float16 else 0.0
    error = np.abs((found - exact).astype(np.float64))
    for confidence in (None, 8.2):
        bound = re.chain_bound(matrices, u, confidence)
        assert np.all(error <= bound + lost)
        assert np.linalg.norm(error) <= np.linalg.norm(bound) + n * lost
    assert re.chain_failure(n, length, u, 8.2) < 1e-6
    # How loose: roundings average to about sqrt(n) u / 4 a layer, the probabilistic bound takes
    # 8.2 sqrt(n) u; to which gaussian chains add (2 sqrt(n) / pi)^(L - 1), see the docstring, and
    # that a typical product is exp(-L / (2 n)) of the mean square's root.
    likely = float(np.max(error / re.chain_bound(matrices, u, 8.2)))
    cancels = (2 * math.sqrt(n) / math.pi) ** (length - 1) * math.exp(length / (2 * n))
    cancels = cancels if kind == "gaussian" else 1.0
    assert likely > 1 / (400 * cancels * math.sqrt(length))


def test_the_probabilistic_bound_is_the_tighter_one() -> None:
    """sqrt(n) against n: from n = 67 on at confidence 8.2, in a chain of any length."""
    n = np.array([100, 10_000, 1_000_000])
    for length in (2, 30):
        ratio = re.chain_factor(n, length, 2.0**-53, 8.2) / re.chain_factor(n, length, 2.0**-53)
        assert ratio == pytest.approx(8.2 / np.sqrt(n), rel=1e-6)


def test_a_kernel_that_rounds_more_breaks_the_bound() -> None:
    """The negative twin: products stored in half precision under the bound of single."""
    matrices = draws("positive", 30, 4, np.float32)
    found, exact = chain(matrices, np.float16)
    error = np.abs((found - exact).astype(np.float64))
    assert np.any(error > re.chain_bound(matrices, SINGLE))


def test_chains_of_other_shapes() -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.random((3, 5)), rng.random((5, 11)), rng.random((11, 2))]
    bound = re.chain_bound(matrices, SINGLE)
    expected = float(fp.gamma(22, SINGLE)) * (matrices[0] @ matrices[1] @ matrices[2])
    assert bound == pytest.approx(expected)
    assert np.all(re.chain_bound(matrices[:1], SINGLE) == 0)


@LAW
@given(n=st.integers(1, 500), length=st.integers(2, 40))
def test_the_factor_covers_products_taken_one_by_one(n: int, length: int) -> None:
    one = float(fp.gamma(n, SINGLE))
    assert math.expm1((length - 1) * math.log1p(one)) <= float(
        re.chain_factor(n, length, SINGLE)
    ) * (1 + 1e-9)
    assert re.chain_factor(n, 2, SINGLE) == fp.gamma(n, SINGLE)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_chain_of_stored_isometries(name: str) -> None:
    """Orthogonal layers accumulated in float64, stored in the format: .4246 sqrt(L) u."""
    entry, n = FORMATS[name], 128
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(6):
        exact = rng.standard_normal((n, 8))
        found = exact.copy()
        for length in range(1, 65):
            q, _ = np.linalg.qr(rng.standard_normal((n, n)))
            exact, found = q @ exact, fp.round_to(q @ found, entry)
            if length in (1, 4, 16, 64):
                error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
                ratios.append(error / float(re.stored_chain_error(length, entry.unit_roundoff)))
    # Entries are Gaussian rather than log-uniform, but over a binade or two: 6 % at most.
    assert np.mean(ratios) == pytest.approx(1, abs=0.06)


def test_the_rms_of_one_rounding_of_benfords_law() -> None:
    x = 2 ** np.random.default_rng(5).uniform(-3, 3, 200_000)
    error = (fp.round_to(x, FORMATS["float16"]) - x) / x / HALF
    found = math.sqrt(np.mean(error**2))
    # Five standard errors of a mean of e^2 whose relative deviation is below 1.2.
    assert found == pytest.approx(re.ROUNDING_RMS, rel=5 * 0.6 / math.sqrt(x.size))
    assert pytest.approx(0.4246, abs=1e-4) == re.ROUNDING_RMS


@pytest.mark.parametrize(
    ("addends", "constant"), [(re.UNIFORM, 0.245), (re.NORMAL, 0.376)], ids=["uniform", "normal"]
)
def test_the_error_of_a_sum(addends: re.Addends, constant: float) -> None:
    """Sequential float32 sums of n from 2^12 to 2^13: every place of the sum in its binade."""
    rng = np.random.default_rng(6)
    steps, draws = 2 ** np.linspace(12, 13, 12), 200
    ratios = []
    for n in steps.astype(int):
        x = rng.random((draws, n)) if addends.mean else rng.standard_normal((draws, n))
        x = x.astype(np.float32)
        found = np.cumsum(x, axis=1, dtype=np.float32)[:, -1].astype(np.float64)
        wide = x.astype(np.float64)
        error = (found - wide.sum(axis=1)) / np.abs(wide).sum(axis=1)
        ratios.append(np.mean(error**2) / float(re.sequential_sum_error(n, addends, SINGLE)) ** 2)
    # 12 means of 200 squares of relative deviation sqrt(2): 4 % at five standard errors is 14 %,
    # and addends of 24 bits are exact in the first binades: 3 %.
    assert np.mean(ratios) == pytest.approx(1, abs=0.17)
    scale = math.sqrt(4096) if addends.mean else 1.0
    leading = float(re.sequential_sum_error(4096, addends, SINGLE)) / (scale * SINGLE)
    assert leading == pytest.approx(constant, abs=6e-4)


def test_normal_numbers_are_nearly_benfords_and_fixed_ones_are_not() -> None:
    s = np.exp2(np.linspace(0, 1, 64))
    free = re.rounding_error(0.0, s) / s
    assert free == pytest.approx(re.ROUNDING_RMS, rel=0.01)
    fixed = re.rounding_error(s, 1e-6) / s
    # Between all of an octave's largest mantissa and all of its smallest.
    assert fixed[1:-1].min() == pytest.approx(1 / (2 * math.sqrt(3)), rel=0.02)
    assert fixed[1:-1].max() == pytest.approx(1 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("addends", [re.UNIFORM, re.NORMAL], ids=["uniform", "normal"])
def test_the_law_by_octave_is_about_benfords(addends: re.Addends) -> None:
    """Averaged over an octave of lengths the squares agree to 2 %."""
    ratios = []
    for n in (2 ** np.linspace(9, 10, 25)).astype(int)[:-1]:
        size = math.sqrt((n * addends.mean) ** 2 + n * addends.variance)
        plain = float(re.sequential_sum_error(n, addends, HALF)) * n * addends.absolute / size
        ratios.append((re.sum_error(int(n), addends, HALF) / plain) ** 2)
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("name", "count"),
    [("float16", 2048), ("bfloat16", 256), ("float32", 2**24), ("float8_e4m3fn", 16),
     ("float8_e5m2", 8)],
)  # fmt: skip
def test_the_sum_of_ones_stagnates(name: str, count: int) -> None:
    entry = FORMATS[name]
    assert re.stagnation(entry) == count
    reached = float(count)
    assert float(fp.round_to(reached + 1, entry)) == reached
    assert float(fp.round_to(reached - 1, entry)) == reached - 1
    if name in ("float16", "bfloat16"):
        total = torch.zeros((), dtype=getattr(torch, name))
        for _ in range(count + 500):
            total = total + 1
        assert total.item() == count


@LAW
@given(addend=st.floats(1e-3, 1e3), name=st.sampled_from(["float16", "bfloat16", *fp.FLOAT8]))
def test_equal_addends_stagnate_there(addend: float, name: str) -> None:
    entry = FORMATS[name]
    stored = float(fp.round_to(addend, entry))
    limit = re.stagnation(entry, stored) if stored else 0.0
    if not 0 < limit < entry.max:
        return
    total, before = 0.0, -1.0
    while total != before:
        total, before = float(fp.round_to(total + stored, entry)), total
    assert total == limit


@pytest.mark.parametrize(
    ("name", "count", "expected"), [("float16", 20_000, 2048), ("bfloat16", 3000, 256)]
)
def test_uniform_addends_stagnate_too(name: str, count: int, expected: float) -> None:
    x = torch.from_numpy(np.random.default_rng(7).random(count)).to(getattr(torch, name))
    total = torch.zeros((), dtype=x.dtype)
    for value in x:
        total = total + value
    assert total.item() == expected == re.stagnation(FORMATS[name])


def test_updates_that_are_lost() -> None:
    brain, half = FORMATS["bfloat16"], FORMATS["float16"]
    for update in (1e-3, 0.00195):
        assert update < re.lost_update(1.0, brain)[0]
        assert torch.tensor(1.0, dtype=torch.bfloat16).sub(update).item() == 1
    assert 2.4e-4 < re.lost_update(1.0, half)[0] < 2.5e-4
    assert torch.tensor(1.0, dtype=torch.float16).sub(2.5e-4).item() == pytest.approx(
        0.99951, abs=1e-5
    )


@LAW
@given(bits=st.integers(1, 0x7BFE), share=st.floats(0.0, 3.0))
def test_updates_of_any_half(bits: int, share: float) -> None:
    half = FORMATS["float16"]
    weight = float(fp.decode(bits, half))
    down, up = re.lost_update(weight, half)
    for step, sign in ((down, -1), (up, 1)):
        moved = float(fp.round_to(weight + sign * share * step, half))
        if share != 1:
            assert (moved == weight) == (share < 1)
        elif step == down == up:
            assert (moved == weight) == (bits % 2 == 0)


@pytest.mark.parametrize(
    ("order", "truncation"), [(1, 0.5 * math.sin(1.0)), (2, math.cos(1.0) / 6)]
)
def test_the_best_step_of_a_difference(order: int, truncation: float) -> None:
    """sin at 1: the slope of the error is ``order`` on one side of the best step, -1 beyond."""
    u = FORMATS["float64"].unit_roundoff
    rounding = (1 if order == 2 else 2) * u * math.sin(1.0)
    best = re.best_difference(order, truncation, rounding)
    shifts = 1 + np.random.default_rng(8).uniform(-1e-3, 1e-3, 300)

    def rms(h: float) -> float:
        errors = []
        for x in shifts:
            quotient = (
                (math.sin(x + h) - math.sin(x - h)) / (2 * h) if order == 2
                else (math.sin(x + h) - math.sin(x)) / h
            )  # fmt: skip
            errors.append(quotient - math.cos(x))
        return math.sqrt(np.mean(np.square(errors)))

    wide = [rms(best.step * 1000), rms(best.step * 100)]
    assert math.log10(wide[0] / wide[1]) == pytest.approx(order, abs=0.02)
    assert wide[0] == pytest.approx(truncation * (best.step * 1000) ** order, rel=0.02)
    # Rounding is between 0 and the bound that went in: u |f|, and x + h is rounded as well.
    assert 0.02 * best.error < rms(best.step) < 3 * best.error
    narrow = [rms(best.step / 1000), rms(best.step / 100)]
    assert math.log10(narrow[0] / narrow[1]) == pytest.approx(1, abs=0.3)


@LAW
@given(order=st.integers(1, 6), truncation=st.floats(1e-3, 1e3), rounding=st.floats(1e-18, 1e-3))
def test_the_best_step_is_the_minimum(order: int, truncation: float, rounding: float) -> None:
    best = re.best_difference(order, truncation, rounding)
    around = best.step * np.array([0.98, 1.0, 1.02])
    low, least, high = re.difference_error(around, order, truncation, rounding)
    assert min(low, high) > least == pytest.approx(best.error, rel=1e-12)


def test_bad_arguments_are_named() -> None:
    half = FORMATS["float16"]
    cases: list[tuple[str, Callable[[], object]]] = [
        ("length=", lambda: re.chain_factor(3, 0, SINGLE)),
        ("n=", lambda: re.chain_factor(-1, 3, SINGLE)),
        ("u=", lambda: re.chain_factor(3, 3, 0.0)),
        ("confidence=", lambda: re.chain_factor(3, 3, SINGLE, -1.0)),
        ("n=", lambda: re.chain_failure(0, 3, SINGLE, 8.0)),
        ("length=", lambda: re.chain_failure(3, 0, SINGLE, 8.0)),
        ("confidence=", lambda: re.chain_failure(3, 3, SINGLE, math.nan)),
        ("matrices=", lambda: re.chain_bound([], SINGLE)),
        ("matrices of shapes", lambda: re.chain_bound([np.ones((2, 3)), np.ones((2, 3))], SINGLE)),
        ("length=", lambda: re.stored_chain_error(-1, SINGLE)),
        ("u=", lambda: re.stored_chain_error(3, 1.0)),
        ("n=", lambda: re.sequential_sum_error(0, re.NORMAL, SINGLE)),
        ("u=", lambda: re.sequential_sum_error(3, re.NORMAL, math.nan)),
        ("mean=", lambda: re.rounding_error(math.inf, 1.0)),
        ("std=", lambda: re.rounding_error(0.0, 0.0)),
        ("n=", lambda: re.sum_error(1, re.NORMAL, SINGLE)),
        ("u=", lambda: re.sum_error(9, re.NORMAL, math.nan)),
        ("n=", lambda: re.dot_error(math.nan, SINGLE, wide=True)),  # type: ignore[arg-type]
        ("u=", lambda: re.dot_error(9, 0.0, wide=False)),
        ("largest=", lambda: re.stagnation(half, 0.0)),
        ("weight=", lambda: re.lost_update(0.0, half)),
        ("weight=", lambda: re.lost_update(0.1, half)),
        ("weight=", lambda: re.lost_update(math.nan, half)),
        ("h=", lambda: re.difference_error(0.0, 2, 1.0, 1.0)),
        ("order=", lambda: re.best_difference(0, 1.0, 1.0)),
        ("truncation=", lambda: re.best_difference(1, 0.0, 1.0)),
        ("rounding=", lambda: re.best_difference(1, 1.0, math.inf)),
    ]
    for name, call in cases:
        with pytest.raises(ValueError, match=f"^{name}"):
            call()
    assert re.stagnation(half, 65504.0) == math.inf


def relative(pairs: list[tuple[float, Any]]) -> float:
    """The largest relative error of pairs (found, exact)."""
    return max(abs(float((mp.mpf(found) - exact) / exact)) for found, exact in pairs)


def factor_error() -> float:
    with mp.workdps(40):
        u, pairs = mp.mpf(SINGLE), []
        for n, length in ((1, 2), (100, 2), (128, 32), (1000, 10)):
            roundings = n * (length - 1) * u
            pairs.append((float(re.chain_factor(n, length, SINGLE)), roundings / (1 - roundings)))
            one = mp.expm1(8 * mp.sqrt(n) * u + n * u**2 / (1 - u))
            likely = (1 + one) ** (length - 1) - 1
            pairs.append((float(re.chain_factor(n, length, SINGLE, 8.0)), likely))
        return relative(pairs)


def failure_error() -> float:
    with mp.workdps(40):
        u = mp.mpf(SINGLE)
        return relative([
            (re.chain_failure(n, length, SINGLE, c),
             2 * (length - 1) * n**3 * mp.exp(-((c * (1 - u)) ** 2) / 2))
            for n, length, c in ((10, 2, 6.0), (128, 32, 8.2), (1000, 5, 12.0))
        ])  # fmt: skip


def bound_error() -> float:
    matrices = draws("gaussian", 7, 4, np.float32)
    with mp.workdps(40):
        product = mp.matrix(np.abs(matrices[0]).tolist())
        for a in matrices[1:]:
            product = product * mp.matrix(np.abs(a).tolist())
        u = mp.mpf(SINGLE)
        factor = 21 * u / (1 - 21 * u)
        found = re.chain_bound(matrices, SINGLE)
        return relative([(found[i, j], factor * product[i, j]) for i in range(7) for j in range(7)])


def sums_error() -> float:
    """kappa^2 sum_k E s_k^2, one partial sum after the other."""
    with mp.workdps(30):
        kappa2 = mp.quad(lambda m: 1 / (3 * m**3), [1, 2]) / mp.log(2)
        pairs = []
        for addends in (re.UNIFORM, re.NORMAL):
            mean, variance, absolute = (mp.mpf(value) for value in addends)
            total = sum((k * mean) ** 2 + k * variance for k in range(2, 301))
            exact = mp.sqrt(kappa2 * total) * SINGLE / (300 * absolute)
            pairs.append((float(re.sequential_sum_error(300, addends, SINGLE)), exact))
        return relative(pairs)


def stored_error() -> float:
    with mp.workdps(30):
        kappa = mp.sqrt(mp.quad(lambda m: 1 / (3 * m**3), [1, 2]) / mp.log(2))
        return relative([
            (float(re.stored_chain_error(length, HALF)), kappa * mp.sqrt(length) * HALF)
            for length in (1, 64, 1000)
        ])  # fmt: skip


def octaves(mean: Any, std: Any) -> Any:
    """E 4^floor(log2 |s|) / 3 of s ~ N(mean, std^2), octave by octave."""
    total = mp.mpf(0)
    for e in range(-40, 20):
        low, high = mp.mpf(2) ** e, mp.mpf(2) ** (e + 1)
        for side in (mean, -mean):
            share = mp.ncdf((high - side) / std) - mp.ncdf((low - side) / std)
            total += low**2 * share / 3
    return total


def octave_error() -> float:
    with mp.workdps(40):
        return relative([
            (float(re.rounding_error(mean, std)), mp.sqrt(octaves(mp.mpf(mean), mp.mpf(std))))
            for mean, std in ((0.0, 1.0), (0.0, 7.3), (3.9, 0.2), (-100.0, 30.0), (1e3, 1e-3))
        ])  # fmt: skip


def partial_sums(n: int, addends: re.Addends) -> Any:
    """Mean square error of n addends in units of u^2."""
    mean, variance = mp.mpf(addends.mean), mp.mpf(addends.variance)
    return mp.fsum(octaves(k * mean, mp.sqrt(k * variance)) for k in range(2, n + 1))


def by_octave_error() -> float:
    with mp.workdps(30):
        uniform = partial_sums(9, re.UNIFORM) / (mp.mpf(81) / 4 + mp.mpf(9) / 12)
        normal = partial_sums(9, re.NORMAL) / 9
        return relative([
            (re.sum_error(9, re.UNIFORM, SINGLE), mp.sqrt(uniform) * SINGLE),
            (re.sum_error(9, re.NORMAL, SINGLE), mp.sqrt(normal) * SINGLE),
        ])  # fmt: skip


def dot_product_error() -> float:
    with mp.workdps(30):
        narrow = partial_sums(9, re.NORMAL) / 9 + 1 / (8 * mp.log(2))
        wide = octaves(mp.mpf(0), mp.mpf(3)) / 9
        return relative([
            (re.dot_error(9, HALF, wide=False), mp.sqrt(narrow) * HALF),
            (re.dot_error(9, HALF, wide=True), mp.sqrt(wide) * HALF),
        ])  # fmt: skip


def stagnation_error() -> float:
    """Adding ones in the format until nothing changes."""
    pairs = []
    for entry in FORMATS.values():
        if entry.precision <= 11:
            total, before = 0.0, -1.0
            while total != before:
                total, before = float(fp.round_to(total + 1, entry)), total
            pairs.append((re.stagnation(entry), total))
    return relative(pairs)


def update_error() -> float:
    """Half the distances between neighbours among all of a format's numbers."""
    pairs: list[tuple[float, Any]] = []
    for entry in FORMATS.values():
        if entry.bits == 8:
            grid = np.unique(np.abs(fp.decode(np.arange(256), entry)))
            grid = grid[np.isfinite(grid)]
            for i in range(1, grid.size - 1):
                down, up = re.lost_update(float(grid[i]), entry)
                pairs += [(down, (grid[i] - grid[i - 1]) / 2), (up, (grid[i + 1] - grid[i]) / 2)]
    return relative(pairs)


def difference_pairs(best: bool) -> float:
    with mp.workdps(40):
        pairs: list[tuple[float, Any]] = []
        a, b, h = mp.mpf(37) / 8, mp.mpf(2.0**-53), mp.mpf(1e-3)

        def slope(step: Any, order: int) -> Any:
            return order * a * step ** (order + 1) - b

        for order in (1, 2, 4):
            step = mp.findroot(partial(slope, order=order), b ** (mp.mpf(1) / (order + 1)))
            if best:
                found = re.best_difference(order, 37 / 8, 2.0**-53)
                pairs += [(found.step, step), (found.error, a * step**order + b / step)]
            else:
                error = re.difference_error(1e-3, order, 37 / 8, 2.0**-53)
                pairs.append((float(error), a * h**order + b / h))
        return relative(pairs)


HIGHAM, MARY = "Higham 2002, sec. 3.5", "Higham & Mary 2019, sec. 3"
ACCURACY = [
    Case("rounding_errors.chain_factor", "growth of a chain's error", f"{HIGHAM}; {MARY}",
         "n to 1000, 32 matrices, fp32", "mpmath", 1e-14, factor_error),
    Case("rounding_errors.chain_failure", "probability of the bound's failure", MARY,
         "n to 1000, 32 matrices, fp32", "mpmath", 1e-13, failure_error),
    Case("rounding_errors.chain_bound", "entrywise bound of a chain", HIGHAM,
         "4 matrices of 7 x 7, fp32", "mpmath", 1e-14, bound_error),
    Case("rounding_errors.stored_chain_error", "rms error of stored layers", "derived",
         "1 to 1000 layers, log-uniform mantissas", "mpmath", 1e-15, stored_error),
    Case("rounding_errors.sequential_sum_error", "rms error of a sum", "derived",
         "300 addends, log-uniform mantissas", "mpmath, sum by sum", 1e-14, sums_error),
    Case("rounding_errors.rounding_error", "rms error of rounding a normal number", "derived",
         "mean to 1000, deviation 1e-3 to 30", "mpmath, octave by octave", 1e-13, octave_error),
    Case("rounding_errors.sum_error", "rms error of a sum over its rms; neglects O(1 / n)",
         "derived", "9 addends, uniform and normal", "mpmath, octave by octave", 1e-13,
         by_octave_error),
    Case("rounding_errors.dot_error", "rms error of an inner product over its rms; neglects "
         "O(1 / n)", "derived", "9 terms, wide and narrow accumulators",
         "mpmath, octave by octave", 1e-13, dot_product_error),
    Case("rounding_errors.stagnation", "sum at which ones are lost", "derived",
         "fp16, bf16, fp8", "adding in the format", 0.0, stagnation_error),
    Case("rounding_errors.lost_update", "update that is lost", "derived", "all numbers of fp8",
         "neighbours of all numbers", 0.0, update_error),
    Case("rounding_errors.difference_error", "error of a difference quotient", "Taylor's theorem",
         "orders 1, 2, 4", "mpmath", 1e-15, lambda: difference_pairs(best=False)),
    Case("rounding_errors.best_difference", "its best step and error", "derived",
         "orders 1, 2, 4", "mpmath, root of the derivative", 1e-14,
         lambda: difference_pairs(best=True)),
]  # fmt: skip
