"""Graphs: their order, what they need, and operators that are not known."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.sources.conversion import Weights
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain
from onnx import helper
from onnx.parser import parse_model


def model_of(nodes, opset=18, domains=(), functions=()):
    infos = [helper.make_tensor_value_info("x", 1, ["b", 3])]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_empty_tensor_value_info("y")])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def answer(model, x):
    graph = read_graph(model, "source net.onnx")
    return as_plain(run(graph, [Tensor(tf.constant(x), (0, 1))], Weights())[0]).numpy()


X = np.array([[1, -2, 3]], np.float32)


def test_nodes_are_sorted_and_those_that_nothing_needs_left_out():
    nodes = [
        helper.make_node("Neg", ["b"], ["y"]),
        helper.make_node("Exp", ["x"], ["unused"]),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Add", ["x", "x"], ["a"]),
    ]
    graph = read_graph(model_of(nodes), "g")
    assert [node.op for node in graph.nodes] == ["Add", "Abs", "Neg"]
    np.testing.assert_array_equal(answer(model_of(nodes), X), -np.abs(2 * X))


def test_a_circle_and_a_gap_are_named():
    circle = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"], name="back")]
    with pytest.raises(SourceError, match=r"its operators depend on each other in a circle, at '(back|a)'"):
        read_graph(model_of([*circle, helper.make_node("Abs", ["b"], ["y"])]), "source net.onnx")
    with pytest.raises(ValueError, match="Add 'sum': no operator makes its input 'nowhere'"):
        answer(model_of([helper.make_node("Add", ["x", "nowhere"], ["y"], name="sum")]), X)


def test_all_operators_that_are_not_known_are_named_at_once():
    nodes = [
        helper.make_node("LSTM", ["x"], ["a"]),
        helper.make_node("Fancy", ["a"], ["b"], domain="mine"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("RoiAlign", ["c"], ["y"]),
    ]
    with pytest.raises(SourceError) as caught:
        read_graph(model_of(nodes, domains=["mine"]), "source net.onnx")
    assert str(caught.value) == "source net.onnx: it has operators that are not known: LSTM, RoiAlign, mine.Fancy"


def test_operators_that_the_wanted_output_does_not_need_are_no_matter():
    nodes = [
        helper.make_node("Abs", ["x"], ["y"]),
        helper.make_node("Fancy", ["x"], ["a"], domain="mine"),
        helper.make_node("Neg", ["a"], ["boxes"]),
        helper.make_node("Fancy", ["x"], ["nobody's"], domain="mine"),
    ]
    model = model_of(nodes, domains=["mine"])
    model.graph.output.append(helper.make_empty_tensor_value_info("boxes"))
    with pytest.raises(SourceError) as caught:
        read_graph(model, "source net.onnx")
    assert str(caught.value) == (
        "source net.onnx: it has operators that are not known: mine.Fancy; these outputs need none of them, choose by "
        "source_output: 'y'"
    )
    assert [node.op for node in read_graph(model, "source net.onnx", "y").nodes] == ["Abs"]
    with pytest.raises(SourceError, match=r"not known: mine\.Fancy$"):
        read_graph(model, "source net.onnx", "boxes")


def test_operators_before_opset_7_are_refused():
    with pytest.raises(SourceError, match="its operators are those of opset 6, and 7 is the oldest that is read"):
        read_graph(model_of([helper.make_node("Relu", ["x"], ["y"])], opset=6), "source net.onnx")


def test_functions_of_the_file_and_of_the_standard_are_taken_apart():
    model = parse_model(
        '<ir_version: 9, opset_import: ["" : 18, "own" : 1]> g (float[b, 3] x) => (float[b, 3] y) { y = own.Twice(x) }'
        ' <domain: "own", opset_import: ["" : 18]> Twice (a) => (c) { c = Add(a, a) }'
    )
    np.testing.assert_array_equal(answer(model, X), 2 * X)
    # Nothing here knows it: the standard says that it is made of others.
    loss = model_of([helper.make_node("ReduceLogSumExp", ["x"], ["y"])])
    wanted = onnxruntime.InferenceSession(loss.SerializeToString()).run(None, {"x": X})[0]
    np.testing.assert_allclose(answer(loss, X), wanted, rtol=1e-6)
