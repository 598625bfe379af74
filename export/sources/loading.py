"""From a spec to a `SegmentationModel`: finds the kind of source, then hides the model's own layout."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..errors import SourceError
from ..model.segmentation_model import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    RawModel,
    Reference,
    SegmentationModel,
)
from ..model.tracing import find_data_format
from ..spec import ExportSpec
from .adapting.outputs import OutputForm
from .adapting.trial import Trial, as_model_input, find_channels, trial_sizes, try_joined
from .builders import build_model
from .graphs.files import decode_weights, document_of, is_graph, parse_document, shards_of, unpacked
from .graphs.frozen import load_frozen_graph
from .graphs.javascript import load_graph_model
from .keras.javascript import load_layers_model
from .keras.loading import load_keras_file, wrap_keras_model
from .paths.elsewhere import reading
from .preflight import FROZEN, JAVASCRIPT, KERAS, LITE, LOCAL_FILES, SAVED_MODEL, find_kind
from .saved_models import load_saved_model
from .user_code import import_user_module, own_objects

_AXES = {CHANNELS_LAST: (0, 1, 2, 3), CHANNELS_FIRST: (0, 2, 3, 1)}
"""Where batch, height, width and channels are."""


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
        channels = find_channels(raw, data_format, trial_sizes((height, width), spec), spec, where)
    if channels not in contract.IMAGE_CHANNELS + contract.BAND_CHANNELS:
        raise SourceError(
            f"{where}: the model takes {channels} channels ({data_format}); wanted 1 to {max(contract.BAND_CHANNELS)}. "
            "If that is not its channel axis: --data_format"
        )
    size = _model_size(height, width, spec, where)
    images = tf.TensorSpec([batch, *(size or (None, None)), channels], tf.float32)
    joins_detections = raw.answers_pair
    if joins_detections:
        raw, trial = try_joined(raw, data_format, images, spec, where)
    elif spec.confidence != ExportSpec.model_fields["confidence"].default:
        raise SourceError(
            "confidence: is for models that answer detections and the prototypes of their masks, both named in "
            "source_output"
        )
    else:
        trial = Trial.of(raw, data_format, images, spec, where)
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
    if shape.rank != 3 or shape[2] not in contract.IMAGE_CHANNELS + contract.BAND_CHANNELS:
        return raw
    if shape[0] is None and shape[1] is not None:
        return raw  # a batch of rows, as Keras has them

    def of_one(call: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], Any]:
        def of_batch(images: tf.Tensor) -> Any:
            output = call(images[0])
            if raw.answers_pair:
                has_batch = min(one.shape.rank for one in output) > 2
                return output if has_batch else tuple(one[tf.newaxis] for one in output)
            has_batch = output.shape.rank == 4 or (output.shape.rank == 3 and output.shape[0] == 1)
            return output if has_batch else output[tf.newaxis]

        return of_batch

    return dataclasses.replace(
        raw,
        call=of_one(raw.call),
        input=tf.TensorSpec([1, *shape], raw.input.dtype, name=raw.input.name),
        reference=raw.reference and raw.reference.mapped(of_one),
    )


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


def _channels_last(raw: RawModel, data_format: str, form: OutputForm) -> Callable[[tf.Tensor], tf.Tensor]:
    def forward(images: tf.Tensor) -> tf.Tensor:
        return form(tf.cast(raw.call(as_model_input(images, raw, data_format)), tf.float32), images)

    return forward


def _reference(raw: RawModel, data_format: str, form: OutputForm, batch: int | None) -> Reference | None:
    if raw.reference is None:
        return None
    if raw.reference.counterpart is not None:  # neither answers a map

        def as_input(images: tf.Tensor) -> tf.Tensor:
            count = tf.shape(images)[0]
            filled = images if batch is None else tf.gather(images, tf.range(batch) % count)
            return as_model_input(filled, raw, data_format)

        return raw.reference.mapped(lambda answer: lambda images: answer(as_input(images)))
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
