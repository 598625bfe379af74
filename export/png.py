"""PNG files made inside a graph."""

import tensorflow as tf

from .spec import FULL_SCALE

_UINT16_MAX = FULL_SCALE["uint16"]


def encode(image: tf.Tensor) -> tf.Tensor:
    """Returns the PNG (string scalar) of uint8 or uint16 [H, W, 1 to 4]."""
    return tf.io.encode_png(image)


def encode_like(image: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
    """Returns the PNG of an image with as many bits as the file had that it came from.

    Args:
        image: uint8, or uint16 which holds 8-bit pictures too.
        full_scale: float32 scalar, of the file.
    """
    if image.dtype == tf.uint8:
        return encode(image)
    return tf.cond(full_scale > FULL_SCALE["uint8"], lambda: encode(image), lambda: encode(tf.cast(image, tf.uint8)))


def mask_as_uint8(mask: tf.Tensor) -> tf.Tensor:
    """Returns a bool mask as 0 and 255."""
    return tf.cast(mask, tf.uint8) * tf.constant(255, tf.uint8)


def probability_as_uint16(probability: tf.Tensor) -> tf.Tensor:
    """Returns float32 [0, 1] over the whole range of uint16, rounded; NaN as 0."""
    known = tf.where(tf.math.is_nan(probability), 0.0, probability)
    return tf.cast(tf.round(known * _UINT16_MAX), tf.uint16)
