"""An evaluation for programs and for people: JSON, and a page that needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import pages
from ..calibrate.results import format_threshold
from ..calibrate.tally import THRESHOLDS, TITLES
from ..pages.charts import Line, Mark, draw_line_chart
from .evaluation import Evaluation
from .gate import Gate
from .scores import Scores


def to_json(evaluation: Evaluation, gate: Gate, reasons: Sequence[str]) -> dict[str, Any]:
    """Returns all figures, the verdict with `reasons` (none: it may be served), and what was asked."""
    best = evaluation.recommendation
    return {
        "blessed": not reasons,
        "reasons": list(reasons),
        "gate": {
            "score": gate.score,
            "floor": gate.floor,
            "class_floors": dict(gate.class_floors),
            "max_drop": gate.max_drop,
            "max_left_out": gate.max_left_out,
        },
        "pictures": evaluation.pictures,
        "left_out": evaluation.left_out,
        "not_compared": evaluation.not_compared,
        "confidence": evaluation.confidence,
        "scores": _as_json(evaluation.scores),
        "baseline": _as_json(evaluation.baseline),
        "differences": _as_json(evaluation.differences),
        "threshold": {
            "exported": evaluation.threshold,
            "calibrated": best.threshold if best else None,
            "iou_there": best.score if best else None,
            "doubts": evaluation.doubts,
        },
        "labels": evaluation.labels.summarize(with_meaning=True),
    }


def _as_json(scores: Mapping[str, Scores]) -> dict[str, Any]:
    return {subject: {name: one.to_json() for name, one in found.items()} for subject, found in scores.items()}


def make_page(
    evaluation: Evaluation, gate: Gate, reasons: Sequence[str], facts: Mapping[str, str] | None = None
) -> str:
    """Returns an HTML page of an evaluation and its verdict; `facts` are shown beside them, by heading."""
    counted = f"{evaluation.pictures} pictures"
    if (tally := evaluation.tally) is not None:
        counted += f", {tally.pixels / 1e6:,.1f} million pixels, {100 * tally.foreground_pixels / tally.pixels:.1f} % "
        counted += "foreground"
    counted += "; scores of all pixels together"
    if evaluation.pictures > 1:
        counted += f", each with its {100 * evaluation.confidence:g} % interval (bootstrap over the pictures)"
    return pages.render(
        "evaluation",
        title="May be served" if not reasons else "Must not be served",
        reasons=reasons,
        counted=counted,
        columns=list(TITLES.values()),
        scores=_texts(evaluation.scores),
        baseline=_texts(evaluation.baseline),
        differences=_texts(evaluation.differences),
        asked=_asked(gate, evaluation),
        chart=_chart(evaluation),
        threshold=_threshold(evaluation),
        doubts=evaluation.doubts,
        shown=[pages.Shown.of(f"{one.name}: IoU {one.iou:.4f}", one.shown) for one in evaluation.worst],
        labels=evaluation.labels.summarize(with_meaning=True),
        left_out={"Left out": evaluation.left_out, "Not compared": evaluation.not_compared},
        facts=facts or {},
    )


def _texts(scores: Mapping[str, Scores]) -> dict[str, list[tuple[str, str]]]:
    """Returns the values and their intervals, as texts."""
    return {
        subject: [(value, interval) for value, _, interval in (str(found[name]).partition(" ") for name in TITLES)]
        for subject, found in scores.items()
    }


def _asked(gate: Gate, evaluation: Evaluation) -> str:
    title = TITLES[gate.score]
    floors = {evaluation.main_subject: gate.floor, **gate.class_floors}
    text = f"{title}: " + ", ".join(f"{name} at least {floor:g}" for name, floor in floors.items())
    if evaluation.baseline:
        text += f"; at most {gate.max_drop:g} below the baseline"
    return text


def _chart(evaluation: Evaluation) -> str:
    """Returns the scores at every threshold as a chart; nothing where the model has none."""
    if evaluation.tally is None:
        return ""
    best, curves = evaluation.recommendation, evaluation.tally.curves("pixels")
    marks = [Mark(evaluation.threshold, f"exported: {evaluation.threshold:g}", is_dashed=best is not None)]
    if best:
        marks.append(Mark(best.threshold, f"recommended: {format_threshold(best.threshold)}"))
    return draw_line_chart(
        "IoU, Dice, precision and recall of the mask against the threshold",
        "score (all pixels)",
        [Line(title, THRESHOLDS, getattr(curves, name)) for name, title in TITLES.items()],
        marks,
    )


def _threshold(evaluation: Evaluation) -> str:
    best = evaluation.recommendation
    if evaluation.tally is None:
        return "The model answers classes, and has no threshold."
    if best is None:
        return f"The export's threshold is {evaluation.threshold:g}; none can be recommended."
    return (
        f"The export's threshold is {evaluation.threshold:g}. The best one on these pictures is "
        f"{format_threshold(best.threshold)}, with an IoU of {best.score:.4f}."
    )
