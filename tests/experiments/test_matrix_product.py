"""Claims are judged on runs of fixed seeds; a claim's false alarm rate is 1e-6."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stability import config, table
from stability.catalogue.ensembles import ENSEMBLES
from stability.claims import Claim
from stability.config import build
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments.matrix_product import MatrixProduct, Moments, marks
from stability.table import select
from stability.theory import products as theory

SMALL = MatrixProduct(n=[2, 4], length=60, samples=1000, sigma=["1", "critical"])
MIXED = MatrixProduct(
    n=[2, 16], length=10, samples=40, ensemble=list(ENSEMBLES), sigma=["0.5", "critical"]
)


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return SMALL.run(Context(0))


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    return MIXED.run(Context(0))


def verdicts(frame: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in MatrixProduct.claims(frame)}


def claim(frame: pd.DataFrame, name: str) -> Claim:
    (found,) = (one for one in MatrixProduct.claims(frame) if one.name == name)
    return found


def keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """Indexed by the text of the factors that a row has."""
    keys = sorted(str(name) for name in frame if name not in table.VALUES or name == "quantity")
    columns = [
        frame[name].map(lambda x, k=name: "" if pd.isna(x) else f"{k}={x} ") for name in keys
    ]
    return frame.set_index(pd.Index(np.sum(columns, axis=0))).sort_index()


def assert_part_of(part: pd.DataFrame, whole: pd.DataFrame, atol: float = 1e-12) -> None:
    one, all_rows = keyed(part), keyed(whole)
    assert one.index.is_unique
    shared = all_rows.loc[one.index]
    for column in ("measured", "predicted", "stderr", "n_samples"):
        np.testing.assert_allclose(one[column], shared[column], rtol=1e-12, atol=atol)


def test_every_claim_holds_where_there_are_samples(small: pd.DataFrame) -> None:
    found = verdicts(small)
    assert set(found.values()) == {"holds"}, found
    wanted = {"vector_growth", "growth_law", "passage", "condition", "svd_breakdown", "d2l_belief"}
    assert wanted <= set(found)


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("vector_growth", "log10_vector"),
        ("vector_spread", "log10_vector_std"),
        ("norm_growth", "log10_norm"),
        ("growth_law", "growth_distance"),
        ("lyapunov_spectrum", "lyapunov_exponent"),
        ("lyapunov_spread", "lyapunov_exponent_std"),
        ("determinant", "log_determinant_rate"),
        ("critical", "lyapunov_exponent"),
        ("smallest_exponent", "smallest_exponent"),
        ("condition", "log10_condition"),
        ("passage", "vector_overflow"),
        ("overflow_float16", "overflow_share"),
        ("underflow", "underflow_share"),
        ("svd_breakdown", "svd_breakdown"),
        ("d2l_quantiles", "d2l_log10_entry_quantile"),
        ("d2l_band", "d2l_inside_band"),
        ("d2l_belief", "d2l_inside_belief"),
    ],
)
def test_a_wrong_measurement_fails_its_claim(small: pd.DataFrame, name: str, quantity: str) -> None:
    wrong = small.copy()
    rows = wrong["quantity"] == quantity
    wrong.loc[rows, "measured"] = 1.5 * wrong.loc[rows, "measured"] + 0.5
    assert claim(wrong, name).verdict == "fails"


def test_orthogonal_exponents_are_zero_within_the_bound(mixed: pd.DataFrame) -> None:
    assert claim(mixed, "orthogonal").verdict == "holds"
    wrong = mixed.copy()
    wrong.loc[wrong["ensemble"] == "orthogonal", "measured"] += 1e-5
    assert claim(wrong, "orthogonal").verdict == "fails"
    critical = select(mixed, "lyapunov_exponent", ensemble="orthogonal", sigma="critical")
    assert (critical["scale"] == 1).all()


def test_other_laws_are_predicted_from_order_16_on(mixed: pd.DataFrame) -> None:
    for name in ("uniform", "rademacher"):
        norms = select(mixed, "log10_vector", ensemble=name)
        assert norms.loc[norms["n"] == 2, "predicted"].isna().all()
        assert norms.loc[norms["n"] == 16, "predicted"].notna().all()
    assert claim(mixed, "universality").verdict in ("holds", "undetermined")
    wrong = mixed.copy()
    wrong.loc[wrong["ensemble"] == "uniform", "measured"] *= 2
    assert claim(wrong, "universality").verdict == "fails"


def test_signs_of_order_two_lose_a_dimension_and_then_everything(mixed: pd.DataFrame) -> None:
    part = select(mixed, "lyapunov_exponent", ensemble="rademacher", n=2, k=2)
    assert (part["measured"] == -np.inf).all()
    norms = select(mixed, "log10_norm", ensemble="rademacher", n=2, factors=10)
    assert (norms["measured"] == -np.inf).all()


def scaled(monkeypatch: pytest.MonkeyPatch, gain: float) -> None:
    entry = ENSEMBLES["gaussian"]

    def biased(samples: int, n: int, generator: torch.Generator) -> torch.Tensor:
        return gain * entry.draw(samples, n, generator)

    monkeypatch.setitem(ENSEMBLES, "gaussian", replace(entry, draw=biased))


def test_a_biased_generator_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled(monkeypatch, 1.1)
    found = verdicts(SMALL.run(Context(0)))
    for name in ("vector_growth", "norm_growth", "lyapunov_spectrum", "determinant", "critical"):
        assert found[name] == "fails", name
    # A scale moves neither the condition number nor the spread.
    assert found["condition"] == "holds"
    assert found["lyapunov_spread"] == "holds"


def test_a_wrong_theory_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = theory.lyapunov_spectrum

    def wrong(n: int, sigma: float = 1.0, complex: bool = False) -> Any:
        return right(n + 1, sigma, complex)[:n]

    monkeypatch.setattr(theory, "lyapunov_spectrum", wrong)
    assert verdicts(SMALL.run(Context(0)))["lyapunov_spectrum"] == "fails"


@pytest.mark.parametrize("option", ["n", "sigma", "dtype", "ensemble"])
def test_a_cell_alone_has_the_rows_of_the_grid(option: str) -> None:
    grid = MatrixProduct(
        n=[2, 4],
        length=9,
        samples=20,
        ensemble=["gaussian", "uniform"],
        sigma=["1", "critical"],
        dtype=["float16", "float64"],
    )
    whole = grid.run(Context(3))
    total = []
    for value in getattr(grid, option):
        cell: dict[str, Any] = {option: [value]}
        part = replace(grid, **cell).run(Context(3))
        assert_part_of(part, whole)
        total.append(keyed(part).index)
    assert set(total[0]) | set(total[1]) == set(keyed(whole).index)


def test_draws_do_not_depend_on_the_length(small: pd.DataFrame) -> None:
    shorter = replace(SMALL, length=30).run(Context(0))
    for quantity in ("log10_vector", "log10_vector_std", "overflow_share", "vector_underflow"):
        # The error of a passage probability, and of the square root of it.
        atol = 1e-7 if quantity.startswith(("overflow", "vector_u")) else 1e-12
        assert_part_of(select(shorter, quantity), select(small, quantity), atol)
    books = "d2l_log10_entry_quantile"
    assert_part_of(select(shorter, books), select(small, books))


def test_more_samples_begin_with_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    original = Moments.add

    def add(self: Moments, values: np.ndarray) -> None:
        seen.append(values)
        original(self, values)

    monkeypatch.setattr(Moments, "add", add)
    small = MatrixProduct(n=[2], length=5, samples=1030)
    for samples in (1030, 1100):
        replace(small, samples=samples).run(Context(0))
    half = len(seen) // 2
    # Two blocks of norms and vectors, then the exponents at once.
    for one, other in zip(seen[:4], seen[half : half + 4], strict=True):
        assert np.array_equal(one, other[: len(one)])


def test_sigma_takes_numbers_and_critical_and_is_canonical() -> None:
    base = {
        "_target_": "stability.experiments.matrix_product.MatrixProduct",
        "n": 4,
        "length": 3,
        "samples": 2,
        "ensemble": "gaussian",
        "dtype": "float32",
    }
    for given, kept in ((1, ["1"]), ([0.5, 1], ["0.5", "1"]), ("critical", ["critical"])):
        experiment = build({**base, "sigma": given})
        assert isinstance(experiment, MatrixProduct)
        assert experiment.sigma == kept
    for wrong in ("1.0e0", "-1", "nan", "inf", "0", "big"):
        with pytest.raises(InputError, match=r"experiment\.sigma"):
            MatrixProduct(sigma=["1", wrong])


@pytest.mark.parametrize("options", [{"n": [1]}, {"samples": 1}, {"length": 0}])
def test_the_smallest_sizes(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"experiment.{next(iter(options))}"):
        MatrixProduct(**options)


def test_marks_are_a_ladder_that_length_only_cuts() -> None:
    assert marks(7) == [1, 2, 3, 4, 5, 6, 7]
    long, longer = marks(1000), marks(10_000)
    assert long[-1] == 1000
    assert set(long[:-1]) <= set(longer)
    assert len(longer) < 250
    assert len(set(longer)) == len(longer)


def test_moments_are_those_of_all_samples_at_once() -> None:
    samples = np.random.default_rng(0).gamma(2.0, size=(4000, 3)) + 1e3
    moments = Moments()
    for part in np.split(samples, [100, 1234]):
        moments.add(part)
    mean, std = moments.frames("x", 0.0, 0.0, k=np.arange(3))
    np.testing.assert_allclose(mean["measured"], samples.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(std["measured"], samples.std(axis=0, ddof=1), rtol=1e-12)
    blocks = np.random.default_rng(1).gamma(2.0, size=(2000, 4000)).std(axis=1)
    # The spread of 2000 standard deviations is known to 5 %.
    assert std["stderr"].mean() == pytest.approx(blocks.std(), rel=0.15)


def test_two_samples_run_and_leave_claims_undetermined() -> None:
    frame = MatrixProduct(length=2, samples=2).run(Context(0))
    assert "fails" not in verdicts(frame).values()
    assert MatrixProduct.answer(frame).endswith(".")
    assert MatrixProduct.figures(frame)


def test_memory_is_bounded_by_blocks_whatever_the_samples() -> None:
    few, many = (replace(SMALL, samples=samples) for samples in (10**6, 10**9))
    assert many.memory() == few.memory()
    assert few.memory() < 2**30


def test_figures_of_all_ensembles(mixed: pd.DataFrame, small: pd.DataFrame) -> None:
    assert [f.name for f in MatrixProduct.figures(mixed)] == ["growth", "spectrum", "arithmetic"]
    drawn = MatrixProduct.figures(small)
    assert drawn[-1].name == "d2l"
    assert "23.763 and 23.729" in drawn[-1].alt
    assert "10^20.3 and 10^29.0" in drawn[-1].caption


def test_the_answer_has_the_numbers(small: pd.DataFrame) -> None:
    answer = MatrixProduct.answer(small)
    assert "predicted e^" in answer
    assert "float16" in answer


def test_the_yaml_is_the_run_worth_reporting() -> None:
    import yaml

    text = (config.CONF / "experiment" / "matrix_product.yaml").read_text()
    experiment = build(yaml.safe_load(text))
    assert isinstance(experiment, MatrixProduct)
    assert experiment.n == [2, 4, 16, 64]
    assert (experiment.length, experiment.samples) == (100, 1000)
    assert math.isfinite(experiment.memory())
