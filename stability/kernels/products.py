"""Running products P_l = W_l P_(l-1) of batches of square matrices.

Shapes: B samples, n rows and columns.  Logarithms come in float64, which carries what the
matrices' own dtype cannot.
"""

import math

import torch
from torch import Tensor

SQUARINGS = 20
"""The logarithm of a spectral norm errs by at most ln(n) / 2^(SQUARINGS + 1)."""


def wide(x: Tensor) -> Tensor:
    """``x`` in float64, or complex128 if it is complex."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def round_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` rounded to the nearest of ``dtype``, real and imaginary parts apart; its own dtype.

    Overflow gives inf, subnormal numbers stay.
    """
    if x.is_complex():
        return torch.view_as_complex(torch.view_as_real(x).to(dtype).to(x.real.dtype))
    return x.to(dtype).to(x.dtype)


def identity(samples: int, n: int, like: Tensor) -> Tensor:
    """(samples, n, n) unit matrices with the dtype and device of ``like``."""
    return torch.eye(n, dtype=like.dtype, device=like.device).repeat(samples, 1, 1)


class ScaledProduct:
    """A product in the factors' own dtype, kept in range by exact powers of two.

    P = matrix * 2^exponent; ``exponent`` (B,) float64.  The rescaling comes every 4 factors, which
    a float32 matrix of order 1000 outgrows by e^16 at most.
    """

    EVERY = 4

    def __init__(self, samples: int, n: int, like: Tensor) -> None:
        self.matrix = identity(samples, n, like)
        self.exponent = torch.zeros(samples, dtype=torch.float64, device=like.device)
        self._since = 0

    def update(self, factor: Tensor) -> None:
        """Multiply by ``factor`` (B, n, n) from the left."""
        self.matrix = torch.bmm(factor, self.matrix)
        self._since += 1
        if self._since == self.EVERY:
            self._since = 0
            largest = self.matrix.abs().amax((1, 2)).to(torch.float64)
            usable = torch.isfinite(largest) & (largest > 0)
            shift = torch.frexp(torch.where(usable, largest, 1.0)).exponent.to(torch.float64) - 1
            self.exponent = self.exponent + shift
            self.matrix = (
                self.matrix * torch.exp2(-shift).to(largest_dtype(self.matrix))[:, None, None]
            )

    def log2_norm(self) -> Tensor:
        """log2 of the Frobenius norm, (B,); -inf where the product is 0."""
        norm = torch.linalg.vector_norm(wide(self.matrix), dim=(1, 2))
        return self.exponent + torch.log2(norm)

    def log2_column(self) -> Tensor:
        """log2 of the length of the first column P e_1, (B,)."""
        norm = torch.linalg.vector_norm(wide(self.matrix[:, :, 0]), dim=1)
        return self.exponent + torch.log2(norm)

    def log2_largest(self) -> Tensor:
        """log2 of the largest magnitude of an entry, (B,)."""
        return self.exponent + torch.log2(self.matrix.abs().amax((1, 2)).to(torch.float64))


def largest_dtype(x: Tensor) -> torch.dtype:
    """The real dtype of the parts of ``x``."""
    return x.real.dtype if x.is_complex() else x.dtype


class PlainProduct:
    """The product as ``dtype`` has it, without rescaling: every factor and product is rounded.

    float16 and bfloat16 products are float32 ones, rounded once, as an accumulator of float32 gives
    them, subnormal numbers included.
    """

    def __init__(
        self, samples: int, n: int, like: Tensor, sigma: float, dtype: torch.dtype
    ) -> None:
        self._sigma, self._dtype = sigma, dtype
        self._narrow = dtype in (torch.float16, torch.bfloat16)
        self._done = False
        self._tiny = torch.finfo(dtype).smallest_normal
        self._fell = torch.zeros(samples, dtype=torch.bool, device=like.device)
        self.matrix = identity(samples, n, wide(like) if dtype == torch.float64 else like)
        self.largest = torch.ones(samples, dtype=torch.float64, device=like.device)

    def update(self, factor: Tensor) -> None:
        """Multiply by ``sigma factor`` (B, n, n) from the left."""
        if self._done:
            return
        scaled = (wide(factor) if self._dtype == torch.float64 else factor) * self._sigma
        if self._narrow:
            scaled = round_to(scaled, self._dtype)
        self.matrix = torch.bmm(scaled, self.matrix)
        if self._narrow:
            self.matrix = round_to(self.matrix, self._dtype)
        parts = torch.view_as_real(self.matrix) if self.matrix.is_complex() else self.matrix
        self.largest = parts.abs().flatten(1).amax(1).to(torch.float64)
        finite = torch.isfinite(self.largest)
        self._fell |= self.largest < self._tiny
        # Neither inf nor 0 ever comes back.
        self._done = not bool((finite & (self.largest > 0)).any())

    def overflowed(self) -> Tensor:
        """(B,) whether an entry is inf or nan."""
        return ~torch.isfinite(self.largest)

    def underflowed(self) -> Tensor:
        """(B,) whether all entries were below the smallest normal number after some factor."""
        return self._fell.clone()


