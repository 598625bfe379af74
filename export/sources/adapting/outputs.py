"""How a model's output lies: as a map with its channels last, with them first, or with its pixels in one row."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...model.segmentation_model import CHANNELS_FIRST, CHANNELS_LAST

DISTORTION = 1.5
"""By how much more a map may be scaled along one axis than along the other; small maps are rounded to whole pixels."""
_STRIDES = (1, 2, 4, 8, 16, 32)
"""How many pixels of the input, in height and width, one of a map may show whose pixels are in one row."""
_ROUNDINGS: tuple[Callable[[Any, int], Any], ...] = (
    lambda edge, stride: edge // stride,
    lambda edge, stride: (edge + stride - 1) // stride,
)
"""An edge of a map whose pixels are in one row: of strides within the input, or beyond its edge (padding SAME)."""
READINGS = {CHANNELS_LAST: (1, 2), CHANNELS_FIRST: (2, 3)}
"""Where height and width are in an output of rank 4."""


@dataclasses.dataclass(frozen=True)
class OutputForm:
    """What brings a model's output into the form [B, h', w', K].

    Attributes:
        data_format: whether the channels come last or first.
        stride: of an output whose pixels are in one row, [B, N, K], [B, K, N] or [B, N]: how many pixels of the input,
            in height and in width, one of them shows; None where height and width are axes of their own.
    """

    data_format: str
    stride: int | None = None

    def __call__(self, outputs: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Returns [B, h', w', K] of a model's output for images [B, h, w, C]."""
        if self.stride is None:
            if outputs.shape.rank == 3:
                return outputs[..., tf.newaxis]
            return tf.transpose(outputs, [0, 2, 3, 1]) if self.data_format == CHANNELS_FIRST else outputs
        if outputs.shape.rank == 2:
            outputs = outputs[..., tf.newaxis]
        elif self.data_format == CHANNELS_FIRST:
            outputs = tf.transpose(outputs, [0, 2, 1])
        edges = [images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2)]
        (height, width), larger = ([rounded(edge, self.stride) for edge in edges] for rounded in _ROUNDINGS)
        if self.stride > 1 and (None in images.shape[1:3] or [height, width] != larger):
            is_smaller = tf.equal(tf.shape(outputs)[1], height * width)
            height, width = (tf.where(is_smaller, *pair) for pair in zip((height, width), larger, strict=True))
        return tf.reshape(outputs, [-1, height, width, outputs.shape[2]])


def find_output_form(
    shape: Sequence[int], size: tuple[int, int], data_format: str, run: Callable[[tf.Tensor], tf.Tensor]
) -> OutputForm | None:
    """Returns the form in which an output is a map of the model's input; None of pixels in a row that are no map of it.

    Args:
        shape: of the output, the batch included.
        size: height and width of the model's input that gave it.
        data_format: of the model's input.
        run: the model, of float32 [1, height, width, 1]: gray values in [0, 1], from which it makes what it takes.
    """
    if len(shape) == 4:
        fitting = [
            reading
            for reading, axes in READINGS.items()
            if distortion([shape[axis] for axis in axes], size) <= DISTORTION
        ]
        if len(fitting) == 1:
            return OutputForm(fitting[0])
        return OutputForm(_find_by_width(run, size, data_format) if fitting else data_format)
    if len(shape) == 3 and distortion(shape[1:], size) <= DISTORTION:
        return OutputForm(data_format)
    for rounded, stride in itertools.product(_ROUNDINGS, _STRIDES):
        count = math.prod(rounded(edge, stride) for edge in size)
        if shape[1] == count:
            return OutputForm(CHANNELS_LAST, stride)
        if len(shape) == 3 and shape[2] == count:
            return OutputForm(CHANNELS_FIRST, stride)
    # What may be a map of one size whatever the input's is left to the probe, which looks at other sizes.
    is_row = len(shape) == 2 or distortion(shape[1:], size) > 2 * DISTORTION
    return None if is_row else OutputForm(data_format)


def distortion(lengths: Sequence[int], size: tuple[int, int]) -> float:
    """Returns by how much more an axis is scaled than the other; infinite for a map without pixels."""
    scales = [length / edge for length, edge in zip(lengths, size, strict=True)]
    return max(scales) / min(scales) if min(scales) > 0 else float("inf")


def _find_by_width(run: Callable[[tf.Tensor], tf.Tensor], size: tuple[int, int], data_format: str) -> str:
    """Returns the format in which another right half of a picture makes another right half of its map."""
    random = np.random.default_rng(0)
    picture, other = random.uniform(0, 1, (2, 1, *size, 1)).astype(np.float32)
    halves = np.where((np.arange(size[1]) < size[1] // 2)[:, np.newaxis], picture, other)
    change = np.abs(np.nan_to_num(np.asarray(run(tf.constant(halves)) - run(tf.constant(picture)), np.float64)))

    def share_at_right(reading: str) -> float:
        width = np.moveaxis(change, READINGS[reading][1], -1)
        right = width[..., (width.shape[-1] + 1) // 2 :].sum()
        return float(right / width.sum()) if width.any() else 0.0

    other_format = CHANNELS_LAST if data_format == CHANNELS_FIRST else CHANNELS_FIRST
    # Without a clear finding it is as the model's input.
    return other_format if share_at_right(other_format) > share_at_right(data_format) + 0.2 else data_format
