"""Running products P_l = W_l P_(l-1) of batches of square matrices.

Shapes: B samples, n rows and columns.  Logarithms come in float64, which carries what the
matrices' own dtype cannot.
"""

import math

import torch
from torch import Tensor

from stability.kernels.gemm import matmul
from stability.kernels.robust import log2_norm

SEEDS_LAST = 8
"""The largest order whose products run fastest with the samples next to each other in memory."""
SQUARINGS = 20
"""The logarithm of a spectral norm errs by at most ln(n) / 2^(SQUARINGS + 1)."""
RANK_ONE = 1e-14
"""What the square of a matrix of norm 1 and rank one may lack of that norm, by rounding."""


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


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Real ``x`` rounded to ``dtype``, in the dtype to compute in: float32 for half formats."""
    return round_to(x.to(torch.float32 if dtype.itemsize < 4 else dtype), dtype)


def identity(samples: int, n: int, like: Tensor) -> Tensor:
    """(samples, n, n) unit matrices with the dtype and device of ``like``."""
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    if n > SEEDS_LAST:
        return unit.repeat(samples, 1, 1)
    return unit[:, :, None].repeat(1, 1, samples).permute(2, 0, 1)


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """left @ right of (B, n, n) matrices.

    Up to order ``SEEDS_LAST`` a sum of n outer products over samples that lie next to each other
    in memory, where a batched product runs at a seventh of that; the result lies so, too.
    """
    n = left.shape[-1]
    if n > SEEDS_LAST:
        return matmul(left, right)
    rows, columns = left.permute(1, 2, 0), right.permute(1, 2, 0)
    product = rows.new_empty(rows.shape)
    torch.mul(rows[:, 0, None], columns[0], out=product)
    for k in range(1, n):
        product.addcmul_(rows[:, k, None], columns[k])
    return product.permute(2, 0, 1)


def largest_entry(x: Tensor) -> Tensor:
    """The largest magnitude of an entry of each matrix, (B,), in the real dtype; nan stays."""
    if x.shape[-1] <= SEEDS_LAST:
        return x.abs().permute(1, 2, 0).flatten(0, 1).amax(0)
    return x.abs().flatten(1).amax(1)


class ScaledProduct:
    """A product in the factors' own dtype, kept in range by exact powers of two.

    P = matrix * 2^exponent; ``exponent`` (B,) float64.  The rescaling comes every 8 factors, or
    more often if the first factor's norm F is extreme: the norm stays within 2^-60 and 2^60, whose
    squares float32 has, as long as no factor changes it by more than 2 F or less than F / 2.
    """

    EVERY, BITS = 8, 60

    def __init__(self, samples: int, n: int, like: Tensor) -> None:
        self.matrix = identity(samples, n, like)
        self.exponent = torch.zeros(samples, dtype=torch.float64, device=like.device)
        self._since, self._every = 0, 0

    def update(self, factor: Tensor) -> None:
        """Multiply by ``factor`` (B, n, n) from the left."""
        if self._every == 0:
            size = log2_norm(factor.abs(), (1, 2)).nan_to_num(0.0, 0.0, 0.0).abs().amax().item()
            room = self.BITS - math.log2(factor.shape[-1])
            self._every = max(1, min(self.EVERY, int(room / (1 + size))))
        self.matrix = multiply(factor, self.matrix)
        self._since += 1
        if self._since == self._every:
            self._since = 0
            largest = largest_entry(self.matrix)
            shift = torch.floor(torch.log2(largest)).nan_to_num(0.0, 0.0, 0.0)
            self.exponent = self.exponent + shift
            self.matrix = self.matrix * torch.exp2(-shift)[:, None, None]

    def squares(self) -> Tensor:
        """||P||_F^2 and ||P e_1||^2 over 4^exponent, (2, B), in the real dtype.

        Relative error (n^2 + 1) u at most.
        """
        parts = torch.view_as_real(self.matrix) if self.matrix.is_complex() else self.matrix
        if self.matrix.shape[-1] > SEEDS_LAST:
            whole = torch.linalg.vector_norm(parts.flatten(1), dim=1).square()
            # vector_norm takes four times as long along a stride.
            column = parts[:, :, 0].flatten(1).square().sum(1)
            return torch.stack([whole, column])
        squares = parts.square().permute(*range(1, parts.dim()), 0)
        found = squares.new_empty((2, squares.shape[-1]))
        torch.sum(squares.flatten(0, -2), 0, out=found[0])
        torch.sum(squares[:, 0].flatten(0, -2), 0, out=found[1])
        return found

    def log2_norm(self) -> Tensor:
        """log2 of the Frobenius norm, (B,); -inf where the product is 0."""
        return self.exponent + torch.log2(self.squares()[0].to(torch.float64)) / 2

    def log2_largest(self) -> Tensor:
        """log2 of the largest magnitude of an entry, (B,)."""
        return self.exponent + torch.log2(largest_entry(self.matrix).to(torch.float64))


class Growth:
    """log2 ||P||_F and log2 ||P e_1|| of a product after every factor."""

    def __init__(self, product: ScaledProduct) -> None:
        self._product = product
        self._squares: list[Tensor] = []
        self._exponents: list[Tensor] = []

    def update(self, factor: Tensor) -> None:
        """Multiply the product by ``factor`` (B, n, n) from the left and note its size."""
        self._product.update(factor)
        self._squares.append(self._product.squares())
        self._exponents.append(self._product.exponent)

    def take(self) -> Tensor:
        """(2, factors, B) float64 over the factors since the last call, which it forgets.

        Axis 0: the norm, the first column; -inf where the product is 0.
        """
        squares = torch.stack(self._squares, dim=1).to(torch.float64)
        logs = torch.log2(squares) / 2 + torch.stack(self._exponents)
        self._squares.clear()
        self._exponents.clear()
        return logs


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
        self._fell = torch.zeros(samples, dtype=torch.bool, device=like.device)
        self._noted: list[Tensor] = []
        self.matrix = identity(samples, n, wide(like) if dtype == torch.float64 else like)
        self._last = self.largest()

    def update(self, factor: Tensor) -> None:
        """Multiply by ``sigma factor`` (B, n, n) from the left."""
        if not self._done:
            scaled = (wide(factor) if self._dtype == torch.float64 else factor) * self._sigma
            if self._narrow:
                scaled = round_to(scaled, self._dtype)
            self.matrix = multiply(scaled, self.matrix)
            if self._narrow:
                self.matrix = round_to(self.matrix, self._dtype)
            self._last = self.largest()
        self._noted.append(self._last)

    def largest(self) -> Tensor:
        """The largest magnitude of an entry's real or imaginary part, (B,); nan stays."""
        if self.matrix.is_complex():
            return torch.view_as_real(self.matrix).abs().flatten(1).amax(1)
        return largest_entry(self.matrix)

    def take(self) -> Tensor:
        """(2, factors, B), over the factors since the last call: whether an entry is inf or nan
        after that factor, and whether all were below the smallest normal number after one so far.
        """
        largest = torch.stack(self._noted)
        self._noted.clear()
        over = ~torch.isfinite(largest)
        small = (largest < torch.finfo(self._dtype).smallest_normal) | self._fell
        under = small.cummax(0).values
        self._fell = under[-1]
        # Neither inf nor 0 ever comes back.
        self._done = bool((over[-1] | (largest[-1] == 0)).all())
        return torch.stack([over, under])


