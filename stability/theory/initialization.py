"""What an initialization does to the size of signals and gradients, and the gains that keep it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from stability.arguments import finite, nonnegative, positive, positives, whole
from stability.theory import meanfield, phase
from stability.theory.atlas import names
from stability.theory.criticality import critical_point
from stability.theory.finite_width import linear_log_norm, relu_log_norm
from stability.theory.floating_point import Format
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array

_FIRST_ORDER = 0.25  # mean log correction of a layer beyond which its first order won't do
_CRITICAL = 1e-9  # of chi_1 - 1 at a fixed point known to 1e-12

_TORCH_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def forward_gain(fan_in: int, variance: float, second_moment: float = 1.0) -> float:
    """Factor of the mean square per layer, fan_in * variance * E phi(z)^2 / E z^2.

    ``variance``: of a weight; ``second_moment``: E phi^2 / q, 1 for linear, 1/2 for ReLU
    (He et al. 2015, arXiv 1502.01852, eq. 7).  Raises ValueError if an argument is out of range.
    """
    whole("fan_in", fan_in)
    nonnegative("variance", variance)
    return fan_in * variance * float(nonnegative("second_moment", second_moment))


def backward_gain(fan_out: int, variance: float, derivative_moment: float = 1.0) -> float:
    """Factor of the gradient's mean square per layer, fan_out * variance * E phi'^2.

    ``derivative_moment``: E phi'^2, 1 for linear, 1/2 for ReLU (He et al. 2015, eq. 13).
    Raises ValueError if an argument is out of range.
    """
    whole("fan_out", fan_out)
    nonnegative("variance", variance)
    return fan_out * variance * float(nonnegative("derivative_moment", derivative_moment))


def orthogonal_forward_gain(fan_in: int, fan_out: int) -> float:
    """min(fan_in, fan_out) / fan_out: factor of the mean square under orthonormal rows or columns.

    In expectation over Haar weights.  Raises ValueError if a fan is below 1.
    """
    whole("fan_in", fan_in)
    whole("fan_out", fan_out)
    return min(fan_in, fan_out) / fan_out


def orthogonal_backward_gain(fan_in: int, fan_out: int) -> float:
    """min(fan_in, fan_out) / fan_in: factor of the gradient's mean square, as the forward one."""
    whole("fan_in", fan_in)
    whole("fan_out", fan_out)
    return min(fan_in, fan_out) / fan_in


def truncated_normal_std(cut: float = 2.0) -> float:
    """Standard deviation of N(0, 1) conditioned on |z| <= cut.

    sqrt(P(3/2, cut^2/2) / P(1/2, cut^2/2)) with the regularized incomplete gamma function P;
    .8796 at 2, by which Keras and JAX divide and ``torch.nn.init.trunc_normal_`` does not.
    Raises ValueError if the cut is not positive.
    """
    if not cut > 0:
        raise ValueError(f"cut={cut!r}: must be above 0")
    half = cut * cut / 2
    return math.sqrt(float(special.gammainc(1.5, half)) / float(special.gammainc(0.5, half)))


class Gains(NamedTuple):
    """Factors of the mean square per layer, of the signal and of its gradient."""

    forward: float
    backward: float


def xavier_gains(fan_in: int, fan_out: int) -> Gains:
    """2 fan_in / (fan_in + fan_out) and 2 fan_out / (fan_in + fan_out), for linear layers.

    Var W = 2 / (fan_in + fan_out) is the harmonic mean of what each pass wants, 1 / fan_in and
    1 / fan_out (Glorot & Bengio 2010, eq. 12).  The two factors have the mean 1; their product,
    the square of the fans' geometric over their arithmetic mean, is below 1 unless they agree.
    Raises ValueError if a fan is below 1.
    """
    return _two_gains(fan_in, fan_out, lambda i, o: 2 / (i + o))


def geometric_gains(fan_in: int, fan_out: int) -> Gains:
    """sqrt(fan_in / fan_out) and its inverse: the factors under Var W = 1 / sqrt(fan_in fan_out).

    The geometric compromise: a layer and its transpose together keep signal and gradient.
    Raises ValueError if a fan is below 1.
    """
    return _two_gains(fan_in, fan_out, lambda i, o: 1 / math.sqrt(i * o))


