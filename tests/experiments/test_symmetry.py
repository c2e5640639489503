"""Claims about equal units hold on any seed, and fail where units or theory are others."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import symmetry as module
from stability.experiments.symmetry import Symmetry
from stability.kernels import two_layer
from stability.table import select

SMALL = Symmetry([3, 19], ["sgd", "adam"], [0.0, 0.25], steps=100)
TINY = Symmetry([3], ["sgd"], [0.0], steps=25)
NAMES = [
    "equal_fractions", "equal_ordered_float32", "rank_one", "rounding_bound", "growth",
    "last_place", "hessian", "saddle", "dropout_rank", "zero_gradient", "noise_move", "zero_moves",
    "from_zero", "same_function", "equivalent_networks",
]  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return SMALL.run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Symmetry.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    assert verdicts(table) == dict.fromkeys(NAMES, "holds")


@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_on_other_data_and_under_momentum(seed: int) -> None:
    found = verdicts(replace(SMALL, optimizer=["momentum"], width=[5]).run(Context(seed)))
    assert found == dict.fromkeys(NAMES, "holds")


@pytest.mark.parametrize(
    ("claim", "quantity", "shift", "where"),
    [
        ("equal_fractions", "deviation", 1e-300, {"arithmetic": "fractions"}),
        ("equal_ordered_float32", "deviation", 1e-45, {"arithmetic": "ordered_float32"}),
        ("rank_one", "rank", 1.0, {"arithmetic": "ordered_float32", "dropout": 0.0}),
        ("rank_one", "rank", 1.0, {"arithmetic": "fractions", "dropout": 0.0}),
        ("rounding_bound", "deviation", 1e-3, {"arithmetic": "matmul_float32"}),
        ("rounding_bound", "deviation", 1e-9, {"arithmetic": "matmul_float64"}),
        ("growth", "growth", 1e-4, {}),
        ("last_place", "growth", 1e-3, {}),
        ("hessian", "transverse_eigenvalue", 1e-9, {}),
        ("saddle", "transverse_eigenvalue", 10.0, {}),
        ("dropout_rank", "rank", -1.0, {"dropout": 0.25}),
        ("zero_gradient", "noise_gradient", 1e-4, {"arithmetic": "matmul_float32"}),
        ("noise_move", "noise_largest_move", 1e-3, {"arithmetic": "ordered_float32"}),
        ("zero_moves", "noise_largest_move", 1e-3, {}),
        ("noise_move", "noise_deviation", 1e-9, {"arithmetic": "matmul_float64"}),
        ("from_zero", "from_zero", 1e-45, {}),
        ("same_function", "output_gap", 1e-30, {"transformation": "signs"}),
        ("same_function", "output_gap", 1e-30, {"transformation": "powers of two"}),
        ("same_function", "output_gap", 1e-4, {"transformation": "permutation"}),
        ("same_function", "output_gap", 1e-4, {"transformation": "factors"}),
        ("equivalent_networks", "equivalent_networks", -1.0, {}),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, claim: str, quantity: str, shift: float, where: dict[str, Any]
) -> None:
    wrong = table.copy()
    wrong.loc[select(wrong, quantity, **where).index, "measured"] += shift
    assert verdicts(wrong)[claim] == "fails"


def test_one_unit_summed_elsewhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a matrix product's remainder may be: its last column starts at another summand."""

    def uneven(a: Tensor, b: Tensor) -> Tensor:
        last = two_layer.ordered(a.roll(1, 1), b[:, -1:].roll(1, 0))
        return torch.cat([two_layer.ordered(a, b[:, :-1]), last], dim=1)

    changed = {**module.FLOATS, "ordered_float32": (uneven, torch.float32)}
    monkeypatch.setattr(module, "FLOATS", changed)
    found = verdicts(TINY.run(Context(0)))
    assert found["equal_ordered_float32"] == "fails"
    assert found["equal_fractions"] == "holds"


def test_noise_above_rounding_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(a: Tensor, b: Tensor) -> Tensor:
        exact = torch.mm(a, b)
        return exact * (1 + 1e-3 * torch.arange(exact.shape[1]) / exact.shape[1])

    monkeypatch.setattr(
        module, "FLOATS", {**module.FLOATS, "matmul_float32": (noisy, torch.float32)}
    )
    assert verdicts(TINY.run(Context(0)))["rounding_bound"] == "fails"


def test_bfloat16_products_are_no_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def low(a: Tensor, b: Tensor) -> Tensor:
        wrong = torch.mm(a, b)
        wrong[:, -1] = wrong[:, -1].bfloat16().float()
        return wrong

    monkeypatch.setattr(module, "FLOATS", {**module.FLOATS, "matmul_float32": (low, torch.float32)})
    assert verdicts(TINY.run(Context(0)))["rounding_bound"] == "fails"


