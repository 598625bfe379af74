"""PNG files made inside a graph."""

import tensorflow as tf

from ..spec import FULL_SCALE

_UINT16_MAX = FULL_SCALE["uint16"]

# zlib's level. TensorFlow's default is 6; of 512×512 pixels, encoding took and the file was
#                 level 1          level 3          level 4          level 6
#   a mask        1.0 ms,   9 kB   1.1 ms,   8 kB   1.3 ms,   7 kB   1.7 ms,   6 kB
#   a photograph  12 ms,  464 kB   18 ms,  456 kB   29 ms,  423 kB   53 ms,  423 kB
_LEVEL = 1


def encode(image: tf.Tensor) -> tf.Tensor:
    """Returns the PNG (string scalar) of an image, uint8 or uint16 [H, W, 1 to 4]."""
    return tf.io.encode_png(image, compression=_LEVEL)


def encode_like(image: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
    """Returns the PNG of an image; of uint16 with 16 bits where the float32 scalar `full_scale` is above 255."""
    if image.dtype == tf.uint8:
        return encode(image)
    return tf.cond(full_scale > FULL_SCALE["uint8"], lambda: encode(image), lambda: encode(tf.cast(image, tf.uint8)))


def probability_as_uint16(probability: tf.Tensor) -> tf.Tensor:
    """Returns float32 [0, 1] over the whole range of uint16, rounded; NaN as 0."""
    known = tf.where(tf.math.is_nan(probability), 0.0, probability)
    return tf.cast(tf.round(known * _UINT16_MAX), tf.uint16)
