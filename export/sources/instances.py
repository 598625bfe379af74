"""Models that answer detections and prototypes of their masks: joined as a map of each class.

The form is YOLACT's (Bolya et al., 2019), which Ultralytics' networks have: a detection is a box, scores, and the
factors by which the prototypes, which all detections share, are added up as the logits of its mask. What is kept of
detections is what Ultralytics keeps: those above a score, without the less certain ones of much the same box and class.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import SourceError
from ..model.causes import cause_of
from ..model.segmentation_model import CHANNELS_FIRST, RawModel
from ..spec import ExportSpec
from .outputs import DISTORTION, READINGS, distortion

_SAME_BOX = 0.7
"""From this overlap (IoU) on two detections of a class are of one thing."""
_MOST = 300
"""Detections that are kept of a picture."""
_STRIDES, _USUAL = (4, 8, 16, 32, 64), (8, 16, 32)
"""How many pixels of the input, in height and in width, a cell of a detector's grids may show, and mostly shows."""
_BOX, _CHOSEN = 4, 6
"""How many numbers a box is, and what stands before the factors of a chosen detection: a box, its score and class."""
_LARGEST_SHARE = 2
"""Above it a box's numbers are pixels, for it would lie far outside of the picture."""


@dataclasses.dataclass(frozen=True)
class Instances:
    """How detections [B, N, F] or [B, F, N] and prototypes [B, h, w, M] or [B, M, h, w] lie.

    Attributes:
        rows_first: whether a detection is a row [F], rather than a column.
        has_object_score: whether the box is followed by a score that there is something, before those of classes.
        are_chosen: whether the model has chosen the detections itself: rows of two corners, score, class, factors.
        prototypes: where their channels are.
        has_pixels: whether boxes are in pixels of the model's input, rather than shares of its edges.
        classes: how many there are; 1 where the rows of chosen detections cannot tell.
        confidence: the score above which a detection counts.
    """

    rows_first: bool
    has_object_score: bool
    are_chosen: bool
    prototypes: str
    has_pixels: bool
    classes: int
    confidence: float

    def __call__(self, detections: tf.Tensor, prototypes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns probabilities [B, h, w, K], of the rest and of each class, for an input of `size` (height, width).

        Of a class a pixel has the highest probability of all masks of that class, or 0 where none lies. Of one class
        alone there is no rest: K is 1.
        """
        boxes, told, factors, prototypes = self.parts(detections, prototypes)
        edges = tf.cast(size, tf.float32) if self.has_pixels else tf.ones([2])
        cells = tf.cast(tf.shape(prototypes)[1:3], tf.float32)
        scale = tf.reverse(tf.tile(cells / edges, [2]), [0])  # of x, y, x, y
        maps = tf.map_fn(
            tf.autograph.experimental.do_not_convert(lambda parts: self._of_one(*parts)),
            (boxes * scale, told, factors, prototypes),
            fn_output_signature=tf.TensorSpec([self.classes, None, None], tf.float32),
        )
        maps = tf.transpose(maps, [0, 2, 3, 1])
        if self.classes == 1:
            return maps
        return tf.concat([1.0 - tf.reduce_max(maps, -1, keepdims=True), maps], -1)

    def parts(self, detections: tf.Tensor, prototypes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns boxes [B, N, 4], what else is told [B, N, .], factors [B, N, M] and prototypes [B, h, w, M]."""
        rows = tf.cast(detections, tf.float32)
        rows = rows if self.rows_first else tf.transpose(rows, [0, 2, 1])
        prototypes = tf.cast(prototypes, tf.float32)
        if self.prototypes == CHANNELS_FIRST:
            prototypes = tf.transpose(prototypes, [0, 2, 3, 1])
        count = prototypes.shape[3]
        return rows[..., :_BOX], rows[..., _BOX:-count], rows[..., -count:], prototypes

    def _of_one(self, boxes: tf.Tensor, told: tf.Tensor, factors: tf.Tensor, prototypes: tf.Tensor) -> tf.Tensor:
        """Returns one picture's probabilities [classes, h, w]; boxes are in pixels of the prototypes."""
        if self.are_chosen:
            scores, classes = told[:, 0], tf.cast(told[:, 1] if self.classes > 1 else 0 * told[:, 1], tf.int32)
            kept = tf.where((scores > self.confidence) & (classes < self.classes))[:, 0]
        else:
            scores = told[:, 1:] * told[:, :1] if self.has_object_score else told
            classes, scores = tf.argmax(scores, 1, tf.int32), tf.reduce_max(scores, 1)
            centre, half = boxes[:, :2], boxes[:, 2:] / 2
            boxes = tf.concat([centre - half, centre + half], 1)
            # Those of different classes are moved apart, so that they never overlap.
            apart = (tf.reduce_max(boxes) - tf.reduce_min(boxes)) * tf.cast(classes, tf.float32)
            moved = boxes + apart[:, tf.newaxis]
            kept = tf.image.non_max_suppression(moved, scores, _MOST, _SAME_BOX, self.confidence)
        left, top, right, bottom = tf.unstack(tf.gather(boxes, kept)[:, :, tf.newaxis, tf.newaxis], axis=1)
        y, x = (tf.range(tf.cast(edge, tf.float32)) for edge in tf.unstack(tf.shape(prototypes)[:2]))
        y = y[:, tf.newaxis]
        masks = tf.sigmoid(tf.einsum("nm,hwm->nhw", tf.gather(factors, kept), prototypes))
        masks = tf.where((x >= left) & (x < right) & (y >= top) & (y < bottom), masks, 0.0)
        # Of a class without detections it is the lowest number there is.
        return tf.maximum(tf.math.unsorted_segment_max(masks, tf.gather(classes, kept), self.classes), 0.0)


def find_instances(
    detections: npt.NDArray[Any],
    prototypes: npt.NDArray[Any],
    size: tuple[int, int],
    *,
    data_format: str,
    classes: int,
    confidence: float,
) -> Instances | None:
    """Returns how a model's detections and prototypes lie; None where they are no such.

    Args:
        detections: of some pictures, [B, ., .].
        prototypes: likewise, [B, ., ., .].
        size: height and width of the model's input that gave them.
        data_format: of the model's input, for prototypes that may lie either way.
        classes: how many classes there are, for detections that the model has chosen itself.
        confidence: see `Instances`.
    """
    lying = [
        form for form, axes in READINGS.items() if distortion([prototypes.shape[at] for at in axes], size) <= DISTORTION
    ]
    if not lying:
        return None
    form = data_format if data_format in lying else lying[0]
    factors = prototypes.shape[1 if form == CHANNELS_FIRST else 3]
    ends = itertools.combinations(range(len(_STRIDES) + 1), 2)
    unusual = [_STRIDES[first:last] for first, last in ends if last - first > 1]
    how = _how_of_all(detections.shape, [_USUAL], size, factors)
    if how is None and detections.shape[2] == _CHOSEN + factors:
        how = {"rows_first": True, "has_object_score": False, "are_chosen": True, "classes": classes}
    how = how or _how_of_all(detections.shape, unusual, size, factors)
    if how is None:
        return None
    boxes = detections[..., :_BOX] if how["rows_first"] else detections[:, :_BOX]
    has_pixels = bool(np.abs(boxes).max(initial=0) > _LARGEST_SHARE)
    return Instances(prototypes=form, has_pixels=has_pixels, confidence=confidence, **how)


def _how_of_all(
    shape: tuple[int, ...], grids: Sequence[Sequence[int]], size: tuple[int, int], factors: int
) -> dict[str, Any] | None:
    """Returns how detections of all cells of some grids lie, one or three of each, given by the grids' strides."""
    counts = {sum((size[0] // stride) * (size[1] // stride) for stride in strides) for strides in grids}
    for rows_first, anchors in itertools.product((True, False), (1, 3)):
        count, numbers = shape[1:] if rows_first else shape[:0:-1]
        has_object_score = anchors > 1
        classes = numbers - _BOX - has_object_score - factors
        if classes > 0 and count % anchors == 0 and count // anchors in counts:
            return {
                "rows_first": rows_first, "has_object_score": has_object_score, "are_chosen": False, "classes": classes
            }  # fmt: skip
    return None


def join_outputs(
    raw: RawModel, images: tf.Tensor, size: tuple[int, int], data_format: str, spec: ExportSpec, where: str
) -> RawModel:
    """Returns a model that answers a map of each class, as `Instances` makes it of the two that `raw` answers.

    Args:
        raw: answers a pair.
        images: a picture of noise, as the model takes it.
        size: its height and width.
        data_format: of the model.
        spec: says what a map is made of.
        where: of what model, for people.

    Raises:
        SourceError: the two outputs are something else.
    """
    try:
        detections, prototypes = (np.asarray(output) for output in raw.call(images))
    except Exception as error:
        raise SourceError(f"{where}: the model fails on a {size[0]}x{size[1]} picture: {cause_of(error)}") from error
    instances = None
    if (detections.ndim, prototypes.ndim) == (3, 4):
        classes = max(len(spec.classes or []) - 1, 1)
        instances = find_instances(
            detections, prototypes, size, data_format=data_format, classes=classes, confidence=spec.confidence
        )
    if instances is None:
        raise SourceError(
            f"source_output: {where} answers {list(detections.shape)} and {list(prototypes.shape)} for a "
            f"{size[0]}x{size[1]} picture; wanted detections [B, 4 + classes + M, N], as YOLO's, and the prototypes of "
            "their masks, [B, M, H, W]"
        )
    join = instances
    first = 2 if data_format == CHANNELS_FIRST else 1

    def joined(images: tf.Tensor) -> tf.Tensor:
        detections, prototypes = raw.call(images)
        maps = join(detections, prototypes, tf.shape(images)[first : first + 2])
        return tf.transpose(maps, [0, 3, 1, 2]) if data_format == CHANNELS_FIRST else maps

    reference = raw.reference
    if reference is not None:
        # Not of the maps: whether a detection is kept can hang on a rounding, and drawn pictures may show nothing.
        call, counterpart = (
            lambda images, answer=answer: join.parts(*answer(images)) for answer in (reference.call, raw.call)
        )
        reference = dataclasses.replace(reference, call=call, counterpart=counterpart)
    return dataclasses.replace(raw, call=joined, reference=reference, answers_pair=False)
