"""Pooling over windows of a picture, and over all of it; and maxima put back to where they came from."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ....conversion import mean
from ..registry import Node, plain, spatial
from .convolution import Pads, pad, to_two_axes, window_of


def _window(node: Node, x: Any) -> tuple[Any, ...]:
    """Returns a picture with two axes, and its window's sizes, strides, dilations, pads and those for ceil_mode."""
    kernel = list(node.get("kernel_shape"))
    edges = x.shape[1:-1]
    strides, dilations, pads = window_of(node, kernel, edges)
    beyond: list[Any] | None = None
    if node.get("ceil_mode", 0) and pads is not None and node.get("auto_pad", "NOTSET") == "NOTSET":
        reaches = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
        beyond = [
            _beyond(known if known is not None else tf.shape(x)[axis], reach, stride, pair)
            for axis, (known, reach, stride, pair) in enumerate(zip(edges, reaches, strides, pads, strict=True), 1)
        ]
        beyond = [None if stride == 1 else more for more, stride in zip(beyond, strides, strict=True)]
    beyond = beyond or [None] * len(kernel)
    return to_two_axes(x, kernel, strides, dilations, pads, beyond, fill=(1, 1, 1, [0, 0], None))


def _beyond(edge: Any, reach: int, stride: int, pads: Sequence[int]) -> Any:
    """Returns by how much the last window reaches beyond the pads where the count of windows is rounded up.

    No window begins behind the picture and the pad before it.
    """
    rest = edge + sum(pads) - reach
    more = -rest % stride
    begins = rest + more
    if isinstance(edge, int):
        return more if begins < edge + pads[0] else 0
    return tf.where(begins < edge + pads[0], more, 0)


def _padded(x: Any, pads: Pads, beyond: list[Any], value: float) -> Any:
    """Pads a picture, and behind that what its last windows reach beyond it."""
    x = pad(x, pads, value)
    if all((isinstance(more, int) and not more) or more is None for more in beyond):
        return x
    sides = [[0, 0], *([0, 0 if more is None else more] for more in beyond), [0, 0]]
    return tf.pad(x, sides, constant_values=tf.cast(value, x.dtype))


@spatial("MaxPool")
def max_pool(node: Node, x: Any) -> Any:
    """Returns the largest number of each window, and where it lies if somebody wants to know."""
    is_row = x.shape.rank == 3
    if len(node.outputs) > 1 and node.outputs[1]:
        found = _maxima_and_places(node, *_window(node, x))
        return [one[:, 0] for one in found] if is_row else found
    x, kernel, strides, dilations, pads, beyond = _window(node, x)
    if pads is None:
        result = tf.nn.max_pool2d(x, kernel, strides, "SAME")
    else:
        lowest = x.dtype.min if not x.dtype.is_floating else -math.inf
        if any((isinstance(more, int) and more) or tf.is_tensor(more) for more in beyond) or max(dilations) > 1:
            x, pads = _padded(x, pads, beyond, lowest), [[0, 0], [0, 0]]
        if max(dilations) > 1:
            result = tf.nn.pool(x, kernel, "MAX", [1, 1], "VALID", dilations=dilations)
            result = result[:, :: strides[0], :: strides[1]]
        elif not any(number for pair in pads for number in pair):
            result = tf.nn.max_pool2d(x, kernel, strides, "VALID")
        elif x.dtype == tf.float32 and all(max(pair) < size for pair, size in zip(pads, kernel, strict=True)):
            result = tf.nn.max_pool2d(x, kernel, strides, [[0, 0], *pads, [0, 0]])
        else:
            result = tf.nn.max_pool2d(pad(x, pads, lowest), kernel, strides, "VALID")
    return result[:, 0] if is_row else result


def _maxima_and_places(
    node: Node,
    x: Any,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: Pads | None,
    beyond: list[Any],
) -> list[Any]:
    """Returns maxima, and the place of each in the picture as it was, counted through all of ONNX's axes, int64."""
    if max(dilations) > 1:
        raise ValueError("the places of its maxima are not known with dilations")
    lowest = x.dtype.min if not x.dtype.is_floating else -math.inf
    padded, (top, left) = x, (0, 0)
    if pads is not None:
        padded, (top, left) = _padded(x, pads, beyond, lowest), (pair[0] for pair in pads)
    padding = "SAME" if pads is None else "VALID"
    largest, found = tf.nn.max_pool_with_argmax(padded, kernel, strides, padding, output_dtype=tf.int64)
    batch, height, width, channels = tf.unstack(tf.shape(x, tf.int64))
    # Found are places in one picture [H, W, C], with its pads.
    pixel, channel = found // channels, found % channels
    padded_width = tf.shape(padded, tf.int64)[2]
    row, column = pixel // padded_width - top, pixel % padded_width - left
    place = column * height + row if node.get("storage_order", 0) else row * width + column
    picture = tf.reshape(tf.range(batch), [-1, 1, 1, 1])
    return [largest, (picture * channels + channel) * height * width + place]


