"""Operators that join tensors, take pieces of them, and put more around them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, as_sizes, channels_last, is_sizes, pack, static
from ..pictures.convolution import convolve_back, window_of
from ..registry import Node, common_order, of_one_width, op
from .shapes import axes_of, rank_of, reshaped

_FAR = 2**31 - 1
"""What reaches beyond it means an end."""
_MOST_AXES = 8


@op("Concat")
def concat(node: Node, *values: Value) -> Value:
    """Returns values joined along an axis."""
    axis = node.get("axis", 0)
    if any(map(is_sizes, values)) and not any(isinstance(value, Tensor) for value in values):
        return np.concatenate([np.asarray(value, object) for value in values], axis)
    if axis in (0, -1) and _are_sizes(values):
        rows = [value.data if isinstance(value, Tensor) else value for value in values]
        return as_sizes([row[at] for row in rows for at in range(row.shape[0])])
    order = common_order(values)
    parts = of_one_width([node.in_order(value, order) for value in values])
    return Tensor(tf.concat(parts, order.index(axis % len(order))), order)


def _are_sizes(values: Sequence[Value]) -> bool:
    """Whether values are rows of sizes, or of as few integers, of which some are known and stay so."""
    if any(rank_of(value) != 1 or None in value.shape for value in values):
        return False
    known = [value for value in values if isinstance(value, np.ndarray) and value.dtype.kind == "i"]
    is_mixed = bool(known) and len(known) < len(values)
    return any(map(is_sizes, values)) or (is_mixed and sum(value.shape[0] or 0 for value in values) <= _MOST_AXES)


@op("Split")
def split(node: Node, x: Value, sizes: Value | None = None) -> list[Value]:
    """Returns pieces along an axis: of given sizes, or as equal as can be."""
    axis, count = node.get("axis", 0), node.get("num_outputs", len(node.outputs))
    parts: Any = node.get("split", count)
    if sizes is not None:
        parts = pack(sizes) if is_sizes(sizes) else static(sizes, "split").tolist()
    elif not node.get("split") and (edge := x.shape[axis]) is not None:
        longest = -(-edge // count)
        parts = [longest] * (count - 1) + [edge - longest * (count - 1)]
    return split_along(node, x, axis, parts, count)


def split_along(node: Node, x: Value, axis: int, parts: Any, count: int | None = None) -> list[Value]:
    """Returns pieces of sizes: a list, or a tensor or a number, of which the `count` is given."""
    if isinstance(x, np.ndarray) and isinstance(parts, list):
        return list(np.split(x, np.cumsum(parts)[:-1], axis))
    tensor = node.tensor(x)
    pieces = tf.split(tensor.data, parts, tensor.place(axis), count)
    return [Tensor(piece, tensor.order) for piece in pieces]


@op("Slice")
def slice_(
    node: Node, x: Value, starts: Value | None = None, ends: Value | None = None,
    axes: Value | None = None, steps: Value | None = None,
) -> Value:  # fmt: skip
    """Returns a part of each axis."""
    begin = _bounds(node.get("starts") if starts is None else starts)
    end = _bounds(node.get("ends") if ends is None else ends)
    chosen = axes_of(node, axes) or list(range(len(begin)))
    stride = [1] * len(begin) if steps is None else static(steps, "steps").tolist()
    rank = rank_of(x)
    cuts = {axis % rank: _cut(*numbers) for axis, *numbers in zip(chosen, begin, end, stride, strict=True)}
    if not isinstance(x, Tensor):
        fixed = not any(tf.is_tensor(edge) for cut in cuts.values() for edge in (cut.start, cut.stop))
        if fixed:
            return x[tuple(cuts.get(axis, slice(None)) for axis in range(rank))]
        x = node.tensor(x)
    return Tensor(x.data[tuple(cuts.get(axis, slice(None)) for axis in x.order)], x.order)


def _bounds(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        known = tf.get_static_value(value.data)
        if known is None:
            return [value.data[place] for place in range(value.data.shape[0])]
        value = known
    return [edge if tf.is_tensor(edge) else int(edge) for edge in value]


def _cut(begin: Any, end: Any, stride: int) -> slice:
    """Returns Python's slice, whose rules ONNX shares but for ends that are written as the largest integers."""
    begin, end = (
        tf.cast(tf.clip_by_value(tf.cast(edge, tf.int64), -_FAR, _FAR), tf.int32) if tf.is_tensor(edge) else edge
        for edge in (begin, end)
    )
    if isinstance(begin, int):
        begin = None if (begin >= _FAR if stride < 0 else begin <= -_FAR) else min(begin, _FAR)
    if isinstance(end, int):
        end = None if (end <= -_FAR if stride < 0 else end >= _FAR) else max(end, -_FAR)
    return slice(begin, end, stride if stride != 1 else None)


@op("Tile")
def tile(node: Node, x: Value, repeats: Value) -> Value:
    """Returns the numbers repeated along each axis."""
    tensor = node.tensor(x)
    counts = node.plain(repeats)
    return Tensor(tf.tile(tensor.data, tf.gather(counts, list(tensor.order))), tensor.order)


