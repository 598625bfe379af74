"""Operators that move numbers, or tell how many there are, and compute nothing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Array, Order, Tensor, Value, as_sizes, is_sizes, natural, pack, static, wrap
from ..registry import Node, of_one_width, op, plain


def rank_of(value: Value) -> int:
    """Returns the number of axes."""
    return value.rank if isinstance(value, Tensor) else value.ndim


@op("Identity", "Dropout")
def identity(node: Node, x: Value, *_: Value | None) -> Any:
    """Returns what it is given; Dropout also a mask that nothing is left out by."""
    if len(node.outputs) > 1 and node.outputs[1]:
        return [x, wrap(tf.ones(tf.shape(node.plain(x)), tf.bool))]
    return [x]  # which may be a sequence


@op("Shape")
def shape(node: Node, x: Value) -> Array:
    """Returns the sizes of the axes, or of some of them."""
    every = [x.size(axis) for axis in range(x.rank)] if isinstance(x, Tensor) else list(x.shape)
    return as_sizes(every[slice(node.get("start", 0), node.get("end"))])


@op("Size")
def size(node: Node, x: Value) -> Any:
    """Returns how many numbers there are."""
    if isinstance(x, Tensor) and None in x.shape:
        return wrap(tf.size(x.data, tf.int64))
    return np.array(math.prod(edge or 0 for edge in x.shape), np.int64)


@op("Cast", "CastLike")
def cast(node: Node, x: Value, like: Value | None = None) -> Any:
    """Returns numbers of another dtype; halves become float32."""
    if like is not None:
        dtype = like.data.dtype if isinstance(like, Tensor) else tf.int64 if is_sizes(like) else tf.as_dtype(like.dtype)
    else:
        dtype = node.get("to")
    if is_sizes(x):
        if dtype in (tf.int64, tf.int32):
            return x
        x = wrap(pack(x))
    tensor = node.tensor(x)
    data = tensor.data
    if dtype == tf.bool:
        return Tensor(tf.not_equal(data, tf.zeros([], data.dtype)), tensor.order)
    return Tensor(tf.cast(data, dtype), tensor.order)


@op("Transpose")
def transpose(node: Node, x: Value) -> Value:
    """Returns the same numbers; only what their axes mean changes."""
    permutation = node.get("perm", list(reversed(range(rank_of(x)))))
    return x.permuted(permutation) if isinstance(x, Tensor) else x.transpose(permutation)


@op("Reshape")
def reshape(node: Node, x: Value, wanted: Value | None = None) -> Value:
    """Returns the same numbers on other axes: in their own order where the axes allow it."""
    if isinstance(wanted, Tensor):
        known = tf.get_static_value(wanted.data)
        wanted = known if known is not None else wanted
    if isinstance(wanted, Tensor):
        return wrap(tf.reshape(node.plain(x), wanted.data))
    edges = list(node.get("shape") if wanted is None else wanted)
    if not isinstance(x, Tensor):
        edges = [
            x.shape[at] if _is(edge, 0) and not node.get("allowzero", 0) else edge for at, edge in enumerate(edges)
        ]
        if is_sizes(x) or not any(tf.is_tensor(edge) for edge in edges):
            return x.reshape([int(edge) for edge in edges])
        return wrap(tf.reshape(node.plain(x), pack(as_sizes(edges))))
    if not node.get("allowzero", 0):
        edges = [x.size(at) if _is(edge, 0) else edge for at, edge in enumerate(edges)]
    return reshaped(x, edges)


def _is(edge: Any, number: int) -> bool:
    return not tf.is_tensor(edge) and int(edge) == number


def _is_free(edge: Any) -> bool:
    return tf.is_tensor(edge) or edge == -1


def reshaped(x: Tensor, edges: Sequence[Any]) -> Tensor:
    """Returns a tensor with other axes; edges are ints, one of them may be -1, or scalars."""
    target = [edge if tf.is_tensor(edge) else int(edge) for edge in edges]
    if None not in x.shape and not any(map(tf.is_tensor, target)) and -1 in target:
        rest = math.prod(edge for edge in target if edge != -1)
        target[target.index(-1)] = math.prod(edge or 0 for edge in x.shape) // rest if rest else 0
    groups = _groups(x.shape, [None if _is_free(edge) else edge for edge in target])
    by_first = sorted(groups, key=lambda group: x.order.index(group[0][0]) if group[0] else -1)
    before = tuple(axis for group in by_first for axis in group[0])
    after: Order = tuple(axis for group in by_first for axis in group[1])
    data, stored = x.in_order(before), [target[axis] for axis in after]
    if all(isinstance(edge, int) for edge in stored):
        return Tensor(tf.reshape(data, stored), after)
    if sum(map(_is_free, stored)) == 1 and not any(_is(edge, 0) for edge in stored):
        # The one that is not known can be told from the others.
        return Tensor(tf.reshape(data, [-1 if tf.is_tensor(edge) else edge for edge in stored]), after)
    return Tensor(tf.reshape(data, pack(as_sizes(stored), tf.int32)), after)


def _groups(before: Sequence[int | None], after: Sequence[int | None]) -> list[tuple[list[int], list[int]]]:
    """Parts axes into groups, each of which becomes one of the new axes' groups: what a reshape leaves apart.

    Sizes are None where they are not known; between groups that are certain everything else is one.
    """
    front: list[tuple[list[int], list[int]]] = []
    i, j = 0, 0
    while group := _next_group(before, after, i, j, 1):
        front.append(group)
        i, j = i + len(group[0]), j + len(group[1])
    back: list[tuple[list[int], list[int]]] = []
    m, n = len(before), len(after)
    while m > i and n > j and (group := _next_group(before[i:m][::-1], after[j:n][::-1], 0, 0, 1)):
        back.append(([m - 1 - at for at in group[0]][::-1], [n - 1 - at for at in group[1]][::-1]))
        m, n = m - len(group[0]), n - len(group[1])
    rest = (list(range(i, m)), list(range(j, n)))
    if not rest[0] and rest[1]:
        # New axes of size 1 need no axis to come from, but a place.
        neighbours = back if back else front
        group = neighbours.pop() if neighbours else ([], [])  # none of a single number
        merged = (group[0], sorted(group[1] + rest[1]))
        neighbours.append(merged)
        rest = ([], [])
    if rest[0] and not rest[1]:
        neighbours = back if back else front
        if not neighbours:
            return [(rest[0], [])]
        group = neighbours.pop()
        neighbours.append((sorted(group[0] + rest[0]), group[1]))
        rest = ([], [])
    return [*front, *([rest] if rest[0] or rest[1] else []), *reversed(back)]


def _next_group(
    before: Sequence[int | None], after: Sequence[int | None], i: int, j: int, least: int
) -> tuple[list[int], list[int]] | None:
    """Returns the smallest groups of axes from i and j on that hold as many numbers; None where that is not known."""
    one, other, p, q = 1, 1, i, j
    while p < len(before) or q < len(after):
        if one <= other and p < len(before) and (one < other or p == i):
            edge, p = before[p], p + 1
            if edge is None:
                return None
            one *= edge
        elif q < len(after):
            edge, q = after[q], q + 1
            if edge is None:
                return None
            other *= edge
        else:
            return None
        if one == other and p > i and q > j and one:
            return list(range(i, p)), list(range(j, q))
        if not one or not other:
            return None
    return None


@op("Flatten")
def flatten(node: Node, x: Value) -> Value:
    """Returns a matrix: the axes before `axis`, and those from it on."""
    tensor = node.tensor(x)
    axis = node.get("axis", 1)
    axis += tensor.rank if axis < 0 else 0
    if axis == 1:
        return reshaped(tensor, [tensor.size(0), -1])
    rows = [tensor.size(at) for at in range(axis)]
    return reshaped(tensor, [math.prod(rows) if rows else 1, -1])


def axes_of(node: Node, axes: Value | None) -> Any:
    """Returns the axes that are an input, or before that an attribute; None where neither is given."""
    if axes is None:
        return node.get("axes")
    return [int(axis) for axis in static(axes, "axes").ravel()]


@op("Squeeze")
def squeeze(node: Node, x: Value, axes: Value | None = None) -> Value:
    """Returns the numbers without axes of size 1."""
    sizes = x.shape
    chosen = axes_of(node, axes)
    gone = [axis % len(sizes) for axis in chosen] if chosen else [at for at, edge in enumerate(sizes) if edge == 1]
    if not isinstance(x, Tensor):
        return np.squeeze(x, tuple(gone))
    kept = [axis for axis in x.order if axis not in gone]
    order = tuple(sorted(kept).index(axis) for axis in kept)
    return Tensor(tf.squeeze(x.data, [x.place(axis) for axis in gone]) if gone else x.data, order)


@op("Unsqueeze")
def unsqueeze(node: Node, x: Value, axes: Value | None = None) -> Value:
    """Returns the numbers with new axes of size 1."""
    new = axes_of(node, axes) or []
    rank = rank_of(x) + len(new)
    new = sorted(axis % rank for axis in new)
    if not isinstance(x, Tensor):
        return np.expand_dims(x, tuple(new))
    old = [axis for axis in range(rank) if axis not in new]
    data = x.data[(tf.newaxis,) * len(new)]
    return Tensor(data, (*new, *(old[axis] for axis in x.order)))


@op("Expand")
def expand(node: Node, x: Value, sizes: Value) -> Value:
    """Returns the numbers repeated along axes of size 1."""
    if isinstance(sizes, Tensor):
        data = node.plain(x)
        return wrap(tf.broadcast_to(data, tf.broadcast_dynamic_shape(tf.shape(data, tf.int64), sizes.data)))
    wanted = [edge if tf.is_tensor(edge) else int(edge) for edge in sizes]
    tensor = node.tensor(x)
    rank = max(tensor.rank, len(wanted))
    wanted = [1] * (rank - len(wanted)) + wanted
    known = [1] * (rank - tensor.rank) + [tensor.size(axis) for axis in range(tensor.rank)]
    edges = [_spread(old, new) for old, new in zip(known, wanted, strict=True)]
    order = tensor.order if tensor.rank == rank else natural(rank)
    return Tensor(tf.broadcast_to(node.in_order(x, order), pack(as_sizes([edges[axis] for axis in order]))), order)


def _spread(old: Any, new: Any) -> Any:
    """Returns the size of an axis that is repeated where it is 1; scalars where they are not known."""
    if isinstance(old, int):
        return new if old == 1 else old
    if isinstance(new, int):
        return new if new > 1 else old  # no other size than 1 could become another
    return tf.maximum(old, tf.cast(new, tf.int64))


@op("ConstantOfShape")
def constant_of_shape(node: Node, sizes: Value) -> Value:
    """Returns one number as often as the sizes ask for."""
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).ravel()[0]
    shape = pack(sizes) if isinstance(sizes, np.ndarray) else sizes.data
    return wrap(tf.fill(shape, value))


@plain("Range")
def range_(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    """Returns numbers that are as far apart each time."""
    return tf.range(*(tf.reshape(one, []) for one in of_one_width([start, limit, delta])))