def _two_gains(fan_in: int, fan_out: int, variance: Callable[[int, int], float]) -> Gains:
    whole("fan_in", fan_in)
    whole("fan_out", fan_out)
    weight = variance(fan_in, fan_out)
    return Gains(forward_gain(fan_in, weight), backward_gain(fan_out, weight))


def he_std(fan_in: int, slope: float = 0.0) -> float:
    """sqrt(2 / ((1 + slope^2) fan_in)), the weights' std that keeps a leaky ReLU's signal.

    He et al. 2015, eq. 10 and 15.  Raises ValueError if the fan is below 1 or the slope not finite.
    """
    whole("fan_in", fan_in)
    finite("slope", slope)
    return math.sqrt(2 / ((1 + slope * slope) * fan_in))


def mean_singular_value(gain: float) -> float:
    """8 gain / (3 pi): of a large square matrix of independent entries of variance gain^2 / n.

    The mean of the quarter-circle law (Marchenko & Pastur 1967): .849 for Xavier's, .490 for a gain
    of 1 / sqrt(3), where Glorot & Bengio 2010, sec. 4.2.2, measured .8 and .5.
    Raises ValueError if the gain is negative or not finite.
    """
    return 8 / (3 * math.pi) * float(nonnegative("gain", gain))


def forward_preserving_gain(activation: Nonlinearity, q: ArrayLike = 1.0) -> Array:
    """The sigma_w that keeps the variance q of preactivations: sqrt(q / E phi(sqrt(q) Z)^2).

    Then q is a fixed point of the variance map, which may repel: for SiLU, GELU and their like,
    whose E phi^2 / q increases, every one does.
    Raises ValueError if q is not finite and positive.
    """
    variance = positives("q", q)
    gain: Array = np.sqrt(variance / activation.second_moment(variance))
    return gain


def backward_preserving_gain(activation: Nonlinearity, q: ArrayLike = 1.0) -> Array:
    """The sigma_w that keeps gradients at preactivation variance q: 1 / sqrt(E phi'(sqrt(q) Z)^2).

    Never above the forward one for odd phi, as q E phi'^2 >= Var phi (the Gaussian Poincare
    inequality; Chernoff 1981), with equality for linear phi alone.
    Raises ValueError if q is not finite and positive.
    """
    gain: Array = 1 / np.sqrt(activation.slope_moment(positives("q", q)))
    return gain


def critical_gain(activation: Nonlinearity) -> float:
    """The sigma_w without biases at whose own fixed point, reached from q = 1, chi_1 = 1.

    Both passes then keep their size to leading order: sqrt(2) for ReLU, 1 / |phi'(0)| for tanh and
    its like (q* = 0), 10.149 for the sigmoid (q* = 45.6).  nan where there is none: SiLU and GELU
    leave q = 1 for 0 or infinity, softplus has chi_1 < 1 at every fixed point.
    """
    try:
        gain = critical_point(activation).sigma_w
    except ValueError:
        return math.nan
    reached = float(phase.phase_diagram(activation, gain).chi)
    return gain if abs(reached - 1) <= _CRITICAL else math.nan


def torch_gain(name: str, slope: float = 0.01) -> float:
    """What torch's ``calculate_gain`` recommends for an activation; nan where it has no entry.

    linear and sigmoid 1, ReLU sqrt(2), leaky ReLU sqrt(2 / (1 + slope^2)): those of ReLU and linear
    keep both passes.  tanh 5/3 lies above its 1.5925 at q = 1 and above its critical 1: it holds
    activations at .6514 and lets gradients grow by 1.0999 a layer.  SELU's 3/4, found empirically
    (pytorch pull request 50664), lies between its forward 1 and its critical .6905: gradients grow
    by 1.0018, but the rms settles at .2024 rather than 1.  The sigmoid's 1 keeps neither pass
    (critical: 10.149).  None of them depends on q, and GELU and SiLU have none.
    Raises ValueError if the slope is not finite or the activation not one of ``atlas.names()``.
    """
    finite("slope", slope)
    if name not in names():
        raise ValueError(f"name={name!r}: must be one of {', '.join(names())}")
    if name == "leaky_relu":
        return math.sqrt(2 / (1 + slope * slope))
    return _TORCH_GAINS.get(name, math.nan)


