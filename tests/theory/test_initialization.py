"""Gains against published tables, simulated layers, torch and mpmath."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stability.catalogue.activations import ACTIVATIONS, prelu
from stability.catalogue.initializations import INITIALIZATIONS
from stability.theory import finite_width, phase
from stability.theory import initialization as ini
from stability.theory.floating_point import FORMATS, loss_depth

LAW = settings(deadline=None, max_examples=30)
TABLE: Any = torch.nn.init.calculate_gain

# E phi, E phi^2, Var phi, E phi'^2, 1 / sqrt(E phi^2), 1 / sqrt(E phi'^2), chi_1 at the former,
# D / Var, its root, E phi'^4 / D^2 under N(0, 1): adaptive quadrature, six digits.
ATLAS = {
    "linear": (0, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "relu": (.398942, .5, .340845, .5, 1.41421, 1.41421, 1, 1.46694, 1.21117, 2),
    "leaky_relu": (.394953, .500050, .344062, .500050, 1.41414, 1.41414, 1, 1.45337, 1.20556,
                   1.99960),
    "prelu": (.299207, .531250, .441725, .531250, 1.37199, 1.37199, 1, 1.20267, 1.09666, 1.77855),
    "tanh": (0, .394294, .394294, .464403, 1.59254, 1.46741, 1.17781, 1.17781, 1.08527, 1.58348),
    "sigmoid": (.5, .293379, .043379, .044836, 1.84623, 4.72265, .15283, 1.03359, 1.01666, 1.13698),
    "silu": (.206621, .355776, .313083, .379482, 1.67653, 1.62332, 1.06663, 1.21208, 1.10095,
             1.99005),
    "gelu": (.282095, .425221, .345644, .455851, 1.53353, 1.48111, 1.07203, 1.31884, 1.14841,
             2.08833),
    "elu": (.160521, .644945, .619179, .668102, 1.24520, 1.22343, 1.03590, 1.07901, 1.03876,
            1.33168),
    "selu": (0, 1, 1, 1.071575, 1, .96603, 1.07157, 1.07157, 1.03517, 1.31620),
    "softsign": (0, .183014, .183014, .227671, 2.33753, 2.09578, 1.24401, 1.24401, 1.11535,
                 2.13645),
    "softplus": (.806059, .921246, .271515, .293379, 1.04187, 1.84623, .31846, 1.08053, 1.03948,
                 1.52890),
    "erf": (0, .464559, .464559, .569410, 1.46717, 1.32522, 1.22570, 1.22570, 1.10711, 1.66667),
    "hardtanh": (0, .516059, .516059, .682689, 1.39204, 1.21029, 1.32289, 1.32289, 1.15017,
                 1.46479),
}  # fmt: skip


@pytest.mark.parametrize("name", ATLAS)
def test_the_atlas_to_every_printed_digit(name: str) -> None:
    found = ini.moments(ACTIVATIONS[name])
    row = (
        found.mean, found.second, found.variance, found.slope, found.forward_gain,
        found.backward_gain, found.chi, found.batch_norm_rate, math.sqrt(found.batch_norm_rate),
        found.slope_kurtosis,
    )  # fmt: skip
    for value, printed in zip(row, ATLAS[name], strict=True):
        digits = 6 if abs(printed) < 1 and printed not in (0.15283, 0.31846, 0.96603) else 5
        assert value == pytest.approx(printed, abs=0.5001 * 10.0**-digits)


@pytest.mark.parametrize(
    ("name", "gain"),
    [("tanh", 1.5925), ("sigmoid", 4.8013), ("relu", 1.7129), ("elu", 1.2708), ("selu", 1.0)],
)
def test_gains_of_standardized_activations(name: str, gain: float) -> None:
    assert ini.moments(ACTIVATIONS[name]).std_gain == pytest.approx(gain, abs=5.01e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_poincare_inequality_is_sharp_for_linear_alone(name: str) -> None:
    for q in (0.1, 1.0, 50.0):
        rate = ini.moments(ACTIVATIONS[name], q).batch_norm_rate
        assert rate >= 1 - 1e-10
        assert (rate < 1 + 1e-10) == (name == "linear")


def test_the_fixed_points_of_selu() -> None:
    """Mean and variance (0, 1) contract: d mean / d var = .088835, d var / d var = .782648."""
    selu = ACTIVATIONS["selu"]
    assert float(selu.growth(1.0)) == pytest.approx(0.782648, abs=5.01e-7)
    bend = float(selu.expectation(selu.d2phi, 1.0)) + selu.jumps()[0] / math.sqrt(2 * math.pi)
    assert bend / 2 == pytest.approx(0.088835, abs=5.01e-7)


def test_what_the_tabulated_gains_do() -> None:
    tanh = phase.phase_diagram(ACTIVATIONS["tanh"], 5 / 3)
    assert float(tanh.q) == pytest.approx(1.17848, abs=5.01e-6)
    assert float(tanh.chi) == pytest.approx(1.20983, abs=5.01e-6)
    assert math.sqrt(float(tanh.chi)) == pytest.approx(1.09992, abs=5.01e-6)
    assert math.sqrt(ACTIVATIONS["tanh"].second_moment(tanh.q)) == pytest.approx(0.65135, abs=5e-6)
    selu = phase.phase_diagram(ACTIVATIONS["selu"], 0.75)
    assert math.sqrt(ACTIVATIONS["selu"].second_moment(selu.q)) == pytest.approx(0.20236, abs=5e-6)
    assert float(selu.chi) == pytest.approx(1.0037, abs=5e-5)


@pytest.mark.parametrize(
    ("gain", "bias", "chi", "decades"),
    [(1.0, 0.0, 0.0557207, -0.62699), (3**-0.5, 3**-0.5 / 16, None, -0.84953),
     (2.0, 0.0, 0.17158, None), (4.0, 0.0, 0.39888, None)],
)  # fmt: skip
def test_sigmoids_vanish(
    gain: float, bias: float, chi: float | None, decades: float | None
) -> None:
    found = phase.phase_diagram(ACTIVATIONS["sigmoid"], gain, bias)
    if chi is not None:
        assert float(found.chi) == pytest.approx(chi, abs=5.01e-6)
    if decades is not None:
        rate = float(phase.gradient_decades(ACTIVATIONS["sigmoid"], gain, bias))
        assert rate == pytest.approx(decades, abs=5.01e-6)
        half, single = (float(loss_depth(rate, 0.0, FORMATS[f])) for f in ("float16", "float32"))
        assert (half, single) == ((12, 72) if gain == 1 else (9, 53))


def test_relus_and_tanhs_rates_under_the_default() -> None:
    third = 3**-0.5
    relu = float(phase.gradient_decades(ACTIVATIONS["relu"], third))
    assert relu == pytest.approx(-0.3891, abs=5.01e-5)
    tanh = float(phase.gradient_decades(ACTIVATIONS["tanh"], third, third / 16))
    assert tanh == pytest.approx(-0.2394, abs=5.01e-5)


CRITICAL = {
    "linear": 1, "relu": 2**0.5, "leaky_relu": (2 / 1.0001) ** 0.5, "prelu": (2 / 1.0625) ** 0.5,
    "sigmoid": 10.149, "tanh": 1, "erf": math.sqrt(math.pi) / 2, "gelu": None, "silu": None,
    "swish": None, "elu": 1, "selu": 0.690486, "softplus": None, "softsign": 1, "hardtanh": 1,
    "sin": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_critical_gains(name: str) -> None:
    entry, expected = ACTIVATIONS[name], CRITICAL[name]
    found = ini.critical_gain(entry)
    if expected is None:
        assert math.isnan(found)
        # E phi^2 / q increases: every fixed point repels; softplus: chi_1 < 1 wherever q is fixed.
        q = np.logspace(-4, 4, 60)
        ratio = entry.second_moment(q) / q
        repels = bool((np.diff(ratio) > 0).all())
        assert repels or bool((entry.slope_moment(q) < ratio).all())
    else:
        assert found == pytest.approx(expected, rel=5e-5)
        assert float(phase.phase_diagram(entry, found).chi) == pytest.approx(1, abs=1e-9)


def test_the_sigmoids_critical_point() -> None:
    q = float(phase.fixed_point(ACTIVATIONS["sigmoid"], ini.critical_gain(ACTIVATIONS["sigmoid"])))
    assert q == pytest.approx(45.6, abs=0.05)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "conv2d"])
def test_torchs_table(name: str) -> None:
    try:
        expected = float(TABLE(name))
    except ValueError:
        assert math.isnan(ini.torch_gain(name))
        return
    if name != "conv2d":
        assert ini.torch_gain(name) == pytest.approx(expected, rel=4e-16)


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.5, 3.0])
def test_torchs_leaky_gain(slope: float) -> None:
    expected = float(torch.nn.init.calculate_gain("leaky_relu", slope))
    assert ini.torch_gain("leaky_relu", slope) == pytest.approx(expected, rel=4e-16)


@LAW
@given(q=st.floats(1e-6, 1e4))
def test_gains_at_other_variances(q: float) -> None:
    relu, erf = ACTIVATIONS["relu"], ACTIVATIONS["erf"]
    root = math.sqrt(2)
    assert float(ini.forward_preserving_gain(relu, q)) == pytest.approx(root)
    assert float(ini.backward_preserving_gain(relu, q)) == pytest.approx(root)
    forward = math.sqrt(q / (2 / math.pi * math.asin(2 * q / (1 + 2 * q))))
    backward = 1 / math.sqrt(4 / math.pi / math.sqrt(1 + 4 * q))
    assert float(ini.forward_preserving_gain(erf, q)) == pytest.approx(forward, rel=1e-10)
    assert float(ini.backward_preserving_gain(erf, q)) == pytest.approx(backward, rel=1e-10)
    assert backward <= forward


@LAW
@given(fan_in=st.integers(1, 10**6), fan_out=st.integers(1, 10**6))
def test_the_two_compromises(fan_in: int, fan_out: int) -> None:
    xavier, even = ini.xavier_gains(fan_in, fan_out), ini.geometric_gains(fan_in, fan_out)
    assert (xavier.forward + xavier.backward) / 2 == pytest.approx(1)
    assert xavier.forward * xavier.backward <= 1 + 1e-15
    assert even.forward * even.backward == pytest.approx(1)
    for gains in (xavier, even):
        assert gains.backward / gains.forward == pytest.approx(fan_out / fan_in)
    arithmetic, geometric = (fan_in + fan_out) / 2, math.sqrt(fan_in * fan_out)
    assert xavier.forward * xavier.backward == pytest.approx((geometric / arithmetic) ** 2)
    variance = INITIALIZATIONS["xavier"].std(fan_in, fan_out) ** 2
    assert xavier.forward == pytest.approx(ini.forward_gain(fan_in, variance))


@pytest.mark.parametrize(
    ("channels", "std"), [(64, 0.059), (128, 0.042), (256, 0.029), (512, 0.021)]
)
def test_hes_standard_deviations(channels: int, std: float) -> None:
    """Of 3 x 3 filters, sec. 2.2; with them a constant 0.01 loses 1.7e4 through VGG-B."""
    assert ini.he_std(9 * channels) == pytest.approx(std, abs=5.01e-4)
    assert ini.he_std(9 * channels, 0.25) * math.sqrt(1.0625) == pytest.approx(
        ini.he_std(9 * channels)
    )


def test_the_constant_scale_of_vgg() -> None:
    lost = 1.0
    for channels, layers in ((64, 1), (128, 2), (256, 2), (512, 4)):
        lost *= (ini.he_std(9 * channels) / 0.01) ** layers
    assert lost == pytest.approx(16729, abs=0.5)
    rounded = 5.9 * 4.2**2 * 2.9**2 * 2.1**4
    assert rounded == pytest.approx(17022, abs=1)
    # Xavier's std is He's over sqrt(2), a factor 2^(-L/2) after L layers.
    assert INITIALIZATIONS["xavier"].std(9, 9) == pytest.approx(ini.he_std(9) / math.sqrt(2))


def test_the_mean_singular_value_is_that_of_large_matrices() -> None:
    assert ini.mean_singular_value(1.0) == pytest.approx(0.84883, abs=5.01e-6)
    assert ini.mean_singular_value(3**-0.5) == pytest.approx(0.49007, abs=5.01e-6)
    n = 400
    weight = np.random.default_rng(0).standard_normal((n, n)) / math.sqrt(n)
    found = np.linalg.svd(weight, compute_uv=False).mean()
    # Linear statistics of singular values fluctuate by O(1 / n), as does their mean's bias.
    assert found == pytest.approx(ini.mean_singular_value(1.0), abs=2 / n)


def test_the_default_of_torch_has_its_variance() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layer = torch.nn.Linear(500, 400, dtype=torch.float64)
    predicted = ini.default_variance(500)
    # The square of a uniform has the relative variance 4/5; five standard errors: 6e-7.
    allowed = 5 * math.sqrt(0.8 / layer.weight.numel())
    assert float(layer.weight.square().mean().detach()) / predicted == pytest.approx(1, abs=allowed)
    assert float(layer.bias.abs().max().detach()) <= math.sqrt(3 * predicted)


def test_the_default_relu_network_speaks_of_its_biases() -> None:
    assert ini.default_relu_moments(30, 256)[-1] == pytest.approx(7.81e-4, abs=5.01e-7)
    for width in (3, 256):
        assert ini.default_floor(ACTIVATIONS["relu"], width) == pytest.approx(1 / (5 * width))
        assert ini.default_floor(ACTIVATIONS["linear"], width) == pytest.approx(1 / (2 * width))
    tanh = ini.default_floor(ACTIVATIONS["tanh"], 10**6)
    assert tanh == pytest.approx(5e-7, rel=1e-5)
    # The recursion of E h^2 from 1, one layer at a time: E relu(z)^2 = Var z / 2.
    moment = 1.0
    for value in ini.default_relu_moments(12, 7):
        assert value == pytest.approx(moment)
        moment = (moment / 3 + 1 / 21) / 2


def test_relu_ratios_of_the_second_moment() -> None:
    """Xavier 1/2, He 1, torch's default 1/6, N(0, s^2): n s^2 / 2."""
    n = 256
    found = [
        ini.forward_gain(n, INITIALIZATIONS[name].std(n, n) ** 2, 0.5)
        for name in ("xavier", "he", "uniform_third", "normal")
    ]
    assert found == pytest.approx([0.5, 1, 1 / 6, 0.0128])


