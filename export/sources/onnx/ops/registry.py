"""The table of operators, and the ways in which their functions want what they compute with."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..values import Array, Order, Tensor, Value, channels_last, is_sizes, natural, pack, wrap

Handler = Callable[..., Any]
OPS: dict[str, Handler] = {}
"""By the operator's name: takes a `Node` and its inputs, None for those left out; returns one value, or several."""

_SMALL = 64
"""Elements; constants of no more stay in the graph, where TensorFlow can compute with them beforehand."""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One step of a graph.

    Attributes:
        op: the operator's name.
        name: of the node, for people.
        inputs: names of values; empty ones are left out.
        outputs: names of values; empty ones nobody wants.
        attributes: Python numbers, texts and lists of them; arrays; graphs.
        opset: the version of ONNX's operators.
        weight: makes a tensor of an array, which may be a variable.
        run_graph: runs a graph that is an attribute, with the values around it in sight.
    """

    op: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: dict[str, Any]
    opset: int
    weight: Callable[[Array], Any] = tf.constant
    run_graph: Callable[..., list[Value]] = lambda graph, feeds: []

    def get(self, name: str, default: Any = None) -> Any:
        """Returns an attribute."""
        return self.attributes.get(name, default)

    def tensor(self, value: Value) -> Tensor:
        """Returns a value as a tensor; a large constant becomes a variable."""
        if isinstance(value, Tensor):
            return value
        if is_sizes(value):
            return wrap(pack(value))
        return wrap(self.weight(value) if value.size > _SMALL else tf.constant(value))

    def plain(self, value: Value) -> Any:
        """Returns a value's data in ONNX's order of axes."""
        tensor = self.tensor(value)
        return tensor.in_order(natural(tensor.rank))

    def in_order(self, value: Value, order: Order, spreads: bool = False) -> Any:
        """Returns a value's data in an order of axes; one of a lower rank gets sizes of 1 in front.

        With `spreads` a constant loses such sizes, as far as its numbers are spread over another tensor anyway.
        """
        missing = len(order) - (value.rank if isinstance(value, Tensor) else value.ndim)
        if isinstance(value, Tensor) and not missing:
            return value.in_order(order)
        if isinstance(value, Tensor) or is_sizes(value):
            data = self.plain(value)[(tf.newaxis,) * missing]
            return data if order == natural(len(order)) else tf.transpose(data, order)
        array = value.reshape([1] * missing + list(value.shape)).transpose(order)
        edges = list(array.shape)
        while spreads and edges and edges[0] == 1:
            edges.pop(0)
        return self.tensor(array.reshape(edges)).data


def op(*names: str) -> Callable[[Handler], Handler]:
    """Registers a function that takes values as they are."""

    def register(function: Handler) -> Handler:
        OPS.update(dict.fromkeys(names, function))
        return function

    return register


def plain(*names: str) -> Callable[[Handler], Handler]:
    """Registers a function of TensorFlow's tensors, all in ONNX's order of axes."""

    def register(function: Handler) -> Handler:
        @functools.wraps(function)
        def handler(node: Node, *values: Value | None) -> Any:
            return _wrapped(function(node, *(None if value is None else node.plain(value) for value in values)), wrap)

        OPS.update(dict.fromkeys(names, handler))
        return function

    return register


def elementwise(*names: str) -> Callable[[Handler], Handler]:
    """Registers a function of tensors of TensorFlow's, whose axes it does not tell apart: they come in one order."""

    def register(function: Handler) -> Handler:
        @functools.wraps(function)
        def handler(node: Node, *values: Value | None) -> Any:
            order = common_order([value for value in values if value is not None])
            # A tensor has all axes, so that constants need no sizes of 1 in front. TensorFlow fuses them with products
            # as a bias, and then wants them so.
            spreads = any(isinstance(value, Tensor) and value.rank == len(order) for value in values)
            data = [None if value is None else node.in_order(value, order, spreads) for value in values]
            if node.op != "Pow":  # an exponent may have a width of its own
                data = of_one_width(data)
            return _wrapped(function(node, *data), lambda result: Tensor(result, order))

        OPS.update(dict.fromkeys(names, handler))
        return function

    return register


def spatial(*names: str) -> Callable[[Handler], Handler]:
    """Registers a function whose first tensor has its channels last, as its answer has; the others are as they are."""

    def register(function: Handler) -> Handler:
        @functools.wraps(function)
        def handler(node: Node, first: Value, *others: Value | None) -> Any:
            tensor = node.tensor(first)
            order = channels_last(tensor.rank)
            return _wrapped(function(node, tensor.in_order(order), *others), lambda result: Tensor(result, order))

        OPS.update(dict.fromkeys(names, handler))
        return function

    return register


def of_one_width(data: list[Any]) -> list[Any]:
    """Returns tensors with all integers as int32 where some are: sizes are int64 here, whatever files make of them."""
    dtypes = {one.dtype for one in data if one is not None}
    if not {tf.int32, tf.int64} <= dtypes:
        return data
    return [tf.cast(one, tf.int32) if one is not None and one.dtype == tf.int64 else one for one in data]


def common_order(values: Sequence[Value]) -> Order:
    """Returns the order of axes in which the fewest numbers have to be moved for values that meet."""
    ranks = [value.rank if isinstance(value, Tensor) else value.ndim for value in values]
    rank = max(ranks)
    full = [value for value in values if isinstance(value, Tensor) and value.rank == rank]
    if not full:
        return natural(rank)
    # What is spread over the others has sizes of 1; of equals, the one that is not in ONNX's order is of a picture.
    return max(full, key=lambda value: (sum(edge != 1 for edge in value.shape), value.order != natural(rank))).order


def _wrapped(results: Any, wrapper: Callable[[Any], Tensor]) -> Any:
    if isinstance(results, list | tuple):
        return [result if isinstance(result, Tensor | np.ndarray | None) else wrapper(result) for result in results]
    return results if isinstance(results, Tensor | np.ndarray) else wrapper(results)
