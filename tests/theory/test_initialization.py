"""Gains against published tables, simulated layers and mpmath."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS
from stability.theory import initialization as ini

LAW = settings(deadline=None, max_examples=30)

# 1 / sqrt(E phi^2) and 1 / sqrt(E phi'^2) under N(0, 1), from adaptive quadrature.
GAINS = [
    ("linear", 1, 1),
    ("relu", 1.41421, 1.41421),
    ("leaky_relu", 1.41414, 1.41414),
    ("prelu", 1.37199, 1.37199),
    ("tanh", 1.59254, 1.46741),
    ("sigmoid", 1.84623, 4.72265),
    ("silu", 1.67653, 1.62332),
    ("swish", 1.53946, 1.49146),
    ("gelu", 1.53353, 1.48111),
    ("elu", 1.24520, 1.22343),
    ("selu", 1, 0.96603),
    ("softsign", 2.33753, 2.09578),
    ("softplus", 1.04187, 1.84623),
    ("erf", 1.46717, 1.32522),
    ("hardtanh", 1.39204, 1.21029),
    ("sin", (2 / (1 - math.exp(-2))) ** 0.5, (2 / (1 + math.exp(-2))) ** 0.5),
]


def test_the_table_has_every_activation() -> None:
    assert {name for name, _, _ in GAINS} == set(ACTIVATIONS)


@pytest.mark.parametrize(("name", "forward", "backward"), GAINS)
def test_gains_from_first_principles(name: str, forward: float, backward: float) -> None:
    entry = ACTIVATIONS[name]
    assert float(ini.forward_preserving_gain(entry.phi, 1.0, entry.kinks)) == pytest.approx(
        forward, abs=6e-6
    )
    assert float(ini.backward_preserving_gain(entry.dphi, 1.0, entry.kinks)) == pytest.approx(
        backward, abs=6e-6
    )


@LAW
@given(q=st.floats(1e-6, 1e4))
def test_gains_at_other_variances(q: float) -> None:
    relu, erf = ACTIVATIONS["relu"], ACTIVATIONS["erf"]
    root = math.sqrt(2)
    assert float(ini.forward_preserving_gain(relu.phi, q, relu.kinks)) == pytest.approx(root)
    assert float(ini.backward_preserving_gain(relu.dphi, q, relu.kinks)) == pytest.approx(root)
    forward = math.sqrt(q / (2 / math.pi * math.asin(2 * q / (1 + 2 * q))))
    backward = 1 / math.sqrt(4 / math.pi / math.sqrt(1 + 4 * q))
    assert float(ini.forward_preserving_gain(erf.phi, q)) == pytest.approx(forward, rel=1e-10)
    assert float(ini.backward_preserving_gain(erf.dphi, q)) == pytest.approx(backward, rel=1e-10)
    assert backward <= forward


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


def test_bad_arguments_are_named() -> None:
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^fan_in="):
            ini.forward_gain(bad, 1.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^fan_out="):
            ini.backward_gain(bad, 1.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^fan_out="):
            ini.orthogonal_forward_gain(3, bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^q="):
            ini.forward_preserving_gain(np.tanh, bad)
        with pytest.raises(ValueError, match=r"^q="):
            ini.backward_preserving_gain(np.cos, bad)
    for negative in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^variance="):
            ini.forward_gain(3, negative)
        with pytest.raises(ValueError, match=r"^second_moment="):
            ini.forward_gain(3, 1.0, negative)
        with pytest.raises(ValueError, match=r"^derivative_moment="):
            ini.backward_gain(3, 1.0, negative)
    for cut in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^cut="):
            ini.truncated_normal_std(cut)
