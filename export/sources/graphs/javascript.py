"""Graph models of TensorFlow.js: a GraphDef in JSON, its constants in shards, some ops fused."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
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
    for node in document["modelTopology"]["node"]:
        _as_base64(node)
    try:
        graph_def = json_format.ParseDict(
            document["modelTopology"], tf.compat.v1.GraphDef(), ignore_unknown_fields=True
        )
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: it is a broken model of TensorFlow.js ({cause_of(error)})") from error
    for nodes in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in nodes:
            if node.op == "Const":
                _fill(node, weights, where)
    plain = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        plain.node.extend(_as_core_ops(node, weights, where))
    signature = document.get("signature") or (document.get("userDefinedMetadata") or {}).get("signature") or {}
    outputs = {name.removesuffix(":0"): one["name"] for name, one in (signature.get("outputs") or {}).items()}
    return wrap_graph(plain, spec, "TensorFlow.js model", outputs)


def _as_base64(node: Any) -> None:
    """Puts what older converters wrote as lists of bytes into the form that JSON has for messages, in place."""
    for value in (node.get("attr") or {}).values() if isinstance(node, dict) else ():
        if isinstance(value, dict) and isinstance(value.get("s"), list):
            value["s"] = base64.b64encode(bytes(value["s"])).decode()


def _fill(node: Any, weights: Mapping[str, Any], where: str) -> None:
    """Gives a constant its weight, in the graph's own dtype: files know fewer."""
    tensor = node.attr["value"].tensor
    if node.name in weights:
        tensor.CopyFrom(tf.make_tensor_proto(weights[node.name], node.attr["dtype"].type or None))
        return
    held = {field.name for field, _ in tensor.ListFields()} - {"dtype", "tensor_shape", "version_number"}
    if not held and all(one.size for one in tensor.tensor_shape.dim):
        raise SourceError(f"{where}: its constant {node.name!r} has no weight")


def _as_core_ops(node: Any, weights: Mapping[str, Any], where: str) -> Iterator[Any]:
    """Yields the ops of TensorFlow that do what one of TensorFlow.js does; the last has its name."""
    dilations = node.attr["dilations"].list.i if "dilations" in node.attr else []
    if list(dilations[:1]) not in ([], [1]):
        # Converters of 2019 wrote them so, for a TensorFlow.js that looked at the first two.
        dilations[:] = [1, *dilations[:2], 1]
    is_dilated = any(step != 1 for step in dilations)
    if node.op not in _FUSED and node.op != "Prelu" and not (node.op == "DepthwiseConv2dNative" and is_dilated):
        yield node
        return
    steps = [_FUSED.get(node.op, node.op)]
    if node.op in _FUSED:
        # A NoOp stands where there is no bias.
        steps += [name.decode() for name in node.attr["fused_ops"].list.s if name != b"NoOp"]
    inputs = [name for name in node.input if not name.startswith("^")]
    value, added = inputs[0], inputs[1:]
    for step in steps:
        name = node.name if step is steps[-1] else f"{node.name}/{step}"
        if step == "Prelu":
            yield from _prelu(name, value, added.pop(0))
        elif step == "DepthwiseConv2dNative" and is_dilated:
            yield from _dilated_depthwise(node, name, value, added.pop(0), weights, where)
        else:
            takes = added[:1] if step in _ATTRIBUTES else []
            del added[: len(takes)]
            new = _part_of(node, name, step, [value, *takes])
            if step == "LeakyRelu":
                new.attr["alpha"].CopyFrom(node.attr["leakyrelu_alpha"])
            yield new
        value = name
    if added:
        raise SourceError(f"{where}: {node.op} {node.name!r} fuses {steps}, which is not read here")


def _dilated_depthwise(
    node: Any, name: str, value: str, kernel: str, weights: Mapping[str, Any], where: str
) -> Iterator[Any]:
    """Yields a convolution with a group for each channel: TensorFlow's depthwise kernel pays no heed to dilations."""
    if kernel not in weights:
        raise SourceError(f"{where}: {node.op} {node.name!r} has dilations, and a kernel that is not constant")
    height, width, channels, multiplier = weights[kernel].shape
    shape = tf.compat.v1.NodeDef(name=f"{name}/grouped_shape", op="Const")
    shape.attr["dtype"].type = tf.int32.as_datatype_enum
    grouped = np.array([height, width, 1, channels * multiplier], np.int32)
    shape.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(grouped))
    reshaped = tf.compat.v1.NodeDef(name=f"{name}/grouped_kernel", op="Reshape", input=[kernel, shape.name])
    reshaped.attr["T"].CopyFrom(node.attr["T"])
    reshaped.attr["Tshape"].type = tf.int32.as_datatype_enum
    yield from (shape, reshaped, _part_of(node, name, "Conv2D", [value, reshaped.name]))


def _part_of(node: Any, name: str, op: str, inputs: list[str]) -> Any:
    """Returns an op that a node holds, with those of its attributes that the op takes."""
    part = tf.compat.v1.NodeDef(name=name, op=op, input=inputs)
    for key in _ATTRIBUTES.get(op, ("T",)):
        if key in node.attr:
            part.attr[key].CopyFrom(node.attr[key])
    return part


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
