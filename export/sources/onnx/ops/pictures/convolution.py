"""Convolutions, forth and back, over one or two axes of a picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, channels_last, static
from ..registry import Node, op

Pads = list[list[int]]
_ROOM = "bhwc"
CONV_OF_TWO = "Conv of Concat"
"""A convolution of two pictures that were joined along their channels."""


def window_of(
    node: Node, kernel: Sequence[int], edges: Sequence[int | None]
) -> tuple[list[int], list[int], Pads | None]:
    """Returns strides, dilations and [before, after] pads along each axis, of attributes that a window has.

    Args:
        node: the operator.
        kernel: the window's sizes.
        edges: of the picture.

    Returns:
        The pads are None where they depend on edges that are not known, and are TensorFlow's "SAME".
    """
    rank = len(kernel)
    strides, dilations = list(node.get("strides", [1] * rank)), list(node.get("dilations", [1] * rank))
    how = node.get("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for edge, size, stride, dilation in zip(edges, kernel, strides, dilations, strict=True):
            reach = (size - 1) * dilation + 1
            if edge is None and stride > 1:
                if how == "SAME_LOWER":
                    raise ValueError("auto_pad SAME_LOWER needs a fixed size")
                return strides, dilations, None
            total = max((math.ceil(edge / stride) - 1) * stride + reach - edge, 0) if edge is not None else reach - 1
            less, more = total // 2, total - total // 2
            pads.append([less, more] if how == "SAME_UPPER" else [more, less])
    else:
        flat = node.get("pads", [0] * 2 * rank) if how == "NOTSET" else [0] * 2 * rank
        pads = [[flat[axis], flat[axis + rank]] for axis in range(rank)]
    return strides, dilations, pads


def pad(x: Any, pads: Pads, value: float = 0) -> Any:
    """Pads a picture [B, H, W, C]."""
    if not any(number for pair in pads for number in pair):
        return x
    return tf.pad(x, [[0, 0], *pads, [0, 0]], constant_values=tf.cast(value, x.dtype))


def to_two_axes(x: Any, *lists: list[Any] | None, fill: Sequence[Any]) -> tuple[Any, ...]:
    """Gives a row [B, W, C] a height of 1, and the lists about its axes an entry for that; ValueError for volumes."""
    if x.shape.rank == 3:
        return x[:, tf.newaxis], *(items and [value, *items] for value, items in zip(fill, lists, strict=True))
    if x.shape.rank != 4:
        raise ValueError(f"it has {x.shape.rank - 2} axes beside batch and channels; 1 and 2 are known")
    return x, *lists


@op("Conv", "FusedConv")
def convolve(node: Node, x: Value, weights: Value, bias: Value | None = None, extra: Value | None = None) -> Tensor:
    """Returns the convolution of a picture [B, C, H, W] with weights [O, C / group, h, w], plus a bias [O]."""
    tensor = node.tensor(x)
    order = channels_last(tensor.rank)
    kernel = weights_last(node, weights)
    result = conv2d(node, tensor.in_order(order), kernel, None if bias is None else node.plain(bias))
    if extra is not None:
        result += node.in_order(extra, order)
    return Tensor(activated(node, result), order)


@op(CONV_OF_TWO)
def convolve_two(node: Node, first: Value, second: Value, weights: Value, bias: Value | None = None) -> Tensor:
    """Returns the sum of the convolutions of two pictures, each with its part of the weights, plus a bias.

    TensorFlow adds as it computes the second one, while joining the pictures would copy both.
    """
    tensors = node.tensor(first), node.tensor(second)
    kernel, order = static(weights, "weights"), channels_last(tensors[0].rank)
    pictures = [tensor.in_order(order) for tensor in tensors]
    channels = pictures[0].shape[-1]
    if channels in (None, 0, kernel.shape[1]):
        return convolve(node, Tensor(tf.concat(pictures, -1), order), kernel, bias)
    biases = (None if bias is None else node.plain(bias), None)
    parts = zip(_of_one_size(*pictures), np.split(kernel, [channels], 1), biases, strict=True)
    return Tensor(tf.add_n([conv2d(node, x, weights_last(node, part), more) for x, part, more in parts]), order)


def _of_one_size(first: Any, second: Any) -> list[Any]:
    """Returns two pictures that are seen to be of one size: a fused sum writes past the end of the smaller one.

    Each is cut to the other's size, which fails for the smaller one, and copies nothing. An assertion would not do:
    what has to wait for one is not fused.
    """
    size = first.shape[:-1].merge_with(second.shape[:-1])
    checked = []
    for picture, other in ((first, second), (second, first)):
        cut = tf.slice(picture, [0] * picture.shape.rank, tf.concat([tf.shape(other)[:-1], [-1]], 0))
        cut.set_shape([*size, picture.shape[-1]])
        checked.append(cut)
    return checked


def weights_last(node: Node, weights: Value, swaps: bool = False) -> Any:
    """Returns weights [O, I, …] as TensorFlow wants them, […, I, O], or with `swaps` […, O, I] made of [I, O, …].

    Both are the same permutation: the first two axes go behind the others, and swap there.
    """
    rank = weights.rank if isinstance(weights, Tensor) else weights.ndim
    return node.in_order(weights, (*range(2, rank), 1, 0))


def conv2d(node: Node, x: Any, kernel: Any, bias: Any = None) -> Any:
    """Returns a convolution by the attributes of a node: x [B, (H,) W, C], kernel [(h,) w, C / group, O], bias [O]."""
    sizes = kernel.shape.as_list()[:-2]
    strides, dilations, pads = window_of(node, sizes, x.shape[1:-1])
    is_row = x.shape.rank == 3
    x, strides, dilations, pads = to_two_axes(x, strides, dilations, pads, fill=(1, 1, [0, 0]))
    kernel = kernel[tf.newaxis] if is_row else kernel
    groups = node.get("group", 1)
    if groups == 1:
        result = tf.nn.conv2d(x, kernel, strides, _padding(kernel, strides, dilations, pads), dilations=dilations)
    elif kernel.shape[2] == 1:
        result = _depthwise(x, kernel, groups, strides, dilations, pads)
    else:
        # TensorFlow has groups of its own, but not where a bias or an activation is fused with the convolution.
        parts = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3), strict=True)
        padding = _padding(kernel, strides, dilations, pads)
        result = tf.concat([tf.nn.conv2d(*part, strides, padding, dilations=dilations) for part in parts], 3)
    if bias is not None:
        result = tf.nn.bias_add(result, bias)
    return result[:, 0] if is_row else result


def _padding(kernel: Any, strides: list[int], dilations: list[int], pads: Pads | None) -> Any:
    if pads is None:
        return "SAME"
    if not any(number for pair in pads for number in pair):
        return "VALID"
    reaches = [(size - 1) * dilation for size, dilation in zip(kernel.shape[:2], dilations, strict=True)]
    if strides == [1, 1] and pads == [[reach // 2, reach - reach // 2] for reach in reaches]:
        return "SAME"
    return [[0, 0], *pads, [0, 0]]


def _depthwise(x: Any, kernel: Any, channels: int, strides: list[int], dilations: list[int], pads: Pads | None) -> Any:
    """Returns a convolution of each channel by itself; kernel [h, w, 1, O]."""
    kernel = tf.reshape(kernel, [*kernel.shape[:2], channels, kernel.shape[3] // channels])
    # TensorFlow's has one stride for both axes, or dilations; and given pads as well, its graph optimizer can crash.
    is_strided = strides[0] == strides[1] and max(dilations) == 1
    padding = _padding(kernel, strides if is_strided else [1, 1], dilations, pads)
    if padding == "SAME" and pads is None and not is_strided and max(strides) > 1:
        raise ValueError("auto_pad with strides that differ, or with dilations, needs a fixed size")
    if is_strided and not isinstance(padding, str):
        rows = _rows_to_same(x, kernel, strides[0], padding[1:3])
        if rows is not None:
            kernel, padding = tf.pad(kernel, [*([0, more] for more in rows), [0, 0], [0, 0]]), "SAME"
    if not isinstance(padding, str):
        x, padding = pad(x, pads or []), "VALID"
    if is_strided:
        return tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], padding)
    result = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], padding, dilations=dilations)
    return result[:, :: strides[0], :: strides[1]] if max(strides) > 1 else result


def _rows_to_same(x: Any, kernel: Any, stride: int, pads: Pads) -> list[int] | None:
    """Returns how many rows and columns of zeros behind a kernel make its pads those of "SAME"; None where none do.

    They cost less than padding the picture before.
    """
    found = []
    for edge, size, (before, after) in zip(x.shape[1:3], kernel.shape[:2], pads, strict=True):
        if edge is None or (edge + before + after - size) // stride + 1 != math.ceil(edge / stride):
            return None
        beyond = (math.ceil(edge / stride) - 1) * stride + size - edge
        fitting = [more for more in (0, 1) if max(beyond + more, 0) // 2 == before]
        if not fitting:
            return None
        found.append(fitting[0])
    return found


@op("ConvTranspose")
def convolve_back(node: Node, x: Value, weights: Value, bias: Value | None = None) -> Tensor:
    """Returns the transposed convolution of a picture [B, C, H, W] with weights [C, O / group, h, w], plus a bias."""
    tensor = node.tensor(x)
    order = channels_last(tensor.rank)
    data, kernel = tensor.in_order(order), static(weights, "weights")
    sizes = list(kernel.shape[2:])
    strides, dilations, _ = window_of(node, sizes, [1] * len(sizes))
    if max(dilations) > 1:
        kernel = _dilated(kernel, dilations)
        sizes = list(kernel.shape[2:])
    pads, extra = _pads_back(node, sizes, strides, data.shape[1:-1])
    is_row = data.shape.rank == 3
    data, strides, sizes, pads, extra = to_two_axes(data, strides, sizes, pads, extra, fill=(1, 1, [0, 0], 0))
    kernel = kernel[:, :, np.newaxis] if is_row else kernel
    result = _transposed(node, data, kernel, strides, pads, extra)
    if bias is not None:
        result = tf.nn.bias_add(result, node.plain(bias))
    return Tensor(result[:, 0] if is_row else result, order)


def _dilated(weights: Any, dilations: list[int]) -> Any:
    """Returns weights with zeros between them: TensorFlow has no dilated transposed convolution everywhere."""
    sizes = [(size - 1) * dilation + 1 for size, dilation in zip(weights.shape[2:], dilations, strict=True)]
    spread: Any = np.zeros([*weights.shape[:2], *sizes], weights.dtype)
    spread[(..., *(slice(None, None, dilation) for dilation in dilations))] = weights
    return spread


def _pads_back(node: Node, sizes: list[int], strides: list[int], edges: Sequence[int | None]) -> tuple[Pads, list[int]]:
    """Returns what is cut off at the borders of the whole answer, and what is put behind it before."""
    rank = len(sizes)
    extra = list(node.get("output_padding", [0] * rank))
    wanted, how = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if wanted is None and how in ("NOTSET", "VALID"):
        flat = node.get("pads", [0] * 2 * rank) if how == "NOTSET" else [0] * 2 * rank
        return [[flat[axis], flat[axis + rank]] for axis in range(rank)], extra
    pads = []
    for axis, (size, stride, edge) in enumerate(zip(sizes, strides, edges, strict=True)):
        if wanted is None:
            total = extra[axis] + size - stride  # the answer is stride times as large
        elif edge is None:
            raise ValueError("output_shape needs a fixed size")
        else:
            total = (edge - 1) * stride + extra[axis] + size - wanted[len(wanted) - rank + axis]
        # What a wanted size has more is put behind; what auto_pad promises more than there is, onnxruntime leaves out.
        extra[axis] += max(-total, 0) if wanted is not None else 0
        total = max(total, 0)
        less, more = total // 2, total - total // 2
        pads.append([less, more] if how == "SAME_UPPER" else [more, less])
    return pads, extra


def _transposed(node: Node, x: Any, weights: Any, strides: list[int], pads: Pads, extra: list[int]) -> Any:
    """Returns a transposed convolution, channels last; weights [C, O / group, h, w], a constant."""
    groups, sizes, channels = node.get("group", 1), weights.shape[2:], weights.shape[0]
    batch, *edges = (
        known if known is not None else tf.shape(x)[axis] for axis, known in enumerate(x.shape.as_list()[:-1])
    )
    out = [
        (edge - 1) * stride + size + behind - sum(pair)
        for edge, stride, size, behind, pair in zip(edges, strides, sizes, extra, pads, strict=True)
    ]
    # TensorFlow takes for a size behind a stride only what the stride would have skipped.
    beyond = [max(behind - pair[1] - stride + 1, 0) for behind, pair, stride in zip(extra, pads, strides, strict=True)]
    if any(beyond):
        out = [edge - more for edge, more in zip(out, beyond, strict=True)]
    padding: Any = [
        [0, 0],
        *([before, max(after - behind, 0)] for (before, after), behind in zip(pads, extra, strict=True)),
        [0, 0],
    ]
    padding = padding if any(number for pair in padding for number in pair) else "VALID"
    if groups == channels and weights.shape[1] == 1 and strides[0] == strides[1] and groups > 1:
        kernel = node.weight(weights.transpose(2, 3, 0, 1))
        shape = tf.stack([batch, *out, channels])
        result = tf.nn.depthwise_conv2d_backprop_input(shape, kernel, x, [1, *strides, 1], padding)
        known = [batch, *out, channels]
        result.set_shape([None if tf.is_tensor(edge) else edge for edge in known])
    else:
        parts = []
        for part, chunk in zip(tf.split(x, groups, 3), np.split(weights, groups), strict=True):
            kernel = node.weight(chunk.transpose(2, 3, 1, 0))
            shape = tf.stack([batch, *out, chunk.shape[1]])
            parts.append(tf.nn.conv2d_transpose(part, kernel, shape, strides, padding))
        result = tf.concat(parts, 3) if groups > 1 else parts[0]
    return pad(result, [[0, more] for more in beyond])


def activated(node: Node, x: Any) -> Any:
    """Applies what onnxruntime has fused into a convolution or a product of matrices."""
    stated = [node.get(name) for name in ("activation_alpha", "activation_beta", "activation_gamma")]
    name, numbers = node.get("activation"), node.get("activation_params", [one for one in stated if one is not None])
    if name in (None, ""):
        return x
    functions = {
        "Relu": tf.nn.relu, "Sigmoid": tf.sigmoid, "Tanh": tf.tanh,
        "LeakyRelu": lambda x: tf.nn.leaky_relu(x, *numbers),
        "Clip": lambda x: tf.clip_by_value(x, *numbers),
        "HardSigmoid": lambda x: tf.clip_by_value(numbers[0] * x + numbers[1], 0, 1),
    }  # fmt: skip
    if name not in functions:
        raise ValueError(f"its activation {name!r} is not known")
    return functions[name](x)
