"""Means over several axes, as exact as the runtimes that models come from take them."""

from collections.abc import Iterable

import tensorflow as tf


def mean(x: tf.Tensor, axes: Iterable[int], keepdims: bool = False) -> tf.Tensor:
    """Returns the mean of floats over some axes, taken axis by axis, the last first.

    Over height and width at once TensorFlow adds all pixels of a channel to one sum in turn. That takes several times
    as long, and its rounding grows with their number, to 1e-4 in a megapixel, which shows behind a normalization.
    """
    axes = sorted(int(axis) % x.shape.rank for axis in axes)
    if x.dtype.is_floating:
        while len(axes) > 1:
            x = tf.reduce_mean(x, axes.pop(), keepdims)
    return tf.reduce_mean(x, axes, keepdims)