@op("Pad")
def pad(
    node: Node, x: Value, pads: Value | None = None, value: Value | None = None, axes: Value | None = None
) -> Value:
    """Returns the numbers with more around them, or fewer where the pads are negative."""
    tensor = node.tensor(x)
    flat = _bounds(node.get("pads") if pads is None else pads)
    chosen = [axis % tensor.rank for axis in axes_of(node, axes) or range(tensor.rank)]
    by_axis = {axis: [flat[at], flat[at + len(chosen)]] for at, axis in enumerate(chosen)}
    sides = [by_axis.get(axis, [0, 0]) for axis in tensor.order]
    data, mode = tensor.data, node.get("mode", "constant")
    if mode == "constant":
        number = node.get("value", 0.0) if value is None else tf.reshape(node.plain(value), [])
        known = [
            None if edge is None or any(map(tf.is_tensor, pair)) else edge + sum(pair)
            for edge, pair in zip(data.shape, sides, strict=True)
        ]
        data = tf.pad(_cropped(data, sides), _grown(sides), constant_values=tf.cast(number, data.dtype))
        data.set_shape(known)
    else:
        for place, (before, after) in enumerate(sides):
            if not (isinstance(before, int) and isinstance(after, int) and before == after == 0):
                data = _continued(data, place, before, after, mode)
    return Tensor(data, tensor.order)


def _cropped(data: Any, sides: list[list[Any]]) -> Any:
    cuts = [
        [max(-side, 0) if isinstance(side, int) else tf.maximum(-tf.cast(side, tf.int64), 0) for side in pair]
        for pair in sides
    ]
    if not any(tf.is_tensor(cut) or cut for pair in cuts for cut in pair):
        return data
    shape = tf.shape(data, tf.int64)
    ends = [-after or None if isinstance(after, int) else shape[at] - after for at, (_, after) in enumerate(cuts)]
    return data[tuple(slice(before, end) for (before, _), end in zip(cuts, ends, strict=True))]


def _grown(sides: list[list[Any]]) -> Any:
    grown = [
        [max(side, 0) if isinstance(side, int) else tf.maximum(tf.cast(side, tf.int32), 0) for side in pair]
        for pair in sides
    ]
    is_known = all(isinstance(side, int) for pair in grown for side in pair)
    return grown if is_known else tf.stack([tf.stack(pair) for pair in grown])


def _continued(data: Any, place: int, before: Any, after: Any, mode: str) -> Any:
    """Returns data continued along one axis: by its edge, by reflection, or by beginning again."""
    edge = data.shape[place] if data.shape[place] is not None else tf.shape(data)[place]
    before, after = (side if isinstance(side, int) else tf.cast(side, tf.int32) for side in (before, after))
    index = tf.range(-before, edge + after)
    match mode:
        case "edge":
            index = tf.clip_by_value(index, 0, edge - 1)
        case "wrap":
            index = tf.math.floormod(index, edge)
        case "reflect":
            period = tf.maximum(2 * (edge - 1), 1)
            index = tf.math.floormod(index, period)
            index = tf.minimum(index, period - index) % edge
        case _:
            raise ValueError(f"its mode {mode!r} is not known")
    return tf.gather(data, index, axis=place)


@op("DepthToSpace")
def depth_to_space(node: Node, x: Value) -> Value:
    """Returns a picture with blocks of its channels laid out as pixels."""
    tensor = node.tensor(x)
    block, data = node.get("blocksize"), tensor.in_order(channels_last(4))
    if node.get("mode", "DCR") == "CRD":
        # TensorFlow takes a block's rows and columns before the channels.
        channels = data.shape[3]
        order = np.arange(channels).reshape(-1, block * block).T.ravel()
        data = tf.gather(data, order, axis=3)
    return Tensor(tf.nn.depth_to_space(data, block), channels_last(4))


@op("SpaceToDepth")
def space_to_depth(node: Node, x: Value) -> Value:
    """Returns a picture with blocks of its pixels as channels."""
    tensor, block = node.tensor(x), node.get("blocksize")
    data = tf.nn.space_to_depth(tensor.in_order(channels_last(4)), block)
    if node.get("mode", "DCR") == "CRD":
        data = tf.gather(data, np.arange(data.shape[3]).reshape(block * block, -1).T.ravel(), axis=3)
    return Tensor(data, channels_last(4))


@op("Col2Im")
def put_together(node: Node, x: Value, size: Value, window: Value) -> Value:
    """Returns the picture [B, C, H, W] of windows [B, C h w, L]: their sum where they overlap, 0 where none is."""
    tensor, edges, kernel = node.tensor(x), _bounds(size), _bounds(window)
    if len(kernel) != 2:
        raise ValueError(f"it has {len(kernel)} axes beside batch and channels; 2 are known")
    area, (strides, dilations, pads) = math.prod(kernel), window_of(node, kernel, [None, None])
    reaches = [(many - 1) * dilation + 1 for many, dilation in zip(kernel, dilations, strict=True)]
    free = [edge + sum(pair) - reach for edge, pair, reach in zip(edges, pads or [], reaches, strict=True)]
    counts = [more // stride + 1 for more, stride in zip(free, strides, strict=True)]
    channels = -1 if tensor.shape[1] is None else tensor.shape[1] // area
    whole = [tensor.size(0), channels, *edges]
    is_free = any(map(tf.is_tensor, edges))
    if strides == reaches == kernel and pads == [[0, 0]] * 2 and (is_free or not any(map(math.fmod, edges, kernel))):
        blocks = reshaped(tensor, [tensor.size(0), channels, *kernel, *counts])
        return reshaped(blocks.permuted([0, 1, 4, 2, 5, 3]), whole)
    if is_free:
        raise ValueError("windows that overlap, or leave something out, need a fixed size")
    # Each place of the window is a channel, of which the transposed convolution puts each number at its place.
    behind = [more % stride for more, stride in zip(free, strides, strict=True)]
    back = dataclasses.replace(node, attributes={**node.attributes, "output_padding": behind})
    weights = np.eye(area, dtype=tensor.data.dtype.as_numpy_dtype).reshape(area, 1, *kernel)
    return reshaped(convolve_back(back, reshaped(tensor, [-1, area, *counts]), weights), whole)
