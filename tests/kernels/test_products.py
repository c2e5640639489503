import math
from collections.abc import Callable
from functools import reduce

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from stability.kernels.products import (
    Growth,
    PlainProduct,
    QRProduct,
    ScaledProduct,
    gram_schmidt,
    log_singular_values,
    log_smallest_by_svd,
    log_spectral_norm,
    multiply,
    positive_qr,
    round_to,
    stored,
)

SAMPLES = 3


def factors(n: int, length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n + length)
    return [torch.randn((SAMPLES, n, n), generator=generator, dtype=dtype) for _ in range(length)]


def exact(matrices: list[Tensor], sample: int) -> mpmath.matrix:
    chosen = [mpmath.matrix(one[sample].tolist()) for one in matrices]
    product: mpmath.matrix = reduce(lambda product, one: one * product, chosen)
    return product


@pytest.fixture(autouse=True)
def digits() -> object:
    with mpmath.workdps(220):
        yield


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
    ),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_halves_are_stored_in_float32(dtype: torch.dtype) -> None:
    x = torch.tensor([1.0, 1 / 3, -1e-6, 3e5], dtype=torch.float64)
    held = stored(x, dtype)
    assert held.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(held.double(), x.to(dtype).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("n", [2, 8, 9])
@pytest.mark.parametrize("seeds_last", [False, True])
def test_products_of_any_layout_are_products(n: int, dtype: torch.dtype, seeds_last: bool) -> None:
    """n + 3 roundings of sums of n products (Higham 2002, sec. 3.5)."""
    one, other = factors(n, 2, dtype)
    if seeds_last:
        one, other = (x.permute(1, 2, 0).contiguous().permute(2, 0, 1) for x in (one, other))
    wide = torch.complex128 if dtype.is_complex else torch.float64
    exact_one = one.to(wide) @ other.to(wide)
    allowed = (n + 3) * torch.finfo(dtype).eps * (one.abs() @ other.abs()).double()
    assert bool(((multiply(one, other) - exact_one).abs() <= allowed).all())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize(("n", "length"), [(2, 7), (5, 60), (9, 20)])
def test_the_scaled_product_has_the_norms_of_the_exact_one(
    n: int, length: int, scale: float, device: str
) -> None:
    """Float32 products: L n u sqrt(n) relative to norms at worst, times the cancellation."""
    matrices = [scale * one for one in factors(n, length)]
    product = ScaledProduct(SAMPLES, n, matrices[0].to(device))
    growth = Growth(product)
    for one in matrices:
        growth.update(one.to(device))
    norms, columns = growth.take().cpu()
    assert norms.shape == (length, SAMPLES)
    tolerance = 10 * length * n**1.5 * 2.0**-24
    for sample in range(SAMPLES):
        for at in (1, length // 2, length):
            truth = exact(matrices[:at], sample)
            for measured, size in (
                (norms[at - 1], mpmath.mnorm(truth, "f")),
                (columns[at - 1], mpmath.norm(truth[:, 0])),
            ):
                log = float(mpmath.log(size, 2))
                assert measured[sample].item() == pytest.approx(log, abs=tolerance)
        largest = float(mpmath.log(max(abs(x) for x in truth), 2))
        assert product.log2_largest()[sample].item() == pytest.approx(largest, abs=tolerance)
        assert product.log2_norm()[sample].item() == norms[-1, sample].item()


def test_taking_the_growth_in_parts_changes_nothing() -> None:
    matrices = factors(3, 20)
    whole, parts = (Growth(ScaledProduct(SAMPLES, 3, matrices[0])) for _ in range(2))
    taken = []
    for index, one in enumerate(matrices):
        whole.update(one)
        parts.update(one)
        if index in (6, 19):
            taken.append(parts.take())
    assert torch.equal(torch.cat(taken, dim=1), whole.take())


@pytest.mark.parametrize("n", [2, 16])
def test_rescaling_by_powers_of_two_is_exact(n: int) -> None:
    """The same float32 products without it, as far as float32 reaches, to the bit."""
    matrices = factors(n, 20)
    product, plain_one = ScaledProduct(SAMPLES, n, matrices[0]), torch.eye(n).repeat(SAMPLES, 1, 1)
    for one in matrices:
        product.update(one)
        plain_one = multiply(one, plain_one)
    assert torch.isfinite(plain_one).all()
    assert product.exponent.abs().max() > 4
    restored = product.matrix * torch.exp2(product.exponent)[:, None, None]
    assert torch.equal(restored.float(), plain_one)


def test_no_length_overflows() -> None:
    matrices = factors(64, 1)
    growth = Growth(ScaledProduct(SAMPLES, 64, matrices[0]))
    for _ in range(400):
        growth.update(matrices[0])
    norms = growth.take()[0]
    assert torch.isfinite(norms).all()
    assert norms[-1].min() > 1000
    # Powers of one matrix grow by its spectral radius, the last 100 by its 100th power.
    radius = torch.linalg.eigvals(matrices[0].double()).abs().amax(1).log2()
    torch.testing.assert_close((norms[-1] - norms[-101]) / 100, radius, rtol=0, atol=0.05)


def test_a_zero_product_has_the_logarithm_minus_infinity() -> None:
    product = ScaledProduct(1, 3, torch.zeros((1, 3, 3)))
    growth = Growth(product)
    for _ in range(9):
        growth.update(torch.zeros((1, 3, 3)))
    assert bool((growth.take() == -math.inf).all())
    assert product.log2_norm().item() == -math.inf
    assert product.log2_largest().item() == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize(
    ("n", "length", "every"),
    [(2, 100, 1), (3, 40, 1), (4, 100, 1), (4, 400, 1), (8, 50, 1), (16, 20, 1), (4, 100, 4)],
)
def test_all_singular_values_in_log_scale(
    n: int, length: int, every: int, dtype: torch.dtype
) -> None:
    """mpmath with 500 digits; the condition number reaches e^470.

    A factor of condition k moves its own smallest singular value by u k: what n u times the sum of
    the conditions leaves above 1e-12 is theirs.  Four factors at a time: the products' conditions.
    """
    matrices = factors(n, length, dtype)
    product = QRProduct(SAMPLES, n, matrices[0], every=every)
    for one in matrices:
        product.update(one)
    found = product.log_singular_values()
    assert bool((found.diff(dim=1) <= 0).all())
    wide = torch.stack(matrices).to(torch.complex128 if dtype.is_complex else torch.float64)
    grouped = reduce(lambda above, below: below @ above, wide.unflatten(0, (-1, every)).unbind(1))
    condition = torch.linalg.cond(grouped).sum(0)
    with mpmath.workdps(500):
        for sample in range(1 if n > 4 else SAMPLES):
            truth = exact(matrices, sample)
            squares = mpmath.eigh(truth.H * truth, eigvals_only=True)
            logs = sorted((float(mpmath.log(x) / 2) for x in squares), reverse=True)
            allowed = 1e-12 + n * 2.0**-53 * condition[sample].item()
            assert found[sample].tolist() == pytest.approx(logs, abs=allowed)


def test_plain_svd_is_off_by_dozens_where_the_graded_one_is_not() -> None:
    matrices = factors(4, 100, torch.float64)
    graded = QRProduct(SAMPLES, 4, matrices[0], every=1)
    for one in matrices:
        graded.update(one)
    product = reduce(lambda above, below: below @ above, matrices)
    plain_log = torch.linalg.svdvals(product)[:, -1].log()
    assert bool((plain_log - graded.log_singular_values()[:, -1] > 50).all())


def test_singular_values_that_nearly_coincide_and_that_are_zero() -> None:
    unit = torch.linalg.qr(torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1)))[0]
    values = torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0, 0.5]).double()
    product = QRProduct(1, 6, unit, every=1)
    for one in (unit, torch.diag(values.float())[None], unit.mT):
        product.update(one)
    torch.testing.assert_close(
        product.log_singular_values()[0], values.log(), rtol=0, atol=32 * 2.0**-24
    )
    logs = torch.tensor([[1.0, -torch.inf, 800.0]], dtype=torch.float64)
    found = log_singular_values(logs, torch.eye(3, dtype=torch.float64)[None])
    assert found.tolist() == [[800.0, 1.0, -math.inf]]


