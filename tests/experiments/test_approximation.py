"""Approximation: every claim holds, and fails for wrong errors, constants, rates and nets."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import approximation
from stability.experiments.approximation import Approximation
from stability.kernels import approximation as kernel
from stability.table import select

SMALL = Approximation(
    n=[8, 16, 32], target=["sine", "wave", "root"], steepness=[2.0, 32.0], dimension=[1, 20],
    averages=128, steps=20,
)  # fmt: skip
ONE = replace(SMALL, n=[8, 16], target=["sine"], steepness=[4.0], dimension=[2])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Approximation.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert len(found) == 7
    assert set(found.values()) == {"holds"}, found


@pytest.mark.parametrize(
    ("quantity", "method", "claim", "factor", "shift"),
    [
        ("error", "interpolation", "splines", 1 + 1e-6, 0.0),
        ("error", "least squares", "splines", 1 + 1e-6, 0.0),
        ("error", "sigmoids", "sigmoids", 1 + 1e-6, 0.0),
        ("error", "interpolation", "constants", 1.3, 0.0),
        ("error", "least squares", "constants", 1.5, 0.0),
        ("error", "interpolation", "slopes", 1.0, 1e-2),
        ("outside_bracket", "random features", "random_features", 1.0, 2.0),
        ("scaled_square", "random cosines", "random_cosines", 2.0, 0.0),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, method: str, claim: str, factor: float, shift: float
) -> None:
    wrong = table.copy()
    here = (wrong["quantity"] == quantity) & (wrong["method"] == method)
    wrong.loc[here, "measured"] = factor * wrong.loc[here, "measured"] + shift
    assert verdicts(wrong)[claim] == "fails"


def test_a_network_below_the_best_pieces_is_caught(table: pd.DataFrame) -> None:
    wrong = table.copy()
    wrong["least"] = wrong["least"] / 1e6
    assert verdicts(wrong)["trained"] == "fails"


def test_networks_that_train_are_told_by_the_share_that_the_best_pieces_have(
    table: pd.DataFrame,
) -> None:
    claim = next(one for one in Approximation.claims(table) if one.name == "trained")
    assert 0 < claim.measured < 1
    assert claim.allowed == 1


def test_bent_units_are_no_splines(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.relu
    monkeypatch.setattr(torch, "relu", lambda x: honest(x) + 1e-6 * torch.tanh(x))
    assert verdicts(ONE.run(Context(0)))["splines"] == "fails"


def test_a_root_with_slope_two_is_not_believed(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximation, "SMOOTH", ("sine", "wave", "root"))
    wrong = table.copy()
    root = wrong["target"] == "root"
    wrong.loc[root, "following"] = 0.0
    assert verdicts(wrong)["slopes"] == "fails"


def test_training_goes_down_but_not_to_the_spline(table: pd.DataFrame) -> None:
    long = replace(ONE, n=[32], steps=200).run(Context(0))
    before = select(table, "error", method="trained", target="sine", n=32)["measured"].iloc[0]
    after = select(long, "error", method="trained")["measured"].iloc[0]
    best = select(long, "error", method="least squares")["measured"].iloc[0]
    assert best < after < before


def test_the_root_alone_has_fewer_claims() -> None:
    table = replace(ONE, target=["root"]).run(Context(0))
    found = verdicts(table)
    assert set(found) == {"splines", "sigmoids", "random_features", "random_cosines", "slopes"}
    assert set(found.values()) == {"holds"}
    assert Approximation.figures(table)
    assert Approximation.answer(table).endswith(".")


def test_the_smallest_and_odd_widths_and_the_ends_of_the_steepness() -> None:
    odd = replace(
        SMALL, n=[8, 9, 11], target=["wave", "sine"], steepness=[0.5, 32.0], dimension=[1], steps=1
    )
    assert set(verdicts(odd.run(Context(2))).values()) == {"holds"}


def test_one_width_has_no_slopes() -> None:
    assert "slopes" not in verdicts(replace(ONE, n=[8]).run(Context(0)))


def test_the_interpolant_meets_its_knots() -> None:
    knots = torch.tensor([0.0, 0.3, 0.4, 1.0], dtype=torch.float64)
    values = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=torch.float64)
    fit = kernel.interpolant(knots, knots, values)
    torch.testing.assert_close(fit.values_M, values, rtol=1e-13, atol=1e-13)
    middle = kernel.interpolant(torch.tensor([0.35], dtype=torch.float64), knots, values)
    assert middle.values_M.item() == pytest.approx(1.5, rel=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": [7]}, "experiment.n=7.*at least 8"),
        ({"target": ["step"]}, "experiment.target='step'"),
        ({"steepness": [0.1]}, "experiment.steepness=0.1.*at least 0.5"),
        ({"steepness": [33.0]}, "experiment.steepness=33.0.*at most 32"),
        ({"dimension": [0]}, "experiment.dimension"),
        ({"averages": 1}, "experiment.averages"),
        ({"steps": -1}, "experiment.steps"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Approximation(**options)  # type: ignore[arg-type]
