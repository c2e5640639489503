import math
from dataclasses import replace
from functools import reduce
from typing import Any

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stability import config
from stability.config import build
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import instrument
from stability.experiments.instrument import TRAPS, Instrument, all_real, relative_error
from stability.kernels import robust
from stability.theory import quadrature

SEEDS = (0, 1, 2)
PORTABLE = [name for name, trap in TRAPS.items() if trap.portable]


@pytest.fixture(scope="module")
def shipped() -> dict[int, pd.DataFrame]:
    options = yaml.safe_load((config.CONF / "experiment" / "instrument.yaml").read_text())
    return {seed: build(options).run(Context(seed)) for seed in SEEDS}


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Instrument.claims(table)}


def row(table: pd.DataFrame, trap: str, route: str) -> Any:
    return table[(table["trap"] == trap) & (table["route"] == route)].iloc[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_claim_holds_on_the_shipped_run(seed: int, shipped: dict[int, pd.DataFrame]) -> None:
    """Eight sampled claims at a level of 1e-6: false alarms 3e-5 over the three seeds."""
    found = verdicts(shipped[seed])
    assert set(found) == {f"guard_{name}" for name in TRAPS} | {"traps_catch"}
    assert set(found.values()) == {"holds"}


def test_the_shipped_run_has_every_trap(shipped: dict[int, pd.DataFrame]) -> None:
    assert set(shipped[0]["trap"]) == set(TRAPS)
    assert not shipped[0].duplicated(["trap", "route"]).any()


def test_truths_against_mpmath(shipped: dict[int, pd.DataFrame]) -> None:
    q = mp.mpf(1000)

    def gauss(f: Any, q: Any, ends: list[Any]) -> Any:
        return mp.quad(lambda u: f(u) * mp.exp(-u * u / (2 * q)), ends) / mp.sqrt(2 * mp.pi * q)

    want = {
        "quadrature_scale": gauss(
            lambda u: mp.diff(mp.erf, u) ** 2 if abs(u) < 12 else 0, q, [-12, -4, -1, 0, 1, 4, 12]
        ),
        "quadrature_kink": gauss(lambda _: 1, mp.mpf(4), [-1, 1]),
        "log_of_mean": mp.quad(lambda x: mp.log(x / 2) * x * mp.exp(-x), [0, 1, 10, mp.inf]),
        "raw_svd": gauss(lambda u: mp.log(abs(u)), mp.mpf(1), [-40, -4, 0, 4, 40]),
        "centred_moment": gauss(lambda u: u * u, mp.mpf(1), [0, 4, 40]),
        "dropped_networks": 1 - (1 - mp.mpf(1) / 8) ** 4,
        "reduced_resnet": mp.mpf(5) ** 8 / 4**8,
        "norm_underflow": 32 * mp.mpf(float(np.float32(1e-24))),
        "norm_overflow": 32 * mp.mpf(float(np.float32(1e20))),
        "wide_accumulator": 256,
    }
    for name, value in want.items():
        found = row(shipped[0], name, "guarded")["predicted"]
        assert found == pytest.approx(float(value), rel=1e-10), name


def test_known_naive_values(shipped: dict[int, pd.DataFrame]) -> None:
    found = {trap: row(shipped[0], trap, "naive")["measured"] for trap in TRAPS}
    assert found["norm_underflow"] == 0.0
    assert found["norm_overflow"] == math.inf
    assert found["clip_to_zero"] == 0.0
    assert found["log_of_zero"] == -math.inf
    assert found["dropped_networks"] == 0.0
    # 5 standard errors: false alarm 6e-7.
    for trap, value in (("centred_moment", 0.5 - 1 / (2 * math.pi)), ("log_of_mean", 0.0)):
        naive = row(shipped[0], trap, "naive")
        assert abs(naive["measured"] - value) < 5 * naive["stderr"] + 1e-3


@pytest.mark.parametrize("trap", TRAPS)
def test_a_wrong_guard_or_a_wrong_truth_fails(trap: str, shipped: dict[int, pd.DataFrame]) -> None:
    for column in ("measured", "predicted"):
        table = shipped[0].copy()
        at = (table["trap"] == trap) & (table["route"] == "guarded")
        off = table.loc[at, column].abs() * 1.5 + (table.loc[at, column] == 0) * 1e-12
        table.loc[at, column] = off
        found = verdicts(table)
        assert found.pop(f"guard_{trap}") == "fails"
        assert set(found.values()) == {"holds"}


@pytest.mark.parametrize("trap", PORTABLE)
def test_the_naive_route_taken_for_the_guarded_one_fails(
    trap: str, shipped: dict[int, pd.DataFrame]
) -> None:
    table = shipped[0].copy()
    guarded = (table["trap"] == trap) & (table["route"] == "guarded")
    table.loc[guarded, "measured"] = row(table, trap, "naive")["measured"]
    assert verdicts(table)[f"guard_{trap}"] == "fails"


@pytest.mark.parametrize("trap", PORTABLE)
def test_a_trap_that_no_longer_catches_is_told(trap: str, shipped: dict[int, pd.DataFrame]) -> None:
    table = shipped[0].copy()
    naive = (table["trap"] == trap) & (table["route"] == "naive")
    table.loc[naive, "measured"] = table.loc[naive, "predicted"]
    assert verdicts(table)["traps_catch"] == "fails"


@pytest.mark.parametrize(
    ("trap", "name", "broken"),
    [
        ("norm_overflow", "log2_norm", lambda x, _dim: x.norm().log2()),
        ("norm_underflow", "log2_norm", lambda x, _dim: x.norm().log2()),
        (
            "single_pass_variance",
            "variance",
            lambda x, dim, _dtype: x.square().mean(dim) - x.mean(dim).square(),
        ),
        ("rounding_gradient", "significant", lambda total, *_: total + 1e-9),
    ],
)
def test_a_broken_primitive_fails(
    trap: str, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, name, broken)
    table = Instrument(trap=[trap]).run(Context(0))
    assert verdicts(table)[f"guard_{trap}"] == "fails"


def test_a_quadrature_without_its_kinks_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "expectation", lambda f, q, **_: quadrature.expectation(f, q))
    assert verdicts(Instrument(trap=["quadrature_kink"]).run(Context(0))) == {
        "guard_quadrature_kink": "fails",
        "traps_catch": "holds",
    }


