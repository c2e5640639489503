"""The claims about normalised and residual stacks hold, and fail when the stack is another."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stability import claims
from stability.experiment import Context
from stability.experiments import normalization as module
from stability.experiments.normalization import Normalization
from stability.table import select
from stability.theory import normalization as theory

SMALL = Normalization(
    ["linear", "relu", "tanh"], [8], [4, 16], ["1", "1/sqrt(depth)"], 96, replicates=24
)
NAMES = [
    "batch_norm_linear", "batch_norm_relu", "batch_norm_growth", "residual_signal",
    "residual_gradient", "tanh_stream", "tanh_gradient", "pre_norm_stream", "pre_norm_gradient",
    "last_branch",
]  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Normalization.claims(table)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_claims_hold(seed: int) -> None:
    """False alarms: at most 1e-5 a seed."""
    assert verdicts(SMALL.run(Context(seed))) == dict.fromkeys(NAMES, "holds")


@pytest.mark.parametrize(
    ("quantity", "wrong", "fallen"),
    [
        # No growth, as people say.
        ("batch_norm_growth", lambda _: 1.0, NAMES[:3]),
        # The growth of the norm for that of its square; (6 / 5)^(1/2) is too near at this width.
        ("batch_norm_growth", lambda rows: rows["predicted"] ** 0.5, NAMES[1:3]),
        ("residual_signal", lambda _: 0.0, ["residual_signal"]),
        # A branch that adds its own mean, alpha in place of alpha^2.
        ("residual_gradient", lambda rows: 1.5 * rows["predicted"], ["residual_gradient"]),
        ("tanh_stream", lambda rows: np.log1p(rows["layer"].astype(float)), ["tanh_stream"]),
        # Exponential growth.
        ("tanh_gradient", lambda rows: 0.9 * (rows["depth"] - rows["layer"]), ["tanh_gradient"]),
        ("pre_norm_stream", lambda rows: 2.0 ** rows["layer"].astype(float), ["pre_norm_stream"]),
        ("pre_norm_gradient", lambda rows: rows["depth"] * math.log(2), ["pre_norm_gradient"]),
        # The same at every depth under either norm.
        ("last_branch", lambda _: 0.5, ["last_branch"]),
    ],
)
def test_another_law_makes_the_claim_fail(
    measured: pd.DataFrame, quantity: str, wrong: Callable[[pd.DataFrame], Any], fallen: list[str]
) -> None:
    table = measured.copy()
    rows = table["quantity"] == quantity
    table.loc[rows, "predicted"] = np.asarray(wrong(table[rows]), float)
    found = verdicts(table)
    assert [name for name in NAMES if found[name] == "fails"] == fallen


def test_branches_that_end_with_relu_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their mean adds up: the square of the signal grows far faster than 1 + alpha^2."""
    real = Normalization._branches

    def positive(self: Normalization, *arguments: Any) -> Any:
        return [lambda x, f=branch: 2**0.5 * f(x).relu() for branch in real(self, *arguments)]

    monkeypatch.setattr(Normalization, "_branches", positive)
    found = verdicts(SMALL.run(Context(0)))
    assert found["residual_signal"] == found["pre_norm_stream"] == "fails"


def test_layers_without_batch_normalization_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "batch_norm", lambda z: z)
    found = verdicts(SMALL.run(Context(0)))
    assert found["batch_norm_linear"] == found["batch_norm_relu"] == "fails"


def test_weights_of_another_scale_are_seen_but_by_batch_normalization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Normalization._weights

    def doubled(self: Normalization, *arguments: Any) -> Iterator[torch.Tensor]:
        return (2 * weight for weight in real(self, *arguments))

    monkeypatch.setattr(Normalization, "_weights", doubled)
    found = verdicts(SMALL.run(Context(0)))
    assert [found[name] for name in NAMES[:3]] == ["holds"] * 3
    assert {found[name] for name in NAMES[3:9]} == {"fails"}


def test_the_normalizations_are_torchs() -> None:
    x = torch.randn((7, 5), generator=Context(1).generator("x"), dtype=torch.float64)
    of_batch = torch.nn.functional.batch_norm(x, None, None, training=True, eps=1e-30)
    torch.testing.assert_close(module.batch_norm(x), of_batch)
    of_units = torch.nn.functional.layer_norm(x, (5,), eps=1e-30)
    torch.testing.assert_close(module.layer_norm(x), of_units)


def test_the_gradient_is_that_of_finite_differences() -> None:
    """Directional derivative of the loss along its own gradient, two layers of 5 units."""
    context = Context(4)
    weights = [
        torch.randn((5, 5), generator=context.generator(i), dtype=torch.float64) for i in (1, 2)
    ]
    layers = [lambda x, w=w: torch.tanh(x @ w) for w in weights]
    ends = torch.randn((2, 3, 5), generator=context.generator("k", "ends"))
    x, top = ends.double()
    x = x * (math.sqrt(5) / x.norm(dim=1, keepdim=True))

    def loss(x: torch.Tensor) -> float:
        return float((layers[1](layers[0](x)) * top).sum())

    _, gradient = module.propagate(context, ("k",), layers, 3, 5)
    slopes = torch.tensor(
        [
            (loss(x + 1e-6 * step.reshape(3, 5)) - loss(x - 1e-6 * step.reshape(3, 5))) / 2e-6
            for step in torch.eye(15, dtype=torch.float64)
        ]
    )
    expected = 2 * math.log(slopes.norm() / top.norm())
    assert gradient[0] == pytest.approx(expected, abs=1e-7)
    assert gradient[-1] == 0


def test_the_predictions_are_the_theorys(measured: pd.DataFrame) -> None:
    relu = select(measured, "batch_norm_growth", activation="relu").iloc[0]
    assert relu["predicted"] == pytest.approx(theory.batch_norm_relu_growth(8), rel=1e-12)
    pre = select(measured, "pre_norm_gradient", depth=16).iloc[0]
    assert pre["predicted"] == pytest.approx(math.log(17), rel=1e-15)


def test_growth_beyond_float64_is_neither_judged_nor_drawn() -> None:
    """Blocks that double the square, 2000 times."""
    table = Normalization(depth=[2000], scale=["1"], width=8, replicates=2).run(Context(0))
    assert not np.isfinite(select(table, "residual_signal")["measured"]).all()
    assert "residual_signal" not in verdicts(table)
    assert len(Normalization.figures(table)) == 2


def test_one_belief_is_corrected(measured: pd.DataFrame) -> None:
    told = [(claim.name, claim.folk) for claim in Normalization.claims(measured) if claim.folk]
    assert told == [("batch_norm_relu", "Batch normalization fixes exploding gradients.")]
    assert list(claims.to_frame(Normalization.claims(measured))["name"]) == NAMES
