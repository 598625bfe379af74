"""Files of Keras 2, and of TensorFlow 1's Keras: put into terms of Keras 3, or loaded by Keras 2 itself (tf-keras)."""

import contextlib
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import SourceError
from .files import CONFIG_ATTRIBUTE, CONFIG_MEMBER, keras_2_version, read_config

_RENAMED = {
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"), "BatchNormalization"),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), "Dropout"),
}
"""Layers of Keras 2 that, once trained, are others of Keras 3, which takes their arguments."""
_ONLY_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint", "rng_type", "force_generator")
"""How arguments end that mean nothing to a trained model."""
_DEFAULTS = {
    "groups": 1,
    "renorm": False,
    "time_major": False,
    "virtual_batch_size": None,
}
"""Arguments that Keras 3 has not everywhere, with what it does without them."""
_HARD_SIGMOID = "keras_2_hard_sigmoid"
_NESTED_MODELS = ("Functional", "Model", "Sequential")
_OP_LAYERS = ("TFOpLambda", "ClassMethod", "SlicingOpLambda", "InstanceMethod", "InstanceProperty")
_OUTSIDE_OF_GRAPHS = {"io", "gfile", "saved_model", "train", "summary", "profiler", "py_function", "numpy_function"}
"""Parts of the names of TensorFlow's functions that do something at once, and are no layers of a model."""
_OWN_MODULES = ("keras", "tf_keras", "builtins")


def is_keras_2_model(model: Any) -> bool:
    """Whether something is a model of tf-keras."""
    return "tf_keras" in sys.modules and isinstance(model, sys.modules["tf_keras"].Model)


def keras_2_objects(version: str, config: str) -> dict[str, Any]:
    """Returns what Keras 2 had under a name that means something else in Keras 3, by the names in `readable` files.

    Args:
        version: of Keras 2 that saved the file.
        config: of the model, as it is in the file.
    """
    import keras

    def hard_sigmoid(x: Any) -> Any:
        """Rises by 0.2; by 1/6 in Keras 3."""
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    return {_HARD_SIGMOID: hard_sigmoid, **older_layers(keras.layers, version, config)}


def older_layers(layers: Any, version: str, config: str) -> dict[str, Any]:
    """Returns layers that did something else where a model comes from, by name, as subclasses of those in `layers`.

    Until TensorFlow 1.14, in Keras itself until 2.3, and in TensorFlow.js, `UpSampling2D` is bilinear between pixels'
    corners, and not between their centres. TensorFlow 1.14 calls its Keras 2.2.4-tf as later ones do, whose inputs may
    be ragged.
    """
    is_older = re.match(r"1\.|2\.[0-3]\.\d+$|2\.1\.\d+-tf|tfjs", version)
    if not is_older and (version != "2.2.4-tf" or '"ragged"' in config):
        return {}
    return {"UpSampling2D": _older_upsampling(layers.UpSampling2D)}


def _older_upsampling(layer: Any) -> Any:
    import tensorflow as tf

    class UpSampling2D(layer):
        """Enlarges as TensorFlow 1 did."""

        def call(self, inputs: Any) -> Any:
            if self.interpolation != "bilinear":
                return super().call(inputs)
            is_first = self.data_format == "channels_first"
            images = tf.transpose(inputs, [0, 2, 3, 1]) if is_first else inputs
            size = [edge * factor for edge, factor in zip(tf.unstack(tf.shape(images)[1:3]), self.size, strict=True)]
            result = tf.compat.v1.image.resize_bilinear(images, tf.stack(size))
            known = [edge and edge * factor for edge, factor in zip(images.shape[1:3], self.size, strict=True)]
            result.set_shape([images.shape[0], *known, images.shape[3]])
            return tf.transpose(result, [0, 3, 1, 2]) if is_first else result

    return UpSampling2D


def finalize(model: Any) -> None:
    """Has layers that compute with something made of their weights, such as normalizations of inputs, make it anew.

    Keras does so for a model's own layers, and not for those of models within it, nor for weights that are assigned.
    """
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


@contextlib.contextmanager
def readable_by_keras_3(path: str) -> Iterator[str]:
    """Yields the path of a copy of a file of Keras 2, with its configuration in terms of Keras 3."""
    import h5py

    config = json.loads(read_config(path))
    if not zipfile.is_zipfile(path):
        _refuse_several_axes(config)
    _modernize(config)
    text = json.dumps(config).replace('"hard_sigmoid"', f'"{_HARD_SIGMOID}"')
    with tempfile.TemporaryDirectory() as folder:
        readable = Path(folder, Path(path).name)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, zipfile.ZipFile(readable, "w") as copy:
                for name in archive.namelist():
                    copy.writestr(name, text if name == CONFIG_MEMBER else archive.read(name))
        else:
            with h5py.File(path) as file, h5py.File(readable, "w") as copy:
                copy.attrs.update({**file.attrs, CONFIG_ATTRIBUTE: text})
                for name in file:
                    file.copy(name, copy)
        yield str(readable)


