"""Looking at models of TensorFlow.js, without TensorFlow: a document, and shards with the weights beside it."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import SourceError

SUFFIX = ".json"
DOCUMENT = "model.json"
"""The document's usual name, by which a folder is known for a model of TensorFlow.js."""


def check_javascript_model(path: str) -> None:
    """SourceError where a document on this machine is no graph model of TensorFlow.js, or where shards are missing."""
    where = f"source {path}"
    try:
        with open(document_of(path), "rb") as file:
            document = parse_document(file.read(), where)
    except OSError as error:
        raise SourceError(f"{where}: cannot be read: {error.strerror}") from error
    for shard in shards_of(document, document_of(path)):
        if not os.path.isfile(shard):
            raise SourceError(f"{where}: its weights are not beside it: there is no {shard}")


def document_of(path: str) -> str:
    """Returns the path of the document of a model that is given by it, or by its folder."""
    return path if path.lower().endswith(SUFFIX) else os.path.join(path, DOCUMENT)


def shards_of(document: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yields the paths of the files with the weights, in order."""
    for group in document["weightsManifest"]:
        for name in group["paths"]:
            yield os.path.join(os.path.dirname(path), name)


def parse_document(content: bytes, where: str) -> dict[str, Any]:
    """Returns the document of a graph model; SourceError where it is none."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise SourceError(f"{where}: it is no JSON, or a broken or truncated one") from error
    document = document if isinstance(document, dict) else {}
    topology = document.get("modelTopology")
    if "config" in document and "class_name" in document:
        raise SourceError(
            f"{where}: it is the architecture of a Keras model, without weights; give a builder function as source, "
            "which calls keras.models.model_from_json, and --weights"
        )
    if not isinstance(topology, dict) or not isinstance(document.get("weightsManifest"), list):
        raise SourceError(f"{where}: it is no model of TensorFlow.js (modelTopology and weightsManifest are missing)")
    if "node" not in topology:
        raise SourceError(
            f"{where}: it is a layers model of TensorFlow.js, and graph models are read; where tensorflowjs is "
            "installed: tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras model.json "
            "model.h5, then --source=model.h5"
        )
    return document