@pytest.mark.parametrize("width", [64, 256, 1024, 10**4])
def test_a_constant_scale_is_right_at_one_width(width: int) -> None:
    slope = math.log10(ini.forward_gain(width, 1e-4)) / 2
    printed = {64: -1.10, 256: -0.796, 1024: -0.495, 10**4: 0.0}[width]
    assert slope == pytest.approx(printed, abs=4e-3)


def test_weight_gradients_of_linear_layers_against_their_product() -> None:
    """Glorot & Bengio 2010, eq. 14, by the trace of Haar-averaged layers: c Q, Q orthogonal."""
    rng = np.random.default_rng(2)
    weights = [0.6 * stats.ortho_group.rvs(5, random_state=rng) for _ in range(6)]
    x, g = rng.standard_normal(5), rng.standard_normal(5)
    inputs, profile = [x], ini.linear_profile(6, 0.6)
    for weight in weights[:-1]:
        inputs.append(weight @ inputs[-1])
    for layer, (weight, h) in enumerate(zip(weights[::-1], inputs[::-1], strict=True), 1):
        size = np.linalg.norm(np.outer(g, h)) ** 2 / (x @ x)
        if layer == 1:
            top = g @ g
        assert math.log(size / top) == pytest.approx(profile.weight[-layer], abs=1e-12)
        assert math.log(g @ g / top) == pytest.approx(profile.gradient[-layer], abs=1e-12)
        assert math.log(h @ h / (x @ x)) == pytest.approx(profile.signal[-layer], abs=1e-12)
        g = weight.T @ g


