"""Operators that look numbers up, write some, or find where they are."""

from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, is_sizes, static, wrap
from ..registry import Node, op, plain
from .shapes import rank_of


def from_start(indices: Any, edge: Any) -> Any:
    """Returns indices that count from the start, where negative ones count from the end."""
    known = tf.get_static_value(indices)
    if known is not None and (known >= 0).all():
        return indices
    return tf.where(indices < 0, indices + tf.cast(edge, indices.dtype), indices)


@op("Gather")
def gather(node: Node, x: Value, indices: Value) -> Value:
    """Returns the slices along an axis that the indices name."""
    axis = node.get("axis", 0)
    axis += rank_of(x) if axis < 0 else 0
    if isinstance(x, np.ndarray) and isinstance(indices, np.ndarray) and x.ndim == 1 and not is_sizes(indices):
        if not is_sizes(x):
            return np.asarray(np.take(x, indices))
        sizes = np.empty(indices.shape, object)
        for at in np.ndindex(indices.shape):
            sizes[at] = x[indices[at]]
        return sizes
    tensor, index = node.tensor(x), node.plain(indices)
    place = tensor.place(axis)
    if index.shape.rank == 0:
        known = tf.get_static_value(index)
        rest = [other for other in tensor.order if other != axis]
        order = tuple(sorted(rest).index(other) for other in rest)
        if known is not None:
            return Tensor(tensor.data[(slice(None),) * place + (int(known),)], order)
        return Tensor(tf.gather(tensor.data, from_start(index, tensor.size(axis)), axis=place), order)
    if index.shape.rank == 1:
        return Tensor(tf.gather(tensor.data, from_start(index, tensor.size(axis)), axis=place), tensor.order)
    return wrap(tf.gather(node.plain(x), from_start(index, tensor.size(axis)), axis=axis))


@plain("GatherElements")
def gather_elements(node: Node, x: Any, indices: Any) -> Any:
    """Returns for each index the number at its own place on all axes but one."""
    axis = node.get("axis", 0) % x.shape.rank
    return tf.gather_nd(x, _places(x, indices, axis))


def _places(x: Any, indices: Any, axis: int) -> Any:
    """Returns the coordinates that indices along one axis stand for, int64 [..., rank]."""
    indices = from_start(tf.cast(indices, tf.int64), tf.shape(x)[axis])
    shape = tf.shape(indices, tf.int64)
    rank = indices.shape.rank
    grids = []
    for at in range(rank):
        ramp = tf.reshape(tf.range(shape[at]), [-1 if other == at else 1 for other in range(rank)])
        grids.append(indices if at == axis else tf.broadcast_to(ramp, shape))
    return tf.stack(grids, -1)


@plain("GatherND")
def gather_nd(node: Node, x: Any, indices: Any) -> Any:
    """Returns the slices that coordinates name."""
    batch = node.get("batch_dims", 0)
    depth = indices.shape[-1]
    indices = from_start(indices, tf.shape(x)[batch : batch + depth])
    return tf.gather_nd(x, indices, batch_dims=batch)


@plain("ScatterND")
def scatter_nd(node: Node, x: Any, indices: Any, updates: Any) -> Any:
    """Returns the numbers with others written at coordinates, or combined with what is there."""
    depth = indices.shape[-1]
    return _written(node, x, from_start(indices, tf.shape(x)[:depth]), updates)


