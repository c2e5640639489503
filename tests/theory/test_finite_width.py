"""Finite-width laws against 30-digit mixtures, exact enumeration and a simulated network."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stability.theory import finite_width as fw

LAW = settings(deadline=None, max_examples=30)


def exact_relu(width: int) -> tuple[float, float]:
    """Mean and variance of ln(2 chi^2_K / n), K ~ Binomial(n, 1/2) given K >= 1."""
    with mp.workdps(30):
        total = mp.mpf(2) ** width - 1
        first = second = mp.mpf(0)
        for k in range(1, width + 1):
            mass = mp.binomial(width, k) / total
            level = mp.digamma(mp.mpf(k) / 2) + mp.log(mp.mpf(4) / width)
            first += mass * level
            second += mass * (mp.psi(1, mp.mpf(k) / 2) + level**2)
        return float(first), float(second - first**2)


@pytest.mark.parametrize("width", [1, 2, 7, 64, 257])
def test_relu_against_mpmath(width: int) -> None:
    mean, variance = exact_relu(width)
    measured = fw.relu_log_norm(width)
    assert measured.mean == pytest.approx(mean, rel=1e-11, abs=1e-12)
    assert measured.variance == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize(
    ("width", "relu_mean", "relu_variance", "mean", "variance"),
    [
        (16, -0.176397, 0.419593, -0.063800, 0.133137),
        (32, -0.082540, 0.177498, -0.031575, 0.064494),
        (64, -0.040109, 0.082997, -0.015706, 0.031743),
        (128, -0.019786, 0.040234, -0.007833, 0.015748),
        (256, -0.009829, 0.019819, -0.003911, 0.007843),
    ],
)
def test_the_table_of_increments(
    width: int, relu_mean: float, relu_variance: float, mean: float, variance: float
) -> None:
    assert fw.relu_log_norm(width) == pytest.approx((relu_mean, relu_variance), abs=6e-7)
    assert fw.linear_log_norm(width) == pytest.approx((mean, variance), abs=6e-7)


@pytest.mark.parametrize("depth", [4])
def test_a_simulated_relu_network_obeys_the_law(depth: int) -> None:
    # 4 standard errors on a mean and on a variance: false alarm below 2e-4 for the fixed seed.
    rng, width, draws = np.random.default_rng(0), 12, 20_000
    h = np.zeros((draws, width))
    h[:, 0] = math.sqrt(width)
    for _ in range(depth):
        weights = rng.standard_normal((draws, width, width)) * math.sqrt(2 / width)
        h = np.maximum(np.einsum("di,dij->dj", h, weights), 0)
    log_size = np.log((h**2).mean(axis=1)[(h != 0).any(axis=1)])
    law = fw.relu_log_norm(width)
    error = math.sqrt(log_size.var() / log_size.size)
    assert log_size.mean() == pytest.approx(depth * law.mean, abs=4 * error)
    spread = np.mean((log_size - log_size.mean()) ** 4) / log_size.var() ** 2
    error = log_size.var() * math.sqrt((spread - 1) / log_size.size)
    assert log_size.var() == pytest.approx(depth * law.variance, abs=4 * error)


@LAW
@given(width=st.integers(1, 2000), sigma_w=st.floats(0.1, 10))
def test_the_gain_shifts_the_mean_alone(width: int, sigma_w: float) -> None:
    for law, critical in ((fw.relu_log_norm, math.sqrt(2)), (fw.linear_log_norm, 1.0)):
        base, moved = law(width), law(width, sigma_w)
        assert moved.mean - base.mean == pytest.approx(2 * math.log(sigma_w / critical), abs=1e-11)
        assert moved.variance == base.variance
        assert base.mean < 0  # Jensen: the mean square itself is kept


def test_large_widths_approach_the_log_normal_limit() -> None:
    # The corrections are of relative order 1 / n.
    for width in (10**3, 10**5):
        for law, slope in ((fw.relu_log_norm, 0.0), (fw.linear_log_norm, 1.0)):
            beta, exact = fw.log_normal_variance([width], slope), law(width)
            assert exact.variance == pytest.approx(beta, rel=10 / width)
            assert exact.mean == pytest.approx(-beta / 2, rel=10 / width)


def test_log_normal_coefficients() -> None:
    assert fw.log_normal_coefficient() == 5
    assert fw.log_normal_coefficient(1.0) == 2
    assert fw.log_normal_coefficient(-1.0) == 2
    assert fw.log_normal_coefficient(0.1) == pytest.approx(4.882, abs=5e-4)
    assert fw.log_normal_coefficient(0.25) == pytest.approx(4.336, abs=5e-4)
    assert fw.log_normal_coefficient(1e-320) == 5
    assert fw.log_normal_coefficient(1e300) == 5
    assert fw.log_normal_variance([10, 20, 20]) == pytest.approx(1.0, rel=1e-15)
    assert fw.log_normal_variance([]) == 0


@LAW
@given(slope=st.floats(-20, 20))
def test_the_coefficient_is_the_relative_variance_of_one_unit(slope: float) -> None:
    # E z_+^2 = 1/2 and E z_+^4 = 3/2, from each side.
    second, fourth = (1 + slope**2) / 2, 3 * (1 + slope**4) / 2
    expected = fourth / second**2 - 1
    assert fw.log_normal_coefficient(slope) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2)])
def test_dead_networks_by_enumeration(width: int, depth: int) -> None:
    dead = total = 0
    for signs in itertools.product((0, 1), repeat=width * depth):
        layers = [signs[i : i + width] for i in range(0, width * depth, width)]
        dead += any(not any(layer) for layer in layers)
        total += 1
    assert fw.dead_probability(width, depth) == pytest.approx(float(Fraction(dead, total)))


def test_published_dead_probabilities_and_limits() -> None:
    for width, depth, value in ((2, 5, 0.7627), (3, 10, 0.7369), (5, 50, 0.7956), (6, 30, 0.3765)):
        assert fw.dead_probability(width, depth) == pytest.approx(value, abs=5e-5)
    assert fw.dead_probability(100, 10) == pytest.approx(10 * 2.0**-100, rel=1e-12)
    assert fw.dead_probability(1, 0) == fw.dead_probability(9, 0) == 0


@pytest.mark.parametrize("bad", [0, -3, math.nan])
def test_bad_widths_are_named(bad: int) -> None:
    for function in (fw.relu_log_norm, fw.linear_log_norm, lambda n: fw.dead_probability(n, 1)):
        with pytest.raises(ValueError, match=r"^width="):
            function(bad)
    with pytest.raises(ValueError, match=r"^widths="):
        fw.log_normal_variance([4, bad])
    with pytest.raises(ValueError, match=r"^depth="):
        fw.dead_probability(4, min(bad, -1))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_gains_and_slopes_are_named(bad: float) -> None:
    for law in (fw.relu_log_norm, fw.linear_log_norm):
        with pytest.raises(ValueError, match=r"^sigma_w="):
            law(4, bad)
    if not math.isfinite(bad):
        with pytest.raises(ValueError, match=r"^slope="):
            fw.log_normal_coefficient(bad)


def layer_by_transform(width: int, slope: float) -> tuple[float, float]:
    """Mean and variance of ln S, S = sum phi(z_i)^2, from its Laplace transform alone.

    E exp(-S e^u) = P(ln X - ln S > u) with X standard exponential and independent of S: integrals
    of that tail by u give the moments of ln X - ln S; ln X has mean -gamma, variance pi^2 / 6.
    """
    with mp.workdps(30):
        a2 = mp.mpf(slope) ** 2
        whole = mp.mpf(2) ** -width if slope == 0 else mp.mpf(0)

        def tail(u: mp.mpf) -> mp.mpf:
            s = 2 * mp.exp(u)
            raw = ((1 / mp.sqrt(1 + s) + 1 / mp.sqrt(1 + a2 * s)) / 2) ** width
            return (raw - whole) / (1 - whole)

        cuts = [-90, -40, -20, -10, -6, -3, -1, 0]
        up = [0, 1, 3, 6, 10, 20, 40, 90, 150]
        first = mp.quad(tail, up) - mp.quad(lambda u: 1 - tail(u), cuts)
        second = mp.quad(lambda u: 2 * u * tail(u), up) - mp.quad(
            lambda u: 2 * u * (1 - tail(u)), cuts
        )
        mean = -mp.euler - first
        return float(mean), float(second - first**2 - mp.pi**2 / 6)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.25, 0.9, -0.5, 1.0, 3.0])
@pytest.mark.parametrize("width", [1, 2, 9, 40])
def test_a_leaky_layer_against_its_laplace_transform(width: int, slope: float) -> None:
    mean, variance = layer_by_transform(width, slope)
    law = fw.leaky_log_norm(width, slope, 1.0)
    assert law.mean == pytest.approx(mean - math.log(width), abs=1e-11)
    assert law.variance == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("width", [1, 3, 64, 1000])
def test_a_leaky_layer_has_the_other_two_as_limits(width: int) -> None:
    assert fw.leaky_log_norm(width, 0.0) == pytest.approx(fw.relu_log_norm(width), abs=1e-13)
    assert fw.leaky_log_norm(width, 1.0) == pytest.approx(fw.linear_log_norm(width), abs=1e-13)


@LAW
@given(width=st.integers(1, 300), slope=st.floats(0.01, 100))
def test_a_slope_and_its_inverse_have_one_law(width: int, slope: float) -> None:
    one, other = fw.leaky_log_norm(width, slope), fw.leaky_log_norm(width, 1 / slope)
    assert one.mean == pytest.approx(other.mean, abs=1e-11)
    assert one.variance == pytest.approx(other.variance, rel=1e-10)
    assert one == fw.leaky_log_norm(width, -slope)


def simulated(width: int, depth: int, slope: float, draws: int) -> fw.Array:
    """ln(||h^L||^2 / ||x||^2) of networks with explicit matrices."""
    rng = np.random.default_rng(1)
    h = np.ones((draws, width))
    for _ in range(depth):
        z = np.einsum("di,dij->dj", h, rng.standard_normal((draws, width, width)))
        h = np.where(z > 0, z, slope * z) * math.sqrt(2 / (1 + slope**2) / width)
    with np.errstate(divide="ignore"):
        logs: fw.Array = np.log((h**2).mean(axis=1))
    return logs


@pytest.mark.parametrize(("width", "depth", "slope"), [(5, 6, 0.0), (8, 5, 0.25), (6, 4, 1.0)])
def test_simulated_networks_follow_the_whole_law(width: int, depth: int, slope: float) -> None:
    # Kolmogorov-Smirnov's distance at level 1e-6, dead networks at minus infinity.
    logs = np.sort(simulated(width, depth, slope, 20_000))
    law = fw.log_norm_cdf(np.maximum(logs, -300), width, depth, slope)
    steps = np.arange(1, logs.size + 1) / logs.size
    dead = logs == -math.inf
    assert np.abs(law - steps)[~dead].max() < stats.kstwobign.isf(1e-6) / math.sqrt(logs.size)
    share = fw.dead_probability(width, depth) if slope == 0 else 0.0
    assert dead.mean() == pytest.approx(share, abs=5 * math.sqrt(share / logs.size) + 1e-300)


def test_the_published_law_of_32_layers_of_32() -> None:
    assert math.exp(fw.log_norm_quantiles(0.5, 32, 32)) == pytest.approx(0.074, abs=5e-4)
    assert fw.log_norm_cdf(math.log(0.01), 32, 32) == pytest.approx(0.203, abs=5e-4)
    assert 1 - fw.log_norm_cdf(math.log(10), 32, 32) == pytest.approx(0.016, abs=5e-4)
    law = fw.relu_log_norm(32)
    assert 32 * law.mean == pytest.approx(-2.641, abs=5e-4)
    assert 32 * law.variance == pytest.approx(5.680, abs=5e-4)
    assert math.exp(math.sqrt(fw.log_normal_variance([32] * 32))) == pytest.approx(9.4, abs=0.05)


def test_the_leaky_networks_of_the_published_table() -> None:
    for width, depth, slope, variance in ((40, 20, 0.25, 2.308), (24, 30, 0.1, 7.167)):
        law = fw.leaky_log_norm(width, slope)
        assert depth * law.variance == pytest.approx(variance, abs=6e-4)


@LAW
@given(
    width=st.integers(1, 60),
    depth=st.integers(1, 40),
    slope=st.sampled_from([0.0, 0.1, 1.0]),
    p=st.floats(1e-4, 1 - 1e-4),
)
def test_quantiles_invert_the_law(width: int, depth: int, slope: float, p: float) -> None:
    x = fw.log_norm_quantiles(p, width, depth, slope)
    if x > -math.inf:
        assert fw.log_norm_cdf(x, width, depth, slope) == pytest.approx(p, abs=1e-10)
    else:
        assert p <= fw.dead_probability(width, depth)


@LAW
@given(width=st.integers(1, 60), depth=st.integers(1, 40), slope=st.sampled_from([0.0, 0.1, 1.0]))
def test_the_law_rises_from_the_dead_to_one(width: int, depth: int, slope: float) -> None:
    values = fw.log_norm_cdf(np.linspace(-400, 100, 400), width, depth, slope)
    assert (np.diff(values) > -1e-11).all()
    dead = fw.dead_probability(width, depth) if slope == 0 else 0.0
    assert values[0] >= dead - 1e-15
    assert values[-1] == pytest.approx(1, abs=1e-11)


@LAW
@given(width=st.integers(1, 60), depth=st.integers(1, 9), gain=st.floats(0.3, 3))
def test_the_gain_shifts_the_law(width: int, depth: int, gain: float) -> None:
    shift = 2 * depth * math.log(gain / math.sqrt(2))
    x = np.linspace(-8, 3, 7)
    moved = fw.log_norm_cdf(x + shift, width, depth, 0.0, gain)
    assert moved == pytest.approx(fw.log_norm_cdf(x, width, depth), abs=1e-10)


def test_fourth_powers() -> None:
    assert fw.mean_fourth_power([32] * 32) == pytest.approx((1 + 5 / 32) ** 32, rel=1e-14)
    assert fw.mean_fourth_power([10, 20], 1.0) == pytest.approx(1.2 * 1.1, rel=1e-14)
    assert fw.mean_fourth_power([]) == 1


def test_bad_arguments_of_the_law_are_named() -> None:
    for call, name in (
        (lambda: fw.log_norm_cdf(0.0, 0, 3), "width"),
        (lambda: fw.log_norm_cdf(0.0, 3, 0), "depth"),
        (lambda: fw.log_norm_cdf(0.0, 3, 3, math.nan), "slope"),
        (lambda: fw.log_norm_cdf(0.0, 3, 3, 0.0, -1.0), "sigma_w"),
        (lambda: fw.log_norm_quantiles(0.0, 3, 3), "p"),
        (lambda: fw.log_norm_quantiles([0.5, 1.0], 3, 3), "p"),
        (lambda: fw.leaky_log_norm(3, math.inf), "slope"),
        (lambda: fw.mean_fourth_power([3, 0]), "widths"),
        (lambda: fw.keeping_gain(math.nan), "slope"),
    ):
        with pytest.raises(ValueError, match=f"^{name}="):
            call()


def relative(pairs: list[tuple[float, float]]) -> float:
    return max(abs(found - true) / abs(true) for found, true in pairs)


def worst_relu() -> float:
    pairs = []
    for width in (1, 2, 7, 64, 257):
        pairs += list(zip(fw.relu_log_norm(width), exact_relu(width), strict=True))
    return relative(pairs)


def worst_linear() -> float:
    pairs = []
    for width in (1, 5, 100, 10**6):
        mean = mp.digamma(mp.mpf(width) / 2) + mp.log(mp.mpf(2) / width)
        law = fw.linear_log_norm(width)
        pairs += [(law.mean, float(mean)), (law.variance, float(mp.psi(1, mp.mpf(width) / 2)))]
    return relative(pairs)


def worst_leaky() -> float:
    pairs = []
    for width, slope in ((2, 0.01), (9, 0.25), (40, 0.5)):
        mean, variance = layer_by_transform(width, slope)
        law = fw.leaky_log_norm(width, slope, 1.0)
        pairs += [(law.mean, mean - math.log(width)), (law.variance, variance)]
    return relative(pairs)


def worst_cdf() -> float:
    """One layer: chi^2 and its binomial mixture; linear layers of width 2: sums of ln Exp."""
    worst = 0.0
    for width in (1, 5, 100, 1000):
        x = np.linspace(-6, 3, 40) * math.sqrt(2 / width)
        count = np.arange(1, width + 1)
        mass = stats.binom.pmf(count, width, 0.5)
        mixed = stats.chi2.cdf(width / 2 * np.exp(x)[:, None], count) @ mass + 0.5**width
        plain = stats.chi2.cdf(width * np.exp(x), width)
        for found, true in ((fw.log_norm_cdf(x, width, 1), mixed),
                            (fw.log_norm_cdf(x, width, 1, 1.0), plain)):  # fmt: skip
            worst = max(worst, float(np.abs(found / true - 1)[true > 1e-3].max()))
    for level in (-4.0, 0.5):
        # P(X1 X2 <= t) for standard exponentials is 1 - 2 sqrt(t) K_1(2 sqrt(t)).
        root = mp.sqrt(mp.exp(level))
        true_two = float(1 - 2 * root * mp.besselk(1, 2 * root))
        worst = max(worst, abs(float(fw.log_norm_cdf(level, 2, 2, 1.0)) / true_two - 1))
    return worst


def worst_quantiles() -> float:
    p = np.array([1e-3, 0.1, 0.5, 0.99])
    pairs = []
    for width in (1, 5, 100):
        true = np.log(stats.chi2.ppf(p, width) / width)
        pairs += list(zip(fw.log_norm_quantiles(p, width, 1, 1.0), true, strict=True))
    return relative(pairs)


def worst_dead() -> float:
    pairs = [
        (fw.dead_probability(n, depth), float(1 - (1 - Fraction(1, 2**n)) ** depth))
        for n, depth in ((1, 1), (2, 5), (6, 30), (60, 100), (500, 7))
    ]
    return relative(pairs)


def worst_coefficient() -> float:
    pairs = []
    for slope in (0.0, 0.01, 0.25, 1.0, 7.0):
        a2 = Fraction(slope) ** 2
        true = float(6 * (1 + a2**2) / (1 + a2) ** 2 - 1)
        pairs.append((fw.log_normal_coefficient(slope), true))
        pairs.append((fw.log_normal_variance([8] * 16, slope), 2 * true))
    return relative(pairs)


def worst_fourth() -> float:
    powers = [(n, depth, Fraction(n + 5, n) ** depth) for n, depth in ((1, 3), (32, 32), (999, 9))]
    return relative([(fw.mean_fourth_power([n] * d), float(true)) for n, d, true in powers])


def worst_gain() -> float:
    return relative(
        [(fw.keeping_gain(a), float(mp.sqrt(2 / (1 + mp.mpf(a) ** 2)))) for a in (0, 0.25, 1, 1e3)]
    )


_HANIN = "Hanin & Nica 2020"

ACCURACY = [
    Case("finite_width.keeping_gain", "gain that keeps the mean square", "He et al. 2015, eq. 15",
         "slope 0 to 1000", "mpmath", 1e-15, worst_gain),
    Case("finite_width.linear_log_norm", "mean and variance of ln of a linear layer's factor",
         _HANIN, "width 1 to 1e6", "mpmath digamma, trigamma", 1e-9, worst_linear),
    Case("finite_width.relu_log_norm", "mean and variance of ln of a ReLU layer's factor", _HANIN,
         "width 1 to 257", "30-digit binomial mixture", 1e-10, worst_relu),
    Case("finite_width.leaky_log_norm", "mean and variance of ln of a leaky ReLU layer's factor",
         _HANIN, "width 2 to 40, slope 0.01 to 0.5", "30-digit integrals of the Laplace transform",
         1e-11, worst_leaky),
    Case("finite_width.log_norm_cdf", "law of ln of the squared norm after L layers",
         "Hanin & Nica 2020; Davies 1973", "probabilities above 1e-3, width 1 to 1000",
         "chi-square mixtures; Bessel law of a product", 1e-9, worst_cdf),
    Case("finite_width.log_norm_quantiles", "quantiles of that law", "inverse of the law",
         "p 1e-3 to 0.99, width 1 to 100, linear", "chi-square quantiles", 1e-8, worst_quantiles),
    Case("finite_width.log_normal_coefficient", "c(a), variance of one layer times its width",
         "Hanin & Nica 2020", "slope 0 to 7", "rational arithmetic", 1e-14, worst_coefficient),
    Case("finite_width.log_normal_variance", "beta of the wide limit; neglects O(L / n^2)",
         "Hanin & Nica 2020", "16 layers of 8", "rational arithmetic", 1e-14,
         worst_coefficient),
    Case("finite_width.mean_fourth_power", "E of the squared mean square over its start",
         "Hanin 2018", "width 1 to 999, depth 3 to 32", "rational arithmetic", 1e-13,
         worst_fourth),
    Case("finite_width.dead_probability", "probability that a ReLU network is dead",
         "Lu et al. 2019", "width 1 to 500, depth 1 to 100", "rational arithmetic", 1e-13,
         worst_dead),
]  # fmt: skip
