"""Several pictures in one request, beside as many requests of one picture."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from maskport.serving.client import MaskClient

from .. import pictures
from ..lab import Lab
from ..measuring import ratio, spread, take_turns
from ..models import Subject
from ..results import Finding, Plot, Row, Series, Table, at_most, number_text
from ..servers import Served

_MANY = 8
_GAIN = 0.8


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the time of a request of eight ÷ eight times that of one, and a table and a plot over numbers."""
    lines, series = [], []
    subjects = (lab.subjects.small, lab.subjects.light, lab.subjects.unet)
    with lab.serve(*subjects) as served:
        measured = [(subject, _measure_subject(lab, subject, served)) for subject in subjects]
    for subject, found in measured:
        shares = {way: _shares(found, way) for way in ("served", "bare")}
        bare = shares["bare"][_MANY]
        gains = bare.median <= _GAIN
        yield Row.of(
            f"{_MANY} pictures in one request ÷ {_MANY} × one, {subject.name}, {subject.edge}²",
            shares["served"][_MANY],
            goal=at_most(_GAIN if gains else 1.05),
            note=f"the bare model's batch of {_MANY}: {number_text(bare.median)}, so the goal is "
            + ("0.8" if gains else "1.05 rather than 0.8"),
        )
        for number in lab.effort.batches:
            figures = [
                figure
                for way in ("served", "bare")
                for figure in (1000 * spread(found[way, number]).median, shares[way][number].median)
            ]
            lines.append([f"{subject.name}, {number}", *map(number_text, figures)])
        for way, label in (("served", f"{subject.name}, mask_png over gRPC"), ("bare", f"{subject.name}, bare model")):
            times = [1000 * spread(found[way, number]).median / number for number in lab.effort.batches]
            series.append(Series(label, list(lab.effort.batches), times))
    columns = ["model, pictures", "request, ms", "÷ n × one", "bare batch, ms", "÷ n × one"]
    yield Table("Pictures in one request", columns, lines)
    yield Plot(
        "batches", "Several pictures in one request", "pictures in the request", "milliseconds per picture", series
    )


def _measure_subject(lab: Lab, subject: Subject, served: Served) -> dict[tuple[str, int], list[float]]:
    edge = subject.edge
    files = pictures.variants(max(lab.effort.batches), [(edge, edge)])
    random = np.random.default_rng(0)
    with MaskClient(served.grpc, subject.name, timeout=60) as client:
        calls = {}
        for number in lab.effort.batches:
            batch = tf.constant(random.random((number, edge, edge, 3), np.float32))
            calls["served", number] = lambda chosen=files[:number]: client.predict("mask_png", {"image_bytes": chosen})
            calls["bare", number] = lambda batch=batch: subject.forward(batch).numpy()
        return take_turns(calls, lab.effort.rounds // 2, 1, 2 * lab.effort.budget_s)  # type: ignore[arg-type, return-value]


def _shares(found: dict[tuple[str, int], list[float]], way: str) -> dict[int, object]:
    return {
        number: ratio(times, [number * seconds for seconds in found[way, 1]])
        for (kind, number), times in found.items()
        if kind == way
    }
