"""Models made by a function of the user's, with weights from a file, or with those that they come with."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..errors import SourceError
from ..model.causes import cause_of
from ..model.model_graph import count_constants
from ..model.segmentation_model import RawModel
from ..spec import ExportSpec
from .adapting.choosing import choose_outputs, flatten_named, pick
from .keras.keras_2 import finalize, is_keras_2_model
from .keras.loading import wrap_keras_model
from .keras.local import as_local_file
from .paths.elsewhere import reading
from .preflight import KERAS_WEIGHTS, check_weights
from .user_code import import_user_module


def build_model(spec: ExportSpec) -> RawModel:
    """Calls the builder and restores its variables; SourceError where it fails, or not all of them are restored."""
    import keras

    where = f"source {spec.source}"
    module_name, _, function_name = spec.source.partition(":")
    builder = getattr(import_user_module(module_name, "source"), function_name, None)
    if not callable(builder):
        raise SourceError(f"{where}: module {module_name!r} has no function {function_name!r}")
    try:
        model = builder()
    except Exception as error:
        raise SourceError(f"{where}: the function fails: {type(error).__name__}: {cause_of(error)}") from error
    if isinstance(model, keras.Model) or is_keras_2_model(model):
        if spec.weights:
            _restore(model, spec.weights, is_keras=True)
        return wrap_keras_model(model, spec, where)
    if isinstance(model, tf.Module) and callable(model):
        if spec.weights:
            _restore(model, spec.weights, is_keras=False)
        return _wrap_module(model, spec, where)
    raise SourceError(f"{where} returned {type(model).__name__}; wanted a keras.Model, or a tf.Module with __call__")


def _restore(model: Any, weights: str, *, is_keras: bool) -> None:
    check_weights(weights)
    if weights.endswith(KERAS_WEIGHTS):
        if not is_keras:
            raise SourceError(f"weights {weights}: a tf.Module takes a TensorFlow checkpoint, not a Keras file")
        if not model.built:
            raise SourceError(
                f"weights {weights}: the function's model is not built, and has no variables yet; call it there on a "
                "picture, such as model(tf.zeros([1, 256, 256, 3]))"
            )
        with as_local_file(weights, f"weights {weights}") as path, _named_by_layout(path) as named:
            try:
                model.load_weights(named)
                finalize(model)
            except Exception as error:
                raise SourceError(f"weights {weights}: do not fit: {cause_of(error)}") from error
        return
    with reading(f"weights {weights}"):
        prefix = tf.train.latest_checkpoint(weights) if tf.io.gfile.isdir(weights) else weights
        is_checkpoint = prefix is not None and tf.io.gfile.exists(f"{prefix}.index")
    if not is_checkpoint:
        raise SourceError(f"weights {weights}: neither a Keras weights file nor a TensorFlow checkpoint")
    problems = []
    # People save the model itself, or a Checkpoint(model=…) or (net=…) around it.
    for wrapped in ({"root": model}, {"model": model}, {"net": model}):
        try:
            tf.train.Checkpoint(**wrapped).read(prefix).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            problems.append(cause_of(error))
        else:
            return
    raise SourceError(f"weights {weights}: the checkpoint does not restore every variable of the model: {problems[0]}")


@contextlib.contextmanager
def _named_by_layout(path: str) -> Iterator[str]:
    """Yields a path of a Keras weights file by which Keras, that goes by the name alone, reads the layout that it has.

    Until TensorFlow 2.11 `save_weights` wrote the layers' layout under any name of an HDF5 file.
    """
    import h5py

    is_older = False
    if path.endswith(".weights.h5") and h5py.is_hdf5(path):
        with h5py.File(path) as file:
            is_older = "layer_names" in file.attrs or "model_weights" in file
    if not is_older:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="maskport-") as folder:
        link = Path(folder, "older.h5")
        link.symlink_to(os.path.abspath(path))
        yield str(link)


def _wrap_module(module: Any, spec: ExportSpec, where: str) -> RawModel:
    call = module.__call__
    signature = getattr(call, "input_signature", None)
    if not signature or len(signature) != 1:
        raise SourceError(
            f"{where}: __call__ of the tf.Module needs to be a tf.function with an input_signature of one image"
        )
    function = call.get_concrete_function()
    names = choose_outputs(spec.source_output, flatten_named(function.structured_outputs), where)
    # What a loaded SavedModel holds is among the function's variables, and not among the module's.
    parameter_count = sum(int(variable.shape.num_elements() or 0) for variable in function.graph.variables)
    return RawModel(
        # Through the module itself: a bound tf.function would not keep it alive.
        call=lambda images: pick(flatten_named(module(images)), names),
        trackable=module if spec.trust_builder_weights else list(module.variables),
        input=tf.TensorSpec(signature[0].shape, signature[0].dtype, name="image"),
        description=f"tf.Module {type(module).__name__}, {parameter_count:,} parameters",
        parameter_count=parameter_count or count_constants(function.graph.as_graph_def()),
        answers_pair=len(names) == 2,
    )