class QRProduct:
    """P = Q diag(e^logs) T with Q unitary and T unit upper triangular, in float64.

    QR iteration (Benettin et al. 1980, Meccanica 15, 9): ``logs`` (B, n) are the sums of ln|R_kk|.
    Factors are gathered ``every`` at a time before the orthonormalisation; more than 4 lose the
    smallest exponents.  A diagonal entry below ``zero`` times the largest counts as 0 (a singular
    factor): its log is -inf from then on.  Without ``triangle`` there are no singular values.
    """

    def __init__(
        self, samples: int, n: int, like: Tensor, every: int = 4, zero: float = 0.0,
        triangle: bool = True,
    ) -> None:  # fmt: skip
        if not 1 <= every <= 4:
            raise ValueError(f"every={every!r}: must be 1 to 4")
        self._every, self._zero = every, zero
        self._pending = identity(samples, n, wide(like))
        self._triangle = self._pending.clone() if triangle else None
        self._logs = torch.zeros((samples, n), dtype=torch.float64, device=like.device)
        self._since = 0

    def update(self, factor: Tensor) -> None:
        """Multiply by ``factor`` (B, n, n) from the left."""
        self._pending = multiply(wide(factor), self._pending)
        self._since += 1
        if self._since == self._every:
            self._absorb()

    def _absorb(self) -> None:
        self._since = 0
        small = self._pending.shape[-1] <= SEEDS_LAST and not self._zero
        self._pending, r = (gram_schmidt if small else positive_qr)(self._pending)
        size = torch.diagonal(r, dim1=-2, dim2=-1).real
        before = self._logs
        step = torch.log(size)
        if self._zero:
            step = step.masked_fill(size <= self._zero * size.amax(1, keepdim=True), -torch.inf)
        self._logs = before + step
        if self._triangle is None:
            return
        after = torch.where(torch.isfinite(self._logs), self._logs, torch.inf)
        # Above the diagonal; on it, and in rows of dimensions that are lost, T is the unit matrix.
        graded = r.triu(1) * torch.exp((before[:, None, :] - after[:, :, None]).triu(1))
        torch.diagonal(graded, dim1=-2, dim2=-1).fill_(1.0)
        self._triangle = multiply(graded, self._triangle)

    def logs(self) -> Tensor:
        """ln |R_11| ... ln |R_nn| of the whole product, (B, n); -inf for lost dimensions."""
        if self._since:
            self._absorb()
        return self._logs

    def _graded(self) -> tuple[Tensor, Tensor]:
        logs = self.logs()
        if self._triangle is None:
            raise ValueError("triangle=False: singular values need the triangle")
        return logs, self._triangle

    def log_extremes(self) -> tuple[Tensor, Tensor]:
        """ln sigma_max and ln sigma_min of the product, (B,) each, whatever its condition.

        The largest singular value of a matrix is found to full relative accuracy; the smallest
        is the inverse of that of diag(e^logs) T's inverse.
        """
        logs, triangle = self._graded()
        alive = torch.isfinite(logs)
        highest = logs.amax(1, keepdim=True)
        largest = torch.exp(logs - highest).nan_to_num(0.0)[:, :, None] * triangle
        top = highest[:, 0] + log_spectral_norm(largest)
        lowest = torch.where(alive, logs, torch.inf).amin(1, keepdim=True)
        unit = identity(len(logs), logs.shape[1], triangle)
        inverse = torch.linalg.solve_triangular(triangle, unit, upper=True, unitriangular=True)
        weights = torch.where(alive, torch.exp(lowest - logs), 0.0)
        bottom = lowest[:, 0] - log_spectral_norm(inverse * weights[:, None, :])
        return top, torch.where(alive.all(1), bottom, -torch.inf)

    def log_singular_values(self) -> Tensor:
        """ln of all singular values of the product, (B, n), descending, whatever its condition.

        With ``every=1`` to 1e-12, where plain float64 loses all but the largest.
        """
        return log_singular_values(*self._graded())


