"""From pixel values to what a model wants: channels, range, mean and standard deviation.

Sources: luma is ITU-R BT.601's; `imagenet` and `caffe` use the channel statistics that Keras and torchvision
use for models trained on ImageNet.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ..errors import SpecError
from ..model.segmentation_model import SegmentationModel
from ..spec import FULL_SCALE, ExportSpec

_RED_LUMA, _BLUE_LUMA = 0.299, 0.114
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Of red, green and blue, in units of 0 to 255."""
_BYTE_SCALE = FULL_SCALE["uint8"]


class ValueScaling:
    """Brings images to the channels and values that a model wants; SpecError where the spec does not fit them."""

    def __init__(self, spec: ExportSpec, model: SegmentationModel):
        self._channels = model.channels
        self._reverses = spec.channel_order == "bgr"
        self._has_alpha = spec.fourth_channel != "zero"
        self._scaling = spec.scaling
        self._input_max = spec.full_scale
        self._mean = self._per_channel("mean", spec.mean)
        self._std = self._per_channel("std", spec.std)
        if spec.scaling in ("imagenet", "caffe") and model.channels != 3:
            raise SpecError(
                f"scaling: {spec.scaling!r} is for 3 channels, the model takes {model.channels}; "
                "give mean and std instead"
            )
        gives_fractions = spec.scaling in ("unit", "signed", "imagenet") or spec.mean or spec.std
        if not model.input_dtype.is_floating and gives_fractions:
            raise SpecError(
                f"scaling: gives the model fractions, but it takes {model.input_dtype.name}; leave scaling, mean and "
                "std out"
            )
        if model.input_dtype == tf.int8 or (model.input_dtype.is_unsigned and spec.scaling == "caffe"):
            raise SpecError(
                f"scaling: the model takes {model.input_dtype.name}, which cannot hold the values of "
                f"{spec.scaling!r}; wrap it in one that takes floats"
            )
        if self._reverses and model.channels not in (3, 4):
            count = f"{model.channels} channel{'s' * (model.channels > 1)}"
            raise SpecError(f"channel_order: 'bgr' is for colour, the model takes {count}")
        if spec.fourth_channel and model.channels != 4:
            raise SpecError(f"fourth_channel: is for models of 4 channels; the model takes {model.channels}")

    def _per_channel(self, key: str, values: list[float] | None) -> list[float] | None:
        if values is None:
            return None
        if len(values) not in (1, self._channels):
            raise SpecError(
                f"{key}: {len(values)} values do not fit a model of {self._channels} channels; "
                f"wanted {'1' if self._channels == 1 else f'1 or {self._channels}'}"
            )
        return values

    def __call__(self, images: tf.Tensor, full_scale: tf.Tensor | float) -> tf.Tensor:
        """Returns float32 [B, h, w, C], C the model's channels.

        Args:
            images: float32 [B, h, w, c], c of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA); a model of bands
                takes as many as it has.
            full_scale: the value of `images` that means full scale.
        """
        scaled = self._scale(self._to_model_channels(images, full_scale), full_scale)
        if self._reverses:
            scaled = tf.gather(scaled, [2, 1, 0, 3][: self._channels], axis=-1)
        return scaled if self._has_alpha else tf.pad(scaled[..., :3], [[0, 0]] * 3 + [[0, 1]])

    def _to_model_channels(self, images: tf.Tensor, full_scale: tf.Tensor | float) -> tf.Tensor:
        found = tf.shape(images)[-1]

        def gray() -> tf.Tensor:
            return luma(images[..., 0:1], images[..., 1:2], images[..., 2:3])

        def rgb() -> tf.Tensor:
            return tf.cond(found >= 3, lambda: images[..., :3], lambda: tf.gather(images, [0, 0, 0], axis=-1))

        def rgba() -> tf.Tensor:
            opaque = tf.fill(tf.shape(images[..., :1]), tf.cast(full_scale, images.dtype))
            alpha = tf.cond(found % 2 == 0, lambda: images[..., found - 1 :], lambda: opaque)
            return tf.concat([rgb(), alpha], -1)

        convert: dict[int, Callable[[], tf.Tensor]] = {
            1: lambda: tf.cond(found >= 3, gray, lambda: images[..., :1]),
            3: rgb,
            4: lambda: tf.cond(found == 4, lambda: images, rgba),
        }
        is_as_wanted = images.shape[-1] == self._channels or self._channels not in convert
        converted = images if is_as_wanted else convert[self._channels]()
        converted.set_shape([*images.shape[:-1], self._channels])
        return converted

    def _scale(self, images: tf.Tensor, full_scale: tf.Tensor | float) -> tf.Tensor:
        if self._mean is not None or self._std is not None:
            return (images / full_scale - (self._mean or 0.0)) / (self._std or 1.0)
        if self._scaling == "none":
            # As given, to the bit, where the picture's full scale is the model's.
            is_same = isinstance(full_scale, float) and full_scale == self._input_max
            return images if is_same else images * (self._input_max / full_scale)
        unit = images / full_scale
        if self._scaling == "signed":
            return 2.0 * unit - 1.0
        if self._scaling == "imagenet":
            return (unit - _IMAGENET_MEAN) / _IMAGENET_STD
        if self._scaling == "caffe":
            return unit * _BYTE_SCALE - _CAFFE_MEAN
        return unit


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Returns ITU-R 601 luma: 0.299 red + 0.587 green + 0.114 blue.

    So written, gray (red = green = blue) keeps its very value.
    """
    return green + _RED_LUMA * (red - green) + _BLUE_LUMA * (blue - green)
