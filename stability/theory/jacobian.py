"""Squared singular values of a deep network's input-output Jacobian J = D_L W_L ... D_1 W_1.

D_l: diagonal, the activation's derivatives, with mu_k = E phi'^(2k); W_l: n x n, Gaussian of
variance sigma_w^2 / n, or sigma_w times Haar orthogonal.  As n grows, J J^T is the free
multiplicative product of D_l^2 and W_l W_l^T, whose S-transforms multiply:
S(z) = prod_l (1 + z) / z M_D^(-1)(z) S_W(z), where M_D(y) = sum_k mu_k y^k, and
S_W = 1 / (sigma_w^2 (1 + z)) (Gaussian) or 1 / sigma_w^2 (orthogonal).
Source: Pennington, Schoenholz & Ganguli 2017 (arXiv 1711.04735).

For ReLU, leaky ReLU and linear networks without biases the finite-n laws here are exact: flipping
the sign of a row of W_l flips the unit's sign and leaves the row's outer product as it was, hence
D_l is independent of W_l^T D W_l (Hanin & Nica 2020, arXiv 1812.05994).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from stability.arguments import Array, nonnegative, numbers, positive, positives, whole
from stability.theory.nonlinearity import Nonlinearity

Complex = NDArray[np.complex128]

_REACH, _NODES = 9.0, 96  # P(|Z| > 9) = 2e-19
_POINTS = 6  # a bin of a histogram
_TRACY_WIDOM_MEAN, _TRACY_WIDOM_STD = -1.2065335745820, 1.2679809468
"""Of the orthogonal class (beta = 1): Bornemann 2010, arXiv 0904.1581."""


class SecondMoments(NamedTuple):
    """E tr (J J^T)^2 / n and E (tr J J^T)^2 / n^2."""

    of_squares: float
    of_trace: float


class Edge(NamedTuple):
    """Upper end of the limiting law, and c in its density (c / pi) sqrt(end - x) below it."""

    end: float
    slope: float


def _check_ensemble(weights: str, sigma_w: float) -> None:
    if weights not in ("gaussian", "orthogonal"):
        raise ValueError(f"weights={weights!r}: must be 'gaussian' or 'orthogonal'")
    positive("sigma_w", sigma_w)


def _moments_of(mu: Sequence[float], least: int) -> Array:
    values = positives("mu", mu)
    if values.ndim != 1 or values.size < least:
        raise ValueError(f"mu={mu!r}: must have at least {least} moments")
    return values


def fuss_catalan(depth: int, order: float) -> float:
    """C(L k + k, k) / (L k + 1): the limit of E tr (J J^T)^k / n, linear and Gaussian, sigma_w = 1.

    ``order`` k: any number above -1 / (L + 1); 1/2 gives the mean singular value, 8 / (3 pi) at
    L = 1 (Penson & Zyczkowski 2011, arXiv 1103.3453).
    Raises ValueError if depth < 1 or the order is too small.
    """
    whole("depth", depth)
    if not -1 / (depth + 1) < order < math.inf:
        raise ValueError(f"order={order!r}: must be finite and above -1 / (depth + 1)")
    log_top = special.gammaln((depth + 1) * order + 1)
    return math.exp(log_top - special.gammaln(order + 1) - special.gammaln(depth * order + 2))


def fuss_catalan_edge(depth: int) -> Edge:
    """The end (L + 1)^(L+1) / L^L of the Fuss-Catalan law: 4, 6.75, 9.48 at L = 1, 2, 3.

    The slope from its density at small angles, c^2 = 2 (L + 1) / (L^3 end^3).
    Raises ValueError if depth < 1.
    """
    whole("depth", depth)
    end = math.exp((depth + 1) * math.log(depth + 1) - depth * math.log(depth))
    return Edge(end, math.sqrt(2 * (depth + 1) / depth**3 / end**3))


def _angles(depth: int, x: Array) -> Array:
    """The angle phi in (0, pi / (L + 1)) of each x in (0, end), by bisection to the last bit."""
    low, high = np.zeros_like(x), np.full_like(x, math.pi / (depth + 1))
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            log_x = (
                (depth + 1) * np.log(np.sin((depth + 1) * middle))
                - np.log(np.sin(middle))
                - depth * np.log(np.sin(depth * middle))
            )
        beyond = log_x > np.log(x)
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    angles: Array = (low + high) / 2
    return angles


def fuss_catalan_density(x: ArrayLike, depth: int) -> Array:
    """The limiting density of the squared singular values, linear and Gaussian, sigma_w = 1.

    At x = sin^(L+1)((L+1) p) / (sin p sin^L(L p)), 0 < p < pi / (L+1), it is
    sin^2 p sin^(L-1)(L p) / (pi sin^L((L+1) p)): Haagerup & Moeller 2013 (arXiv 1211.4457);
    Forrester & Liu 2015 (arXiv 1404.5759).  L = 1: Marchenko-Pastur, sqrt((4 - x) / x) / (2 pi).
    0 beyond the end and at x <= 0.  Raises ValueError if depth < 1 or an x is nan.
    """
    values = numbers("x", x)
    inside = (values > 0) & (values < fuss_catalan_edge(depth).end)
    density = np.zeros(values.shape)
    p = _angles(depth, values[inside])
    density[inside] = (
        np.sin(p) ** 2
        * np.sin(depth * p) ** (depth - 1)
        / (math.pi * np.sin((depth + 1) * p) ** depth)
    )
    result: Array = density[()]
    return result


def finite_moments(
    width: int, depth: int, mu: Sequence[float], weights: str = "gaussian", sigma_w: float = 1.0
) -> SecondMoments:
    """The second moments at width n, for D_l independent of W_l with independent entries.

    From x = y = 1 by layer, Gaussian: x' = mu_2 (y + 2 x / n) + mu_1^2 (1 - 1/n) x and
    y' = mu_2 (y + 2 x / n) / n + mu_1^2 (1 - 1/n) y, both times sigma_w^4; orthogonal: with
    e = (n y + 2 x) / (n + 2), x' = mu_2 e + mu_1^2 (x - e), y' = mu_2 e / n + mu_1^2 (y - e / n)
    (second moments of a Wishart and of a Haar matrix).  Exact for ReLU, leaky ReLU and linear
    networks without biases.  ``mu``: mu_1, mu_2, further ones are not used.
    Raises ValueError if width or depth < 1, mu is not positive or an ensemble is not known.
    """
    whole("width", width)
    whole("depth", depth)
    _check_ensemble(weights, sigma_w)
    first, second = _moments_of(mu, 2)[:2]
    n = width
    x = y = 1.0
    for _ in range(depth):
        if weights == "gaussian":
            own = y + 2 * x / n
            x, y = (
                second * own + first**2 * (1 - 1 / n) * x,
                second * own / n + first**2 * (1 - 1 / n) * y,
            )
        else:
            own = (n * y + 2 * x) / (n + 2)
            x, y = (
                second * own + first**2 * (x - own),
                second * own / n + first**2 * (y - own / n),
            )
        x, y = x * sigma_w**4, y * sigma_w**4
    return SecondMoments(float(x), float(y))


def relative_variance(depth: int, mu: Sequence[float], weights: str = "gaussian") -> float:
    """Limit of m_2 / m_1^2 - 1: L (mu_2 / mu_1^2 - 1 - s_1), s_1 = -1 Gaussian, 0 orthogonal.

    Pennington et al. 2017 at m_1 = 1.  ReLU: 2 L and L; an orthogonal linear network: 0.
    Raises ValueError if depth < 1, mu is not positive or the weights are not known.
    """
    whole("depth", depth)
    _check_ensemble(weights, 1.0)
    first, second = _moments_of(mu, 2)[:2]
    return float(depth * (second / first**2 - (0 if weights == "gaussian" else 1)))


def _multiply(a: Array, b: Array) -> Array:
    product: Array = np.convolve(a, b)[: a.size]
    return product


def _inverse(a: Array) -> Array:
    """1 / a as a power series."""
    result = np.zeros_like(a)
    result[0] = 1 / a[0]
    for k in range(1, a.size):
        result[k] = -(a[1 : k + 1] @ result[k - 1 :: -1][:k]) / a[0]
    return result


def _reversion(a: Array) -> Array:
    """b with z b(z) the inverse function of w a(w): b_k = [w^k] a^-(k+1) / (k + 1) (Lagrange)."""
    inverse = _inverse(a)
    power, result = inverse.copy(), np.empty_like(a)
    for k in range(a.size):
        result[k] = power[k] / (k + 1)
        power = _multiply(power, inverse)
    return result


def limit_moments(
    depth: int, mu: Sequence[float], weights: str = "gaussian", sigma_w: float = 1.0
) -> Array:
    """Limits of E tr (J J^T)^k / n for k = 1..len(mu), from the S-transform as a power series.

    Every series is truncated at that order, which loses nothing.  Rounding errors grow with the
    order: relative error below 1e-9 up to order 8.
    Raises ValueError if depth < 1, mu is not positive or an ensemble is not known.
    """
    whole("depth", depth)
    _check_ensemble(weights, sigma_w)
    series = _moments_of(mu, 1)
    one_plus = np.zeros_like(series)
    one_plus[:2] = 1.0
    layer = _multiply(one_plus, _reversion(series)) / sigma_w**2
    if weights == "gaussian":
        layer = _multiply(layer, _inverse(one_plus))
    total = _inverse(one_plus)
    for _ in range(depth):
        total = _multiply(total, layer)
    return _reversion(total)


def derivative_law(activation: Nonlinearity, q: float) -> tuple[Array, Array]:
    """Values and masses of phi'(z)^2 for z ~ N(0, q): Gauss-Legendre between 0 and the kinks.

    Equal values are one atom.  For a phi that varies on the scale 1 moments are exact to 1e-12
    for q up to 4.  Raises ValueError if q is not positive.
    """
    positive("q", q)
    kinks = {0.0, *(kink / math.sqrt(q) for kink in activation.kinks)}
    cuts = np.array([-_REACH, *sorted(k for k in kinks if abs(k) < _REACH), _REACH])
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(cuts)[:, None] / 2
    z = (cuts[:-1, None] + half * (x + 1)).ravel()
    masses = (half * weight).ravel() * np.exp(-z * z / 2)
    squares, where = np.unique(activation.dphi(math.sqrt(q) * z) ** 2, return_inverse=True)
    total = np.zeros(squares.size)
    np.add.at(total, where, masses)
    return squares, total / total.sum()


class _Law:
    """The equation 1 / x = z / (1 + z) S(z), z = M_D(w), for one law of the squared derivatives."""

    def __init__(
        self, squares: ArrayLike, masses: ArrayLike, depth: int, weights: str, sigma_w: float
    ) -> None:
        whole("depth", depth)
        _check_ensemble(weights, sigma_w)
        self.d = np.asarray(squares, dtype=np.float64)
        self.p = np.asarray(masses, dtype=np.float64)
        if not (self.d.ndim == 1 and np.all((self.d >= 0) & np.isfinite(self.d)) and self.d.any()):
            raise ValueError(f"squares={squares!r}: must be finite, at least 0 and not all 0")
        if self.p.shape != self.d.shape or not (
            np.all(self.p >= 0) and abs(self.p.sum() - 1) < 1e-9
        ):
            raise ValueError(f"masses={masses!r}: must be one a square, at least 0, of sum 1")
        self.depth, self.gaussian = depth, weights == "gaussian"
        self.log_gain = 2 * depth * math.log(sigma_w)
        self.first = float(self.p @ self.d)

    def transform(self, w: Any) -> tuple[Any, Any]:
        """z = M_D(w) and its derivative."""
        rest = 1 / (1 - np.multiply.outer(w, self.d))
        mass = self.p * self.d
        return w * (rest @ mass), (rest * rest) @ mass

    def log_x(self, w: Any) -> tuple[Any, Any]:
        """ln x and its derivative by w."""
        z, dz = self.transform(w)
        power = self.depth - 1
        plus = power - (self.depth if self.gaussian else 0)
        value = power * np.log(z / w) - np.log(w) - plus * np.log1p(z) + self.log_gain
        slope = power * (dz / z - 1 / w) - 1 / w - plus * dz / (1 + z)
        return value, slope


def limit_density(
    x: ArrayLike,
    squares: ArrayLike,
    masses: ArrayLike,
    depth: int,
    weights: str = "gaussian",
    sigma_w: float = 1.0,
) -> Array:
    """The limiting density of the squared singular values at ``x`` > 0, without its atoms.

    ``squares``, ``masses``: the law of phi'(z)^2 as values and probabilities: ([0, 1], [.5, .5])
    for ReLU.  Newton's method on the S-transform's equation, followed from far above the real line
    down to it; -Im (1 + z) / (pi x).  Relative error below 1e-8 but within 1e-6 of an end.
    Raises ValueError if x or an argument is out of range.
    """
    law = _Law(squares, masses, depth, weights, sigma_w)
    values = positives("x", x)
    flat = values.ravel()
    scale = float(law.d.max()) ** depth * math.exp(law.log_gain) * 4.0 ** (depth + 1)
    heights = np.append(np.geomspace(max(1e3 * scale, 1e3 * flat.max(initial=0)), 1e-9, 140), 0.0)
    w: Complex = law.first ** (depth - 1) * math.exp(law.log_gain) / (flat + 1j * heights[0])
    for height in heights:
        target = np.log(flat + 1j * height)
        for _ in range(4):
            value, slope = law.log_x(w)
            off = value - target
            off = off - 2j * math.pi * np.round(off.imag / (2 * math.pi))
            w = w - off / slope
    z, _ = law.transform(w)
    density = np.maximum(-((1 + z) / flat).imag / math.pi, 0.0)
    result: Array = density.reshape(values.shape)[()]
    return result


def binned_density(
    edges: ArrayLike,
    squares: ArrayLike,
    masses: ArrayLike,
    depth: int,
    weights: str = "gaussian",
    sigma_w: float = 1.0,
) -> Array:
    """The limiting density of the singular values, averaged over each bin, shape (bins,).

    2 s ``limit_density``(s^2) by the midpoint rule at 6 points a bin; nan for orthogonal weights
    and one slope, whose law is an atom.  ``edges``: (bins + 1,).
    Raises ValueError unless edges are finite, at least 0 and increase, or if another argument is
    out of range.
    """
    law = _Law(squares, masses, depth, weights, sigma_w)
    ends = nonnegative("edges", edges)
    if ends.ndim != 1 or len(ends) < 2 or not np.all(np.diff(ends) > 0):
        raise ValueError(f"edges={edges!r}: must be two or more that increase")
    if law.d.size == 1 and not law.gaussian:
        return np.full(len(ends) - 1, np.nan)
    share = (np.arange(_POINTS) + 0.5) / _POINTS
    s = ends[:-1, None] + np.diff(ends)[:, None] * share
    density = 2 * s * limit_density(s**2, squares, masses, depth, weights, sigma_w)
    means: Array = density.mean(axis=1)
    return means


def limit_edge(
    squares: ArrayLike,
    masses: ArrayLike,
    depth: int,
    weights: str = "gaussian",
    sigma_w: float = 1.0,
) -> Edge:
    """The upper end of the limiting law and the slope of its square root, see ``limit_density``.

    The end is where dx / dw = 0 on the real line; slope 0 where the law ends otherwise (an
    orthogonal linear network, an atom).  Raises ValueError if an argument is out of range.
    """
    law = _Law(squares, masses, depth, weights, sigma_w)
    top = 1 / float(law.d.max())

    def slope(share: float) -> float:
        return float(law.log_x(share * top)[1])

    high = 1 - 1e-9
    if slope(high) <= 0:
        return Edge(math.exp(float(law.log_x(high * top)[0])), 0.0)
    w = float(optimize.brentq(slope, 1e-9, high, xtol=1e-15, rtol=1e-14)) * top
    end = math.exp(float(law.log_x(w)[0]))
    step = 1e-5 * min(w, top - w)
    curvature = float(law.log_x(w + step)[1] - law.log_x(w - step)[1]) / (2 * step)
    rise = float(law.transform(w)[1])
    return Edge(end, rise * math.sqrt(2 / curvature) / end**1.5)


def largest_square(width: int, edge: Edge) -> tuple[float, float]:
    """Mean and standard deviation of the largest squared singular value: Tracy & Widom's law.

    end + (n c)^(-2/3) (mean, std) of the orthogonal class, -1.2065 and 1.2680; proven for one real
    Gaussian factor (Johnstone 2001, Ann. Stat. 29, 295), for products of complex ones (Liu, Wang &
    Zhang 2016, arXiv 1412.6777), expected of real ones by universality.
    Raises ValueError if width < 1 or the edge is not a square root.
    """
    whole("width", width)
    if not edge.slope > 0:
        raise ValueError(f"edge={edge!r}: its slope must be above 0")
    scale = (width * edge.slope) ** (-2 / 3)
    return edge.end + _TRACY_WIDOM_MEAN * scale, _TRACY_WIDOM_STD * scale
