"""TensorFlow Lite's operators as TensorFlow's. Source: the operators' kernels and converter in TensorFlow."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from ..conversion import mean


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator that runs: its options, the dtype of its first output, and what makes a variable of an array."""

    options: Any
    dtype: tf.DType
    weight: Callable[[Any], tf.Tensor]

    def arranged(self, values: Any, *axes: int) -> tf.Tensor:
        """Returns weights with their axes in another order: arranged once, where they are constant."""
        return self.weight(np.transpose(values, axes)) if isinstance(values, np.ndarray) else tf.transpose(values, axes)


Op = Callable[..., Any]
"""Takes an operator and its inputs: arrays where they are constant, None where one is left out. Returns its outputs."""

OPS: dict[str, Op] = {}
"""By the schema's name, or the name of a custom one."""

_SAME = schema.Padding.SAME + 1
"""In the options of MediaPipe's custom operators, which begin with TensorFlow Lite's own enumeration."""

_ACTIVATIONS: dict[int, Callable[[tf.Tensor], tf.Tensor]] = {
    schema.ActivationFunctionType.NONE: lambda x: x,
    schema.ActivationFunctionType.RELU: tf.nn.relu,
    schema.ActivationFunctionType.RELU_N1_TO_1: lambda x: tf.clip_by_value(x, -1.0, 1.0),
    schema.ActivationFunctionType.RELU6: tf.nn.relu6,
    schema.ActivationFunctionType.TANH: tf.tanh,
}


def _op(name: str) -> Callable[[Op], Op]:
    def register(function: Op) -> Op:
        OPS[name] = function
        return function

    return register


def _activated(node: Node, values: tf.Tensor) -> tf.Tensor:
    return _ACTIVATIONS[node.options.fusedActivationFunction](values)


def _padding(node: Node) -> str:
    return "SAME" if node.options.padding == schema.Padding.SAME else "VALID"