def positive_qr(x: Tensor) -> tuple[Tensor, Tensor]:
    """Q and R of (B, n, n) matrices with the diagonal of R real and not negative."""
    q, r = torch.linalg.qr(x)
    diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
    phase = torch.where(diagonal == 0, 1.0, torch.sgn(diagonal))
    return q * phase[:, None, :], r * phase.conj()[:, :, None]


def gram_schmidt(x: Tensor) -> tuple[Tensor, Tensor]:
    """``positive_qr`` of small matrices, whose samples lie next to each other in memory.

    Every column is orthogonalised twice, which is enough to working precision unless the matrix is
    numerically singular (Giraud et al. 2005, Numer. Math. 101, 87).
    """
    q = x.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
    r = torch.zeros_like(q)
    for k in range(len(q)):
        column, done = q[:, k], q[:, :k]
        for _ in range(2 if k else 0):
            shadow = (done.conj() * column[:, None]).sum(0)
            r[:k, k] += shadow
            column -= (done * shadow).sum(1)
        size = (column * column.conj()).real.sum(0).sqrt()
        r[k, k] = size
        column /= torch.where(size > 0, size, 1.0)
    return q.permute(2, 0, 1), r.permute(2, 0, 1)


CONVERGED, SWEEPS = 1e-8, 40
"""One-sided Jacobi: the cosine between rows, before its rotation squares it, and sweeps at most."""


