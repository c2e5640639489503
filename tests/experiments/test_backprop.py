"""Backpropagation by hand: every claim holds, and fails for a wrong pass, count or step."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
import torch
from exact import EXACT

from stability.catalogue.activations import ACTIVATIONS
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import backprop
from stability.experiments.backprop import Backprop
from stability.kernels import backprop as kernel
from stability.table import select
from stability.theory import backprop as theory

SMALL = Backprop(
    ["squared", "cross_entropy"], ["tanh", "relu"], [1, 3], [5], [2], [False, True], replicates=16
)
CLAIMS = {
    "paper_example", "by_hand", "float32", "differences", "central_slope", "forward_slope",
    "complex_step", "hessian_by_hand", "hessian_symmetry", "hessian_difference", "rounding_slope",
    "kept", "kept_by_hand", "prediction", "checkpoint", "forward_cost", "gradient_cost",
    "checkpoint_cost", "hessian_cost",
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Backprop.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    assert verdicts(table) == dict.fromkeys(CLAIMS, "holds")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_claim_holds_for_every_activation(activation: str) -> None:
    experiment = Backprop(["cross_entropy"], [activation], [4], [6], [3], [True], replicates=8)
    found = verdicts(experiment.run(Context(1)))
    assert set(found.values()) <= {"holds", "undetermined"}, found
    assert [name for name in found if found[name] == "undetermined"] in ([], ["rounding_slope"])


@pytest.mark.parametrize(
    ("quantity", "method", "shift", "broken"),
    [
        ("value", None, 1e-14, "paper_example"),
        ("gradient", None, 1e-14, "paper_example"),
        ("gradient_error", "autograd", 1e-11, "by_hand"),
        ("gradient_error", "float32", 1e-2, "float32"),
        ("difference_error", "central", 1e-6, "differences"),
        ("curve_error", "central", 1e-1, "central_slope"),
        ("curve_error", "forward", 1e-1, "forward_slope"),
        ("curve_error", "complex", 1e-10, "complex_step"),
        ("rounding_slope", "central", 1.0, "rounding_slope"),
        ("hessian_error", "autograd", 1e-9, "hessian_by_hand"),
        ("hessian_symmetry", "by hand", 1e-9, "hessian_symmetry"),
        ("hessian_difference_error", "central", 1e-5, "hessian_difference"),
        ("kept_bytes", "autograd", 1.0, "kept"),
        ("kept_bytes", "by hand", 1.0, "kept_by_hand"),
        ("kept_bytes", "prediction", 1.0, "prediction"),
        ("kept_bytes", "checkpoint", 1.0, "checkpoint"),
        ("forward_flops", "by hand", 1.0, "forward_cost"),
        ("gradient_flops", "autograd", 1.0, "gradient_cost"),
        ("gradient_flops", "checkpoint", 1.0, "checkpoint_cost"),
        ("hessian_vector_flops", "autograd", 1.0, "hessian_cost"),
    ],
)
def test_a_wrong_number_breaks_its_claim_alone(
    table: pd.DataFrame, quantity: str, method: str | None, shift: float, broken: str
) -> None:
    wrong = table.copy()
    chosen = wrong["quantity"] == quantity
    if method:
        chosen &= (wrong["method"] == method).fillna(False).astype(bool)
    assert chosen.any()
    wrong.loc[chosen, "measured"] += shift
    assert {name for name, verdict in verdicts(wrong).items() if verdict == "fails"} == {broken}


def mutated(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> dict[str, str]:
    real = getattr(kernel, name)
    monkeypatch.setattr(kernel, name, lambda *args: change(real(*args)))
    return verdicts(Backprop().run(Context(0)))


def test_a_backward_pass_wrong_by_1e_9_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd and the complex step see it; differences cannot."""

    def change(found: kernel.Backward) -> kernel.Backward:
        weights, biases = found.parameters
        worse = [weight * (1 + 1e-9) for weight in weights]
        return found._replace(parameters=kernel.Parameters(worse, biases))

    found = mutated(monkeypatch, "backward", change)
    assert (found["by_hand"], found["complex_step"]) == ("fails", "fails")
    assert found["hessian_by_hand"] == found["kept"] == "holds"


def test_a_hessian_without_the_bend_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernel.hessian_vector
    monkeypatch.setattr(
        kernel, "hessian_vector",
        lambda net, *rest: real(net._replace(bend=torch.zeros_like), *rest),
    )  # fmt: skip
    found = verdicts(Backprop().run(Context(0)))
    assert found["hessian_by_hand"] == found["hessian_difference"] == "fails"
    assert found["by_hand"] == "holds"


def test_a_forward_pass_that_keeps_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(passed: kernel.Forward) -> kernel.Forward:
        return passed._replace(z=[torch.cat([z, z], -2)[..., : z.shape[-2], :] for z in passed.z])

    assert mutated(monkeypatch, "forward", change)["kept_by_hand"] == "fails"


