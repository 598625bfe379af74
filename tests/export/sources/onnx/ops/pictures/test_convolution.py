"""Convolutions and their transposes, over their attributes."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 4, 11, 14)


def test_pads_strides_and_dilations():
    weights, bias = drawn(6, 4, 3, 5), drawn(6)
    check(
        Case("Conv", X, weights),
        Case("Conv", X, weights, bias, pads=[1, 2, 1, 2]),
        Case("Conv", X, weights, bias, pads=[0, 1, 2, 3], strides=[2, 3]),
        Case("Conv", X, weights, pads=[2, 2, 2, 2], dilations=[2, 1]),
        Case("Conv", X, weights, pads=[1, 0, 2, 4], dilations=[2, 2], strides=[1, 2]),
        Case("Conv", X, drawn(6, 4, 2, 4), pads=[0, 1, 1, 2]),
        Case("Conv", X, drawn(5, 4, 1, 1), strides=[2, 2]),
    )


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad(how):
    check(
        Case("Conv", X, drawn(6, 4, 3, 5), auto_pad=how),
        Case("Conv", X, drawn(6, 4, 2, 2), auto_pad=how),
        Case("Conv", X, drawn(4, 1, 3, 3), auto_pad=how, group=4),
    )
    strided = [Case("Conv", X, drawn(6, 4, 3, 4), auto_pad=how, strides=[2, 3])]
    strided.append(Case("Conv", X, drawn(4, 1, 3, 3), auto_pad=how, group=4, strides=[2, 2]))
    check(*strided, free=how != "SAME_LOWER")


def test_groups():
    check(
        Case("Conv", X, drawn(4, 1, 3, 3), drawn(4), group=4, pads=[1, 1, 1, 1]),
        Case("Conv", X, drawn(8, 1, 3, 3), drawn(8), group=4, pads=[1, 1, 1, 1], strides=[2, 2]),
        Case("Conv", X, drawn(4, 1, 3, 2), group=4, pads=[0, 1, 2, 0], strides=[1, 2]),
        Case("Conv", X, drawn(4, 1, 3, 3), group=4, pads=[2, 2, 2, 2], dilations=[2, 2]),
        Case("Conv", X, drawn(4, 1, 3, 3), group=4, pads=[2, 3, 2, 3], dilations=[2, 3], strides=[2, 2]),
        Case("Conv", X, drawn(6, 2, 3, 3), drawn(6), group=2, pads=[1, 1, 1, 1], strides=[2, 2]),
        *(
            Case("Conv", X, drawn(4, 1, 3, 3), group=4, pads=pads, strides=[stride, stride])
            for pads, stride in (([0, 1, 0, 1], 2), ([1, 1, 2, 0], 2), ([0, 0, 2, 2], 2), ([1, 1, 1, 1], 3))
        ),
        Case("Conv", X, drawn(4, 1, 5, 5), group=4, pads=[2, 2, 2, 2], strides=[2, 2]),
    )


def test_rows():
    row = drawn(2, 4, 13)
    check(
        Case("Conv", row, drawn(6, 4, 3), drawn(6), pads=[1, 2], strides=[2]),
        Case("Conv", row, drawn(4, 1, 5), group=4, auto_pad="SAME_UPPER"),
        Case("ConvTranspose", row, drawn(4, 3, 3), drawn(3), strides=[2], pads=[1, 1], output_padding=[1]),
    )


def test_transposed():
    weights, bias = drawn(4, 3, 3, 4), drawn(3)
    check(
        Case("ConvTranspose", X, weights),
        Case("ConvTranspose", X, drawn(4, 3, 2, 2), bias, strides=[2, 2]),
        Case("ConvTranspose", X, weights, bias, strides=[2, 3], pads=[1, 0, 0, 2]),
        Case("ConvTranspose", X, weights, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        Case("ConvTranspose", X, weights, strides=[3, 3], output_padding=[2, 1]),
        Case("ConvTranspose", X, weights, dilations=[2, 3], strides=[2, 1], pads=[2, 1, 1, 2]),
        Case("ConvTranspose", X, drawn(4, 3, 1, 1), strides=[2, 2]),
    )


def test_transposed_groups():
    check(
        Case("ConvTranspose", X, drawn(4, 1, 4, 4), group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
        Case("ConvTranspose", X, drawn(4, 1, 3, 3), drawn(4), group=4, strides=[2, 2], output_padding=[1, 1]),
        Case("ConvTranspose", X, drawn(4, 1, 3, 3), group=4, strides=[1, 2], pads=[1, 1, 1, 1]),
        Case("ConvTranspose", X, drawn(4, 3, 3, 3), drawn(6), group=2, strides=[2, 2], pads=[1, 0, 1, 0]),
    )


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_transposed_auto_pad(how):
    check(
        Case("ConvTranspose", X, drawn(4, 3, 3, 3), auto_pad=how, strides=[2, 2]),
        Case("ConvTranspose", X, drawn(4, 3, 4, 4), auto_pad=how, strides=[2, 3]),
        Case("ConvTranspose", X, drawn(4, 3, 2, 2), auto_pad=how, strides=[3, 3]),
    )


def test_transposed_to_a_given_size():
    sizes = [Case("ConvTranspose", X, drawn(4, 3, 3, 3), strides=[2, 2], output_shape=[22, 29])]
    check(*sizes, Case("ConvTranspose", X, drawn(4, 3, 3, 3), strides=[3, 2], output_shape=[34, 27]), free=False)


@pytest.mark.parametrize(("activation", "numbers"), [("Relu", []), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 2.0])])
def test_fused_with_an_activation(activation, numbers):
    weights = drawn(6, 4, 1, 1)
    case = Case("FusedConv", X, weights, drawn(6), domain="com.microsoft", activation=activation)
    if numbers:
        case.attributes["activation_params"] = numbers
    check(case)


def test_volumes_are_refused_by_name():
    with pytest.raises(ValueError, match="Conv 'Conv_0_out0': it has 3 axes beside batch and channels; 1 and 2 are"):
        check(Case("Conv", drawn(1, 2, 5, 5, 5), np.ones([1, 2, 3, 3, 3], np.float32)))
