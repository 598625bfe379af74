"""From an exported model and labelled pictures to its scores, beside those of another export."""

import dataclasses
import heapq
import io
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ...serving import contract
from ..calibrate.calibration import find_doubts
from ..calibrate.criteria import Recommendation, recommend
from ..calibrate.labels import LabelCounts, LabelMeaning, ValueLike, Values, format_value, parse_values
from ..calibrate.tally import Tally
from ..errors import CalibrationError, EvaluationError, ExportError
from .exported import ExportedModel
from .labelled import Labelled, LabelledPictures
from .scores import CONFIDENCE, RESAMPLES, Scores, count, score

MASK = "mask"
"""The subject that is the foreground of a model with several classes; their names are the others."""
_MASK_NAMES = (MASK, "foreground", "mask as a whole")
"""Where a class has the name, another of these."""
WORST = 4
_SHOWN_EDGE = 480

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class WorstPicture:
    """A picture whose mask is among the worst."""

    name: str
    iou: float
    shown: Image.Image  # RGB; red is what the mask has too much, blue is what it lacks


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        pictures: how many were measured.
        scores: of each subject: the mask, and each class where the model tells several apart.
        baseline: the other export's, where there is one, of the subjects that it has too, on what it reads.
        differences: the scores' from the baseline's, on those.
        tally: of the probabilities at every threshold; None for a model of class indices, which has none.
        threshold: of the export.
        recommendation: the best threshold; None where no foreground is found at any, or there is no threshold.
        doubts: what speaks against that, for people.
        labels: the values in the labels.
        left_out: for each picture that could not be measured, why.
        not_compared: for each that says nothing of the model, or that the baseline alone could not read, why.
        worst: the pictures with the lowest IoU, the worst first.
        confidence: of the intervals.
    """

    pictures: int
    scores: dict[str, Scores]
    baseline: dict[str, Scores]
    differences: dict[str, Scores]
    tally: Tally | None
    threshold: float
    recommendation: Recommendation | None
    doubts: list[str]
    labels: LabelCounts
    left_out: list[str]
    not_compared: list[str]
    worst: list[WorstPicture]
    confidence: float

    @property
    def main_subject(self) -> str:
        """The one that the mask is: the first."""
        return next(iter(self.scores))


def evaluate(
    version_dir: str,
    pictures: LabelledPictures,
    *,
    baseline_dir: str | None = None,
    foreground_values: ValueLike | Iterable[ValueLike] | None = None,
    ignore_value: ValueLike | Iterable[ValueLike] = (),
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Evaluation:
    """Measures an export by the answers that it would be served with.

    A picture that cannot be measured is left out, and told of. So is one that the baseline alone cannot read, or whose
    every pixel is ignored, neither of which is the model's fault.

    Args:
        version_dir: of the export; path or URL.
        pictures: to measure it on.
        baseline_dir: of another export, to compare it with.
        foreground_values: what is foreground in the labels, as `calibrate` takes it. By default the numbers of the
            export's foreground channels, and where it has one channel all but 0. Where it is given, and the labels hold
            other values than numbers of classes, the mask alone is measured.
        ignore_value: values of pixels that do not count, such as 255 for void.
        resamples: draws of the bootstrap.
        confidence: of its intervals.

    Raises:
        EvaluationError: an export that cannot be measured, or nothing that it can be measured on.
        CalibrationError: labels that probably mean something else than they are taken for.
    """
    model = ExportedModel(version_dir)
    tally = None
    if not model.answers_classes:
        model.require(contract.PROBABILITY)
        tally = Tally()
    baseline = ExportedModel(baseline_dir) if baseline_dir is not None else None
    several = len(model.classes) > 1
    is_given = foreground_values is not None
    # Where one channel holds the indices of many classes, all but 0 is not the foreground, unless that is class 1.
    if foreground_values is None and (several or (model.answers_classes and model.foreground != [1])):
        foreground_values = model.foreground
    meaning = LabelMeaning(
        None if foreground_values is None else parse_values(foreground_values), parse_values(ignore_value)
    )
    labels = LabelCounts(meaning).add_all(partial(picture.read_label, None) for picture in pictures.walk())
    doubt = labels.check(len(model.classes), model.foreground)
    has_classes = several and model.has_class_map and _are_classes(labels, model.classes, is_given)
    if labels.pixels and not labels.has_foreground:
        raise EvaluationError(
            f"{pictures.origin}: no pixel of the labels is foreground; they hold {labels.summarize(with_meaning=True)}"
        )
    subjects = _Subjects(model, has_classes)
    others = _Subjects(baseline, has_classes and _tells_the_same(model, baseline)) if baseline is not None else None

    counts: list[list[tuple[int, int, int]]] = []
    compared: list[tuple[int, list[tuple[int, int, int]]]] = []
    left_out: list[str] = []
    not_compared: list[str] = []
    worst: list[tuple[float, int, WorstPicture]] = []
    for picture in pictures.walk():
        try:
            image = picture.read_image()
            mask = model.mask(image)
            values = picture.read_label(mask.shape)
            probability = model.probability(image) if tally is not None else None
            own = subjects.count(image, mask, values, meaning)
        except (EvaluationError, CalibrationError) as error:
            left_out.append(_told(picture, error))
            continue
        is_counted = meaning.counts(values)
        if not is_counted.any():
            not_compared.append(f"{picture.name}: every pixel is ignored")
            continue
        if others is not None and baseline is not None:
            try:
                compared.append((len(counts), others.count(image, baseline.mask(image), values, meaning)))
            except EvaluationError as error:
                not_compared.append(f"by the baseline: {_told(picture, error)}")
        if tally is not None and probability is not None:
            tally.add(probability[is_counted], meaning.is_foreground(values[is_counted]))
        counts.append(own)
        iou = own[0][0] / sum(own[0]) if any(own[0]) else 1.0
        if len(worst) < WORST or -iou > worst[0][0]:
            entry = (-iou, -len(counts), WorstPicture(picture.name, iou, _draw(image, mask, values, meaning)))
            (heapq.heappush if len(worst) < WORST else heapq.heappushpop)(worst, entry)
    if not counts:
        reasons = [*left_out, *not_compared]
        raise EvaluationError(
            f"{pictures.origin}: no picture can be measured" + (f"; the first: {reasons[0]}" if reasons else "")
        )

    recommendation, doubts = _recommend(tally) if tally is not None else (None, [])
    measure = partial(score, resamples=resamples, confidence=confidence)
    own_scores, *_ = measure(np.array(counts))
    other_scores: list[Scores] = []
    differences: list[Scores] = []
    if compared:
        of_both = np.array([counts[at] for at, _ in compared])
        _, other_scores, differences = measure(of_both, np.array([one for _, one in compared]))
    elif others is not None:
        doubts.append(f"the baseline could read no picture, so that there is nothing to compare: {not_compared[0]}")
    return Evaluation(
        pictures=len(counts),
        scores=dict(zip(subjects.names, own_scores, strict=True)),
        baseline=dict(zip(subjects.names, other_scores, strict=False)),
        differences=dict(zip(subjects.names, differences, strict=False)),
        tally=tally,
        threshold=model.threshold,
        recommendation=recommendation,
        doubts=[*([doubt] if doubt else []), *doubts],
        labels=labels,
        left_out=left_out,
        not_compared=not_compared,
        worst=[entry[-1] for entry in sorted(worst, reverse=True)],
        confidence=confidence,
    )


class _Subjects:
    """What of a model is measured: its mask, and its classes where it and the labels tell them apart."""

    def __init__(self, model: ExportedModel, has_classes: bool):
        self._model = model
        self._classes = len(model.classes) if has_classes else 0
        if len(model.classes) == 1:
            self.names = [name if not name.isdecimal() else MASK for name in model.classes]
        else:
            mask = next(name for name in _MASK_NAMES if name not in model.classes)
            self.names = [mask, *(model.classes if has_classes else [])]

    def count(self, image: bytes, mask: Mask, values: Values, meaning: LabelMeaning) -> list[tuple[int, int, int]]:
        """Returns the counts of each subject in one picture, by its mask and its label's values, both [H, W]."""
        is_counted = meaning.counts(values)
        found = [count(mask, meaning.is_foreground(values), is_counted)]
        if self._classes:
            known = self._classes
            # What the model answers beyond its classes is none of them.
            answered = np.minimum(self._model.class_map(image)[is_counted], known)
            pairs = values[is_counted] * (known + 1) + answered
            met = np.bincount(pairs, minlength=known * (known + 1)).reshape(known, known + 1)
            both = met[:, :known].diagonal()
            wrong, missed = met.sum(0)[:known] - both, met.sum(1) - both
            found += zip(both.tolist(), wrong.tolist(), missed.tolist(), strict=True)
        return found