def _with_bias(values: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    return values if bias is None else tf.nn.bias_add(values, bias)


def _mean(values: tf.Tensor, axes: Any, keepdims: bool) -> tf.Tensor:
    known = tf.get_static_value(axes)
    return tf.reduce_mean(values, axes, keepdims) if known is None else mean(values, np.ravel(known), keepdims)


for _name, _function in {
    "ABS": tf.abs, "CEIL": tf.math.ceil, "COS": tf.cos, "DEQUANTIZE": lambda x: x, "ELU": tf.nn.elu, "EXP": tf.exp,
    "DENSIFY": lambda x: x,  # its weights are dense once they are read
    "FLOOR": tf.floor, "HARD_SWISH": lambda x: x * (tf.nn.relu6(x + 3.0) / 6.0), "LOG": tf.math.log,
    "LOGICAL_NOT": tf.logical_not, "LOGISTIC": tf.sigmoid, "NEG": tf.negative, "QUANTIZE": lambda x: x,
    "RELU": tf.nn.relu, "RELU6": tf.nn.relu6, "RELU_N1_TO_1": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "RELU_0_TO_1": lambda x: tf.clip_by_value(x, 0.0, 1.0), "ROUND": tf.round, "RSQRT": tf.math.rsqrt, "SIN": tf.sin,
    "SQRT": tf.sqrt, "SQUARE": tf.square, "TANH": tf.tanh, "ZEROS_LIKE": tf.zeros_like,
    "LOG_SOFTMAX": tf.nn.log_softmax,
    "EQUAL": tf.equal, "NOT_EQUAL": tf.not_equal, "GREATER": tf.greater, "GREATER_EQUAL": tf.greater_equal,
    "LESS": tf.less, "LESS_EQUAL": tf.less_equal, "LOGICAL_AND": tf.logical_and, "LOGICAL_OR": tf.logical_or,
    "MAXIMUM": tf.maximum, "MINIMUM": tf.minimum, "POW": tf.pow, "FLOOR_DIV": tf.math.floordiv,
    "FLOOR_MOD": tf.math.floormod, "SQUARED_DIFFERENCE": tf.math.squared_difference, "SELECT": tf.where,
    "SELECT_V2": tf.where, "EXPAND_DIMS": lambda x, axis: tf.expand_dims(x, tf.reshape(axis, [])), "TILE": tf.tile,
    "TRANSPOSE": tf.transpose, "PAD": tf.pad, "BROADCAST_TO": tf.broadcast_to, "FILL": tf.fill, "RANGE": tf.range,
    "PADV2": lambda x, paddings, value: tf.pad(x, paddings, constant_values=tf.reshape(value, [])),
    "SLICE": tf.slice, "REVERSE_V2": tf.reverse, "GATHER_ND": tf.gather_nd, "RANK": tf.rank,
    "SIGN": tf.sign, "SCATTER_ND": tf.scatter_nd, "BROADCAST_ARGS": tf.broadcast_dynamic_shape, "WHERE": tf.where,
    "TOPK_V2": lambda x, k: list(tf.math.top_k(x, tf.reshape(k, []))),
    "BATCH_TO_SPACE_ND": tf.batch_to_space, "SPACE_TO_BATCH_ND": tf.space_to_batch,
    "PRELU": lambda x, slope: tf.maximum(x, 0.0) + slope * tf.minimum(x, 0.0),
}.items():  # fmt: skip
    OPS[_name] = lambda _, *inputs, function=_function: function(*inputs)


def _divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.divide(a, b) if tf.as_dtype(a.dtype).is_floating else tf.truncatediv(a, b)


for _name, _function in {"ADD": tf.add, "SUB": tf.subtract, "MUL": tf.multiply, "DIV": _divide}.items():
    OPS[_name] = lambda node, a, b, function=_function: _activated(node, function(a, b))

for _name, _function in {
    "MEAN": _mean, "SUM": tf.reduce_sum, "REDUCE_MAX": tf.reduce_max, "REDUCE_MIN": tf.reduce_min,
    "REDUCE_PROD": tf.reduce_prod, "REDUCE_ANY": tf.reduce_any, "REDUCE_ALL": tf.reduce_all,
}.items():  # fmt: skip
    OPS[_name] = lambda node, x, axes, function=_function: function(x, axes, keepdims=node.options.keepDims)


@_op("CONV_2D")
def _convolution(node: Node, images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    strides, dilations = (
        [node.options.strideH, node.options.strideW],
        [node.options.dilationHFactor, node.options.dilationWFactor],
    )
    # [out, h, w, in], where a convolution of TensorFlow has [h, w, in, out]; fewer `in` than channels are groups.
    kernel = node.arranged(kernel, 1, 2, 3, 0)
    found = tf.nn.conv2d(images, kernel, strides, _padding(node), dilations=dilations)
    return _activated(node, _with_bias(found, bias))


@_op("DEPTHWISE_CONV_2D")
def _depthwise(node: Node, images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    _, height, width, count = kernel.shape
    channels = images.shape[3]
    kernel = tf.reshape(node.arranged(kernel, 0, 1, 2, 3), [height, width, channels, count // channels])
    dilations = [node.options.dilationHFactor, node.options.dilationWFactor]
    if node.options.strideH == node.options.strideW and (node.options.strideH == 1 or dilations == [1, 1]):
        strides = [1, node.options.strideH, node.options.strideW, 1]
        found = tf.nn.depthwise_conv2d(images, kernel, strides, _padding(node), dilations=dilations)
    else:  # TensorFlow's has one stride, and either that or dilations: a convolution of groups
        kernel = tf.reshape(kernel, [height, width, 1, count])
        found = tf.nn.conv2d(
            images, kernel, [node.options.strideH, node.options.strideW], _padding(node), dilations=dilations
        )
    return _activated(node, _with_bias(found, bias))


@_op("TRANSPOSE_CONV")
def _transposed(
    node: Node, size: tf.Tensor, kernel: tf.Tensor, images: tf.Tensor, bias: tf.Tensor | None = None
) -> tf.Tensor:
    # The file's size names a batch that others need not have.
    wanted = tf.concat([tf.shape(images)[:1], size[1:]], 0)
    kernel = node.arranged(kernel, 1, 2, 0, 3)
    found = tf.nn.conv2d_transpose(images, kernel, wanted, [node.options.strideH, node.options.strideW], _padding(node))
    known = tf.get_static_value(size)
    if known is not None:
        found.set_shape([images.shape[0], *known[1:]])
    return _activated(node, _with_bias(found, bias))


@_op("Convolution2DTransposeBias")
def _mediapipe_transposed(node: Node, images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """MediaPipe's custom operator; its options are bytes: padding, width and height of the stride, as int32."""
    padding, stride_width, stride_height = (int(value) for value in np.frombuffer(bytes(node.options), np.int32)[:3])
    kernel = node.arranged(kernel, 1, 2, 0, 3)
    is_same, sizes = padding == _SAME, []
    for axis, stride in ((1, stride_height), (2, stride_width)):
        before, extent = tf.shape(images)[axis] - 1, kernel.shape[axis - 1]
        cut = tf.maximum(extent - before % stride - 1, 0) if is_same else 0
        sizes.append(before * stride + extent - cut)
    wanted = tf.stack([tf.shape(images)[0], *sizes, kernel.shape[2]])
    strides = [stride_height, stride_width]
    found = tf.nn.conv2d_transpose(images, kernel, wanted, strides, "SAME" if is_same else "VALID")
    return tf.nn.bias_add(found, bias)


def _mediapipe_pool(node: Node) -> tuple[bool, list[int], list[int]]:
    """Returns whether such an operator pads, its strides and its window, (height, width) each."""
    numbers = [int(value) for value in np.frombuffer(bytes(node.options), np.int32)[:5]]
    padding, stride_width, stride_height, width, height = numbers
    return padding == _SAME, [stride_height, stride_width], [height, width]


@_op("MaxPoolingWithArgmax2D")
def _mediapipe_max_pool(node: Node, images: tf.Tensor) -> list[tf.Tensor]:
    """MediaPipe's custom operator: maxima, and where in its window each lies, by rows, as floats a tenth above."""
    pads, strides, window = _mediapipe_pool(node)
    edges = [[0, 0]]
    for axis, (stride, extent) in enumerate(zip(strides, window, strict=True), 1):
        size = images.shape[axis]
        total = max((-(-size // stride) - 1) * stride + extent - size, 0) if pads else 0
        edges.append([total // 2, total - total // 2])
    padded = tf.pad(images, [*edges, [0, 0]], constant_values=images.dtype.min)
    patches = tf.image.extract_patches(padded, [1, *window, 1], [1, *strides, 1], [1] * 4, "VALID")
    parts = tf.reshape(patches, [-1, *patches.shape[1:3], window[0] * window[1], images.shape[3]])
    return [tf.reduce_max(parts, axis=3), tf.cast(tf.argmax(parts, axis=3), images.dtype) + 0.1]


@_op("MaxUnpooling2D")
def _mediapipe_unpool(node: Node, values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """MediaPipe's custom operator: puts maxima back to where they came from, and zeros elsewhere."""
    _, strides, (height, width) = _mediapipe_pool(node)
    if strides != [height, width]:
        raise ValueError(f"windows of {height}x{width} that overlap, at steps of {strides}")
    _, rows, columns, channels = values.shape
    places = tf.cast(places, tf.int32)
    parts = tf.stack([tf.where(places == place, values, 0.0) for place in range(height * width)], axis=3)
    parts = tf.transpose(tf.reshape(parts, [-1, rows, columns, height, width, channels]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(parts, [-1, rows * height, columns * width, channels])


def _pool(function: Callable[..., tf.Tensor], node: Node, images: tf.Tensor) -> tf.Tensor:
    size, strides = [node.options.filterHeight, node.options.filterWidth], [node.options.strideH, node.options.strideW]
    return _activated(node, function(images, size, strides, _padding(node)))


OPS["AVERAGE_POOL_2D"] = functools.partial(_pool, tf.nn.avg_pool2d)
OPS["MAX_POOL_2D"] = functools.partial(_pool, tf.nn.max_pool2d)


def _resize(function: Callable[..., tf.Tensor], node: Node, images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return function(
        images=images,
        size=size,
        align_corners=node.options.alignCorners,
        half_pixel_centers=node.options.halfPixelCenters,
    )


OPS["RESIZE_BILINEAR"] = functools.partial(_resize, tf.raw_ops.ResizeBilinear)
OPS["RESIZE_NEAREST_NEIGHBOR"] = functools.partial(_resize, tf.raw_ops.ResizeNearestNeighbor)


@_op("FULLY_CONNECTED")
def _fully_connected(node: Node, values: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    if not node.options.keepNumDims:
        values = tf.reshape(values, [-1, weights.shape[1]])
    return _activated(node, _with_bias(tf.matmul(values, node.arranged(weights, 1, 0)), bias))


@_op("BATCH_MATMUL")
def _matmul(node: Node, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.matmul(a, b, adjoint_a=node.options.adjX, adjoint_b=node.options.adjY)


@_op("SOFTMAX")
def _softmax(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(values * node.options.beta if node.options.beta != 1 else values)


@_op("LEAKY_RELU")
def _leaky_relu(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(values, node.options.alpha)


@_op("GELU")
def _gelu(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(values, approximate=node.options.approximate)


@_op("CONCATENATION")
def _concatenation(node: Node, *parts: tf.Tensor) -> tf.Tensor:
    return _activated(node, tf.concat(parts, node.options.axis))


@_op("ADD_N")
def _add_n(_: Node, *parts: tf.Tensor) -> tf.Tensor:
    return tf.add_n(parts)


@_op("PACK")
def _pack(node: Node, *parts: tf.Tensor) -> tf.Tensor:
    return tf.stack(parts, node.options.axis)


@_op("UNPACK")
def _unpack(node: Node, values: tf.Tensor) -> Sequence[tf.Tensor]:
    return tf.unstack(values, node.options.num, node.options.axis)


@_op("SPLIT")
def _split(node: Node, axis: tf.Tensor, values: tf.Tensor) -> Sequence[tf.Tensor]:
    return tf.split(values, node.options.numSplits, int(tf.get_static_value(axis)))


@_op("SPLIT_V")
def _split_v(_: Node, values: tf.Tensor, sizes: tf.Tensor, axis: tf.Tensor) -> Sequence[tf.Tensor]:
    return tf.split(values, tf.get_static_value(sizes), int(tf.get_static_value(axis)))


@_op("RESHAPE")
def _reshape(node: Node, values: tf.Tensor, shape: tf.Tensor | None = None) -> tf.Tensor:
    return tf.reshape(values, node.options.newShape if shape is None else shape)


@_op("SQUEEZE")
def _squeeze(node: Node, values: tf.Tensor) -> tf.Tensor:
    axes = [] if node.options.squeezeDims is None else [int(axis) for axis in node.options.squeezeDims]
    return tf.squeeze(values, axes or None)


@_op("STRIDED_SLICE")
def _strided_slice(node: Node, values: tf.Tensor, begin: Any, end: Any, strides: Any) -> tf.Tensor:
    masks = node.options
    return tf.strided_slice(
        values, begin, end, strides, masks.beginMask, masks.endMask, masks.ellipsisMask, masks.newAxisMask,
        masks.shrinkAxisMask,
    )  # fmt: skip


@_op("GATHER")
def _gather(node: Node, values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    return tf.gather(values, places, axis=node.options.axis, batch_dims=node.options.batchDims or 0)


@_op("SHAPE")
def _shape(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.shape(values, node.dtype)


for _name, _function in {"ARG_MAX": tf.argmax, "ARG_MIN": tf.argmin}.items():
    OPS[_name] = lambda node, x, axis, function=_function: function(x, tf.reshape(axis, []), node.dtype)


@_op("ONE_HOT")
def _one_hot(node: Node, indices: tf.Tensor, depth: tf.Tensor, on: tf.Tensor, off: tf.Tensor) -> tf.Tensor:
    depth, on, off = (tf.reshape(one, []) for one in (depth, on, off))
    return tf.one_hot(indices, depth, on, off, node.options.axis, on.dtype)


@_op("CUMSUM")
def _cumulative_sum(node: Node, values: tf.Tensor, axis: tf.Tensor) -> tf.Tensor:
    return tf.cumsum(values, tf.reshape(axis, []), node.options.exclusive, node.options.reverse)


@_op("MIRROR_PAD")
def _mirror_pad(node: Node, values: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
    return tf.pad(values, paddings, "REFLECT" if node.options.mode == schema.MirrorPadMode.REFLECT else "SYMMETRIC")


@_op("DEPTH_TO_SPACE")
def _depth_to_space(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.depth_to_space(values, node.options.blockSize)


@_op("SPACE_TO_DEPTH")
def _space_to_depth(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.space_to_depth(values, node.options.blockSize)


@_op("L2_NORMALIZATION")
def _l2_normalization(node: Node, values: tf.Tensor) -> tf.Tensor:
    return _activated(node, tf.math.l2_normalize(values, -1))


@_op("CAST")
def _cast(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, node.dtype)
