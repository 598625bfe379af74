"""A model run once when it is loaded: what it takes, and what its output is."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ....serving import contract
from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import CHANNELS_FIRST, CHANNELS_LAST, RawModel
from ...model.servable_ops import check_servable
from ...model.tracing import trace, without_graph_optimization
from ...spec import CLASSES, ExportSpec
from .choosing import is_classes
from .instances import join_outputs
from .outputs import OutputForm, find_output_form

_TRIAL_SIZE = (64, 128)
"""Height and width, in pixels, of a trial run of a model that takes any size."""
_LARGE_TRIAL_SIZE = (284, 572)
"""Likewise, of one that takes none as small: a U-Net of valid convolutions wants 188, and 16 more each time."""

_OTHER_SIZE = "if it takes sizes of some multiple only: --pad_to_multiple; if one size: --model_size=HEIGHT,WIDTH"
_NO_KERAS = ("ONNX", "TensorFlow Lite", "TensorFlow.js", "frozen")
"""How descriptions of models begin that no builder of Keras' can end earlier."""
_FEWEST_PIXELS = 1024
"""Of a map in a row; fewer numbers are scores of whole pictures."""


def trial_sizes(size: tuple[int | None, int | None], spec: ExportSpec) -> list[tuple[int, int]]:
    """Returns the sizes, in pixels, of trial runs of a model of some size: such as it will be served with."""
    multiple = math.lcm(spec.pad_to_multiple, spec.sides.multiple if spec.sides else 1)
    fixed = spec.fixed_size or size
    height, width = (edge or wanted for edge, wanted in zip(size, fixed, strict=True))
    sizes = (
        (height or math.ceil(trial[0] / multiple) * multiple, width or math.ceil(trial[1] / multiple) * multiple)
        for trial in (_TRIAL_SIZE, _LARGE_TRIAL_SIZE)
    )
    return list(dict.fromkeys(sizes))


def as_model_input(images: tf.Tensor, raw: RawModel, data_format: str) -> tf.Tensor:
    """Returns float32 images [B, h, w, C] in the dtype and the order of axes that a model takes."""
    dtype = raw.input.dtype
    images = tf.cast(images, dtype) if dtype.is_floating else tf.saturate_cast(tf.round(images), dtype)
    return tf.transpose(images, [0, 3, 1, 2]) if data_format == CHANNELS_FIRST else images


def find_channels(
    raw: RawModel, data_format: str, trials: Sequence[tuple[int, int]], spec: ExportSpec, where: str
) -> int:
    """Finds the number of channels of a model that does not state it, by trying."""
    fitting: list[int] = []
    cause = ""
    for edges, channels in itertools.product(trials, contract.IMAGE_CHANNELS + contract.BAND_CHANNELS):
        if fitting and (edges != trials[0] or channels in contract.BAND_CHANNELS):
            break
        try:
            raw.call(as_model_input(tf.zeros([raw.input.shape[0] or 1, *edges, channels]), raw, data_format))
        except Exception as error:
            # Of photographs: what else a model does not take is no surprise.
            cause = cause_of(error) if channels == 3 else cause
            continue
        fitting.append(channels)
    if not fitting:
        height, width = trials[-1]
        layout = "" if spec.data_format else f"; if it is not {data_format}: --data_format"
        raise SourceError(
            f"{where}: takes none of 1 to {max(contract.BAND_CHANNELS)} channels at {height} by {width} pixels "
            f"({cause}); {_OTHER_SIZE}{layout}"
        )
    # A model that takes any number of channels is made for photographs.
    return 3 if 3 in fitting else fitting[0]


def _advice_on_form(shape: tf.TensorShape, raw: RawModel) -> str:
    if shape.rank == 2 and shape[1] is not None and shape[1] < _FEWEST_PIXELS:
        return "; a model that tells what a whole picture is has no masks"
    if raw.description.startswith(_NO_KERAS):
        return ""
    return (
        "; if its last layer is a Reshape of another size: end the model before it, by a builder that returns "
        "keras.Model(model.input, model.layers[-2].output)"
    )