@pytest.mark.parametrize(
    ("name", "fan_in", "fan_out", "forward", "backward"),
    [
        ("xavier", 100, 400, 0.4, 1.6),
        ("xavier", 400, 100, 1.6, 0.4),
        ("he", 100, 400, 2, 8),
        ("he", 400, 100, 2, 0.5),
        ("normal", 100, 400, 0.01, 0.04),
        ("normal", 400, 100, 0.04, 0.01),
        ("uniform_third", 100, 400, 1 / 3, 4 / 3),
        ("uniform_third", 400, 100, 1 / 3, 1 / 12),
    ],
)
def test_gains_of_linear_layers(
    name: str, fan_in: int, fan_out: int, forward: float, backward: float
) -> None:
    variance = INITIALIZATIONS[name].std(fan_in, fan_out) ** 2
    assert ini.forward_gain(fan_in, variance) == pytest.approx(forward)
    assert ini.backward_gain(fan_out, variance) == pytest.approx(backward)


def test_he_keeps_relu_forward_and_xavier_halves_it() -> None:
    assert ini.forward_gain(300, 2 / 300, 0.5) == pytest.approx(1)
    assert ini.backward_gain(300, 1 / 300, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(7, 31), (31, 7), (13, 13)])
def test_orthogonal_gains_are_those_of_orthogonal_matrices(fan_in: int, fan_out: int) -> None:
    # Haar, so the mean square over random inputs is the trace: no sampling error.
    size = max(fan_in, fan_out)
    weight = stats.ortho_group.rvs(size, random_state=0)[:fan_in, :fan_out]
    forward = np.trace(weight @ weight.T) / fan_in * fan_in / fan_out
    backward = np.trace(weight @ weight.T) / fan_out * fan_out / fan_in
    assert ini.orthogonal_forward_gain(fan_in, fan_out) == pytest.approx(forward)
    assert ini.orthogonal_backward_gain(fan_in, fan_out) == pytest.approx(backward)


