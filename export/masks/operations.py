"""Thresholding, and masking an image; as functions, and as Keras layers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .shapes import align_mask


def create_binary_mask(
    probability_map: Any,
    threshold: Any = 0.5,
    *,
    threshold_axis: int | None = None,
    dtype: Any = tf.float32,
) -> tf.Tensor:
    """Turns foreground probabilities into a binary mask.

    Probability and threshold are compared in the wider of their dtypes, and in float32 at least: in bfloat16,
    0.5001 would be 0.5. A plain Python number (or list) takes the dtype of the map, as in NumPy.

    Args:
        probability_map: floating point, any shape; probabilities, usually in [0, 1].
        threshold: scalar, [batch], or [channels] with `threshold_axis=-1`. A pixel equal to it is background.
        threshold_axis: the axis that a vector of thresholds runs along; None is the first, the batch.
        dtype: of the result; any numeric dtype or bool.

    Returns:
        Tensor of `dtype` in the shape of `probability_map`: 1 where the probability is above the threshold,
        0 elsewhere and where either is NaN.

    Raises:
        TypeError: the map is not floating point.
        ValueError: the threshold is neither a scalar nor a vector as long as its axis.
        tf.errors.InvalidArgumentError: the vector's length turns out to be wrong when a graph runs.
    """
    probabilities = tf.convert_to_tensor(probability_map)
    if not probabilities.dtype.is_floating:
        raise TypeError(
            f"probability_map must be floating point, got {probabilities.dtype.name}: "
            "scale it to [0, 1] first, or the threshold means nothing"
        )
    compute_dtype = _comparison_dtype(probabilities.dtype, threshold)
    thresholds = _to_dtype(threshold, compute_dtype)
    if thresholds.shape.rank != 0:
        thresholds = _along_axis(thresholds, probabilities, threshold_axis)
    above = tf.greater(tf.cast(probabilities, compute_dtype), thresholds)
    above.set_shape(probabilities.shape)
    return tf.cast(above, dtype)


def apply_mask_to_image(image: Any, mask: Any) -> tf.Tensor:
    """Multiplies an image by a mask; where that is 0, so is the product, even of NaN and infinity.

    Args:
        image: any real dtype, any shape; usually [batch, height, width, channels].
        mask: bool, or numbers from 0 to 1. In the shape of the image, or that with a last dimension of 1.

    Returns:
        Tensor in the shape and dtype of `image`. Where a fractional mask meets an integer image, products are
        rounded to the nearest integer, halves to the even one, and NaN gives 0.

    Raises:
        ValueError: the shapes do not fit together.
        tf.errors.InvalidArgumentError: they turn out not to when a graph runs.
    """
    image = tf.convert_to_tensor(image)
    mask = align_mask(tf.convert_to_tensor(mask), image, name="image")
    if not mask.dtype.is_floating:
        mask = tf.cast(mask, image.dtype)
        product = tf.math.multiply_no_nan(image, mask) if image.dtype.is_floating else image * mask
    elif image.dtype.is_floating:
        wide = _wider(image.dtype, mask.dtype)
        product = tf.cast(tf.math.multiply_no_nan(tf.cast(image, wide), tf.cast(mask, wide)), image.dtype)
    else:
        # float32 holds 24 bits of an integer.
        wide = tf.float32 if image.dtype.size <= 2 and mask.dtype != tf.float64 else tf.float64
        soft = tf.round(tf.cast(image, wide) * tf.cast(mask, wide))
        product = tf.saturate_cast(tf.where(tf.math.is_nan(soft), tf.zeros_like(soft), soft), image.dtype)
    product.set_shape(image.shape)
    return product


@keras.saving.register_keras_serializable(package="maskport")
class BinaryMask(keras.layers.Layer):
    """`create_binary_mask` as a layer.

    It takes its input in the dtype it comes in: a mixed-precision policy would round probabilities to float16
    before they meet the threshold. No gradient passes through it.

    Args:
        threshold: a number, or one for each place along `threshold_axis`.
        threshold_axis: the axis that several thresholds run along; -1 for one per class.
        mask_dtype: of the mask.
        **kwargs: of every Keras layer, such as `name`.
    """

    def __init__(
        self,
        threshold: float | Sequence[float] = 0.5,
        *,
        threshold_axis: int | None = None,
        mask_dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.threshold = np.asarray(threshold).tolist()  # plain numbers, for the config
        self.threshold_axis = threshold_axis
        self.mask_dtype = tf.as_dtype(mask_dtype).name
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the mask, in the shape of the probabilities."""
        return create_binary_mask(inputs, self.threshold, threshold_axis=self.threshold_axis, dtype=self.mask_dtype)

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape and dtype of the mask."""
        return keras.KerasTensor(inputs.shape, dtype=self.mask_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this layer again."""
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "threshold_axis": self.threshold_axis,
            "mask_dtype": self.mask_dtype,
        }