@plain("MaxUnpool")
def max_unpool(node: Node, x: Any, places: Any, shape: Any = None) -> Any:
    """Returns zeros with numbers written at places that `MaxPool` told, counted through all axes."""
    if shape is None:
        kernel = node.get("kernel_shape")
        rank = len(kernel)
        strides, pads = node.get("strides", [1] * rank), node.get("pads", [0] * 2 * rank)
        batch, channels, *edges = (
            now if known is None else known
            for known, now in zip(x.shape, tf.unstack(tf.shape(x, tf.int64)), strict=True)
        )
        windows = zip(edges, strides, kernel, pads[:rank], pads[rank:], strict=True)
        sizes = [(edge - 1) * stride + reach - before - after for edge, stride, reach, before, after in windows]
        shape = tf.stack([tf.cast(size, tf.int64) for size in (batch, channels, *sizes)])
    zeros = tf.zeros([tf.reduce_prod(shape)], x.dtype)
    # Not summed: windows that overlap tell the same maximum twice.
    written = tf.tensor_scatter_nd_update(zeros, tf.reshape(places, [-1, 1]), tf.reshape(x, [-1]))
    return tf.ensure_shape(tf.reshape(written, shape), [x.shape[0], x.shape[1], *[None] * (x.shape.rank - 2)])


@spatial("AveragePool")
def average_pool(node: Node, x: Any) -> Any:
    """Returns the mean of each window, over the pads too with count_include_pad, and never over what is beyond them."""
    is_row = x.shape.rank == 3
    x, kernel, strides, dilations, pads, beyond = _window(node, x)
    if pads is None:
        result = tf.nn.avg_pool2d(x, kernel, strides, "SAME")
    else:
        includes = bool(node.get("count_include_pad", 0))
        has_pads = any(number for pair in pads for number in pair)
        reaches = any((isinstance(more, int) and more) or tf.is_tensor(more) for more in beyond)

        def means(values: Any) -> Any:
            if max(dilations) == 1:
                return tf.nn.avg_pool2d(values, kernel, strides, "VALID")
            pooled = tf.nn.pool(values, kernel, "AVG", [1, 1], "VALID", dilations=dilations)
            return pooled[:, :: strides[0], :: strides[1]]

        result = means(_padded(x, pads, beyond, 0))
        if reaches or (has_pads and not includes):
            # What counts is 1, so that a mean of it is the share of a window that does.
            ones = tf.ones(tf.stack([1, *tf.unstack(tf.shape(x))[1:3], 1]), x.dtype)
            counts = _padded(pad(ones, pads, float(includes)), [[0, 0], [0, 0]], beyond, 0)
            result /= means(counts)
    return result[:, 0] if is_row else result


@spatial("LpPool")
def lp_pool(node: Node, x: Any) -> Any:
    """Returns the p-norm of each window."""
    is_row = x.shape.rank == 3
    x, kernel, strides, dilations, pads, beyond = _window(node, x)
    power = node.get("p", 2)
    if pads is None or max(dilations) > 1:
        raise ValueError("LpPool is not known with dilations, or with auto_pad and a free size")
    means = tf.nn.avg_pool2d(_padded(tf.abs(x) ** power, pads, beyond, 0), kernel, strides, "VALID")
    result = (means * math.prod(kernel)) ** (1 / power)
    return result[:, 0] if is_row else result


@spatial("GlobalAveragePool")
def global_average_pool(node: Node, x: Any) -> Any:
    """Returns the mean of all of a picture."""
    return mean(x, range(1, x.shape.rank - 1), keepdims=True)


@spatial("GlobalMaxPool")
def global_max_pool(node: Node, x: Any) -> Any:
    """Returns the largest number of all of a picture."""
    return tf.reduce_max(x, list(range(1, x.shape.rank - 1)), keepdims=True)
