"""The claims hold under the law and fail when the gain, the kernel or the prediction is another."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stability.experiment import Context
from stability.experiments import fluctuations
from stability.experiments.fluctuations import Fluctuations
from stability.table import select
from stability.theory import finite_width

SMALL = Fluctuations([4, 16], [4, 16], [0.0, 0.25, 1.0], 800)


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Fluctuations.claims(table)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_claims_hold(seed: int) -> None:
    """False alarms: at most 5e-6 a seed."""
    names = ["log_mean", "log_variance", "median", "tails", "dead"]
    assert verdicts(SMALL.run(Context(seed))) == dict.fromkeys(names, "holds")


def test_the_folk_belief_is_corrected_by_the_median(measured: pd.DataFrame) -> None:
    folk = {claim.name: claim.folk for claim in Fluctuations.claims(measured)}
    assert folk["median"] == "He initialization keeps the norm of the signal."


@pytest.mark.parametrize("factor", [1.1, 1 / 1.1])
def test_a_gain_wrong_by_a_tenth_is_seen(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    real = torch.randn

    def wrong(*arguments: Any, **options: Any) -> Any:
        return factor * real(*arguments, **options)

    monkeypatch.setattr(fluctuations.torch, "randn", wrong)
    found = verdicts(SMALL.run(Context(0)))
    assert found["log_mean"] == found["median"] == found["tails"] == "fails"
    assert found["dead"] == "holds"


def test_weights_shared_by_all_layers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Context.generator
    monkeypatch.setattr(Context, "generator", lambda self, *key: real(self, *key[:3], 1))
    found = verdicts(SMALL.run(Context(0)))
    assert found["log_variance"] == "fails"


@pytest.mark.parametrize(
    ("claim", "quantity", "shift"),
    [
        ("log_mean", "log_mean", 0.5),
        ("log_variance", "log_variance", 3.0),
        ("dead", "dead_share", 0.1),
    ],
)
def test_a_wrong_prediction_makes_its_claim_fail(
    measured: pd.DataFrame, claim: str, quantity: str, shift: float
) -> None:
    wrong = measured.copy()
    wrong.loc[wrong["quantity"] == quantity, "predicted"] += shift
    found = verdicts(wrong)
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize(("claim", "level"), [("median", "median"), ("tails", "0.01")])
def test_a_wrong_share_makes_its_claim_fail(measured: pd.DataFrame, claim: str, level: str) -> None:
    wrong = measured.copy()
    rows = (wrong["quantity"] == "share_below") & (wrong["level"] == level)
    wrong.loc[rows, "measured"] = (wrong.loc[rows, "measured"] + 0.2).clip(upper=1)
    found = verdicts(wrong)
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_the_log_normal_limit_fails_where_the_exact_law_holds(measured: pd.DataFrame) -> None:
    wrong = measured.copy()
    rows = wrong["quantity"] == "log_variance"
    wrong.loc[rows, "predicted"] = wrong.loc[rows, "beta"]
    assert verdicts(wrong)["log_variance"] == "fails"


def test_the_passes_are_those_of_autograd() -> None:
    experiment = Fluctuations([6], [3], [0.25], 4)
    passes = experiment._measure(Context(0), 6, 0, 4)
    top = torch.randn((fluctuations.BLOCK, 6, 1), generator=Context(0).generator("gradient", 6, 0))
    for net in range(4):
        x = torch.ones(6, dtype=torch.float64, requires_grad=True)
        h = x
        for layer in range(1, 4):
            source = Context(0).generator("weights", 6, 0, layer)
            unit = torch.randn((fluctuations.BLOCK, 6, 6), generator=source)[net].double()
            gain = finite_width.keeping_gain(0.25) / math.sqrt(6)
            h = torch.nn.functional.leaky_relu(gain * unit @ h, 0.25)
        direction = torch.nn.functional.normalize(top[net, :, 0].double(), dim=0)
        (gradient,) = torch.autograd.grad(h @ direction, x)
        # Three layers of 6 products, in a logarithm.
        forward, backward = passes.forward[net, 0, 0], passes.backward[net, 0, 0]
        assert float(forward) == pytest.approx(math.log(float((h @ h).detach()) / 6), abs=1e-13)
        assert float(backward) == pytest.approx(math.log(float(gradient @ gradient)), abs=1e-13)


def test_networks_that_die_are_counted_and_kept() -> None:
    table = Fluctuations([1], [12], [0.0], 40).run(Context(0))
    assert select(table, "dead_share")["measured"].max() > 0.9
    assert (select(table, "median")["measured"] == 0).all()
    assert np.isfinite(select(table, "share_below")["measured"]).all()
    Fluctuations.claims(table)
    assert Fluctuations.answer(table).endswith(".")
    assert len(Fluctuations.figures(table)) == 2


def test_one_network_is_a_table_without_standard_errors() -> None:
    table = Fluctuations(replicates=1).run(Context(0))
    assert select(table, "log_mean")["stderr"].isna().all()
    assert Fluctuations.claims(table) == []
