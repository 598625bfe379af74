"""What is made simpler when a file is read."""

import numpy as np
import onnx_networks as networks
import pytest
import tensorflow as tf
from maskport.export.sources.conversion import Weights
from maskport.export.sources.onnx.folding import fold
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain
from onnx import helper

X = np.random.default_rng(0).random((2, 3, 8, 10), np.float32)


def graph_of(net, output):
    inputs = [helper.make_tensor_value_info("x", 1, ["b", 3, "h", "w"])]
    graph = helper.make_graph(net.nodes, "g", inputs, [helper.make_empty_tensor_value_info(output)], net.constants)
    return read_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)]), "g")


def answer(graph, pictures=X, traces=False):
    weights = Weights()

    def answer(x):
        return as_plain(run(graph, [Tensor(x, (0, 1, 2, 3))], weights)[0])

    form = tf.TensorSpec([None, 3, None, None])
    return (tf.function(answer, [form], autograph=False) if traces else answer)(tf.constant(pictures)).numpy()


def folded_operators(net, output):
    """The operators that are left, once they were seen to answer the same."""
    graph = graph_of(net, output)
    folded = fold(graph)
    np.testing.assert_allclose(answer(folded), answer(graph), rtol=1e-4, atol=1e-5)
    # As TensorFlow optimizes it, fusing operations.
    np.testing.assert_allclose(answer(folded, traces=True), answer(graph), rtol=1e-4, atol=1e-5)
    return [node.op for node in folded.nodes]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_normalizations_become_part_of_convolutions(groups, bias):
    net = networks.Network(13)
    x = net.normalize(net.conv("x", 3, 6, group=groups, bias=bias), 6)
    weights = net.drawn(6, 4 // groups if groups == 1 else 2, 3, 3)
    filters = 4 if groups == 1 else 6
    x = net.add("ConvTranspose", x, weights, group=groups)
    assert folded_operators(net, net.add("Relu", net.normalize(x, filters))) == ["Conv", "ConvTranspose", "Relu"]


def test_sums_and_products_by_channel_become_part_of_convolutions():
    net = networks.Network(13)
    x = net.conv("x", 3, 6)
    for op, shape in (("Mul", [1, 6, 1, 1]), ("Add", [6, 1, 1]), ("Sub", []), ("Div", [6, 1, 1])):
        x = net.add(op, x, net.drawn(*shape, low=0.5, high=2.0))
    x = net.add("Add", net.drawn(1, 6, 1, 1), x)
    assert folded_operators(net, x) == ["Conv"]


def test_what_is_used_twice_or_is_no_factor_stays():
    net = networks.Network(13)
    x = net.conv("x", 3, 6)
    assert folded_operators(net, net.add("Add", net.normalize(x, 6), x)) == ["Conv", "BatchNormalization", "Add"]
    net = networks.Network(13)
    spread = net.add("Mul", net.conv("x", 3, 6), net.drawn(8, 10, low=0.5))
    assert folded_operators(net, net.add("Sub", net.drawn(6, 1, 1, low=0.5), spread)) == ["Conv", "Mul", "Sub"]
    net = networks.Network(13)
    one = net.add("Mul", net.conv("x", 3, 1), net.drawn(6, 1, 1, low=0.5))  # makes six channels of one
    assert folded_operators(net, one) == ["Conv", "Mul"]


def test_constants_of_constants_are_computed_once():
    net = networks.Network(13)
    sizes = net.add("Concat", net.as_node(0), net.add("Mul", net.as_node(1), net.as_node(3)), net.as_node(-1), axis=0)
    scaled = net.add("Mul", "x", net.add("Sqrt", net.constant(4.0)))
    assert folded_operators(net, net.add("Reshape", scaled, sizes)) == ["Mul", "Reshape"]


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("window", [{}, {"stride": 2}, {"dilations": [2, 2], "auto_pad": "SAME_UPPER"}])
def test_a_convolution_takes_two_pictures_as_they_are(axis, bias, window):
    net = networks.Network(13)
    joined = net.add("Concat", net.conv("x", 3, 4), net.add("Relu", "x"), axis=axis)
    first = net.add("Relu", net.normalize(net.conv(joined, 7, 5, bias=bias, **window), 5))
    second = net.conv(joined, 7, 5, bias=bias, **window)
    assert sorted(folded_operators(net, net.add("Mul", first, second))) == [
        "Conv", "Conv of Concat", "Conv of Concat", "Mul", "Relu", "Relu",
    ]  # fmt: skip


def test_a_part_of_the_two_may_be_a_constant_or_both_the_same():
    net = networks.Network(13)
    joined = net.add("Concat", net.drawn(2, 1, 8, 10), "x", axis=1)
    assert folded_operators(net, net.conv(joined, 4, 4)) == ["Conv of Concat"]
    net = networks.Network(13)
    assert folded_operators(net, net.conv(net.add("Concat", "x", "x", axis=1), 6, 5)) == ["Conv of Concat"]


def test_two_pictures_whose_channels_only_a_run_shows_are_joined_for_their_convolution():
    net = networks.Network(13)
    largest = net.add("ReduceMax", "x", axes=[0, 2, 3], keepdims=0)
    kept = net.add("Compress", "x", net.add("Greater", largest, net.constant(-1.0)), axis=1)
    assert folded_operators(net, net.conv(net.add("Concat", kept, "x", axis=1), 6, 5))[-1] == "Conv of Concat"


@pytest.mark.parametrize("shrinks_first", [True, False])
def test_pictures_of_two_sizes_are_refused_rather_than_added(shrinks_first):
    """TensorFlow's fused sum does not look, and writes past the end of the smaller one."""
    net = networks.Network(13)
    shrunk = net.add("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    sizes = net.add("Resize", shrunk, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    joined = net.add("Concat", *([sizes, "x"] if shrinks_first else ["x", sizes]), axis=1)
    folded = fold(graph_of(net, net.add("Relu", net.conv(joined, 6, 5))))
    assert [node.op for node in folded.nodes][-2:] == ["Conv of Concat", "Relu"]
    assert answer(folded, traces=True).shape == (2, 5, 8, 10)
    for traces in (True, False):
        with pytest.raises(
            tf.errors.InvalidArgumentError if traces else ValueError, match=r"Expected size|not compatible"
        ):
            answer(folded, X[:, :, :7, :9], traces)


@pytest.mark.parametrize(
    "why",
    [
        "others take it", "it is an output", "groups", "rows", "three", "more filters than channels",
        "a leaky ReLU follows", "a leaky ReLU follows later", "Mish follows", "Mish follows in parts",
    ],
)  # fmt: skip
def test_pictures_stay_joined_where_that_is_of_use(why):
    net = networks.Network(18)
    joined = net.add("Concat", *["x"] * (3 if why == "three" else 2), axis=2 if why == "rows" else 1)
    channels = {"three": 9, "rows": 3}.get(why, 6)
    filters = 7 if why == "more filters than channels" else channels
    x = net.conv(joined, channels, filters, group=2 if why == "groups" else 1)
    if why == "others take it":
        x = net.add("Add", x, joined)
    if why.startswith("a leaky ReLU"):
        x = net.add("LeakyRelu", net.add("Identity", x) if "later" in why else x, alpha=0.1)
    if why.startswith("Mish"):
        x = net.add("Mish", x) if "parts" not in why else net.add("Mul", x, net.add("Tanh", net.add("Softplus", x)))
    operators = folded_operators(net, joined if why == "it is an output" else x)
    assert operators[0] == "Concat"
    assert "Conv of Concat" not in operators