def _refuse_several_axes(config: Any) -> None:
    """ValueError where a layer works along several axes: of HDF5 files Keras 3 would take the last in their place."""
    if isinstance(config, dict):
        axis = config["config"].get("axis") if isinstance(config.get("config"), dict) else None
        if isinstance(axis, list) and len(axis) > 1:
            raise ValueError(f"{config.get('class_name')} along several axes")
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _refuse_several_axes(part)


def _modernize(config: Any) -> None:
    """Rewrites the configuration of a layer, or of a model and all in it, in place."""
    import keras

    inner = config.get("config")
    kind = config["class_name"] = _RENAMED.get(config.get("class_name"), config.get("class_name"))
    if isinstance(inner, dict) and hasattr(keras.layers, str(kind)):  # and not one of the user's
        for key in list(inner):
            is_default = key in _DEFAULTS and inner[key] == _DEFAULTS[key]
            if is_default or key.endswith(_ONLY_FOR_TRAINING):
                del inner[key]
            elif isinstance(inner[key], dict) and inner[key].get("type") == "ndarray":  # of TensorFlow 1.9 to 1.12
                inner[key] = inner[key]["value"]
        policy, axis = inner.get("dtype"), inner.get("axis")
        if isinstance(policy, dict) and str(policy.get("class_name")).startswith("Policy"):
            inner["dtype"] = policy["config"]["name"]
        if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
            (inner["axis"],) = axis
    layers = inner.get("layers") if isinstance(inner, dict) else inner  # the oldest Sequential is a bare list
    if isinstance(layers, list):
        _modernize_layers(layers, inner if isinstance(inner, dict) else {})
    elif isinstance(inner, dict):  # of a wrapper
        for wrapped in ("layer", "forward_layer", "backward_layer", "cell"):
            if isinstance(inner.get(wrapped), dict):
                _modernize(inner[wrapped])


def _modernize_layers(layers: list[Any], model: dict[str, Any]) -> None:
    """Rewrites a model's layers, and how they are called, in place."""
    models = {layer.get("name"): layer["class_name"] for layer in layers if layer["class_name"] in _NESTED_MODELS}
    for layer in layers:
        _modernize(layer)
        _modernize_calls(layer.get("inbound_nodes"), models)
        for named in (layer, layer["config"]):
            if isinstance(named, dict) and "name" in named:
                named["name"] = _plain(named["name"])
    for ends in (model.get("input_layers"), model.get("output_layers")):
        _modernize_calls(ends, {name: kind for name, kind in models.items() if kind == "Sequential"})
    ends = model.get("output_layers")
    if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
        # A model with a list of one cannot stand in another one.
        (model["output_layers"],) = ends


def _modernize_calls(node: Any, models: Mapping[str, str]) -> None:
    """Rewrites what refers to calls of layers, [name, which of its calls, which of its tensors, …], at any depth."""
    if isinstance(node, list) and len(node) > 2 and isinstance(node[0], str) and isinstance(node[1], int):
        # Keras 2 counted a model's own making as its first call. At the ends of a functional model Keras 3 knows that.
        node[1] -= node[0] in models
        node[0] = _plain(node[0])
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _modernize_calls(part, models)


def _plain(name: str) -> str:
    """Returns a layer's name as Keras 3 allows it."""
    return name.replace("/", "_")


def import_keras_2() -> Any:
    """Returns tf-keras; ImportError where it is not installed, or fits no TensorFlow."""
    try:
        import tf_keras
    except Exception as error:  # another release than TensorFlow's fails in many ways
        raise ImportError(str(error)) from error
    return tf_keras


def load_by_keras_2(path: str, own: Mapping[str, Any], where: str, *, unsafe: bool) -> Any:
    """Returns the model in a file, loaded by tf-keras; ImportError where that is not installed, or fits no TensorFlow.

    `where` is in what, for people.

    Raises:
        SourceError: it holds code, and `unsafe` is not set.
    """
    config = read_config(path)
    if not unsafe:
        refuse_code(json.loads(config), own, where)
    tf_keras = import_keras_2()
    objects = older_layers(tf_keras.layers, keras_2_version(path) or "", config) | dict(own)
    return tf_keras.models.load_model(path, objects, compile=False, safe_mode=not unsafe)


def refuse_code(config: Any, own: Mapping[str, Any], where: str) -> None:
    """SourceError where a configuration would make Keras 2, which is not as careful as Keras 3, run other code."""
    if isinstance(config, dict):
        kind, module = str(config.get("class_name")), config.get("module")
        inner = config.get("config")
        arguments = inner if isinstance(inner, dict) else {}
        called = str(arguments.get("function", arguments.get("cls_symbol"))).split(".") if kind in _OP_LAYERS else []
        if kind in ("Lambda", "__lambda__") or _OUTSIDE_OF_GRAPHS.intersection(called):
            raise SourceError(
                f"{where}: it holds a Lambda layer or other code, which is not loaded in safe mode; if you trust the "
                "file: --unsafe_load"
            )
        named = str(inner if kind == "function" else kind).rpartition(">")[2]
        if isinstance(module, str) and module.partition(".")[0] not in _OWN_MODULES and named not in own:
            raise SourceError(
                f"{where}: it needs {named!r}, which Keras does not have: give the module that defines or registers it "
                "by --custom_objects=MODULE"
            )
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        refuse_code(part, own, where)
