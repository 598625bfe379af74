"""From an exported model and labelled pictures to its scores, beside those of another export."""

import contextlib
import dataclasses
import heapq
import io
from collections.abc import Iterable, Sequence

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
        baseline: the other export's, where there is one, of the subjects that it has too.
        differences: the scores' from the baseline's.
        tally: of the probabilities at every threshold.
        threshold: of the export.
        recommendation: the best threshold; None where no foreground is found at any.
        doubts: what speaks against that, for people.
        labels: the values in the labels.
        left_out: for each picture that could not be measured, why.
        worst: the pictures with the lowest IoU, the worst first.
        confidence: of the intervals.
    """

    pictures: int
    scores: dict[str, Scores]
    baseline: dict[str, Scores]
    differences: dict[str, Scores]
    tally: Tally
    threshold: float
    recommendation: Recommendation | None
    doubts: list[str]
    labels: LabelCounts
    left_out: list[str]
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

    A picture that cannot be measured is left out, of both models, and told of.

    Args:
        version_dir: of the export; path or URL.
        pictures: to measure it on.
        baseline_dir: of another export, to compare it with.
        foreground_values: what is foreground in the labels, as `calibrate` takes it. By default the numbers of the
            export's foreground channels, and where it has one channel all but 0.
        ignore_value: values of pixels that do not count, such as 255 for void.
        resamples: draws of the bootstrap.
        confidence: of its intervals.

    Raises:
        EvaluationError: an export that cannot be measured, or nothing that it can be measured on.
        CalibrationError: labels that probably mean something else than they are taken for.
    """
    model = ExportedModel(version_dir, (contract.PROBABILITY,))
    baseline = ExportedModel(baseline_dir) if baseline_dir is not None else None
    several = len(model.classes) > 1
    if foreground_values is None and several:
        foreground_values = model.foreground
    meaning = LabelMeaning(
        None if foreground_values is None else parse_values(foreground_values), parse_values(ignore_value)
    )
    labels = _count_labels(pictures, meaning)
    doubt = labels.check(len(model.classes), model.foreground)
    has_classes = several and model.has_class_map
    if has_classes:
        _check_classes(labels, model.classes)
    subjects = _Subjects(model, has_classes)
    others = _Subjects(baseline, has_classes and _tells_the_same(model, baseline)) if baseline is not None else None

    tally = Tally()
    counts: list[list[tuple[int, int, int]]] = []
    baseline_counts: list[list[tuple[int, int, int]]] = []
    left_out: list[str] = []
    worst: list[tuple[float, int, WorstPicture]] = []
    for picture in pictures.walk():
        try:
            image = picture.read_image()
            probability = model.probability(image)
            values = picture.read_label(probability.shape)
            own = subjects.count(image, values, meaning)
            other = others.count(image, values, meaning) if others else []
        except (EvaluationError, CalibrationError) as error:
            left_out.append(_told(picture, error))
            continue
        is_counted = meaning.counts(values)
        if not is_counted.any():
            left_out.append(f"{picture.name}: every pixel is ignored")
            continue
        tally.add(probability[is_counted], meaning.is_foreground(values[is_counted]))
        counts.append(own)
        baseline_counts.append(other)
        iou = own[0][0] / sum(own[0]) if any(own[0]) else 1.0
        if len(worst) < WORST or -iou > worst[0][0]:
            shown = _draw(image, model.mask(image), values, meaning)
            entry = (-iou, -len(counts), WorstPicture(picture.name, iou, shown))
            (heapq.heappush if len(worst) < WORST else heapq.heappushpop)(worst, entry)
    if not counts:
        reason = f"; the first: {left_out[0]}" if left_out else ""
        raise EvaluationError(f"{pictures.origin}: no picture can be measured{reason}")

    recommendation, doubts = _recommend(tally)
    own_scores, other_scores, differences = score(
        np.array(counts),
        np.array(baseline_counts) if others is not None else None,
        resamples=resamples,
        confidence=confidence,
    )
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

    def count(self, image: bytes, values: Values, meaning: LabelMeaning) -> list[tuple[int, int, int]]:
        """Returns the counts of each subject in one picture, whose label's values are [H, W]."""
        is_counted = meaning.counts(values)
        found = [count(self._model.mask(image), meaning.is_foreground(values), is_counted)]
        if self._classes:
            class_map = self._model.class_map(image)
            found += [count(class_map == at, values == at, is_counted) for at in range(self._classes)]
        return found


def _tells_the_same(model: ExportedModel, baseline: ExportedModel) -> bool:
    return baseline.has_class_map and baseline.classes == model.classes


def _count_labels(pictures: LabelledPictures, meaning: LabelMeaning) -> LabelCounts:
    # Labels are read in no time; what the model says of hundreds of pictures would be waited for in vain.
    labels = LabelCounts(meaning)
    for picture in pictures.walk():
        with contextlib.suppress(CalibrationError):  # told of when it is measured
            labels.add(picture.read_label(None))
    return labels


def _check_classes(labels: LabelCounts, classes: Sequence[str]) -> None:
    """Makes sure that the labels are numbers of classes; EvaluationError where they are not."""
    found = np.array(sorted(labels.pixels))
    strange = [int(value) for value in found[labels.meaning.counts(found)] if not 0 <= value < len(classes)]
    if strange:
        shown = ",".join(format_value(value) for value in strange[:8])
        raise EvaluationError(
            f"the labels hold {labels.summarize()}, and the model has the classes 0 to {len(classes) - 1}: values that "
            f"mean nothing are named by ignore_value={shown}"
        )


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
    except (OSError, ValueError):  # what only the model's own decoder reads
        gray = np.full(mask.shape, 255, np.float32)
    pixels = np.repeat(gray[..., np.newaxis], 3, axis=-1)
    truth, is_counted = meaning.is_foreground(values), meaning.counts(values)
    for where, colour in ((mask & ~truth, (255, 60, 40)), (truth & ~mask, (60, 120, 255))):
        pixels[where & is_counted] = 0.4 * pixels[where & is_counted] + 0.6 * np.array(colour)
    shown = Image.fromarray(pixels.astype(np.uint8))
    shown.thumbnail((_SHOWN_EDGE, _SHOWN_EDGE))
    return shown
