"""A stored run with everything that can go wrong on a page: markup in strings, inf, nan, text."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stability import claims, table
from stability.experiment import Experiment, Figure
from stability.store import StoredRun

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>document.title='evil'</script>&\"'"


class Drawn(Experiment):
    """Draws one figure; its words carry markup."""

    title = f"Drawn {EVIL}"
    question = f"Is {EVIL} escaped?"

    @staticmethod
    def claims(table: pd.DataFrame) -> list[claims.Claim]:
        return [
            claims.bounded(f"exact {EVIL}", f"equal {EVIL}", f"source {EVIL}", table.iloc[:3],
                           allowed=1.0),
            claims.bounded("broken", "these differ", "nobody", table.iloc[3:4], allowed=1e-3,
                           folk=f"they agree {EVIL}"),
        ]  # fmt: skip

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        return f"The first number is {table['measured'].iloc[0]:.1f}, {EVIL}."

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        from stability.plotting import canvas

        figure, axes = canvas(2)
        for ax in axes.flat:
            ax.plot(table["n"], table["predicted"], label="theory")
            ax.plot(table["n"], table["measured"], "o", label="measured")
            ax.set(xlabel="matrix size n", ylabel="decades", title="Growth & <decay>")
            ax.legend()
        return [Figure("growth", f"Caption {EVIL}", f"Alt {EVIL}", figure)]


class Appended(Drawn):
    """The same, for the appendix."""

    title = "Appended"
    appendix = True


class Crashing(Drawn):
    """Can neither answer nor draw."""

    title = "Crashing"

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        raise KeyError(f"{len(table)} rows gone")

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        raise ValueError(f"nothing to draw in {len(table)} rows")


def make(folder: Path, experiment: type[Experiment] | None, rows: int = 60) -> StoredRun:
    n = np.arange(1, rows + 1)
    measured = n * 1.25
    measured[1:3] = [np.inf, np.nan]
    predicted = np.where(np.isfinite(measured), measured, measured)
    predicted[2] = 3.75
    frame = table.concat(
        [
            table.rows("size", measured, n * 1.25, n=n, kind=[f"k{i % 3} {EVIL}" for i in n]),
            table.rows("other", [1 / 3], n=1),
        ]
    )
    frame.loc[1, "predicted"] = np.inf
    judged = frame.drop(index=2).reset_index(drop=True)
    judged.loc[3, "predicted"] = 100.0
    provenance: dict[str, Any] = {
        "config": {"_target_": "x", "evil": EVIL},
        "command": f"stability {EVIL}",
        "seed": 1,
        "cpu": EVIL,
        "versions": {"torch": "2"},
        "sha256": {},
    }
    return StoredRun(
        folder, f"drawn {EVIL}", frame, claims.to_frame(Drawn.claims(judged)), provenance,
        experiment,
    )  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> list[StoredRun]:
    run = make(tmp_path, Drawn)
    return [run, make(tmp_path, Appended), replace(make(tmp_path, None), name="stranger"),
            make(tmp_path, Crashing)]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium.  With CI=true it must be there; elsewhere the tests are skipped."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield chromium
        chromium.close()