class Moments(NamedTuple):
    """An activation under N(0, q): its moments, and the gains and rates that follow."""

    mean: float
    second: float
    variance: float
    slope: float  # E phi'^2
    forward_gain: float
    backward_gain: float
    std_gain: float  # sqrt(q / Var phi)
    chi: float  # at the forward gain
    batch_norm_rate: float  # q E phi'^2 / Var phi
    slope_kurtosis: float  # E phi'^4 / (E phi'^2)^2


def moments(activation: Nonlinearity, q: float = 1.0) -> Moments:
    """E phi, E phi^2, Var phi, E phi'^2 and what they decide, at preactivation variance q.

    ``batch_norm_rate``: the factor per layer of a squared gradient under batch normalization of
    large batches (Yang et al. 2019, arXiv 1902.08129), above 1 but for linear phi;
    ``slope_kurtosis``: what spreads the Jacobian's singular values (Pennington et al. 2017).
    Raises ValueError if q is not finite and positive, or phi is constant there.
    """
    positives("q", q)
    mean = float(activation.expectation(activation.phi, q))
    second = float(activation.second_moment(q))
    variance = float(activation.expectation(lambda u: (activation.phi(u) - mean) ** 2, q))
    slope = float(activation.slope_moment(q))
    fourth = float(activation.expectation(lambda u: activation.dphi(u) ** 4, q))
    if not min(variance, slope) > 0:
        raise ValueError(f"q={q!r}: the activation is constant there")
    return Moments(
        mean,
        second,
        variance,
        slope,
        math.sqrt(q / second),
        1 / math.sqrt(slope),
        math.sqrt(q / variance),
        q * slope / second,
        q * slope / variance,
        fourth / slope**2,
    )


def default_variance(fan_in: int) -> float:
    """1 / (3 fan_in): of weights and biases of ``torch.nn.Linear``, uniform on +-1 / sqrt(fan_in).

    Its gain is 1 / sqrt(3), whatever the activation; He's for ReLU is sqrt(2).
    Raises ValueError if the fan is below 1.
    """
    whole("fan_in", fan_in)
    return 1 / (3 * fan_in)


def default_relu_moments(depth: int, width: int, start: float = 1.0) -> Array:
    """E ||h^l||^2 / n for l = 0 ... depth under torch's default ReLU layers, exact at any width.

    m' = m / 6 + 1 / (6 n) from m = ``start``: given the layer below, a preactivation is symmetric
    with variance (m + 1/n) / 3, of which ReLU keeps half.  What remains after the factors 1/6 is
    the biases' 1 / (5 n), which does not depend on the input.
    Raises ValueError if depth is negative, the width is below 1 or start is negative.
    """
    whole("depth", depth, 0)
    whole("width", width)
    floor = 1 / (5 * width)
    first = float(nonnegative("start", start))
    values: Array = floor + (first - floor) / 6.0 ** np.arange(depth + 1, dtype=np.float64)
    return values


def default_floor(activation: Nonlinearity, width: int) -> float:
    """E phi^2 that deep layers of torch's default keep, of biases alone (mean field).

    1 / (5 n) for ReLU, 1 / (2 n) for linear and, to leading order, tanh.
    Raises ValueError if the width is below 1.
    """
    whole("width", width)
    sigma = math.sqrt(default_variance(width))
    q = phase.fixed_point(activation, math.sqrt(width) * sigma, sigma)
    return float(activation.second_moment(q))


class Profile(NamedTuple):
    """ln of mean squares by layer l = 1 ... L, relative to the input's and to the top gradient's.

    ``signal``: of h^(l-1), the layer's input; ``gradient``: of dC/dz^l; ``weight``: of dC/dW^l,
    their sum.
    """

    signal: Array
    gradient: Array
    weight: Array


