"""Operators that look at a picture between its pixels."""

from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, channels_last, static
from ..registry import Node, op, plain
from .convolution import window_of
from .resize import cubic_weight

Taps = list[tuple[Any, Any]]
"""Whole coordinates [B, h, w], and what each weighs."""


@plain("GridSample")
def grid_sample(node: Node, x: Any, grid: Any) -> Any:
    """Returns a picture [B, C, H, W] sampled at the places [B, h, w, 2] of a grid, x before y, within [-1, 1]."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    if x.shape.rank != 4:
        raise ValueError("GridSample is known for pictures, not for volumes")
    picture = tf.transpose(x, [0, 2, 3, 1])
    edges = [tf.shape(picture)[2], tf.shape(picture)[1]]
    places = []
    for at, edge in enumerate(edges):
        span = tf.cast(edge, grid.dtype)
        if node.get("align_corners", 0):
            places.append((grid[..., at] + 1) / 2 * (span - 1))
        else:
            places.append(((grid[..., at] + 1) * span - 1) / 2)
    weights = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode]
    return tf.transpose(_sampled(node, picture, weights(places[1]), weights(places[0])), [0, 3, 1, 2])


def _sampled(node: Node, picture: Any, rows: Taps, columns: Taps) -> Any:
    """Returns sums of pixels [B, h, w, C]: of those in some rows and columns, each with its weight."""
    result: Any = 0
    for row, row_weight in rows:
        for column, column_weight in columns:
            result += _looked_up(node, picture, row, column) * (row_weight * column_weight)[..., tf.newaxis]
    return result


def _nearest(place: Any) -> Taps:
    return [(tf.round(place), tf.ones_like(place))]


def _linear(place: Any) -> Taps:
    low = tf.floor(place)
    return [(low, low + 1 - place), (low + 1, place - low)]


def _cubic(place: Any) -> Taps:
    low = tf.floor(place)
    return [(low + step, cubic_weight(place - low - step, -0.75)) for step in (-1, 0, 1, 2)]


def _looked_up(node: Node, picture: Any, row: Any, column: Any) -> Any:
    """Returns the pixels [B, h, w, C] at whole coordinates; what is outside by the node's padding."""
    how, is_inside = node.get("padding_mode", "zeros"), tf.constant(True)
    indices = []
    for stated, axis in ((row, 1), (column, 2)):
        place, edge = stated, tf.cast(tf.shape(picture)[axis], stated.dtype)
        if how == "reflection":
            low, span = (0.0, edge - 1) if node.get("align_corners", 0) else (-0.5, edge)
            off = tf.math.floormod(place - low, tf.maximum(2 * span, 1))
            place = tf.minimum(off, 2 * span - off) + low
        inside = (place >= 0) & (place <= edge - 1)
        is_inside = is_inside & inside
        indices.append(tf.cast(tf.clip_by_value(tf.round(place), 0, edge - 1), tf.int32))
    pixels = tf.gather_nd(picture, tf.stack(indices, -1), batch_dims=1)
    return tf.where(is_inside[..., tf.newaxis], pixels, 0) if how == "zeros" else pixels


@op("DeformConv")
def deformed_convolution(
    node: Node, x: Value, weights: Value, offset: Value, bias: Value | None = None, mask: Value | None = None
) -> Tensor:
    """Returns a convolution whose window looks elsewhere at each place: by offsets [B, G h w 2, …], times a mask."""
    tensor, order = node.tensor(x), channels_last(4)
    picture, kernel = tensor.in_order(order), static(weights, "weights")
    groups, offset_groups = node.get("group", 1), node.get("offset_group", 1)
    outputs, channels, height, width = kernel.shape
    strides, dilations, pads = window_of(node, (height, width), picture.shape[1:3])
    moved = node.tensor(offset).in_order(order)
    factors = None if mask is None else node.tensor(mask).in_order(order)
    rows, columns = (
        tf.cast(tf.range(tf.shape(moved)[axis]) * stride - before, moved.dtype)[:, tf.newaxis]
        for axis, stride, (before, _) in zip((1, 2), strides, pads or [], strict=True)
    )
    columns += np.arange(width, dtype=np.float32) * dilations[1]
    result: Any = 0
    for line in range(height):  # of the window: all at one time would take much memory
        parts = []
        for at, part in enumerate(tf.split(picture, offset_groups, 3)):
            first = (at * height + line) * width
            off = moved[..., 2 * first : 2 * (first + width)]
            row = rows[:, tf.newaxis] + line * dilations[0] + off[..., ::2]
            pixels = _sampled(node, part, _linear(row), _linear(columns + off[..., 1::2]))
            parts.append(pixels if factors is None else pixels * factors[..., first : first + width, tf.newaxis])
        seen = tf.split(tf.concat(parts, 4), groups, 4)
        flat = tf.concat([tf.shape(moved)[:3], [width * channels]], 0)
        # [O, C / group, w] to [w C / group, O].
        matrices = [
            part.transpose(2, 1, 0).reshape(1, 1, -1, outputs // groups)
            for part in np.split(kernel[:, :, line], groups)
        ]
        products = [
            tf.nn.conv2d(tf.reshape(one, flat), node.weight(matrix), 1, "VALID")
            for one, matrix in zip(seen, matrices, strict=True)
        ]
        result += tf.concat(products, 3)
    return Tensor(result if bias is None else tf.nn.bias_add(result, node.plain(bias)), order)
