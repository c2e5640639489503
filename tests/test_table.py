import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability import table


def test_rows_broadcast_in_c_order() -> None:
    frame = table.rows("q", np.arange(6.0).reshape(2, 3), 1.0, n=[[2], [5]], k=[[1, 2, 3]])
    assert list(frame.columns) == ["n", "k", *table.VALUES]
    assert frame["n"].tolist() == [2, 2, 2, 5, 5, 5]
    assert frame["k"].tolist() == [1, 2, 3, 1, 2, 3]
    assert frame["measured"].tolist() == [0, 1, 2, 3, 4, 5]
    assert (frame["predicted"] == 1).all()


def test_mean_rows_give_the_standard_error_of_the_mean() -> None:
    samples = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]])
    frame = table.mean_rows("q", samples, n=[2, 4])
    assert frame["measured"].tolist() == [3.0, 10.0]
    assert frame["stderr"].tolist() == [pytest.approx(2 / np.sqrt(3), rel=1e-15), 0.0]
    assert frame["n_samples"].tolist() == [3, 3]


def test_one_replicate_leaves_the_error_unknown() -> None:
    assert np.isnan(table.mean_rows("q", [1.0])["stderr"]).all()


def test_infinite_and_nan_results_are_kept() -> None:
    frame = table.mean_rows("q", [[np.inf, np.nan], [1.0, 1.0]], n=[1, 2])
    assert frame["measured"].tolist()[0] == np.inf
    assert np.isnan(frame["measured"].tolist()[1])


def test_concat_keeps_integer_factors_where_they_are_absent() -> None:
    joined = table.concat(
        [table.rows("a", 1.0, n=[2, 3]), table.rows("b", 1.0, k=[1], activation=["tanh"])]
    )
    assert list(joined.columns) == ["n", "k", "activation", *table.VALUES]
    assert str(joined["n"].dtype) == "Int64"
    assert joined["n"].isna().tolist() == [False, False, True]


def test_select_takes_rows_by_value() -> None:
    joined = table.concat([table.rows("a", [1.0, 2.0], n=[2, 3]), table.rows("b", 1.0, k=1)])
    assert table.select(joined, "a", n=3)["measured"].tolist() == [2.0]
    assert table.select(joined, "b", n=3).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="stderr"), "lacks the columns"),
        (lambda t: t.assign(after=1), "last columns"),
        (lambda t: t.assign(measured="x"), "must be float64"),
        (lambda t: t.assign(n_samples=1.5), "must be an integer"),
        (lambda t: t.assign(stderr=-1.0), "must not be negative"),
        (lambda t: t.assign(n_samples=0), "at least 1"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_a_broken_contract_is_refused(change: object, message: str) -> None:
    good = table.rows("a", [1.0, 2.0], n=[2, 3])
    assert table.check(good) is good
    with pytest.raises(ValueError, match=message):
        table.check(change(good))  # type: ignore[operator]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-1e8, 1e8))
def test_the_standard_error_does_not_depend_on_the_offset(xs: list[float], shift: float) -> None:
    # Two-pass variance: the error of each deviation is at most a few roundings of the offset.
    here = table.mean_rows("q", xs)["stderr"].iloc[0]
    there = table.mean_rows("q", np.asarray(xs) + shift)["stderr"].iloc[0]
    bound = 8 * 2.0**-53 * (abs(shift) + 1e3)
    assert abs(here - there) <= bound + 1e-12 * here


def test_rows_of_text_factors_stay_text() -> None:
    frame = table.rows("q", [1.0, 2.0], activation=["tanh", "relu"])
    assert isinstance(frame["activation"].iloc[0], str)
    assert isinstance(frame, pd.DataFrame)
