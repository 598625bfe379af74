"""Normalizations: by statistics that a model has learned, or by those of what it is given."""

from typing import Any

import numpy as np
import tensorflow as tf

from ....conversion import mean
from ...values import Tensor, Value, channels_last
from ..registry import Node, common_order, op, plain, spatial


@op("BatchNormalization")
def batch_normalization(node: Node, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Tensor:
    """Returns each channel with a learned mean and variance taken out, and others put in."""
    tensor = node.tensor(x)
    order = channels_last(tensor.rank)
    if node.get("training_mode", 0):
        # PyTorch's newer exporter writes instance normalizations so, too, whose mean and variance are computed.
        if isinstance(mean, np.ndarray) and tensor.shape[0] != 1:
            raise ValueError(
                "it was exported in training mode, where the pictures of a request change each other's masks: call "
                "model.eval() first, or export it with a batch of 1"
            )
        data = tensor.in_order(order)
        normalized = _normalized(data, [*range(data.shape.rank - 1)], node.get("epsilon", 1e-5))
        return Tensor(normalized * node.plain(scale) + node.plain(bias), order)
    if all(isinstance(value, np.ndarray) for value in (scale, bias, mean, variance)):
        factor, offset = (node.plain(part) for part in affine_of(node, scale, bias, mean, variance))
    else:
        scale, bias, mean, variance = (node.plain(value) for value in (scale, bias, mean, variance))
        factor = scale * tf.math.rsqrt(variance + node.get("epsilon", 1e-5))
        offset = bias - mean * factor
    return Tensor(tensor.in_order(order) * factor + offset, order)


def affine_of(node: Node, scale: Any, bias: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    """Returns what a batch normalization multiplies each channel by, and what it adds then."""
    scale, bias, mean, variance = (np.asarray(value, np.float64) for value in (scale, bias, mean, variance))
    factor = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def _normalized(x: Any, axes: list[int], epsilon: float) -> Any:
    centred = x - mean(x, axes, keepdims=True)
    return centred * tf.math.rsqrt(mean(tf.square(centred), axes, keepdims=True) + epsilon)


@op("InstanceNormalization")
def instance_normalization(node: Node, x: Value, scale: Value, bias: Value) -> Tensor:
    """Returns each channel of each picture with its own mean and variance taken out.

    Its axes stay in the order in which they come: PyTorch's group normalization comes as this over groups [B, G, N],
    whose sums are exact as long as N is last.
    """
    tensor = node.tensor(x)
    places = [tensor.place(axis) for axis in range(2, tensor.rank)]
    spread = [-1 if axis == 1 else 1 for axis in tensor.order]
    factor, offset = (tf.reshape(node.plain(value), spread) for value in (scale, bias))
    return Tensor(_normalized(tensor.data, places, node.get("epsilon", 1e-5)) * factor + offset, tensor.order)


@spatial("GroupNormalization")
def group_normalization(node: Node, x: Any, scale: Value, bias: Value) -> Any:
    """Returns each group of channels with its own mean and variance taken out."""
    groups, channels = node.get("num_groups"), x.shape[-1]
    shape = tf.shape(x)
    apart = tf.reshape(x, tf.concat([shape[:-1], [groups, channels // groups]], 0))
    axes = [*range(1, x.shape.rank - 1), x.shape.rank]
    result = tf.ensure_shape(tf.reshape(_normalized(apart, axes, node.get("epsilon", 1e-5)), shape), x.shape)
    scale, bias = node.plain(scale), node.plain(bias)
    if scale.shape[0] != channels:  # before opset 21 there was one for each group
        scale, bias = (tf.repeat(value, channels // groups) for value in (scale, bias))
    return result * scale + bias


@op("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(node: Node, x: Value, scale: Value, bias: Value | None = None) -> Tensor:
    """Returns the last axes with their own mean and variance taken out, or divided by their root mean square."""
    tensor = node.tensor(x)
    axis = node.get("axis", -1) % tensor.rank
    axes, order = list(range(axis, tensor.rank)), tensor.order
    places, epsilon = [tensor.place(at) for at in axes], node.get("epsilon", 1e-5)
    if node.op == "LayerNormalization":
        result = _normalized(tensor.data, places, epsilon)
    else:
        squares = tf.reduce_mean(tf.square(tensor.data), places, keepdims=True)
        result = tensor.data * tf.math.rsqrt(squares + epsilon)
    result *= node.in_order(scale, order)
    return Tensor(result if bias is None else result + node.in_order(bias, order), order)


@op("SkipLayerNormalization")
def skip_layer_normalization(
    node: Node, x: Value, skip: Value, scale: Value, bias: Value | None = None, extra: Value | None = None
) -> list[Any]:
    """Returns the normalized sum of two tensors, as onnxruntime fuses it, and that sum."""
    order = common_order([x, skip])
    total = node.in_order(x, order) + node.in_order(skip, order)
    if extra is not None:
        total += node.in_order(extra, order)
    summed = Tensor(total, order)
    result = _normalized(total, [summed.place(-1)], node.get("epsilon", 1e-12)) * node.in_order(scale, order)
    return [Tensor(result if bias is None else result + node.in_order(bias, order), order), None, None, summed]


@op("LpNormalization")
def lp_normalization(node: Node, x: Value) -> Tensor:
    """Returns vectors along an axis of length 1, by the sum of sizes or of squares."""
    tensor = node.tensor(x)
    place = tensor.place(node.get("axis", -1))
    norm = tf.norm(tensor.data, ord=node.get("p", 2), axis=place, keepdims=True)
    return Tensor(tf.math.divide_no_nan(tensor.data, norm), tensor.order)


@plain("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Any) -> Any:
    """Returns numbers with their mean and variance along some axes taken out."""
    axes = node.get("axes", [0, 2, 3])
    centred = x - mean(x, axes, keepdims=True)
    return centred / (tf.sqrt(mean(tf.square(centred), axes, keepdims=True)) + 1e-9)


@spatial("LRN")
def local_response_normalization(node: Node, x: Any) -> Any:
    """Returns numbers divided by a power of the mean square of the channels around theirs."""
    size, alpha = node.get("size"), node.get("alpha", 1e-4)
    before = (size - 1) // 2
    edges = [[0, 0]] * (x.shape.rank - 1) + [[before, size - 1 - before]]
    squares = tf.pad(tf.square(x), edges)
    channels = x.shape[-1]
    total = tf.add_n([squares[..., at : at + channels] for at in range(size)])
    return x / (node.get("bias", 1.0) + alpha / size * total) ** node.get("beta", 0.75)
