"""JPEG files made inside a graph."""

import tensorflow as tf

from ...spec import FULL_SCALE

MAX_EDGE = 65_500
"""libjpeg makes no larger files."""

_BYTE_SCALE = FULL_SCALE["uint8"]


def encode(image: tf.Tensor, quality: int) -> tf.Tensor:
    """Returns the JPEG (string scalar) of an image, uint8 [H, W, 1 or 3], of edges up to `MAX_EDGE`."""
    return tf.io.encode_jpeg(image, quality=quality)


def as_bytes(image: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
    """Returns an image, uint8 or uint16, as uint8, of which the float32 scalar `full_scale` is 255."""
    if image.dtype == tf.uint8:
        return image

    def reduce() -> tf.Tensor:
        values = tf.cast(image, tf.float32) * (_BYTE_SCALE / full_scale)
        return tf.saturate_cast(tf.round(values), tf.uint8)

    return tf.cond(full_scale > _BYTE_SCALE, reduce, lambda: tf.cast(image, tf.uint8))
