"""Affine collapse: every claim holds, and fails for a wrong bound, rank, order or law."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import affine_collapse
from stability.experiments.affine_collapse import AffineCollapse
from stability.kernels import affine as kernel
from stability.table import select

SMALL = AffineCollapse(
    depth=[2, 7], width=[12], dtype=["float64", "float32", "float16", "bfloat16"],
    init=["orthogonal", "lecun"], activation=["relu", "tanh", "linear"], scale=[0.5, 2.0],
    replicates=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in AffineCollapse.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert len(found) == 8
    assert set(found.values()) == {"holds"}, found


@pytest.mark.parametrize(
    ("quantity", "claim", "factor", "shift"),
    [
        ("gap_share_of_bound", "collapse", 1.0, 1.0),
        ("rank_excess", "rank_never_grows", 1.0, 1.0),
        ("rank", "rank", 1.0, -1.0),
        ("noise_share_of_bound", "noise", 1.0, 1.0),
        ("flops", "flops", 1.0, 2.0),
        ("collapse_cost", "collapse_cost", 1.0, 1e-6),
        ("squared_error", "stored_error", 2.0, 0.0),
        ("bent_share", "one_nonlinearity", 1.5, 0.0),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, claim: str, factor: float, shift: float
) -> None:
    wrong = table.copy()
    here = wrong["quantity"] == quantity
    wrong.loc[here, "measured"] = factor * wrong.loc[here, "measured"] + shift
    assert verdicts(wrong)[claim] == "fails"


def test_a_forgotten_bias_is_no_affine_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = kernel.stack

    def forgetful(
        weights: list[Tensor], biases: list[Tensor], start: Tensor, storage: torch.dtype
    ) -> list[Tensor]:
        if start.shape[-1] == start.shape[-2] + 1:  # while the stack collapses
            biases = [0 * bias for bias in biases[:-1]] + biases[-1:]
        return honest(weights, biases, start, storage)

    monkeypatch.setattr(affine_collapse.kernel, "stack", forgetful)
    assert verdicts(replace(SMALL, dtype=["float32"]).run(Context(0)))["collapse"] == "fails"


def test_one_nonlinearity_in_the_stack_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "baddbmm", lambda b, w, x: torch.relu(w @ x + b))
    found = verdicts(replace(SMALL, dtype=["float32"]).run(Context(0)))
    assert found["collapse"] == "fails"


def test_half_sums_are_told_from_wide_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products rounded before they are summed: no accumulator of float32."""

    def narrow(bias: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        total = bias.to(torch.bfloat16)
        for at in range(weight.shape[-1]):
            total = total + (weight[..., at : at + 1] * x[:, at : at + 1]).to(torch.bfloat16)
        return total.float()

    monkeypatch.setattr(torch, "baddbmm", narrow)
    small = replace(SMALL, dtype=["bfloat16"], init=["orthogonal"])
    assert verdicts(small.run(Context(0)))["stored_error"] == "fails"


def test_another_order_costs_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = affine_collapse.ORDERS["matrix_first"]
    monkeypatch.setitem(
        affine_collapse.ORDERS, "vector_first",
        lambda chain: affine_collapse.theory.Plan(plan(chain).order, 1),
    )  # fmt: skip
    assert verdicts(AffineCollapse().run(Context(0)))["flops"] == "fails"


def test_the_product_does_not_depend_on_the_order() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b, c = (torch.randn(n, m, generator=generator) for n, m in ((2, 3), (3, 5), (5, 7)))
    first = kernel.multiply([a, b, c], ((0, 1), 2))
    second = kernel.multiply([a, b, c], (0, (1, 2)))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, a @ b @ c)


def test_too_few_draws_leave_statistics_undetermined() -> None:
    found = verdicts(AffineCollapse(replicates=2).run(Context(0)))
    open_ones = {name for name, verdict in found.items() if verdict == "undetermined"}
    assert open_ones == {"stored_error", "one_nonlinearity"}


def test_widths_below_the_narrow_layer_have_no_noise_rows() -> None:
    table = AffineCollapse(width=[3], narrow=5).run(Context(0))
    assert select(table, "noise_share_of_bound").empty
    assert set(verdicts(table).values()) == {"holds"}


def test_float64_alone_has_fewer_claims() -> None:
    table = AffineCollapse(dtype=["float64"], init=["lecun"]).run(Context(0))
    assert set(verdicts(table)) == {
        "collapse", "rank_never_grows", "flops", "collapse_cost", "noise", "one_nonlinearity",
    }  # fmt: skip
    assert AffineCollapse.figures(table)
    assert np.isfinite(select(table, "gap_in_u")["measured"]).all()
    assert AffineCollapse.answer(table).endswith(".")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": [1]}, "experiment.depth=1.*at least 2"),
        ({"dtype": ["float8"]}, "experiment.dtype"),
        ({"init": ["he"]}, "experiment.init='he'.*xavier"),
        ({"samples": 3}, "experiment.samples=3.*at least 4"),
        ({"scale": [0.0]}, "experiment.scale"),
        ({"replicates": 1}, "experiment.replicates"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AffineCollapse(**options)  # type: ignore[arg-type]