def log_singular_values(logs: Tensor, rows: Tensor) -> Tensor:
    """ln of the singular values of diag(e^logs) rows, (B, n) each, descending; -inf stays.

    ``logs`` (B, n) are of any size; ``rows`` (B, n, n) float64 of order one.  One-sided Jacobi
    rotations, the scales kept apart, find every singular value to high relative accuracy as long
    as the rows, scaled to unit length, are well conditioned (Demmel & Veselic 1992, SIAM J. Matrix
    Anal. Appl. 13, 1204); a QR step before makes them nearly orthogonal.
    Raises ArithmeticError if that takes more than SWEEPS sweeps.
    """
    scale, order = logs.sort(1, descending=True)
    rows = rows.gather(1, order[:, :, None].expand_as(rows))
    _, r = positive_qr((rows * torch.isfinite(scale)[:, :, None]).mH)
    # R diag(e^scale) = diag(e^scale) T' has the singular values of its conjugate transpose.
    rows = r * torch.exp((scale[:, None, :] - scale[:, :, None]).nan_to_num(0.0).triu(1))
    n = rows.shape[1]
    if n % 2:
        rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
        scale = torch.nn.functional.pad(scale, (0, 1), value=-torch.inf)
    half = rows.shape[1] // 2
    x, a = _unit(rows[:, :half], scale[:, :half])
    y, b = _unit(rows[:, half:], scale[:, half:])
    for _ in range(SWEEPS):
        worst = torch.zeros((), dtype=torch.float64, device=logs.device)
        for _ in range(2 * half - 1):
            cosine = (x * y.conj()).sum(2)
            worst = torch.maximum(worst, cosine.abs().amax())
            # Shorter row over longer; the rotation's tangent over that.
            ratio = torch.exp(-(a - b).abs().nan_to_num(0.0, torch.inf))
            room = (1 - ratio.square()) / 2
            root = torch.sqrt(room.square() + (ratio * cosine.abs()).square())
            tangent = torch.where(cosine == 0, 0.0, -cosine / (room + root))
            back = -ratio.square() * tangent
            first = a >= b
            x, y = (
                x + torch.where(first, back, tangent)[:, :, None] * y,
                y + torch.where(first, tangent, back).conj()[:, :, None] * x,
            )
            shrink = torch.log1p((ratio * tangent.abs()).square()) / 2
            (x, a), (y, b) = _unit(x, a - shrink), _unit(y, b - shrink)
            (x, y), (a, b) = _next_pairs(x, y), _next_pairs(a, b)
        if worst.item() <= CONVERGED:
            return torch.cat([a, b], 1).sort(1, descending=True).values[:, :n]
    raise ArithmeticError(f"no convergence in {SWEEPS} sweeps; the largest cosine is {worst}")


def _next_pairs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The round-robin that pairs all rows in turn: all but the first move on by one place."""
    if x.shape[1] == 1:
        return x, y
    return torch.cat([x[:, :1], y[:, :1], x[:, 1:-1]], 1), torch.cat([y[:, 1:], x[:, -1:]], 1)


def _unit(rows: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length 1, their lengths moved into the logarithms; a row of 0 stays."""
    size = torch.linalg.vector_norm(rows, dim=2)
    size = torch.where(size > 0, size, 1.0)
    return rows / size[:, :, None], logs + torch.log(size)


def log_spectral_norm(x: Tensor) -> Tensor:
    """ln of the largest singular value of (B, n, n) float64 matrices; -inf for 0.

    ||G^m||_F^(1/m) of G = x* x with m = 2^SQUARINGS, by repeated squaring and rescaling: between
    sigma^2 and sigma^2 n^(1/(2 m)).  Once G has rank one to rounding, squaring changes no norm.
    """
    size = torch.linalg.vector_norm(x, dim=(1, 2))
    x = x / torch.where(size > 0, size, 1.0)[:, None, None]
    gram, log = multiply(x.mH, x), torch.zeros_like(size)
    for step in range(SQUARINGS + 1):
        norm = torch.linalg.vector_norm(gram, dim=(1, 2))
        norm = torch.where(norm > 0, norm, 1.0)
        log = log + torch.log(norm) * 0.5**step
        if step and bool((norm > 1 - RANK_ONE).all()):
            break
        if step < SQUARINGS:
            gram = gram / norm[:, None, None]
            gram = multiply(gram, gram)
    return log / 2 + torch.log(size)


def log_smallest_by_svd(matrix: Tensor, exponent: Tensor) -> Tensor:
    """ln of the smallest singular value by an SVD of matrix * 2^exponent; the naive route."""
    smallest = torch.linalg.svdvals(matrix)[:, -1].to(torch.float64)
    return torch.log(smallest) + exponent * math.log(2)
