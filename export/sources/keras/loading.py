"""Keras models, from a .keras or .h5 file or from memory."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unittest import mock

import tensorflow as tf

from ....serving import contract
from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import CHANNELS_FIRST, RawModel
from ...model.tracing import find_data_format, trace, with_size
from ...spec import ExportSpec
from ..adapting.choosing import choose_inputs, choose_outputs, flatten_named, names_in, pick
from ..user_code import named_as_saved
from .files import check_keras_file, keras_2_version, read_config
from .keras_2 import finalize, is_keras_2_model, keras_2_objects, load_by_keras_2, readable_by_keras_3
from .local import as_local_file

_UNKNOWN_OBJECT = re.compile(
    r"(?:Could not locate (?:class|function)|Cannot deserialize object of type|Unknown [\w ]+:|"
    r"(?:Could not interpret|Unknown) [\w ]+ identifier:(?: \{.*?'config':)?) ['`]?([\w>.]+)"
)
_ONLY_IN_KERAS_2 = (
    *("Functional", "Model", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod"),
    "ThresholdedReLU",
)
"""What a file of Keras 2 may ask for, and no module of the user's has."""
_FOREIGN_CODE = re.compile(r"bad marshal data|marshal data too short|unknown opcode|name '\w+' is not defined")
"""What comes of a Lambda layer's code that cannot be run here."""


def load_keras_file(spec: ExportSpec, own: Mapping[str, Any]) -> RawModel:
    """Loads a .keras or .h5 file, or a folder of what a .keras file holds; in safe mode unless `unsafe_load`.

    Args:
        spec: of the export.
        own: the user's classes and functions, by name.

    Raises:
        SourceError: it is no whole model, or needs objects or trust that the spec does not give.
    """
    where = f"source {spec.source}"
    with as_local_file(spec.source, where) as path:
        check_keras_file(path, where)
        model = _load(path, spec, own, where)
    return wrap_keras_model(model, spec, where)


def _load(path: str, spec: ExportSpec, own: Mapping[str, Any], where: str) -> Any:
    import keras

    config, version = read_config(path), keras_2_version(path)
    objects = named_as_saved(own, config)
    try:
        with contextlib.nullcontext(path) if version is None else readable_by_keras_3(path) as readable:
            known = objects if version is None else keras_2_objects(version, config) | objects
            model = keras.saving.load_model(readable, known, compile=False, safe_mode=not spec.unsafe_load)
            finalize(model)
    except Exception as error:
        if version is None or _is_unsafe(error):
            raise SourceError(f"{where}: {_loading_advice(spec, own, error)}") from error
        reason = error
    else:
        return model
    try:
        return load_by_keras_2(path, objects, where, unsafe=spec.unsafe_load)
    except SourceError:
        raise
    except ImportError:
        unknown = _unknown_object(reason)
        if (unknown and unknown not in _ONLY_IN_KERAS_2) or _FOREIGN_CODE.search(str(reason)):
            raise SourceError(f"{where}: {_loading_advice(spec, own, reason)}") from reason
        cause = f"it does not know {unknown!r}" if unknown else cause_of(reason)
        raise SourceError(
            f"{where}: it was saved by Keras {version}, and Keras 3 cannot load it: {cause}; "
            "pip install 'maskport[keras2]' for what can; or save it once more where it was saved: model = "
            "tf.keras.models.load_model('FILE', compile=False); model.save('DIRECTORY', save_format='tf'); "
            "then --source=DIRECTORY"
        ) from reason
    except Exception as error:
        raise SourceError(f"{where}: {_loading_advice(spec, own, error)}") from error


def _is_unsafe(error: Exception) -> bool:
    return "safe_mode" in str(error) or "unsafe" in str(error).lower()


def _unknown_object(error: Exception) -> str:
    """Returns the name of what Keras does not know, by its error; empty where that is about something else."""
    unknown = _UNKNOWN_OBJECT.search(" ".join(str(error).split()))
    return unknown.group(1).rpartition(">")[2] if unknown else ""


def _loading_advice(spec: ExportSpec, own: Mapping[str, Any], error: Exception) -> str:
    if _is_unsafe(error):
        return (
            "it holds a Lambda layer or other code, which Keras does not load in safe mode; "
            "if you trust the file: --unsafe_load"
        )
    name = _unknown_object(error)
    if name and own:
        return (
            f"it needs {name!r}, which is not in {spec.custom_objects!r}, the module of --custom_objects; "
            f"that has: {', '.join(own)}"
        )
    if name:
        return (
            f"it needs {name!r}, which Keras does not have: give the module that defines or registers it by "
            "--custom_objects=MODULE"
        )
    if spec.unsafe_load and _FOREIGN_CODE.search(str(error)):
        return (
            f"its Lambda layers are bytecode, of another Python than this or without what it uses ({cause_of(error)}); "
            "give a function that makes the model, and this file as --weights"
        )
    return f"Keras cannot load it: {cause_of(error)}"


