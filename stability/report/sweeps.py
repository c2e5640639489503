"""A whole sweep on one page: its swept factors as axes, its best and worst cells, its failures."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from stability import plotting, store
from stability.experiment import Figure

QUANTITIES = 4
FACETS = 6
ROWS = 50_000


@dataclass(frozen=True)
class Sweep:
    """The results of one experiment in a sweep.

    ``cells``: a row a planned result, indexed by its identity, a column a swept factor.  ``table``
    and ``claims``: those of all cells that are done, with ``run`` and the swept factors in front.
    """

    name: str
    factors: list[str]
    cells: pd.DataFrame
    table: pd.DataFrame
    claims: pd.DataFrame


def gather(sweep: Path) -> list[Sweep]:
    """The results of a sweep by experiment.  Raises FileNotFoundError and DamagedRunError."""
    plan = store.read_plan(sweep)
    factors = [str(key) for key in plan["swept"]]
    planned = {Path(run): job["words"] for job in plan["jobs"] for run in job["runs"]}
    frame = pd.DataFrame(
        [_values(words, factors) for words in planned.values()],
        index=[run.name for run in planned],
        columns=factors,
    )
    kinds = np.array([run.parent.name for run in planned])
    for factor in factors:
        numbers = pd.to_numeric(frame[factor], errors="coerce")
        if numbers.notna().all():
            frame[factor] = numbers
    table, claims = store.load(sweep), store.load_claims(sweep)
    found = []
    for name in sorted(set(table["experiment"])):
        chosen = frame[kinds == name]
        mine = table[table["experiment"] == name].dropna(axis="columns", how="all")
        found.append(
            Sweep(
                name,
                factors,
                chosen,
                _labelled(mine, chosen),
                _labelled(claims[claims["experiment"] == name], chosen),
            )
        )
    return found


def _values(words: Sequence[str], factors: Sequence[str]) -> list[str]:
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    return [given.get(factor, "") for factor in factors]


def _labelled(frame: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the swept factors beside ``run``; a column of theirs that varies stays."""
    own = [factor for factor in cells if factor not in frame]
    return frame.drop(columns="experiment").merge(
        cells[own], left_on="run", right_index=True, how="left"
    )[["run", *own, *(name for name in frame if name not in ("run", "experiment"))]]


def strain(sweep: Sweep) -> pd.Series:
    """How near each cell comes to failing: the largest error / allowed of its claims, by run."""
    claims = sweep.claims
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(claims["error"] == 0, 0.0, claims["error"] / claims["allowed"])
    ratio = np.where(claims["verdict"] == "fails", np.maximum(ratio, 1.0), ratio)
    return pd.Series(ratio).groupby(claims["run"].to_numpy()).max().reindex(sweep.cells.index)


def told(sweep: Sweep) -> str:
    """The best and the worst cell in one sentence."""
    ranked = strain(sweep).dropna().sort_values()
    if ranked.empty:
        return "No claim was judged."
    best, worst = (_cell(sweep, str(ranked.index[at])) for at in (0, -1))
    return (
        f"Nearest to its predictions is {best}, whose errors stay within {ranked.iloc[0]:.2g} of "
        f"what its claims allow; farthest from them is {worst}, with {ranked.iloc[-1]:.2g}."
    )


def _cell(sweep: Sweep, run: str) -> str:
    return ", ".join(f"{_leaf(key)}={sweep.cells.at[run, key]}" for key in sweep.factors)


def judged(sweep: Sweep) -> list[dict[str, Any]]:
    """One row a claim: its worst cell, and in how many cells it holds."""
    order = {"fails": 0, "undetermined": 1, "holds": 2}
    rows = []
    for _, group in sweep.claims.groupby("name", sort=False):
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = (group["error"] / group["allowed"]).fillna(0.0)
        place = group["verdict"].map(order)
        at = excess[place == place.min()].idxmax()
        worst = group.loc[at].to_dict()
        holds = int((group["verdict"] == "holds").sum())
        where = _cell(sweep, str(worst["run"]))
        statement = str(worst["statement"]).rstrip(".")
        worst["statement"] = (
            f"{statement}. Holds in {holds} of {len(group)} cells; worst in {where}."
        )
        rows.append({"folk": "", **worst})
    return rows


