import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from stability import config
from stability.catalogue.activations import ACTIVATIONS
from stability.catalogue.initializations import INITIALIZATIONS, draw_unit
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import initialization as module
from stability.experiments.initialization import (
    CLASSES,
    Initialization,
    gradient_decades,
    layer_gains,
)
from stability.table import select
from stability.theory.initialization import layer_log_gradient

BOTH = {
    "init": ["normal", "xavier", "he", "orthogonal"],
    "activation": ["tanh", "relu"],
    "depth": [3, 12],
    "width": [20],
    "trained_width": 20,
    "replicates": 32,
    "steps": 100,
    "batch": 32,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return Initialization(**BOTH).run(Context(0))  # type: ignore[arg-type]


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Initialization.claims(table)}


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        ("xavier", (0.4, 1.6), (1.6, 0.4)),
        ("xavier_uniform", (0.4, 1.6), (1.6, 0.4)),
        ("he", (2.0, 8.0), (2.0, 0.5)),
        ("lecun", (1.0, 4.0), (1.0, 0.25)),
        ("uniform_third", (1 / 3, 4 / 3), (1 / 3, 1 / 12)),
        ("orthogonal", (0.25, 1.0), (1.0, 0.25)),
        ("normal", (0.01, 0.04), (0.04, 0.01)),
    ],
)
def test_gains_of_rectangular_layers(
    name: str, wide: tuple[float, float], narrow: tuple[float, float]
) -> None:
    """Predicted exactly; measured over 32 draws to 6 standard errors (1e-8 each, were they known;
    with 31 degrees of freedom 1e-6)."""
    scheme = INITIALIZATIONS[name]
    assert layer_gains(scheme, 100, 400, 1.0) == pytest.approx(wide, rel=1e-14)
    assert layer_gains(scheme, 400, 100, 1.0) == pytest.approx(narrow, rel=1e-14)
    assert layer_gains(scheme, 100, 400, 2.0) == pytest.approx([4 * g for g in wide], rel=1e-14)
    one = Initialization(init=[name], replicates=32, steps=0).run(Context(1))
    for fans, gains in (((100, 400), wide), ((400, 100), narrow)):
        for way, gain in zip(("forward_gain", "backward_gain"), gains, strict=True):
            row = select(one, way, fan_in=fans[0], fan_out=fans[1]).iloc[0]
            rounding = 4 * 2**-24 * math.sqrt(100) * gain
            assert row["measured"] == pytest.approx(gain, abs=6 * row["stderr"] + rounding)
            assert row["stderr"] < 0.02 * gain


def test_decades_of_linear_nets_are_exact() -> None:
    """E ln(chi^2_n / n) by integration; orthogonal ones keep every norm."""
    width, depth = 8, 5
    mean, _ = integrate.quad(
        lambda x: math.log(x / width) * stats.chi2.pdf(x, width), 0, np.inf, epsabs=1e-12
    )
    linear = ACTIVATIONS["linear"]
    expected = (depth - 1) * (mean + 2 * math.log(1.5)) / 2 / math.log(10)
    for name in ("lecun", "xavier"):
        found = gradient_decades(INITIALIZATIONS[name], linear, 1.5, width, depth)
        assert found == pytest.approx(expected, rel=1e-8)
    turned = gradient_decades(INITIALIZATIONS["orthogonal"], linear, 2.0, width, depth)
    assert turned == pytest.approx((depth - 1) * math.log10(2), rel=1e-12)


def test_decades_of_relu_nets_count_the_active_units() -> None:
    """The layer's factor is (2 / n) chi^2_K, K ~ Binomial(n, 1/2) given K >= 1: by simulation.

    A million draws, 5 standard errors: false alarm 6e-7.
    """
    width, depth = 12, 3
    rng = np.random.default_rng(0)
    active = rng.binomial(width, 0.5, 10**6)
    logs = np.log(rng.chisquare(active[active > 0]) * 2 / width)
    found = gradient_decades(INITIALIZATIONS["he"], ACTIVATIONS["relu"], 1.0, width, depth)
    per_layer = found * 2 * math.log(10) / (depth - 1)
    assert per_layer == pytest.approx(logs.mean(), abs=5 * logs.std() / 1000)


