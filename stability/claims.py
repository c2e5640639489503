"""What an experiment's numbers must show, and the verdict on it.

Three verdicts: ``holds``, ``fails``, and ``undetermined`` when the sample is too small to tell.

False alarms: a statistical claim rejects at the two-sided level ``LEVEL`` (divided by the number
of its rows, Bonferroni), so that a report of up to 1000 statistical claims raises a false alarm
with a probability of at most 1000 * 1e-6 = 1e-3, whatever their dependence (Boole's inequality).
Standard errors are estimated, so quantiles are those of Student's t with ``n_samples - 1`` degrees
of freedom.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 1e-6
REPORT_CLAIMS = 1000

Verdict = Literal["holds", "fails", "undetermined"]


@dataclass(frozen=True)
class Claim:
    """One statement about a table, with the numbers that decide it.

    ``error`` is |measured - predicted|, ``allowed`` what it may be; both in the units of measured.
    ``folk``: what people say instead, where the claim corrects it.
    """

    name: str
    statement: str
    source: str
    measured: float
    predicted: float
    error: float
    allowed: float
    verdict: Verdict
    folk: str = ""


def statistical(
    name: str,
    statement: str,
    source: str,
    rows: pd.DataFrame,
    *,
    resolution: ArrayLike,
    bias: ArrayLike = 0.0,
    folk: str = "",
) -> Claim:
    """Claim that ``measured`` equals ``predicted`` in every one of ``rows``, up to sampling error.

    ``resolution``: the smallest deviation worth detecting, in the units of ``measured``; scalar or
    one a row.  A row whose sampling error could hide it is undetermined.  ``bias``: the neglected
    terms of the prediction, an upper bound stated in ``statement``; scalar or one a row.
    ``folk``: the belief that the claim corrects, as people say it.

    The claim fails if one row fails, else it is undetermined if one row is, else it holds; the
    numbers are those of the row that decided.  Raises ValueError if there are no rows.
    """
    if rows.empty:
        raise ValueError(f"claim {name!r} has no rows to judge")
    measured = rows["measured"].to_numpy(float)
    predicted = rows["predicted"].to_numpy(float)
    stderr = rows["stderr"].to_numpy(float)
    freedom = np.maximum(rows["n_samples"].to_numpy(float) - 1, 1)
    quantile = stats.t.isf(LEVEL / len(rows) / 2, freedom)
    with np.errstate(invalid="ignore"):
        error = np.where(measured == predicted, 0.0, np.abs(measured - predicted))
    sampling = quantile * stderr
    allowed = np.broadcast_to(np.asarray(bias, float), error.shape) + sampling
    known = np.isfinite(stderr)
    fails = np.isnan(error) | np.isinf(error) | (known & (error > allowed))
    unclear = ~known | (sampling > np.broadcast_to(np.asarray(resolution, float), error.shape))
    words = (name, statement, source, folk)
    return _worst(words, measured, predicted, error, allowed, fails, unclear)


def bounded(
    name: str,
    statement: str,
    source: str,
    rows: pd.DataFrame,
    *,
    allowed: ArrayLike,
    folk: str = "",
) -> Claim:
    """Claim that |measured - predicted| is at most ``allowed`` in every row: a derived error bound.

    For deterministic quantities.  ``folk``: the belief that the claim corrects, as people say it.
    Raises ValueError if there are no rows.
    """
    if rows.empty:
        raise ValueError(f"claim {name!r} has no rows to judge")
    measured = rows["measured"].to_numpy(float)
    predicted = rows["predicted"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        error = np.where(measured == predicted, 0.0, np.abs(measured - predicted))
    bound = np.broadcast_to(np.asarray(allowed, float), error.shape)
    fails = ~(error <= bound)
    words = (name, statement, source, folk)
    return _worst(words, measured, predicted, error, bound, fails, np.zeros_like(fails))


def _worst(
    words: tuple[str, str, str, str],
    measured: np.ndarray,
    predicted: np.ndarray,
    error: np.ndarray,
    allowed: np.ndarray,
    fails: np.ndarray,
    unclear: np.ndarray,
) -> Claim:
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(error == 0, 0.0, error / allowed)
    excess = np.where(np.isnan(excess), np.inf, excess)
    candidates = fails if fails.any() else unclear if unclear.any() else np.ones_like(fails)
    verdict: Verdict = "fails" if fails.any() else "undetermined" if unclear.any() else "holds"
    at = int(np.argmax(np.where(candidates, excess, -1.0)))
    name, statement, source, folk = words
    return Claim(
        name,
        statement,
        source,
        float(measured[at]),
        float(predicted[at]),
        float(error[at]),
        float(allowed[at]),
        verdict,
        folk,
    )


def to_frame(claims: list[Claim]) -> pd.DataFrame:
    """The claims as a table, one row each, columns as the fields of ``Claim``."""
    fields = list(Claim.__dataclass_fields__)
    return pd.DataFrame({field: [getattr(claim, field) for claim in claims] for field in fields})


def tally(verdicts: pd.Series) -> str:
    """The sentence that sums up verdicts: "12 of 12 claims hold"."""
    counts = verdicts.value_counts()
    line = f"{counts.get('holds', 0)} of {len(verdicts)} claims hold"
    parts = [
        f"{counts[name]} {word}"
        for name, word in (("fails", "failing"), ("undetermined", "undetermined: too few samples"))
        if counts.get(name, 0)
    ]
    return f"{line} ({', '.join(parts)})" if parts else line
