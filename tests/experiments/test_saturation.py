"""Saturation: the parts against exact laws, the claims against what must break them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS, draw_unit
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import saturation
from stability.experiments.saturation import (
    BINS,
    LEVELS,
    SATURATING,
    Saturation,
    density,
    first_number,
    observe,
    propagate,
)
from stability.table import VALUES, select
from stability.theory import mixtures
from stability.theory.floating_point import FORMATS
from stability.theory.loss import random_loss

MODERATE = Saturation(
    activation=["sigmoid", "tanh"],
    init=["xavier", "uniform_third"],
    sigma_w=[1.0, 16.0],
    depth=3,
    width=64,
    replicates=96,
    trainings=3,
    steps=100,
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return MODERATE.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Saturation.claims(table)}


def flat_field(q: float) -> mixtures.Field:
    zero = np.zeros(1)
    return mixtures.Field(np.array([q]), zero, zero, zero)


@pytest.mark.parametrize("name", SATURATING)
def test_closed_slope_is_the_derivative(name: str) -> None:
    oracle = mpmath.tanh if name == "tanh" else lambda x: 1 / (1 + mpmath.exp(-x))
    for x in (-300.0, -8.0, -1.5, 0.0, 1e-9, 0.3, 8.0, 36.0):
        with mpmath.workdps(320):
            truth = float(mpmath.diff(oracle, mpmath.mpf(x), h=mpmath.mpf(10) ** -100))
        assert SATURATING[name].derivative(np.array([x]))[0] == pytest.approx(truth, rel=3e-15)


def test_sigmoid_has_its_largest_slope_at_zero_and_nearly_none_at_eight() -> None:
    assert SATURATING["sigmoid"].derivative(np.array([0.0]))[0] == 0.25
    far = SATURATING["sigmoid"].derivative(np.array([8.0]))[0]
    assert far == pytest.approx(3.3523767e-4, rel=1e-7)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "reached",
    [
        lambda x: torch.tanh(x) == 1,
        lambda x: torch.sigmoid(x) == 1,
        lambda x: torch.sigmoid(-x) == 0,
    ],
)
def test_bisection_finds_what_a_search_of_all_numbers_finds(
    name: str, reached: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    every = torch.arange(2**15, dtype=torch.int16).view(getattr(torch, name))
    every = every[every.isfinite()]
    hits = every[reached(every)]
    assert first_number(reached, FORMATS[name], "cpu") == hits.min().item()


def test_what_is_never_reached_is_at_infinity() -> None:
    assert first_number(lambda x: x < 0, FORMATS["float32"], "cpu") == math.inf


@pytest.mark.parametrize("q", [1e-6, 0.3, 2.0, 50.0])
def test_expected_loss_is_its_law_at_every_q(q: float) -> None:
    loss, bias = mixtures.expected_loss(flat_field(q), 10)
    assert loss == pytest.approx(float(random_loss(q, 10)), rel=1e-6)
    assert bias == 0


@pytest.mark.parametrize("name", SATURATING)
@pytest.mark.parametrize("q", [0.1, 1.0, 16.0])
def test_quantiles_of_one_gaussian_are_phi_of_its_own(name: str, q: float) -> None:
    activation = ACTIVATIONS[name]
    values, _ = mixtures.activation_quantiles(flat_field(q), activation, LEVELS, 64, 0.0)
    truth = activation.phi(math.sqrt(q) * np.asarray(stats.norm.ppf(LEVELS), np.float64))
    np.testing.assert_allclose(values, truth, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SATURATING)
def test_density_integrates_to_one_and_to_the_saturated_share(name: str) -> None:
    limits = SATURATING[name]
    width = (limits.high - limits.low) / BINS
    edges = np.linspace(limits.low, limits.high, BINS + 1)
    for q in (1e-9, 1.0, 100.0):
        mass = mixtures.activation_density(flat_field(q), name, edges) * width
        assert mass.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(mass, mass[::-1], atol=1e-12)


@pytest.mark.parametrize("init", ["lecun", "uniform_third", "orthogonal"])
@pytest.mark.parametrize("name", SATURATING)
@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_bias_bound_covers_what_finite_width_does(init: str, name: str, sigma: float) -> None:
    """Width 12, 30000 networks, one input: bias bound plus 5.3 standard errors.

    False alarms: below 1e-7 for each of 36 comparisons.
    """
    width, networks, depth = 12, 30_000, 3
    scheme, activation = INITIALIZATIONS[init], ACTIVATIONS[name]
    g = torch.Generator().manual_seed(2)
    fans = [(width, width)] * depth
    x = torch.linspace(-1, 2, width, dtype=torch.float64)
    x = x / x.square().mean().sqrt()
    laws = propagate(scheme, activation, sigma, fans, x[None].numpy())
    signal = x.expand(networks, 1, width)
    for law in laws:
        unit = torch.randn((networks, width, width), generator=g, dtype=torch.float64)
        if scheme.law == "uniform":
            unit = (2 * torch.rand(unit.shape, generator=g, dtype=torch.float64) - 1) * 3**0.5
        if scheme.law == "orthogonal":
            q, r = torch.linalg.qr(unit)
            unit = q * torch.sgn(torch.diagonal(r, dim1=1, dim2=2)).unsqueeze(1) * width**0.5
        z = signal @ (sigma * scheme.std(width, width) * unit)
        share = (z.abs() > SATURATING[name].threshold).double().mean(dim=(1, 2))
        expected, bias = law.mean_of(
            lambda q: 2 * stats.norm.sf(SATURATING[name].threshold / np.sqrt(np.maximum(q, 1e-99)))
        )
        slack = 5.3 * share.std().item() / math.sqrt(networks)
        # Twice the leading term in 1 / width, and the next order, (3 / width)^2 of the share.
        assert abs(share.mean().item() - expected) < bias + slack + expected * (3 / width) ** 2
        signal = activation.forward(z)


def test_the_bias_bound_is_small_at_the_reported_width() -> None:
    laws = propagate(
        INITIALIZATIONS["xavier"], ACTIVATIONS["tanh"], 1.0, [(128, 128)] * 4, np.ones((1, 128))
    )
    for law in laws:
        _, bias = law.mean_of(lambda q: stats.norm.sf(2 / np.sqrt(q)))
        assert bias < 0.01
    assert laws[0].spread == 0
    assert laws[1].spread > 0


@pytest.mark.parametrize("name", SATURATING)
def test_observe_counts_reports_and_lets_a_diverged_net_be_nan(name: str) -> None:
    limits = SATURATING[name]
    z = torch.zeros((3, 5, 4), dtype=torch.float64)
    z[0, :, :2] = torch.tensor([1.01, -1.01]) * limits.threshold
    z[0, :, 2] = 0.99 * limits.threshold
    z[1, 2, 1] = torch.nan
    found = observe(z, name)
    assert found.share[0] == 0.5
    assert found.share[2] == 0
    assert found.mean[2] == found.quantiles[2, 0] == (limits.low + limits.high) / 2
    for values in (found.share, found.mean, found.std, found.quantiles[:, 2]):
        assert np.isnan(values).tolist() == [False, True, False]
    heights = density(z, name)
    assert np.isnan(heights).all(axis=1).tolist() == [False, True, False]
    assert heights[0].sum() * (limits.high - limits.low) / BINS == pytest.approx(1)


def test_infinite_preactivations_are_saturated() -> None:
    for name, limits in SATURATING.items():
        found = observe(torch.full((1, 2, 3), -torch.inf), name)
        assert found.share.tolist() == [1.0]
        assert found.mean.tolist() == [limits.low]


def test_the_claims_hold(table: pd.DataFrame) -> None:
    """Seed 0.  The statistical claims' false alarm rate is 1e-6 each (``claims.LEVEL``)."""
    found = verdicts(table)
    assert "fails" not in found.values()
    assert found.pop("activation_quantile") in ("holds", "undetermined")
    assert set(found.values()) == {"holds"}
    assert set(found) == {
        "closed_slope", "largest_slope", "first_one", "first_zero", "saturated_share",
        "initial_loss", "top_layer_sinks",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("quantity", "factor"),
    [
        ("slope", 1.001),
        ("largest_slope", 1 + 1e-7),
        ("first_one", 1.2),
        ("first_zero", 1.1),
        ("saturated_share", 1.05),
        ("activation_quantile", 1.05),
        ("loss", 1.2),
        ("top_layer_sinks", 0.5),
    ],
)
def test_a_wrong_number_breaks_its_claim(table: pd.DataFrame, quantity: str, factor: float) -> None:
    wrong = table.copy()
    wrong.loc[wrong["quantity"] == quantity, "predicted"] *= factor
    name = {"slope": "closed_slope", "loss": "initial_loss"}.get(quantity, quantity)
    before, after = verdicts(table), verdicts(wrong)
    assert after[name] == "fails"
    assert {k for k in after if after[k] != before[k]} == {name}


