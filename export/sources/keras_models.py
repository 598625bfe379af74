"""Keras models, from a .keras or .h5 file or from memory."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..errors import SourceError
from ..spec import ExportSpec
from .choosing import choose_image, choose_output, flatten_named, shorten
from .model import RawModel


def load_keras_file(spec: ExportSpec) -> RawModel:
    """Loads a .keras or .h5 file, in safe mode unless `unsafe_load`.

    Raises:
        SourceError: it is no whole model, or needs objects or trust that the spec does not give.
    """
    import keras

    try:
        model = keras.saving.load_model(spec.source, compile=False, safe_mode=not spec.unsafe_load)
    except Exception as error:
        raise SourceError(f"source {spec.source}: {_loading_advice(spec, error)}") from error
    return wrap_keras_model(model, spec, where=f"source {spec.source}")


def _loading_advice(spec: ExportSpec, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text or "unsafe" in text.lower():
        return (
            "it holds a Lambda layer or other code, which Keras does not load in safe mode; "
            "if you trust the file: --unsafe_load"
        )
    if "Could not locate" in text or "Unknown layer" in text or "custom object" in text.lower():
        name = text.partition("Could not locate ")[2].partition(".")[0] or text[:160]
        return f"it needs {name}: give the module that registers it by --custom_objects"
    if "No model config" in text or ("not found in" in text and Path(spec.source).suffix in (".h5", ".hdf5")):
        return "it holds weights only; give a builder function as source and this file as --weights"
    if Path(spec.source).suffix == ".keras" and not zipfile.is_zipfile(spec.source):
        return "Keras cannot load it: it is no .keras file, or a broken one"
    return f"Keras cannot load it: {shorten(error)}"


def wrap_keras_model(model: Any, spec: ExportSpec, where: str) -> RawModel:
    """Returns a Keras model as a `RawModel`.

    Raises:
        SourceError: it is not built, or its inputs or outputs leave a choice open.
    """
    import keras

    inputs = _inputs(model, where)
    image = inputs[choose_image(spec.source_input, inputs, where)]
    structure = getattr(model, "input", None) if getattr(model, "inputs", None) else None

    def run(images: tf.Tensor) -> Any:
        packed = images if structure is None else keras.tree.pack_sequence_as(structure, [images])
        return model(packed, training=False)

    output_name = choose_output(spec.source_output, _outputs(model, run, image, where), where)

    def call(images: tf.Tensor) -> tf.Tensor:
        return _named_outputs(model, run(images))[output_name]

    # Attaching the Keras model itself would make saving trace Keras' own endpoint; its variables do.
    variables = [getattr(variable, "value", variable) for variable in model.variables]
    parameter_count = int(model.count_params())
    return RawModel(
        call=call,
        trackable=variables,
        input=image,
        description=f"Keras model {model.name!r}, {parameter_count:,} parameters",
        parameter_count=parameter_count,
    )


def _inputs(model: Any, where: str) -> dict[str, tf.TensorSpec]:
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None
    if inputs:
        return {tensor.name: _spec_of(tensor) for tensor in inputs}
    # A subclassed model knows its input only from having been built.
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if len(shapes) != 1:
        raise SourceError(
            f"{where}: the model is not built, so its input is unknown; call model.build((None, None, None, 3)) "
            "or the model itself before it is saved"
        )
    # The shape it happened to be built with is no constraint, but for its channels.
    return {
        name: tf.TensorSpec(
            [None, *(None if len(shape) == 4 else edge for edge in shape[1:-1]), shape[-1]],
            tf.as_dtype(model.compute_dtype),
        )
        for name, shape in shapes.items()
    }


def _trace(run: Callable[[tf.Tensor], Any], image: tf.TensorSpec, where: str) -> Any:
    try:
        return tf.function(run).get_concrete_function(image).structured_outputs
    except Exception as error:
        raise SourceError(f"{where}: the model cannot be traced for {image.shape}: {shorten(error)}") from error


def _outputs(model: Any, run: Callable[[tf.Tensor], Any], image: tf.TensorSpec, where: str) -> dict[str, tf.TensorSpec]:
    try:
        outputs = model.output
    except (AttributeError, ValueError):
        # A subclassed or a loaded Sequential model knows its outputs only by being run.
        outputs = _trace(run, image, where)
    return {name: _spec_of(tensor) for name, tensor in _named_outputs(model, outputs).items()}


def _named_outputs(model: Any, outputs: Any) -> dict[str, Any]:
    named = flatten_named(outputs)
    names = getattr(model, "output_names", None)
    if isinstance(outputs, list | tuple) and names and len(names) == len(named):
        return dict(zip(names, outputs, strict=True))
    return named


def _spec_of(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tf.as_dtype(tensor.dtype))