def figures(sweep: Sweep) -> list[Figure]:
    """The strain on the claims, then up to four quantities, over the swept factors."""
    if len(sweep.cells) < 2 or not sweep.factors:
        return []
    made = []
    values = strain(sweep).replace(0.0, np.nan)
    if values.notna().any():
        made.append(_draw(sweep, "strain", {"error / allowed": values}, None))
    for quantity in _quantities(sweep):
        rows = sweep.table[sweep.table["quantity"] == quantity]
        means = {
            column: rows.groupby("run")[column].mean().reindex(sweep.cells.index)
            for column in ("measured", "predicted")
        }
        made.append(_draw(sweep, quantity, {quantity: means["measured"]}, means["predicted"]))
    return made


def _quantities(sweep: Sweep) -> list[str]:
    """Quantities that every finished cell has, finite, and the sweep changes; the scalars first."""
    chosen, done = [], sweep.table["run"].nunique()
    for quantity, rows in sweep.table.groupby("quantity", sort=False):
        means = rows.groupby("run")["measured"].mean()
        if len(means) == done and np.isfinite(means).all() and means.nunique() > 1:
            chosen.append((len(rows), str(quantity)))
    fewest = sorted(chosen, key=lambda pair: pair[0])
    return [quantity for _, quantity in fewest[:QUANTITIES]]


def _draw(
    sweep: Sweep, name: str, named: dict[str, pd.Series], predicted: pd.Series | None
) -> Figure:
    ((label, values),) = named.items()
    frame = sweep.cells.assign(value=values, predicted=predicted)
    x, *rest = sorted(sweep.factors, key=lambda factor: -sweep.cells[factor].nunique())
    facets = [frame] if len(rest) < 2 else _facets(frame, rest[1:])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    beside = min(len(facets), 3)
    figure, axes = plotting.canvas(beside, math.ceil(len(facets) / 3), height=3.2)
    for ax, part in itertools.zip_longest(axes.flat, facets):
        if part is None:
            ax.set_axis_off()
        elif rest:
            _heatmap(ax, part, x, rest[0], label, (low, high), beside)
        else:
            _line(ax, part, x, label, strained=predicted is None)
        if part is not None and len(rest) > 1:
            ax.set_title(", ".join(f"{_leaf(key)}={part[key].iloc[0]}" for key in rest[1:]))
    means = " (mean over the rows of a cell)" if predicted is not None else ""
    text = f"{label}{means} over {', '.join(map(_leaf, sweep.factors))}"
    missing = "; × is not done" if values.isna().any() else ""
    shown = f", first {FACETS} facets" if len(facets) == FACETS else ""
    return Figure(name, f"{text}{shown}{missing}.", f"{text}: {low:.4g} to {high:.4g}.", figure)


def _facets(frame: pd.DataFrame, keys: Sequence[str]) -> list[pd.DataFrame]:
    return [part for _, part in frame.groupby(list(keys), sort=True)][:FACETS]


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _line(ax: Axes, part: pd.DataFrame, x: str, label: str, *, strained: bool) -> None:
    part = part.sort_values(x)
    place = part[x] if pd.api.types.is_numeric_dtype(part[x]) else part[x].astype(str)
    if not strained and part["predicted"].notna().any():
        ax.plot(place, part["predicted"], label="predicted")
    ax.plot(place, part["value"], "o", label="measured" if not strained else label)
    lacking = place[part["value"].isna()]
    if len(lacking):
        low = np.full(len(lacking), 0.03)
        ax.plot(lacking, low, "x", transform=ax.get_xaxis_transform(), label="not done")
    if strained:
        ax.set_yscale("log")
        ax.axhline(1, ls="--", lw=1, color=plotting.INK)
    ax.set(xlabel=_leaf(x), ylabel=label)
    ax.legend()


def _heatmap(
    ax: Axes,
    part: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    limits: tuple[float, float],
    beside: int,
) -> None:
    grid = part.pivot_table(
        index=y, columns=x, values="value", aggfunc="mean", dropna=False
    ).sort_index(ascending=False)
    low, high = limits
    positive, mixed = low > 0 and high > 100 * low, low < 0 < high
    sns.heatmap(
        grid,
        ax=ax,
        cmap=plotting.DIVERGING if mixed else plotting.SEQUENTIAL,
        center=0.0 if mixed else None,
        norm=LogNorm(low, high) if positive else None,
        vmin=low,
        vmax=high,
        annot=grid.size <= 64 and grid.shape[1] * beside <= 10,
        fmt=".3g",
        annot_kws={"size": 8},
        cbar_kws={"label": label},
        rasterized=grid.size > 400,
    )
    ax.grid(visible=False)
    for row, column in np.argwhere(grid.isna().to_numpy()):
        ax.text(column + 0.5, row + 0.5, "×", ha="center", va="center")
    ax.set(xlabel=_leaf(x), ylabel=_leaf(y))
