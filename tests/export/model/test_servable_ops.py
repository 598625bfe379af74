"""Graphs that a stock server cannot or must not run are refused by name."""

import re

import pytest
import tensorflow as tf
from maskport.export import UnservableError
from maskport.export.model.servable_ops import check_servable
from tensorflow.core.protobuf import saved_model_pb2


def saved_graph(tmp_path, function):
    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.run})
    return saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def


def in_a_loop(operation):
    """Puts an operation deep into the function library."""

    def function(texts):
        return tf.map_fn(lambda text: tf.cond(text == "", lambda: text, lambda: operation(text)), texts)

    return function


def printing(text):
    tf.print(text)
    return text


@pytest.mark.parametrize(
    ("operation", "op"),
    [
        (tf.io.read_file, "ReadFile"),
        (printing, "PrintV2"),
        (lambda text: tf.numpy_function(lambda value: value, [text], tf.string, stateful=False), "PyFuncStateless"),
        (lambda text: tf.io.matching_files(text)[0], "MatchingFiles"),
    ],
)
def test_ops_that_touch_the_host_are_refused_also_inside_functions(tmp_path, operation, op):
    graph = saved_graph(tmp_path, in_a_loop(operation))
    message = rf"{op} \(touches the server's host; in function .*\); if you are sure: --allow_ops={op}"
    with pytest.raises(UnservableError, match=message):
        check_servable(graph, allowed=[])
    check_servable(graph, allowed=[op])


def test_writing_a_file_is_refused(tmp_path):
    def write(texts):
        tf.io.write_file("/tmp/never", texts[0])
        return texts

    with pytest.raises(UnservableError, match=re.escape("WriteFile (touches the server's host")):
        check_servable(saved_graph(tmp_path, write), allowed=[])


def test_ops_that_are_no_core_ops_are_refused(tmp_path):
    graph = saved_graph(tmp_path, tf.strings.lower)
    for function in graph.library.function:
        for node in function.node_def:
            if node.op == "StringLower":
                node.op = "SentencepieceOp"
    with pytest.raises(UnservableError, match=r"SentencepieceOp \(is no core TensorFlow op; in function "):
        check_servable(graph, allowed=[])


def test_a_plain_graph_with_variables_passes(tmp_path):
    variable = tf.Variable("suffix")
    module = tf.Module()
    module.variable = variable
    module.run = tf.function(lambda texts: texts + variable, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.run})
    graph = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    check_servable(graph, allowed=[])
