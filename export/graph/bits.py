"""Masks of one bit a pixel: eight of a row in a byte, the leftmost the highest, as PNG and NumPy's `packbits` do it.

All of it is for little-endian processors, as TensorFlow is built for.
"""

import tensorflow as tf

_GATHERS_BITS = 0x8040201008040201
"""Bytes of 0 and 1, times this, are as bits in the product's highest byte, the lowest byte's as its highest bit."""


def pack(mask: tf.Tensor) -> tf.Tensor:
    """Returns a mask, bool [H, W], as uint8 [H, W/8, rounded up]; beyond the last pixel bits are 0."""
    height, width = tf.unstack(tf.shape(mask))
    padded = tf.cond(width % 8 > 0, lambda: tf.pad(mask, [[0, 0], [0, -width % 8]]), lambda: mask)
    eights = tf.reshape(tf.cast(padded, tf.uint8), [height, (width + 7) // 8, 8])
    products = tf.bitcast(eights, tf.uint64) * tf.constant(_GATHERS_BITS, tf.uint64)
    return tf.bitcast(products, tf.uint8)[..., 7]
