"""The weights of a file that is no TensorFlow model, as variables."""

import hashlib
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