def test_a_theory_without_the_corner_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """phi'' = 0: right for ReLU, wrong for tanh."""
    told = module._Data.told

    def bent(self: Any, units: int, activation: str) -> Any:
        data = told(self, units, activation)
        flat = replace(data.nonlinearity, d2phi=np.zeros_like)
        return data._replace(nonlinearity=flat)

    monkeypatch.setattr(module._Data, "told", bent)
    found = verdicts(TINY.run(Context(0)))
    assert found["growth"] == found["hessian"] == "fails"


@pytest.mark.parametrize(("name", "factor"), [("sgd", 1.001), ("momentum", 1.001), ("adam", 1.001)])
def test_growth_knows_the_rate(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    rule = module.theory.rule
    monkeypatch.setattr(module.theory, "rule", lambda name, rate: rule(name, factor * rate))
    assert verdicts(replace(TINY, optimizer=[name]).run(Context(0)))["growth"] == "fails"


def test_dropout_of_whole_samples_breaks_no_symmetry(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = module._Cell._keep

    def alike(self: Any, dropout: float, arithmetic: str) -> Any:
        keep = drawn(self, dropout, arithmetic)
        if keep is None:
            return None

        def same() -> Any:
            mask = keep()
            return mask[:, :1] + mask * 0

        return same

    monkeypatch.setattr(module._Cell, "_keep", alike)
    found = verdicts(replace(TINY, dropout=[0.25]).run(Context(0)))
    assert found["dropout_rank"] == "fails"


def test_an_uneven_head_has_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = module.functional.one_hot
    monkeypatch.setattr(module.functional, "one_hot", lambda labels, k: 2 * hot(labels, k))
    assert verdicts(TINY.run(Context(0)))["zero_gradient"] == "fails"


def test_another_epsilon_moves_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    adam = module.adam
    monkeypatch.setattr(module, "adam", lambda rate: adam(rate, eps=1e-6))
    assert verdicts(TINY.run(Context(0)))["noise_move"] == "fails"


def test_units_of_an_even_activation_have_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = module.ACTIVATIONS["softsign"]
    even = replace(soft, forward=lambda z: soft.forward(z).abs(), phi=lambda z: abs(soft.phi(z)))
    monkeypatch.setitem(module.ACTIVATIONS, "softsign", even)
    found = verdicts(TINY.run(Context(0)))
    assert found["same_function"] == found["equivalent_networks"] == "fails"


def test_rank_of_fractions_is_the_rank() -> None:
    third = Fraction(1, 3)
    rows = np.array([[1, 2, 3], [2, 4, 6], [0, 0, third], [1, 2, 3 + third]], dtype=object)
    exact = module._exact(rows)
    assert module._exact_rank(exact) == 2
    assert module._exact_rank(exact[:2]) == 1
    assert module._exact_rank(exact * 0) == 0
    assert module._exact_rank(module._exact(np.eye(4) / 7)) == 4


def test_the_root_of_fractions_is_cut_at_its_place() -> None:
    squares = module._exact(np.array([2.0, 0.25, 0.0]))
    roots = module._root(squares)
    assert list(roots[1:]) == [Fraction(1, 2), 0]
    assert 0 < 2 - roots[0] ** 2 < Fraction(3, 2**module.ROOT_BITS)


def test_diverged_weights_have_no_rank() -> None:
    values = module._singular(torch.tensor([[np.inf, 1.0], [0.0, 1.0]]))
    assert np.isnan(values).all()


def test_a_matrix_product_that_sums_alike_is_told_so() -> None:
    """Other machines, other products: the answer has words for those that part no units."""
    calm = TINY.run(Context(0))
    calm.loc[calm["quantity"] == "deviation", "measured"] = 0.0
    assert "happened to sum all units alike" in Symmetry.answer(calm)
    assert {f.name for f in Symmetry.figures(calm)} == {"deviation", "growth", "rank"}


def test_dropout_alone_is_judged_without_the_rest() -> None:
    table = replace(TINY, dropout=[0.5]).run(Context(0))
    found = verdicts(table)
    assert set(NAMES) - set(found) == {
        "equal_fractions", "equal_ordered_float32", "rank_one", "rounding_bound"
    }  # fmt: skip
    assert set(found.values()) == {"holds"}
    assert Symmetry.answer(table).startswith("Two of 3 units")
    assert len(Symmetry.figures(table)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": [1]}, "at least 2"),
        ({"optimizer": ["adm"]}, "did you mean 'adam'"),
        ({"dropout": [1.0]}, "at most 0.9"),
        ({"dropout": [-0.1]}, "at least 0"),
        ({"steps": 0}, "experiment.steps"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Symmetry(**options)
