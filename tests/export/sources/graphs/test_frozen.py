"""Frozen graphs of TensorFlow 1, whose input and output are found, or chosen."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec
from reference import Toy
from tensorflow.core.protobuf import saved_model_pb2

TOY = Toy.make(3, 2)


@pytest.fixture(scope="module")
def content():
    """A graph as people froze it: pixels of any size, an inner result that others take, and an Assert beside it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        pixels = v1.placeholder(tf.float32, [1, None, None, 3], name="ImageTensor")
        v1.placeholder(tf.bool, [], name="is_training")  # that nothing needs
        rate = v1.placeholder_with_default(1.0, [], name="rate")
        kernel = v1.get_variable("kernel", initializer=TOY.kernel, use_resource=False)
        logits = tf.add(tf.nn.conv2d(pixels * rate, kernel, 1, "SAME"), TOY.bias, name="deep/logits")
        v1.Assert(tf.reduce_all(tf.math.is_finite(logits)), [logits], name="check")
        tf.argmax(logits, -1, name="SemanticPredictions")
        session.run(v1.global_variables_initializer())
        names = ["SemanticPredictions", "is_training"]
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
        return frozen.SerializeToString(), graph.as_graph_def().SerializeToString()


def load(path, **fields):
    return load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))


@pytest.mark.parametrize("name", ["deep/logits", "deep/logits:0"])
def test_an_inner_result_is_chosen_by_its_name(tmp_path, content, name):
    (tmp_path / "graph.pb").write_bytes(content[0])
    model = load(tmp_path / "graph.pb", source_output=name)
    assert (model.batch, model.size, model.output_channels, model.answers_classes) == (1, None, 2, False)
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(model.forward(tf.constant(images)), np.stack([TOY(one) for one in images]), atol=1e-5)


def test_what_no_other_op_takes_is_the_output(tmp_path, content):
    (tmp_path / "graph.pb").write_bytes(content[0])
    model = load(tmp_path / "graph.pb")
    assert model.answers_classes
    assert model.description == "frozen graph, 56 parameters"
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    wanted = np.stack([TOY(one).argmax(-1) for one in images])
    np.testing.assert_array_equal(model.forward(tf.constant(images)).numpy()[..., 0], wanted)


def test_an_image_with_a_default_is_found_where_no_other_input_holds_numbers(tmp_path):
    """As graphs have it that were fed by an iterator, whose handle is a placeholder of text."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        handle = v1.placeholder(tf.string, [], name="handle")
        image = v1.placeholder_with_default(np.zeros((1, 8, 8, 3), np.float32), [None, None, None, 3], name="img")
        shown = tf.where(tf.equal(handle, "none"), tf.zeros_like(image), image)
        tf.add(tf.nn.conv2d(shown, TOY.kernel, 1, "SAME"), TOY.bias, name="map")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(SourceError, match="'map' needs 'handle' beside pictures, which holds no numbers"):
        load(tmp_path / "graph.pb")
    with tf.Graph().as_default() as graph:
        v1.placeholder(tf.string, [], name="handle")  # that nothing needs
        image = v1.placeholder_with_default(np.zeros((1, 8, 8, 3), np.float32), [None, None, None, 3], name="img")
        tf.add(tf.nn.conv2d(image, TOY.kernel, 1, "SAME"), TOY.bias, name="map")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    model = load(tmp_path / "graph.pb", source_output="map")
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(model.forward(tf.constant(images)), np.stack([TOY(one) for one in images]), atol=1e-5)


def saved_model(graph):
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    saved.meta_graphs.add().graph_def.MergeFromString(graph)
    return saved.SerializeToString()


def test_what_is_no_frozen_graph_is_told_in_one_line(tmp_path, content):
    for data, told in (
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
        (b"GIF89a and more", "it is no graph of TensorFlow, or a broken or truncated one"),
        (content[0][: len(content[0]) // 2], "it is no graph of TensorFlow, or a broken or truncated one"),
        (content[1], "the graph is not frozen"),
        (saved_model(content[0]), "it is a SavedModel's; name it saved_model.pb, with the folder variables beside it"),
    ):
        (tmp_path / "bad.pb").write_bytes(data)
        with pytest.raises(SourceError, match=told):
            load(tmp_path / "bad.pb")
    (tmp_path / "graph.pb").write_bytes(content[0])
    with pytest.raises(SourceError, match="has no output 'nothing'; it has: 'SemanticPredictions'"):
        load(tmp_path / "graph.pb", source_output="nothing")
