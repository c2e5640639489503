"""The one style of all figures: measured as marks, theory as a line, sampling as a band.

Figures are drawn with seaborn on ``canvas`` axes and carry no colours of their own beside the
colour-blind-safe palette; text, axes and grid are in two sentinel colours which the report
replaces by the page's own, so that they follow light and dark mode.
"""

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#123456"
FAINT = "#abcdef"
PALETTE = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6ff0", "#8a8a8a",
]  # fmt: skip
"""Okabe & Ito's colours, those of too low a contrast on white or black exchanged."""
MARKERS = ["o", "s", "D", "^", "v", "P", "X", "*"]
DIVERGING = "vlag"
SEQUENTIAL = "crest"

sns.set_theme(
    style="ticks",
    palette=PALETTE,
    rc={
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.5,
        "lines.markersize": 5,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "axes.labelsize": 10,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "stability",
    },
)


def canvas(columns: int = 1, rows: int = 1, height: float = 3.4, **options: Any) -> Any:
    """A figure 9 inches wide and a numpy array (rows, columns) of axes; never touches pyplot.

    ``height``: inches a row.  ``options``: those of ``Figure.subplots`` (sharex, sharey, ...).
    """
    figure = Figure(figsize=(9.0, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def band(ax: Axes, x: Any, low: Any, high: Any, color: Any) -> None:
    """Shade the predicted sampling band between ``low`` and ``high``."""
    ax.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=color, alpha=0.18, lw=0)