def wrap_keras_model(model: Any, spec: ExportSpec, where: str) -> RawModel:
    """Returns a Keras model as a `RawModel`; SourceError where it is not built, or input or output is unclear."""
    import keras

    structure = _input_structure(model, spec, where)
    inputs = {tensor.name: tensor for tensor in keras.tree.flatten(structure)}
    takes = choose_inputs(spec, inputs, where)
    image = inputs[takes.image]

    def run(images: tf.Tensor) -> Any:
        fed = takes.feed(images)
        with _upsampling_of_any_size():
            return model(keras.tree.pack_sequence_as(structure, [fed[name] for name in inputs]), training=False)

    outputs = _outputs(run, image, spec, where)
    layers = _output_layers(model, outputs)
    # A position says less than the name of a layer.
    names = {path: layers.get(path, path) if path.isdecimal() else path for path in outputs}
    wanted = spec.source_output
    if wanted is not None and wanted not in names.values():
        by_layer = {layer: names[path] for path, layer in layers.items()}
        wanted = ",".join(names.get(one) or by_layer.get(one, one) for one in names_in(wanted)[1:])
    chosen = choose_outputs(wanted, {names[path]: output for path, output in outputs.items()}, where)
    paths = {name: path for path, name in names.items()}

    def call(images: tf.Tensor) -> Any:
        return pick(flatten_named(run(images)), [paths[name] for name in chosen])

    # Attaching the Keras model itself would make saving trace Keras' own endpoint; its variables do.
    variables = [one if isinstance(one, tf.Variable) else one.value for one in model.variables]
    parameter_count = int(model.count_params())
    return RawModel(
        call=call,
        trackable=variables,
        input=image,
        description=f"Keras model {model.name!r}, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        answers_pair=len(chosen) == 2,
    )


@contextlib.contextmanager
def _upsampling_of_any_size() -> Iterator[None]:
    """Makes Keras' smooth UpSampling2D, which multiplies sizes that a graph may not know, ask for them when it runs."""
    import keras

    layer = keras.layers.UpSampling2D
    as_it_is = layer.call

    def call(self: Any, inputs: tf.Tensor) -> tf.Tensor:
        if self.interpolation == "nearest" or inputs.shape[1:].is_fully_defined():
            return as_it_is(self, inputs)
        is_first = self.data_format == "channels_first"
        images = tf.transpose(inputs, [0, 2, 3, 1]) if is_first else inputs
        resized = tf.image.resize(images, tf.shape(images)[1:3] * self.size, self.interpolation)
        resized = tf.cast(resized, inputs.dtype)
        return tf.transpose(resized, [0, 3, 1, 2]) if is_first else resized

    with mock.patch.object(layer, "call", call):
        yield


def _input_structure(model: Any, spec: ExportSpec, where: str) -> Any:
    """Returns what the model is called with: tensors' forms in lists, tuples and dicts, or a single one."""
    import keras

    if getattr(model, "inputs", None):
        # A Sequential model that was loaded has inputs, but says no structure.
        return keras.tree.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tf.as_dtype(tensor.dtype), name=tensor.name),
            getattr(model, "input", model.inputs[0]),
        )
    shapes = _shapes_built_with(model)
    if not shapes:
        raise SourceError(
            f"{where}: the model is not built, so its input is unknown; call model.build((None, None, None, 3)) "
            "or the model itself before it is saved"
        )
    dtype = tf.as_dtype(model.compute_dtype)
    names = itertools.chain(shapes, map("{}/{}".format, itertools.repeat(next(iter(shapes))), itertools.count(1)))

    def form(shape: tuple[int | None, ...]) -> tf.TensorSpec:
        batched = tf.TensorSpec([None, *shape[1:]], dtype, name=next(names))
        if len(shape) != 4:
            return batched
        # The size it happened to be built with is no constraint, and tells little of the layout where it is small.
        is_first = shape[1] in contract.IMAGE_CHANNELS and shape[3] not in contract.IMAGE_CHANNELS
        kept = 1 if spec.data_format == CHANNELS_FIRST or (spec.data_format is None and is_first) else 3
        edges = [edge if axis == kept else None for axis, edge in enumerate(batched.shape)]
        return tf.TensorSpec(edges, dtype, name=batched.name)

    built_with = shapes if len(shapes) > 1 else next(iter(shapes.values()))
    return keras.tree.map_shape_structure(form, built_with)


def _shapes_built_with(model: Any) -> Mapping[str, Any]:
    """Returns the shapes that a subclassed model was built with, by the arguments of its call; empty if it was not."""
    import keras

    if not is_keras_2_model(model):
        return getattr(model, "_build_shapes_dict", None) or {}
    called = model.save_spec()  # None of one that was built without a call, or loaded
    shapes = keras.tree.map_structure(lambda one: one.shape, called[0][0]) if called else model._build_input_shape
    return {} if shapes is None else {"inputs": keras.tree.map_shape_structure(tuple, shapes)}


def _outputs(run: Callable[[tf.Tensor], Any], image: tf.TensorSpec, spec: ExportSpec, where: str) -> dict[str, Any]:
    # What a model says of its outputs is not always so: around a model with a list of one Keras adds an axis.
    if image.shape.rank == 4 and spec.fixed_size is not None:
        image = with_size(image, spec.data_format or find_data_format(image.shape, where), spec.fixed_size)
    outputs = flatten_named(trace(run, image, where).structured_outputs)
    return {path: tf.TensorSpec(tensor.shape, tensor.dtype) for path, tensor in outputs.items()}


def _output_layers(model: Any, paths: Iterable[str]) -> dict[str, str]:
    """Returns for each output the name of its layer, by which Keras calls it; none where two outputs share one."""
    layers = list(getattr(model, "output_names", None) or [])
    if len(set(layers)) < len(layers) or not layers:
        return {}
    by_tensor = {id(tensor): layer for tensor, layer in zip(model.outputs, layers, strict=True)}
    tensors = flatten_named(model.output)
    return {path: by_tensor[id(tensors[path])] for path in paths if path in tensors}
