import math
from functools import reduce

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from stability.kernels.products import (
    PlainProduct,
    QRProduct,
    ScaledProduct,
    log_smallest_by_svd,
    log_spectral_norm,
    round_to,
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


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize(("n", "length"), [(2, 7), (5, 60)])
def test_the_scaled_product_has_the_norms_of_the_exact_one(
    n: int, length: int, scale: float
) -> None:
    """Float32 products: L n u sqrt(n) relative to norms at worst, times the cancellation."""
    matrices = [scale * one for one in factors(n, length)]
    product = ScaledProduct(SAMPLES, n, matrices[0])
    for one in matrices:
        product.update(one)
    tolerance = 10 * length * n**1.5 * 2.0**-24
    for sample in range(SAMPLES):
        truth = exact(matrices, sample)
        entries = [abs(x) for x in truth]
        for measured, size in (
            (product.log2_norm(), mpmath.mnorm(truth, "f")),
            (product.log2_column(), mpmath.norm(truth[:, 0])),
            (product.log2_largest(), max(entries)),
        ):
            log = float(mpmath.log(size, 2))
            assert measured[sample].item() == pytest.approx(log, abs=tolerance)


def test_a_zero_product_has_the_logarithm_minus_infinity() -> None:
    product = ScaledProduct(1, 3, torch.zeros((1, 3, 3)))
    for _ in range(5):
        product.update(torch.zeros((1, 3, 3)))
    assert product.log2_norm().item() == -math.inf
    assert product.log2_largest().item() == -math.inf


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
    assert not plain(dtype, 2.0, emax).overflowed().item()
    assert plain(dtype, 2.0, emax + 1).overflowed().item()
    assert not plain(dtype, 0.5, -emin).underflowed().item()
    assert plain(dtype, 0.5, -emin + 1).underflowed().item()


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 10), (torch.bfloat16, 7)])
def test_subnormal_numbers_are_kept(dtype: torch.dtype, bits: int) -> None:
    emin = int(math.log2(torch.finfo(dtype).smallest_normal))
    smallest = plain(dtype, 0.5, -emin + bits)
    assert smallest.largest.item() == 2.0 ** (emin - bits)
    assert plain(dtype, 0.5, -emin + bits + 1).largest.item() == 0


def test_the_naive_svd_is_right_while_the_condition_is_small() -> None:
    matrix = factors(4, 1, torch.float64)[0]
    exponent = torch.full((SAMPLES,), 7.0, dtype=torch.float64)
    truth = torch.linalg.svdvals(matrix)[:, -1].log() + 7 * math.log(2)
    torch.testing.assert_close(log_smallest_by_svd(matrix, exponent), truth)
