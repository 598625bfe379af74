"""A calibration for people: a summary, a table and a plot."""

import csv
import dataclasses
from pathlib import Path

from ..line_chart import Line, Mark, draw_line_chart
from .calibration import Calibration
from .criteria import threshold_at
from .tally import AVERAGES, STEPS, THRESHOLDS, Curves

TABLE_FILE = "calibration.csv"
PLOT_FILE = "calibration.svg"
_SCORES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}


def summarize(calibration: Calibration) -> str:
    """Returns what was measured, in a few lines."""
    tally = calibration.tally
    recommendation = calibration.recommendation
    share = tally.foreground_pixels / tally.pixels
    lines = [
        f"{tally.pictures} pictures, {tally.pixels / 1e6:,.1f} million pixels, {100 * share:.1f} % foreground",
        f"values in the masks: {calibration.labels.summarize(with_meaning=True)}",
        "",
        f"{'':<12}{'threshold':>9}" + "".join(f"{title:>11}" for title in _SCORES.values()),
    ]
    curves = tally.curves(calibration.average)
    rows = {"recommended": recommendation.index, "in the spec": round(calibration.spec_threshold * STEPS)}
    for title, index in rows.items():
        scores = "".join(f"{getattr(curves, name)[index]:>11.4f}" for name in _SCORES)
        lines.append(f"{title:<12}{format_threshold(threshold_at(index)):>9}{scores}")
    over = "all pixels" if calibration.average == "pixels" else "the mean of the pictures"
    low, high = (
        format_threshold(threshold_at(index)) for index in (recommendation.nearly_from, recommendation.nearly_to)
    )
    nearly = f"; from {low} to {high} it is nearly as good" if low != high else ""
    return "\n".join([*lines, "", f"best by {_criterion_text(calibration)} over {over}{nearly}"])


def _criterion_text(calibration: Calibration) -> str:
    return {
        "precision_at_recall": f"precision where recall is at least {calibration.target:g}",
        "recall_at_precision": f"recall where precision is at least {calibration.target:g}",
    }.get(calibration.criterion, _SCORES.get(calibration.criterion, calibration.criterion))


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
    curves = calibration.tally.curves(calibration.average)
    over = "all pixels" if calibration.average == "pixels" else "mean of the pictures"
    path.write_text(
        draw_line_chart(
            f"IoU, Dice, precision and recall against threshold, {over}; {calibration.threshold:g} is recommended",
            f"score ({over})",
            [Line(title, THRESHOLDS, getattr(curves, name)) for name, title in _SCORES.items()],
            [
                Mark(calibration.threshold, f"recommended: {format_threshold(calibration.threshold)}"),
                Mark(calibration.spec_threshold, f"in the spec: {calibration.spec_threshold:g}", is_dashed=True),
            ],
        ),
        encoding="utf-8",
    )
