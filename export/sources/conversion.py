"""What files that are no TensorFlow models need to become some: weights as variables, means as exact as in theirs."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class Weights(tf.Module):
    """The weights of a model as variables: made when they are first needed, shared where they are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.by_hash: dict[str, tf.Variable] = {}

    def __call__(self, array: npt.NDArray[np.generic]) -> Any:
        """Returns an array as a tensor."""
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        key = f"{array.dtype.name}_{'x'.join(map(str, array.shape))}_{digest[:32]}"
        if key not in self.by_hash:
            try:
                with tf.init_scope():
                    self.by_hash[key] = tf.Variable(array, trainable=False, name="weights")
            except ValueError:
                # Only a function's first trace may make variables; what a later one needs comes of its sizes.
                return tf.constant(array)
        return self.by_hash[key].value()


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