def test_decades_of_wide_tanh_nets_are_the_mean_field_ones() -> None:
    """One layer, chi = 4 E sech^4 at q = 4, by adaptive integration."""
    moment, _ = integrate.quad(lambda z: stats.norm.pdf(z) / np.cosh(2 * z) ** 4, -12, 12)
    q, _ = integrate.quad(lambda z: 4 * stats.norm.pdf(z) * np.tanh(2 * z) ** 2, -12, 12)
    second, _ = integrate.quad(
        lambda z: stats.norm.pdf(z) / np.cosh(math.sqrt(q) * z) ** 4, -12, 12
    )
    assert moment < second  # the input's own variance, 4, belongs to the layer left out
    found = gradient_decades(INITIALIZATIONS["lecun"], ACTIVATIONS["tanh"], 2.0, 10**6, 2)
    assert found == pytest.approx(math.log10(4 * second) / 2, abs=1e-5)


@pytest.mark.parametrize("sigma", [1e-9, 1e9])
def test_theory_is_silent_beyond_its_range(sigma: float) -> None:
    found = gradient_decades(INITIALIZATIONS["he"], ACTIVATIONS["selu"], sigma, 16, 30)
    assert math.isnan(found)


def test_theory_is_silent_where_saturation_makes_the_first_order_too_large() -> None:
    tanh = ACTIVATIONS["tanh"]
    assert math.isnan(gradient_decades(INITIALIZATIONS["he"], tanh, 50.0, 16, 4))
    assert math.isfinite(gradient_decades(INITIALIZATIONS["he"], tanh, 1.0, 16, 4))


