"""What is taken out of a saved graph, on a version that an export wrote, and that TensorFlow 2 still loads it."""

import re

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.saving import save
from tensorflow.core.protobuf import saved_model_pb2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By who saved it, a module of two signatures with the same branches and loops: TensorFlow, and the export."""

    def graph(image):
        big = tf.reduce_sum(image) > 1.0
        return tf.cond(big, lambda: image * 2.0, lambda: tf.while_loop(lambda x: x < 9, lambda x: x + 4, [image])[0])

    spec = tf.TensorSpec([], tf.float32, name="image")
    double = tf.function(lambda image: {"mask": graph(image)}, autograph=False).get_concrete_function(spec)
    more = tf.function(lambda image: {"more": graph(image) + 1.0}, autograph=False).get_concrete_function(spec)
    signatures = {"mask": double, "serving_default": double, "more": more}
    folder = tmp_path_factory.mktemp("models")
    tf.saved_model.save(tf.Module(), str(folder / "plain"), signatures)
    save(tf.Module(), folder / "slim", signatures)
    return folder


@pytest.fixture
def plain(folders):
    return folders / "plain"


@pytest.fixture
def slimmed(folders):
    return folders / "slim"


def graph_of(folder):
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0]


def bodies(folder):
    """Each function's text without its name, and without the numbers in the names of those that it calls."""
    texts = []
    for function in graph_of(folder).graph_def.library.function:
        function.signature.name = ""
        texts.append(re.sub(r'name: "(\w+?)_\d+"', r'name: "\1"', str(function)))
    return texts


def test_functions_that_are_the_same_are_saved_once(plain, slimmed):
    inner = [text for text in bodies(slimmed) if "signature_wrapper" not in text and "mul" in text]
    assert len([text for text in bodies(plain) if "mul" in text]) == 2
    assert len(inner) == 1


def test_serving_default_is_another_name_of_mask(plain, slimmed):
    def tensors(folder):
        return [str(graph_of(folder).signature_def[name]) for name in ("mask", "serving_default")]

    assert len({*tensors(plain)}) == 2
    assert len({*tensors(slimmed)}) == 1


@pytest.mark.parametrize("value", [0.25, 3.0])
def test_answers_are_the_same(plain, slimmed, value):
    signatures = tf.saved_model.load(str(slimmed)).signatures
    expected = 2 * value if value > 1 else value + 4 * np.ceil((9 - value) / 4)
    assert signatures["mask"](image=tf.constant(value))["mask"] == expected
    assert signatures["more"](image=tf.constant(value))["more"] == expected + 1
    # As a server does, by a session.
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(slimmed)).signature_def
        for name, output, wanted in [("serving_default", "mask", expected), ("more", "more", expected + 1)]:
            fetched, fed = found[name].outputs[output].name, found[name].inputs["image"].name
            assert session.run(fetched, {fed: value}) == wanted


def test_the_fingerprint_is_of_the_new_file(plain, slimmed):
    old, new = (tf.saved_model.experimental.read_fingerprint(str(folder)) for folder in (plain, slimmed))
    assert new.saved_model_checksum != old.saved_model_checksum