@plain("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Any, indices: Any, updates: Any) -> Any:
    """Returns the numbers with others written at indices along an axis, at their own place on all others."""
    axis = node.get("axis", 0) % x.shape.rank
    return _written(node, x, _places(x, indices, axis), updates)


def _written(node: Node, x: Any, places: Any, updates: Any) -> Any:
    how = node.get("reduction", "none")
    if how == "mul":
        ones = tf.ones_like(x)
        # TensorFlow multiplies nothing while it writes; several numbers for one place are multiplied one by one.
        rows = tf.reshape(places, [-1, places.shape[-1]])
        flat = tf.reshape(updates, tf.concat([tf.shape(rows)[:1], tf.shape(x)[places.shape[-1] :]], 0))

        def step(at: Any, product: Any) -> Any:
            here = tf.gather_nd(product, rows[at : at + 1])
            return at + 1, tf.tensor_scatter_nd_update(product, rows[at : at + 1], here * flat[at : at + 1])

        count = tf.shape(rows)[0]
        return x * tf.while_loop(lambda at, _: at < count, step, [tf.constant(0), ones])[1]
    functions = {
        "none": tf.tensor_scatter_nd_update, "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max, "min": tf.tensor_scatter_nd_min,
    }  # fmt: skip
    return functions[how](x, places, updates)


@plain("NonZero")
def non_zero(node: Node, x: Any) -> Any:
    """Returns the coordinates of what is not 0, a row for each axis."""
    return tf.transpose(tf.where(tf.not_equal(x, tf.zeros([], x.dtype))))


@plain("Compress")
def compress(node: Node, x: Any, condition: Any) -> Any:
    """Returns the slices along an axis for which a condition holds."""
    axis = node.get("axis")
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    axis %= x.shape.rank
    return tf.gather(x, tf.where(condition)[:, 0], axis=axis)


@plain("OneHot")
def one_hot(node: Node, indices: Any, depth: Any, values: Any) -> Any:
    """Returns one of two values at each place along a new axis: on at the index."""
    depth = tf.cast(tf.reshape(depth, []), tf.int64)
    indices = from_start(tf.cast(indices, tf.int64), depth)
    axis = node.get("axis", -1) % (indices.shape.rank + 1)
    return tf.one_hot(indices, tf.cast(depth, tf.int32), values[1], values[0], axis, values.dtype)


@plain("TopK")
def top_k(node: Node, x: Any, k: Any = None) -> Any:
    """Returns the largest or smallest numbers along an axis, and where they were; before opset 10 k is an attribute."""
    k = node.get("k") if k is None else k
    axis, rank = node.get("axis", -1) % x.shape.rank, x.shape.rank
    order = [*(other for other in range(rank) if other != axis), axis]
    moved = tf.transpose(x, order)
    count = tf.cast(tf.reshape(k, []), tf.int32)
    if node.get("largest", 1):
        values, indices = tf.math.top_k(moved, count)
    else:
        values, indices = tf.math.top_k(-moved, count)
        values = -values
    back = [order.index(other) for other in range(rank)]
    return tf.transpose(values, back), tf.cast(tf.transpose(indices, back), tf.int64)


@plain("Trilu")
def triangle(node: Node, x: Any, k: Any = None) -> Any:
    """Returns matrices with 0 below a diagonal, or above it."""
    offset = 0 if k is None else int(static(wrap(k), "k").ravel()[0])
    rows, columns = tf.shape(x)[-2], tf.shape(x)[-1]
    distance = tf.range(columns) - tf.range(rows)[:, tf.newaxis]
    kept = distance >= offset if node.get("upper", 1) else distance <= offset
    return tf.where(kept, x, tf.zeros([], x.dtype))


@plain("EyeLike")
def eye_like(node: Node, x: Any) -> Any:
    """Returns a matrix of the same size with ones on a diagonal."""
    rows, columns = tf.shape(x)[0], tf.shape(x)[1]
    is_one = tf.equal(tf.range(columns) - tf.range(rows)[:, tf.newaxis], node.get("k", 0))
    return tf.cast(is_one, node.get("dtype", x.dtype))


@plain("CumSum")
def cumulative_sum(node: Node, x: Any, axis: Any) -> Any:
    """Returns running sums along an axis."""
    place = int(static(wrap(axis), "axis").ravel()[0])
    return tf.cumsum(x, place, bool(node.get("exclusive", 0)), bool(node.get("reverse", 0)))
