"""From pixels to pixels."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from ....serving import contract
from .. import masking
from .inputs import checked_pixels
from .steps import Steps, shared


class PixelAnswers:
    """The signatures that take pictures as arrays [B, H, W, C]; of as many `bands`, None: of what pictures have."""

    def __init__(self, steps: Steps, bands: int | None):
        self._steps, self._bands = steps, bands
        self._answer_of = shared(self._answer_checked)

    def answer(self, product: str, images: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        """Returns a signature's answer to its inputs, unchecked ones; a threshold of None is the spec's."""
        images, threshold = self._checked(images, threshold)
        if threshold is None:
            threshold = tf.fill(tf.shape(images)[:1], self._steps.spec.threshold)
        return {product: self._answer_of(product)(images, threshold)}

    def _answer_checked(self, product: str, images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """Returns a product of [B, H, W, C] at thresholds [B]."""
        size = tf.shape(images)[1:3]
        outputs = self._run_on_batch(self.model_input(images))
        if product == contract.CLASS_MAP:
            return self._steps.answers.class_map(outputs, size)
        if product == contract.PROBABILITY:
            return self._steps.answers.probability(outputs, size)
        if product == contract.MASK:
            return self._steps.answers.mask(outputs, size, threshold, tf.as_dtype(self._steps.spec.mask_dtype))
        alpha = self._steps.alpha(outputs, size, threshold)
        background = "black" if self._steps.spec.background == "transparent" else self._steps.spec.background
        return masking.compose(images, alpha, background, self._steps.spec.full_scale)

    def model_input(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the model is given for [B, H, W, C] pixels, float32 [B, h, w, its channels]."""
        refused = self._steps.geometry.refuse(tf.shape(images)[1:3])
        if refused is not None:
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(refused, ""), ["image", refused])]):
                images = tf.identity(images)
        return self._steps.model_input(images, None, self._steps.spec.full_scale)

    def reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a graph of what the mask of pixels, [H, W, C] as signatures take them, compares with its threshold.

        That is float32 [H, W].
        """
        spec = tf.TensorSpec([None, None, self._bands], self._steps.spec.image_dtype)

        @tf.function(input_signature=[spec], autograph=False)
        def read(image: tf.Tensor) -> tf.Tensor:
            images, _ = self._checked(image[tf.newaxis], None)
            outputs = self._steps.forward(self.model_input(images))
            return self._steps.answers.cleaned(outputs, tf.shape(image)[:2])[0, :, :, 0]

        return read

    def _checked(self, images: tf.Tensor, threshold: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor | None]:
        return checked_pixels(images, threshold, self._steps.geometry.max_pixels, self._bands)

    def _run_on_batch(self, inputs: tf.Tensor) -> tf.Tensor:
        """Runs the model on [B, h, w, C]; on a black picture where B is 0, since its kernels may fail on none."""
        count = tf.shape(inputs)[0]
        black = tf.concat([[1], tf.shape(inputs)[1:]], 0)
        some = tf.cond(count > 0, lambda: inputs, lambda: tf.zeros(black))
        some.set_shape(inputs.shape)
        return self._steps.forward(some)[:count]
