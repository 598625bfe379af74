"""Graphs within graphs."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from maskport.export.sources.conversion import Weights
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain
from onnx import TensorProto, helper
from onnx.parser import parse_model

HEADER = '<ir_version: 8, opset_import: ["" : 18]> g (float[b, 3] x) => (float[b, c] y)'


def typed(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, shape)


LOOP = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Add", ["sum", "x"], ["sums"]),
     helper.make_node("Mul", ["sums", "sums"], ["square"])],
    "body",
    [typed("at", TensorProto.INT64), typed("go", TensorProto.BOOL), typed("sum", TensorProto.FLOAT, "b", 3)],
    [typed("goes", TensorProto.BOOL), *(typed(name, TensorProto.FLOAT, "b", 3) for name in ("sums", "square"))],
)  # fmt: skip


def assert_as_onnxruntime(model, x):
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    graph = read_graph(model, "g")

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def answer(x):
        return [as_plain(result) for result in run(graph, [Tensor(x, (0, 1))], Weights())]

    for found, expected in zip(answer(x), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "condition",
    [
        "rank = Shape(s) two = Constant<value_ints: ints = [2]>() c = Equal(rank, two)",  # known from the axes
        "zero = Constant<value_float: float = 0.0>() all = ReduceSum<keepdims: int = 0>(x) c = Greater(all, zero)",
    ],
)
def test_one_of_two_graphs_is_chosen(condition):
    model = parse_model(
        HEADER + "{ s = Shape(x) " + condition + " y = If (c) <then_branch = t () => (float[b, c] u) { u = Add(x, x) },"
        " else_branch = e () => (float[b, c] v) { v = Neg(x) }> }"
    )
    x = np.array([[1, 2, 3], [-1, 0, 4]], np.float32)
    assert_as_onnxruntime(model, x)
    assert_as_onnxruntime(model, -x)


def test_a_known_number_of_rounds_is_repeated():
    nodes = [
        helper.make_node("Constant", [], ["three"], value_int=3),
        helper.make_node("Loop", ["three", "", "x"], ["y", "squares"], body=LOOP),
    ]
    infos = [helper.make_tensor_value_info("x", 1, ["b", 3])]
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("y", "squares")]
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(helper.make_graph(nodes, "g", infos, outputs), opset_imports=opset, ir_version=8)
    assert_as_onnxruntime(model, np.array([[1, 2, 3], [-1, 0, 4]], np.float32))


WHILE = (
    HEADER
    + """ {
    most = Constant<value_int: int = 9223372036854775807>()
    go = Constant<value_int: int = 1>()
    is_on = Cast<to: int = 9>(go)
    columns = Shape<start: int = 1>(x)
    none = Sub(columns, columns)
    at, y = Loop(most, is_on, none, x) <body = b (int64 i, bool on, int64[1] k, float[b, 3] s)
        => (bool goes, int64[1] next, float[b, 3] sums) {
            one = Constant<value_ints: ints = [1]>()
            next = Add(k, one)
            goes = RULE
            sums = Add(s, x)
        }>
}"""
)


@pytest.mark.parametrize("rule", ["Less(next, columns)", "Greater(next, next)"])
def test_rounds_are_repeated_until_a_condition_is_false(rule):
    assert_as_onnxruntime(parse_model(WHILE.replace("RULE", rule)), np.array([[1, 2, 3], [-1, 0, 4]], np.float32))


def test_a_number_of_rounds_below_none_is_none():
    model = WHILE.replace("9223372036854775807", "-3").replace("RULE", "Equal(next, next)")
    assert_as_onnxruntime(parse_model(model), np.array([[1, 2, 3], [-1, 0, 4]], np.float32))


def test_rounds_without_an_end_are_refused():
    endless = read_graph(parse_model(WHILE.replace("RULE", "Equal(next, next)")), "g")
    with pytest.raises(ValueError, match=r"Loop '.*': it takes more than 1000 rounds"):
        run(endless, [Tensor(tf.zeros([2, 3]), (0, 1))], Weights())
