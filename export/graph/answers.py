"""From what the model answers to what is asked about a picture: foreground probabilities and classes, at its size."""

import tensorflow as tf

from ..masks.operations import create_binary_mask
from ..spec import Clean, ExportSpec
from . import masking
from .maps import bits
from .maps.geometry import Geometry


class Answers:
    """Reads a model's outputs, float32 [B, h', w', K].

    Of several channels of the foreground probabilities are added, if they exclude each other, or the largest is taken.

    Attributes:
        are_classes: whether outputs are class indices: no probabilities, and no thresholds.
        class_dtype: of class maps.
    """

    def __init__(
        self,
        spec: ExportSpec,
        geometry: Geometry,
        foreground: list[int],
        adds_foreground: bool,
        are_classes: bool,
        class_count: int,
    ):
        self._spec = spec
        self._geometry = geometry
        self._foreground = foreground
        self._adds_foreground = adds_foreground
        self.are_classes = are_classes
        self.class_dtype = tf.uint8 if class_count <= 256 else tf.uint16

    def probability(self, outputs: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns the foreground's probability, [B, H, W, 1], for pictures of a size, int32 [2], as it is answered."""
        return self._geometry.to_image(self._foreground_probability(outputs), size)

    def cleaned(self, outputs: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns `probability` opened and closed: above a threshold, that is the mask above it, opened and closed."""
        return masking.clean(self.probability(outputs, size), self._spec.clean)

    def mask(self, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Returns where the cleaned probability is above a threshold, of all or [B]: `dtype` [B, H, W, 1]."""
        if self._spec.clean == Clean():
            return create_binary_mask(self.probability(outputs, size), threshold, dtype=dtype)
        packed = self.mask_bits(outputs, size, threshold)
        return tf.cast(bits.unpack(packed, size[1])[..., tf.newaxis], dtype)

    def mask_bits(self, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """Returns the same pixels as `mask`, as `bits.pack` does."""
        packed = self._geometry.bits_above(self._foreground_probability(outputs), size, threshold)
        return bits.clean(packed, size[1], self._spec.clean)

    def class_map(self, outputs: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's class, [B, H, W, 1]; of indices that its dtype cannot hold, the largest that it can."""
        if not self.are_classes:
            return self._geometry.most_probable(self._activate(outputs), size, self.class_dtype)
        classes, largest = tf.round(self._geometry.to_image(outputs, size)), float(self.class_dtype.max)
        return tf.cast(tf.where((classes < 0) | (classes > largest), largest, classes), self.class_dtype)

    def class_borders(self, outputs: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
        """Returns where another class is next to a pixel's, of class indices.

        Args:
            outputs: float32 [B, h', w', 1], of the model.
            size: height and width of the pictures.

        Returns:
            bool [B, H, W, 1]; as far around the borders as cleaning carries a change of them.
        """
        is_border = tf.nn.max_pool2d(outputs, 3, 1, "SAME") != -tf.nn.max_pool2d(-outputs, 3, 1, "SAME")
        borders = self._geometry.to_image(tf.cast(is_border, tf.float32), tf.constant(size))
        reach = 2 * (self._spec.clean.open + self._spec.clean.close)
        return tf.nn.max_pool2d(borders, 2 * reach + 1, 1, "SAME") > 0

    def probabilities(self, outputs: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what masks and class maps of pictures of a size are decided by: values in [0, 1], or NaN.

        Args:
            outputs: float32 [B, h', w', K], of the model.
            size: height and width.

        Returns:
            What a mask compares with its threshold, float32 [B, H, W, 1], and each channel's probability, [B, H, W, K].
        """
        channels = self._geometry.to_image(self._activate(outputs), tf.constant(size))
        return self.cleaned(outputs, tf.constant(size)), channels

    def _activate(self, outputs: tf.Tensor) -> tf.Tensor:
        match self._spec.activation:
            case "softmax":
                return tf.nn.softmax(outputs)
            case "sigmoid":
                return tf.sigmoid(outputs)
            case "byte":
                outputs /= 255.0
            case "tanh":
                outputs = (outputs + 1.0) / 2.0
        return tf.clip_by_value(outputs, 0.0, 1.0)

    def _foreground_probability(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, h', w', 1] of the model's [B, h', w', K]; 0 and 1 of class indices."""
        if self.are_classes:
            is_foreground = tf.round(outputs) == tf.constant(self._foreground, tf.float32)
            return tf.cast(tf.reduce_any(is_foreground, -1, keepdims=True), tf.float32)
        if self._spec.activation == "softmax":
            outputs = self._activate(outputs)
        chosen = [outputs[..., index : index + 1] for index in self._foreground]
        if self._adds_foreground:
            # A sum of probabilities can be above 1 by rounding.
            together = tf.minimum(tf.add_n(chosen), 1.0)
        else:
            together = tf.reduce_max(tf.concat(chosen, -1), -1, keepdims=True)
        return together if self._spec.activation == "softmax" else self._activate(together)
