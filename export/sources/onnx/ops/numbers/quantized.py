"""Operators on 8-bit integers, computed in float32: exactly, as long as sums stay below 2^24."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, wrap
from ..pictures.convolution import conv2d, weights_last
from ..registry import OPS, Node, op
from .matrices import matmul


def _along(node: Node, numbers: Value, x: Tensor, axis: int) -> Any:
    """Returns a scale or zero point so that it meets x: one number, or one for each place along an axis."""
    data = node.plain(numbers)
    if data.shape.rank == 0 or data.shape.num_elements() == 1:
        return tf.reshape(data, [])
    edges = [1] * x.rank
    if data.shape.rank == 1:
        edges[x.place(axis)] = -1
        return tf.reshape(data, edges)
    # One for each block along the axis.
    blocks = node.get("block_size") or -(-x.size(axis) // data.shape[axis % x.rank])
    spread = tf.repeat(data, blocks, axis % x.rank)
    spread = spread[tuple(slice(0, edge) for edge in x.shape)]
    return tf.transpose(spread, x.order)


def _to_float(node: Node, x: Value, scale: Value, zero: Value | None, axis: int = 1) -> Tensor:
    tensor = node.tensor(x)
    data = tf.cast(tensor.data, tf.float32)
    if zero is not None:
        data -= tf.cast(_along(node, zero, tensor, axis), tf.float32)
    return Tensor(data * tf.cast(_along(node, scale, tensor, axis), tf.float32), tensor.order)


def _to_integers(node: Node, x: Tensor, scale: Value, zero: Value | None, axis: int = 1) -> Tensor:
    scaled = tf.round(x.data / tf.cast(_along(node, scale, x, axis), tf.float32))
    if zero is not None:
        offset = _along(node, zero, x, axis)
        scaled += tf.cast(offset, tf.float32)
        dtype = offset.dtype
    else:
        dtype = node.get("output_dtype") or tf.uint8
    return Tensor(tf.saturate_cast(scaled, dtype), x.order)


@op("QuantizeLinear")
def quantize(node: Node, x: Value, scale: Value, zero: Value | None = None) -> Tensor:
    """Returns integers: numbers divided by a scale, rounded to even, moved and kept within their dtype."""
    return _to_integers(node, node.tensor(x), scale, zero, node.get("axis", 1))


@op("DequantizeLinear")
def dequantize(node: Node, x: Value, scale: Value, zero: Value | None = None) -> Tensor:
    """Returns the numbers that integers stand for."""
    return _to_float(node, x, scale, zero, node.get("axis", 1))


@op("DynamicQuantizeLinear")
def quantize_dynamically(node: Node, values: Value) -> list[Tensor]:
    """Returns unsigned 8-bit integers, and the scale and zero point that fit what there is."""
    tensor = node.tensor(values)
    x = tensor.data
    low, high = tf.minimum(tf.reduce_min(x), 0), tf.maximum(tf.reduce_max(x), 0)
    scale = (high - low) / 255
    zero = tf.clip_by_value(tf.round(tf.math.divide_no_nan(-low, scale)), 0, 255)
    integers = tf.clip_by_value(tf.round(tf.math.divide_no_nan(x, scale)) + zero, 0, 255)
    return [Tensor(tf.cast(integers, tf.uint8), tensor.order), wrap(scale), wrap(tf.cast(zero, tf.uint8))]


def _centred(node: Node, x: Value, zero: Value | None, axis: int) -> Value:
    """Returns integers as float32, with their zero point at 0."""
    if isinstance(x, np.ndarray) and (zero is None or isinstance(zero, np.ndarray)):
        offset = np.zeros([], np.float32) if zero is None else np.asarray(zero, np.float32)
        if offset.ndim == 1 and offset.size > 1:
            offset = offset.reshape([-1 if at == axis % x.ndim else 1 for at in range(x.ndim)])
        return x.astype(np.float32) - offset.reshape(offset.shape if offset.ndim > 1 else [])
    tensor = node.tensor(x)
    data = tf.cast(tensor.data, tf.float32)
    return Tensor(data if zero is None else data - tf.cast(_along(node, zero, tensor, axis), tf.float32), tensor.order)


@op("ConvInteger")
def convolve_integers(
    node: Node, x: Value, weights: Value, x_zero: Value | None = None, w_zero: Value | None = None
) -> Tensor:
    """Returns the int32 convolution of integers."""
    return _cast(_convolved(node, x, weights, x_zero, w_zero), tf.int32)


def _convolved(
    node: Node, x: Value, weights: Value, x_zero: Value | None, w_zero: Value | None, bias: Any = None
) -> Tensor:
    centred = node.tensor(_centred(node, x, x_zero, 1))
    order = (0, *range(2, centred.rank), 1)
    kernel = weights_last(node, _centred(node, weights, w_zero, 0))
    return Tensor(conv2d(node, centred.in_order(order), kernel, bias), order)


def _cast(x: Tensor, dtype: Any) -> Tensor:
    return Tensor(tf.cast(x.data, dtype), x.order)


@op("MatMulInteger")
def multiply_integers(
    node: Node, a: Value, b: Value, a_zero: Value | None = None, b_zero: Value | None = None
) -> Tensor:
    """Returns the int32 products of integer matrices."""
    return _cast(_multiplied(node, a, b, a_zero, b_zero), tf.int32)


def _multiplied(node: Node, a: Value, b: Value, a_zero: Value | None, b_zero: Value | None) -> Tensor:
    return matmul(node, _centred(node, a, a_zero, -2), _centred(node, b, b_zero, -1))


@op("MatMulIntegerToFloat")
def multiply_integers_to_float(
    node: Node, a: Value, b: Value, a_scale: Value, b_scale: Value,
    a_zero: Value | None = None, b_zero: Value | None = None, bias: Value | None = None,
) -> Tensor:  # fmt: skip
    """Returns the numbers that products of integer matrices stand for, as onnxruntime fuses it."""
    product = _multiplied(node, a, b, a_zero, b_zero).data * node.plain(a_scale) * node.plain(b_scale)
    return wrap(product if bias is None else product + node.plain(bias))


@op("DynamicQuantizeMatMul")
def quantize_and_multiply(
    node: Node, a: Value, b: Value, b_scale: Value, b_zero: Value | None = None, bias: Value | None = None
) -> Tensor:
    """Returns the product of a matrix, quantized first, with a quantized one, as onnxruntime fuses it."""
    integers, scale, zero = quantize_dynamically(node, a)
    return multiply_integers_to_float(node, integers, b, scale, b_scale, zero, b_zero, bias)


@op("MatMulNBits")
def multiply_by_few_bits(
    node: Node, a: Value, packed: Value, scales: Value, zeros: Value | None = None, groups: Value | None = None,
    bias: Value | None = None,
) -> Tensor:  # fmt: skip
    """Returns the product with a matrix whose columns are stored in a few bits, each block of them with its scale."""
    stored = (packed, scales, zeros, groups)
    if any(isinstance(value, Tensor) for value in stored):
        raise ValueError("MatMulNBits is known with constant weights")
    product = matmul(node, a, _from_few_bits(node, *stored))
    return product if bias is None else Tensor(product.data + node.plain(bias), product.order)


def _from_few_bits(node: Node, packed: Any, scales: Any, zeros: Any, groups: Any) -> Any:
    """Returns the matrix, float32 [K, N], that onnxruntime's MatMulNBits packs by columns: the lowest bits first."""
    count, columns, bits = node.get("K"), node.get("N"), node.get("bits", 4)

    def unpack(bytes_: Any) -> Any:
        values = bytes_.reshape(columns, -1, 1) >> np.arange(0, 8, bits, dtype=np.uint8) & 2**bits - 1
        return values.reshape(columns, -1).astype(np.float32)

    group = np.arange(count) // node.get("block_size") if groups is None else groups[:count]
    offsets: Any = np.float32(2 ** (bits - 1))
    if zeros is not None:
        offsets = unpack(zeros) if zeros.dtype == np.uint8 else zeros.reshape(columns, -1).astype(np.float32)
        offsets = offsets[:, group]
    return ((unpack(packed)[:, :count] - offsets) * scales.reshape(columns, -1).astype(np.float32)[:, group]).T


