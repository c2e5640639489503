"""What every experiment of conf/experiment must do, tested before anybody writes a test for it."""

import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stability import claims, config, table
from stability.config import build, describe, own_class
from stability.errors import InputError
from stability.experiment import Context, Experiment

NAMES = config.names("experiment")


def options(name: str) -> dict[str, Any]:
    text = (config.CONF / "experiment" / f"{name}.yaml").read_text()
    return typing.cast("dict[str, Any]", yaml.safe_load(text))


def smallest(name: str) -> Any:
    cls = own_class(options(name)["_target_"])
    assert cls is not None
    return cls()


def factors() -> Iterator[tuple[str, str]]:
    """(experiment, option) for each option whose YAML has at least two values."""
    for name in NAMES:
        for option, value in options(name).items():
            if isinstance(value, list) and len(value) > 1:
                yield name, option


def keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows in the order of their factors, told as text; a row told twice must agree."""
    names = [name for name in frame if name not in table.VALUES]
    text = frame.assign(
        **{name: ["" if pd.isna(x) else repr(x) for x in frame[name].tolist()] for name in names}
    )
    once = text.drop_duplicates([*names, "quantity"])
    assert len(once) == len(text.drop_duplicates([*names, "quantity", "measured"]))
    return once.set_index([*names, "quantity"]).sort_index()


def assert_same_rows(one: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> None:
    """Equal rows up to ``tolerance`` relative to the larger of 1 and the value.

    Logarithms near zero are differences of logarithms: their error is absolute.
    """
    left, right = keyed(one), keyed(other)
    pd.testing.assert_index_equal(left.index, right.index)
    for column in ("measured", "predicted", "stderr"):
        a, b = left[column].to_numpy(), right[column].to_numpy()
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    assert (left["n_samples"] == right["n_samples"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_job_gives_the_same_table_to_the_bit(name: str) -> None:
    one, two = (smallest(name).run(Context(5)) for _ in range(2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    table.check(one)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_numbers(name: str) -> None:
    one, two = (smallest(name).run(Context(seed))["measured"] for seed in (0, 1))
    if name == "instrument":
        pytest.skip("most of its values are arithmetic facts, the same under any seed")
    assert not one.equals(two)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(("name", "option"), list(factors()))
def test_a_grid_gives_the_rows_of_its_cells_in_any_order(
    name: str, option: str, dtype: str, tolerance: float
) -> None:
    """The bounds that README states; an experiment without a dtype of its own is held to both."""
    values = options(name)[option][:2]
    target = options(name)["_target_"]
    base = {k: v for k, v in describe(smallest(name)).items() if k != "_target_"}
    if isinstance(base.get("dtype"), str):
        base["dtype"] = dtype

    def rows(chosen: list[Any]) -> pd.DataFrame:
        return build({**base, "_target_": target, option: chosen}).run(Context(7))

    together, reverse = rows(values), rows(values[::-1])
    assert_same_rows(together, reverse, tolerance)
    alone = [rows([value]) for value in values]
    assert_same_rows(together, table.concat(alone), tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_claims_answer_and_figures_need_the_table_alone(name: str) -> None:
    experiment: Experiment = smallest(name)
    measured = experiment.run(Context(0))
    made = type(experiment).claims(measured)
    assert made
    assert len({claim.name for claim in made}) == len(made)
    for claim in made:
        assert claim.statement
        assert claim.source
        assert claim.verdict in ("holds", "fails", "undetermined")
    assert claims.to_frame(made)["verdict"].notna().all()
    assert type(experiment).answer(measured).endswith(".")
    drawn = type(experiment).figures(measured)
    assert len({figure.name for figure in drawn}) == len(drawn)
    for figure in drawn:
        assert figure.alt
        assert figure.caption
        assert figure.figure.axes


@pytest.mark.parametrize("name", NAMES)
def test_progress_ends_at_one_and_never_goes_back(name: str) -> None:
    seen: list[float] = []
    smallest(name).run(Context(0, progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def bad_values() -> Iterator[tuple[str, str, Any]]:
    for name in NAMES:
        experiment = smallest(name)
        for field in fields(experiment):
            value = getattr(experiment, field.name)
            item = value[0] if isinstance(value, list) and value else value
            wrong: list[Any] = []
            if type(item) is int:
                wrong = [0, -1] if field.name != "steps" else [-1]
            elif type(item) is float:
                wrong = [float("nan"), float("inf")]
            elif type(item) is str:
                wrong = ["no such thing"]
            for entry in wrong:
                yield name, field.name, [entry] if isinstance(value, list) else entry
            if isinstance(value, list):
                yield name, field.name, []
                yield name, field.name, [item, item]


@pytest.mark.parametrize(("name", "option", "value"), list(bad_values()))
def test_bad_values_are_refused_by_name(name: str, option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"experiment.{option}"):
        replace(smallest(name), **{option: value})


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_default(name: str) -> None:
    for field in fields(smallest(name)):
        assert field.default is not MISSING or field.default_factory is not MISSING


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_estimate_grows_with_the_sizes(name: str) -> None:
    experiment = smallest(name)
    sizes = [f.name for f in fields(experiment) if f.name in ("n", "width", "depth")]
    for size in sizes:
        value = getattr(experiment, size)
        huge = [10**7] if isinstance(value, list) else 10**7
        assert replace(experiment, **{size: huge}).memory() > experiment.memory()