def _tells_the_same(model: ExportedModel, baseline: ExportedModel) -> bool:
    return baseline.has_class_map and baseline.classes == model.classes


def _are_classes(labels: LabelCounts, classes: Sequence[str], is_given: bool) -> bool:
    """Returns whether the labels are numbers of classes.

    Where they are not, EvaluationError, unless it is given what is foreground in them.
    """
    found = np.array(sorted(labels.pixels))
    strange = [int(value) for value in found[labels.meaning.counts(found)] if not 0 <= value < len(classes)]
    if strange and not is_given:
        shown = ",".join(format_value(value) for value in strange[:8])
        raise EvaluationError(
            f"the labels hold {labels.summarize()}, and the model has the classes 0 to {len(classes) - 1}: values that "
            f"mean nothing are named by ignore_value={shown}, and what is foreground, where they are no classes, by "
            "foreground_values"
        )
    return not strange


def _recommend(tally: Tally) -> tuple[Recommendation | None, list[str]]:
    try:
        best = recommend(tally.curves("pixels"), tally.counts[0] > 0, "iou")
    except CalibrationError as error:
        return None, [str(error)]
    return best, find_doubts(tally, best)


def _told(picture: Labelled, error: ExportError) -> str:
    text = str(error)
    return text if picture.name in text else f"{picture.name}: {text}"


def _draw(image: bytes, mask: Mask, values: Values, meaning: LabelMeaning) -> Image.Image:
    """Returns a picture in gray, with what its mask has too much in red and what it lacks in blue."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            gray = np.asarray(ImageOps.exif_transpose(opened).convert("L"), np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        gray = np.zeros([], np.float32)
    if gray.shape != mask.shape:  # what the model's own decoder alone reads, or reads so
        gray = np.full(mask.shape, 255, np.float32)
    pixels = np.repeat(gray[..., np.newaxis], 3, axis=-1)
    truth, is_counted = meaning.is_foreground(values), meaning.counts(values)
    for where, colour in ((mask & ~truth, (255, 60, 40)), (truth & ~mask, (60, 120, 255))):
        pixels[where & is_counted] = 0.4 * pixels[where & is_counted] + 0.6 * np.array(colour)
    shown = Image.fromarray(pixels.astype(np.uint8))
    shown.thumbnail((_SHOWN_EDGE, _SHOWN_EDGE))
    return shown