def test_singular_values_ask_for_the_triangle() -> None:
    product = QRProduct(1, 2, torch.eye(2)[None], triangle=False)
    product.update(torch.eye(2)[None])
    assert product.logs().tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="triangle=False"):
        product.log_singular_values()
    with pytest.raises(ValueError, match="triangle=False"):
        product.log_extremes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("route", [gram_schmidt, positive_qr])
def test_a_qr_has_orthonormal_columns_and_a_positive_diagonal(
    route: Callable[[Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype
) -> None:
    matrix = factors(6, 1, dtype)[0] * torch.logspace(0, -9, 6, dtype=torch.float64)
    q, r = route(matrix)
    unit = torch.eye(6, dtype=dtype).expand(SAMPLES, 6, 6)
    torch.testing.assert_close(q.mH @ q, unit, rtol=0, atol=1e-14)
    torch.testing.assert_close(q @ r, matrix, rtol=0, atol=1e-14)
    assert bool((r.diagonal(dim1=1, dim2=2).real > 0).all())
    assert bool((r.tril(-1) == 0).all())
    if dtype.is_complex:
        assert bool((r.diagonal(dim1=1, dim2=2).imag.abs() <= 1e-15).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("n", "length"), [(2, 100), (4, 100), (5, 3)])
def test_extreme_singular_values_whatever_the_condition(
    n: int, length: int, dtype: torch.dtype
) -> None:
    """mpmath with 220 digits; condition numbers of up to e^120, where an SVD is 70 off."""
    matrices = factors(n, length, dtype)
    product = QRProduct(SAMPLES, n, matrices[0])
    for one in matrices:
        product.update(one)
    top, bottom = product.log_extremes()
    for sample in range(SAMPLES):
        values = mpmath.svd(exact(matrices, sample), compute_uv=False)
        # The squarings err by ln(n) / 2^21; the QR iteration by 1e-9.
        error = math.log(n) / 2**20 + 1e-8
        assert top[sample].item() == pytest.approx(float(mpmath.log(max(values))), abs=error)
        assert bottom[sample].item() == pytest.approx(float(mpmath.log(min(values))), abs=error)
        determinant = float(mpmath.log(abs(mpmath.det(exact(matrices, sample)))))
        assert product.logs()[sample].sum().item() == pytest.approx(determinant, abs=1e-8)


def test_every_fourth_factor_gives_the_diagonals_of_every_one() -> None:
    matrices = factors(6, 50, torch.float64)
    one, four = (QRProduct(SAMPLES, 6, matrices[0], every=every) for every in (1, 4))
    for matrix in matrices:
        one.update(matrix)
        four.update(matrix)
    torch.testing.assert_close(one.logs(), four.logs(), rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="every=5"):
        QRProduct(1, 2, matrices[0], every=5)


def test_a_singular_factor_loses_a_dimension_for_good() -> None:
    singular = torch.tensor([[[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]]])
    product = QRProduct(1, 3, singular, every=1, zero=1e-8)
    plain = torch.diag(torch.tensor([3.0, 2.0, 1.0]))[None]
    for one in (plain, singular, plain):
        product.update(one)
    logs = product.logs()
    assert torch.isfinite(logs).sum() == 2
    top, bottom = product.log_extremes()
    assert bottom.item() == -math.inf
    truth = np.linalg.svd((plain @ singular @ plain)[0].double().numpy(), compute_uv=False)
    assert top.item() == pytest.approx(math.log(truth[0]), abs=1e-6)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_the_spectral_norm_of_equal_and_of_graded_singular_values(size: float) -> None:
    identity = torch.eye(8, dtype=torch.float64)[None] * size
    # The bound: ln(n) / 2^21, here attained.
    bound = math.log(8) / 2**21
    assert log_spectral_norm(identity).item() == pytest.approx(math.log(size), abs=1.01 * bound)
    graded = factors(8, 1, torch.float64)[0] * size
    truth = torch.linalg.svdvals(graded / size)[:, 0].log() + math.log(size)
    torch.testing.assert_close(log_spectral_norm(graded), truth, rtol=1e-12, atol=bound)
    assert log_spectral_norm(torch.zeros((1, 2, 2), dtype=torch.float64)).item() == -math.inf


@pytest.mark.parametrize(
    ("dtype", "numpy_type"), [(torch.float16, np.float16), (torch.float32, np.float32)]
)
def test_rounding_is_to_nearest_even(dtype: torch.dtype, numpy_type: type) -> None:
    x = torch.tensor([1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-24, 2.0**-25, 65504.0, 1e5, -1e-8])
    with np.errstate(over="ignore"):
        expected = x.numpy().astype(numpy_type).astype(np.float32)
    assert np.array_equal(round_to(x, dtype).numpy(), expected)
    both = round_to(torch.complex(x, -x), dtype)
    assert np.array_equal(both.real.numpy(), expected)
    assert np.array_equal(both.imag.numpy(), -expected)


def plain(dtype: torch.dtype, sigma: float, length: int) -> PlainProduct:
    like = torch.eye(2)[None]
    product = PlainProduct(1, 2, like, sigma, dtype)
    for _ in range(length):
        product.update(like)
    return product


@pytest.mark.parametrize(
    ("dtype", "emax", "emin"),
    [
        (torch.float64, 1023, -1022),
        (torch.float32, 127, -126),
        (torch.float16, 15, -14),
        (torch.bfloat16, 127, -126),
    ],
)
def test_powers_of_two_leave_the_range_where_the_format_ends(
    dtype: torch.dtype, emax: int, emin: int
) -> None:
    over, under = plain(dtype, 2.0, emax + 3).take()[:, :, 0].tolist()
    assert over == [False] * emax + [True] * 3
    assert not any(under)
    over, under = plain(dtype, 0.5, -emin + 3).take()[:, :, 0].tolist()
    assert under == [False] * -emin + [True] * 3
    assert not any(over)


def test_what_has_left_the_range_stays_out_of_it() -> None:
    """Over several calls, whether or not all samples are done."""
    both = torch.tensor([2.0, 0.5]).reshape(2, 1, 1) * torch.eye(2)
    product = PlainProduct(2, 2, both, 1.0, torch.float16)
    seen = []
    for _ in range(20):
        product.update(both)
        product.update(both)
        seen.append(product.take())
    over, under = torch.cat(seen, dim=1)
    assert over[:, 0].tolist() == [False] * 15 + [True] * 25
    assert under[:, 1].tolist() == [False] * 14 + [True] * 26
    assert not over[:, 1].any()
    assert not under[:, 0].any()


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 10), (torch.bfloat16, 7)])
def test_subnormal_numbers_are_kept(dtype: torch.dtype, bits: int) -> None:
    emin = int(math.log2(torch.finfo(dtype).smallest_normal))
    smallest = plain(dtype, 0.5, -emin + bits)
    assert smallest.largest().item() == 2.0 ** (emin - bits)
    assert plain(dtype, 0.5, -emin + bits + 1).largest().item() == 0


def test_the_naive_svd_is_right_while_the_condition_is_small() -> None:
    matrix = factors(4, 1, torch.float64)[0]
    exponent = torch.full((SAMPLES,), 7.0, dtype=torch.float64)
    truth = torch.linalg.svdvals(matrix)[:, -1].log() + 7 * math.log(2)
    torch.testing.assert_close(log_smallest_by_svd(matrix, exponent), truth)