_HALF_OF_FP4 = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
_NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
_FOUR_BITS = [np.concatenate([_HALF_OF_FP4, -_HALF_OF_FP4]), np.array(_NF4, np.float32)]
"""What four bits stand for to bitsandbytes, by quant_type."""


@op("MatMulBnb4")
def multiply_by_table(node: Node, a: Value, packed: Value, largest: Value) -> Tensor:
    """Returns the product with a matrix whose numbers stand in a table: two in a byte, the first in its higher bits."""
    if isinstance(packed, Tensor) or isinstance(largest, Tensor) or not node.get("transB", 1):
        raise ValueError("MatMulBnb4 is known with constant weights, stored by columns")
    count, columns = node.get("K"), node.get("N")
    indices = np.stack([packed.ravel() >> 4, packed.ravel() & 15], 1).ravel()[: count * columns]
    scales = np.repeat(largest.astype(np.float32), node.get("block_size"))[: count * columns]
    weights = _FOUR_BITS[node.get("quant_type")][indices] * scales
    return matmul(node, a, weights.reshape(columns, count).T)


def _channels_second(node: Node, x: Value) -> Tensor:
    """Returns a picture as ONNX has it, also where onnxruntime says that its channels are last."""
    tensor = node.tensor(x)
    return tensor.permuted([0, tensor.rank - 1, *range(1, tensor.rank - 1)]) if node.get("channels_last", 0) else tensor


