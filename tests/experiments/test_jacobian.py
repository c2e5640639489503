"""The claims hold on several seeds and fail when the gain, the kernel or the theory is another."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stability.catalogue.activations import ACTIVATIONS
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import jacobian
from stability.experiments.jacobian import Jacobian

SMALL = Jacobian(
    ["linear", "relu", "tanh"], ["gaussian", "orthogonal"], [1, 4], [16, 32], replicates=64
)
ALL = [
    "exact_first_moment", "exact_second_moment", "first_moment", "variance",
    "mean_singular_value", "edge", "isometry",
]  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Jacobian.claims(table)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_claims_hold(seed: int) -> None:
    """False alarms: at most 6e-6 a seed."""
    assert verdicts(SMALL.run(Context(seed))) == dict.fromkeys(ALL, "holds")


def test_a_gain_wrong_by_a_tenth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = jacobian._draw
    monkeypatch.setattr(jacobian, "_draw", lambda *arguments: 1.1 * real(*arguments))
    found = verdicts(SMALL.run(Context(0)))
    for name in ("exact_first_moment", "exact_second_moment", "first_moment", "isometry"):
        assert found[name] == "fails"


def test_gaussian_weights_are_not_taken_for_orthogonal_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = jacobian._draw
    monkeypatch.setattr(jacobian, "_draw", lambda _law, *rest: real("gaussian", *rest))
    found = verdicts(SMALL.run(Context(0)))
    for name in ("exact_second_moment", "variance", "isometry"):
        assert found[name] == "fails"


@pytest.mark.parametrize(
    ("claim", "quantity", "activation"),
    [
        ("exact_first_moment", "first_moment", "relu"),
        ("exact_second_moment", "second_moment", "relu"),
        ("first_moment", "first_moment", "tanh"),
        ("variance", "relative_variance", "tanh"),
        ("mean_singular_value", "mean_singular_value", "linear"),
        ("edge", "largest_square", "linear"),
    ],
)
def test_a_wrong_measurement_makes_its_claim_fail(
    measured: pd.DataFrame, claim: str, quantity: str, activation: str
) -> None:
    wrong = measured.copy()
    rows = (wrong["quantity"] == quantity) & (wrong["activation"] == activation)
    wrong.loc[rows, "measured"] *= 1.5
    found = verdicts(wrong)
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_a_direction_that_is_not_kept_fails_isometry(measured: pd.DataFrame) -> None:
    wrong = measured.copy()
    wrong.loc[wrong["quantity"] == "distance_from_isometry", "measured"] = 1e-9
    assert verdicts(wrong)["isometry"] == "fails"


def test_the_jacobian_is_that_of_autograd() -> None:
    experiment = Jacobian(["tanh"], ["gaussian"], [3], [5], q=0.4, replicates=1)
    found = experiment._measure(Context(0), 5, "gaussian", 0, 1)[0, 0, 0]
    at = jacobian._theory("tanh", 0.4)
    context = Context(0)
    units, biases = [], []
    for layer in range(1, 4):
        source = context.generator("weights", "gaussian", 5, 0, layer)
        units.append(at.sigma_w * jacobian._draw("gaussian", 5, source)[0])
        source = context.generator("bias", 5, 0, layer)
        drawn = torch.randn((jacobian.BLOCK, 5, 1), generator=source)[0, :, 0].double()
        biases.append(at.sigma_b * drawn)

    def network(x: torch.Tensor) -> torch.Tensor:
        for unit, bias in zip(units, biases, strict=True):
            x = torch.tanh(unit @ x + bias)
        return x

    start = torch.full((5,), math.sqrt(0.4 - at.sigma_b**2) / at.sigma_w, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(network, start)
    # Three products of 5 x 5 matrices and an SVD: 1e-14 relative to the largest.
    assert np.allclose(
        found.numpy(), torch.linalg.svdvals(matrix).flip(0).numpy() ** 2, rtol=0, atol=1e-13
    )


def test_the_critical_point_keeps_q_and_the_gradient() -> None:
    for name, q in (("tanh", 0.1), ("relu", 0.1), ("erf", 1.0), ("linear", 3.0)):
        at, entry = jacobian._theory(name, q), ACTIVATIONS[name]
        assert at.sigma_w**2 * at.mu[0] == pytest.approx(1, rel=1e-9)
        size = at.sigma_w**2 * float(entry.second_moment(q)) + at.sigma_b**2
        assert size == pytest.approx(q, rel=1e-9)


def test_an_activation_without_a_critical_point_is_refused() -> None:
    with pytest.raises(InputError, match=r"experiment\.q=0\.1: sigmoid has no critical"):
        Jacobian(["sigmoid"])


def test_one_width_extrapolates_nothing_and_one_network_judges_nothing() -> None:
    table = Jacobian(["linear", "tanh"], replicates=1).run(Context(0))
    assert Jacobian.claims(table) == []
    assert Jacobian.answer(table).endswith(".")


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_figures_of_what_has_no_density(activation: str) -> None:
    table = Jacobian([activation], ["orthogonal"], [1], replicates=3).run(Context(0))
    drawn: list[Any] = Jacobian.figures(table)
    assert [figure.name for figure in drawn] == ["variance", "spectra"]
