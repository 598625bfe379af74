"""A calibration for people: a summary, a table, a plot and a page."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from .. import pages
from ..pages.charts import Line, Mark, draw_line_chart
from .calibration import Calibration
from .criteria import threshold_at
from .tally import AVERAGES, STEPS, THRESHOLDS, TITLES, Curves

TABLE_FILE = "calibration.csv"
PLOT_FILE = "calibration.svg"
PAGE_FILE = "calibration.html"


def summarize(calibration: Calibration) -> str:
    """Returns what was measured, in a few lines."""
    table = _table(calibration)
    return "\n".join(
        [
            _counted(calibration),
            f"values in the masks: {calibration.labels.summarize(with_meaning=True)}",
            "",
            f"{'':<12}{'threshold':>9}" + "".join(f"{title:>11}" for title in TITLES.values()),
            *(f"{title:<12}{row[0]:>9}" + "".join(f"{score:>11}" for score in row[1:]) for title, row in table.items()),
            "",
            _verdict(calibration),
        ]
    )


def _counted(calibration: Calibration) -> str:
    tally = calibration.tally
    share = tally.foreground_pixels / tally.pixels
    return f"{tally.pictures} pictures, {tally.pixels / 1e6:,.1f} million pixels, {100 * share:.1f} % foreground"


def _table(calibration: Calibration) -> dict[str, list[str]]:
    """Returns a threshold and its scores, by what the threshold is."""
    curves = calibration.tally.curves(calibration.average)
    rows = {"recommended": calibration.recommendation.index, "in the spec": round(calibration.spec_threshold * STEPS)}
    return {
        title: [format_threshold(threshold_at(at)), *(f"{getattr(curves, name)[at]:.4f}" for name in TITLES)]
        for title, at in rows.items()
    }


def _verdict(calibration: Calibration) -> str:
    best = calibration.recommendation
    low, high = (format_threshold(threshold_at(index)) for index in (best.nearly_from, best.nearly_to))
    nearly = f"; from {low} to {high} it is nearly as good" if low != high else ""
    over = {"pixels": "all pixels", "pictures": "the mean of the pictures"}[calibration.average]
    criterion = {
        "precision_at_recall": f"precision where recall is at least {calibration.target:g}",
        "recall_at_precision": f"recall where precision is at least {calibration.target:g}",
        **TITLES,
    }[calibration.criterion]
    return f"best by {criterion} over {over}{nearly}"


def format_threshold(threshold: float) -> str:
    """Returns a threshold with two decimals, or three where they are needed."""
    text = f"{threshold:.3f}"
    return text.removesuffix("0")


def write_table(calibration: Calibration, path: Path) -> None:
    """Writes a CSV with one line for each threshold: scores over all pixels, means over pictures, counts."""
    tally = calibration.tally
    over_pixels, over_pictures = (tally.curves(average) for average in AVERAGES)
    names = [field.name for field in dataclasses.fields(Curves)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        counts = ["true_positives", "false_positives", "false_negatives"]
        writer.writerow(["threshold", *names, *(f"mean_{name}" for name in names), *counts])
        columns = [
            *(getattr(over_pixels, name) for name in names),
            *(getattr(over_pictures, name) for name in names),
        ]
        for index in range(STEPS + 1):
            scores = [f"{column[index]:.6f}" for column in columns]
            writer.writerow([f"{threshold_at(index):.3f}", *scores, *(int(count[index]) for count in tally.counts)])


def write_plot(calibration: Calibration, path: Path) -> None:
    """Writes an SVG of the scores against the threshold, with the recommended one and the spec's."""
    path.write_text(_draw(calibration), encoding="utf-8")


def write_page(calibration: Calibration, warnings: Sequence[str], path: Path) -> None:
    """Writes an HTML page of all that was measured, with what was warned of."""
    page = pages.render(
        "calibration",
        title=f"Recommended threshold: {format_threshold(calibration.threshold)}",
        counted=_counted(calibration),
        warnings=warnings,
        columns=["threshold", *TITLES.values()],
        table=_table(calibration),
        verdict=_verdict(calibration),
        chart=_draw(calibration),
        labels=calibration.labels.summarize(with_meaning=True),
    )
    path.write_text(page, encoding="utf-8")


def _draw(calibration: Calibration) -> str:
    curves = calibration.tally.curves(calibration.average)
    over = {"pixels": "all pixels", "pictures": "mean of the pictures"}[calibration.average]
    return draw_line_chart(
        f"IoU, Dice, precision and recall against threshold, {over}; {calibration.threshold:g} is recommended",
        f"score ({over})",
        [Line(title, THRESHOLDS, getattr(curves, name)) for name, title in TITLES.items()],
        [
            Mark(calibration.threshold, f"recommended: {format_threshold(calibration.threshold)}"),
            Mark(calibration.spec_threshold, f"in the spec: {calibration.spec_threshold:g}", is_dashed=True),
        ],
    )
