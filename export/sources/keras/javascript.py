"""Layers models of TensorFlow.js: Keras 2's configuration of a model, its weights in shards."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import RawModel
from ...spec import ExportSpec
from .keras_2 import finalize, import_keras_2, older_layers, refuse_code
from .loading import wrap_keras_model


def load_layers_model(
    spec: ExportSpec,
    document: Mapping[str, Any],
    weights: Mapping[str, npt.NDArray[np.generic]],
    own: Mapping[str, Any],
) -> RawModel:
    """Reads a layers model of TensorFlow.js by tf-keras.

    Args:
        spec: chooses input and output.
        document: of the model.
        weights: by name.
        own: the user's classes and functions.

    Raises:
        SourceError: tf-keras is not installed or cannot read it, its weights do not fit, or input or output is unclear.
    """
    where = f"source {spec.source}"
    topology = document["modelTopology"]
    topology = topology.get("model_config", topology)
    if not spec.unsafe_load:
        refuse_code(topology, own, where)
    try:
        tf_keras, config = import_keras_2(), json.dumps(topology)
        older = older_layers(tf_keras.layers, document["modelTopology"].get("keras_version") or "", config)
        model = tf_keras.models.model_from_json(config, older | dict(own))
    except ImportError as error:
        raise SourceError(
            f"{where}: it is a layers model of TensorFlow.js, which is read by Keras 2: pip install 'maskport[keras2]'"
        ) from error
    except Exception as error:
        raise SourceError(
            f"{where}: Keras 2 cannot make its layers: {cause_of(error)}; those of your own: --custom_objects=MODULE"
        ) from error
    variables = {_name(variable.name): variable for variable in model.weights}
    values = {_name(name): value for name, value in weights.items()}
    unlike = sorted(variables.keys() ^ values.keys())
    unlike += [name for name in variables.keys() & values.keys() if variables[name].shape != values[name].shape]
    if unlike or len(values) < len(weights) or len(variables) < len(model.weights):
        raise SourceError(f"{where}: its weights do not fit its layers{': ' if unlike else ''}{', '.join(unlike[:5])}")
    for name, variable in variables.items():
        variable.assign(values[name])
    finalize(model)
    return wrap_keras_model(model, spec, where)


def _name(name: str) -> str:
    """Returns what tells a weight from others: its layer's name and its own, without those of the models around it."""
    return "/".join(name.removesuffix(":0").split("/")[-2:])