def _as_stated(node: Node, x: Tensor) -> Tensor:
    return x.permuted([0, *range(2, x.rank), 1]) if node.get("channels_last", 0) else x


@op("NhwcMaxPool")
def max_pool_channels_last(node: Node, x: Value) -> Tensor:
    """Returns the largest number of each window of a picture with its channels last."""
    stated = dataclasses.replace(node, op="MaxPool", attributes={**node.attributes, "channels_last": 1})
    return _as_stated(stated, OPS["MaxPool"](stated, _channels_second(stated, x)))


@op("QLinearConv")
def convolve_quantized(
    node: Node, x: Value, x_scale: Value, x_zero: Value, weights: Value, w_scale: Value, w_zero: Value,
    y_scale: Value, y_zero: Value, bias: Value | None = None,
) -> Tensor:  # fmt: skip
    """Returns the convolution of integers as integers, each with its scale."""
    offset = None if bias is None else tf.cast(node.plain(bias), tf.float32)
    total = _convolved(node, _channels_second(node, x), weights, x_zero, w_zero, offset)
    factor = node.plain(x_scale) * tf.reshape(node.plain(w_scale), [-1]) / node.plain(y_scale)
    return _as_stated(node, _moved(node, Tensor(total.data * factor, total.order), y_zero))


def _moved(node: Node, x: Tensor, zero: Value) -> Tensor:
    offset = tf.reshape(node.plain(zero), [])
    return Tensor(tf.saturate_cast(tf.round(x.data) + tf.cast(offset, tf.float32), offset.dtype), x.order)


@op("QLinearMatMul")
def multiply_quantized(
    node: Node, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value,
    y_scale: Value, y_zero: Value,
) -> Tensor:  # fmt: skip
    """Returns the products of integer matrices as integers, each with its scale."""
    product = _multiplied(node, a, b, a_zero, b_zero).data
    factor = node.plain(a_scale) * node.plain(b_scale) / node.plain(y_scale)
    return _moved(node, wrap(product * factor), y_zero)


@op("QGemm")
def gemm_quantized(
    node: Node, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value,
    c: Value | None = None, y_scale: Value | None = None, y_zero: Value | None = None,
) -> Tensor:  # fmt: skip
    """Returns a product of integer matrices, as integers or as the numbers they stand for."""
    one = node.plain(_centred(node, a, a_zero, -1))
    other = node.plain(_centred(node, b, b_zero, 0 if node.get("transB", 0) else -1))
    total = tf.matmul(one, other, transpose_a=bool(node.get("transA", 0)), transpose_b=bool(node.get("transB", 0)))
    if c is not None:
        total += tf.cast(node.plain(c), tf.float32)
    result = wrap(total * node.plain(a_scale) * node.plain(b_scale) * node.get("alpha", 1.0))
    return result if y_scale is None else _to_integers(node, result, y_scale, y_zero)


def _between(name: str, operator: str, count: int = 1) -> None:
    """Registers what onnxruntime computes on quantized numbers as the plain operator between their scales."""

    def handler(node: Node, *values: Any) -> Tensor:
        inputs = [_channels_second(node, _to_float(node, *values[3 * at : 3 * at + 3])) for at in range(count)]
        scale, zero = (*values[3 * count :], None)[:2]
        if zero is None:
            zero = np.zeros([], node.tensor(values[0]).data.dtype.as_numpy_dtype)
        return _to_integers(node, _as_stated(node, node.tensor(OPS[operator](node, *inputs))), scale, zero)

    OPS[name] = handler


for _name, _operator, _count in (
    ("QLinearAdd", "Add", 2), ("QLinearMul", "Mul", 2), ("QLinearSigmoid", "Sigmoid", 1),
    ("QLinearLeakyRelu", "LeakyRelu", 1), ("QLinearAveragePool", "AveragePool", 1),
    ("QLinearGlobalAveragePool", "GlobalAveragePool", 1), ("QLinearReduceMean", "ReduceMean", 1),
):  # fmt: skip
    _between(_name, _operator, _count)


@op("QLinearSoftmax")
def softmax_quantized(node: Node, x: Value, x_scale: Value, x_zero: Value, y_scale: Value, y_zero: Value) -> Tensor:
    """Returns quantized shares of quantized numbers; the opset that the rule of its axis is from is an attribute."""
    as_stated = dataclasses.replace(node, op="Softmax", opset=node.get("opset", node.opset))
    return _to_integers(node, OPS["Softmax"](as_stated, _to_float(node, x, x_scale, x_zero)), y_scale, y_zero)


@op("QLinearConcat")
def concat_quantized(node: Node, y_scale: Value, y_zero: Value, *values: Any) -> Tensor:
    """Returns quantized values joined, in one scale."""
    parts = [_to_float(node, *values[at : at + 3]) for at in range(0, len(values), 3)]
    return _to_integers(node, node.tensor(OPS["Concat"](node, *parts)), y_scale, y_zero)
