"""Operators of sequences: lists of values, whose length is known. A list in a list is one answer, not several."""

import numpy as np

from ...values import Array, Value, static
from ..registry import Node, op
from .pieces import concat, split_along
from .shapes import squeeze, unsqueeze

Sequence = list[Value]


@op("SequenceConstruct")
def construct(node: Node, *values: Value) -> list[Sequence]:
    """Returns values as a sequence."""
    return [list(values)]


@op("SequenceEmpty")
def empty(node: Node) -> list[Sequence]:
    """Returns a sequence of nothing."""
    return [[]]


@op("SequenceLength")
def length(node: Node, values: Sequence) -> Array:
    """Returns how many values there are."""
    return np.array(len(values), np.int64)


@op("SequenceAt")
def at(node: Node, values: Sequence, position: Value) -> Value:
    """Returns one of the values; those before 0 count from the end."""
    return values[int(static(position, "position").item())]


@op("SequenceInsert")
def insert(node: Node, values: Sequence, value: Value, position: Value | None = None) -> list[Sequence]:
    """Returns the values with another before one of them, or behind all."""
    place = len(values) if position is None else int(static(position, "position").item())
    return [[*values[:place], value, *values[place:]]]


@op("SplitToSequence")
def split(node: Node, x: Value, sizes: Value | None = None) -> list[Sequence]:
    """Returns pieces along an axis: of given sizes, or of one but for the last; those of 1 also without the axis."""
    axis = node.get("axis", 0)
    edge = x.shape[axis]
    parts = np.array(1) if sizes is None else static(sizes, "split")
    if parts.ndim:
        return [split_along(node, x, axis, parts.tolist())]
    if edge is None:
        raise ValueError("the number of its pieces depends on the picture")
    values = split_along(node, x, axis, [min(int(parts), edge - start) for start in range(0, edge, int(parts))])
    if parts == 1 and not node.get("keepdims", 1):
        # PyTorch's exporter gives the 1 as well, where ONNX would keep the axis; onnxruntime leaves it out, too.
        values = [squeeze(node, value, np.array([axis])) for value in values]
    return [values]


@op("ConcatFromSequence")
def join(node: Node, values: Sequence) -> Value:
    """Returns the values joined along an axis, which may be a new one."""
    if node.get("new_axis", 0):
        values = [unsqueeze(node, value, np.array([node.get("axis")])) for value in values]
    return concat(node, *values)