@pytest.mark.parametrize("cut", [1e-6, 0.1, 0.99, 1.01, 2.0, 6.0, 50.0])
def test_truncated_normal_against_mpmath(cut: float) -> None:
    with mp.workdps(30):
        x = mp.mpf(cut)
        density = mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)
        std = mp.sqrt(1 - 2 * x * density / mp.erf(x / mp.sqrt(2)))
    assert ini.truncated_normal_std(cut) == pytest.approx(float(std), rel=1e-12)


def test_truncated_normal_at_2_and_without_a_cut() -> None:
    assert ini.truncated_normal_std() == pytest.approx(0.8796256610, abs=1e-10)
    assert ini.truncated_normal_std(math.inf) == 1


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_a_layers_gradient_loses_what_its_signal_does(slope: float) -> None:
    """Leaky ReLU at the gain that keeps its square: to O(1 / n^2), at two widths, by their law."""
    gain = finite_width.keeping_gain(slope)
    rest = []
    for width in (100, 400):
        found = float(ini.layer_log_gradient(1.7, prelu(slope), gain, width))
        rest.append(width**2 * (found - finite_width.leaky_log_norm(width, slope).mean))
    assert rest[1] == pytest.approx(rest[0], rel=0.1, abs=1e-6)


def test_a_layers_gradient_where_the_first_order_says_nothing() -> None:
    """tanh at q = 1e4: hardly a unit passes anything, and which ones do decides."""
    tanh = ACTIVATIONS["tanh"]
    small, large = ini.layer_log_gradient([0.1, 1e4], tanh, 1.0, 30, orthogonal=True)
    assert math.isfinite(small)
    assert math.isnan(large)
    gaussian = float(ini.layer_log_gradient(0.1, tanh, 1.0, 30))
    assert small - gaussian == pytest.approx(1 / 30, rel=0.05)


