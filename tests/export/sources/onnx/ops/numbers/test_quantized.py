"""Operators on 8-bit integers, signed and unsigned, by tensor and by channel."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 3, 6, 7)
SCALE, SCALES = np.float32(0.03), np.array([0.02, 0.05, 0.1], np.float32)
DTYPES = [np.uint8, np.int8]


def integers(*shape, dtype):
    info = np.iinfo(dtype)
    return drawn(*shape, low=info.min, high=info.max, dtype=dtype)


def zero(dtype, *shape):
    return np.full(shape, 3 if dtype == np.int8 else 131, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_to_integers_and_back(dtype):
    values = integers(2, 3, 6, 7, dtype=dtype)
    check(
        Case("QuantizeLinear", X, SCALE, zero(dtype)),
        Case("QuantizeLinear", X, SCALES, zero(dtype, 3)),
        Case("QuantizeLinear", X, drawn(7, low=0.01, high=0.1), zero(dtype, 7), axis=-1),
        Case("DequantizeLinear", values, SCALE, zero(dtype)),
        Case("DequantizeLinear", values, SCALES, zero(dtype, 3)),
        Case("DequantizeLinear", values, SCALE),
        Case("DequantizeLinear", values, drawn(6), axis=2),
    )
    check(Case("DequantizeLinear", integers(4, 6, dtype=dtype), drawn(2, 6), block_size=2, axis=0), opset=21)


def test_to_integers_by_what_there_is():
    check(Case("DynamicQuantizeLinear", X, outputs=3), Case("DynamicQuantizeLinear", np.abs(X) + 1, outputs=3))
    check(Case("QuantizeLinear", X, SCALE))


@pytest.mark.parametrize(("dtype", "weights_dtype"), [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
def test_products_of_integers(dtype, weights_dtype):
    values, weights = integers(2, 4, 5, dtype=dtype), integers(5, 3, dtype=weights_dtype)
    cases = [
        Case("MatMulInteger", values, weights, zero(dtype), zero(weights_dtype)),
        Case("MatMulInteger", values, weights),
    ]
    quantized = [values, SCALE, zero(dtype), weights, SCALE, zero(weights_dtype), np.float32(0.3), zero(dtype)]
    if dtype == np.uint8:
        image, kernel = integers(2, 3, 6, 7, dtype=dtype), integers(4, 3, 3, 2, dtype=weights_dtype)
        cases.append(Case("ConvInteger", image, kernel, zero(dtype), zero(weights_dtype), pads=[1, 0, 1, 1]))
        cases.append(Case("ConvInteger", image, kernel, strides=[2, 1]))
    check(*cases, Case("QLinearMatMul", *quantized))


@pytest.mark.parametrize("bits", [4, 8])
def test_products_with_matrices_of_few_bits(bits):
    """As files of transformers.js have them that end in _q4: 40 rows in blocks of 16, not all of them whole."""
    rows, columns, blocks = 40, 5, 3
    packed = drawn(columns, blocks, 16 * bits // 8, low=0, high=255, dtype=np.uint8)
    scales = drawn(columns, blocks, low=0.01, high=0.1)
    zeros = drawn(columns, -(-blocks * bits // 8), low=0, high=255, dtype=np.uint8)
    values, bias = drawn(2, 3, rows), drawn(columns)
    fields = {"K": rows, "N": columns, "bits": bits, "block_size": 16, "domain": "com.microsoft"}
    check(
        Case("MatMulNBits", values, packed, scales, **fields),
        Case("MatMulNBits", values, packed, scales.reshape(-1), zeros, **fields),
        Case("MatMulNBits", values, packed, scales, None, None, bias, **fields),
    )


@pytest.mark.parametrize("kind", [0, 1])
def test_products_with_matrices_of_four_bits_by_a_table(kind):
    """As files of transformers.js have them that end in _bnb4; an odd number of weights, the last block not whole."""
    rows, columns = 15, 7
    packed = drawn(-(-rows * columns // 2), low=0, high=255, dtype=np.uint8)
    largest = drawn(-(-rows * columns // 16), low=0.01)
    fields = {"K": rows, "N": columns, "block_size": 16, "quant_type": kind, "domain": "com.microsoft"}
    check(Case("MatMulBnb4", drawn(2, 3, rows), packed, largest, **fields))


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolved(dtype):
    image, kernel, bias = (
        integers(2, 3, 6, 7, dtype=dtype),
        integers(4, 3, 3, 3, dtype=np.int8),
        integers(4, dtype=np.int32),
    )
    scales, zeros = drawn(4, low=0.001, high=0.01), np.zeros(4, np.int8)
    by_tensor = [image, SCALE, zero(dtype), kernel, SCALE, np.int8(0), np.float32(0.9), zero(dtype)]
    by_channel = [image, SCALE, zero(dtype), kernel, scales, zeros, np.float32(0.2), zero(dtype)]
    check(
        Case("QLinearConv", *by_tensor, pads=[1, 1, 1, 1]),
        Case("QLinearConv", *by_channel, bias // 2**20, strides=[2, 2]),
        atol=1,  # of an integer, where a number is as near to both neighbours
    )


def test_as_onnxruntime_fuses_them():
    values = integers(2, 3, 6, 7, dtype=np.uint8)
    one, answer = [values, SCALE, zero(np.uint8)], [np.array(0.05, np.float32), zero(np.uint8)]
    share = [np.array(1 / 256, np.float32), np.array(0, np.uint8)]
    rows, weights = integers(4, 5, dtype=np.uint8), integers(5, 3, dtype=np.int8)
    by_column, kernel = [drawn(3, low=0.001, high=0.01), np.zeros(3, np.int8)], integers(4, 7, 3, 3, dtype=np.int8)
    cases = [
        Case("QLinearAdd", *one, *one, *answer), Case("QLinearMul", *one, *one, *answer),
        Case("QLinearSigmoid", *one, *share),
        Case("QLinearLeakyRelu", *one, *answer, alpha=0.1),
        Case("QLinearGlobalAveragePool", *one, *answer), Case("QLinearSoftmax", *one, *share, axis=-1, opset=13),
        Case("QLinearAveragePool", *one, *answer, kernel_shape=[2, 2]),
        Case("QLinearConcat", *answer, *one, *one, fed=0, axis=1),
        Case("QGemm", rows, SCALE, zero(np.uint8), weights, SCALE, np.int8(0), None, *answer),
        Case("QGemm", rows, SCALE, zero(np.uint8), weights.T.copy(), *by_column, None, *answer, transB=1),
        Case("QLinearGlobalAveragePool", *one, *answer, channels_last=1),
        Case("QLinearAveragePool", *one, *answer, channels_last=1, kernel_shape=[2, 3], strides=[2, 1]),
        Case("QLinearConv", *one, kernel, SCALE, np.int8(0), *answer, channels_last=1, pads=[1, 0, 1, 2]),
        Case("NhwcMaxPool", values, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1]),
        Case("MatMulIntegerToFloat", rows, weights, SCALE, SCALE, zero(np.uint8), np.int8(0)),
        Case("DynamicQuantizeMatMul", drawn(4, 5), weights, SCALE, np.int8(0), drawn(3)),
    ]  # fmt: skip
    for case in cases:
        case.domain = "com.microsoft"
    check(*cases, atol=1, free=False)
