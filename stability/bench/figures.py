"""Figures of a comparison: ratios with their intervals, times by size, the roofline."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from stability.bench.files import Run, Timing
from stability.bench.statistics import Comparison, Result
from stability.experiment import Figure
from stability.plotting import INK, PALETTE, canvas

SHOWN = 60
"""Benchmarks that one figure shows at most; the table has them all."""
PANELS = 12
VERDICT_COLORS = {"slower": PALETTE[1], "faster": PALETTE[2], "indistinguishable": PALETTE[7]}
SIDES = ("base", "new")


def ratios(result: Result, names: Mapping[str, str]) -> Figure:
    """Ratio and interval of each benchmark, the slowest on top."""
    chosen = sorted(result.comparisons, key=lambda c: abs(np.log(c.ratio)))[-SHOWN:]
    chosen.sort(key=lambda c: c.ratio)
    figure, axes = canvas(height=0.9 + 0.22 * len(chosen))
    ax = axes[0, 0]
    rows = np.arange(len(chosen))
    shown = [[max(c.low, 1e-3), min(c.high, 1e3)] for c in chosen]
    for verdict, color in VERDICT_COLORS.items():
        at = [i for i in rows if chosen[i].verdict == verdict]
        if at:
            ax.hlines(at, [shown[i][0] for i in at], [shown[i][1] for i in at], color=color)
            ax.plot([chosen[i].ratio for i in at], at, "o", color=color, label=verdict)
    ax.axvline(1, color=INK, lw=1)
    ax.set_xscale("log")
    _ratio_ticks(ax)
    ax.set_yticks(rows, [names[c.name] for c in chosen])
    ax.set(xlabel="time, new / base", ylim=(-0.7, len(chosen) - 0.3))
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0)
    part = f" The {SHOWN} farthest from 1 of {len(result.comparisons)}."
    caption = (
        f"Ratio of medians, new over base, with intervals that hold all together at a level of "
        f"{result.level:g}.{part if len(result.comparisons) > SHOWN else ''}"
    )
    ends = f"from {chosen[0].ratio:.3g} to {chosen[-1].ratio:.3g}"
    return Figure("ratios", caption, f"Ratios of {len(chosen)} benchmarks, {ends}", figure)


def _ratio_ticks(ax: Axes) -> None:
    low, high = ax.get_xlim()
    if high / low > 1.5:
        around = (1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 300, 1000)
        steps = [t for t in (*(1 / t for t in around), 1, *around) if low <= t <= high]
        if len(steps) > 9:
            steps = [t for t in steps if not 0.6 < t < 1.9 or t == 1]
        ax.xaxis.set_major_locator(FixedLocator(steps))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    digits = 3 if high / low > 1.1 else 5
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def _apart(values: "pd.Series[float]") -> list[float]:
    """The values, less those whose labels would touch on a log axis."""
    kept: list[float] = []
    room = (values.max() / values.min()) ** 0.18
    for value in sorted(values.unique()):
        if not kept or value >= kept[-1] * room:
            kept.append(value)
    return kept


def _colors(count: int) -> list[Any]:
    return PALETTE[:count] if count <= len(PALETTE) else sns.color_palette("husl", count)


def _legend(ax: Axes, without: Sequence[str]) -> None:
    """The legend beside the axes, less the titles that seaborn puts among its entries."""
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    kept = [(handle, label) for handle, label in entries if label not in without]
    handles, labels = zip(*kept, strict=True)
    ax.legend(handles, labels, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _size_option(timings: Sequence[Timing]) -> str | None:
    """The numeric parameter of one function's benchmarks with the most values, two at least."""
    values: dict[str, set[float]] = {}
    for timing in timings:
        for key, value in timing.params.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                values.setdefault(key, set()).add(value)
    best = max(values, key=lambda key: len(values[key]), default=None)
    return best if best is not None and len(values[best]) > 1 else None


