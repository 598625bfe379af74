"""What a model's graph tells about it: its weights, whether it is random, how it begins and how it ends."""

import math
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from .segmentation_model import SegmentationModel

_RANDOM_OP = re.compile(
    r"Random|Stateful(Uniform|StandardNormal|TruncatedNormal)|TruncatedNormal|Multinomial|NonDeterministic|^Rng|"
    r"Fractional\w+Pool|SampleDistorted"
)
_SCALING_OPS = {"Add", "AddV2", "BiasAdd", "Div", "DivNoNan", "Mul", "RealDiv", "Sub"}
_PASSING_OPS = {
    "Cast", "ConcatV2", "ExpandDims", "GatherV2", "Identity", "MirrorPad", "Pack", "Pad", "PadV2", "Reshape",
    "ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2", "Split", "SplitV",
    "Squeeze", "StopGradient", "StridedSlice", "Transpose", "Unpack",
}  # fmt: skip
"""What leaves values as they are, or mixes those of neighbours."""


def count_constants(graph: graph_pb2.GraphDef) -> int:
    """Returns the number of weights that are constants of a graph or its functions: all but scalars and integers."""
    return sum(
        math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
        for node in _all_nodes(graph)
        if node.op == "Const"
        for tensor in [node.attr["value"].tensor]
        if tensor.tensor_shape.dim and (tf.as_dtype(tensor.dtype).is_floating or tf.as_dtype(tensor.dtype).size == 1)
    )


def weights_of(model: SegmentationModel) -> list[npt.NDArray[np.generic]]:
    """Returns the values of the variables that a model computes with, in the order in which it first uses them."""
    return [variable.numpy() for variable in model.traced.graph.variables]


def random_ops(model: SegmentationModel) -> list[str]:
    """Returns the names of the random ops in a model."""
    graph = model.traced.graph.as_graph_def()
    return sorted({node.op for node in _all_nodes(graph) if _RANDOM_OP.search(node.op)})


def ends_in(model: SegmentationModel, op: str) -> bool:
    """Whether an op is the last one of a model, but for what leaves its values as they are."""
    frozen = _freeze(model)
    if frozen is None:
        return False
    nodes = {node.name: node for node in frozen.graph.as_graph_def().node}
    node = nodes[frozen.outputs[0].op.name]
    while node.op in _PASSING_OPS:
        node = nodes[origin(node.input[0])]
    return node.op == op


def after_own_scaling(model: SegmentationModel, images: tf.Tensor) -> list[npt.NDArray[np.float32]]:
    """Returns what becomes of images in the additions and multiplications by constants that a model begins with.

    The values at each place where these end; nothing where the model does not begin so.
    """
    frozen = _freeze(model)
    if frozen is None:
        return []
    graph = frozen.graph.as_graph_def()
    ends = _ends_of_scaling(graph, frozen.inputs[0].op.name)
    if not ends:
        return []
    pruned = frozen.prune(frozen.inputs[0], [frozen.graph.get_tensor_by_name(name) for name in ends])
    return [np.asarray(values, np.float32) for values in pruned(images)]


def _ends_of_scaling(graph: graph_pb2.GraphDef, image: str) -> list[str]:
    """Returns the names of the tensors at which a graph's additions and multiplications of its input end."""
    data = {node.name: [name for name in node.input if not name.startswith("^")] for node in graph.node}
    ops = {node.name: node.op for node in graph.node}

    constants = {name for name, op in ops.items() if op == "Const"}
    size = 0
    while size < len(constants):
        size = len(constants)
        constants |= {name for name, inputs in data.items() if inputs and {*map(origin, inputs)} <= constants}

    reached: dict[str, bool] = {image: False}  # whether anything was added or multiplied on the way
    found = True
    while found:
        found = False
        for name, inputs in data.items():
            if name in reached or ops[name] not in _SCALING_OPS | _PASSING_OPS:
                continue
            images = [one for one in map(origin, inputs) if one in reached]
            scales = ops[name] in _SCALING_OPS
            if not images or (scales and len(images) > 1):
                continue
            if all(one in reached or one in constants for one in map(origin, inputs)):
                reached[name] = scales or any(reached[one] for one in images)
                found = True
    return sorted(
        {
            one if ":" in one else f"{one}:0"
            for name, inputs in data.items()
            if name not in reached
            for one in inputs
            if reached.get(origin(one))
        }
    )


def origin(name: str) -> str:
    """Returns the node that an input is of."""
    return name.lstrip("^").partition(":")[0]


def _freeze(model: SegmentationModel) -> tf.types.experimental.ConcreteFunction | None:
    try:
        return convert_variables_to_constants_v2(model.traced)
    except (ValueError, tf.errors.OpError):
        return None  # it holds more than variables


def _all_nodes(graph: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def