@pytest.mark.parametrize("name", ["tanh", "relu", "selu"])
def test_the_measured_ratio_is_autograds(name: str) -> None:
    activation, depth, width, scale = ACTIVATIONS[name], 6, 9, 0.3
    generator = torch.Generator().manual_seed(0)
    draws = [
        torch.randn((2, width, width), generator=generator, dtype=torch.float64)
        for _ in range(depth)
    ]
    x, g = torch.randn((2, 2, 1, width), generator=generator, dtype=torch.float64)
    states: list[Tensor] = []
    h = x
    for draw in draws:
        h = activation.forward(h @ (scale * draw)).requires_grad_()
        states.append(h)
    (first,) = torch.autograd.grad((h * g).sum(), [states[0]])
    exact = torch.log10(first.norm(dim=(1, 2)) / g.norm(dim=(1, 2))).numpy()
    slopes = module._slopes(draws, scale, x, activation)
    np.testing.assert_allclose(module._log10_ratio(draws, scale, slopes, g), exact, rtol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_gradients_below_the_range_of_float32_are_measured(activation: str) -> None:
    """-115 decades and more: float32 ends at -45."""
    deep = Initialization(init=["normal"], activation=[activation], depth=[80], steps=0)
    row = select(deep.run(Context(0)), "gradient_decades").iloc[0]
    assert row["measured"] < -100
    # 5 decades: sd 1.2 at beta = 80 * 5 / 16, over the root of 16 replicates, times 17.
    assert row["measured"] == pytest.approx(row["predicted"], abs=5)


def test_dead_networks_are_counted() -> None:
    """1 - (1 - 1/4)^3 = 37 of 64; 400 networks, 5 standard errors: false alarm 6e-7."""
    narrow = Initialization(
        init=["he"], activation=["relu"], width=[2], depth=[3], replicates=400, steps=0
    ).run(Context(0))
    row = select(narrow, "dead_share").iloc[0]
    assert row["predicted"] == pytest.approx(37 / 64)
    assert row["measured"] == pytest.approx(37 / 64, abs=5 * math.sqrt(37 * 27 / 64**2 / 400))
    kept = select(narrow, "gradient_decades").iloc[0]
    assert kept["n_samples"] == round(400 * (1 - row["measured"]))


def test_claims_hold(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert set(found) == {
        "forward_gain", "backward_gain", "no_scale_keeps_both", "xavier_compromise",
        "gradient_decades_tanh", "gradient_decades_relu", "silent_nets_guess", "dead_nets_stay",
        "stable_nets_learn",
    }  # fmt: skip
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize(
    ("quantity", "claim", "factor", "shift"),
    [
        ("forward_gain", "forward_gain", 1.3, 0.0),
        ("backward_gain", "backward_gain", 1.3, 0.0),
        ("fan_mismatch", "no_scale_keeps_both", 1.0, 0.3),
        ("gain_sum", "xavier_compromise", 1.3, 0.0),
        ("gradient_decades", "gradient_decades_tanh", 1.3, 0.0),
        ("gradient_decades", "gradient_decades_relu", 1.3, 0.0),
        ("initial_loss", "silent_nets_guess", 1.1, 0.0),
        ("final_loss", "dead_nets_stay", 0.9, 0.0),
        ("final_loss", "stable_nets_learn", 1.0, 2.0),
    ],
)
def test_claims_fail_on_other_numbers(
    table: pd.DataFrame, quantity: str, claim: str, factor: float, shift: float
) -> None:
    wrong = table.copy()
    chosen = wrong["quantity"] == quantity
    wrong.loc[chosen, "measured"] = factor * wrong.loc[chosen, "measured"] + shift
    assert verdicts(wrong)[claim] == "fails"


def test_claims_fail_with_a_biased_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "draw_unit", lambda *a: 1.3 * draw_unit(*a))
    found = verdicts(Initialization(**{**BOTH, "steps": 0}).run(Context(0)))  # type: ignore[arg-type]
    for name in ("forward_gain", "backward_gain", "xavier_compromise", "gradient_decades_relu"):
        assert found[name] == "fails", name


def test_claims_fail_with_a_wrong_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    real = layer_log_gradient
    monkeypatch.setattr(
        module.theory, "layer_log_gradient", lambda *a, **options: math.log(2) + real(*a, **options)
    )
    run = Initialization(init=["xavier"], depth=[12], width=[20], replicates=32, steps=0)
    assert verdicts(run.run(Context(0)))["gradient_decades_tanh"] == "fails"


def test_a_grid_is_the_union_of_its_cells_in_double_precision() -> None:
    def run(**options: Any) -> pd.DataFrame:
        base: dict[str, Any] = {"steps": 3, "replicates": 3, "dtype": "float64"}
        found = Initialization(**{**base, **options}).run(Context(3))
        keys = ["init", "activation", "sigma_w", "width", "depth", "fan_in", "fan_out", "quantity"]
        return found.astype(dict.fromkeys(keys, str)).set_index(keys)

    grid = run(init=["he", "orthogonal"], activation=["tanh", "relu"], depth=[3, 7])
    for init in ("he", "orthogonal"):
        for activation in ("tanh", "relu"):
            for depth in (3, 7):
                cell = run(init=[init], activation=[activation], depth=[depth])
                same = grid.loc[cell.index]
                for column in ("measured", "predicted", "stderr"):
                    np.testing.assert_allclose(
                        cell[column], same[column], rtol=1e-12, atol=1e-12, equal_nan=True
                    )


@pytest.mark.parametrize(
    "options",
    [
        {"init": ["he"], "width": [2], "replicates": 1, "trainings": 1, "steps": 0, "batch": 1},
        {"init": ["xavier"], "activation": ["selu"], "sigma_w": [1e-6, 50.0], "depth": [30]},
        {"activation": ["sigmoid"], "dtype": "float64", "learning_rate": 1e6, "steps": 200},
    ],
)
def test_extremes_are_judged_told_and_drawn(options: dict[str, Any]) -> None:
    one = Initialization(**options).run(Context(0))
    assert "fails" not in verdicts(one).values()
    assert Initialization.answer(one).endswith(".")
    for figure in Initialization.figures(one):
        figure.figure.draw_without_rendering()


def test_the_answer_compares_the_constant_scale_with_xaviers(table: pd.DataFrame) -> None:
    answer = Initialization.answer(table)
    cell = select(table, "gradient_decades", init="normal", activation="tanh", depth=12).iloc[0]
    assert f"{cell['measured']:+.1f} decades under normal" in answer
    assert "under xavier" in answer
    assert f"ln {CLASSES} = 2.30" in answer


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("depth", [1]), ("width", [1]), ("sigma_w", [0.0]), ("learning_rate", 0.0),
        ("dtype", "float16"), ("trainings", 0), ("trained_width", 1), ("init", ["glorot"]),
    ],
)  # fmt: skip
def test_bad_options_are_refused(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"experiment.{option}"):
        Initialization(**{option: value})


def test_the_reported_run_is_valid_and_fits_in_memory() -> None:
    import yaml

    text = (config.CONF / "experiment" / "initialization.yaml").read_text()
    options = yaml.safe_load(text)
    options.pop("_target_")
    assert Initialization(**options).memory() < 2**30