def test_bad_arguments_are_named() -> None:
    tanh = ACTIVATIONS["tanh"]
    bad: Any
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^fan_in="):
            ini.forward_gain(bad, 1.0)
        with pytest.raises(ValueError, match=r"^fan_out="):
            ini.backward_gain(bad, 1.0)
        for compromise in (ini.orthogonal_forward_gain, ini.xavier_gains, ini.geometric_gains):
            with pytest.raises(ValueError, match=r"^fan_out="):
                compromise(3, bad)
            with pytest.raises(ValueError, match=r"^fan_in="):
                compromise(bad, 3)
        for fan in (ini.he_std, ini.default_variance):
            with pytest.raises(ValueError, match=r"^fan_in="):
                fan(bad)
        with pytest.raises(ValueError, match=r"^gain="):
            ini.layer_log_gradient(1.0, tanh, bad, 3)
        with pytest.raises(ValueError, match=r"^width="):
            ini.layer_log_gradient(1.0, tanh, 1.0, bad)
        for gain in (ini.forward_preserving_gain, ini.backward_preserving_gain, ini.moments):
            with pytest.raises(ValueError, match=r"^q="):
                gain(tanh, bad)
        with pytest.raises(ValueError, match=r"^gain="):
            ini.linear_profile(3, bad)
        with pytest.raises(ValueError, match=r"^width="):
            ini.default_relu_moments(3, bad)
        with pytest.raises(ValueError, match=r"^width="):
            ini.default_floor(tanh, bad)
    for bad in (0, -3, math.nan):
        with pytest.raises(ValueError, match=r"^depth="):
            ini.linear_profile(bad, 1.0)
    with pytest.raises(ValueError, match=r"^depth="):
        ini.default_relu_moments(-1, 3)
    for negative in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^variance="):
            ini.forward_gain(3, negative)
        with pytest.raises(ValueError, match=r"^second_moment="):
            ini.forward_gain(3, 1.0, negative)
        with pytest.raises(ValueError, match=r"^derivative_moment="):
            ini.backward_gain(3, 1.0, negative)
        with pytest.raises(ValueError, match=r"^gain="):
            ini.mean_singular_value(negative)
        with pytest.raises(ValueError, match=r"^start="):
            ini.default_relu_moments(3, 3, negative)
    for slope in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^slope="):
            ini.torch_gain("leaky_relu", slope)
        with pytest.raises(ValueError, match=r"^slope="):
            ini.he_std(3, slope)
    for cut in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^cut="):
            ini.truncated_normal_std(cut)


