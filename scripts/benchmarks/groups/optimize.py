"""Every choice of the spec's `optimize`: what it gains, and how near its masks stay to the plain export's."""

import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from maskport.export import ExportError
from maskport.export.spec import ExportSpec

from .. import pictures
from ..lab import Lab
from ..measuring import ratio, spread, take_turns
from ..models import SIZE, Subject
from ..results import Finding, Row, number_text
from .outputs import load_signature

_NO_TRANSFORMATIONS = ("none", "auto")


def choices() -> list[str]:
    """Returns the transformations that an export can be asked for."""
    return [c for c in typing.get_args(ExportSpec.model_fields["optimize"].annotation) if c not in _NO_TRANSFORMATIONS]


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields time ÷ plain for each model and choice, with the IoU of the masks in the note."""
    if not choices():
        yield Row("optimized ÷ plain", None, note="this version's spec has no transformation to choose")
    for subject in lab.subjects.all:
        if subject.name not in lab.effort.optimized:
            continue
        for choice in choices():
            name = f"probability, optimize={choice} ÷ plain, in process, {subject.name}, {SIZE}²"
            try:
                base_path = subject.export_with(choice, optimize=choice)
            except ExportError as error:
                yield Row(name, None, note=f"refused: {error}")
                continue
            yield _compare(lab, subject, base_path, name)


def _compare(lab: Lab, subject: Subject, base_path: Path, name: str) -> Row:
    photographs = [photo.resize((SIZE, SIZE)) for photo in pictures.photographs().values()]
    mode = "L" if subject.channels == 1 else "RGB"
    images = [np.asarray(photo.convert(mode)).reshape(1, SIZE, SIZE, -1) for photo in photographs]
    exports = {"plain": subject.base_path, "optimized": base_path}
    image = tf.constant(images[0])
    functions = {kind: load_signature(path, "probability") for kind, path in exports.items()}
    calls = {kind: lambda f=f: f(image=image)["probability"].numpy() for kind, f in functions.items()}
    found = take_turns(calls, lab.effort.rounds, 5, lab.effort.budget_s)
    masks = {}
    for kind, path in exports.items():
        signature = load_signature(path, "mask")
        masks[kind] = [signature(image=tf.constant(image))["mask"].numpy() > 0 for image in images]
    overlaps = [intersection_over_union(a, b) for a, b in zip(masks["plain"], masks["optimized"], strict=True)]
    together = intersection_over_union(*(np.concatenate(found) for found in masks.values()))
    times = {kind: number_text(1000 * spread(found[kind]).median) for kind in found}
    note = f"{times['optimized']} and {times['plain']} ms; IoU to the plain masks {together:.4f}, "
    note += f"{min(overlaps):.4f} at worst"
    return Row.of(name, ratio(found["optimized"], found["plain"]), note=note)


def intersection_over_union(mask: np.ndarray, other: np.ndarray) -> float:
    """Returns the IoU of two masks of one shape; 1 where both are empty."""
    union = np.logical_or(mask, other).sum()
    return float(np.logical_and(mask, other).sum() / union) if union else 1.0
