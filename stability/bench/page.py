"""One self-contained HTML page of a comparison, in the report's look."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stability.bench import figures
from stability.bench.files import Run
from stability.bench.statistics import Comparison, Result
from stability.report.render import html, packed, svg
from stability.store import write_text

HEADINGS = {"ratios": "Ratios", "sizes": "Times by size", "roofline": "Roofline"}
ORDER = ("slower", "faster", "indistinguishable")

METHODS = {
    "pairs of runs": (
        "The runs were made in turn, so each run of the new side is set beside the run of the base "
        "next to it: what the machine does over minutes falls out. The unit is the pair; the "
        "interval is Student's t for the mean logarithm of its ratio of medians."
    ),
    "runs": (
        "The unit is the run. The interval is Student's t, with Welch's degrees of freedom, for "
        "the difference of the mean logarithms of the medians. Runs that weren't made in turn "
        "share what the machine did meanwhile: that difference counts as the code's."
    ),
    "rounds": (
        "There is one run a side, so the interval comes from its rounds: a circular block "
        "bootstrap of the median (blocks of the square root of their number, which keeps their "
        "autocorrelation), with Student's t. What changes from one run to the next isn't in it."
    ),
}
ONE_RUN = (
    "One run a side: the intervals hold noise within the runs and none between runs, so that even "
    "equal code may be called faster or slower. stability bench pair, or several runs a side, tell."
)
UNPAIRED = (
    "The runs of the two sides weren't made in turn: a drift of the machine counts as theirs."
)


def notices(result: Result) -> list[str]:
    """What a reader must know before the verdicts."""
    lines = {"rounds": [ONE_RUN], "runs": [UNPAIRED], "pairs of runs": []}[result.design][:]
    if result.left_out:
        some = ", ".join(result.left_out[:5]) + (", ..." if len(result.left_out) > 5 else "")
        lines.append(f"{len(result.left_out)} benchmarks aren't in all runs, left out: {some}")
    return lines


def tally(result: Result) -> str:
    """How many are slower, faster, indistinguishable, and at which level."""
    verdicts = [c.verdict for c in result.comparisons]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ORDER)
    return f"{counts}; all intervals together at a level of {result.level:g}"


def ordered(result: Result) -> list[Comparison]:
    """The comparisons as they are listed: by verdict, the highest ratio first."""
    return sorted(result.comparisons, key=lambda c: (ORDER.index(c.verdict), -c.ratio))


def short_names(result: Result) -> dict[str, str]:
    """The names without their files, where they stay different."""
    full = [c.name for c in result.comparisons]
    short = [name.rpartition("::")[2] if "[" not in name else _bare(name) for name in full]
    return {f: s if short.count(s) == 1 else f for f, s in zip(full, short, strict=True)}


def _bare(name: str) -> str:
    head, bracket, parameters = name.partition("[")
    return head.rpartition("::")[2] + bracket + parameters


def seconds(value: float) -> str:
    """A time as people read it, in four digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value * 1e9:.4g} ns"


def interval(low: float, high: float) -> str:
    """An interval of a ratio."""
    return f"{low:.3f} to {high:.3f}" if high < 1000 else f"{low:.3g} to {high:.3g}"


def write(
    folder: Path, base: Sequence[Run], new: Sequence[Run], result: Result, differences: list[str]
) -> Path:
    """Write ``folder/index.html`` atomically and return its path.  Raises OSError."""
    page = folder / "index.html"
    write_text(page, render(base, new, result, differences))
    return page


def render(base: Sequence[Run], new: Sequence[Run], result: Result, differences: list[str]) -> str:
    """The page; the same files give the same page to the byte."""
    names = short_names(result)
    drawn = [
        figures.ratios(result, names),
        figures.sizes(result, new[0], names),
        figures.roofline(result, new[0], names),
    ]
    rows = ordered(result)
    table = pd.DataFrame(
        {
            "benchmark": [names[c.name] for c in rows],
            "verdict": [c.verdict for c in rows],
            "base (µs)": [_six(1e6 * c.base) for c in rows],
            "new (µs)": [_six(1e6 * c.new) for c in rows],
            "ratio": [_six(c.ratio) for c in rows],
            "low": [_six(c.low) for c in rows],
            "high": [_six(c.high) for c in rows],
        }
    )
    apart = [row for row in rows if row.verdict != "indistinguishable"]
    return html(
        "bench/page.html.j2",
        title=f"{_title(new)} against {_title(base)}",
        tally=tally(result),
        differences=differences,
        facts=_facts(base, new),
        notices=notices(result),
        method=METHODS[result.design],
        rows=[
            {"verdict": c.verdict, "short": names[c.name], "base": seconds(c.base),
             "new": seconds(c.new), "ratio": f"{c.ratio:.3f}", "interval": interval(c.low, c.high)}
            for c in apart
        ],
        figures=[
            {"key": f.name, "heading": HEADINGS[f.name], "svg": svg(f, f.name),
             "caption": f.caption}
            for f in drawn if f is not None
        ],
        packed=packed(table),
        count=len(rows),
    )  # fmt: skip


def _title(side: Sequence[Run]) -> str:
    path = side[0].path
    return path.stem if len(side) == 1 else path.resolve().parent.name


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _facts(base: Sequence[Run], new: Sequence[Run]) -> list[tuple[str, str]]:
    facts = []
    for word, side in (("base", base), ("new", new)):
        commits = ", ".join(dict.fromkeys(run.commit for run in side))
        times = sorted(run.when for run in side)
        span = times[0] if len(side) == 1 else f"{times[0]} to {times[-1]}"
        count = f"{len(side)} run{'s' if len(side) > 1 else ''}"
        facts.append((word, f"{count}, commit {commits}, {span or 'undated'}"))
    machine = base[0].machine
    for word, key in (("processor", "cpu.brand_raw"), ("cores", "cpu.count"), ("gpu", "gpu"),
                      ("python", "python_version"), ("system", "release")):  # fmt: skip
        if key in machine:
            facts.append((word, machine[key]))
    return facts