def relative(found: float, exact: object) -> float:
    return abs(float((mp.mpf(found) - exact) / exact))


def tanh_moment(power: int, slope: bool, q: float = 1.0) -> mp.mpf:
    """E tanh^power or E sech^(2 power) under N(0, q), to 30 digits."""
    with mp.workdps(30):

        def f(z: mp.mpf) -> mp.mpf:
            u = mp.sqrt(q) * z
            value = mp.sech(u) ** (2 * power) if slope else mp.tanh(u) ** power
            return value * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)

        return mp.quad(f, [-14, -6, -2, 0, 2, 6, 14])


def moments_error() -> float:
    worst = 0.0
    for q in (0.01, 1.0, 40.0):
        found = ini.moments(ACTIVATIONS["tanh"], q)
        v, d, d4 = tanh_moment(2, False, q), tanh_moment(2, True, q), tanh_moment(4, True, q)
        exact = {
            "second": v, "variance": v, "slope": d, "forward_gain": mp.sqrt(q / v),
            "backward_gain": 1 / mp.sqrt(d), "std_gain": mp.sqrt(q / v), "chi": q * d / v,
            "batch_norm_rate": q * d / v, "slope_kurtosis": d4 / d**2,
        }  # fmt: skip
        for name, value in exact.items():
            worst = max(worst, relative(getattr(found, name), value))
    return worst


def by_fans(found: Callable[[int, int], float], exact: Callable[[Any, Any], object]) -> float:
    return max(relative(found(i, o), exact(mp.mpf(i), mp.mpf(o))) for i, o in FANS)


def by_fan(found: Callable[[int], float], exact: Callable[[Any], object]) -> float:
    return max(relative(found(n), exact(mp.mpf(n))) for n in (1, 7, 10**6))


def truncated_error() -> float:
    with mp.workdps(40):
        return over(
            [1e-3, 0.1, 2.0, 50.0],
            lambda c: mp.sqrt(1 - 2 * c * mp.npdf(c) / mp.erf(mp.mpf(c) / mp.sqrt(2))),
            ini.truncated_normal_std,
        )


def profile_error() -> float:
    found, step = ini.linear_profile(40, 0.6), 2 * mp.log(mp.mpf(0.6))
    pairs = ((found.signal[3], 3), (found.gradient[3], 36), (found.weight[3], 39))
    return max(relative(float(value), count * step) for value, count in pairs)


def over(
    values: list[float], exact: Callable[[float], object], f: Callable[[float], float]
) -> float:
    return max(relative(f(value), exact(value)) for value in values)


def floors_error() -> float:
    """tanh: m = E tanh^2 at the q that solves q = m / 3 + 1 / (3 n), by mpmath."""
    worst = 0.0
    for n in (2, 30):
        with mp.workdps(20):
            q = mp.findroot(lambda v, n=n: (tanh_moment(2, False, v) + mp.mpf(1) / n) / 3 - v, 0.2)
            worst = max(
                worst, relative(ini.default_floor(ACTIVATIONS["tanh"], n), 3 * q - 1 / mp.mpf(n))
            )
    return worst


def critical_error() -> float:
    """The sigmoid's: q E sigmoid'^2 = E sigmoid^2, whose root mpmath finds."""

    def gauss(f: Callable[[mp.mpf], mp.mpf], q: mp.mpf) -> mp.mpf:
        s = mp.sqrt(q)
        ends = [-12, -4, -1, -1 / s, 0, 1 / s, 1, 4, 12]
        return mp.quad(lambda z: f(s * z) * mp.exp(-z * z / 2), ends) / mp.sqrt(2 * mp.pi)

    with mp.workdps(20):

        def sigmoid(u: mp.mpf) -> mp.mpf:
            return 1 / (1 + mp.exp(-u))

        def slope(u: mp.mpf) -> mp.mpf:
            return (sigmoid(u) * sigmoid(-u)) ** 2

        q = mp.findroot(
            lambda v: v * gauss(slope, v) - gauss(lambda u: sigmoid(u) ** 2, v), (40, 50)
        )
        return relative(ini.critical_gain(ACTIVATIONS["sigmoid"]), 1 / mp.sqrt(gauss(slope, q)))


def torch_error() -> float:
    names = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
    return max(relative(ini.torch_gain(name), mp.mpf(TABLE(name))) for name in names)


