"""From a spec to a `SegmentationModel`: finds the kind of source, then hides the model's own layout."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..errors import SourceError
from ..model.causes import cause_of
from ..model.segmentation_model import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    RawModel,
    Reference,
    SegmentationModel,
)
from ..model.servable_ops import check_servable
from ..model.tracing import find_data_format, trace, without_fusion
from ..spec import CLASSES, ExportSpec
from .builders import build_model
from .choosing import is_classes
from .elsewhere import reading
from .graphs.files import decode_weights, document_of, is_graph, parse_document, shards_of, unpacked
from .graphs.frozen import load_frozen_graph
from .graphs.javascript import load_graph_model
from .instances import join_outputs
from .keras.javascript import load_layers_model
from .keras.loading import load_keras_file, wrap_keras_model
from .outputs import OutputForm, find_output_form
from .preflight import FROZEN, JAVASCRIPT, KERAS, LITE, LOCAL_FILES, SAVED_MODEL, find_kind
from .saved_models import load_saved_model
from .user_code import import_user_module, own_objects

_AXES = {CHANNELS_LAST: (0, 1, 2, 3), CHANNELS_FIRST: (0, 2, 3, 1)}
"""Where batch, height, width and channels are."""
_TRIAL_SIZE = (64, 128)
"""Height and width, in pixels, of a trial run of a model that takes any size."""
_LARGE_TRIAL_SIZE = (284, 572)
"""Likewise, of one that takes none as small: a U-Net of valid convolutions wants 188, and 16 more each time."""

_OTHER_SIZE = "if it takes sizes of some multiple only: --pad_to_multiple; if one size: --model_size=HEIGHT,WIDTH"
_NO_KERAS = ("ONNX", "TensorFlow Lite", "TensorFlow.js", "frozen")
"""How descriptions of models begin that no builder of Keras' can end earlier."""
_FEWEST_PIXELS = 1024
"""Of a map in a row; fewer numbers are scores of whole pictures."""


def load_source(spec: ExportSpec) -> SegmentationModel:
    """Loads the spec's source; SourceError where it cannot be loaded, is ambiguous, or is no segmentation model."""
    own: dict[str, Any] = {}
    if spec.custom_objects:
        own = own_objects(import_user_module(spec.custom_objects, "custom_objects"))
    return adapt(_load_raw(spec, own), spec)


def adapt_keras_model(model: Any, spec: ExportSpec) -> SegmentationModel:
    """Returns a `keras.Model` in memory in the form of all sources; errors as of `load_source`."""
    return adapt(wrap_keras_model(model, spec, where=f"source {spec.source}"), spec)


def _load_raw(spec: ExportSpec, own: Mapping[str, Any]) -> RawModel:
    if spec.is_builder:
        return build_model(spec)
    if "://" not in spec.source:
        return _read_raw(spec, own, LOCAL_FILES)
    with reading(f"source {spec.source}"):
        return _read_raw(spec, own, tf.io.gfile)


def _read_raw(spec: ExportSpec, own: Mapping[str, Any], files: Any) -> RawModel:
    kind = find_kind(spec.source, files)
    if kind == SAVED_MODEL:
        return load_saved_model(spec)
    if kind == KERAS:
        return load_keras_file(spec, own)
    if kind == FROZEN:
        return load_frozen_graph(spec)
    if kind == JAVASCRIPT:
        return _load_javascript_model(spec, own)
    if kind == LITE:
        from .tflite.loading import load_tflite  # its schema takes half a second to import

        return load_tflite(spec)
    from .onnx.loading import load_onnx  # needs an extra

    return load_onnx(spec)


def _load_javascript_model(spec: ExportSpec, own: Mapping[str, Any]) -> RawModel:
    """Reads a model of TensorFlow.js, given by its document or its folder."""
    where = f"source {spec.source}"
    path = document_of(spec.source)
    document = parse_document(_read(path), where)
    shards = (unpacked(_read(shard), f"source {shard}") for shard in shards_of(document, path))
    weights = dict(decode_weights(document, b"".join(shards), where))
    if is_graph(document):
        return load_graph_model(spec, document, weights)
    return load_layers_model(spec, document, weights, own)


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        content: bytes = file.read()
    return content


