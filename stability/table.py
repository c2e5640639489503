"""The tidy table: one row a measured quantity, the prediction beside it.

A table has the factors first (any columns), then the five value columns of ``VALUES``:
``quantity`` (str), ``measured``, ``predicted``, ``stderr`` (float64) and ``n_samples`` (int64).
``stderr`` is the standard error of ``measured``: 0 where it is deterministic up to rounding, nan
where one sample leaves it unknown.  ``predicted`` is nan where theory is silent.  Infinities and
nans in ``measured`` are results.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

VALUES = ("quantity", "measured", "predicted", "stderr", "n_samples")


def rows(
    quantity: str,
    measured: ArrayLike,
    predicted: ArrayLike = np.nan,
    stderr: ArrayLike = 0.0,
    n_samples: ArrayLike = 1,
    **factors: Any,
) -> pd.DataFrame:
    """Rows of one quantity, built column by column.

    All arguments are scalars or arrays and broadcast against each other as numpy arrays of any
    rank; the rows come in C order of the common shape.  Raises ValueError if they don't broadcast.
    """
    columns: dict[str, ArrayLike] = {
        **factors,
        "quantity": quantity,
        "measured": np.asarray(measured, np.float64),
        "predicted": np.asarray(predicted, np.float64),
        "stderr": np.asarray(stderr, np.float64),
        "n_samples": np.asarray(n_samples, np.int64),
    }
    arrays = np.broadcast_arrays(*[_plain(column) for column in columns.values()])
    return pd.DataFrame({name: array.ravel() for name, array in zip(columns, arrays, strict=True)})


def mean_rows(
    quantity: str,
    samples: ArrayLike,
    predicted: ArrayLike = np.nan,
    **factors: Any,
) -> pd.DataFrame:
    """Rows of the mean of ``samples`` over axis 0 (independent replicates) with its standard error.

    The variance is taken in two passes in float64.  With one replicate the error is nan.
    """
    values = np.asarray(samples, np.float64)
    count = values.shape[0]
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) if count > 1 else np.full_like(mean, np.nan)
    return rows(quantity, mean, predicted, spread / np.sqrt(count), count, **factors)


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table from several: factors first, in order of appearance; absent factors are <NA>.

    Integer factors stay integers (nullable Int64) where some rows lack them.
    """
    factors = list(dict.fromkeys(name for f in frames for name in f if name not in VALUES))
    whole = {
        name: all(pd.api.types.is_integer_dtype(f[name]) for f in frames if name in f)
        for name in factors
    }
    ready = [
        # DataFrame.astype takes ten times as long.
        frame.assign(**{n: frame[n].astype("Int64") for n in factors if n in frame and whole[n]})
        for frame in frames
    ]
    table = pd.concat(ready, ignore_index=True)[[*factors, *VALUES]]
    return check(table)


def check(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` if it keeps the contract of this module; else raise ValueError."""
    missing = [name for name in VALUES if name not in table]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}")
    if tuple(table.columns[-len(VALUES) :]) != VALUES:
        raise ValueError(f"the last columns of the table must be {list(VALUES)}")
    for name in ("measured", "predicted", "stderr"):
        if table[name].dtype != np.float64:
            raise ValueError(f"column {name} must be float64, is {table[name].dtype}")
    if not pd.api.types.is_integer_dtype(table["n_samples"]):
        raise ValueError(f"column n_samples must be an integer, is {table['n_samples'].dtype}")
    if (table["stderr"] < 0).any():
        raise ValueError("column stderr must not be negative")
    if (table["n_samples"] < 1).any():
        raise ValueError("column n_samples must be at least 1")
    if table.empty:
        raise ValueError("the table has no rows")
    return table


def select(table: pd.DataFrame, quantity: str, **factors: Any) -> pd.DataFrame:
    """The rows of one quantity whose factors have the given values."""
    chosen = table["quantity"] == quantity
    for name, value in factors.items():
        chosen &= (table[name] == value).fillna(False).astype(bool)
    return table[chosen]


def _plain(column: ArrayLike) -> np.ndarray[Any, Any]:
    array = np.asarray(column)
    return array.astype(object) if array.dtype.kind in "US" else array