def test_a_biased_generator_breaks_the_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "draw_unit", lambda *a: 1.2 * draw_unit(*a))
    found = verdicts(replace(MODERATE, steps=0).run(Context(0)))
    assert found["saturated_share"] == found["activation_quantile"] == "fails"
    assert found["initial_loss"] == "fails"


def test_a_wrong_activation_breaks_the_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own functions are right; a sigmoid with 1 % more slope is not."""
    right = ACTIVATIONS["sigmoid"]
    wrong = replace(right, forward=lambda z: torch.sigmoid(1.01 * z))
    monkeypatch.setitem(ACTIVATIONS, "sigmoid", wrong)
    found = verdicts(Saturation().run(Context(0)))
    assert found["closed_slope"] == found["largest_slope"] == "fails"


def test_weights_that_only_grow_do_not_sink_the_last_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def grow(weights: Any, biases: Any, *others: Any) -> None:
        order, _rate, look = others[-3:]
        for step in range(len(order) + 1):
            look(step, [(1 + 0.01 * step) * weight for weight in weights], biases)

    monkeypatch.setattr(saturation, "train", grow)
    found = verdicts(replace(MODERATE, activation=["sigmoid"]).run(Context(0)))
    assert found["top_layer_sinks"] == "fails"


def test_a_cell_alone_is_the_grids_to_the_bit() -> None:
    base = replace(MODERATE, dtype="float64", width=13, replicates=5, steps=7)
    grid = base.run(Context(3))
    union = [
        replace(base, activation=[a], init=[i], sigma_w=[s]).run(Context(3))
        for a in base.activation[::-1]
        for i in base.init[::-1]
        for s in base.sigma_w[::-1]
    ]
    cells = pd.concat(union, ignore_index=True)
    keys = [c for c in grid if c not in VALUES] + ["quantity"]

    def keyed(frame: pd.DataFrame) -> pd.DataFrame:
        plain = frame.astype(dict.fromkeys(keys, str)).drop_duplicates(keys)
        return plain.set_index(keys).sort_index()

    pd.testing.assert_frame_equal(keyed(grid), keyed(cells), rtol=1e-12)


def test_saturated_shares_are_those_of_the_gaussian_tables(table: pd.DataFrame) -> None:
    """N(0, 1) weights and n = 256 give q = 256: nearly nine of ten tanh units are lost."""
    row = select(table, "saturated_share", data="gaussian", init="xavier", sigma_w=16.0, layer=1,
                 activation="tanh").iloc[0]  # fmt: skip
    assert row["predicted"] == pytest.approx(math.erfc(2.17827 / math.sqrt(512)), abs=1e-5)
    assert row["measured"] == pytest.approx(0.89171, abs=6 * row["stderr"])


@pytest.mark.parametrize(
    "options",
    [
        {"activation": ["tanh"]},
        {"depth": 1, "width": 1, "replicates": 1, "trainings": 1, "batch": 1},
        {"steps": 0},
        {"trainings": 3, "replicates": 2},
        {"init": ["orthogonal"], "sigma_w": [1e-3], "depth": 60},
        {"activation": ["tanh", "sigmoid"], "sigma_w": [1000.0], "learning_rate": 1e30},
        {"width": 64, "init": list(INITIALIZATIONS)},
    ],
)
def test_any_valid_options_run_and_draw(options: dict[str, Any]) -> None:
    small = replace(Saturation(), **options)
    made = small.run(Context(1))
    assert Saturation.claims(made)
    assert Saturation.answer(made).endswith(".")
    assert len(Saturation.figures(made)) == 4
    measured = made[made["step"].fillna(0) == 0]["measured"]
    assert measured.notna().all()


def test_a_diverged_training_is_a_result() -> None:
    made = Saturation(activation=["tanh"], learning_rate=1e38, steps=20).run(Context(0))
    last = select(made, "loss", step=20)
    assert not np.isfinite(last["measured"]).any()


@pytest.mark.parametrize("name", ["relu", "softsign", "tahn"])
def test_what_does_not_saturate_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="must be one of sigmoid, tanh"):
        Saturation(activation=[name])