def default_moments_error() -> float:
    """The recursion in rationals of 60 digits."""
    with mp.workdps(60):
        moment, worst = mp.mpf(1), 0.0
        for value in ini.default_relu_moments(40, 7):
            worst = max(worst, relative(float(value), moment))
            moment = moment / 6 + mp.mpf(1) / 42
    return worst


FANS = [(1, 1), (3, 10**6), (100, 400), (400, 100)]
GLOROT, HE = "Glorot & Bengio 2010", "He et al. 2015"
WIDE = "fans 1 to 1e6"


def layer_gradient_error() -> float:
    with mp.workdps(30):
        n, q = mp.mpf(30), mp.mpf(0.7)

        def moment(power: int) -> Any:
            def integrand(z: Any) -> Any:
                return mp.sech(mp.sqrt(q) * z) ** (2 * power) * mp.npdf(z)

            return mp.quad(integrand, [-12, -5, -2, 0, 2, 5, 12])

        own = mp.digamma(n / 2) + mp.log(2 / n)
        second, fourth = moment(2), moment(4)
        curved = mp.log(mp.mpf(1.3) ** 2 * second) - 3 / (2 * n) * (fourth / second**2 - 1)
        tanh, linear = ACTIVATIONS["tanh"], ACTIVATIONS["linear"]
        return max(
            relative(float(ini.layer_log_gradient(0.7, tanh, 1.3, 30)), curved + own),
            relative(float(ini.layer_log_gradient(0.7, tanh, 1.3, 30, orthogonal=True)), curved),
            relative(float(ini.layer_log_gradient(0.7, linear, 1.0, 30)), own),
        )


def decades_error() -> float:
    """A linear chain's exact law, a ReLU one's binomial mixture, and tanh's layers one by one."""
    single = FORMATS["float32"]
    linear, relu, tanh = (ACTIVATIONS[name] for name in ("linear", "relu", "tanh"))
    with mp.workdps(30):
        per = mp.digamma(4) - mp.log(4) + 2 * mp.log(mp.mpf(1.5))
        worst = relative(
            ini.gradient_decades(5, linear, 1.5, 8, single, homogeneous=True),
            4 * per / 2 / mp.log(10),
        )
        weights = [mp.binomial(8, k) / (2**8 - 1) for k in range(1, 9)]
        mean = sum(p * mp.digamma(mp.mpf(k) / 2) for k, p in enumerate(weights, 1))
        per = mean + mp.log(2) + mp.log(mp.mpf(2.0) / 8)
        found = ini.gradient_decades(
            3, relu, math.sqrt(2.0), 8, single, homogeneous=True, relu=True
        )
        worst = max(worst, relative(found, 2 * per / 2 / mp.log(10)))
        q = 1.3**2 * tanh_moment(2, False, mp.mpf(1.3) ** 2)
        slopes = [mp.quad(lambda z, k=k: mp.sech(mp.sqrt(q) * z) ** k * mp.npdf(z),
                          [-12, -5, -2, 0, 2, 5, 12]) for k in (4, 8)]  # fmt: skip
        curved = mp.log(mp.mpf(1.3) ** 2 * slopes[0])
        curved -= 3 / mp.mpf(60) * (slopes[1] / slopes[0] ** 2 - 1)
        found = ini.gradient_decades(2, tanh, 1.3, 30, single, orthogonal=True)
        return max(worst, relative(found, curved / 2 / mp.log(10)))


def weight_profile_error() -> float:
    with mp.workdps(30):
        sizes = [mp.mpf(x) * mp.mpf(y) for x, y in ((0.1, 3.0), (0.7, 0.4), (1.1, 0.9))]
        exact = [mp.log(size / sizes[-1]) for size in sizes]
    found = ini.weight_profile(np.log([0.1, 0.7, 1.1]), np.log([3.0, 0.4, 0.9]))
    return max(relative(float(a), b) for a, b in zip(found[:2], exact[:2], strict=True))


