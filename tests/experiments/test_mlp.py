"""Perceptrons: every claim holds, fails for wrong numbers, and a result knows its data."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from idx_files import arrays, write
from torch import Tensor

from stability.config import describe
from stability.errors import InputError
from stability.experiment import Context
from stability.experiments import mlp as module
from stability.experiments.mlp import Mlp
from stability.kernels.perceptron import Concise, Scratch
from stability.store import identity
from stability.table import select

SMALL: dict[str, Any] = {
    "init": ["normal", "he"],
    "hidden": 16,
    "epochs": 3,
    "width": [1, 8],
    "learning_rate": [0.03, 0.1, 1.0],
    "draws": 64,
}
CLAIMS = {
    "steps_are_exact", "scratch_is_concise_float32", "scratch_is_concise_float64", "same_accuracy",
    "cost", "initial_loss", "one_unit", "sharpness", "least_squares_threshold", "softmax_descends",
    "cross_entropy_cannot_explode",
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return Mlp(**SMALL).run(Context(0))


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in Mlp.claims(table)}


def test_every_claim_holds(table: pd.DataFrame) -> None:
    found = verdicts(table)
    assert set(found) == CLAIMS
    assert set(found.values()) == {"holds"}, found


@pytest.mark.parametrize(
    ("quantity", "claim", "shift"),
    [
        ("step_error", "steps_are_exact", 1e-3),
        ("gap", "scratch_is_concise_float32", 1e-4),
        ("gap", "scratch_is_concise_float64", 1e-13),
        ("accuracy_gap", "same_accuracy", 0.01),
        ("flops", "cost", 1.0),
        ("initial_loss", "initial_loss", 0.1),
        ("one_unit_accuracy", "one_unit", 0.5),
        ("sharpness", "sharpness", 1e-5),
        ("log10_least_squares_gap", "least_squares_threshold", 1e-8),
        ("softmax_rises", "softmax_descends", 0.05),
        ("softmax_worst_loss", "cross_entropy_cannot_explode", 1e5),
    ],
)
def test_a_wrong_number_breaks_its_claim(
    table: pd.DataFrame, quantity: str, claim: str, shift: float
) -> None:
    wrong = table.copy()
    wrong.loc[wrong["quantity"] == quantity, "measured"] += shift
    assert verdicts(wrong)[claim] == "fails"


class Faulty(Concise):
    """Plain SGD but for one thing."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, **options: float) -> None:
        super().__init__(parameters, rate)
        self._optimizer.param_groups[0].update(options)


@pytest.mark.parametrize(
    "fault",
    [
        {"lr": 0.1001},
        {"weight_decay": 1e-2},
        {"momentum": 0.1},
    ],
)
def test_a_program_that_does_something_else_is_found_out(
    monkeypatch: pytest.MonkeyPatch, fault: dict[str, float]
) -> None:
    made = {"scratch": Scratch, "concise": lambda p, rate: Faulty(p, rate, **fault)}
    monkeypatch.setattr(module, "PROGRAMS", made)
    found = verdicts(Mlp(hidden=16, rate=0.1, epochs=2).run(Context(0)))
    names = ("steps_are_exact", "scratch_is_concise_float32", "scratch_is_concise_float64")
    assert [found[name] for name in names] == ["fails"] * 3


class Late(Scratch):
    """Takes the second layer's new weights for the first layer's gradient."""

    def step(self, x_BD: Tensor, y_B: Tensor) -> None:
        before = [p.clone() for p in self._parameters]
        super().step(x_BD, y_B)
        late = [before[0], before[1], *self._parameters[2:]]
        self._parameters, kept = late, self._parameters
        super().step(x_BD, y_B)
        self._parameters = [*self._parameters[:2], *kept[2:]]


def test_an_error_of_the_backward_pass_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAMS", {"scratch": Late, "concise": Concise})
    found = verdicts(Mlp(hidden=16, epochs=2, init=["he"]).run(Context(0)))
    assert found["steps_are_exact"] == "fails"
    assert found["scratch_is_concise_float64"] == "fails"


def test_claims_fail_with_a_biased_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.draw_unit
    monkeypatch.setattr(module, "draw_unit", lambda *a: 3 * plain(*a))
    wide = Mlp(init=["he"], hidden=32, width=[32], depth=[1], draws=32)
    assert verdicts(wide.run(Context(0)))["initial_loss"] == "fails"


