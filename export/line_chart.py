"""Line charts over the thresholds 0 to 1, as SVG: for a page or as a file of its own, in light and in dark.

Colours are told apart by people who see few of them (after Okabe and Ito), and each line has its own dashes.
"""

import dataclasses
import html
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 720, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 24, 20, 84
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")
_LEGEND_STEP, _LEGEND_HEIGHT = 130, 34
_STYLE = """
.chart{--paper:#fff;--ink:#1b1f24;--dim:#59636e;--grid:#d8dee4;--c0:#0072b2;--c1:#c2500a;--c2:#00795a;--c3:#a04b86;
max-width:100%;height:auto;font:13px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.chart{--paper:#15181c;--ink:#e6edf3;--dim:#9aa4af;--grid:#343b44;--c0:#56b4e9;--c1:#f0894d;
--c2:#2fc49a;--c3:#dd8fc0}}
.chart text{fill:var(--ink)}.chart .tick{fill:var(--dim)}.chart .grid{stroke:var(--grid)}
.chart .paper{fill:var(--paper)}.chart .label{paint-order:stroke;stroke:var(--paper);stroke-width:4}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round}.chart .mark{stroke:var(--ink);stroke-width:1.5}
"""


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        x: thresholds, 0 to 1, ascending.
        y: 0 to 1, as many.
    """

    name: str
    x: npt.NDArray[np.floating]
    y: npt.NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A threshold that is pointed out.

    Attributes:
        x: 0 to 1.
        label: written beside it.
        is_dashed: for the lesser one of two.
    """

    x: float
    label: str
    is_dashed: bool = False


def draw_line_chart(title: str, y_title: str, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """Returns an `<svg>` element with its styles.

    Args:
        title: for those who cannot see the chart.
        y_title: what the curves show.
        lines: up to four.
        marks: vertical lines.
    """
    # One line needs no legend: the axis says what it is.
    height = _HEIGHT if len(lines) > 1 else _HEIGHT - _LEGEND_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}"><title>{html.escape(title)}</title><style>{_STYLE}</style>',
        f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="6"/>',
        *_axes(y_title),
        *(part for position, line in enumerate(lines) for part in _curve(position, line)),
        *(part for position, line in enumerate(lines) for part in _legend(position, line) if len(lines) > 1),
        *(
            part
            for position, mark in enumerate(sorted(marks, key=lambda mark: mark.x))
            for part in _mark(position, mark)
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _across(x: float) -> str:
    return f"{_LEFT + x * _PLOT_WIDTH:.1f}"


def _down(y: float) -> str:
    return f"{_TOP + (1 - y) * _PLOT_HEIGHT:.1f}"


def _axes(y_title: str) -> list[str]:
    parts = []
    for tick in _TICKS:
        x, y = _across(tick), _down(tick)
        parts += [
            f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}M{x} {_TOP}V{_TOP + _PLOT_HEIGHT}"/>',
            f'<text class="tick" x="{_LEFT - 8}" y="{y}" dy="0.35em" text-anchor="end">{tick:g}</text>',
            f'<text class="tick" x="{x}" y="{_TOP + _PLOT_HEIGHT + 18}" text-anchor="middle">{tick:g}</text>',
        ]
    middle = _TOP + _PLOT_HEIGHT / 2
    return [
        *parts,
        f'<text x="{_across(0.5)}" y="{_TOP + _PLOT_HEIGHT + 38}" text-anchor="middle">threshold</text>',
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{html.escape(y_title)}</text>",
    ]


def _curve(position: int, line: Line) -> list[str]:
    points: list[str] = []
    for x, y in zip(line.x, np.clip(line.y, 0, 1), strict=True):
        point = f"{_across(float(x))},{_down(float(y))}"
        # Where a curve is flat its ends are enough.
        if len(points) >= 2 and _height_of(points[-1]) == _height_of(points[-2]) == _height_of(point):
            points[-1] = point
        else:
            points.append(point)
    return [f'<polyline {_style(position)} points="{" ".join(points)}"/>']


def _style(position: int) -> str:
    return f'class="line" style="stroke:var(--c{position})" stroke-dasharray="{_DASHES[position]}"'


def _legend(position: int, line: Line) -> list[str]:
    left, top = _LEFT + position * _LEGEND_STEP, _HEIGHT - 16
    return [
        f'<path {_style(position)} d="M{left} {top}h28"/>',
        f'<text x="{left + 36}" y="{top}" dy="0.35em">{html.escape(line.name)}</text>',
    ]


def _height_of(point: str) -> str:
    return point.partition(",")[2]


def _mark(position: int, mark: Mark) -> list[str]:
    dashes = ' stroke-dasharray="4 4"' if mark.is_dashed else ""
    # Labels of near marks must not lie on each other: the left one goes to the left where there is room.
    is_left_of_it = mark.x > 0.75 or (position == 0 and mark.x > 0.25)
    anchor, shift = ("end", -6) if is_left_of_it else ("start", 6)
    top = _TOP + _PLOT_HEIGHT - 12 - 18 * position
    return [
        f'<path class="mark"{dashes} d="M{_across(mark.x)} {_TOP}V{_TOP + _PLOT_HEIGHT}"/>',
        f'<text class="label" x="{_across(mark.x)}" dx="{shift}" y="{top}" text-anchor="{anchor}">'
        f"{html.escape(mark.label)}</text>",
    ]
