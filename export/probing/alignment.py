"""Models whose map is smaller than their input by a border, as valid convolutions leave it, made to answer all of it.

Likewise those whose map reaches beyond their input by halves of its pixels, as its corners lie on the input's.

A picture is continued by reflection, so that the map covers all of it. Where the model's size is fixed, it is run on
several overlapping pieces, whose maps are put together. Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional
Networks for Biomedical Image Segmentation", 2015, the overlap-tile strategy.
"""

import dataclasses
import math
from typing import Any

import tensorflow as tf

from ..model.segmentation_model import SegmentationModel


@dataclasses.dataclass(frozen=True)
class AxisAlignment:
    """Where a model's map lies over its input along one axis.

    Pixel i of the map shows the input from `start + i * step` to `start + (i + 1) * step`.
    """

    size: int  # of the input, in pixels; the smallest, where there are others
    period: int  # the input may be longer by multiples of it; 0 where its size is fixed
    length: int  # how many pixels the map has at that size
    start: float  # where the map begins, in pixels of the input; negative where it reaches beyond that
    step: float  # how many pixels of the input one of the map shows

    @property
    def end(self) -> float:
        """How many pixels of the input lie behind the map."""
        return self.size - self.start - self.length * self.step

    @property
    def before(self) -> int:
        """By how many pixels a picture is continued at its beginning."""
        return max(0, math.ceil(self.start))

    @property
    def is_exact(self) -> bool:
        """Whether the map's pixels begin and end where the picture's do."""
        return self.before == self.start and float(1 / self.step).is_integer()

    @property
    def _stride(self) -> int:
        """From one piece to the next: what the map shows of the input."""
        return round(self.length * self.step)

    def runs(self, count: Any) -> int:
        """Returns in how many pieces a picture of `count` pixels is run."""
        return 1 if self.period or self.start < 0 else math.ceil((count + self.before - self.start) / self._stride)

    def input_size(self, count: Any) -> Any:
        """Returns how many pixels a piece has, for a picture of `count`; an int, or an int32 scalar, as that is."""
        if not self.period:
            return self.size
        missing = count + self.before + math.ceil(self.end) - self.size
        most = max if isinstance(missing, int) else tf.maximum
        return self.size + most(0, -(-missing // self.period)) * self.period

    def pieces(self, count: Any) -> tf.Tensor:
        """Returns which of a picture's `count` pixels the model is given: int32 [runs, input size]."""
        size = self.input_size(count)
        starts = tf.range(self.runs(count)) * self._stride
        return _reflect(starts[:, tf.newaxis] + tf.range(size) - self.before, count)

    def map_length(self, input_size: Any) -> Any:
        """Returns how many pixels the map of an input has; an int, or an int32 scalar, as that is."""
        if not self.period:
            return self.length
        return self.length + (input_size - self.size) // self.period * round(self.period / self.step)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Where a model's map lies over its input."""

    rows: AxisAlignment
    columns: AxisAlignment

    def runs(self, size: tuple[int, int] | None) -> int:
        """Returns how often the model is run for a picture of (height, width); None is any, where it takes any."""
        height, width = size or (None, None)
        return self.rows.runs(height) * self.columns.runs(width)

    def describe(self, size: tuple[int, int] | None) -> str:
        """Returns it for people, for pictures of (height, width); None is the image's own."""
        if min(self.rows.start, self.columns.start) < 0:
            return "the map's outermost pixels lie on those of its input (corners), and it is enlarged so"
        borders = [f"{axis.start:g} and {axis.end:g}" for axis in (self.rows, self.columns)]
        runs = self.runs(size)
        again = f", and the model is run on {runs} overlapping pieces of each" if runs > 1 else ""
        return (
            f"the map lacks a border ({borders[0]} pixels above and below, {borders[1]} left and right), so pictures "
            f"are continued by reflection{again}"
        )

    def to_json(self, size: tuple[int, int] | None) -> dict[str, Any]:
        """Returns it for `maskport.json`."""
        return {
            axis_name: {"before": axis.start, "after": axis.end, "step": axis.step, "runs": axis.runs(edge)}
            for axis_name, axis, edge in zip(
                ("rows", "columns"), (self.rows, self.columns), size or (None, None), strict=True
            )
        }


def with_corners(size: int, length: int) -> AxisAlignment:
    """Returns an axis of an input of a fixed size on whose outermost pixels those of its map lie."""
    step = (size - 1) / max(length - 1, 1)
    return AxisAlignment(size, 0, length, (1 - step) / 2, step)


def align(model: SegmentationModel, alignment: Alignment | None) -> SegmentationModel:
    """Returns a model whose map shows the whole of its input, and nothing else; None: it does so already."""
    if alignment is None:
        return model
    rows, columns = alignment.rows, alignment.columns

    def forward(images: tf.Tensor) -> tf.Tensor:
        height, width = (images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2))
        row_pieces, column_pieces = rows.pieces(height), columns.pieces(width)
        inputs = tf.gather(tf.gather(images, row_pieces, axis=1), column_pieces, axis=3)
        maps = model.forward(_pieces_to_batch(inputs))
        expected = [rows.map_length(rows.input_size(height)), columns.map_length(columns.input_size(width))]
        is_expected = tf.reduce_all(tf.shape(maps)[1:3] >= expected)
        text = "the model answers a map of another size than was found when it was exported: got, wanted"
        with tf.control_dependencies([tf.debugging.Assert(is_expected, [text, tf.shape(maps)[1:3], expected])]):
            maps = maps[:, : expected[0], : expected[1]]
        maps = _batch_to_pieces(maps, tf.shape(images)[0], rows.runs(height), columns.runs(width))
        maps = _crop(maps, alignment, height, width, mixes=not model.answers_classes)
        maps.set_shape([images.shape[0], None, None, model.output_channels])
        return maps

    return dataclasses.replace(model, forward=forward)


def _reflect(indices: tf.Tensor, count: Any) -> tf.Tensor:
    """Returns indices beyond a side of `count` pixels reflected into it, as often as needed; the edge itself once."""
    there_and_back = tf.maximum(2 * (count - 1), 1)
    indices = indices % there_and_back
    return tf.minimum(indices, there_and_back - indices)


def _pieces_to_batch(pieces: tf.Tensor) -> tf.Tensor:
    """Returns [B, R, h, Q, w, C] as [B * R * Q, h, w, C]."""
    shape = tf.shape(pieces)
    batch = tf.reshape(tf.transpose(pieces, [0, 1, 3, 2, 4, 5]), [-1, shape[2], shape[4], pieces.shape[5]])
    batch.set_shape([None, pieces.shape[2], pieces.shape[4], pieces.shape[5]])
    return batch


def _batch_to_pieces(maps: tf.Tensor, count: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Returns [B * rows * columns, h, w, K] as [B, rows * h, columns * w, K]."""
    if rows == columns == 1:
        return maps
    _, height, width, classes = tf.unstack(tf.shape(maps))
    maps = tf.transpose(tf.reshape(maps, [count, rows, columns, height, width, classes]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(maps, [count, rows * height, columns * width, classes])


def _crop(maps: tf.Tensor, alignment: Alignment, height: Any, width: Any, *, mixes: bool) -> tf.Tensor:
    """Returns the part of a map that shows the picture; at the picture's size where that cuts pixels of the map.

    There values of the map are mixed, or, of class indices, the nearest are taken.
    """
    axes = (alignment.rows, alignment.columns)
    if all(axis.is_exact for axis in axes):
        fine = [round(1 / axis.step) for axis in axes]
        return maps[:, : height * fine[0], : width * fine[1]]
    if not mixes:
        for number, (axis, edge) in enumerate(zip(axes, (height, width), strict=True), start=1):
            places = (tf.range(edge, dtype=tf.float32) + 0.5 - (axis.start - axis.before)) / axis.step
            maps = tf.gather(
                maps, tf.clip_by_value(tf.cast(places, tf.int32), 0, tf.shape(maps)[number] - 1), axis=number
            )
        return maps
    return tf.raw_ops.ScaleAndTranslate(
        images=maps,
        size=[height, width],
        scale=[axis.step for axis in axes],
        translation=[axis.start - axis.before for axis in axes],
        kernel_type="triangle",
        antialias=False,
    )
