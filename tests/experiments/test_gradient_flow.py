"""The claims hold on the shipped seeds' law and fail when the law is another."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stability.catalogue import initializations
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import gradient_flow
from stability.experiments.gradient_flow import GradientFlow
from stability.table import select

SMALL = GradientFlow([2, 12], [48], ["sigmoid", "tanh", "relu"], ["xavier", "he"], batch=16,
                     replicates=12)  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in GradientFlow.claims(table)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_claims_hold(seed: int) -> None:
    """False alarms: at most 4e-6 a seed."""
    found = verdicts(SMALL.run(Context(seed)))
    assert found == dict.fromkeys(
        ["gradient_rate", "forward_moment", "weight_gradient", "relu_exact"], "holds"
    )


def test_a_gain_wrong_by_a_fifth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = initializations.draw_unit

    def wrong(*arguments: Any) -> Any:
        return 1.2 * real(*arguments)

    monkeypatch.setattr(gradient_flow, "draw_unit", wrong)
    found = verdicts(SMALL.run(Context(0)))
    assert found["gradient_rate"] == "fails"
    assert found["relu_exact"] == "fails"


@pytest.mark.parametrize(
    ("claim", "quantity"),
    [
        ("gradient_rate", "gradient_decades_per_layer"),
        ("forward_moment", "log10_preactivation_moment"),
        ("weight_gradient", "log10_gradient_w_squared"),
    ],
)
def test_a_wrong_prediction_makes_its_claim_fail(
    measured: pd.DataFrame, claim: str, quantity: str
) -> None:
    wrong = measured.copy()
    rows = wrong["quantity"] == quantity
    wrong.loc[rows, "predicted"] += 2.0
    found = verdicts(wrong)
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_a_biased_relu_fails_the_exact_law(measured: pd.DataFrame) -> None:
    wrong = measured.copy()
    wrong.loc[wrong["quantity"] == "log10_activation_moment", "measured"] += 1.0
    assert verdicts(wrong)["relu_exact"] == "fails"


def test_the_sigmoid_under_xavier_loses_its_known_rate() -> None:
    """-0.62699 decades a layer: chi_1 = 0.0557207 at q* = 0.264687, by mpmath quadrature."""
    table = GradientFlow([40], [64], ["sigmoid"], ["xavier"], replicates=2).run(Context(0))
    row = select(table, "gradient_decades_per_layer").iloc[0]
    # The first layers' q differ from q*: their share of the mean is below 1e-3.
    assert row["predicted"] == pytest.approx(0.5 * math.log10(0.0557207), abs=1e-3)


def test_gradients_a_hundred_decades_down_are_finite_numbers() -> None:
    table = GradientFlow([60], [32], ["sigmoid"], ["normal"], replicates=2).run(Context(0))
    exact = select(table, "log10_gradient_h_squared", layer=1).iloc[0]
    plain = select(table, "plain_float32_log10_gradient_h_squared", layer=1).iloc[0]
    assert exact["measured"] < -200
    assert np.isfinite(exact["measured"])
    assert plain["measured"] == -np.inf
    lost = select(table, "gradient_loss_depth", format="float16").iloc[0]
    assert lost["measured"] == lost["predicted"] == 4


def test_inputs_have_unit_square_and_the_stated_cosine() -> None:
    x = GradientFlow(batch=6)._inputs(Context(0), 24, 0)
    assert np.allclose((x**2).mean(dim=1), 1, rtol=0, atol=1e-14)
    cosine = (x[0::2] * x[1::2]).mean(dim=1)
    assert np.allclose(cosine, gradient_flow.COSINE, rtol=0, atol=1e-14)


def test_a_network_that_dies_is_kept_as_a_result() -> None:
    """Width 1 and ReLU: most draws are dead; minus infinity decades, never an error."""
    table = GradientFlow([8], [1], ["relu"], ["he"], replicates=4).run(Context(0))
    assert (select(table, "log10_activation_moment")["measured"] == -np.inf).any()
    GradientFlow.claims(table)
    assert GradientFlow.answer(table).endswith(".")
    assert len(GradientFlow.figures(table)) == 2


def test_float32_agrees_with_float64_to_its_rounding() -> None:
    one, two = (
        replace(SMALL, dtype=dtype, replicates=2).run(Context(0))
        for dtype in ("float64", "float32")
    )
    for quantity in ("log10_gradient_h_squared", "log10_gradient_w_squared", "similarity"):
        a, b = select(one, quantity)["measured"], select(two, quantity)["measured"]
        # 12 layers of 48 + 3 roundings at 6e-8 each, in a logarithm.
        assert np.allclose(a, b, rtol=0, atol=12 * 51 * 6e-8)


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"experiment\.batch=3: must be even"):
        GradientFlow(batch=3)


def test_the_width_correction_of_relu_is_its_known_one() -> None:
    """-5/2 and 5 a layer: the middle between ln of one and of the mean square is -5/4 a layer."""
    table = GradientFlow([9], [50], ["relu"], ["he"]).run(Context(0))
    row = select(table, "gradient_decades_per_layer").iloc[0]
    unit = 2 * 50 * math.log(10)
    assert row["shift"] == pytest.approx(-1.25 / unit, rel=1e-9)
    assert row["room"] == pytest.approx((1.25 + 25 / 50) / unit, rel=1e-9)
    moments = select(table, "log10_preactivation_moment")
    layer = moments["layer"].to_numpy(float)
    expected = -(2.5 * (layer - 1) + 1) + (5 * (layer - 1) + 2) / 4
    assert moments["shift"].to_numpy() * 50 * math.log(10) == pytest.approx(expected, rel=1e-9)


def test_chaotic_tanh_needs_and_has_more_room_than_relu() -> None:
    chaotic = GradientFlow([12], [40], ["tanh"], ["lecun"], [3.0], [0.3], replicates=60)
    table = chaotic.run(Context(0))
    assert verdicts(table)["gradient_rate"] == "holds"
    relu = GradientFlow([12], [40], ["relu"], ["he"]).run(Context(0))
    rooms = [select(t, "gradient_decades_per_layer")["room"].iloc[0] for t in (table, relu)]
    assert rooms[0] > 1.5 * rooms[1]


@pytest.mark.parametrize("init", ["orthogonal", "lecun_uniform"])
def test_other_laws_keep_the_allowance(init: str) -> None:
    table = GradientFlow([5], [20], ["tanh"], [init]).run(Context(0))
    row = select(table, "gradient_decades_per_layer").iloc[0]
    assert row["shift"] == 0
    room = gradient_flow.WIDTH_BIAS / 20 / (2 * math.log(10))
    assert row["room"] == pytest.approx(room, rel=1e-12)


def test_a_network_without_the_correction_is_seen(measured: pd.DataFrame) -> None:
    wrong = measured.copy()
    rows = wrong["quantity"] == "log10_preactivation_moment"
    wrong.loc[rows, ["shift", "room"]] = [-1.0, 0.0]
    assert verdicts(wrong)["forward_moment"] == "fails"
