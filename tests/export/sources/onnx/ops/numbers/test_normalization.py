"""Normalizations, over their attributes."""

import numpy as np
import onnx_networks as networks
import pytest
import tensorflow as tf
from maskport.export.sources.conversion import Weights
from maskport.export.sources.onnx.folding import fold
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain, natural
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Case, answer_of, check, check_network, drawn

X = drawn(2, 6, 5, 4)


def test_learned():
    numbers = [drawn(6), drawn(6), drawn(6), drawn(6, low=0.5, high=2.0)]
    check(Case("BatchNormalization", X, *numbers), Case("BatchNormalization", X, *numbers, epsilon=0.1))
    check(Case("BatchNormalization", drawn(3, 6), *numbers), Case("BatchNormalization", drawn(3, 6, 7), *numbers))


def test_of_each_picture():
    check(
        Case("InstanceNormalization", X, drawn(6), drawn(6)),
        Case("InstanceNormalization", drawn(2, 6, 9), drawn(6), drawn(6), epsilon=0.01),
        Case("LpNormalization", X, axis=1), Case("LpNormalization", X, axis=-1, p=1),
        Case("LRN", X, size=3), Case("LRN", X, size=5, alpha=0.1, beta=0.5, bias=2.0),
        Case("MeanVarianceNormalization", X), Case("MeanVarianceNormalization", X, axes=[1, 3]),
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 2, 400_000), (1, 2, 500, 800)])
def test_of_many_numbers(shape):
    # PyTorch's group normalization comes as the first: a sum of so many numbers in turn is too inexact.
    values = np.random.default_rng(0).normal(-6, 20, shape).astype(np.float32)
    case = Case("InstanceNormalization", values, np.ones(2, np.float32), np.zeros(2, np.float32))
    axes = tuple(range(2, values.ndim))
    centred = values - values.mean(axes, np.float64, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(answer_of(case), expected, rtol=0, atol=2e-6)


def test_of_groups():
    check(Case("GroupNormalization", X, drawn(6), drawn(6), num_groups=3), opset=21)
    check(Case("GroupNormalization", X, drawn(2), drawn(2), num_groups=2, epsilon=0.1), opset=18)


def test_of_layers():
    tokens = drawn(2, 7, 6)
    check(
        Case("LayerNormalization", tokens, drawn(6), drawn(6)),
        Case("LayerNormalization", tokens, drawn(6), epsilon=0.1),
        Case("LayerNormalization", drawn(2, 3, 6), drawn(3, 6), drawn(3, 6), axis=1),
        Case("LayerNormalization", X, drawn(5, 4), drawn(5, 4), axis=-2, epsilon=1e-3),
        Case("SimplifiedLayerNormalization", tokens, drawn(6)),
    )
    skipped = Case("SkipLayerNormalization", tokens, tokens[::-1], drawn(6), drawn(6), drawn(6), domain="com.microsoft")
    check(skipped)
    check(Case("RMSNormalization", tokens, drawn(6)), opset=23)


def test_sums_of_transformers_are_normalized_along_their_channels():
    """Patches of a picture, [B, C, h w] and then [B, h w, C], however they are stored."""
    net = networks.Network(17)
    patches = net.add("Transpose", net.add("Reshape", "x", net.as_node(0, 4, -1)), perm=[0, 2, 1])
    weights = [net.drawn(4, low=0.5), net.drawn(4, low=-1.0)]
    total = net.add("SkipLayerNormalization", patches, patches, *weights, domain="com.microsoft", epsilon=1e-5)
    check_network(net, total, drawn(2, 4, 3, 5), [None, 4, None, None])


def test_in_training_mode_the_statistics_are_those_of_what_is_there():
    """As a network is exported that nobody called eval() on; it is not folded into the convolution before."""
    net = networks.Network(15)
    numbers = [net.drawn(4, low=a, high=b) for a, b in [(0.5, 1.5), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)]]
    y = net.add("BatchNormalization", net.conv("x", 6, 4), *numbers, training_mode=1, outputs=3)[0]
    inputs = [helper.make_tensor_value_info("x", 1, ["b", 6, "h", "w"])]
    graph = helper.make_graph(net.nodes, "g", inputs, [helper.make_empty_tensor_value_info(y)], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    wanted = ReferenceEvaluator(model).run([y], {"x": X[:1]})[0]
    read = fold(read_graph(model, "g"))
    traced = tf.function(lambda x: as_plain(run(read, [Tensor(x, natural(4))], Weights())[0]), autograph=False)
    found = traced.get_concrete_function(tf.TensorSpec([1, 6, None, None]))(tf.constant(X[:1]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"exported in training mode, .* model\.eval\(\) first"):
        traced.get_concrete_function(tf.TensorSpec([None, 6, None, None]))
