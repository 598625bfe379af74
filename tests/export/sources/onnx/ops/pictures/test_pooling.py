"""Pooling, over its attributes."""

import numpy as np
import onnx_networks as networks
import pytest
from onnx_cases import Case, check, check_network, drawn

X = drawn(2, 3, 11, 14)
WINDOWS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [4, 3], "strides": [3, 2], "pads": [1, 0, 2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "dilations": [2, 3]},
    {"kernel_shape": [2, 3], "dilations": [2, 1], "strides": [2, 2], "pads": [1, 1, 1, 1]},
]


def test_largest():
    check(*(Case("MaxPool", X, **window) for window in WINDOWS))
    small = drawn(1, 2, 8, 9, low=-100, high=100, dtype=np.int8)
    check(Case("MaxPool", small, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]))


def test_places_of_maxima_that_nobody_wants():
    net = networks.Network(17)
    largest, _ = net.add("MaxPool", "x", outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    check_network(net, largest, X, [None, 3, None, None])


@pytest.mark.parametrize("counts", [0, 1])
def test_means(counts):
    check(*(Case("AveragePool", X, **window, count_include_pad=counts) for window in WINDOWS), opset=19)


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_auto_pad(op, how):
    check(Case(op, X, kernel_shape=[3, 2], auto_pad=how))
    strided = Case(op, X, kernel_shape=[3, 4], strides=[2, 3], auto_pad=how)
    check(strided, free=how != "SAME_LOWER")


def test_rows():
    row = drawn(2, 3, 13)
    check(
        Case("MaxPool", row, kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1),
        Case("AveragePool", row, kernel_shape=[4], pads=[1, 2]),
        Case("GlobalAveragePool", row),
    )


def test_norms():
    windows = [window for window in WINDOWS if "dilations" not in window and "ceil_mode" not in window]
    check(*(Case("LpPool", X, **window, p=power) for window in windows for power in (1, 2)))


def test_of_all():
    check(Case("GlobalAveragePool", X), Case("GlobalMaxPool", X))


def test_indices_of_maxima_are_refused_by_name():
    with pytest.raises(ValueError, match="MaxPool 'MaxPool_0_out0': the indices of its maxima"):
        check(Case("MaxPool", X, kernel_shape=[2, 2], outputs=2))