def test_the_chapters_network_is_equal_to_1e_13_in_float64() -> None:
    """256 hidden units, batches of 256, rate 0.1; float32 within a thousandth of a percent."""
    found = Mlp(hidden=256, batch=256, rate=0.1, epochs=10, checked=1).run(Context(0))
    gaps = {dtype: select(found, "gap", dtype=dtype)["measured"] for dtype in module.DTYPES}
    assert len(gaps["float64"]) == 60
    assert gaps["float64"].max() < 1e-13
    assert 0 < gaps["float32"].max() < 1e-5
    final = select(found, "accuracy", part="test", epoch=10)
    assert (final["measured"] > 0.7).all()


def test_the_gap_grows_from_zero_and_float64_is_smaller_by_its_roundings(
    table: pd.DataFrame,
) -> None:
    for init in SMALL["init"]:
        single, double = (
            select(table, "gap", dtype=d, init=init)["measured"].to_numpy() for d in module.DTYPES
        )
        assert single[0] < 2 * 2**-24
        assert single[-1] > single[0] > 0
        # A random walk each: alike but for a factor that 2^-29 dwarfs.
        assert 0.1 < double[-1] / single[-1] * 2**29 < 10


def test_storing_is_most_of_a_steps_error(table: pd.DataFrame) -> None:
    """The law of uniform roundings; 1210 weights, of which the products' errors are the lesser."""
    steps = select(table, "step_error")
    ratio = steps["measured"] / steps["predicted"]
    assert ratio.between(0.7, 1.5).all()


def test_the_networks_loss_is_what_torch_says(table: pd.DataFrame) -> None:
    curves = select(table, "loss", program="concise", dtype="float64", init="normal", part="train")
    assert curves["epoch"].tolist() == [0, 1, 2, 3]
    assert curves["measured"].iloc[0] == pytest.approx(math.log(10), abs=1e-3)
    assert curves["measured"].is_monotonic_decreasing