def adapt(raw: RawModel, spec: ExportSpec) -> SegmentationModel:
    """Hides a model's own layout, dtype and batch size; ExportError where it cannot be exported, or not be served."""
    where = f"source {spec.source}"
    raw = _batched(raw)
    shape = raw.input.shape if raw.input.shape.rank is not None else tf.TensorShape([None] * 4)
    if shape.rank != 4:
        raise SourceError(
            f"{where}: the model's input has shape {shape}; an image batch is [B, H, W, C] or [B, C, H, W], one image "
            "[H, W, C]"
        )
    data_format = spec.data_format or raw.data_format or find_data_format(shape, where)
    batch, height, width, channels = (shape[axis] for axis in _AXES[data_format])
    if channels is None:
        channels = _find_channels(raw, data_format, _trial_sizes((height, width), spec), spec, where)
    if channels not in contract.IMAGE_CHANNELS + contract.BAND_CHANNELS:
        raise SourceError(
            f"{where}: the model takes {channels} channels ({data_format}); wanted 1 to {max(contract.BAND_CHANNELS)}. "
            "If that is not its channel axis: --data_format"
        )
    size = _model_size(height, width, spec, where)
    images = tf.TensorSpec([batch, *(size or (None, None)), channels], tf.float32)
    joins_detections = raw.answers_pair
    if not joins_detections and spec.confidence != ExportSpec.model_fields["confidence"].default:
        raise SourceError(
            "confidence: is for models that answer detections and the prototypes of their masks, both named in "
            "source_output"
        )
    if joins_detections:
        edges = _trial_sizes((height, width), spec)[0]
        noise = tf.random.stateless_uniform([batch or 1, *edges, channels], (0, 0))
        raw = join_outputs(raw, _as_model_input(noise, raw, data_format), edges, data_format, spec, where)
    trial = _Trial.of(raw, data_format, images, spec, where)
    forward = _channels_last(raw, data_format, trial.form)
    if batch is not None:
        forward = _in_chunks(forward, batch)
    return SegmentationModel(
        forward=forward,
        trackable=raw.trackable,
        channels=channels,
        size=size,
        batch=batch,
        data_format=data_format,
        input_dtype=raw.input.dtype,
        output_channels=trial.output_channels,
        description=raw.description,
        parameter_count=raw.parameter_count,
        answers_classes=trial.answers_classes,
        joins_detections=joins_detections,
        reference=_reference(raw, data_format, trial.form, batch),
    )