class QRProduct:
    """P = Q diag(e^logs) T with Q unitary and T unit upper triangular, in float64.

    QR iteration (Benettin et al. 1980, Meccanica 15, 9): ``logs`` (B, n) are the sums of ln|R_kk|.
    Factors are gathered ``every`` at a time before the orthonormalisation; more than 4 lose the
    smallest exponents.  A diagonal entry below ``zero`` times the largest counts as 0 (a singular
    factor): its log is -inf from then on.
    """

    def __init__(
        self, samples: int, n: int, like: Tensor, every: int = 4, zero: float = 0.0
    ) -> None:
        if not 1 <= every <= 4:
            raise ValueError(f"every={every!r}: must be 1 to 4")
        self._every, self._zero = every, zero
        self._pending = identity(samples, n, wide(like))
        self._triangle = identity(samples, n, wide(like))
        self._logs = torch.zeros((samples, n), dtype=torch.float64, device=like.device)
        self._since = 0

    def update(self, factor: Tensor) -> None:
        """Multiply by ``factor`` (B, n, n) from the left."""
        self._pending = torch.bmm(wide(factor), self._pending)
        self._since += 1
        if self._since == self._every:
            self._absorb()

    def _absorb(self) -> None:
        self._since = 0
        self._pending, r = torch.linalg.qr(self._pending)
        diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
        size = diagonal.abs()
        dead = size <= self._zero * size.amax(1, keepdim=True)
        before = self._logs
        self._logs = before + torch.where(dead, -torch.inf, torch.log(size))
        alive = torch.isfinite(self._logs)
        after = torch.where(alive, self._logs, 0.0)
        ratio = torch.exp(before[:, None, :] - after[:, :, None])
        upper = torch.ones_like(ratio).triu()
        graded = torch.where(upper > 0, r * torch.where(upper > 0, ratio, 0.0), 0.0)
        unit = identity(len(r), r.shape[-1], graded)
        graded = torch.where(alive[:, :, None], graded, unit)
        phase = torch.diagonal(graded, dim1=-2, dim2=-1)
        # The phases of the diagonal go into Q: T stays unit triangular.
        phase = phase / phase.abs()
        self._pending = self._pending * phase[:, None, :]
        self._triangle = torch.bmm(graded * phase.conj()[:, :, None], self._triangle)

    def logs(self) -> Tensor:
        """ln |R_11| ... ln |R_nn| of the whole product, (B, n); -inf for lost dimensions."""
        if self._since:
            self._absorb()
        return self._logs

    def log_extremes(self) -> tuple[Tensor, Tensor]:
        """ln sigma_max and ln sigma_min of the product, (B,) each, whatever its condition.

        The largest singular value of a matrix is found to full relative accuracy; the smallest
        is the inverse of that of diag(e^logs) T's inverse.
        """
        logs = self.logs()
        alive = torch.isfinite(logs)
        highest = logs.amax(1, keepdim=True)
        largest = torch.exp(logs - highest).nan_to_num(0.0)[:, :, None] * self._triangle
        top = highest[:, 0] + log_spectral_norm(largest)
        lowest = torch.where(alive, logs, torch.inf).amin(1, keepdim=True)
        unit = identity(len(logs), logs.shape[1], self._triangle)
        inverse = torch.linalg.solve_triangular(
            self._triangle, unit, upper=True, unitriangular=True
        )
        weights = torch.where(alive, torch.exp(lowest - logs), 0.0)
        bottom = lowest[:, 0] - log_spectral_norm(inverse * weights[:, None, :])
        return top, torch.where(alive.all(1), bottom, -torch.inf)


def log_spectral_norm(x: Tensor) -> Tensor:
    """ln of the largest singular value of (B, n, n) float64 matrices; -inf for 0.

    ||G^m||_F^(1/m) of G = x* x with m = 2^SQUARINGS, by repeated squaring and rescaling: between
    sigma^2 and sigma^2 n^(1/(2 m)).
    """
    size = torch.linalg.vector_norm(x, dim=(1, 2))
    x = x / torch.where(size > 0, size, 1.0)[:, None, None]
    gram, log = torch.bmm(x.mH, x), torch.zeros_like(size)
    for step in range(SQUARINGS + 1):
        norm = torch.linalg.vector_norm(gram, dim=(1, 2))
        norm = torch.where(norm > 0, norm, 1.0)
        log = log + torch.log(norm) * 0.5**step
        if step < SQUARINGS:
            gram = gram / norm[:, None, None]
            gram = torch.bmm(gram, gram)
    return log / 2 + torch.log(size)


def log_smallest_by_svd(matrix: Tensor, exponent: Tensor) -> Tensor:
    """ln of the smallest singular value by an SVD of matrix * 2^exponent; the naive route."""
    smallest = torch.linalg.svdvals(matrix)[:, -1].to(torch.float64)
    return torch.log(smallest) + exponent * math.log(2)
