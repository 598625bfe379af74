"""Graph models of TensorFlow.js: a GraphDef in JSON, its constants in shards, some ops fused."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf import json_format

from ...errors import SourceError
from ...model.segmentation_model import RawModel
from ...spec import ExportSpec
from .files import document_of, parse_document, shards_of
from .frozen import wrap_graph

_DTYPES = {name: np.dtype(name) for name in ("float32", "float16", "int32", "uint8", "uint16", "bool")}
_FUSED = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
_ATTRIBUTES = {
    "Conv2D": ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations"),
    "DepthwiseConv2dNative": ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations"),
    "MatMul": ("T", "transpose_a", "transpose_b"),
    "BiasAdd": ("T", "data_format"),
}
"""What an op takes of the attributes of the one that it was fused into."""


def load_javascript_model(spec: ExportSpec) -> RawModel:
    """Reads a graph model of TensorFlow.js, given by its document or its folder.

    Raises:
        SourceError: it is none, its weights are not there or not whole, or input or output is unclear.
    """
    where = f"source {spec.source}"
    path = document_of(spec.source)
    document = parse_document(_read(path), where)
    content = b"".join(_read(shard) for shard in shards_of(document, path))
    try:
        weights = dict(_decode(document["weightsManifest"], content, where))
        graph_def = json_format.ParseDict(
            document["modelTopology"], tf.compat.v1.GraphDef(), ignore_unknown_fields=True
        )
    except (json_format.ParseError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: it is a broken model of TensorFlow.js ({error})") from error
    plain = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.op == "Const" and node.name in weights:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
        plain.node.extend(_as_core_ops(node, where))
    signature = document.get("signature") or (document.get("userDefinedMetadata") or {}).get("signature") or {}
    outputs = {name.removesuffix(":0"): one["name"] for name, one in (signature.get("outputs") or {}).items()}
    return wrap_graph(plain, spec, "TensorFlow.js model", outputs)


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        content: bytes = file.read()
    return content


def _decode(manifest: list[Any], content: bytes, where: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yields the weights by name, as TensorFlow.js computes with them: quantised ones as real ones."""
    start = 0
    for weight in itertools.chain.from_iterable(group["weights"] for group in manifest):
        quantization = weight.get("quantization") or {}
        stored = _DTYPES[quantization.get("dtype", weight["dtype"])]
        count = int(np.prod(weight["shape"]))
        if start + count * stored.itemsize > len(content):
            raise SourceError(f"{where}: its weights are not whole: {weight['name']!r} is beyond the end of its shards")
        values: npt.NDArray[Any] = np.frombuffer(content, stored.newbyteorder("<"), count, start)
        start += count * stored.itemsize
        if "scale" in quantization:
            values = values * float(quantization["scale"]) + float(quantization["min"])
            values = np.floor(values + 0.5) if weight["dtype"] == "int32" else values
        yield weight["name"], values.astype(_DTYPES[weight["dtype"]]).reshape(weight["shape"])


def _as_core_ops(node: Any, where: str) -> Iterator[Any]:
    """Yields the ops of TensorFlow that do what one of TensorFlow.js does; the last has its name."""
    if node.op not in _FUSED and node.op != "Prelu":
        yield node
        return
    steps = [_FUSED[node.op], *(name.decode() for name in node.attr["fused_ops"].list.s)] if node.op != "Prelu" else []
    steps = steps or ["Prelu"]
    inputs = [name for name in node.input if not name.startswith("^")]
    value, added = inputs[0], inputs[1:]
    for step in steps:
        name = node.name if step is steps[-1] else f"{node.name}/{step}"
        if step == "Prelu":
            yield from _prelu(name, value, added.pop(0))
        else:
            takes = added[:1] if step in _ATTRIBUTES else []
            del added[: len(takes)]
            new = tf.compat.v1.NodeDef(name=name, op=step, input=[value, *takes])
            for key in _ATTRIBUTES.get(step, ("T",)):
                if key in node.attr:
                    new.attr[key].CopyFrom(node.attr[key])
            if step == "LeakyRelu":
                new.attr["alpha"].CopyFrom(node.attr["leakyrelu_alpha"])
            yield new
        value = name
    if added:
        raise SourceError(f"{where}: {node.op} {node.name!r} fuses {steps}, which is not read here")


def _prelu(name: str, value: str, slopes: str) -> Iterator[Any]:
    """Yields ops for x where it is positive, else x times its slope."""
    for op, short, inputs in (
        ("Relu", "positive", [value]),
        ("Neg", "opposite", [value]),
        ("Relu", "below", [f"{name}/opposite"]),
        ("Mul", "sloped", [f"{name}/below", slopes]),
        ("Sub", "", [f"{name}/positive", f"{name}/sloped"]),
    ):
        node = tf.compat.v1.NodeDef(name=f"{name}/{short}" if short else name, op=op, input=inputs)
        node.attr["T"].type = tf.float32.as_datatype_enum
        yield node
