"""Operators that make one number of many along some axes, or weigh them against each other."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ....conversion import mean
from ...values import Tensor, Value, as_sizes, static
from ..registry import OPS, Node, op

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, axes, keepdims: tf.reduce_sum(tf.abs(x), axes, keepdims),
    "ReduceL2": lambda x, axes, keepdims: tf.sqrt(tf.reduce_sum(tf.square(x), axes, keepdims)),
    "ReduceLogSum": lambda x, axes, keepdims: tf.math.log(tf.reduce_sum(x, axes, keepdims)),
    "ReduceLogSumExp": tf.reduce_logsumexp,
    "ReduceMax": lambda x, axes, keepdims: (tf.reduce_any if x.dtype == tf.bool else tf.reduce_max)(x, axes, keepdims),
    "ReduceMean": mean,
    "ReduceMin": lambda x, axes, keepdims: (tf.reduce_all if x.dtype == tf.bool else tf.reduce_min)(x, axes, keepdims),
    "ReduceProd": tf.reduce_prod,
    "ReduceSum": tf.reduce_sum,
    "ReduceSumSquare": lambda x, axes, keepdims: tf.reduce_sum(tf.square(x), axes, keepdims),
}


def without(order: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    """Returns the order of the axes that are left once some are gone."""
    kept = [axis for axis in order if axis not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _reduce(name: str) -> None:
    function = _REDUCTIONS[name]

    def handler(node: Node, x: Value, axes: Value | None = None) -> Value:
        if name == "ReduceProd" and isinstance(x, np.ndarray) and x.dtype == object and axes is None and x.ndim == 1:
            return _product(node, x)
        tensor = node.tensor(x)
        given = node.get("axes") if axes is None else static(axes, "axes").ravel().tolist()
        if not given and node.get("noop_with_empty_axes", 0):
            given = []
        elif not given:
            given = range(tensor.rank)
        chosen = [axis % tensor.rank for axis in given]
        keeps = bool(node.get("keepdims", 1))
        result = function(tensor.data, [tensor.place(axis) for axis in chosen], keepdims=keeps)
        return Tensor(result, tensor.order if keeps else without(tensor.order, chosen))

    OPS[name] = handler


def _product(node: Node, sizes: Any) -> Any:
    return as_sizes([functools.reduce(operator.mul, sizes)]).reshape([1] if node.get("keepdims", 1) else [])


for _name in _REDUCTIONS:
    _reduce(_name)


@op("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Value) -> Tensor:
    """Returns where along an axis the largest or the smallest number is: the first, or the last of equal ones."""
    tensor = node.tensor(x)
    axis = node.get("axis", 0) % tensor.rank
    place, data = tensor.place(axis), tensor.data
    find = tf.argmax if node.op == "ArgMax" else tf.argmin
    if node.get("select_last_index", 0):
        last = tf.shape(data, tf.int64)[place] - 1
        found = last - find(tf.reverse(data, [place]), place)
    else:
        found = find(data, place)
    if node.get("keepdims", 1):
        return Tensor(tf.expand_dims(found, place), tensor.order)
    return Tensor(found, without(tensor.order, [axis]))


@op("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x: Value) -> Tensor:
    """Returns shares that add up to 1 along an axis; before opset 13 along all from it on."""
    tensor = node.tensor(x)
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    axis += tensor.rank if axis < 0 else 0
    axes = [axis] if node.opset >= 13 else list(range(axis, tensor.rank))
    if len([at for at in axes if tensor.shape[at] != 1]) <= 1:
        axes = [next((at for at in axes if tensor.shape[at] != 1), axes[0] if axes else axis)]
        return Tensor(_shares(node.op, tensor.data, tensor.place(axes[0])), tensor.order)
    data = node.plain(tensor)
    rows = tf.reshape(data, tf.concat([tf.shape(data)[:axis], [-1]], 0))
    shares = tf.reshape(_shares(node.op, rows, -1), tf.shape(data))
    return Tensor(tf.ensure_shape(shares, data.shape), tuple(range(tensor.rank)))


def _shares(name: str, data: Any, place: int) -> Any:
    if name == "Hardmax":
        place %= data.shape.rank
        return tf.one_hot(tf.argmax(data, place), tf.shape(data)[place], axis=place, dtype=data.dtype)
    # TensorFlow swaps an axis that is not the last one with it; so the fewest numbers are moved where it is.
    return (tf.nn.softmax if name == "Softmax" else tf.nn.log_softmax)(data, place)
