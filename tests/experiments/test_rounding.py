"""The claims about rounding errors hold, and fail when sums are rounded otherwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stability.experiment import Context
from stability.experiments import rounding as module
from stability.experiments.rounding import Rounding
from stability.table import select
from stability.theory import rounding_errors as theory

SMALL = Rounding(["float16", "bfloat16", "float32"], [64, 1024], [1, 16], 16, 1000)
NAMES = [
    "sum_error", "dot_narrow", "dot_wide", "chain_error", "worst_bound", "probabilistic_bound",
    "stagnation",
]  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Rounding.claims(table)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_claims_hold(seed: int) -> None:
    """False alarms: at most 4e-6 a seed."""
    assert verdicts(SMALL.run(Context(seed))) == dict.fromkeys(NAMES, "holds")


@pytest.mark.parametrize(
    ("claim", "quantity", "wrong"),
    [
        # Worst-case growth, with n.
        ("sum_error", "sum_error", lambda rows: rows["length"] / 4),
        ("dot_narrow", "dot_error", lambda _: theory.ROUNDING_RMS),
        # What people say: like sqrt(n).
        ("dot_wide", "dot_error", lambda rows: 0.3 * np.sqrt(rows["length"].astype(float))),
        ("chain_error", "chain_error", lambda rows: 0.4246 * rows["depth"].astype(float)),
        ("stagnation", "stagnation", lambda rows: 2 * rows["predicted"]),
    ],
)
def test_another_law_makes_the_claim_fail(
    measured: pd.DataFrame, claim: str, quantity: str, wrong: Callable[[pd.DataFrame], Any]
) -> None:
    table = measured.copy()
    rows = table["quantity"] == quantity
    table.loc[rows, "predicted"] = np.asarray(wrong(table[rows]), float)
    assert verdicts(table)[claim] == "fails"


def test_a_narrow_accumulator_inside_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(x: Tensor, y: Tensor) -> Tensor:
        return module._in_order(x[:, 0].mT * y[:, :, 0].mT)

    monkeypatch.setattr(torch, "bmm", narrow)
    assert verdicts(SMALL.run(Context(0)))["dot_wide"] == "fails"


def test_truncation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of positive numbers, each partial sum moved one step towards 0."""

    def cut(x: Tensor) -> Tensor:
        total = x[0].clone()
        for row in x[1:]:
            total = torch.nextafter(total + row, torch.zeros_like(total))
        return total

    monkeypatch.setattr(module, "_in_order", cut)
    assert verdicts(SMALL.run(Context(0)))["sum_error"] == "fails"


def test_layers_in_a_coarser_format_break_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._through

    def coarse(layers: Tensor, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        assert dtype == torch.float32
        return real(layers, x, torch.bfloat16)

    monkeypatch.setattr(module, "_through", coarse)
    found = verdicts(Rounding(["float32"], [16], [4], 8).run(Context(0)))
    assert found["worst_bound"] == found["probabilistic_bound"] == "fails"


def test_sums_that_come_to_rest_are_left_out(measured: pd.DataFrame) -> None:
    uniform = select(measured, "sum_error", addends="uniform", length=1024)
    assert set(uniform["dtype"]) == {"float16", "float32"}


def test_the_answer_and_figures_without_half_precision() -> None:
    table = Rounding(["float32"]).run(Context(0))
    assert "dot_error" not in set(table["quantity"])
    assert Rounding.answer(table).endswith(".")
    assert len(Rounding.figures(table)) == 2


def test_one_belief_is_corrected(measured: pd.DataFrame) -> None:
    told = [claim.name for claim in Rounding.claims(measured) if claim.folk]
    assert told == ["dot_wide"]


def test_the_memory_estimate_covers_the_wide_matrices_of_the_bounds() -> None:
    """Matrices of order 4 width, in the format and in float64."""
    assert Rounding(width=128, depth=[256]).memory() > 256 * 512**2 * (4 + 4 + 8)