def test_sharpness_is_that_of_the_whole_hessian() -> None:
    from torch.autograd.functional import hessian

    x = torch.randn((7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(p: Sequence[Tensor]) -> Tensor:
        return torch.tanh(x @ p[0]).square().mean() + p[0].pow(4).sum()

    at = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    top = torch.linalg.eigvalsh(hessian(lambda w: loss([w]), at))[-1].item()
    assert module.sharpness(loss, [at], Context(0), 1e-10) == pytest.approx(top, rel=1e-8)
    assert module.sharpness(lambda p: (0 * p[0]).square().sum(), [at], Context(0), 1e-3) == 0
    assert math.isnan(module.sharpness(loss, [at * math.nan], Context(0), 1e-3))


def test_a_network_of_one_unit_is_worse_than_its_neighbours_and_bounded(
    table: pd.DataFrame,
) -> None:
    units = select(table, "one_unit_accuracy")
    assert set(units["sweep"].dropna()) == {"width", "bottleneck"}
    wide = select(table, "final_accuracy", sweep="width", width=8, init="he", part="train")
    narrow = select(table, "one_unit_accuracy", sweep="width", init="he")
    assert narrow["measured"].max() < wide["measured"].iloc[0]


def test_divergence_is_a_result() -> None:
    wild = Mlp(init=["he"], rate=1e4, learning_rate=[1e-6, 1e4], epochs=2).run(Context(0))
    assert "fails" not in verdicts(wild).values()
    for figure in Mlp.figures(wild):
        figure.figure.draw_without_rendering()
    assert Mlp.answer(wild).endswith(".")


class Overflowing(Concise):
    """Whose second step leaves the format's range."""

    steps = 0

    def step(self, x_BD: Tensor, y_B: Tensor) -> None:
        super().step(x_BD, y_B)
        self.steps += 1
        if self.steps == 2:
            self.parameters()[0].data.fill_(math.inf)


def test_an_overflow_of_one_program_alone_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAMS", {"scratch": Scratch, "concise": Overflowing})
    found = Mlp(hidden=16, epochs=1, init=["he"], checked=3).run(Context(0))
    scratch, concise = (
        select(found, "step_error", program=name).set_index("step") for name in module.PROGRAMS
    )
    assert np.isfinite(scratch[["measured", "predicted"]].to_numpy()).all()
    assert np.isfinite(concise.loc[1, ["measured", "predicted"]].astype(float)).all()
    assert np.isinf(concise.loc[2, "measured"])
    assert np.isnan(concise.loc[3, "measured"])
    assert concise.loc[2:, "predicted"].isna().all()
    assert "fails" not in verdicts(found).values()
    for figure in Mlp.figures(found):
        figure.figure.draw_without_rendering()


def test_the_answer_has_the_tables_numbers(table: pd.DataFrame) -> None:
    final = select(table, "accuracy", part="test", epoch=3, dtype="float32", init="he")
    told = Mlp.answer(table)
    one, other = final["measured"]
    assert f"he: {one:.1%} from scratch, {other:.1%} concise" in told
    gap = select(table, "gap", dtype="float32")["measured"].max()
    assert f"{gap:.1g} in float32" in told


def idx_run(folder: Path, **options: Any) -> Mlp:
    return Mlp(data="idx", folder=str(folder), batch=16, **options)


def test_a_folder_of_idx_files_is_a_dataset(tmp_path: Path) -> None:
    write(tmp_path, arrays(), packed=True)
    experiment = idx_run(tmp_path, epochs=30, rate=0.3, init=["he"], hidden=32)
    found = experiment.run(Context(0))
    assert "fails" not in verdicts(found).values()
    assert experiment.content is not None
    assert set(found["data"]) == {f"idx {experiment.content[:16]}"}
    final = select(found, "accuracy", part="train", epoch=30, program="scratch", dtype="float64")
    assert final["measured"].item() > 0.9


def test_least_squares_may_decay_below_its_roundings(tmp_path: Path) -> None:
    """Two pixels standardised to -1 and 1: X^T X / N = I, and rate 1 leaves nothing at all."""
    images, labels = np.array([0, 9], np.uint8).reshape(2, 1, 1), np.array([0, 1], np.uint8)
    write(tmp_path, [images, labels, images, labels])
    found = idx_run(tmp_path, learning_rate=[0.9, 1.0]).run(Context(0))
    assert "fails" not in verdicts(found).values()
    assert (select(found, "log10_least_squares_gap")["measured"] < -15).all()


def test_a_result_is_that_of_its_content(tmp_path: Path) -> None:
    """The same folder with other files is another experiment; a stale one refuses to run."""
    write(tmp_path, arrays())
    before = idx_run(tmp_path)
    write(tmp_path, arrays(seed=1))
    after = idx_run(tmp_path)
    assert identity(before, 0, "cpu", 1) != identity(after, 0, "cpu", 1)
    assert describe(after)["content"] == after.content != before.content
    with pytest.raises(InputError, match=r"experiment.content='\w{64}': the files in .* have"):
        idx_run(tmp_path, content=before.content)
    module._images.cache_clear()
    with pytest.raises(InputError, match="its files have changed in the meantime"):
        before.run(Context(0))
    packed = tmp_path / "packed"
    write(packed, arrays(seed=1), packed=True)
    assert idx_run(packed).content == after.content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"data": "idx"}, "experiment.folder=None: must be a folder of four IDX files"),
        ({"data": "idx", "folder": "nowhere"}, "experiment.folder='nowhere': no such folder"),
        ({"folder": "x"}, "experiment.folder='x': has an effect with experiment.data=idx only"),
        ({"content": "x"}, "experiment.content='x': has an effect with"),
        ({"init": ["xavier_uniform"]}, "did you mean 'xavier'"),
        ({"rate": 0.0}, "experiment.rate=0.0"),
        ({"learning_rate": [1e5]}, "experiment.learning_rate=100000.0"),
        ({"replicates": 9}, "experiment.replicates=9: must be a finite number, at least 1 and"),
        ({"draws": 1}, "experiment.draws=1"),
        ({"checked": 0}, "experiment.checked=0"),
        ({"depth": [0]}, "experiment.depth=0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Mlp(**options)
    assert message in str(caught.value)


def test_the_memory_estimate_covers_fashion_mnist() -> None:
    assert Mlp(data="fashion_mnist").memory() > 70_000 * 784 * 8
    assert Mlp().memory() < 2**28


def test_both_programs_cost_the_same_products(table: pd.DataFrame) -> None:
    flops = select(table, "flops").set_index("program")["measured"]
    assert flops["scratch"] == flops["concise"] == 2 * 256 * (2 * 64 * 16 + 3 * 16 * 10)
    assert (select(table, "calls")["measured"] > 10).all()
    assert np.isnan(select(table, "calls")["predicted"]).all()