def _batched(raw: RawModel) -> RawModel:
    """Returns a model that takes one image [H, W, C] as one of a batch of 1; any other as it is."""
    shape = raw.input.shape
    if raw.answers_pair or shape.rank != 3 or shape[2] not in contract.IMAGE_CHANNELS + contract.BAND_CHANNELS:
        return raw
    if shape[0] is None and shape[1] is not None:
        return raw  # a batch of rows, as Keras has them

    def of_one(call: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        def of_batch(images: tf.Tensor) -> tf.Tensor:
            output = call(images[0])
            has_batch = output.shape.rank == 4 or (output.shape.rank == 3 and output.shape[0] == 1)
            return output if has_batch else output[tf.newaxis]

        return of_batch

    return dataclasses.replace(
        raw,
        call=of_one(raw.call),
        input=tf.TensorSpec([1, *shape], raw.input.dtype, name=raw.input.name),
        reference=raw.reference and dataclasses.replace(raw.reference, call=of_one(raw.reference.call)),
    )


def _trial_sizes(size: tuple[int | None, int | None], spec: ExportSpec) -> list[tuple[int, int]]:
    """Returns the sizes, in pixels, of trial runs of a model of some size: such as it will be served with."""
    multiple = math.lcm(spec.pad_to_multiple, spec.sides.multiple if spec.sides else 1)
    fixed = spec.fixed_size or size
    height, width = (edge or wanted for edge, wanted in zip(size, fixed, strict=True))
    sizes = (
        (height or math.ceil(trial[0] / multiple) * multiple, width or math.ceil(trial[1] / multiple) * multiple)
        for trial in (_TRIAL_SIZE, _LARGE_TRIAL_SIZE)
    )
    return list(dict.fromkeys(sizes))


def _model_size(height: int | None, width: int | None, spec: ExportSpec, where: str) -> tuple[int, int] | None:
    wanted = spec.fixed_size
    takes = f"takes {height or 'any'} by {width or 'any'}"
    if spec.sides is not None and (height or width):
        raise SourceError(f"model_size: {spec.sides} is for models of any size; {where} {takes} pixels")
    if wanted is not None:
        if (height or wanted[0], width or wanted[1]) != wanted:
            raise SourceError(
                f"model_size: {wanted[0]},{wanted[1]} does not fit {where}, which {takes} pixels (height by width)"
            )
        return wanted
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise SourceError(f"model_size: {where} {takes} pixels; choose the free one")
    if spec.pad_to_multiple > 1:
        raise SourceError(f"pad_to_multiple: is for models that run at the image's size; {where} {takes}")
    return height, width


def _as_model_input(images: tf.Tensor, raw: RawModel, data_format: str) -> tf.Tensor:
    dtype = raw.input.dtype
    images = tf.cast(images, dtype) if dtype.is_floating else tf.saturate_cast(tf.round(images), dtype)
    return tf.transpose(images, [0, 3, 1, 2]) if data_format == CHANNELS_FIRST else images


def _channels_last(raw: RawModel, data_format: str, form: OutputForm) -> Callable[[tf.Tensor], tf.Tensor]:
    def forward(images: tf.Tensor) -> tf.Tensor:
        return form(tf.cast(raw.call(_as_model_input(images, raw, data_format)), tf.float32), images)

    return forward


def _reference(raw: RawModel, data_format: str, form: OutputForm, batch: int | None) -> Reference | None:
    if raw.reference is None:
        return None
    if raw.reference.counterpart is not None:  # neither answers a map
        call, counterpart = (
            lambda images, answer=answer: answer(_as_model_input(images[:batch], raw, data_format))
            for answer in (raw.reference.call, raw.reference.counterpart)
        )
        return dataclasses.replace(raw.reference, call=call, counterpart=counterpart)
    forward = _channels_last(dataclasses.replace(raw, call=raw.reference.call), data_format, form)
    return dataclasses.replace(raw.reference, call=forward if batch is None else _in_chunks(forward, batch))


def _in_chunks(forward: Callable[[tf.Tensor], tf.Tensor], batch: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Runs a model of a fixed batch on any number of images; the last chunk is filled up with copies."""

    def forward_in_chunks(images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        chunks = (count + batch - 1) // batch
        filled = tf.gather(images, tf.minimum(tf.range(chunks * batch), tf.maximum(count - 1, 0)))
        grouped = tf.reshape(filled, tf.concat([[chunks, batch], tf.shape(images)[1:]], 0))
        grouped.set_shape([None, batch, *images.shape[1:]])
        signature = tf.TensorSpec(None, tf.float32)
        # Else AutoGraph rewrites all that makes its ops.
        unconverted = tf.autograph.experimental.do_not_convert(forward)
        outputs = tf.map_fn(unconverted, grouped, fn_output_signature=signature, parallel_iterations=1)
        return tf.reshape(outputs, tf.concat([[chunks * batch], tf.shape(outputs)[2:]], 0))[:count]

    return forward_in_chunks


def _find_channels(
    raw: RawModel, data_format: str, trials: Sequence[tuple[int, int]], spec: ExportSpec, where: str
) -> int:
    """Finds the number of channels of a model that does not state it, by trying."""
    fitting: list[int] = []
    cause = ""
    for edges, channels in itertools.product(trials, contract.IMAGE_CHANNELS + contract.BAND_CHANNELS):
        if fitting and (edges != trials[0] or channels in contract.BAND_CHANNELS):
            break
        try:
            raw.call(_as_model_input(tf.zeros([raw.input.shape[0] or 1, *edges, channels]), raw, data_format))
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


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What a model's output is, found by tracing it, and by running it where that does not tell."""

    form: OutputForm
    output_channels: int
    answers_classes: bool

    @classmethod
    def of(cls, raw: RawModel, data_format: str, images: tf.TensorSpec, spec: ExportSpec, where: str) -> "_Trial":
        """Checks the model's ops and finds the form of its output; ExportError where they or it are not good."""
        traced = trace(lambda batch: raw.call(_as_model_input(batch, raw, data_format)), images, where)
        # Before anything is run: Python's ops of a SavedModel fail without saying which they are.
        check_servable(traced.graph.as_graph_def(), spec.allow_ops)
        output = traced.structured_outputs
        batch, height, width, channels = images.shape
        sizes = _trial_sizes((height, width), spec)
        size = sizes[0]

        def run(gray: tf.Tensor) -> tf.Tensor:
            with without_fusion():  # what is saved is protected from it
                return tf.cast(traced(tf.repeat(tf.repeat(gray, batch or 1, 0), channels, 3)), tf.float32)

        shape = output.shape
        if shape.rank is None or None in shape[1:]:
            for size in sizes:
                try:
                    shape = run(tf.zeros([1, *size, 1])).shape
                    break
                except tf.errors.OpError as error:
                    if size == sizes[-1]:
                        failure = f"the model fails on a {size[0]}x{size[1]} picture: {cause_of(error)}"
                        raise SourceError(f"{where}: {failure}; {_OTHER_SIZE}") from error
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
