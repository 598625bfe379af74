"""What is left of an error of Keras or TensorFlow."""

import keras
import pytest
import tensorflow as tf
from maskport.export.model.causes import cause_of, shorten


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever they raise)
        function(*arguments)
    return caught.value


def test_a_layer_that_fails_in_a_trace_is_named_with_why_it_does():
    class Picky(keras.layers.Layer):
        built_once = False

        def call(self, x):
            if self.built_once:
                raise ValueError("the very cause")
            return x

    model = keras.Sequential([keras.Input((8, 8, 3)), Picky(name="picky")])
    Picky.built_once = True
    for autograph in (True, False):
        traced = tf.function(lambda x: model(x, training=False), autograph=autograph)
        error = raised(traced.get_concrete_function, tf.TensorSpec([None, 8, 8, 3]))
        assert "Arguments received" in str(error)
        text = cause_of(error)
        assert text.endswith("Exception encountered when calling Picky.call(). the very cause")
        assert "File" not in text
        assert "\x1b" not in text


def test_a_scope_name_that_is_none_is_quoted():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 1, name="masque é")(image))
    error = raised(tf.function(model).get_concrete_function, tf.TensorSpec([None, 8, 8, 3]))
    assert "'masque é' is not a valid scope name" in cause_of(error)


def test_an_op_that_fails_in_a_graph_keeps_its_node_and_loses_how_it_got_there():
    @tf.function
    def run(x, edge):
        return tf.reshape(x, [edge, -1], name="odd_reshape")

    text = cause_of(raised(run, tf.zeros([2, 4]), tf.constant(7)))
    assert "8 values" in text
    assert "odd_reshape" in text
    assert "File" not in text
    assert "[Op:" not in text


def test_of_what_keras_cannot_read_the_innermost_error_is_left():
    config = {"class_name": "Conv2D", "module": "keras.layers", "config": {"filters": 1, "kernel_size": 1, "odd": 1}}
    text = cause_of(raised(keras.saving.deserialize_keras_object, {**config, "registered_name": None}))
    assert "Unrecognized keyword arguments passed to Conv2D: {'odd': 1}" in text
    assert "config=" not in text


def test_both_ends_of_a_long_text_stay():
    text = shorten(f"what failed {'and where ' * 100}is this")
    assert text.startswith("what failed")
    assert text.endswith("is this")
    assert " … " in text
    assert len(text) <= 303
    assert shorten("x" * 1000, 30) == f"{'x' * 10} … {'x' * 20}"
    assert cause_of(KeyError()) == "KeyError"
