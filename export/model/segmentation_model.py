"""The one form that every source is brought into."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ...serving import contract

CHANNELS_LAST = "channels_last"
CHANNELS_FIRST = "channels_first"


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a model's file is made for, as far as that is installed: to hold TensorFlow's answers against."""

    name: str  # with its release, for people
    call: Callable[[tf.Tensor], Any]  # the model's own, or a tuple of what it computes on the way; cannot be traced
    counterpart: Callable[[tf.Tensor], Any] | None = None  # what TensorFlow answers instead, if not the model's own

    def mapped(self, wrap: Callable[[Callable[[tf.Tensor], Any]], Callable[[tf.Tensor], Any]]) -> "Reference":
        """Returns one whose `call`, and its `counterpart` where there is one, are wrapped."""
        return dataclasses.replace(self, call=wrap(self.call), counterpart=self.counterpart and wrap(self.counterpart))


@dataclasses.dataclass(frozen=True)
class RawModel:
    """A loaded model as it is: its own layout, dtypes and batch size."""

    call: Callable[[tf.Tensor], Any]  # takes the input tensor, returns the chosen output tensor; can be traced
    trackable: Any  # what holds the model's variables, to be attached to the module that is saved
    input: tf.TensorSpec  # shape (rank 4, sizes may be None) and dtype that `call` takes
    description: str  # for people, such as "Keras model 'unet' (129,665 parameters)"
    parameter_count: int  # number of weights
    reference: Reference | None = None  # takes and returns what `call` does
    data_format: str | None = None  # of `input`, where the kind of file decides it rather than the shape
    named_classes: int | None = None  # how many classes the file names, where it does
    answers_pair: bool = False  # whether `call` returns two tensors: detections and the prototypes of their masks


@dataclasses.dataclass(frozen=True)
class SegmentationModel:
    """A model that takes any number of channels-last images and answers channels-last.

    Attributes:
        forward: float32 [B, h, w, `channels`] to float32 [B, h', w', `output_channels`], before any activation; where
            the model `answers_classes`, the index of each pixel's class, [B, h', w', 1].
            Free sizes are free in a trace, too; a model with a fixed batch is run in chunks of it.
        trackable: what holds the model's variables.
        channels: one of `contract.IMAGE_CHANNELS` or of `contract.BAND_CHANNELS`.
        size: (height, width) that the model runs at; None where it takes any.
        batch: the fixed batch size; None where it is free.
        data_format: of the model itself.
        input_dtype: of the model itself.
        output_channels: number of classes, 1 for a single foreground channel or for class indices.
        answers_classes: whether it answers class indices, so that there are no probabilities and no thresholds.
        description: for people.
        parameter_count: number of weights.
        joins_detections: whether its map is put together of detections: it shows the whole of the input, and one pixel
            may be of several classes.
        reference: takes and returns what `forward` does; None where there is no other than TensorFlow.
    """

    forward: Callable[[tf.Tensor], tf.Tensor]
    trackable: Any
    channels: int
    size: tuple[int, int] | None
    batch: int | None
    data_format: str
    input_dtype: tf.DType
    output_channels: int
    description: str
    parameter_count: int
    answers_classes: bool = False
    joins_detections: bool = False
    reference: Reference | None = None

    @functools.cached_property
    def traced(self) -> tf.types.experimental.ConcreteFunction:
        """Its `forward` as a graph, for any number of images: traced once, as that can take longer than a run."""
        images = tf.TensorSpec([None, *(self.size or (None, None)), self.channels], tf.float32, name="model_input")
        return tf.function(self.forward, autograph=False).get_concrete_function(images)

    def run(self, images: tf.Tensor) -> tf.Tensor:
        """Runs `traced`, or calls it in another graph; keeps the model, as a graph holds its variables but weakly."""
        return self.traced(images)

    @property
    def takes_bands(self) -> bool:
        """Whether it takes rasters of bands, rather than pictures that can be encoded."""
        return self.channels not in contract.IMAGE_CHANNELS