@pytest.mark.parametrize("trap", ["raw_svd", "reduced_resnet", "log_of_mean", "log_of_zero"])
def test_a_biased_generator_fails(trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    normal: Any = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *args, **options: 1.5 * normal(*args, **options))
    assert verdicts(Instrument(trap=[trap], samples=200).run(Context(0)))[f"guard_{trap}"] == (
        "fails"
    )


def reals(whole: np.ndarray[Any, Any]) -> bool:
    """Independent count: the roots' imaginary parts with 200 digits."""
    with mp.workdps(200):
        values, _ = mp.eig(mp.matrix(whole.tolist()))
        return all(abs(mp.im(value)) < mp.mpf(10) ** -60 * abs(value) for value in values)


def test_real_eigenvalues_against_mpmath() -> None:
    generator = np.random.default_rng(3)
    seen = set()
    for factors in (1, 1, 1, 1, 2, 3, 5, 8) * 3:
        draws = generator.integers(-40, 41, size=(factors, 4, 4)).astype(object)
        product = reduce(np.matmul, draws)
        seen.add(all_real(product))
        assert all_real(product) == reals(product)
    assert seen == {True, False}


def test_share_of_real_eigenvalues_of_one_matrix_is_edelmans() -> None:
    """2^(-n (n - 1) / 4) = 1 / 8 for n = 4 (Edelman 1997); 4.5 standard errors: 7e-6."""
    draws = np.rint(2**20 * np.random.default_rng(0).normal(size=(1000, 4, 4))).astype(int)
    share = np.mean([all_real(matrix) for matrix in draws.astype(object)])
    assert abs(share - 1 / 8) < 4.5 * math.sqrt(7 / 64 / 1000)


def test_relative_error_is_absolute_at_zero_and_keeps_infinities() -> None:
    got = relative_error([2.0, 0.25, math.inf, -1.0, -math.inf], [4.0, 0.0, 1.0, -2.0, -3.0])
    assert got.tolist() == [0.5, 0.25, math.inf, 0.5, math.inf]


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_alone(trap: str) -> None:
    table = Instrument(trap=[trap], samples=8).run(Context(4))
    assert table["route"].tolist() == ["naive", "guarded"]
    assert f"guard_{trap}" in verdicts(table)
    assert "fails" not in verdicts(table).values()
    assert Instrument.answer(table).endswith(".")
    (figure,) = Instrument.figures(table)
    labels = [text.get_text() for text in figure.figure.axes[0].get_yticklabels()]
    assert labels == [trap.replace("_", " ")]


def test_the_answer_counts(shipped: dict[int, pd.DataFrame]) -> None:
    errors = shipped[0][shipped[0]["route"] == "naive"]
    wrong = sum(
        not abs(m - p) <= 0.1 * (abs(p) or 1)
        for m, p in zip(errors["measured"], errors["predicted"], strict=True)
    )
    answer = Instrument.answer(shipped[0])
    assert answer.startswith(f"{wrong} of 16 naive measurements")
    assert "16 of 16 guarded ones" in answer
    worse = shipped[0].assign(measured=lambda t: t["measured"] + 1e30)
    assert "0 of 16 guarded ones" in Instrument.answer(worse)


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"experiment\.trap='raw_svt': .*did you mean 'raw_svd'"):
        Instrument(trap=["raw_svt"])
    with pytest.raises(InputError, match=r"experiment\.samples=7: .*at least 8"):
        replace(Instrument(), samples=7)
