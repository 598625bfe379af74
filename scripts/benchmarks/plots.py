"""Plots as SVG files."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from .results import Plot

# Readable by people who see colours otherwise, on white (Okabe and Ito's, without yellow); and each has its own mark.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
_MARKS = ("o", "s", "^", "D", "v", "P")


def draw(plot: Plot) -> Figure:
    """Returns a plot as a figure."""
    figure = Figure(figsize=(8.5, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for index, series in enumerate(plot.series):
        style = {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKS[index % len(_MARKS)]}
        axes.plot(
            series.x, series.y, label=series.label, markersize=5 if len(series.x) <= 12 else 3, linewidth=1.6, **style
        )
    axes.set_title(plot.title, fontsize=11)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    ticks = sorted({x for series in plot.series for x in series.x})
    if plot.is_log_x:
        axes.set_xscale("log", base=2)
    if plot.is_log_y:
        axes.set_yscale("log")
        values = [y for series in plot.series for y in series.y]
        # Where an axis spans few powers of ten, 1, 2 and 5 of each are labelled.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 100 else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.1 * max(y for series in plot.series for y in series.y))
    if len(ticks) <= 12:
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#00000022")
    axes.spines[["top", "right"]].set_visible(False)
    if len(plot.series) > 1:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def write_plots(plots: list[Plot], folder: Path) -> None:
    """Writes each plot as NAME.svg; the same findings give the same bytes."""
    with mpl.rc_context({"svg.hashsalt": "maskport", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        for plot in plots:
            draw(plot).savefig(folder / f"{plot.name}.svg", metadata={"Date": None, "Creator": None})
