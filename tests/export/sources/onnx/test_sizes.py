"""Sizes that are computed in a graph: known ones stay known, whatever else depends on the picture."""

import numpy as np
import onnx_networks as networks
import onnxruntime
import pytest
import tensorflow as tf
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain
from maskport.export.sources.weights import Weights
from onnx import helper

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


@pytest.mark.parametrize("write", [expanded, halved, multiplied, cast, scaled, grouped])
@pytest.mark.parametrize("known", [[2, 3, 6, 8], [None, 3, 6, 8], [None, 3, None, None]])
def test_sizes_are_computed(write, known):
    net = networks.Network(13)
    output = write(net, net.add("Shape", "x"))
    inputs = [helper.make_tensor_value_info("x", 1, [edge or f"d{axis}" for axis, edge in enumerate(known)])]
    graph = helper.make_graph(net.nodes, "g", inputs, [helper.make_empty_tensor_value_info(output)], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]
    read = read_graph(model, "g")
    traced = tf.function(lambda x: as_plain(run(read, [Tensor(x, (0, 1, 2, 3))], Weights())[0]), autograph=False)
    concrete = traced.get_concrete_function(tf.TensorSpec(known))
    np.testing.assert_allclose(concrete(tf.constant(X)), wanted, rtol=1e-5)
    assert concrete.structured_outputs.shape[1] == 3
