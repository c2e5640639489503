"""One self-contained HTML page from stored runs; runs no experiment and reads nothing else."""

import base64
import gzip
import io
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stability import claims, store
from stability.experiment import Figure
from stability.report import chapter
from stability.store import StoredRun, write_text
from stability.table import VALUES

SYMBOLS = {"holds": "✓", "fails": "✗", "undetermined": "?"}
_ORDER = ["fails", "undetermined", "holds"]


def write(runs: Sequence[StoredRun], folder: Path, title: str, sweeps: Sequence[Path] = ()) -> Path:
    """Write ``folder/index.html`` atomically and return its path.  Raises OSError."""
    page = folder / "index.html"
    write_text(page, render(runs, title, sweeps))
    return page


def render(runs: Sequence[StoredRun], title: str, sweeps: Sequence[Path] = ()) -> str:
    """The page of runs and of whole sweeps; the same results give the same page to the byte."""
    sections = [_section(f"run{index}", run) for index, run in enumerate(runs)]
    for index, sweep in enumerate(sweeps):
        sections += _swept(f"sweep{index}", sweep)
    summary = [{**row, "section": section} for section in sections for row in section["claims"]]
    summary.sort(key=lambda row: _ORDER.index(row["verdict"]))
    return html(
        "report/page.html.j2",
        title=title,
        sections=[section for section in sections if not section["appendix"]],
        appendix=[section for section in sections if section["appendix"]],
        summary=summary,
        beliefs=[row for row in summary if row["folk"]],
        chapter=chapter.judged([{**row, "experiment": row["section"]["name"]} for row in summary]),
        tally=claims.tally(pd.Series([row["verdict"] for row in summary], dtype=object)),
        symbols=SYMBOLS,
        level=claims.LEVEL,
        family=claims.REPORT_CLAIMS,
    )


def html(template: str, **content: Any) -> str:
    """A page in the report's look: the template of that name below the package, filled in."""
    environment = Environment(
        loader=PackageLoader("stability", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    home = resources.files("stability.report")
    look = {
        kind: Markup(home.joinpath(f"page.{kind}").read_text("utf-8")) for kind in ("css", "js")
    }
    return environment.get_template(template).render(**look, **content)


def number(value: float) -> str:
    """A number as people read it: four significant digits, inf and nan in words."""
    if math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("-", "−")


def _swept(prefix: str, folder: Path) -> list[dict[str, Any]]:
    from stability.jobs import standing
    from stability.report import sweeps

    jobs = standing(folder)
    undone = [job for job in jobs if job.word != "done"]
    sections = []
    for index, sweep in enumerate(sweeps.gather(folder)):
        name = f"{prefix}-{index}"
        figures = sweeps.figures(sweep)
        small = len(sweep.table) <= sweeps.ROWS
        notices = [] if small else [f"{len(sweep.table)} rows are too many for a page: "
                                    f"stability.load({str(folder)!r}) has them."]  # fmt: skip
        sections.append(
            {
                "id": name,
                "name": sweep.name,
                "title": f"{sweep.name}: {len(sweep.cells)} cells",
                "question": f"How do the results change with {' and '.join(sweep.factors)}?"
                if sweep.factors
                else "",
                "appendix": False,
                "answer": sweeps.told(sweep),
                "notices": notices,
                "failures": [
                    {"word": job.word, "words": " ".join(job.words),
                     "error": str(job.state.get("error", ""))}
                    for job in undone
                ] if index == 0 else [],
                "figures": [
                    {"svg": svg(figure, f"{name}-{place}"), "caption": figure.caption}
                    for place, figure in enumerate(figures)
                ],
                "claims": sweeps.judged(sweep),
                "table": packed(sweep.table) if small else "",
                "rows": len(sweep.table),
                "config": "",
                "command": store.read_plan(folder)["command"],
                "provenance": {"folder": str(folder), "jobs": str(len(jobs))},
            }
        )  # fmt: skip
    return sections


def _section(name: str, run: StoredRun) -> dict[str, Any]:
    experiment = run.experiment
    notices: list[str] = []
    answer, figures = "", list[Figure]()
    if experiment is None:
        notices.append("This experiment isn't one of the suite's own: its table and claims alone.")
    else:
        try:
            answer = experiment.answer(run.table)
        except Exception as error:
            notices.append(f"The answer can't be told: {type(error).__name__}: {error}")
        try:
            figures = experiment.figures(run.table)
        except Exception as error:
            notices.append(f"The figures can't be drawn: {type(error).__name__}: {error}")
    return {
        "id": name,
        "name": run.name,
        "title": getattr(experiment, "title", run.name),
        "question": getattr(experiment, "question", ""),
        "appendix": bool(getattr(experiment, "appendix", False)),
        "answer": answer,
        "notices": notices,
        "failures": [],
        "figures": [
            {"svg": svg(figure, f"{name}-{place}"), "caption": figure.caption}
            for place, figure in enumerate(figures)
        ],
        "claims": [{"folk": "", **row} for row in run.claims.to_dict("records")],
        "table": packed(run.table),
        "rows": len(run.table),
        "config": json.dumps(run.provenance["config"], indent=1),
        "command": run.provenance.get("command", ""),
        "provenance": {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in run.provenance.items()
            if key not in ("config", "command", "sha256")
        },
    }


def svg(figure: Figure, prefix: str) -> Markup:
    """Inline SVG with unique ids, alternative text, and the page's own colours for ink and grid."""
    from stability.plotting import FAINT, INK

    buffer = io.StringIO()
    figure.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    text = text.replace(INK, "var(--ink)").replace(FAINT, "var(--grid)")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    label = Markup.escape(figure.alt)
    head = f'<svg role="img" aria-label="{label}" class="figure" '
    text = re.sub(r"^<svg ", head, text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return Markup(text)


def packed(table: pd.DataFrame) -> str:
    """The table as base64 of gzipped JSON, column by column.

    Infinities and nans are strings; a factor that a row lacks is null.
    """
    columns = []
    for name in table:
        values = table[name].astype(object).where(table[name].notna(), None).tolist()
        plain = [
            repr(value) if isinstance(value, float) and not math.isfinite(value) else value
            for value in values
        ]
        if name in VALUES:
            plain = ["nan" if value is None else value for value in plain]
        columns.append(plain)
    text = json.dumps({"names": list(table.columns), "columns": columns}, default=str)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
