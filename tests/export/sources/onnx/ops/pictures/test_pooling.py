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


@pytest.mark.parametrize("by_columns", [0, 1])
def test_places_of_maxima(by_columns):
    windows = [window for window in WINDOWS if "dilations" not in window]
    check(*(Case("MaxPool", X, **window, outputs=2, storage_order=by_columns) for window in windows))
    small = drawn(2, 2, 8, 9, low=-100, high=100, dtype=np.int8)
    row = drawn(2, 3, 13)
    check(
        Case("MaxPool", small, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], outputs=2),
        Case("MaxPool", row, kernel_shape=[3], strides=[2], pads=[1, 1], outputs=2),
        Case("MaxPool", X, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER", outputs=2),
    )


def test_places_of_maxima_in_windows_with_holes_are_refused_by_name():
    with pytest.raises(ValueError, match="MaxPool 'MaxPool_0_out0': the places of its maxima are not known with dil"):
        check(Case("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 2], outputs=2))


@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},  # which overlap
    ],
)
@pytest.mark.parametrize("known", [[2, 3, 12, 14], [None, 3, None, None]])
def test_maxima_put_back(window, known):
    """As SegNet's decoder does, to the size that was, be that even or not."""
    net = networks.Network(17)
    largest, places = net.add("MaxPool", "x", outputs=2, **window)
    changed = net.add("Conv", largest, net.constant(drawn(3, 3, 1, 1)))
    even = net.add("MaxUnpool", changed, places, **(window | {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0]}))
    x = drawn(2, 3, 12, 14)
    check_network(net, even, x, known)
    sized = net.add("MaxUnpool", changed, places, net.add("Shape", "x"), **window)
    check_network(net, sized, x, known)
    if known[0] is None:
        net = networks.Network(17)
        largest, places = net.add("MaxPool", "x", outputs=2, **window)
        sized = net.add("MaxUnpool", largest, places, net.add("Shape", "x"), **window)
        check_network(net, sized, X, known)


def test_maxima_put_back_along_a_row():
    net = networks.Network(17)
    largest, places = net.add("MaxPool", "x", outputs=2, kernel_shape=[2], strides=[2])
    check_network(
        net, net.add("MaxUnpool", largest, places, kernel_shape=[2], strides=[2]), drawn(2, 3, 14), [2, 3, 14]
    )
