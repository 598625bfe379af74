"""Models that answer detections and prototypes of their masks: joined as a map of each class.

The form is YOLACT's (Bolya et al., 2019), which Ultralytics' networks have: a detection is a box, scores, and the
factors by which the prototypes, which all detections share, are added up as the logits of its mask. What is kept of
detections is what the `ultralytics` package keeps: those above a score, without the less certain ones of much the same
box and class.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...errors import SourceError
from ...model.segmentation_model import CHANNELS_FIRST, RawModel
from ...spec import ExportSpec
from .outputs import DISTORTION, READINGS, distortion

_SAME_BOX = 0.7
"""Above this overlap (IoU) two detections of a class are of one thing."""
_MOST = 300
"""Detections that are kept of a picture."""
_STRIDES, _USUAL = (4, 8, 16, 32, 64), (8, 16, 32)
"""How many pixels of the input, in height and in width, a cell of a detector's grids may show, and mostly shows."""
_BOX, _CHOSEN = 4, 6
"""How many numbers a box is, and what stands before the factors of a chosen detection: a box, its score and class."""
_LARGEST_SHARE = 2
"""Of the input's edges; a box with larger numbers has them in pixels, or it would lie far outside of the picture."""


@dataclasses.dataclass(frozen=True)
class Instances:
    """How detections [B, N, F] or [B, F, N] and prototypes [B, h, w, M] or [B, M, h, w] lie.

    Attributes:
        rows_first: whether a detection is a row [F], rather than a column.
        has_object_score: whether the box is followed by a score that there is something, before those of classes.
        are_chosen: whether the model has chosen the detections itself: rows of two corners, score, class, factors.
        prototypes: where their channels are.
        factors: how many there are of each detection: M.
        classes: how many are told apart.
        has_rest: whether the map has a channel of what is of no class, before those of classes.
        confidence: the score above which a detection counts.
    """

    rows_first: bool
    has_object_score: bool
    are_chosen: bool
    prototypes: str
    factors: int
    classes: int
    has_rest: bool
    confidence: float

    def __call__(self, detections: tf.Tensor, prototypes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns probabilities [B, h, w, K], of the rest and of each class, for an input of `size` (height, width).

        Of a class a pixel has the highest probability of all masks of that class, or 0 where none lies.
        """
        edges = tf.cast(tf.reverse(tf.tile(size, [2]), [0]), tf.float32)  # of x, y, x, y
        maps = tf.map_fn(
            tf.autograph.experimental.do_not_convert(lambda parts: self._of_one(parts, edges)),
            self.parts(detections, prototypes),
            fn_output_signature=tf.TensorSpec([self.classes, None, None], tf.float32),
        )
        maps = tf.transpose(maps, [0, 2, 3, 1])
        if not self.has_rest:
            return maps
        return tf.concat([1.0 - tf.reduce_max(maps, -1, keepdims=True), maps], -1)

    def parts(self, detections: tf.Tensor, prototypes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns boxes [B, N, 4], what else is told [B, N, .], factors [B, N, M] and prototypes [B, h, w, M]."""
        rows = tf.cast(detections, tf.float32)
        rows = rows if self.rows_first else tf.transpose(rows, [0, 2, 1])
        prototypes = tf.cast(prototypes, tf.float32)
        if self.prototypes == CHANNELS_FIRST:
            prototypes = tf.transpose(prototypes, [0, 2, 3, 1])
        return rows[..., :_BOX], rows[..., _BOX : -self.factors], rows[..., -self.factors :], prototypes

    def _of_one(self, parts: tuple[tf.Tensor, ...], edges: tf.Tensor) -> tf.Tensor:
        """Returns one picture's probabilities [classes, h, w]."""
        boxes, told, factors, prototypes = parts
        if self.are_chosen:
            scores, classes = told[:, 0], tf.cast(tf.round(told[:, 1]), tf.int32)
            is_known = (classes >= 0) & (classes < self.classes) if self.has_rest else classes >= 0
            classes = classes if self.has_rest else tf.zeros_like(classes)
            kept = tf.where((scores > self.confidence) & is_known)[:, 0]
        else:
            scores = told[:, 1:] * told[:, :1] if self.has_object_score else told
            classes, scores = tf.argmax(scores, 1, tf.int32), tf.reduce_max(scores, 1)
            centre, half = boxes[:, :2], boxes[:, 2:] / 2
            boxes = tf.concat([centre - half, centre + half], 1)
            # Those of different classes are moved apart, so that they never overlap.
            apart = (tf.reduce_max(boxes) - tf.reduce_min(boxes)) * tf.cast(classes, tf.float32)
            moved = boxes + apart[:, tf.newaxis]
            kept = tf.image.non_max_suppression(moved, scores, _MOST, _SAME_BOX, self.confidence)
        boxes = tf.gather(boxes, kept)
        boxes /= tf.where(tf.reduce_max(tf.abs(boxes)) > _LARGEST_SHARE, edges, 1.0)
        height, width = tf.unstack(tf.cast(tf.shape(prototypes)[:2], tf.float32))
        left, top, right, bottom = tf.unstack(
            (boxes * tf.stack([width, height, width, height]))[:, :, tf.newaxis, tf.newaxis], axis=1
        )
        y, x = tf.range(height)[:, tf.newaxis], tf.range(width)
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
    classes: int | None,
    confidence: float,
) -> Instances | None:
    """Returns how a model's detections and prototypes lie; None where they are no such.

    Args:
        detections: of some pictures, [B, ., .].
        prototypes: likewise, [B, ., ., .].
        size: height and width of the model's input that gave them.
        data_format: of the model's input, for prototypes that may lie either way.
        classes: how many classes are told apart of detections that the model has chosen itself; None is all as one.
        confidence: see `Instances`.
    """
    lying = [
        form for form, axes in READINGS.items() if distortion([prototypes.shape[at] for at in axes], size) <= DISTORTION
    ]
    if not lying:
        return None
    form = data_format if data_format in lying else lying[0]
    factors = prototypes.shape[1 if form == CHANNELS_FIRST else 3]
    # Of others the last of these is a score, which is no whole number.
    if detections.shape[2] == _CHOSEN + factors and np.array_equal(detections[..., 5], np.round(detections[..., 5])):
        return Instances(True, False, True, form, factors, classes or 1, classes is not None, confidence)
    ends = itertools.combinations(range(len(_STRIDES) + 1), 2)
    others = [_STRIDES[first:last] for first, last in ends if last - first > 1]
    tried: list[list[tuple[int, ...]]] = [[_USUAL], others]
    for grids, rows_first, anchors in itertools.product(tried, (True, False), (1, 3)):
        count, numbers = detections.shape[1:] if rows_first else detections.shape[:0:-1]
        has_object_score = anchors > 1
        found = numbers - _BOX - has_object_score - factors
        if found > 0 and count in {anchors * _count_cells(strides, size) for strides in grids}:
            return Instances(rows_first, has_object_score, False, form, factors, found, found > 1, confidence)
    return None


