"""Outputs that are no probabilities, and models that answer differently each time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import SourceError, SpecError
from maskport.export.probing.probe import probe
from maskport.export.sources import adapt_keras_model, load_source
from maskport.export.spec import make_spec
from reference import Toy

SPEC = {"source": "m", "output_dir": "o", "scaling": "unit"}
DRAWN = np.random.default_rng(0)


def make_model(ending, channels=1):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 24, 3))
    return adapt_keras_model(
        keras.Model(image, ending(keras.layers.Conv2D(channels, 1)(image) * 20.0)), make_spec(SPEC)
    )


def up_to(largest):
    return lambda x: keras.ops.sigmoid(x) * largest


@pytest.mark.parametrize(
    ("ending", "channels", "advice"),
    [
        (up_to(255.0), 1, r"as if they meant 0 to 255, .*; give byte; or, if they are logits, give sigmoid$"),
        (up_to(255.0), 3, r"give byte; or, if they are logits, give softmax or sigmoid$"),
        (lambda x: keras.ops.round(keras.ops.abs(x)), 1, "whole numbers, as class indices are: give classes$"),
        (up_to(100.0), 1, r"model.output / 100\); or, if they are logits, give sigmoid$"),
        (up_to(9.0), 1, r"which logits seldom are, .*model.output / LARGEST\)"),
        (lambda x: keras.ops.tanh(x - 1), 1, "ends in a tanh: give tanh, which makes probabilities of -1 to 1$"),
        (lambda x: x - 5, 1, "so they are no probabilities; give sigmoid$"),
        (lambda x: keras.ops.sigmoid(x) * 1.4 - 0.2, 1, "beyond 0 to 1, as heatmaps do: give clip; or, if"),
        (up_to(1.2), 1, "beyond 0 to 1, as heatmaps do: give clip; or, if"),
        (lambda x: keras.ops.tanh(keras.ops.relu(x) - 0.2), 1, "ends in a tanh: give tanh, which makes probabilities"),
        (lambda x: x - 5, 3, "so they are no probabilities; give softmax or sigmoid$"),
    ],
)
def test_the_advice_fits_the_outputs(ending, channels, advice):
    with pytest.raises(SpecError, match=advice):
        probe(make_model(ending, channels), make_spec(SPEC))


@pytest.mark.parametrize(
    ("activation", "ending"), [("byte", lambda x: x * 30), ("tanh", lambda x: x - 5), ("clip", lambda x: x - 5)]
)
def test_outputs_beyond_what_an_activation_is_for_are_refused(activation, ending):
    spec = make_spec({**SPEC, "activation": activation})
    with pytest.raises(SpecError, match=rf"activation: '{activation}' is for outputs of .*; the model's reach from"):
        probe(make_model(ending), spec)


def test_heatmaps_are_clipped_and_a_sigmoid_of_them_is_warned_of(caplog):
    model = make_model(lambda x: keras.ops.sigmoid(x) * 1.4 - 0.2)
    assert probe(model, make_spec({**SPEC, "activation": "clip"})).minimum < -0.1
    assert caplog.text == ""
    probe(model, make_spec({**SPEC, "activation": "sigmoid"}))
    assert "leaves little of what the model's outputs say, which reach from -0." in caplog.text


def test_a_sigmoid_of_what_is_never_negative_is_warned_of(caplog):
    probe(make_model(lambda x: keras.ops.sigmoid(x) * 255.0), make_spec({**SPEC, "activation": "sigmoid"}))
    assert "calls everything foreground" in caplog.text


@pytest.mark.parametrize("stateful", [True, False])
def test_a_model_that_answers_differently_each_time_is_refused(tmp_path, monkeypatch, stateful):
    def misled(*_):
        raise SpecError("what else is found out of such a model means nothing")

    for name in ("compare", "find_alignment"):
        monkeypatch.setattr(f"maskport.export.probing.probe.{name}", misled)

    class Moving(tf.Module):
        def __init__(self):
            super().__init__()
            self.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def __call__(self, x):
            noise = self.calls.assign_add(0.1) if stateful else tf.random.normal(tf.shape(x[..., :1]))
            return tf.sigmoid(x[..., :1] + noise)

    tf.saved_model.save(Moving(), str(tmp_path / "m"))
    spec = make_spec({**SPEC, "source": str(tmp_path / "m")})
    why = "it holds some state" if stateful else r"it holds random ops \(RandomStandardNormal\)"
    with pytest.raises(SourceError, match=rf"answers differently each time \(by up to [\d.]+\): {why}"):
        probe(load_source(spec), spec)


def test_what_python_draws_is_no_constant():
    """As of stochastic depth that does not ask whether it is trained."""

    class Drawn(keras.layers.Layer):
        def call(self, x):
            return x * DRAWN.uniform()

    with pytest.raises(SourceError, match=r"answers differently each time \(by up to [\d.]+\): it holds some state"):
        probe(make_model(Drawn()), make_spec(SPEC))


@pytest.mark.parametrize("halvings", [1, 3])
@pytest.mark.parametrize("given", [1, 2])
def test_the_multiple_that_a_model_takes_is_named(halvings, given):
    keras.utils.set_random_seed(0)
    image = x = keras.Input((None, None, 3))
    skips = []
    for _ in range(halvings):
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    for skip in reversed(skips):
        x = keras.layers.Concatenate()([keras.layers.UpSampling2D()(x), skip])
    spec = make_spec({**SPEC, "pad_to_multiple": given})
    model = adapt_keras_model(keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x)), spec)
    if given == 2**halvings:
        probe(model, spec)
        return
    wanted = 2**halvings
    with pytest.raises(SourceError, match=f"fails on a drawn 83x109 picture: .*: --pad_to_multiple={wanted}$"):
        probe(model, spec)


class FillsUp(tf.Module):
    """As DeepLab's graphs do: what is smaller is filled up to one size, what is larger fails."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def __call__(self, x):
        height, width = tf.unstack(tf.shape(x)[1:3])
        filled = tf.image.pad_to_bounding_box(x[..., :1], 0, 0, 513, 513)
        return tf.sigmoid(filled[:, :height, :width])