ACCURACY = [
    Case("initialization.forward_gain", "forward factor of a layer", f"{HE}, eq. 7", WIDE,
         "mpmath", 4e-16,
         lambda: by_fan(lambda n: ini.forward_gain(n, 0.3), lambda n: n * mp.mpf(0.3))),
    Case("initialization.backward_gain", "backward factor of a layer", f"{HE}, eq. 13", WIDE,
         "mpmath", 4e-16,
         lambda: by_fan(lambda n: ini.backward_gain(n, 0.3), lambda n: n * mp.mpf(0.3))),
    Case("initialization.orthogonal_forward_gain", "forward factor, orthogonal", "derived", WIDE,
         "mpmath", 2e-16, lambda: by_fans(ini.orthogonal_forward_gain, lambda i, o: min(i, o) / o)),
    Case("initialization.orthogonal_backward_gain", "backward factor, orthogonal", "derived", WIDE,
         "mpmath", 2e-16,
         lambda: by_fans(ini.orthogonal_backward_gain, lambda i, o: min(i, o) / i)),
    Case("initialization.truncated_normal_std", "std of N(0, 1) cut off", "derived",
         "cuts 1e-3 to 50", "mpmath, erf", 1e-12, truncated_error),
    Case("initialization.xavier_gains", "the arithmetic compromise", f"{GLOROT}, eq. 12", WIDE,
         "mpmath", 4e-16,
         lambda: by_fans(lambda i, o: ini.xavier_gains(i, o)[0], lambda i, o: 2 * i / (i + o))),
    Case("initialization.geometric_gains", "the geometric compromise", "derived", WIDE,
         "mpmath", 6e-16,
         lambda: by_fans(lambda i, o: ini.geometric_gains(i, o)[1], lambda i, o: mp.sqrt(o / i))),
    Case("initialization.he_std", "He's standard deviation", f"{HE}, eqs. 10, 15", WIDE,
         "mpmath", 4e-16,
         lambda: by_fan(lambda n: ini.he_std(n, 0.25), lambda n: mp.sqrt(32 / (17 * n)))),
    Case("initialization.mean_singular_value", "mean singular value", "Marchenko & Pastur 1967",
         "gain 1, wide", "mpmath, quarter-circle law", 4e-16,
         lambda: relative(ini.mean_singular_value(1.0),
                          mp.quad(lambda s: s * mp.sqrt(4 - s * s) / mp.pi, [0, 2]))),
    Case("initialization.forward_preserving_gain", "gain that keeps the signal", "derived",
         "tanh, q 0.01 to 40", "mpmath, quadrature", 1e-10,
         lambda: over([0.01, 1.0, 40.0], lambda q: mp.sqrt(q / tanh_moment(2, False, q)),
                      lambda q: float(ini.forward_preserving_gain(ACTIVATIONS["tanh"], q)))),
    Case("initialization.backward_preserving_gain", "gain that keeps gradients", "derived",
         "tanh, q 0.01 to 40", "mpmath, quadrature", 1e-10,
         lambda: over([0.01, 1.0, 40.0], lambda q: 1 / mp.sqrt(tanh_moment(2, True, q)),
                      lambda q: float(ini.backward_preserving_gain(ACTIVATIONS["tanh"], q)))),
    Case("initialization.critical_gain", "gain with chi_1 = 1 at its own fixed point",
         "Schoenholz et al. 2017", "sigmoid, q* = 45.6", "mpmath, root of quadratures", 1e-10,
         critical_error),
    Case("initialization.torch_gain", "torch's table", "torch.nn.init", "its six activations",
         "torch", 4e-16, torch_error),
    Case("initialization.moments", "moments, gains, rates of an activation", "definitions",
         "tanh, q 0.01 to 40", "mpmath, quadrature", 1e-10, moments_error),
    Case("initialization.default_variance", "torch.nn.Linear's variance", "reset_parameters", WIDE,
         "mpmath", 2e-16, lambda: by_fan(ini.default_variance, lambda n: 1 / (3 * n))),
    Case("initialization.default_relu_moments", "E h^2 under torch's default", "derived",
         "width 7, 40 layers", "mpmath, the recursion", 1e-14, default_moments_error),
    Case("initialization.layer_log_gradient", "E ln of a layer's factor of a squared gradient; "
         "neglects O(1 / n^2)", "derived", "linear and tanh, width 30", "mpmath", 1e-12,
         layer_gradient_error),
    Case("initialization.gradient_decades", "E log10 of a gradient's change through a network; "
         "neglects O(1 / n^2)", "derived", "linear and ReLU, width 8; tanh, width 30",
         "mpmath", 1e-11, decades_error),
    Case("initialization.weight_profile", "weight gradients by layer, relative to the last",
         f"{GLOROT}, eq. 6", "three layers", "mpmath, products", 1e-14, weight_profile_error),
    Case("initialization.default_floor", "E h^2 that biases leave", "derived",
         "tanh, widths 2 and 30", "mpmath, root of a quadrature", 1e-10, floors_error),
    Case("initialization.linear_profile", "ln of signals and gradients, linear layers",
         f"{GLOROT}, eq. 14", "gain 0.6, 40 layers", "mpmath", 1e-15, profile_error),
]  # fmt: skip