def _trace_servable(raw: RawModel, data_format: str, images: tf.TensorSpec, spec: ExportSpec, where: str) -> Any:
    """Traces a model and checks its ops, before it is run: Python's ops of a SavedModel fail without their names."""
    traced = trace(lambda batch: raw.call(as_model_input(batch, raw, data_format)), images, where)
    check_servable(traced.graph.as_graph_def(), spec.allow_ops)
    return traced


def _failure(error: Exception, size: tuple[int, int], where: str) -> SourceError:
    return SourceError(f"{where}: the model fails on a {size[0]}x{size[1]} picture: {cause_of(error)}; {_OTHER_SIZE}")


def try_joined(
    raw: RawModel, data_format: str, images: tf.TensorSpec, spec: ExportSpec, where: str
) -> tuple[RawModel, "Trial"]:
    """Returns a model of a pair of outputs as one that answers a map, and what is known of that.

    Raises:
        ExportError: the model's ops are not good, it fails, or the two are no detections and prototypes.
    """
    _trace_servable(raw, data_format, images, spec, where)
    batch, height, width, channels = images.shape
    sizes = trial_sizes((height, width), spec)
    for size in sizes:
        noise = tf.random.stateless_uniform([batch or 1, *size, channels], (0, 0))
        try:
            pair = [np.asarray(output) for output in raw.call(as_model_input(noise, raw, data_format))]
            break
        except Exception as error:
            if size == sizes[-1]:
                raise _failure(error, size, where) from error
    raw, count = join_outputs(raw, pair, size, data_format, spec, where)
    return raw, Trial(OutputForm(CHANNELS_LAST), count, answers_classes=False)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a model's output is, found by tracing it, and by running it where that does not tell."""

    form: OutputForm
    output_channels: int
    answers_classes: bool

    @classmethod
    def of(cls, raw: RawModel, data_format: str, images: tf.TensorSpec, spec: ExportSpec, where: str) -> "Trial":
        """Checks the model's ops and finds the form of its output; ExportError where they or it are not good."""
        traced = _trace_servable(raw, data_format, images, spec, where)
        output = traced.structured_outputs
        batch, height, width, channels = images.shape
        sizes = trial_sizes((height, width), spec)
        size = sizes[0]

        def run(gray: tf.Tensor) -> tf.Tensor:
            with without_graph_optimization():  # which takes longer than what is run here
                return tf.cast(traced(tf.repeat(tf.repeat(gray, batch or 1, 0), channels, 3)), tf.float32)

        shape = output.shape
        if shape.rank is None or None in shape[1:]:
            for size in sizes:
                try:
                    shape = run(tf.zeros([1, *size, 1])).shape
                    break
                except tf.errors.OpError as error:
                    if size == sizes[-1]:
                        raise _failure(error, size, where) from error
        if shape.rank not in (2, 3, 4):
            raise SourceError(f"{where}: the model's output has shape {shape}; wanted [B, H, W, classes]")
        form = find_output_form(shape, size, data_format, run)
        if form is None:
            raise SourceError(
                f"{where}: answers {shape} for a {size[0]}x{size[1]} picture, which is no map of it; wanted "
                f"[B, H, W, classes], or [B, H*W, classes]{_advice_on_form(shape, raw)}"
            )
        output_channels = _channels_of(shape, form)
        answers_classes = is_classes(output.dtype) or spec.activation == CLASSES
        if answers_classes and output_channels > 1:
            raise SourceError(
                f"{where}: the model's output is {output.dtype.name} of shape {shape}: class indices have one channel"
            )
        return cls(form, output_channels, answers_classes)


def _channels_of(shape: tf.TensorShape, form: OutputForm) -> int:
    has_channels = shape.rank == 4 or (shape.rank == 3 and form.stride is not None)
    return int(shape[1 if form.data_format == CHANNELS_FIRST else -1]) if has_channels else 1
