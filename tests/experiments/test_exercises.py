"""The exercises: every claim holds, and fails for a wrong network, start, product or rate."""

import pandas as pd
import pytest
import torch

from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import exercises
from stability.experiments.exercises import Exercises
from stability.table import select

SMALL = Exercises([3, 8], replicates=2, steps=40)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Exercises.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert len(found) == 10
    assert set(found.values()) == {"holds"}, found


@pytest.mark.parametrize(
    ("quantity", "claim", "shift"),
    [
        ("linear_pieces", "piecewise_linear", 1.0),
        ("bend_inside_a_piece", "straight_pieces", 1e-12),
        ("tanh_by_sigmoid", "same_functions", 1e-12),
        ("singular_excess", "product_bounds", 20.0),
        ("eigenvalue_excess", "product_bounds", 20.0),
        ("singular_excess", "product_equality", 1e-6),
        ("start_gap", "equal_start_linear", 1e-9),
        ("first_step", "equal_start_step", 1e-9),
        ("softmax_gap_over_bound", "equal_start_softmax", 1.0),
        ("update_ratio", "layerwise_rates", 1e-9),
        ("accumulation_gap", "gradient_accumulation", 1e-11),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, claim: str, shift: float
) -> None:
    wrong = table.copy()
    wrong.loc[wrong["quantity"] == quantity, "measured"] += shift
    assert verdicts(wrong)[claim] == "fails"


def test_a_smooth_activation_bends_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises.torch, "relu", torch.tanh)
    assert verdicts(SMALL.run(Context(0)))["straight_pieces"] == "fails"


def test_a_forgotten_shift_makes_another_function(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = torch.sigmoid
    monkeypatch.setattr(exercises.torch, "sigmoid", lambda z: shifted(z) + 1e-9)
    assert verdicts(SMALL.run(Context(0)))["same_functions"] == "fails"


def test_plain_gradient_descent_moves_layers_decades_apart(table: pd.DataFrame) -> None:
    spread = select(table, "log10_update_spread", optimizer="sgd")["measured"]
    assert spread.min() > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": [1]}, "at least 2"),
        ({"width": []}, "experiment.width"),
        ({"replicates": 1}, "experiment.replicates"),
        ({"steps": 0}, "experiment.steps"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Exercises(**options)  # type: ignore[arg-type]
