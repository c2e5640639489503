"""Underflow: every claim holds, and fails for wrong depths, rests, means, logarithms and nets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import underflow
from stability.experiments.underflow import Underflow
from stability.kernels import underflow as kernel
from stability.table import select

SMALL = Underflow(
    dtype=["float32", "float16", "bfloat16"], probability=[0.1, 0.25, 0.9], factors=[40, 300],
    products=500, sigma_w=[0.6, 1.0], width=[32],
)  # fmt: skip
ONE = replace(SMALL, dtype=["float16"], sigma_w=[1.0])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Underflow.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert len(found) == 6
    assert set(found.values()) == {"holds"}, found


@pytest.mark.parametrize(
    ("quantity", "claim", "shift"),
    [
        ("product_depth", "product_depth", 1.0),
        ("rest_in_subnormals", "rest", 1.0),
        ("uniform_depth", "uniform_depth", 4.0),
        ("log_sum_error", "log_space", 30.0),
        ("chain_depth", "iterated_sigmoid", -2.0),
        ("network_depth", "network", 2.5),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, claim: str, shift: float
) -> None:
    wrong = table.copy()
    wrong.loc[wrong["quantity"] == quantity, "measured"] += shift
    assert verdicts(wrong)[claim] == "fails"


def test_a_quarter_to_a_power_tells_whether_subnormals_are_kept(table: pd.DataFrame) -> None:
    part = select(table, "product_depth", dtype="float32", probability=0.25)
    found = dict(zip(part["subnormals"], part["measured"], strict=True))
    assert found["kept"] == 75
    if "flushed" in found:
        assert found["flushed"] == 64
    assert torch.tensor(1e-40).mul(0.5).item() > 0, "the run must leave subnormals as they were"


def test_products_of_large_probabilities_never_are_0(table: pd.DataFrame) -> None:
    part = select(table, "product_depth", subnormals="kept", probability=0.9)
    assert np.isinf(part["measured"]).all()
    assert (select(table, "naive_product", factors=300)["measured"] == 0).all()


def test_the_quarter_is_not_the_chains_rate(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (select(table, "chain_before_quarter", dtype="float32")["measured"] > 3).all()
    rest = underflow.theory.Rest(0.0, 0.25)
    monkeypatch.setattr(underflow.theory, "iterated_sigmoid", lambda: rest)
    assert (
        verdicts(replace(SMALL, dtype=["float32"]).run(Context(0)))["iterated_sigmoid"] == "fails"
    )


def test_a_rate_of_a_quarter_misses_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    quarter = np.log(0.25) * np.arange(25)
    monkeypatch.setattr(underflow.theory, "settled_log_norms", lambda *_: quarter)
    small = replace(SMALL, dtype=["float32"], sigma_w=[1.0], networks=40)
    assert verdicts(small.run(Context(0)))["network"] == "fails"


def test_sums_in_the_half_format_itself_break_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        if x.dtype != torch.float16:
            return honest(x)
        total = torch.zeros((), dtype=x.dtype)
        for value in x:
            total = total + value
        return total

    honest = torch.Tensor.sum
    monkeypatch.setattr(torch.Tensor, "sum", narrow)
    assert verdicts(replace(ONE, factors=[3000]).run(Context(0)))["log_space"] == "fails"


def test_what_happens_to_a_product() -> None:
    half = torch.tensor(0.5, dtype=torch.float16)
    assert kernel.repeated_product(half) == (25.0, 0.0)
    steps, rest = kernel.repeated_product(torch.tensor(0.9, dtype=torch.float16))
    assert steps == float("inf")
    assert rest == 4 * 2.0**-24
    tens = kernel.first_zero(lambda _: torch.tensor([0.5, 0.25]).half(), torch.ones(2).half())
    assert tens.tolist() == [25.0, 13.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": [1.0]}, "experiment.probability=1.0.*at most 0.99"),
        ({"probability": [0.0]}, "experiment.probability"),
        ({"dtype": ["float8_e5m2"]}, "experiment.dtype"),
        ({"sigma_w": [2.0]}, "experiment.sigma_w=2.0.*at most 1.5"),
        ({"networks": 1}, "experiment.networks"),
        ({"factors": [30_001]}, "experiment.factors=30001.*at most 30000"),
        ({"products": 30_001}, "experiment.products=30001.*at most 30000"),
        ({"width": [1]}, "experiment.width"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Underflow(**options)  # type: ignore[arg-type]