def linear_profile(depth: int, gain: float) -> Profile:
    """(l-1), (L-l) and (L-1) times ln gain^2: the last is the same in every layer.

    Square linear layers of weights of variance gain^2 / n, exact at any n: weight gradients are
    equal although signals shrink upwards and gradients downwards (Glorot & Bengio 2010, eq. 14).
    Raises ValueError if depth < 1 or the gain is not finite and positive.
    """
    whole("depth", depth)
    positive("gain", gain)
    steps = np.arange(depth, dtype=np.float64) * (2 * math.log(gain))
    return Profile(steps, steps[::-1], np.full(depth, steps[-1]))


def layer_log_gradient(
    q: ArrayLike, activation: Nonlinearity, gain: float, width: int, *, orthogonal: bool = False
) -> Array:
    """E ln of the factor by which a layer multiplies a squared gradient norm, of q's shape.

    ln(gain^2 E phi'(z)^2) at preactivation variance ``q`` (Schoenholz et al. 2017, eq. 5), and of
    first order in 1 / width: psi(n / 2) + ln(2 / n) of Gaussian weights, none of orthogonal ones,
    and -3 / (2n) (E phi'^4 / (E phi'^2)^2 - 1), half the relative variance of a Gaussian-weighted
    mean of phi'^2; neglects O(1 / n^2), and what q's own fluctuations do.  nan where the last term
    exceeds a quarter.
    Raises ValueError if q or the gain is not positive or the width is below 1.
    """
    variance = positives("q", q)
    positive("gain", gain)
    whole("width", width)
    second = activation.slope_moment(variance)
    fourth = activation.expectation(lambda u: activation.dphi(u) ** 4, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = 1.5 / width * (fourth / second**2 - 1)
        logs = np.log(gain**2 * second) - spread
    if not orthogonal:
        logs = logs + linear_log_norm(width).mean
    result: Array = np.where(spread > _FIRST_ORDER, np.nan, logs)[()]
    return result


def gradient_decades(
    depth: int,
    activation: Nonlinearity,
    gain: float,
    width: int,
    format: Format,
    *,
    orthogonal: bool = False,
    homogeneous: bool = False,
    relu: bool = False,
) -> float:
    """E log10(|dL/dh^1| / |dL/dh^L|) in square layers, for an input of mean square 1.

    The sum of ``layer_log_gradient`` along the mean-field variances; for a ``relu`` layer of
    Gaussian weights the exact mean of its forward pass, whose law the backward pass shares up to
    O(1/n^2).  nan where the first order won't do, or, unless phi is ``homogeneous``, the signal
    nears the ends of the format's range (a vanishing one only if phi has its kink at 0).
    Raises ValueError if depth or width is not whole and at least 1 or the gain not finite and
    positive.
    """
    whole("depth", depth)
    positive("gain", gain)
    whole("width", width)
    q = meanfield.variances(depth, min(gain**2, meanfield.LARGEST), activation, gain)[1:]
    lost = 0.0 in activation.kinks and q.min(initial=math.inf) < format.smallest_normal
    if not homogeneous and (lost or q.max(initial=0.0) > format.max):
        return math.nan
    q = np.clip(q, 1 / meanfield.LARGEST**20, meanfield.LARGEST)
    if relu and not orthogonal:
        logs = np.full_like(q, relu_log_norm(width, gain).mean)
    else:
        logs = layer_log_gradient(q, activation, gain, width, orthogonal=orthogonal)
    return float(logs.sum() / (2 * math.log(10)))


def weight_profile(gradient: ArrayLike, signal: ArrayLike) -> Array:
    """Logarithms of |dC/dW^l| / |dC/dW^L| from those of |dC/dz^l| and |h^(l-1)|, broadcast.

    Their sums less the last layer's (Glorot & Bengio 2010, eq. 6).  Infinities and nans pass.
    """
    total = np.asarray(gradient, dtype=np.float64) + np.asarray(signal, dtype=np.float64)
    profile: Array = total - total[..., -1:]
    return profile
