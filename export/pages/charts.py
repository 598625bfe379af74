"""Line charts over the thresholds 0 to 1, as SVG: for a page or as a file of its own, in light and in dark.

Colours are told apart by people who see few of them (after Okabe and Ito), and each line has its own dashes.
"""

import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SIZE = (560, 350)
_PAPER, _INK, _DIM, _GRID = "#ffffff", "#1b1f24", "#59636e", "#d8dee4"
_LINES = (("#0072b2", "-"), ("#c2500a", "--"), ("#00795a", ":"), ("#a04b86", "-."))
_IN_DARK = {
    _PAPER: "#15181c", _INK: "#e6edf3", _DIM: "#9aa4af", _GRID: "#343b44",
    "#0072b2": "#56b4e9", "#c2500a": "#f0894d", "#00795a": "#2fc49a", "#a04b86": "#dd8fc0",
}  # fmt: skip
# What is drawn is the light form, for programs that know no style sheets.
_DARK_RULES = "".join(
    f'.chart [style*="{use}: {light}"]{{{use}:{dark}!important}}'
    for light, dark in _IN_DARK.items()
    for use in ("fill", "stroke")
)
_STYLE = (
    ".chart text{font-family:system-ui,sans-serif!important}"
    f"@media screen and (prefers-color-scheme:dark){{{_DARK_RULES}}}"
)
_SETTINGS: Any = {
    "font.size": 13,
    "svg.fonttype": "none",  # texts stay texts
    "svg.hashsalt": "maskport",
    "text.color": _INK,
    "text.parse_math": False,
    "axes.facecolor": _PAPER,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.bottom": False,
    "grid.color": _GRID,
    "xtick.labelcolor": _DIM,
    "ytick.labelcolor": _DIM,
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve."""

    name: str  # for the legend
    x: npt.NDArray[np.floating]  # thresholds, 0 to 1, ascending
    y: npt.NDArray[np.floating]  # 0 to 1, as many


@dataclasses.dataclass(frozen=True)
class Mark:
    """A threshold that is pointed out."""

    x: float  # 0 to 1
    label: str  # written beside it
    is_dashed: bool = False  # for the lesser one of two


def draw_line_chart(title: str, y_title: str, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """Returns an `<svg>` element with its styles.

    Args:
        title: for those who cannot see the chart.
        y_title: what the curves show.
        lines: up to four.
        marks: vertical lines.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _SETTINGS]):  # whatever the user's own matplotlibrc says
        figure = Figure(figsize=(_SIZE[0] / 72, _SIZE[1] / 72), layout="constrained", facecolor=_PAPER)
        axes = figure.add_subplot(xlabel="threshold", ylabel=y_title, xlim=(0, 1), ylim=(0, 1))
        axes.tick_params(length=0, pad=6)
        axes.set_axisbelow(True)
        for position, (line, (colour, dashes)) in enumerate(zip(lines, _LINES, strict=False)):
            heights = np.clip(line.y, 0, 1)
            axes.plot(
                line.x, heights, dashes, color=colour, lw=2, label=line.name, gid=f"line-{position}", clip_on=False
            )
        for position, mark in enumerate(sorted(marks, key=lambda mark: mark.x)):
            axes.axvline(mark.x, color=_INK, lw=1.5, ls="--" if mark.is_dashed else "-", clip_on=False)
            # Labels of near marks must not lie on each other: the left one goes to the left where there is room.
            is_left_of_it = mark.x > 0.75 or (position == 0 and mark.x > 0.25)
            axes.annotate(
                mark.label,
                (mark.x, 0.05 + 0.08 * position),
                xytext=(-6 if is_left_of_it else 6, 0),
                textcoords="offset points",
                ha="right" if is_left_of_it else "left",
                bbox={"facecolor": _PAPER, "edgecolor": "none", "pad": 2},
            )
        if len(lines) > 1:  # the axis says what a single one is
            figure.legend(loc="outside lower center", ncols=len(lines), frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Title": title, "Date": None})
    svg = file.getvalue().partition("<svg ")[2]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return '<svg class="chart" role="img" ' + svg.replace("*{", f"{_STYLE}.chart *{{", 1)