def _count_cells(strides: Sequence[int], size: tuple[int, int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def join_outputs(
    raw: RawModel,
    pair: Sequence[npt.NDArray[Any]],
    size: tuple[int, int],
    data_format: str,
    spec: ExportSpec,
    where: str,
) -> tuple[RawModel, int]:
    """Returns a model that answers a map of each class, [B, h, w, K], and K, as `Instances` makes it of a pair.

    Args:
        raw: answers a pair.
        pair: what it answers for a picture of noise.
        size: height and width of that.
        data_format: of the model.
        spec: says what a map is made of.
        where: of what model, for people.

    Raises:
        SourceError: the two outputs are something else.
    """
    detections, prototypes = pair if pair[0].ndim <= pair[1].ndim else pair[::-1]
    instances = None
    if (detections.ndim, prototypes.ndim) == (3, 4):
        count, fewest = (len(spec.classes) - 1, 1) if spec.classes else (raw.named_classes or 0, 2)
        instances = find_instances(
            detections,
            prototypes,
            size,
            data_format=data_format,
            classes=count if count >= fewest else None,
            confidence=spec.confidence,
        )
    if instances is None:
        raise SourceError(
            f"source_output: {where} answers {list(pair[0].shape)} and {list(pair[1].shape)} for a {size[0]}x{size[1]} "
            "picture; wanted detections [B, 4 + classes + M, N], as YOLO's, and the prototypes of their masks, "
            "[B, M, H, W]"
        )
    join, is_in_order = instances, detections is pair[0]
    first = 2 if data_format == CHANNELS_FIRST else 1

    def in_order(pair: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        return pair if is_in_order else pair[::-1]

    def joined(images: tf.Tensor) -> tf.Tensor:
        detections, prototypes = in_order(raw.call(images))
        return join(detections, prototypes, tf.shape(images)[first : first + 2])

    # Not of the maps: whether a detection is kept can hang on a rounding, and drawn pictures may show nothing.
    reference = raw.reference and dataclasses.replace(raw.reference, counterpart=raw.call).mapped(
        lambda answer: lambda images: join.parts(*in_order(answer(images)))
    )
    joined_model = dataclasses.replace(raw, call=joined, reference=reference, answers_pair=False)
    return joined_model, join.classes + join.has_rest