def sizes(result: Result, run: Run, names: Mapping[str, str]) -> Figure | None:
    """Time against the parameter that is a size, on log axes; None if no benchmark has one."""
    by_function: dict[str, list[Comparison]] = {}
    for comparison in result.comparisons:
        by_function.setdefault(comparison.name.partition("[")[0], []).append(comparison)
    frames = []
    for members in by_function.values():
        timings = [run.timings[c.name] for c in members]
        option = _size_option(timings)
        if option is None:
            continue
        rows = []
        for comparison, timing in zip(members, timings, strict=True):
            if isinstance(timing.params.get(option), (int, float)):
                others = [f"{v}" for k, v in timing.params.items() if k != option]
                for side, seconds in zip(SIDES, (comparison.base, comparison.new), strict=True):
                    rows.append((timing.params[option], seconds, side, " ".join(others) or "all"))
        frame = pd.DataFrame(rows, columns=[option, "seconds", "side", "line"])
        frames.append((names[members[0].name].partition("[")[0], option, frame))
    if not frames:
        return None
    frames = frames[:PANELS]
    columns = min(2, len(frames))
    figure, axes = canvas(columns, -(-len(frames) // columns))
    for ax, (function, option, frame) in zip(axes.flat, frames, strict=False):
        lines = list(dict.fromkeys(frame["line"]))
        sns.lineplot(
            frame, x=option, y="seconds", hue="line", style="side", style_order=["new", "base"],
            hue_order=lines, palette=_colors(len(lines)),
            markers=["o", "s"], estimator=None, ax=ax, legend="brief",
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=function, ylabel="time (s)")
        ticks = _apart(frame[option])
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        _legend(ax, ("line", "side", "all"))
    for ax in axes.flat[len(frames) :]:
        ax.set_axis_off()
    caption = "Median time of a call by size: the new side solid, the base dashed."
    return Figure("sizes", caption, f"Times by size of {len(frames)} benchmarks", figure)


def roofline(result: Result, run: Run, names: Mapping[str, str]) -> Figure | None:
    """Rate against arithmetic intensity under the machine's measured limits, where stated."""
    rows: list[dict[str, Any]] = []
    for comparison in result.comparisons:
        extra = run.timings[comparison.name].extra
        keys = ("flop", "bytes", "peak_gflops", "peak_gbytes_per_s")
        figures = [extra.get(key) for key in keys]
        if not all(isinstance(v, (int, float)) and np.isfinite(v) and v > 0 for v in figures):
            continue
        flop, moved, peak, bandwidth = (float(v) for v in figures if v is not None)
        place = f"{extra.get('device', 'cpu')}, threads={extra.get('threads', '?')}"
        rows.append(
            {"place": place, "dtype": str(extra.get("dtype", "")), "intensity": flop / moved,
             "rate": flop / comparison.new / 1e9, "peak": peak, "bandwidth": bandwidth,
             "benchmark": names[comparison.name].partition("[")[0]}
        )  # fmt: skip
    if not rows:
        return None
    table = pd.DataFrame(rows)
    places = list(table["place"].unique())[:PANELS]
    columns = min(2, len(places))
    figure, axes = canvas(columns, -(-len(places) // columns))
    dtypes = sorted(table["dtype"].unique())
    colors = dict(zip(dtypes, _colors(len(dtypes)), strict=True))
    for ax, place in zip(axes.flat, places, strict=False):
        part = table[table["place"] == place]
        reach = np.geomspace(part["intensity"].min() / 2, part["intensity"].max() * 2, 200)
        for dtype, same in part.groupby("dtype"):
            limit = np.minimum(same["peak"].max(), reach * same["bandwidth"].max())
            ax.plot(reach, limit, color=colors[str(dtype)], lw=1)
        sns.scatterplot(
            part, x="intensity", y="rate", hue="dtype", hue_order=dtypes, palette=colors,
            style="benchmark", s=36, ax=ax,
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=place, xlabel="FLOP / byte", ylabel="GFLOP/s")
        _legend(ax, ("dtype", "benchmark"))
    for ax in axes.flat[len(places) :]:
        ax.set_axis_off()
    caption = (
        "Rates of the new side (marks) under the limits measured on the machine (lines): the "
        "memory's bandwidth on the slope, the fastest matrix product on the flat."
    )
    return Figure("roofline", caption, f"Roofline of {len(rows)} benchmarks", figure)