@keras.saving.register_keras_serializable(package="maskport")
class ApplyMask(keras.layers.Layer):
    """`apply_mask_to_image` as a layer, called as `layer(image, mask)` or `layer([image, mask])`.

    The image keeps its dtype under every mixed-precision policy.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    # Keras would fill a parameter named `mask` with a mask of its own kind.
    def call(self, image: Any, pixel_mask: Any = None) -> tf.Tensor:
        """Returns the masked image, in the shape and dtype of the image."""
        return apply_mask_to_image(*_pair(image, pixel_mask))

    def compute_output_spec(self, image: Any, pixel_mask: Any = None) -> keras.KerasTensor:
        """Returns the shape and dtype of the image."""
        image, _ = _pair(image, pixel_mask)
        return keras.KerasTensor(image.shape, dtype=image.dtype)


def _pair(image: Any, pixel_mask: Any) -> tuple[Any, Any]:
    if pixel_mask is not None:
        return image, pixel_mask
    if isinstance(image, list | tuple) and len(image) == 2:
        return image[0], image[1]
    raise ValueError("ApplyMask needs an image and a mask: call layer(image, mask) or layer([image, mask])")


def _wider(first: tf.DType, second: tf.DType) -> tf.DType:
    """Returns the floating dtype that holds the values of both."""
    if first == second:
        return first
    if first.size == second.size:  # float16 and bfloat16
        return tf.float32
    return first if first.size > second.size else second


def _comparison_dtype(map_dtype: tf.DType, threshold: Any) -> tf.DType:
    # np.float64 is a Python float too, but one that means its 64 bits.
    is_typed = isinstance(threshold, np.ndarray | np.generic) or tf.is_tensor(threshold)
    is_double = map_dtype == tf.float64 or (is_typed and tf.as_dtype(threshold.dtype) == tf.float64)
    return tf.float64 if is_double else tf.float32


def _to_dtype(threshold: Any, dtype: tf.DType) -> tf.Tensor:
    if tf.is_tensor(threshold) or isinstance(threshold, np.ndarray | np.generic):
        return tf.cast(threshold, dtype)
    return tf.convert_to_tensor(threshold, dtype)


def _along_axis(thresholds: tf.Tensor, probabilities: tf.Tensor, threshold_axis: int | None) -> tf.Tensor:
    """Shapes a vector of thresholds so that it runs along one axis of the probabilities."""
    axis = 0 if threshold_axis is None else threshold_axis
    place = "per image" if threshold_axis is None else f"for each place along axis {axis}"
    shapes = f"threshold {thresholds.shape}, probability_map {probabilities.shape}"
    if thresholds.shape.rank != 1:
        raise ValueError(f"threshold must be a scalar or a vector with one value {place}; got {shapes}")
    rank = probabilities.shape.rank
    with tf.name_scope("one_threshold_" + ("per_image" if threshold_axis is None else "along_axis")):
        # A reshape to the axis' own length, rather than to -1: it refuses any other number of thresholds,
        # which the comparison would broadcast if either were 1.
        if rank is None:
            place_axis = tf.reshape(axis % tf.rank(probabilities), [1, 1])
            length = tf.gather(tf.shape(probabilities), place_axis[0])
            ones = tf.ones([tf.rank(probabilities)], tf.int32)
            return tf.reshape(thresholds, tf.tensor_scatter_nd_update(ones, place_axis, length))
        if not -rank <= axis < rank:
            raise ValueError(f"there is no axis {axis} for one threshold {place}; got {shapes}")
        if not thresholds.shape.is_compatible_with([probabilities.shape[axis]]):
            raise ValueError(f"threshold must have one value {place}; got {shapes}")
        shape: list[Any] = [1] * rank
        shape[axis] = probabilities.shape[axis]
        if shape[axis] is None:
            shape[axis] = tf.shape(probabilities)[axis]
        return tf.reshape(thresholds, shape)
