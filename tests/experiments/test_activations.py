"""The atlas: its claims hold for every activation and fail for every wrong formula."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stability.catalogue.activations import ACTIVATIONS
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import activations
from stability.experiments.activations import PAIRS, Activations
from stability.table import select

SMALL = Activations(list(ACTIVATIONS), ["float64", "bfloat16"], points=7, reach=4.0)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Activations.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert set(found.values()) == {"holds"}, found
    assert len(found) == 14


@pytest.mark.parametrize(
    ("quantity", "claim", "shift"),
    [
        ("value", "value", 1e-12),
        ("derivative", "derivative", 1e-12),
        ("autograd_derivative", "autograd_derivative", 1e-12),
        ("second_derivative", "second_derivative", 1e-12),
        ("autograd_second_derivative", "autograd_second_derivative", 1e-12),
        ("slope_at_kink", "slope_at_kink", 1e-12),
        ("subgradient", "subgradient", 1e-12),
        ("least_value", "value_range", 1e-12),
        ("largest_slope", "slope_range", 1e-12),
        ("lipschitz", "lipschitz", 1e-12),
        ("gives_out_at", "naive_formula", 1.0),
        ("saturates_at", "saturation", 1.0),
        ("identity", "identity", 1e-12),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, claim: str, shift: float
) -> None:
    wrong = table.copy()
    chosen = wrong["quantity"] == quantity
    wrong.loc[chosen, "measured"] += shift
    assert verdicts(wrong)[claim] == "fails"


def test_a_wrong_derivative_in_the_catalogue_breaks_its_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = replace(ACTIVATIONS["tanh"], derivative=lambda z: 1 - torch.tanh(z))
    monkeypatch.setitem(ACTIVATIONS, "tanh", wrong)
    found = verdicts(replace(SMALL, activation=["tanh"]).run(Context(0)))
    assert found["derivative"] == found["slope_range"] == "fails"
    assert found["autograd_derivative"] == "holds"


def test_a_subgradient_between_the_sides_breaks_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(ACTIVATIONS["relu"], forward=lambda z: (z + z.abs()) / 2)
    monkeypatch.setitem(ACTIVATIONS, "relu", wrong)
    assert verdicts(replace(SMALL, activation=["relu"]).run(Context(0)))["subgradient"] == "fails"


@pytest.mark.parametrize("function", sorted(PAIRS))
def test_the_obvious_formula_is_no_stable_one(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    naive = PAIRS[function].naive
    monkeypatch.setitem(PAIRS, function, replace(PAIRS[function], stable=naive))
    small = Activations(["tanh"], ["float32"], points=40)
    assert verdicts(small.run(Context(0)))["stable_formula"] == "fails"


def test_which_side_autograd_takes_at_a_kink(table: pd.DataFrame) -> None:
    taken = select(table, "subgradient").set_index(["activation", "x"])["side"].to_dict()
    assert taken == {
        ("relu", 0.0): "left", ("leaky_relu", 0.0): "left", ("prelu", 0.0): "left",
        ("selu", 0.0): "left", ("hardtanh", -1.0): "left", ("hardtanh", 1.0): "right",
    }  # fmt: skip


def test_the_chapters_maximum_slopes(table: pd.DataFrame) -> None:
    steepest = select(table, "lipschitz").set_index("activation")["measured"]
    assert steepest["sigmoid"] == pytest.approx(0.25, rel=1e-15)
    assert steepest["tanh"] == pytest.approx(1.0, rel=1e-15)


def test_saturated_far_below_the_end_of_the_format() -> None:
    """float64 alone: 53 + 1 bits for sigmoid, 53 + 2 for tanh."""
    table = Activations(["tanh"], ["float64"]).run(Context(0))
    found = select(table, "saturates_at").set_index("function")["predicted"]
    assert found["sigmoid"] == pytest.approx(53 * np.log(2), rel=1e-15)
    assert found["tanh"] == pytest.approx(55 * np.log(2) / 2, rel=1e-15)


def test_the_zoom_finds_an_extremum_between_the_points_of_its_scan() -> None:
    low, high = activations._extremes(lambda x: -((x - 0.123456789) ** 2) + 1, "cpu")
    assert high == 1.0
    assert low == -np.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": ["tahn"]}, "tanh"),
        ({"dtype": ["float8"]}, "float64"),
        ({"points": 1}, "at least 2"),
        ({"reach": 0.0}, "above 0"),
        ({"reach": 31.0}, "at most 30"),
        ({"activation": []}, "experiment.activation"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Activations(**options)  # type: ignore[arg-type]
