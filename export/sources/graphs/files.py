"""Reading models of TensorFlow.js, without TensorFlow: a document, and shards with the weights beside it."""

import gzip
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ..strangers import PADDLE

SUFFIX = ".json"
DOCUMENT = "model.json"
"""The document's usual name, by which a folder is known for a model of TensorFlow.js."""


def check_javascript_model(path: str) -> None:
    """SourceError where a document on this machine is no model of TensorFlow.js, or where shards are missing."""
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


def unpacked(content: bytes, where: str) -> bytes:
    """Returns what a file holds; TensorFlow Hub hands some out in gzip, under the same names."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{where}: it is broken or truncated ({error})") from error


def parse_document(content: bytes, where: str) -> dict[str, Any]:
    """Returns the document of a model; SourceError where it is none."""
    try:
        document = json.loads(unpacked(content, where))
    except ValueError as error:
        raise SourceError(f"{where}: it is no JSON, or a broken or truncated one") from error
    document = document if isinstance(document, dict) else {}
    topology = document.get("modelTopology")
    if "config" in document and "class_name" in document:
        raise SourceError(
            f"{where}: it is the architecture of a Keras model, without weights; give a builder function as source, "
            "which calls keras.models.model_from_json, and --weights"
        )
    if "base_code" in document:  # PaddlePaddle's since its release 3
        raise SourceError(f"{where}: {PADDLE}")
    if not isinstance(topology, dict) or not isinstance(document.get("weightsManifest"), list):
        raise SourceError(f"{where}: it is no model of TensorFlow.js (modelTopology and weightsManifest are missing)")
    if not all(
        isinstance(group, dict)
        and isinstance(group.get("weights"), list)
        and isinstance(group.get("paths"), list)
        and all(isinstance(name, str) for name in group["paths"])
        for group in document["weightsManifest"]
    ):
        raise SourceError(f"{where}: its weightsManifest is broken: wanted groups with paths and weights")
    return document


def is_graph(document: Mapping[str, Any]) -> bool:
    """Whether a model is a graph of ops, rather than one of layers."""
    return "node" in document["modelTopology"]


def decode_weights(
    document: Mapping[str, Any], content: bytes, where: str
) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """Yields the weights by name, as TensorFlow.js computes with them: quantised ones as real ones.

    Args:
        document: of the model.
        content: of its shards, unpacked, one after the other.
        where: in what, for people.

    Raises:
        SourceError: a weight is not whole, or described wrongly.
    """
    start = 0
    try:
        for weight in itertools.chain.from_iterable(group["weights"] for group in document["weightsManifest"]):
            if weight["dtype"] == "string":
                strings, start = _strings(content, start, int(np.prod(weight["shape"])))
                yield weight["name"], np.array(strings, object).reshape(weight["shape"])
                continue
            quantization = weight.get("quantization") or {}
            stored = _DTYPES[quantization.get("dtype", weight["dtype"])]
            count = int(np.prod(weight["shape"]))
            if start + count * stored.itemsize > len(content):
                raise IndexError
            values: npt.NDArray[Any] = np.frombuffer(content, stored.newbyteorder("<"), count, start)
            start += count * stored.itemsize
            if "scale" in quantization:
                values = values * float(quantization["scale"]) + float(quantization["min"])
                values = np.floor(values + 0.5) if weight["dtype"] == "int32" else values
            yield weight["name"], values.astype(_DTYPES[weight["dtype"]]).reshape(weight["shape"])
    except IndexError:
        raise SourceError(
            f"{where}: its weights are not whole: {weight['name']!r} is beyond the end of its shards"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: its weights are described wrongly ({error!r})") from error


def _strings(content: bytes, start: int, count: int) -> tuple[list[bytes], int]:
    """Returns strings that lie from a place on, each after its length, and where they end; IndexError past the end."""
    strings = []
    for _ in range(count):
        begin = start + 4
        start = begin + int.from_bytes(content[start:begin], "little")
        if start > len(content) or begin > len(content):
            raise IndexError
        strings.append(content[begin:start])
    return strings, start


_DTYPES = {name: np.dtype(name) for name in ("float32", "float16", "int32", "uint8", "uint16", "bool", "complex64")}