def test_a_model_that_fails_on_photographs_is_told_of(tmp_path):
    tf.saved_model.save(FillsUp(), str(tmp_path / "m"))
    fields = {**SPEC, "source": str(tmp_path / "m")}

    def run(**more):
        spec = make_spec({**fields, **more})
        return probe(load_source(spec), spec)

    with pytest.raises(
        SourceError, match=r"fails on a drawn 768x1024 picture: .*; it takes smaller ones: --model_size=longest=512; "
    ):
        run()
    with pytest.raises(
        SourceError, match=r"fails on a drawn 768x1024 picture: .*; give a fixed --model_size=HEIGHT,WIDTH$"
    ):
        run(model_size="longest=1000,only=shrink")
    for cure in ({"model_size": "longest=512"}, {"model_size": "512"}):
        run(**cure)


def test_the_weights_of_frozen_models_are_counted(tmp_path):
    network = Toy.make(3, 2)
    expected = network.kernel.size + network.bias.size

    class Frozen(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def __call__(self, x):
            return tf.nn.conv2d(x, network.kernel, 1, "SAME") + network.bias

    tf.saved_model.save(Frozen(), str(tmp_path / "frozen"))
    toy_models.save_tf1(network, tmp_path / "tf1", (16, 24))
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder(tf.float32, [None, 16, 24, 3])
        answer = tf.nn.conv2d(pixels, tf.constant(network.kernel.astype(np.float32)), 1, "SAME") + network.bias
        v1.saved_model.simple_save(session, str(tmp_path / "frozen_tf1"), {"pixels": pixels}, {"map": answer})
    for name in ("frozen", "tf1", "frozen_tf1"):
        assert load_source(make_spec({**SPEC, "source": str(tmp_path / name)})).parameter_count == expected


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_softmax_of_8_bits_is_one_still(tmp_path, activation):
    """Its sums are off by more than roundings of float32."""
    image = keras.Input((16, 24, 3))
    x = keras.layers.Conv2D(5, 3, padding="same", kernel_initializer="glorot_uniform")(image)
    x = keras.layers.Activation(activation, dtype="bfloat16")(keras.layers.Rescaling(9.0)(x))
    keras.Model(image, keras.layers.Activation("linear", dtype="float32")(x)).save(tmp_path / "m.keras")
    spec = make_spec({**SPEC, "source": str(tmp_path / "m.keras"), "foreground": [1, 2]})
    assert probe(load_source(spec), spec).excludes == (activation == "softmax")


def test_the_smallest_picture_leaves_something_to_each_convolution():
    """Where a window reaches beyond it by one pixel, oneDNN's convolutions answer their input."""
    image = keras.Input((None, None, 3))
    around = keras.layers.DepthwiseConv2D(2, dilation_rate=5)(image)  # takes six pixels
    whole = keras.layers.GlobalAveragePooling2D(keepdims=True)(around)
    model = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(keras.layers.Add()([image, whole])))
    spec = make_spec(SPEC)
    assert probe(adapt_keras_model(model, spec), spec).min_edge == 8
