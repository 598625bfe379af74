"""What every picture goes through, whichever signature it came to."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ...spec import ExportSpec
from ..answers import Answers
from ..maps.geometry import Geometry
from ..maps.resizing import View
from ..scaling import ValueScaling


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The steps in their order: to the model's size, to its values, through it, to answers at the image's size.

    Attributes:
        spec: of the export.
        channels: that the model takes.
        geometry: to the model's size and back.
        scaling: to the values that the model takes.
        forward: the model, float32 [B, h, w, channels] to float32 [B, h', w', K].
        answers: what its outputs say of pictures.
    """

    spec: ExportSpec
    channels: int
    geometry: Geometry
    scaling: ValueScaling
    forward: Callable[[tf.Tensor], tf.Tensor]
    answers: Answers

    def model_input(self, images: tf.Tensor, view: View | None, full_scale: tf.Tensor | float) -> tf.Tensor:
        """Returns what the model is given for upright pictures, or for views of them: float32 [B, h, w, channels]."""
        return self.scaling(self.geometry.to_model(images, view), full_scale)

    def alpha(self, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """Returns how much is shown of each pixel of a masked image: bool, or float32 with soft edges, [B, H, W, 1]."""
        if self.spec.edge == "soft":
            alpha = self.answers.cleaned(outputs, size)
            return tf.where(tf.math.is_nan(alpha), 0.0, alpha)
        return self.answers.mask(outputs, size, threshold, tf.bool)


def shared(answer: Callable[[str, tf.Tensor, tf.Tensor], Any]) -> Callable[[str], Callable[..., Any]]:
    """Returns a way from a product's name to the function of it that signatures with and without thresholds share.

    `answer` takes the product's name, pictures and thresholds.
    """

    @functools.cache
    def answer_of(product: str) -> Callable[..., Any]:
        return tf.function(lambda images, threshold: answer(product, images, threshold), autograph=False)

    return answer_of
