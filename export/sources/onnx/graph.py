"""An ONNX graph in Python's terms: nodes in an order in which they can run, constants as arrays."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import tensorflow as tf

from ...errors import SourceError
from .files import OLDEST_OPSET
from .ops import OPS
from .ops.registry import Node
from .values import Array

_STANDARD = ("", "ai.onnx")
_DOMAINS = (*_STANDARD, "com.microsoft")
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A graph, or a part of one that is run under a condition or in a loop.

    Attributes:
        inputs: by name; for a part they have no shape.
        outputs: names of values.
        nodes: sorted, each after those whose answers it takes.
        constants: by name; halves are float32 already.
    """

    inputs: Mapping[str, tf.TensorSpec]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Array]


def read_graph(model: Any, where: str, chosen: Sequence[str] = ()) -> Graph:
    """Returns the graph of a `ModelProto`.

    Args:
        model: the `ModelProto`.
        where: of what model, for people.
        chosen: names of the only outputs that are wanted, where there are such.

    Raises:
        SourceError: it is too old, or the outputs need operators that are not known.
    """
    versions = {opset.domain: opset.version for opset in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", onnx.defs.onnx_opset_version()))
    if opset < OLDEST_OPSET:
        raise SourceError(
            f"{where}: its operators are those of opset {opset}, and {OLDEST_OPSET} is the oldest that is read; "
            f"onnx.version_converter.convert_version(model, {OLDEST_OPSET + 6}) makes newer ones of them"
        )
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = _graph(model.graph, opset, where, chosen)
    if missing := _missing(graph.nodes):
        # Some are defined by others, which the standard states.
        parts = (name.rpartition(".") for name in missing)
        model = onnx.inliner.inline_selected_functions(
            model, [(domain, name) for domain, _, name in parts], inline_schema_functions=True
        )
        graph = _graph(model.graph, opset, where, chosen)
        missing = _missing(graph.nodes)
    if missing:
        whole = [name for name in graph.outputs if not _missing(sort(graph.nodes, [name], where))]
        advice = f"; these outputs need none of them, choose by source_output: {', '.join(map(repr, whole))}"
        helps = whole and len({*chosen}) < 2  # of two, none alone is what is wanted
        raise SourceError(
            f"{where}: it has operators that are not known: {', '.join(sorted(missing))}{advice if helps else ''}"
        )
    return graph


def _missing(nodes: Iterable[Node]) -> set[str]:
    return {name for name in operators(nodes) if name not in OPS}


def operators(nodes: Iterable[Node]) -> Iterator[str]:
    """Yields the operators of nodes, and of those in the graphs that they hold."""
    for node in nodes:
        yield node.op
        for part in node.attributes.values():
            if isinstance(part, Graph):
                yield from operators(part.nodes)


def _graph(graph: Any, opset: int, where: str, chosen: Sequence[str] = ()) -> Graph:
    constants = {tensor.name: array_of(tensor) for tensor in graph.initializer}
    if graph.sparse_initializer:
        raise SourceError(f"{where}: it has sparse weights, which are not known")
    inputs = {value.name: _spec(value) for value in graph.input if value.name not in constants}
    outputs = [value.name for value in graph.output]
    outputs = [name for name in outputs if name in chosen] or outputs
    nodes = sort([_node(node, opset, where) for node in graph.node], outputs, where)
    # PyTorch names what an operator could answer besides, whether anyone wants it or not.
    wanted = {*outputs, *(name for node in nodes for name in names_used(node))}
    named = [[name if name in wanted else "" for name in node.outputs] for node in nodes]
    nodes = [dataclasses.replace(node, outputs=names) for node, names in zip(nodes, named, strict=True)]
    return Graph(inputs, outputs, nodes, constants)


def _spec(value: Any) -> tf.TensorSpec:
    kind = value.type.tensor_type
    dtype = _dtype(kind.elem_type) if kind.elem_type else tf.float32
    if not kind.HasField("shape"):
        return tf.TensorSpec(None, dtype, name=value.name)
    edges = [edge.dim_value if edge.HasField("dim_value") and edge.dim_value > 0 else None for edge in kind.shape.dim]
    return tf.TensorSpec(edges, dtype, name=value.name)


def _dtype(number: int) -> tf.DType:
    """Returns the dtype of a number of ONNX's; halves are computed in float32, since their sums overflow."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    return tf.float32 if dtype.name in ("float16", "bfloat16") else tf.as_dtype(dtype)


def array_of(tensor: Any) -> Array:
    """Returns a `TensorProto`'s numbers: halves as float32, integers of 4 bits as 8."""
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype.kind == "f" or array.dtype.kind in "iub":
        return array.astype(np.float32) if array.dtype == np.float16 else array
    name = array.dtype.name
    if name in ("int4", "int2"):
        return array.astype(np.int8)
    if name in ("uint4", "uint2"):
        return array.astype(np.uint8)
    if name.startswith(("bfloat16", "float8", "float4")):
        return array.astype(np.float32)
    return array.astype(str) if array.dtype == object else array


def _node(node: Any, opset: int, where: str) -> Node:
    attributes = {one.name: _attribute(one, opset, where) for one in node.attribute}
    is_known = node.domain in _STANDARD or (node.domain in _DOMAINS and node.op_type in OPS)
    op = node.op_type if is_known else f"{node.domain}.{node.op_type}"
    return Node(op, node.name or (node.output[0] if node.output else ""), list(node.input),
                list(node.output), attributes, opset)  # fmt: skip


def _attribute(attribute: Any, opset: int, where: str) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in _DTYPE_ATTRIBUTES and isinstance(value, int):
        return _dtype(value) if value else None
    match value:
        case bytes():
            return value.decode(errors="replace")
        case onnx.TensorProto():
            return array_of(value)
        case onnx.GraphProto():
            return _graph(value, opset, where)
        case int() | float():
            return value
        case list():
            return [item.decode(errors="replace") if isinstance(item, bytes) else item for item in value]
    return value


def names_used(node: Node) -> Iterator[str]:
    """Yields the names of the values that a node takes, also in the graphs that it holds."""
    yield from (name for name in node.inputs if name)
    for part in node.attributes.values():
        if isinstance(part, Graph):
            inner = {*part.inputs, *part.constants, *(name for one in part.nodes for name in one.outputs)}
            taken = [*part.outputs, *(name for one in part.nodes for name in names_used(one))]
            yield from (name for name in taken if name not in inner)


def sort(nodes: Iterable[Node], outputs: Iterable[str], where: str) -> list[Node]:
    """Returns the nodes that outputs need, each after those that it needs; SourceError where that is a circle."""
    makers = {name: node for node in nodes for name in node.outputs if name}
    done: dict[int, bool] = {}  # whether a node is in the list, or still waits for others
    ordered: list[Node] = []
    for output in outputs:
        stack = [makers[output]] if output in makers else []
        while stack:
            node = stack[-1]
            waiting = done.setdefault(id(node), False)
            needed = [makers[name] for name in names_used(node) if name in makers]
            missing = [one for one in needed if not done.get(id(one))]
            if waiting or not missing:
                stack.pop()
            elif any(id(one) in done for one in missing):
                raise SourceError(f"{where}: its operators depend on each other in a circle, at {node.name!r}")
            else:
                stack.extend(missing)
            if not waiting and not missing:
                done[id(node)] = True
                ordered.append(node)
    return ordered
