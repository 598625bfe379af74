"""Sizes that are computed in a graph: known ones stay known, whatever else depends on the picture."""

import numpy as np
import onnx_networks as networks
import pytest
from onnx import helper
from onnx_cases import check_network

X = np.random.default_rng(0).random((2, 3, 6, 8), np.float32)


def expanded(net, shape):
    """What PyTorch writes for `expand`: -1 becomes 1, which keeps an axis."""
    wanted = net.add("Concat", net.as_node(-1), net.add("Gather", shape, net.as_node(1)), net.as_node(6, 8), axis=0)
    ones = net.add("ConstantOfShape", net.as_node(4), value=helper.make_tensor("one", 7, [1], [1]))
    is_open = net.add("Equal", wanted, net.add("Mul", ones, net.as_node(-1)))
    mean = net.add("ReduceMean", "x", axes=[2, 3])
    return net.add("Expand", mean, net.add("Where", is_open, ones, wanted))


def halved(net, shape):
    edge = net.add("Gather", shape, net.constant(2, np.int64))
    half = net.add("Div", net.add("Add", edge, net.constant(1, np.int64)), net.constant(2, np.int64))
    rows = net.add("Unsqueeze", net.add("Sub", edge, half), net.as_node(0))
    return net.add("Slice", "x", net.as_node(0), rows, net.as_node(2))


def multiplied(net, shape):
    count = net.add("ReduceProd", net.add("Slice", shape, net.as_node(2), net.as_node(4)), keepdims=1)
    return net.add("Reshape", "x", net.add("Concat", net.as_node(0, 0), count, axis=0))


def cast(net, shape):
    edges = net.add("Cast", net.add("Slice", shape, net.as_node(2), net.as_node(4)), to=1)
    edges = net.add("Cast", net.add("Floor", net.add("Mul", edges, net.constant(1.5))), to=7)
    sizes = net.add("Concat", net.add("Slice", shape, net.as_node(0), net.as_node(2)), edges, axis=0)
    return net.add("Resize", "x", "", "", sizes, mode="linear")


def scaled(net, shape):
    """What PyTorch wrote of old: scales, of a size and the one before."""
    before = net.add("Cast", net.add("Slice", shape, net.as_node(2), net.as_node(4)), to=1)
    after = net.add("Floor", net.add("Mul", before, net.constant(2.3)))
    scales = net.add("Concat", net.constant([1, 1]), net.add("Div", after, before), axis=0)
    return net.add("Resize", "x", "", scales, mode="linear", coordinate_transformation_mode="asymmetric")