def test_an_activation_that_keeps_another_tensor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backprop.SAVINGS, "tanh", theory.Saving(1, False))
    found = verdicts(Backprop().run(Context(0)))
    assert found["kept"] == "fails"


def test_relu_fails_its_check_across_a_kink_and_the_table_says_so() -> None:
    experiment = Backprop(["squared"], ["relu"], [2], [64], [64], [True], replicates=4)
    errors = select(experiment.run(Context(0)), "difference_error")
    crossed = errors["predicted"].isna()
    assert crossed.any()
    assert errors["measured"][crossed].max() > errors["bound"][~crossed].max()
    assert (errors["measured"] <= errors["bound"])[~crossed].all()


def test_gradients_that_underflow_in_float32_are_not_judged_but_told() -> None:
    deep = Backprop(["squared"], ["sigmoid"], [60], [1], [2], [True], replicates=4)
    frame = deep.run(Context(0))
    single = select(frame, "gradient_error", method="float32")
    assert single["predicted"].isna().any()
    assert single["measured"].max() > 0.01
    assert verdicts(frame)["float32"] == "holds"


def test_the_best_step_is_within_a_decade_of_the_measured_one(table: pd.DataFrame) -> None:
    best = select(table, "best_step")
    ratio = np.abs(np.log10(best["measured"].to_numpy() / best["predicted"].to_numpy()))
    assert ratio.max() < 1


def test_memory_grows_with_depth_and_batch_and_less_with_checkpoints() -> None:
    frame = Backprop(depth=[5, 17], batch=[2, 6], width=[8]).run(Context(0))
    kept = select(frame, "kept_bytes").set_index(["method", "depth", "batch"])["measured"]
    plain, short = kept["autograd"], kept["checkpoint"]
    assert plain[17, 6] == 3 * plain[17, 2]
    assert plain[17, 2] - plain[5, 2] == 8 * 2 * 8 * 12
    assert short[17, 2] == 8 * 2 * (3 * 8 + 8 * 4)
    assert kept["prediction"][17, 2] == kept["prediction"][5, 2]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_elementary_functions_err_by_no_more_than_the_bounds_assume(name: str) -> None:
    """Value and two derivatives, the catalogue's and autograd's, in float64 and float32."""
    points = torch.linspace(-9.7, 9.6, 400, dtype=torch.float64)
    entry = ACTIVATIONS[name]
    for dtype, u in ((torch.float64, 2.0**-53), (torch.float32, 2.0**-24)):
        z = points.to(dtype)
        leaf = z.clone().requires_grad_()
        found = [entry.forward(leaf)]
        for _ in range(2):
            (slope,) = torch.autograd.grad(
                found[-1].sum(), leaf, create_graph=True, materialize_grads=True
            ) if found[-1].requires_grad else (torch.zeros_like(z),)  # fmt: skip
            found.append(slope)
        mine = [entry.forward(z), entry.derivative(z), entry.second_derivative(z)]
        for exact, one, other in zip(EXACT[name], mine, found, strict=True):
            with mp.workdps(40):
                truth = np.array([float(exact(mp.mpf(x))) for x in z.tolist()])
            allowed = theory.ELEMENTARY * u * (1 + np.abs(z.double().numpy()))
            for values in (one, other):
                assert (np.abs(values.detach().double().numpy() - truth) <= allowed).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": ["hinge"]}, "experiment.loss='hinge': must be one of squared, cross_entropy"),
        ({"activation": ["tahn"]}, "did you mean 'tanh'"),
        ({"depth": [0]}, "experiment.depth=0"),
        ({"width": [0]}, "experiment.width=0"),
        ({"batch": [0]}, "experiment.batch=0"),
        ({"bias": []}, "experiment.bias"),
        ({"bias": [True, True]}, "experiment.bias"),
        ({"decay": -0.1}, "experiment.decay=-0.1"),
        ({"decay": math.nan}, "experiment.decay=nan"),
        ({"decay": 1e7}, "at most 1e"),
        ({"replicates": 1}, "experiment.replicates=1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Backprop(**options)


@pytest.mark.parametrize("options", [{"decay": 0.0}, {"depth": [1]}, {"width": [1], "batch": [1]},
                                     {"activation": ["linear"], "depth": [2]},
                                     {"depth": [6]}, {"decay": 1e6}])  # fmt: skip
def test_the_least_of_everything_runs_and_holds(options: dict[str, Any]) -> None:
    made = Backprop(**options, replicates=8).run(Context(3))
    assert "fails" not in verdicts(made).values()
    assert Backprop.answer(made).endswith(".")
    assert len(Backprop.figures(made)) == 3
