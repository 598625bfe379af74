"""Graph models of TensorFlow.js: a GraphDef in JSON, its constants in shards, some ops fused."""

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import json_format

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import RawModel
from ...spec import ExportSpec
from .frozen import wrap_graph

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


def load_graph_model(spec: ExportSpec, document: dict[str, Any], weights: Mapping[str, Any]) -> RawModel:
    """Reads a graph model of TensorFlow.js; SourceError where it is broken, or input or output is unclear.

    Args:
        spec: chooses input and output.
        document: of the model.
        weights: by the names of the constants that have them.
    """
    where = f"source {spec.source}"
    try:
        graph_def = json_format.ParseDict(
            document["modelTopology"], tf.compat.v1.GraphDef(), ignore_unknown_fields=True
        )
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: it is a broken model of TensorFlow.js ({cause_of(error)})") from error
    plain = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.op == "Const" and node.name in weights:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
        plain.node.extend(_as_core_ops(node, where))
    signature = document.get("signature") or (document.get("userDefinedMetadata") or {}).get("signature") or {}
    outputs = {name.removesuffix(":0"): one["name"] for name, one in (signature.get("outputs") or {}).items()}
    return wrap_graph(plain, spec, "TensorFlow.js model", outputs)


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