def grouped(net, shape):
    batch, channels, rows, columns = (net.add("Gather", shape, net.as_node(axis)) for axis in range(4))
    apart = net.add("Concat", batch, net.as_node(3), net.add("Div", channels, net.as_node(3)), rows, columns, axis=0)
    shuffled = net.add("Transpose", net.add("Reshape", "x", apart), perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", shuffled, shape)


def of_a_number(net, shape):
    """What PyTorch's newer exporter writes of x[:, :, h % 4 :]: a single number that is computed becomes a row."""
    edge = net.add("Squeeze", net.add("Slice", shape, net.as_node(2), net.as_node(3)))
    rest = net.add("Reshape", net.add("Mod", edge, net.constant(4, np.int64)), net.as_node(-1))
    return net.add("Slice", "x", rest, net.as_node(2**31), net.as_node(2))


def narrow(net, shape):
    """As TensorFlow's sizes are: int32."""
    edges = net.add("Cast", net.add("Slice", shape, net.as_node(2), net.as_node(4)), to=6)
    ends = net.add("Max", edges, net.constant([4, 9], np.int32))
    axes = net.constant([2, 3], np.int32)
    part = net.add("Slice", "x", net.constant([1, 2], np.int32), ends, axes)
    rest = net.add("Mod", net.add("Gather", edges, net.constant(0, np.int64)), net.constant(4, np.int32))
    return net.add("Mul", part, net.add("Cast", rest, to=1))


def below_zero(net, shape):
    """A quotient below zero, (6 - 9) / 2, loses its fraction: the last row, not the last two."""
    edge = net.add("Slice", shape, net.as_node(2), net.as_node(3))
    half = net.add("Div", net.add("Sub", edge, net.as_node(9)), net.as_node(2))
    return net.add("Slice", "x", half, net.as_node(2**31), net.as_node(2))


def of_unknown_one(net, shape):
    edge = net.add("Slice", shape, net.as_node(2), net.as_node(3))
    row = net.add("Slice", "x", net.as_node(0), net.add("Sub", edge, net.as_node(5)), net.as_node(2))
    return net.add("Expand", row, net.as_node(2, 3, 6, 8))


def to_the_end(net, shape):
    """An end that is the largest of all integers, among others of which only the picture tells."""
    is_bright = net.add("Greater", net.add("ReduceMean", "x", keepdims=0), net.constant(-1))
    ends = net.add("Where", is_bright, net.as_node(3, 2**63 - 1), net.as_node(1, 1))
    return net.add("Slice", "x", net.as_node(0, 0), ends, net.as_node(2, 3))


def joined(net, shape):
    """As tf2onnx makes them int32: sizes, which are int64 here where they are known, meet numbers that are not."""
    edges = net.add("Cast", shape, to=6)
    channels = net.add(
        "Concat", net.add("Slice", edges, net.as_node(1), net.as_node(2)), net.constant([-1], np.int32), axis=0
    )
    wanted = net.add("Concat", net.constant([0], np.int32), channels, axis=0)
    return net.add("Reshape", "x", net.add("Cast", wanted, to=7))


def computed(net, shape):
    edges = net.add("Slice", net.add("Cast", shape, to=6), net.as_node(2), net.as_node(4))
    halves = net.add("Cast", net.add("Mul", net.add("Cast", edges, to=1), net.constant(0.5)), to=6)
    ends = net.add("Concat", halves, net.add("Abs", edges), axis=0)
    last = net.add("Cast", net.add("Slice", ends, net.as_node(1), net.as_node(3)), to=7)
    return net.add("Slice", "x", net.as_node(0, 0), last, net.as_node(3, 2))


def taken_apart(net, shape):
    batch, channels, rows, columns = net.add("Split", shape, outputs=4)
    return net.add("Reshape", "x", net.add("Concat", batch, channels, columns, rows, axis=0))


def convolved(net, shape):
    """Of channels that only a run knows, until something has weights for them."""
    batch, _, edges = net.add("Split", shape, net.as_node(1, 1, 2), outputs=3)
    x = net.add("Reshape", "x", net.add("Concat", batch, net.as_node(-1), edges, axis=0))
    kernel = net.drawn(3, 3, 2, 2)
    parts = [net.add("ConvTranspose", x, kernel), net.add("ConvTranspose", x, net.drawn(3, 1, 2, 2), group=3)]
    return net.add("Add", net.add("Add", *parts), net.conv(x, 3, 3, size=2, pads=[1, 1, 1, 1], group=3))


def fitted(net, shape):
    """As U-Nets pad what they make larger to what they skip to: a row more, and three columns fewer."""
    missing = net.add("Sub", net.as_node(7, 5), net.add("Slice", shape, net.as_node(2), net.as_node(4)))
    return net.add("Pad", "x", net.add("Concat", net.as_node(0, 0, 0, 0, 0, 0), missing, axis=0))


WRITTEN = [
    expanded, halved, multiplied, cast, scaled, grouped, of_a_number, narrow, below_zero, of_unknown_one, to_the_end,
    joined, computed, taken_apart, convolved, fitted,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITTEN)
@pytest.mark.parametrize("known", [[2, 3, 6, 8], [None, 3, 6, 8], [None, 3, None, None], [2, 3, None, None]])
def test_sizes_are_computed(write, known):
    net = networks.Network(13)
    output = write(net, net.add("Shape", "x"))
    assert check_network(net, output, X, known).structured_outputs.shape[1] == 3


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("known", [[2, 3, 6, 8], [None, 3, 6, 8], [None, 3, None, None]])
@pytest.mark.parametrize("size", [(12, 9), (1, 5), (1, 1)])
def test_pictures_are_resized_each_by_itself(coordinates, known, size):
    """As `F.interpolate(size=...)` is written: the sizes of all axes, of which batch and channels are the picture's."""
    net = networks.Network(13)
    shape = net.add("Shape", "x")
    kept = net.add("Slice", shape, net.as_node(0), net.as_node(2))
    wanted = net.add("Concat", kept, net.as_node(*size), axis=0)
    rules = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    traced = check_network(net, net.add("Resize", "x", "", "", wanted, **rules), X, known)
    ops = [node.op for node in traced.graph.as_graph_def().node]
    assert ops.count("ResizeBilinear") == 1
    assert "MatMul" not in ops


@pytest.mark.parametrize("known", [[2, 6, 8, 3], [None, None, None, 3], [2, None, 8, 3]])
@pytest.mark.parametrize("by_scales", [False, True])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_pictures_with_channels_last_are_resized_along_height_and_width(known, by_scales, mode):
    """As tf2onnx writes what TensorFlow resizes: all sizes are int32, and joined with others of int64."""
    net = networks.Network(13)
    shape = net.add("Cast", net.add("Shape", "x"), to=6)
    before = net.add("Slice", shape, net.as_node(1), net.as_node(3))
    after = net.add("Mul", before, net.constant([2, 3], np.int32))
    rules = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if by_scales:
        factors = net.add("Div", net.add("Cast", after, to=1), net.add("Cast", before, to=1))
        scales = net.add("Concat", net.constant([1]), factors, net.constant([1]), axis=0)
        output = net.add("Resize", "x", "", scales, **rules)
    else:
        ends = [net.add("Slice", shape, net.as_node(at), net.as_node(at + 1)) for at in (0, 3)]
        wide = net.add("Cast", net.add("Concat", ends[0], after, ends[1], axis=0), to=7)
        output = net.add("Resize", "x", "", "", wide, **rules)
    check_network(net, output, X.transpose(0, 2, 3, 1), known)


def test_pytorch_makes_one_pixel_of_the_first_also_where_sizes_are_computed():
    net = networks.Network(13)
    edges = net.add("Slice", net.add("Shape", "x"), net.as_node(2), net.as_node(4))
    wanted = net.add("Concat", net.as_node(2, 3), net.add("Div", edges, net.as_node(6, 4)), axis=0)
    rules = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    check_network(net, net.add("Resize", "x", "", "", wanted, **rules), X, [None, 3, None, None])


@pytest.mark.parametrize("known", [[None, 3, 6, 8], [None, 3, None, None]])
def test_patches_are_put_together_to_sizes_that_are_computed(known):
    net = networks.Network(18)
    batch, edges = (
        net.add("Slice", net.add("Shape", "x"), net.as_node(a), net.as_node(b)) for a, b in ((0, 1), (2, 4))
    )
    patches = net.add("Reshape", "x", net.add("Concat", batch, net.as_node(12, -1), axis=0))
    output = net.add("Col2Im", patches, edges, net.as_node(2, 2), strides=[2, 2])
    assert check_network(net, output, X, known).structured_outputs.shape[1] == 3
